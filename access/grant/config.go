// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures [New]. Store, Audit and Roles are required, and one of
// Elevations and Emergency.
type Config struct {
	Store      Store
	Audit      audit.Recorder
	Elevations []Elevation // the roles that may be requested; one a role
	Emergency  *Emergency  // nil means that nobody can break the glass

	// Confirm checks once more that it is p who breaks the glass: secret is
	// what they typed, their password for instance. It is required with
	// Emergency, and any error refuses. It throttles by itself.
	Confirm func(ctx context.Context, p access.Principal, secret string) error

	// Alert tells people that the glass was broken, or that a review is
	// overdue. It is required where somebody must review. It is called by
	// [Desk.Run] until it returns nil, so perhaps twice for one alert, and never
	// holds up who breaks the glass.
	Alert func(ctx context.Context, a Alert) error

	// Roles returns the roles that p holds now, with those that they include, and
	// without any that p holds by a grant only: what makes p eligible to request,
	// approve, review, or break the glass. It is the Roles of a
	// policystore.Store or rbac.Engine whose policy assigns roles; where a
	// directory of users does, ask that. Principal.Roles are no answer: a session
	// names a role for as long as it lasts. Of a session that acts in some of p's
	// roles only (Principal.Roles), it answers those that p holds and acts in. It is
	// also asked about those who approved before, of whom p is what they were then.
	//
	// Of somebody whom it does not know it returns nil and no error: an error
	// says that nobody can tell, and refuses. Two do not wait for it: an
	// approval goes on where it fails about an earlier approver, whose approval
	// does not count then; and [Desk.BreakGlass], which asks it too and cancels
	// its context after 2 s, goes by Principal.Roles where it fails.
	Roles func(ctx context.Context, p access.Principal) ([]string, error)

	// Duties says why a principal must not hold the roles of all its live
	// elevations, byGrant, beside those that it has by the policy (separation of
	// duties: see access/duty). It is asked inside the transaction that gives
	// the last of them. Nil means that nothing excludes anything.
	Duties func(ctx context.Context, tenant, holder string, byGrant []string) error

	RequestTTL time.Duration // for which a request waits for its approvals; zero means 24 hours
	Remind     time.Duration // between alerts about one overdue review; zero means 24 hours

	Log *zap.Logger      // nil is silent
	Now func() time.Time // nil means time.Now
}

// An Elevation says who may get a role for a time, and who must agree. Its zero
// fields allow nothing.
type Elevation struct {
	Role       string           // what is given; required
	Requesters []string         // who holds one of these roles may request it; required
	Approvers  []string         // who holds one of these may approve and revoke it; required
	Approvals  int              // of different people; zero means 1
	MaxTTL     time.Duration    // required; 24 hours at most
	MaxUses    int              // zero means no limit
	Purposes   []access.Purpose // for which it may be; required; none is an emergency
	OnePatient bool             // each grant is for one patient
	OneRecord  bool             // each grant is for one record
	NeedTicket bool             // each request names a ticket

	Reviewers    []string      // who must look at each grant once it is over; empty means nobody
	ReviewWithin time.Duration // of the approval; zero means 72 hours
}

// An Emergency says who may break the glass: emergency access to one patient,
// which nobody has to approve (45 CFR 164.312(a)(2)(ii)). What may be done then
// is what the policy's rules allow the role for that purpose.
type Emergency struct {
	Roles        []string      // who holds one of these; required
	Reviewers    []string      // who must look at each grant once it is over; required
	TTL          time.Duration // zero means 4 hours; 24 hours at most
	FactorWithin time.Duration // that the second factor is old at most; zero means 12 hours, as NIST SP 800-63B-4 2.2.3 has for AAL2 at most 24
	ReviewWithin time.Duration // of breaking the glass; zero means 72 hours
}

// Repair returns the elevation that lets a technician mend one record: one
// ticket, one record, an hour, administration of the systems only. What they
// see of it is up to the role: give it masks (minimize), and no data in clear.
func Repair(role string, technicians, approvers []string) Elevation {
	return Elevation{
		Role: role, Requesters: technicians, Approvers: approvers, MaxTTL: time.Hour,
		Purposes: []access.Purpose{access.SystemAdmin}, OneRecord: true, NeedTicket: true,
	}
}

// maxTTL bounds a right for a time: a longer one is an assignment, which
// belongs into the policy.
const maxTTL = 24 * time.Hour

