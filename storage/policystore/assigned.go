// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/part164/part164/storage"
)

// Assigned returns the roles that a user has by the newest policy in the
// database, with those that they include, sorted. It reads in the transaction of
// ctx (see storage.Within), and so it is what a duty.Separation asks
// (duty.Config.Assigned): the policy in force in this process may be older by
// Config.Poll. In Config.Assign it answers by the policy as it would be.
func (s *Store) Assigned(ctx context.Context, tenant, user string) ([]string, error) {
	newest, err := s.readNewest(ctx)
	if err != nil {
		return nil, fmt.Errorf("policystore: roles of a user: %w", err)
	}
	return newest.held(newest.hierarchy(), tenant, user), nil
}

// Holders returns the users who have a role by the newest policy in the
// database, by a link of their own or through a role that includes it, sorted:
// with those who have it by a live grant they are what duty.Config.Holders asks
// for. It reads as [Store.Assigned] does.
func (s *Store) Holders(ctx context.Context, tenant, role string) ([]string, error) {
	newest, err := s.readNewest(ctx)
	if err != nil {
		return nil, fmt.Errorf("policystore: holders of a role: %w", err)
	}
	var out []string
	above := newest.hierarchy()
	for _, user := range newest.users(tenant) {
		if slices.Contains(newest.held(above, tenant, user), role) {
			out = append(out, user)
		}
	}
	return out, nil
}

// wouldBe is where the context of Config.Assign has the policy as it would be.
type wouldBe struct{ of *Store }

func (s *Store) readNewest(ctx context.Context) (*state, error) {
	if next, ok := ctx.Value(wouldBe{s}).(*state); ok {
		return next, nil
	}
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	if s.cfg.PrincipalRoles {
		return nil, errors.New("Config.PrincipalRoles is set: the database does not know who has which role")
	}
	return s.load(ctx, storage.Within(ctx, db), s.state())
}

// assign asks Config.Assign about each user who has more roles after a change
// than before it. A role is taken away without asking.
func (s *Store) assign(ctx context.Context, tx *gorm.DB, before, after *state, edits []edit) error {
	if s.cfg.Assign == nil {
		return nil
	}
	gaining := after.gaining(before, edits)
	for i, g := range gaining {
		if s.cfg.LockRoles != nil && (i == 0 || gaining[i-1].tenant != g.tenant) {
			if err := s.cfg.LockRoles(ctx, tx, g.tenant); err != nil {
				return err
			}
		}
	}
	ctx = context.WithValue(storage.InTx(ctx, tx), wouldBe{s}, after)
	for _, g := range gaining {
		if err := s.cfg.Assign(ctx, g.tenant, g.user, g.roles); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// A hierarchy has the role links of a policy by the role that has what another
// has.
type hierarchy map[string][]row

func (s *state) hierarchy() hierarchy {
	above := make(hierarchy)
	for _, r := range s.rows {
		if r.kind != roleLink {
			break // they come first
		}
		above[r.f[1]] = append(above[r.f[1]], r)
	}
	return above
}

// included adds to roles those that they include in a tenant, and sorts them.
func (h hierarchy) included(tenant string, roles []string) []string {
	for i := 0; i < len(roles); i++ {
		for _, l := range h[roles[i]] {
			if (l.f[0] == every || l.f[0] == tenant) && !slices.Contains(roles, l.f[2]) {
				roles = append(roles, l.f[2])
			}
		}
	}
	slices.Sort(roles)
	return roles
}

// of returns the links of a user, or of all users of a tenant where that is
// empty.
func (s *state) of(tenant, user string) []row {
	from, _ := slices.BinarySearchFunc(s.rows, row{kind: userLink, f: [6]string{tenant, user}}, row.compare)
	to := from
	for to < len(s.rows) && s.rows[to].kind == userLink && s.rows[to].f[0] == tenant && (user == "" || s.rows[to].f[1] == user) {
		to++
	}
	return s.rows[from:to]
}

// users returns those of a tenant who have a role.
func (s *state) users(tenant string) (out []string) {
	for _, r := range s.of(tenant, "") {
		if len(out) == 0 || out[len(out)-1] != r.f[1] {
			out = append(out, r.f[1])
		}
	}
	return out
}

// held returns the roles that a user has, with those that they include.
func (s *state) held(above hierarchy, tenant, user string) []string {
	var roles []string
	for _, r := range s.of(tenant, user) {
		roles = append(roles, r.f[2])
	}
	return above.included(tenant, roles)
}

// A holder is a user with the roles that it had before a change and has after it.
type holder struct {
	tenant, user string
	had, roles   []string
}

// touched returns the users whose roles edits of before, which made s, could
// change, by tenant and name.
func (s *state) touched(before *state, edits []edit) []holder {
	var out []holder
	links := false
	for _, e := range edits {
		switch e.row.kind {
		case userLink:
			out = append(out, holder{tenant: e.row.f[0], user: e.row.f[1]})
		case roleLink:
			links = true
		}
	}
	if links { // whoever has the role that includes another one now, or did
		for _, r := range s.rows {
			if r.kind == userLink {
				out = append(out, holder{tenant: r.f[0], user: r.f[1]})
			}
		}
	}
	slices.SortFunc(out, func(a, b holder) int { return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.user, b.user)) })
	out = slices.CompactFunc(out, func(a, b holder) bool { return a.tenant == b.tenant && a.user == b.user })
	then, now := before.hierarchy(), s.hierarchy()
	for i := range out {
		h := &out[i]
		h.had, h.roles = before.held(then, h.tenant, h.user), s.held(now, h.tenant, h.user)
	}
	return out
}

// gaining returns those touched who have a role that they had not before.
func (s *state) gaining(before *state, edits []edit) []holder {
	return slices.DeleteFunc(s.touched(before, edits), func(h holder) bool { return len(without(h.roles, h.had)) == 0 })
}

// without returns those of all that are none of some.
func without(all, some []string) []string {
	not := make(map[string]bool, len(some))
	for _, v := range some {
		not[v] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool { return not[v] })
}
