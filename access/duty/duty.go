// SPDX-License-Identifier: Apache-2.0

package duty

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// Config configures [New]. Its lists say what is separated; one of them is not
// empty.
type Config struct {
	Exclusive []Exclusion    // of the roles that one principal holds
	Sessions  []Exclusion    // of the roles that one principal acts in at once
	Limits    []Limit        // of the holders of one role
	Needs     []Prerequisite // of one role for another
	Records   []Sequence     // of acts on one record

	// Acts knows who did what to which record. Required with Records.
	Acts Acts

	// Assigned returns the roles that a principal has by the policy, with those
	// that they include, as the transaction of ctx sees them, and not as a copy in
	// this process does: policystore.Store.Assigned. Required with Exclusive, Limits
	// and Needs, and so are Elevated, which returns those that it has by grants
	// (grant.Desk.Elevated), and, with Limits, Holders, which returns the principals
	// that have a role by either. Where one of them fails nothing is given.
	Assigned func(ctx context.Context, tenant, principal string) ([]string, error)
	Elevated func(ctx context.Context, tenant, principal string) ([]string, error)
	Holders  func(ctx context.Context, tenant, role string) ([]string, error)
}

// An Exclusion is a set of roles of which one principal may hold, or act in,
// Max at most.
type Exclusion struct {
	Name  string   // for the error; an identifier
	Roles []string // two at least
	Max   int      // zero means 1
}

// A Limit is how many principals of a tenant may hold a role.
type Limit struct {
	Role string
	Max  int // 1 at least
}

// A Prerequisite is what a principal must hold to hold Role: every one of Needs.
type Prerequisite struct {
	Role  string
	Needs []string
}

// A Sequence keeps who did one of After to a record from doing Action to it: who
// makes does not check.
type Sequence struct {
	Type   string // of the records; empty means every type
	Action access.Action
	After  []access.Action
}

// Acts know who did what to which record: by columns of the records themselves,
// such as author and signer, or by a list that is kept for it. Implementations
// are safe for concurrent use; the conformance suite is dutytest.TestActs.
type Acts interface {
	// By returns the IDs of the records of resourceType to which one of the
	// principals did one of the actions. Nil means that there can be none.
	By(principals []string, resourceType string, actions []access.Action) access.Set
}

// ErrConflict is what every [ConflictError] is.
var ErrConflict = errors.New("duty: separation of duties")

// A ConflictError says what one principal would hold against the rules.
type ConflictError struct {
	Rule  string   // the exclusion's name; else the role that is limited, or needs another
	Roles []string // those that exclude each other, or that are missing; empty where there are too many holders
}

func (e *ConflictError) Error() string {
	if len(e.Roles) == 0 {
		return fmt.Sprintf("duty: separation of duties: too many would hold %s", e.Rule)
	}
	return fmt.Sprintf("duty: separation of duties: %s: %q", e.Rule, e.Roles)
}

// Is makes errors.Is(err, ErrConflict) true for every ConflictError.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// A Separation applies the rules. Make it with [New]; it is safe for concurrent
// use. The zero Separation refuses and denies everything.
type Separation struct {
	cfg Config
	ok  bool
}

var errZero = errors.New("duty: the separation has no rules: make it with duty.New")

