// SPDX-License-Identifier: Apache-2.0

package watch

// A Rule says why an access wants a look.
type Rule string

// The rules.
const (
	Honey      Rule = "honey"       // a record of nobody, which nobody has a reason to touch: any event about it
	Self       Rule = "self"        // the actor's own record
	Household  Rule = "household"   // somebody of the actor's household
	VIP        Rule = "vip"         // a person of public interest, without a care relation
	Coworker   Rule = "coworker"    // a member of the workforce, without a care relation
	Surname    Rule = "surname"     // somebody of the actor's surname, without a care relation
	NoRelation Rule = "no_relation" // for treatment, a patient without a care relation and of another unit: more of them in a day than is usual for the actor
	Bulk       Rule = "bulk"        // more patients in an hour than max(Config.Bulk, Config.BulkFactor × the actor's own 95th percentile)
	Export     Rule = "export"      // Config.Export records or more in one event
	OffHours   Rule = "off_hours"   // an hour of the week in which the actor hardly ever works
	BreakGlass Rule = "break_glass" // emergency access that nobody else has reviewed within Config.ReviewWithin: itself, its grant, or the period
	SignIn     Rule = "sign_in"     // Config.Failures failed sign-ins, and then one that succeeds
	Dormant    Rule = "dormant"     // an account that was not used for Config.Dormant
	TrailGap   Rule = "trail_gap"   // the trail lost something, refused something forged, or fell silent
	ClockOff   Rule = "clock_off"   // a clock is wrong, or went back
)

// rules are all of them, in the order in which an event's alerts come.
func rules() []Rule {
	return []Rule{Honey, Self, Household, VIP, Coworker, Surname, NoRelation, Bulk, Export, OffHours, BreakGlass, SignIn, Dormant, TrailGap, ClockOff}
}
