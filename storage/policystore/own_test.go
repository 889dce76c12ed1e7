// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/policystore"
)

// TestNobodyApprovesForTheirOwnRoles: a change that gives something to the
// approver by way of a role, or takes off what denies it something, takes
// somebody else.
func TestNobodyApprovesForTheirOwnRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteFile(t), nil)
	may := func(role, resource string, a access.Action, p access.Purpose) rbac.Rule {
		return rbac.Rule{Role: role, Resources: []string{resource}, Actions: []access.Action{a}, Purposes: []access.Purpose{p}}
	}
	not := func(r rbac.Rule) rbac.Rule { r.Deny = true; return r }
	in := func(where string, r rbac.Rule) rbac.Rule { r.Tenant = where; return r }
	has := func(user, role string) rbac.Assignment {
		return rbac.Assignment{Tenant: tenant, User: user, Role: role}
	}
	begin := first()
	begin.Rules = append(begin.Rules, may("chief", "policy", policystore.Approve, access.SystemAdmin), not(may("nurse", "bill", access.Read, access.Treatment)),
		not(may("suspended", "patient", access.Update, access.Treatment)), may("clerk", "bill", access.Read, access.Payment))
	begin.Links = append(begin.Links, rbac.Link{Role: "nurse", Inherits: "suspended"})
	begin.Assignments = append(begin.Assignments, has("u-bob", "charge-nurse"), has("u-bob", "suspended"), has("u-dora", "chief"))
	if _, err := w.Init(job(t), begin, "deploy-1"); err != nil {
		t.Fatal(err)
	}
	narrow := access.With(t.Context(), access.Principal{ID: "u-bob", Tenant: tenant, Kind: access.Human, Roles: []string{"approver"}}, access.SystemAdmin)
	adds := func(r policystore.Rows) policystore.Change {
		return policystore.Change{Add: r, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	takes := func(r policystore.Rows) policystore.Change {
		return policystore.Change{Remove: r, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	rules := func(r ...rbac.Rule) policystore.Rows { return policystore.Rows{Rules: r} }
	for _, tt := range []struct {
		name string
		own  bool
		c    policystore.Change
	}{
		{"a rule of a role that theirs includes", true, adds(rules(may("nurse", "patient", access.Update, access.Operations)))},
		{"a rule of their role, in their tenant", true, adds(rules(in(tenant, may("charge-nurse", "bill", access.Read, access.Payment))))},
		{"a rule of the approvers", true, adds(rules(may("approver", "patient", access.Read, access.Operations)))},
		{"a denying rule off", true, takes(rules(not(may("nurse", "bill", access.Read, access.Treatment))))},
		{"a link of their role", true, adds(policystore.Rows{Links: []rbac.Link{{Role: "charge-nurse", Inherits: "clerk"}}})},
		{"a link of a role that theirs includes", true, adds(policystore.Rows{Links: []rbac.Link{{Role: "nurse", Inherits: "chief"}}})},
		{"the link to a role that denies off", true, takes(policystore.Rows{Links: []rbac.Link{{Role: "nurse", Inherits: "suspended"}}})},
		{"a role that denies off", true, takes(policystore.Rows{Assignments: []rbac.Assignment{has("u-bob", "suspended")}})},
		{"a role", true, adds(policystore.Rows{Assignments: []rbac.Assignment{has("u-bob", "porter")}})},
		{"another's rule", false, adds(rules(may("billing", "bill", access.Update, access.Payment)))},
		{"a rule of their role in another tenant", false, adds(rules(in(other, may("nurse", "bill", access.Update, access.Payment))))},
		{"a rule of their role off", false, takes(rules(in(tenant, may("charge-nurse", "bill", access.Read, access.Payment))))},
		{"a denying rule", false, adds(rules(not(may("nurse", "bill", access.Delete, access.Treatment))))},
		{"another's role", false, adds(policystore.Rows{Assignments: []rbac.Assignment{has("u-fay", "nurse")}})},
	} {
		id := propose(t, w.Store, "u-alice", tt.c)
		approvers := []context.Context{as(t, "u-bob", access.SystemAdmin)}
		if tt.own { // whatever roles the session names; somebody else does it
			for _, bob := range append(approvers, narrow) {
				if n, err := w.Approve(bob, id); !errors.Is(err, policystore.ErrOwn) {
					t.Errorf("%s: Approve = %d, %v; want ErrOwn", tt.name, n, err)
				}
			}
			approvers[0] = as(t, "u-dora", access.SystemAdmin)
		}
		if _, err := w.Approve(approvers[0], id); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}

	// Where a sign-in elsewhere brings the roles, they are those of the session.
	brought := newWorld(t, sqliteFile(t), func(c *policystore.Config) { c.PrincipalRoles = true })
	begin.Assignments = nil
	if _, err := brought.Init(job(t), begin, "deploy-1"); err != nil {
		t.Fatal(err)
	}
	with := func(user string, roles ...string) context.Context {
		return access.With(t.Context(), access.Principal{ID: user, Tenant: tenant, Kind: access.Human, Roles: roles}, access.SystemAdmin)
	}
	id, err := brought.Propose(with("u-alice", "security"), adds(rules(may("nurse", "patient", access.Update, access.Operations))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := brought.Approve(with("u-bob", "approver", "charge-nurse"), id); !errors.Is(err, policystore.ErrOwn) {
		t.Errorf("a rule of a role that the session's includes: %v", err)
	}
	if _, err := brought.Approve(with("u-bob", "approver"), id); err != nil {
		t.Error(err)
	}
}

// TestNobodyApprovesForRolesOfAGrant: a role that the approver has by a live grant
// is one of theirs, and who does not know whether there is one approves nothing.
func TestNobodyApprovesForRolesOfAGrant(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	if err := accessstore.Migrate(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	var n *dutiful
	var away error
	n = w.dutiful(t, func(c *policystore.Config) {
		c.Elevated = func(ctx context.Context, in, user string) ([]string, error) {
			if away != nil {
				return nil, away
			}
			return n.desk.Elevated(ctx, in, user)
		}
	})
	rule := func(role, resource string) policystore.Change {
		r := rbac.Rule{Role: role, Resources: []string{resource}, Actions: []access.Action{access.Update}, Purposes: []access.Purpose{access.Operations}}
		return policystore.Change{Add: policystore.Rows{Rules: []rbac.Rule{r}}, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	link := func(role, inherits string) policystore.Change {
		return policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: role, Inherits: inherits}}}, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	bob, carol := as(t, "u-bob", access.SystemAdmin), as(t, "u-carol", access.SystemAdmin)
	before := propose(t, n.Store, "u-alice", rule("buyer", "bill"))
	if _, err := n.Approve(bob, before); err != nil {
		t.Errorf("without a grant: %v", err)
	}
	granted := n.requested(t, "u-bob")
	if err := n.grants(t, granted); err != nil {
		t.Fatal(err)
	}
	for _, c := range []policystore.Change{rule("buyer", "order"), link("buyer", "clerk"), rule("clerk", "order")} { // clerk by the link, once it is there
		id := propose(t, n.Store, "u-alice", c)
		if rev, err := n.Approve(bob, id); !errors.Is(err, policystore.ErrOwn) {
			t.Errorf("%+v: Approve = %d, %v; want ErrOwn", c.Add, rev, err)
		}
		if _, err := n.Approve(carol, id); err != nil {
			t.Errorf("somebody else: %v", err)
		}
	}
	away = errors.New("the grants cannot be read")
	id := propose(t, n.Store, "u-alice", give("u-fay", "nurse"))
	if rev, err := n.Approve(bob, id); !errors.Is(err, away) {
		t.Errorf("where the grants cannot be read: Approve = %d, %v", rev, err)
	}
	away = nil
	if _, err := n.Approve(bob, id); err != nil {
		t.Error(err)
	}
}

// TestNobodyApprovesForRolesToCome: of two changes that come to a right of the
// approver only together, the approver approves neither while both wait.
func TestNobodyApprovesForRolesToCome(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		bob := as(t, "u-bob", access.SystemAdmin)
		adds := func(r policystore.Rows) policystore.Change {
			return policystore.Change{Add: r, Reason: audit.ReasonAmended, Reference: "ticket-5"}
		}
		rule := func(role string) policystore.Change {
			return adds(policystore.Rows{Rules: []rbac.Rule{{Role: role, Resources: []string{"patient"}, Actions: []access.Action{access.Update}, Purposes: []access.Purpose{access.Treatment}}}})
		}
		link := func(role, inherits string) policystore.Change {
			return adds(policystore.Rows{Links: []rbac.Link{{Role: role, Inherits: inherits}}})
		}
		elsewhere := give("u-bob", "empty")
		elsewhere.Add.Assignments[0].Tenant = other
		for _, tt := range []struct {
			name    string
			waiting []policystore.Change
			c       policystore.Change
			own     bool
		}{
			{"a role", []policystore.Change{give("u-bob", "empty")}, rule("empty"), true},
			{"a role by a role, which comes too", []policystore.Change{give("u-bob", "full"), link("full", "empty")}, rule("empty"), true},
			{"what a role of theirs includes", []policystore.Change{link("approver", "empty")}, rule("empty"), true},
			{"a link of a role to come", []policystore.Change{give("u-bob", "empty")}, link("empty", "nurse"), true},
			{"another's role", []policystore.Change{give("u-fay", "empty")}, rule("empty"), false},
			{"a role in another tenant", []policystore.Change{elsewhere}, rule("empty"), false},
			{"another role", []policystore.Change{give("u-bob", "clerk"), link("nurse", "empty")}, rule("empty"), false},
		} {
			var waiting []string
			for _, c := range tt.waiting {
				waiting = append(waiting, propose(t, w.Store, "u-alice", c))
			}
			id := propose(t, w.Store, "u-alice", tt.c)
			if tt.own {
				if n, err := w.Approve(bob, id); !errors.Is(err, policystore.ErrOwn) {
					t.Fatalf("%s: Approve = %d, %v; want ErrOwn", tt.name, n, err)
				}
			}
			// What is decided gives nobody a role that waits.
			for _, id := range waiting {
				if tt.own {
					if err := w.Reject(bob, id); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := w.Approve(bob, id); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			for _, id := range waiting {
				if !tt.own {
					if err := w.Reject(bob, id); err != nil {
						t.Fatal(err)
					}
				}
			}
			back := tt.c
			back.Add, back.Remove = back.Remove, back.Add
			if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), back); err != nil {
				t.Fatal(err)
			}
		}

		// Nor does one that can be approved no more.
		propose(t, w.Store, "u-alice", give("u-bob", "empty"))
		w.clock.forward(14*24*time.Hour + time.Minute)
		if _, err := w.Approve(bob, propose(t, w.Store, "u-alice", rule("empty"))); err != nil {
			t.Errorf("beside one that is too old: %v", err)
		}
	})
}

// TestWhoIsActedForApprovesNothing that was proposed for them.
func TestWhoIsActedForApprovesNothing(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	forCarol := access.With(t.Context(), access.Principal{ID: "u-alice", Tenant: tenant, Kind: access.Human, OnBehalf: "u-carol", OnBehalfKind: access.Human}, access.SystemAdmin)
	ids := make([]string, 2)
	for i := range ids {
		var err error
		if ids[i], err = w.Propose(forCarol, give("u-fay", "nurse")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Approve(as(t, "u-carol", access.SystemAdmin), ids[0]); !errors.Is(err, policystore.ErrOwn) {
		t.Errorf("what was proposed on her behalf: %v", err)
	}
	if got, err := w.Pending(as(t, "u-bob", access.SystemAdmin)); err != nil || len(got) != 2 || got[0].OnBehalf != "u-carol" {
		t.Errorf("Pending = %+v, %v", got, err)
	}
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), ids[0]); err != nil {
		t.Error(err)
	}
	if out, err := w.Terminate(as(t, "u-alice", access.SystemAdmin), tenant, "u-carol"); err != nil || out.Proposals != 1 {
		t.Errorf("Terminate of whom it was for = %+v, %v", out, err)
	}
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), ids[1]); !errors.Is(err, policystore.ErrNoProposal) {
		t.Errorf("after that: %v", err)
	}
}

// TestAnAuthorWithoutTheRight is no second person any more: what they proposed
// waits until they have it again.
func TestAnAuthorWithoutTheRight(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	bob := as(t, "u-bob", access.SystemAdmin)
	id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
	if _, err := w.Apply(as(t, "u-carol", access.SystemAdmin), take("u-alice", "security")); err != nil {
		t.Fatal(err)
	}
	w.db.Trail.Reset()
	if _, err := w.Approve(bob, id); !errors.Is(err, policystore.ErrNoProposal) || !errors.Is(err, access.ErrDenied) {
		t.Errorf("Approve = %v", err)
	}
	audittest.Want(t, w.db.Trail, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Code: access.DenyDuty, Action: policystore.Approve})
	back := propose(t, w.Store, "u-carol", give("u-alice", "security"))
	for _, id := range []string{back, id} {
		if _, err := w.Approve(bob, id); err != nil {
			t.Error(err)
		}
	}
}