// New returns a Separation, or says which field of cfg is bad.
func New(cfg Config) (*Separation, error) {
	static := len(cfg.Exclusive)+len(cfg.Limits)+len(cfg.Needs) > 0
	switch {
	case !static && len(cfg.Sessions)+len(cfg.Records) == 0:
		return nil, errors.New("duty: Config says of nothing that it is separated")
	case len(cfg.Records) > 0 && cfg.Acts == nil:
		return nil, errors.New("duty: Config.Acts is nil: nobody would know who did what to a record")
	case static && cfg.Assigned == nil:
		return nil, errors.New("duty: Config.Assigned is nil: the roles of the policy would not count")
	case static && cfg.Elevated == nil:
		return nil, errors.New("duty: Config.Elevated is nil: the roles of live grants would not count; without grants return none")
	case len(cfg.Limits) > 0 && cfg.Holders == nil:
		return nil, errors.New("duty: Config.Holders is nil: the holders of a role could not be counted")
	}
	cfg.Exclusive, cfg.Sessions = slices.Clone(cfg.Exclusive), slices.Clone(cfg.Sessions)
	for _, l := range []struct {
		name string
		list []Exclusion
	}{{"Exclusive", cfg.Exclusive}, {"Sessions", cfg.Sessions}} {
		for i := range l.list {
			if err := l.list[i].complete(); err != nil {
				return nil, fmt.Errorf("duty: Config.%s[%d].%w", l.name, i, err)
			}
		}
	}
	for i, l := range cfg.Limits {
		if err := access.CheckID(l.Role); err != nil {
			return nil, fmt.Errorf("duty: Config.Limits[%d].Role %w", i, err)
		}
		if l.Max < 1 {
			return nil, fmt.Errorf("duty: Config.Limits[%d].Max is less than 1", i)
		}
	}
	for i, n := range cfg.Needs {
		for _, r := range append([]string{n.Role}, n.Needs...) {
			if err := access.CheckID(r); err != nil {
				return nil, fmt.Errorf("duty: Config.Needs[%d]: a role %w", i, err)
			}
		}
		if len(n.Needs) == 0 || slices.Contains(n.Needs, n.Role) {
			return nil, fmt.Errorf("duty: Config.Needs[%d].Needs is empty, or has the role itself", i)
		}
	}
	for i, s := range cfg.Records {
		if s.Type != "" && access.CheckName(s.Type) != nil {
			return nil, fmt.Errorf("duty: Config.Records[%d].Type is not an identifier", i)
		}
		if len(s.After) == 0 {
			return nil, fmt.Errorf("duty: Config.Records[%d].After is empty", i)
		}
		for _, a := range append([]access.Action{s.Action}, s.After...) {
			if access.CheckName(string(a)) != nil {
				return nil, fmt.Errorf("duty: Config.Records[%d] has an action that is not an identifier", i)
			}
		}
	}
	return &Separation{cfg, true}, nil
}

func (e *Exclusion) complete() error {
	e.Roles = slices.Clone(e.Roles)
	slices.Sort(e.Roles)
	if e.Max == 0 {
		e.Max = 1
	}
	switch {
	case access.CheckName(e.Name) != nil:
		return errors.New("Name is not an identifier")
	case len(slices.Compact(slices.Clone(e.Roles))) != len(e.Roles):
		return errors.New("Roles has one twice")
	case e.Max < 0 || e.Max >= len(e.Roles):
		return errors.New("Max excludes nothing: it is negative, or there are no more roles than that")
	}
	for _, r := range e.Roles {
		if err := access.CheckID(r); err != nil {
			return fmt.Errorf("Roles: a role %w", err)
		}
	}
	return nil
}

// conflict returns the roles of e that are held, where those are too many.
func (e *Exclusion) conflict(roles []string) error {
	var held []string
	for _, r := range e.Roles {
		if slices.Contains(roles, r) {
			held = append(held, r)
		}
	}
	if len(held) <= e.Max {
		return nil
	}
	return &ConflictError{Rule: e.Name, Roles: held}
}

// Assign says why a principal must not have the roles assigned, with those that
// they include, beside those that it has by grants: [ErrConflict], or that nobody
// can tell. Call it in the transaction that assigns them: it is
// policystore.Config.Assign.
func (s *Separation) Assign(ctx context.Context, tenant, principal string, assigned []string) error {
	if s == nil || !s.ok {
		return errZero
	}
	if s.cfg.Elevated == nil {
		return nil
	}
	more, err := s.cfg.Elevated(ctx, tenant, principal)
	if err != nil {
		return fmt.Errorf("duty: roles by grants: %w", err)
	}
	return s.hold(ctx, tenant, principal, slices.Concat(assigned, more))
}