func (cfg *Config) complete() error {
	switch {
	case cfg.Store == nil:
		return errors.New("grant: Config.Store is nil: give accessstore.New(db).Grants(), or NewMemory() for one process")
	case cfg.Audit == nil:
		return errors.New("grant: Config.Audit is nil: give the journal")
	case cfg.Roles == nil:
		return errors.New("grant: Config.Roles is nil: give the Roles of the policy, a policystore.Store or an rbac.Engine, or what your users' directory says")
	case len(cfg.Elevations) == 0 && cfg.Emergency == nil:
		return errors.New("grant: Config.Elevations and Config.Emergency are both empty: nothing could be granted")
	case cfg.Emergency != nil && cfg.Confirm == nil:
		return errors.New("grant: Config.Confirm is nil: whoever breaks the glass must prove once more who they are")
	}
	reviews := cfg.Emergency != nil
	cfg.Elevations = slices.Clone(cfg.Elevations)
	roles := map[string]bool{}
	for i := range cfg.Elevations {
		e := &cfg.Elevations[i]
		if err := e.complete(); err != nil {
			return fmt.Errorf("grant: Config.Elevations[%d].%w", i, err)
		}
		if roles[e.Role] {
			return fmt.Errorf("grant: Config.Elevations[%d].Role is there twice", i)
		}
		roles[e.Role] = true
		reviews = reviews || len(e.Reviewers) > 0
	}
	if cfg.Emergency != nil {
		e := *cfg.Emergency
		if err := e.complete(); err != nil {
			return fmt.Errorf("grant: Config.Emergency.%w", err)
		}
		cfg.Emergency = &e
	}
	if reviews && cfg.Alert == nil {
		return errors.New("grant: Config.Alert is nil: somebody must hear of a broken glass and of an overdue review")
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"RequestTTL", &cfg.RequestTTL, 24 * time.Hour}, {"Remind", &cfg.Remind, 24 * time.Hour}} {
		if *d.value < 0 {
			return fmt.Errorf("grant: Config.%s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return nil
}

func (e *Elevation) complete() error {
	e.Requesters, e.Approvers, e.Reviewers, e.Purposes = slices.Clone(e.Requesters), slices.Clone(e.Approvers), slices.Clone(e.Reviewers), slices.Clone(e.Purposes)
	if err := access.CheckID(e.Role); err != nil {
		return fmt.Errorf("Role %w", err)
	}
	for _, l := range []struct {
		name  string
		roles []string
		need  bool
	}{{"Requesters", e.Requesters, true}, {"Approvers", e.Approvers, true}, {"Reviewers", e.Reviewers, false}} {
		if err := checkRoles(l.name, l.roles, l.need); err != nil {
			return err
		}
	}
	if slices.Equal(e.Approvers, []string{e.Role}) {
		return errors.New("Approvers is the role that is given, and nothing else: name one whose holders do not need the grant")
	}
	for _, p := range e.Purposes {
		if !p.Valid() || p.Emergency() {
			return errors.New("Purposes has one that is unknown, or an emergency: for that the glass is broken")
		}
	}
	switch {
	case len(e.Purposes) == 0:
		return errors.New("Purposes is empty")
	case e.Approvals < 0, e.MaxUses < 0, e.ReviewWithin < 0:
		return errors.New("Approvals, MaxUses or ReviewWithin is negative")
	case e.MaxTTL <= 0 || e.MaxTTL > maxTTL:
		return fmt.Errorf("MaxTTL is not between 0 and %v: a longer right belongs into the policy", maxTTL)
	}
	if e.Approvals == 0 {
		e.Approvals = 1
	}
	if e.ReviewWithin == 0 {
		e.ReviewWithin = reviewWithin
	}
	return nil
}

// reviewWithin is the habit of audit/watch and no rule of law: a weekend and a
// day.
const reviewWithin = 72 * time.Hour

func (e *Emergency) complete() error {
	e.Roles, e.Reviewers = slices.Clone(e.Roles), slices.Clone(e.Reviewers)
	if err := checkRoles("Roles", e.Roles, true); err != nil {
		return err
	}
	if err := checkRoles("Reviewers", e.Reviewers, true); err != nil {
		return err
	}
	for _, d := range []struct {
		name      string
		value     *time.Duration
		zero, max time.Duration
	}{{"TTL", &e.TTL, 4 * time.Hour, maxTTL}, {"FactorWithin", &e.FactorWithin, 12 * time.Hour, 24 * time.Hour}, {"ReviewWithin", &e.ReviewWithin, reviewWithin, 365 * 24 * time.Hour}} {
		if *d.value < 0 || *d.value > d.max {
			return fmt.Errorf("%s is not between 0 and %v", d.name, d.max)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	return nil
}

func checkRoles(name string, roles []string, need bool) error {
	if need && len(roles) == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	for _, r := range roles {
		if err := access.CheckID(r); err != nil {
			return fmt.Errorf("%s: a role %w", name, err)
		}
	}
	return nil
}

// elevation returns what Config says of a role; nil where it is not given.
func (cfg *Config) elevation(role string) *Elevation {
	for i := range cfg.Elevations {
		if cfg.Elevations[i].Role == role {
			return &cfg.Elevations[i]
		}
	}
	return nil
}
