// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
)

// A scope keeps the policy that it asked first for some seconds after it was
// replaced. What lives longer, a stream or a job, is decided by the new one.
func TestAScopeOutlivesItsPolicyBySeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		read, search := rule("nurse", access.Read, "patient", access.Treatment), rule("nurse", access.Search, "patient", access.Treatment)
		e := must(t, rbac.Config{Rules: []rbac.Rule{read}, Revision: 1})
		nurse := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
		ctx := access.With(t.Context(), nurse, access.Treatment)
		holds := func(when string, reads, searches bool, revision uint64) {
			t.Helper()
			if r, s := verdict(t, e, ctx, access.Read, "patient").Allow, verdict(t, e, ctx, access.Search, "patient").Allow; r != reads || s != searches {
				t.Errorf("%s: read %v, search %v; want %v, %v", when, r, s, reads, searches)
			}
			if got := e.Revision(ctx); got != revision {
				t.Errorf("%s: revision %d, want %d", when, got, revision)
			}
		}
		replace := func(revision uint64, rules ...rbac.Rule) {
			t.Helper()
			if err := e.Replace(rbac.Config{Rules: rules, Revision: revision}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour) // however old the scope is
		holds("in the beginning", true, false, 1)
		time.Sleep(time.Hour)
		replace(2, search)
		time.Sleep(5*time.Second - time.Millisecond)
		replace(3, search, read) // counts from the first change on
		holds("before 5 s", true, false, 1)
		time.Sleep(time.Millisecond)
		holds("after 5 s", true, true, 3)
		replace(4, search)
		holds("at the next change", true, true, 3)
		time.Sleep(5 * time.Second)
		holds("5 s later", false, true, 4)
	})
}

// Who loses a role loses with it, 5 s later, what has begun: also what another
// role would allow, since what is shown is measured by both. A new request acts
// in what is left.
func TestAScopeThatLosesARole(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]access.Principal{
		"the policy gives the roles": {ID: "u-1", Tenant: "t-1", Kind: access.Human},
		"the session names them too": {ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse", "billing"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := func(roles ...string) rbac.Config {
				c := rbac.Config{Assigned: true, Rules: []rbac.Rule{
					rule("nurse", access.Read, "patient", access.Treatment), rule("billing", access.Search, "patient", access.Treatment),
					rule("officer", access.Update, "patient", access.Treatment),
				}}
				for _, role := range roles {
					c.Assignments = append(c.Assignments, rbac.Assignment{Tenant: "t-1", User: "u-1", Role: role})
				}
				return c
			}
			e := must(t, cfg("nurse", "billing"))
			ctx := access.With(t.Context(), p, access.Treatment)
			allowed := func() (out []access.Action) {
				for _, a := range []access.Action{access.Read, access.Search, access.Update} {
					if verdict(t, e, ctx, a, "patient").Allow {
						out = append(out, a)
					}
				}
				return out
			}
			want := func(when string, actions ...access.Action) {
				t.Helper()
				if got := allowed(); !slices.Equal(got, actions) {
					t.Errorf("%s, %s: %v, want %v", name, when, got, actions)
				}
			}
			put := func(roles ...string) {
				t.Helper()
				if err := e.Replace(cfg(roles...)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
			}
			want("in the beginning", access.Read, access.Search)
			put("nurse", "billing")
			want("nothing lost", access.Read, access.Search)
			put("billing")
			want("a role lost")
			if roles, err := e.Roles(ctx, p); err != nil || len(roles) > 0 {
				t.Errorf("%s: acts in %v, %v", name, roles, err)
			}
			lost := p
			lost.Roles = append(slices.Clone(p.Roles), "officer") // as a grant would bring it
			if v, err := e.Rule(ctx, lost, access.Update, "patient", access.Treatment); v.Allow || err != nil {
				t.Errorf("%s: a scope that lost a role takes another: %v, %v", name, v, err)
			}
			put("nurse", "billing")
			want("given back")
			put("billing")
			ctx = access.With(t.Context(), p, access.Treatment)
			want("the next request", access.Search)
		})
	}
}
