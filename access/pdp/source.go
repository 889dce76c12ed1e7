// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"context"
	"time"

	"github.com/part164/part164/access"
)

// A Policy is the rules of roles and purposes. [rbac.Engine] is one, and that of
// storage/policystore. It is safe for concurrent use.
type Policy interface {
	// Rule says what the rules say of action on records of resourceType for who
	// and purpose, whoever the patient is: [access.AllowRule], or a denial with
	// its code. who is the principal of ctx, and may have roles of grants
	// besides. One scope of ctx sees one version of the rules.
	Rule(ctx context.Context, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (access.Verdict, error)

	// Roles returns the roles that who acts in, with those that they include: by
	// the policy where that knows them, with those of grants that who has
	// besides. What this package asks by roles, of addresses, directives and
	// duties, it asks by these.
	Roles(ctx context.Context, who access.Principal) ([]string, error)

	// Revision names the version that the scope of ctx sees; 0 where versions
	// have no number.
	Revision(ctx context.Context) uint64
}

// Relations know who has to do with whom. They are safe for concurrent use.
type Relations interface {
	// Related returns the patients to whom who has a relation at now that
	// purpose asks for. Nil means none.
	Related(who access.Principal, purpose access.Purpose, now time.Time) access.Set
}

// Directives know what patients said about their records. They are safe for
// concurrent use.
type Directives interface {
	// Restricted returns the patients who restrict, at now, what who may see of
	// resourceType for purpose (45 CFR 164.522(a)), and the single records that
	// are restricted so. Nil means none.
	Restricted(who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (patients, records access.Set)

	// Authorized reports whether resourceType may be used for purpose with the
	// patient's consent or authorization only (45 CFR 164.506(b), 164.508). Then
	// it returns the patients who gave it, who are in each of the sets, and the
	// records that who may not use without it: others are free, as to whoever
	// wrote them. Without sets nobody gave it, and nil is every record.
	Authorized(who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (needed bool, of []access.Set, records access.Set)

	// RestrictedTo is Restricted of a disclosure to a recipient: what restricts
	// the use inside is among it.
	RestrictedTo(recipient string, who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (patients, records access.Set)

	// AuthorizedTo is Authorized of a disclosure to a recipient, whom the
	// patient's paper names. Nobody is free of it.
	AuthorizedTo(recipient string, who access.Principal, purpose access.Purpose, resourceType string, now time.Time) (needed bool, of []access.Set)
}

// Duties know what one person must not do to one record. They are safe for
// concurrent use.
type Duties interface {
	// Conflicting reports whether who may not do action at all, as roles that
	// nobody may hold at once forbid it, and returns the IDs of the records of
	// resourceType to which who must not do it because of what who did before,
	// as who wrote a note must not countersign it. Nil means none. The roles of
	// who include that of a grant.
	Conflicting(ctx context.Context, who access.Principal, action access.Action, resourceType string, now time.Time) (all bool, records access.Set, err error)
}

// Grants know the rights that somebody has for a time. They are safe for
// concurrent use.
type Grants interface {
	// Live returns the grants of who that are live at now, whichever node gave
	// them.
	Live(ctx context.Context, who access.Principal, now time.Time) ([]Grant, error)

	// Requestable returns the roles that who may ask for.
	Requestable(ctx context.Context, who access.Principal) []string
}

// A Grant is a right for a time. The zero Grant gives nothing.
type Grant struct {
	ID         string           // names it in the decision and in the audit trail
	BreakGlass bool             // emergency access: for Patient, and for emergency purposes only
	Role       string           // the role that it brings; empty in emergency access
	Patient    string           // the only patient for whom; empty: all whom the caller has a relation to
	Type       string           // the only resource type; empty: all
	Record     string           // the only record, of Type; empty: all
	Purposes   []access.Purpose // for which; empty means none
	Until      time.Time        // it ends then

	// Use counts a use, before something is allowed by the grant; an error means
	// that none is left. Nil: uses are not counted.
	Use func(ctx context.Context) error
}

// serves reports whether the grant is live for purpose.
func (g Grant) serves(purpose access.Purpose, now time.Time) bool {
	if g.ID == "" || !now.Before(g.Until) || g.BreakGlass != purpose.Emergency() || g.BreakGlass == (g.Role != "") || g.BreakGlass && g.Patient == "" {
		return false
	}
	for _, p := range g.Purposes {
		if purpose == p || !purpose.Emergency() && purpose.IsA(p) {
			return true
		}
	}
	return false
}
