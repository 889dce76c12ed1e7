// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"time"

	"github.com/part164/part164/access"
)

// A Type says what happened. The set is closed: Record refuses any other.
type Type string

// The event types.
const (
	Revealed       Type = "reveal"            // sealed PHI opened for a person or job
	RevealFailed   Type = "reveal.failed"     // a cell did not open: wrong key, changed or misplaced bytes
	Fetched        Type = "fetch"             // clear PHI returned by a statement
	Searched       Type = "search"            // a search over PHI
	Denied         Type = "denied"            // an access decision refused
	WriteAttempt   Type = "write.attempt"     // a write is about to run
	Committed      Type = "write.committed"   // its transaction committed
	RolledBack     Type = "write.rolled_back" // its transaction, or its savepoint, rolled back
	OutboxRefused  Type = "outbox.refused"    // an outbox row that this trail never issued
	Outside        Type = "outside"           // a statement that storage did not build, run with storage.Outside
	KeyRotated     Type = "key.rotated"       // a KEK, tenant, index or subject key was replaced
	Sealed         Type = "seal"              // a job sealed, moved or rebuilt cells: see Reason
	Shredded       Type = "shred"             // a patient's keys were destroyed: see Outcome and Citation
	Merged         Type = "merged"            // two records of one patient became one: see Reason
	Checked        Type = "check"             // storage was held against the trail: Count defects
	Restored       Type = "restored"          // an older copy of the database was found, or shreds were applied to it again
	SignIn         Type = "signin"            // a session began
	SignInFailed   Type = "signin.failed"     // a factor was refused
	SignInLocked   Type = "signin.locked"     // refused by the throttle; aggregated
	SessionEnded   Type = "session.ended"     // logoff, by whom or what: see Reason
	FactorChanged  Type = "factor.changed"    // an authenticator was bound, changed or removed
	UserChanged    Type = "user.changed"      // a user was created, disabled or given other roles
	PolicyChanged  Type = "policy.change"     // the access policy is about to change: see Reason, and User where it is about one
	PolicyRefused  Type = "policy.refused"    // a stored access policy was not put in force: see Reason
	PolicyReviewed Type = "policy.reviewed"   // somebody signed off who may do what, by the policy of the version of Objects: 45 CFR 164.308(a)(4)(ii)(C)
	Deviation      Type = "deviation"         // a documented deviation in force since Open
	Reported       Type = "report"            // the trail itself was read
	Disclosed      Type = "disclosed"         // PHI left the covered entity: see Disclosure, 45 CFR 164.528
	Suspended      Type = "suspended"         // the right to an accounting was suspended until Until, 45 CFR 164.528(a)(2)
	Alerted        Type = "alert"             // a watch rule fired: see Rule and User
	Disposed       Type = "alert.disposed"    // what came of an alert: see About and Reason
	Reviewed       Type = "reviewed"          // somebody signed off the trail from Since to Until, 45 CFR 164.308(a)(1)(ii)(D)
	GrantRequested Type = "grant.requested"   // a role was asked for, for a time: see Grant, Role and User, its holder
	GrantApproved  Type = "grant.approved"    // by one; the last approval puts it in force from Since to Until
	GrantRefused   Type = "grant.refused"     // a request was turned down
	GlassBroken    Type = "grant.breakglass"  // emergency access to one patient began, 45 CFR 164.312(a)(2)(ii): from Since to Until
	GrantEnded     Type = "grant.ended"       // it expired, was revoked or used up: see Reason
	GrantReviewed  Type = "grant.reviewed"    // somebody else looked at what was done under it from Since to Until: see Reason
	Adopted        Type = "adopted"           // a dead writer's journal is delivered by this one: see About, its last event, and Root
	SinkOpened     Type = "sink.opened"       // a sink, Rule, began to take events; User is its recipient, a business associate for instance
	Parked         Type = "parked"            // an event that a sink refuses for good was set aside: see About
	Opened         Type = "journal.opened"    // a writer opened the journal
	Recovered      Type = "journal.recovered" // an unacknowledged tail was dropped after a crash
	Closed         Type = "journal.closed"    // a writer closed the journal

	RelationChanged   Type = "relation.change"     // a relation of User to a patient is about to begin, end or be void: see Reason, and Rule for its kind
	DirectiveChanged  Type = "directive.change"    // what a patient restricts or authorises is about to be recorded, ended or void: see Reason, and Rule for its kind
	RecipientsLoaded  Type = "recipients.load"     // the registry of recipients outside was put in force, Count entries: Objects are those that it adds, changes and takes away
	ClockOff          Type = "clock.off"           // the clock differs from another by Count milliseconds: see Reason
	Gap               Type = "gap"                 // what happened from Since to Until was not recorded when it happened
	DetailOpened      Type = "detail.opened"       // the sealed detail of the event About is about to be opened
	Erased            Type = "detail.erased"       // the sealed detail of the event About was destroyed: see Reason and Citation
	Held              Type = "held"                // a legal hold began
	Released          Type = "hold.released"       // the legal hold About ended
	Purged            Type = "purged"              // the oldest segments were removed: see Purge
	JournalKeyRotated Type = "journal.key.rotated" // the journal signs with another key from here on: see Rotation
	KeysKept          Type = "journal.keys"        // the journal's wrapped keys, for a Remote: see Config.Durability
	Dropped           Type = "journal.dropped"     // Count best-effort events were not recorded: see Type.BestEffort
)