// Elevate says why a principal must not have the roles byGrant, beside those that
// it has by the policy. It is grant.Config.Duties.
func (s *Separation) Elevate(ctx context.Context, tenant, principal string, byGrant []string) error {
	if s == nil || !s.ok {
		return errZero
	}
	if s.cfg.Assigned == nil {
		return nil
	}
	more, err := s.cfg.Assigned(ctx, tenant, principal)
	if err != nil {
		return fmt.Errorf("duty: roles by the policy: %w", err)
	}
	return s.hold(ctx, tenant, principal, slices.Concat(more, byGrant))
}

func (s *Separation) hold(ctx context.Context, tenant, principal string, roles []string) error {
	for i := range s.cfg.Exclusive {
		if err := s.cfg.Exclusive[i].conflict(roles); err != nil {
			return err
		}
	}
	for _, n := range s.cfg.Needs {
		if !slices.Contains(roles, n.Role) {
			continue
		}
		missing := slices.DeleteFunc(slices.Clone(n.Needs), func(r string) bool { return slices.Contains(roles, r) })
		if len(missing) > 0 {
			return &ConflictError{Rule: n.Role, Roles: missing}
		}
	}
	for _, l := range s.cfg.Limits {
		if !slices.Contains(roles, l.Role) {
			continue
		}
		holders, err := s.cfg.Holders(ctx, tenant, l.Role)
		if err != nil {
			return fmt.Errorf("duty: holders of a role: %w", err)
		}
		others := map[string]bool{}
		for _, h := range holders {
			others[h] = h != principal
		}
		n := 1
		for _, other := range others {
			if other {
				n++
			}
		}
		if n > l.Max {
			return &ConflictError{Rule: l.Role}
		}
	}
	return nil
}

// Activate returns p with the given of its roles only, for a session in which it
// acts in them: where somebody holds two that must not be used at once
// (Config.Sessions), the sign-in asks for one. A role that p has not got, and
// roles that exclude each other, are refused.
func (s *Separation) Activate(p access.Principal, roles ...string) (access.Principal, error) {
	if s == nil || !s.ok {
		return access.Principal{}, errZero
	}
	for _, r := range roles {
		if !slices.Contains(p.Roles, r) {
			return access.Principal{}, errors.New("duty: activate: the principal has not got one of the roles")
		}
	}
	if err := s.together(roles); err != nil {
		return access.Principal{}, err
	}
	p.Roles = slices.Clone(roles)
	return p, nil
}

// together says which roles must not be used at once.
func (s *Separation) together(roles []string) error {
	for _, list := range [][]Exclusion{s.cfg.Exclusive, s.cfg.Sessions} {
		for i := range list {
			if err := list[i].conflict(roles); err != nil {
				return err
			}
		}
	}
	return nil
}

// Conflicting implements pdp.Duties: who must do nothing while acting in roles
// that exclude each other, and must not do action to the records that it, or
// whom it acts for, dealt with before.
func (s *Separation) Conflicting(_ context.Context, who access.Principal, action access.Action, resourceType string, _ time.Time) (all bool, records access.Set, err error) {
	if s == nil || !s.ok {
		return true, nil, errZero
	}
	if s.together(who.Roles) != nil {
		return true, nil, nil
	}
	var after []access.Action
	for _, r := range s.cfg.Records {
		if r.Action == action && (r.Type == "" || r.Type == resourceType) {
			after = append(after, r.After...)
		}
	}
	if len(after) == 0 {
		return false, nil, nil
	}
	principals := []string{who.ID}
	if who.OnBehalf != "" {
		principals = append(principals, who.OnBehalf)
	}
	return false, s.cfg.Acts.By(principals, resourceType, after), nil
}
