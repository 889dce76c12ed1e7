// SPDX-License-Identifier: Apache-2.0

package access

import "context"

// A Code explains a verdict in one word, for audit and for tests.
type Code string

// The verdict codes, in the order in which they are decided.
const (
	AllowRule       Code = "ALLOW_RULE"       // a rule of the policy allows it
	AllowGrant      Code = "ALLOW_JIT"        // a rule allows it to the role of a live just-in-time grant
	AllowBreakGlass Code = "ALLOW_BREAKGLASS" // a rule allows it for emergency access, and a live grant names the patient

	DenyInvalid     Code = "DENY_INVALID"     // no valid scope, an empty field, or an engine error
	DenyTenant      Code = "DENY_TENANT"      // another tenant's record
	DenyAssurance   Code = "DENY_ASSURANCE"   // not signed in strongly enough
	DenyAddress     Code = "DENY_ADDRESS"     // not from this network address
	DenyDevice      Code = "DENY_DEVICE"      // the device is not in the state that is asked of it
	DenyStale       Code = "DENY_STALE"       // the policy is older than it may be, or than the caller asked for
	DenyRule        Code = "DENY_RULE"        // a rule of the policy denies it
	DenyNoRule      Code = "DENY_NO_RULE"     // no rule allows the action on this type
	DenyPurpose     Code = "DENY_PURPOSE"     // a rule would allow it, but not for this purpose
	DenySubject     Code = "DENY_RELATION"    // the principal has no relation to this patient
	DenyGrant       Code = "DENY_GRANT"       // emergency access without a live grant for this patient
	DenyRestriction Code = "DENY_RESTRICTION" // the patient restricts it, 45 CFR 164.522(a)
	DenyConsent     Code = "DENY_CONSENT"     // it needs the patient's authorization, 45 CFR 164.508, and there is none
	DenyDuty        Code = "DENY_DUTY"        // separation of duties
)

// Known reports whether c is one of the codes above. An audit event takes no
// other.
func (c Code) Known() bool {
	switch c {
	case AllowRule, AllowGrant, AllowBreakGlass,
		DenyInvalid, DenyTenant, DenyAssurance, DenyAddress, DenyDevice, DenyStale, DenyRule, DenyNoRule, DenyPurpose,
		DenySubject, DenyGrant, DenyRestriction, DenyConsent, DenyDuty:
		return true
	}
	return false
}

// An Offer is a way that a denied caller may take, in one word. It depends on
// the action and the type of what was asked for, never on the record, so that
// it does not tell whether that exists.
type Offer string

// The offers.
const (
	OfferNone       Offer = ""
	OfferPurpose    Offer = "purpose"    // ask again for another purpose
	OfferBreakGlass Offer = "breakglass" // break the glass
	OfferGrant      Offer = "jit"        // request the right for a time
)

// An Offerer knows what a denied caller may do. An [Authorizer] may be one.
type Offerer interface {
	// Offer returns what the scope of ctx may try where action on resourceType
	// was denied.
	Offer(ctx context.Context, action Action, resourceType string) Offer
}