// An Outcome says how it ended. The zero Outcome is refused by Record.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Partial Outcome = "partial" // some objects were granted, some refused
	Failure Outcome = "failure"
)

// A Reason is a code from a closed set; there is no free text in an event.
type Reason string

// The reasons.
const (
	ReasonNone        Reason = ""
	ReasonPassword    Reason = "password"     // wrong password or unknown user: not told apart
	ReasonTOTP        Reason = "totp"         // wrong or used one-time code
	ReasonThrottled   Reason = "throttled"    // too many tries
	ReasonExpired     Reason = "expired"      // a pending sign-in died
	ReasonDisabled    Reason = "disabled"     // the account is disabled
	ReasonLogout      Reason = "logout"       // the user signed out
	ReasonIdle        Reason = "idle"         // automatic logoff, 45 CFR 164.312(a)(2)(iii)
	ReasonAbsolute    Reason = "absolute"     // the overall limit
	ReasonRevoked     Reason = "revoked"      // ended by somebody else or by a change of rights
	ReasonEnrolled    Reason = "enrolled"     // a factor was bound
	ReasonCreated     Reason = "created"      // a user was created
	ReasonPolicy      Reason = "policy"       // the access policy refused
	ReasonMinimum     Reason = "minimum"      // minimum-necessary rights refused a field
	ReasonConflict    Reason = "conflict"     // the record changed in between
	ReasonCell        Reason = "cell"         // bytes that do not open
	ReasonForged      Reason = "forged"       // a MAC that does not verify
	ReasonUndone      Reason = "undone"       // a write that was rolled back before
	ReasonKeyLocation Reason = "key.location" // a deviation: the KEK is a file
	ReasonTransport   Reason = "transport"    // a deviation: no verified TLS
	ReasonRelation    Reason = "relation"     // a deviation: tenant-wide access, no care-team relation
	ReasonDevelopment Reason = "development"  // a deviation: development mode
	ReasonUnsettled   Reason = "unsettled"    // the statement's effect is not known
	ReasonLimit       Reason = "limit"        // more of it than the role may do in the time
	ReasonHold        Reason = "hold"         // a legal hold forbids it
	ReasonRetention   Reason = "retention"    // the retention period is not over
	ReasonPending     Reason = "pending"      // begun, and not complete before the stated time
	ReasonMigration   Reason = "migration"    // a change of schema, or of stored data to another form
	ReasonRotation    Reason = "rotation"     // keys are replaced
	ReasonRebuild     Reason = "rebuild"      // an index is made anew
	ReasonRename      Reason = "rename"       // cells are bound to another field name
	ReasonBackOut     Reason = "backout"      // sealed data is put back in clear
	ReasonMerge       Reason = "merge"        // two records of one patient become one
	ReasonUnmerge     Reason = "unmerge"      // a merge is undone
	ReasonRepair      Reason = "repair"       // a defect is mended
	ReasonShredded    Reason = "shredded"     // the patient's keys were destroyed: nothing opens any more
	ReasonIncident    Reason = "incident"     // an incident is looked into
	ReasonDuty        Reason = "duty"         // separation of duties

	ReasonEmergency  Reason = "emergency"  // a medical emergency
	ReasonIncapacity Reason = "incapacity" // the patient cannot answer for himself, and somebody has to know
	ReasonCovering   Reason = "covering"   // for a colleague of the care team who is away
	ReasonConsult    Reason = "consult"    // a colleague asks for a second opinion
	ReasonTransfer   Reason = "transfer"   // the patient comes from another unit or facility
	ReasonUnassigned Reason = "unassigned" // the care team is not entered yet
	ReasonDisaster   Reason = "disaster"   // emergency mode operation, 45 CFR 164.308(a)(7)(ii)(C)

	ReasonJoined  Reason = "joined"  // somebody joined the workforce
	ReasonMoved   Reason = "moved"   // somebody has other duties
	ReasonLeft    Reason = "left"    // somebody left, or was dismissed: 45 CFR 164.308(a)(3)(ii)(C)
	ReasonReview  Reason = "review"  // a review of access asks for it: 45 CFR 164.308(a)(4)(ii)(C)
	ReasonAmended Reason = "amended" // the access policy itself is to say something else

	ReasonExplained  Reason = "explained"   // an alert: the access was in order
	ReasonFalseAlarm Reason = "false"       // an alert: the rule was wrong
	ReasonEscalated  Reason = "escalated"   // an alert: somebody else decides
	ReasonViolation  Reason = "violation"   // an alert: the access was not in order
	ReasonCourt      Reason = "court"       // a court or tribunal orders it
	ReasonRegulator  Reason = "regulator"   // a regulator or health oversight agency orders it
	ReasonIndividual Reason = "individual"  // the individual asks for it
	ReasonMistake    Reason = "mistake"     // what was recorded should not have been
	ReasonLitigation Reason = "litigation"  // litigation is expected or under way
	ReasonOral       Reason = "oral"        // an oral statement, good for 30 days: 45 CFR 164.528(a)(2)(ii)
	ReasonWritten    Reason = "written"     // a written statement
	ReasonDatabase   Reason = "database"    // a database says so, or is down
	ReasonWitness    Reason = "witness"     // a witness says so, or is down
	ReasonDisk       Reason = "disk"        // the journal's disk is down
	ReasonSink       Reason = "sink"        // a sink says so, or is down
	ReasonAhead      Reason = "ahead"       // the clock is ahead of the other
	ReasonBehind     Reason = "behind"      // the clock is behind the other
	ReasonSetBack    Reason = "set.back"    // the clock was set back
	ReasonSetForward Reason = "set.forward" // the clock was set forward, or the machine stood still
)

