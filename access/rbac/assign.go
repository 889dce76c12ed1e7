// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
)

// An Assignment gives a user a role in one tenant: the user assignment of
// INCITS 359-2012. Links then give the role what others have.
type Assignment struct {
	Tenant string
	User   string // Principal.ID
	Role   string // without the r: of Casbin rows

	from string // where it was read; empty: in Config.Assignments
}

func (a Assignment) check() error {
	for _, id := range []struct{ name, value string }{{"Tenant", a.Tenant}, {"User", a.User}, {"Role", a.Role}} {
		if err := access.CheckID(id.value); err != nil {
			return fmt.Errorf("%s %w", id.name, err)
		}
	}
	return nil
}

type assignee struct{ tenant, user string }

// assigned are the roles of each user; nil where principals bring their roles.
type assigned map[assignee][]string

func newAssigned(cfg Config) (assigned, error) {
	if !cfg.Assigned {
		if len(cfg.Assignments) > 0 {
			return nil, errors.New("Config.Assignments is set without Config.Assigned")
		}
		return nil, nil
	}
	of := make(assigned, len(cfg.Assignments))
	for i, a := range cfg.Assignments {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("Config.Assignments[%d].%w", i, err)
		}
		key := assignee{a.Tenant, a.User}
		of[key] = append(of[key], a.Role)
	}
	return of, nil
}

// active returns p with the roles in which it acts.
func (a assigned) active(p access.Principal) access.Principal {
	if a == nil {
		return p
	}
	roles := a[assignee{p.Tenant, p.ID}]
	if len(p.Roles) == 0 {
		p.Roles = roles
		return p
	}
	p.Roles = slices.DeleteFunc(p.Roles, func(role string) bool { return !slices.Contains(roles, role) })
	return p
}

// Roles returns the roles in which who acts, with those that they include: of
// those that Assignments give it, or its own without these; and those that the
// principal of ctx's scope has not, where that is who, since a grant brings them.
// They need not have a rule. The list is the caller's to keep. The policy is that
// of the scope, or without one that in force. It is what package pdp asks, and
// grant.Config.Roles.
func (e *Engine) Roles(ctx context.Context, who access.Principal) ([]string, error) {
	v, own := e.inForce(), who
	if scope, err := access.From(ctx); err == nil {
		seen, err := e.pin(scope)
		if err != nil {
			return nil, err
		}
		v = seen.version
		if p := scope.Principal(); same(p, who) {
			own = p
		}
	}
	if v == nil {
		return nil, errNoPolicy
	}
	brought := slices.DeleteFunc(slices.Clone(who.Roles), func(role string) bool { return slices.Contains(own.Roles, role) })
	own.Roles = slices.Clone(own.Roles) // active changes them
	return v.withIncluded(who.Tenant, slices.Concat(v.assigned.active(own).Roles, brought)), nil
}

// Revision returns the Config.Revision of the policy that decides in the scope
// of ctx; 0 where there is no scope or no policy.
func (e *Engine) Revision(ctx context.Context) uint64 {
	scope, err := access.From(ctx)
	if err != nil {
		return 0
	}
	p, err := e.pin(scope)
	if err != nil {
		return 0
	}
	return p.revision
}

// Take puts the policy of another engine in force, as Replace does with one
// that has still to be compiled. The zero Engine has none to take: the policy in
// force stays.
func (e *Engine) Take(from *Engine) {
	if p := from.current.Load(); p != nil {
		e.put(p)
	}
}
