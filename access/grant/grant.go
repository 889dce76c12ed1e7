// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Kind is the kind of a grant.
type Kind string

// The kinds of grants.
const (
	JIT        Kind = "jit"        // just-in-time elevation: a role, after approval
	BreakGlass Kind = "breakglass" // emergency access to one patient, at once, 45 CFR 164.312(a)(2)(ii); used in sessions with a second factor only
)

// A State is where a grant stands.
type State string

// The states, in the order in which a grant takes them.
const (
	Requested State = "requested" // waits for approvals, until Grant.Until
	Approved  State = "approved"  // and the approval is not on record yet: it gives nothing
	Active    State = "active"    // in force, until Grant.Until
	Refused   State = "refused"   // nobody may use it
	Expired   State = "expired"   // its time is over, or that of the request
	Revoked   State = "revoked"   // ended before its time
	UsedUp    State = "used"      // no use is left
)

// A Scope is what a grant is for. Two grants of one scope are one too many.
type Scope struct {
	Kind     Kind
	Holder   string           // ID of the principal who has it, a member of the workforce
	Role     string           // in which the policy's rules are asked
	Patient  string           // record ID of the one patient; empty for none in particular, which only elevation may be
	Type     string           // resource type of the one record; empty where there is no such limit
	Record   string           // ID of the one record
	Purposes []access.Purpose // one at least
}

// A Grant is a right for a time.
type Grant struct {
	ID     string // UUIDv7
	Tenant string
	Scope

	Reason  audit.Reason  // why: one of [Reasons]
	Ticket  string        // the reference of a ticket; empty where there is none
	Extends string        // ID of the grant that it goes on from; empty where there is none
	TTL     time.Duration // from the approval on
	Needs   int           // approvals
	MaxUses int           // 0 means no limit
	Uses    int

	State   State     // as stored: see At
	Created time.Time //
	From    time.Time // of the last approval; zero before
	Until   time.Time // when it expires
	Ended   time.Time // when it was refused, expired, revoked or used up; zero before

	ReviewBy time.Time    // when somebody must have reviewed it; zero where nobody must
	Reviewed time.Time    // zero before
	Finding  audit.Reason // of the review
	AlertAt  time.Time    // when the next [Alert] is due; zero where none is

	Steps   []Step // oldest first; a [Store.Live] leaves them out
	Version int64  // goes up with every change
}

// An Act is what was done about a grant.
type Act string

// The acts.
const (
	ActRequest Act = "request"
	ActApprove Act = "approve"
	ActRefuse  Act = "refuse"
	ActBreak   Act = "break" // the glass
	ActEnd     Act = "end"   // see Step.Reason
	ActReview  Act = "review"
)

// Event is what the act is called in the audit trail.
func (a Act) Event() audit.Type {
	switch a {
	case ActRequest:
		return audit.GrantRequested
	case ActApprove:
		return audit.GrantApproved
	case ActRefuse:
		return audit.GrantRefused
	case ActBreak:
		return audit.GlassBroken
	case ActReview:
		return audit.GrantReviewed
	}
	return audit.GrantEnded
}

// A Step is one act.
type Step struct {
	Act    Act
	By     access.Principal // the zero Principal where time did it
	At     time.Time
	Reason audit.Reason

	// Approvals is how many approvals count once this one, an ActApprove, was
	// given: the Count of its event.
	Approvals int

	Owed time.Time // since when it waits to be recorded in the trail; zero where it is there
}

// At returns where the grant stands at a time.
func (g *Grant) At(now time.Time) State {
	switch g.State {
	case Requested, Approved, Active:
		if !now.Before(g.Until) {
			return Expired
		}
		if g.MaxUses > 0 && g.Uses >= g.MaxUses {
			return UsedUp
		}
	}
	return g.State
}

// open reports whether the grant gives something, or may come to.
func (g *Grant) open(now time.Time) bool {
	s := g.At(now)
	return s == Requested || s == Approved || s == Active
}

// approvedBy reports whether the principal has approved it.
func (g *Grant) approvedBy(id string) bool {
	return slices.ContainsFunc(g.Steps, func(s Step) bool { return s.Act == ActApprove && s.By.ID == id })
}

// Overdue reports whether its review is.
func (g *Grant) Overdue(now time.Time) bool {
	return !g.ReviewBy.IsZero() && g.Reviewed.IsZero() && !now.Before(g.ReviewBy)
}