// An Event is what happened, to which records, and how it ended. Who, for
// which purpose, from where, and when are taken from the context's
// [access.Scope] and from the journal's clock; they cannot be set.
//
// There is no free text and no map: IDs of patients and records are written
// as keyed pseudonyms, fields by name, values never. What may identify, and an
// accounting of disclosures needs, goes into Detail, which is sealed. The
// package's documentation lists what stands in a line as it was given.
//
// The request's ID comes from the context too ([access.WithRequestID]).
type Event struct {
	Type     Type
	Outcome  Outcome
	Reason   Reason
	Action   access.Action // what was asked for, where the type does not say it
	Code     access.Code   // why access was refused or allowed; empty where nothing was decided
	Decision string        // ID of the access decision, as access.CheckDecisionID takes it; empty where none was needed
	Objects  []Object      // every record touched; a batch names them all
	Count    int           // rows returned, candidates searched or refusals aggregated, where Objects does not say it
	Citation string        // a provision of 45 CFR 160, 162 or 164, or of 42 CFR 2, such as "164.312(a)(2)(iv)"

	About    string      // ID of another event that this one is about: the alert disposed of, the event parked
	Rule     string      // the watch rule of an alert, or the sink that began or parked an event; an identifier
	Grant    string      // ID of the grant that the event is about, or without which the access would have been denied; a UUID
	Role     string      // the role of Grant, or that was asked for
	User     string      // ID, in the actor's tenant, of the principal whom an alert, a review or a grant is about
	UserKind access.Kind // of User, and required with it; a patient or proxy is written as a keyed pseudonym

	// Since and Until are the period that the event is about: that of a
	// review, of a repeated disclosure, or of a suspension. They are zero where
	// its own time says it; Until is not before Since.
	Since, Until time.Time

	Disclosure *Disclosure // what a Disclosed or Suspended rests on; nil in every other event
	Detail     *Detail     // what may identify somebody; nil where there is none

	// Actor names the user where the context has no principal yet: at
	// sign-in. It is ignored when the context has one.
	Actor access.Principal
}

// An Object is one record touched by an event.
type Object struct {
	Type    string   // resource type, such as "patient"
	Tenant  string   // the record's tenant; empty means the actor's
	Record  string   // record ID; written as a keyed pseudonym
	Patient string   // subject ID; written as a keyed pseudonym; empty where the record is about nobody
	Version int64    // the record's version after the event; 0 where unknown
	Fields  []string // names of the fields revealed, searched or written
	Digests []string // one a field of a write: the first 8 bytes of SHA-256 of the cell, in hex
	Denied  bool     // refused, in a Partial event
}
