// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
)

// TestNobodyApprovesTheirOwn: who approves is a human, not the author, gains
// nothing by it, has the right to, and is of the tenant.
func TestNobodyApprovesTheirOwn(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	carol := func(c policystore.Change) string { return propose(t, w.Store, "u-carol", c) }
	service := access.With(t.Context(), access.Principal{ID: "u-bob", Tenant: tenant, Kind: access.Service}, access.SystemAdmin)
	for _, tt := range []struct {
		name string
		id   string
		ctx  context.Context
		want error
	}{
		{"the author", carol(give("u-fay", "nurse")), as(t, "u-carol", access.SystemAdmin), policystore.ErrOwn},
		{"who gets the role", carol(give("u-bob", "nurse")), as(t, "u-bob", access.SystemAdmin), policystore.ErrOwn},
		{"a program", carol(give("u-fay", "nurse")), service, policystore.ErrOwn},
		{"who acts for the author", carol(give("u-fay", "nurse")), access.With(t.Context(), access.Principal{ID: "u-bob", Tenant: tenant, Kind: access.Human,
			OnBehalf: "u-carol", OnBehalfKind: access.Human}, access.SystemAdmin), policystore.ErrOwn},
		{"who may not", carol(give("u-fay", "nurse")), as(t, "u-alice", access.SystemAdmin), access.ErrDenied},
		{"for another purpose", carol(give("u-fay", "nurse")), as(t, "u-bob", access.Operations), access.ErrDenied},
		{"another tenant", carol(give("u-fay", "nurse")), as(t, "u-oscar", access.SystemAdmin), policystore.ErrNoProposal},
		{"nobody", carol(give("u-fay", "nurse")), t.Context(), access.ErrNoPrincipal},
		{"what is not there", "0190a9c4-0000-7000-8000-000000000000", as(t, "u-bob", access.SystemAdmin), policystore.ErrNoProposal},
	} {
		if n, err := w.Approve(tt.ctx, tt.id); !errors.Is(err, tt.want) {
			t.Errorf("%s: Approve = %d, %v; want %v", tt.name, n, err, tt.want)
		}
	}
	if w.Current() != 1 {
		t.Fatalf("revision %d", w.Current())
	}
	audittest.Want(t, w.db.Trail, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Code: access.DenyDuty, Action: policystore.Approve})

	id := carol(give("u-fay", "nurse"))
	w.clock.forward(15 * 24 * time.Hour)
	eventually(t, "a fresh poll", func() bool { return w.Ready() == nil })
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); !errors.Is(err, policystore.ErrNoProposal) {
		t.Errorf("after it expired: %v", err)
	}
	id = carol(give("u-fay", "nurse"))
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
		t.Error(err)
	}
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); !errors.Is(err, policystore.ErrNoProposal) {
		t.Errorf("once more: %v", err)
	}
	id = carol(give("u-gus", "nurse"))
	if err := w.Reject(as(t, "u-alice", access.SystemAdmin), id); !errors.Is(err, access.ErrDenied) {
		t.Errorf("Reject by who may not: %v", err)
	}
	if err := w.Reject(as(t, "u-carol", access.SystemAdmin), id); err != nil {
		t.Errorf("Reject by its author: %v", err)
	}
	if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); !errors.Is(err, policystore.ErrNoProposal) {
		t.Errorf("what was rejected: %v", err)
	}
}

// TestWhatNeedsApproval: under each setting, what gives and what takes.
func TestWhatNeedsApproval(t *testing.T) {
	t.Parallel()
	rule := rbac.Rule{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}}
	denying, more := rule, rule
	denying.Deny, more.Resources = true, []string{"bill"}
	amend := func(c policystore.Change) policystore.Change {
		c.Reason, c.Reference = audit.ReasonAmended, "ticket-4"
		return c
	}
	rules := func(r ...rbac.Rule) policystore.Rows { return policystore.Rows{Rules: r} }
	d := sqliteFile(t)
	w := initiated(t, d, nil)
	strict := w.join(t, func(c *policystore.Config) { c.Approval = policystore.ApproveAll })
	alice := as(t, "u-alice", access.SystemAdmin)
	for _, tt := range []struct {
		name  string
		c     policystore.Change
		gives bool
	}{
		{"a role for a user", give("u-fay", "nurse"), true},
		{"an allowing rule", amend(policystore.Change{Add: rules(more)}), true},
		{"a link", amend(policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: "porter", Inherits: "nurse"}}}}), true},
		{"a role of a user taken away", take("u-nora", "nurse"), false},
		{"one for another", func() policystore.Change {
			c := take("u-carol", "security")
			c.Add = give("u-carol", "nurse").Add
			return c
		}(), true},
		{"a link taken away", amend(policystore.Change{Remove: policystore.Rows{Links: first().Links}}), false},
		{"a denying rule", amend(policystore.Change{Add: rules(denying)}), false},
		{"a denying rule taken away", amend(policystore.Change{Remove: rules(denying)}), true},
	} {
		if _, err := strict.Apply(alice, tt.c); !errors.Is(err, policystore.ErrApproval) {
			t.Errorf("%s, where all is approved: %v", tt.name, err)
		}
		switch n, err := w.Apply(alice, tt.c); {
		case tt.gives && !errors.Is(err, policystore.ErrApproval):
			t.Errorf("%s: Apply = %d, %v; want ErrApproval", tt.name, n, err)
		case !tt.gives && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// What only takes away can be proposed and approved as well.
	id := propose(t, strict, "u-alice", take("u-carol", "security"))
	if _, err := strict.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
		t.Error(err)
	}
}

// TestWhoIsDeniedByARoleKeepsIt: to take off a role that denies gives what
// another role allows, so that nobody does it alone.
func TestWhoIsDeniedByARoleKeepsIt(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	alice, bob := as(t, "u-alice", access.SystemAdmin), as(t, "u-bob", access.SystemAdmin)
	links := []rbac.Link{{Role: "on-leave", Inherits: "suspended"}}
	has := func(role string) []rbac.Assignment {
		return []rbac.Assignment{{Tenant: tenant, User: "u-nora", Role: role}}
	}
	id := propose(t, w.Store, "u-alice", policystore.Change{Reason: audit.ReasonIncident, Reference: "ticket-5", Add: policystore.Rows{
		Rules:       []rbac.Rule{{Role: "suspended", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}, Deny: true}},
		Links:       links,
		Assignments: has("on-leave"),
	}})
	if _, err := w.Approve(bob, id); err != nil {
		t.Fatal(err)
	}
	if got := w.nora(t); got != access.DenyRule {
		t.Fatalf("nora, who is on leave: %s", got)
	}
	for name, off := range map[string]policystore.Rows{
		"the role":          {Assignments: has("on-leave")},
		"what it inherits":  {Links: links},
		"it, and not nurse": {Assignments: has("on-leave"), Links: links},
	} {
		if n, err := w.Apply(alice, policystore.Change{Remove: off, Reason: audit.ReasonMoved, Reference: "ticket-6"}); !errors.Is(err, policystore.ErrApproval) {
			t.Errorf("%s: Apply = %d, %v; want ErrApproval", name, n, err)
		}
	}
	if got := w.nora(t); got != access.DenyRule {
		t.Errorf("nora: %s", got)
	}
	both := policystore.Rows{Assignments: append(has("on-leave"), has("nurse")...)}
	if _, err := w.Apply(alice, policystore.Change{Remove: both, Reason: audit.ReasonMoved, Reference: "ticket-7"}); err != nil {
		t.Errorf("every role: %v", err)
	}
}

// TestATenantChangesItsOwn: who is of no Operator changes nothing that holds
// elsewhere.
func TestATenantChangesItsOwn(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	olga, oscar := as(t, "u-olga", access.SystemAdmin), as(t, "u-oscar", access.SystemAdmin)
	own := rbac.Rule{Role: "clerk", Tenant: other, Resources: []string{"bill"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Payment}}
	every := own
	every.Tenant = ""
	elsewhere := own
	elsewhere.Tenant = tenant
	change := func(r policystore.Rows) policystore.Change {
		return policystore.Change{Add: r, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	for name, rows := range map[string]policystore.Rows{
		"a rule of every tenant":         {Rules: []rbac.Rule{every}},
		"a rule of another tenant":       {Rules: []rbac.Rule{elsewhere}},
		"a link of every tenant":         {Links: []rbac.Link{{Role: "clerk", Inherits: "security"}}},
		"a user of another tenant":       give("u-fay", "nurse").Add,
		"its own and another's together": {Rules: []rbac.Rule{own, elsewhere}},
	} {
		if _, err := w.Propose(olga, change(rows)); !errors.Is(err, access.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Apply(olga, take("u-nora", "nurse")); !errors.Is(err, access.ErrDenied) {
		t.Errorf("another tenant's user: %v", err)
	}
	if _, err := w.Terminate(olga, tenant, "u-nora"); !errors.Is(err, access.ErrDenied) {
		t.Errorf("another tenant's user terminated: %v", err)
	}
	id, err := w.Propose(olga, change(policystore.Rows{Rules: []rbac.Rule{own}, Assignments: []rbac.Assignment{{Tenant: other, User: "u-otto", Role: "clerk"}}}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Pending(oscar); err != nil || len(got) != 1 || got[0].ID != id || len(got[0].Added) != 2 {
		t.Errorf("Pending = %+v, %v", got, err)
	}
	if got, err := w.Pending(as(t, "u-carol", access.SystemAdmin)); err != nil || len(got) != 1 {
		t.Errorf("the operator's Pending = %+v, %v", got, err)
	}
	if _, err := w.Approve(oscar, id); err != nil {
		t.Fatal(err)
	}
	otto := as(t, "u-otto", access.Payment)
	if got := code(t, w, otto, access.Read, "bill"); got != access.AllowRule {
		t.Errorf("otto reads bills: %s", got)
	}
	if got, err := w.History(oscar, 0, 10); err != nil || len(got) != 1 || got[0].Approver != "u-oscar" {
		t.Errorf("another tenant's History = %+v, %v", got, err)
	}
	if got, err := w.History(as(t, "u-carol", access.SystemAdmin), 2, 10); err != nil || len(got) != 1 || got[0].Revision != 1 {
		t.Errorf("the operator's History before 2 = %+v, %v", got, err)
	}
	alone, err := policystore.New(w.config(func(c *policystore.Config) { c.Operator = "" }))
	if err != nil {
		t.Fatal(err)
	}
	if err := alone.Open(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := alone.Propose(as(t, "u-alice", access.SystemAdmin), change(policystore.Rows{Rules: []rbac.Rule{every}})); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a rule of every tenant without an operator: %v", err)
	}
}

// TestWhoMayNotReadsNothing of the policy, and changes nothing; each try is on
// record.
func TestWhoMayNotReadsNothing(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
	nora := as(t, "u-nora", access.SystemAdmin)
	for name, f := range map[string]func(ctx context.Context) error{
		"Apply":     func(ctx context.Context) error { _, err := w.Apply(ctx, take("u-nora", "nurse")); return err },
		"Propose":   func(ctx context.Context) error { _, err := w.Propose(ctx, give("u-nora", "security")); return err },
		"Approve":   func(ctx context.Context) error { _, err := w.Approve(ctx, id); return err },
		"Reject":    func(ctx context.Context) error { return w.Reject(ctx, id) },
		"Terminate": func(ctx context.Context) error { _, err := w.Terminate(ctx, tenant, "u-bob"); return err },
		"Pending":   func(ctx context.Context) error { _, err := w.Pending(ctx); return err },
		"History":   func(ctx context.Context) error { _, err := w.History(ctx, 0, 1); return err },
		"Verify":    func(ctx context.Context) error { _, err := w.Verify(ctx); return err },
		"Report":    func(ctx context.Context) error { _, err := w.Report(ctx); return err },
	} {
		w.db.Trail.Reset()
		if err := f(nora); !errors.Is(err, access.ErrDenied) {
			t.Errorf("%s = %v", name, err)
		}
		audittest.Want(t, w.db.Trail, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy})
		if err := f(t.Context()); !errors.Is(err, access.ErrNoPrincipal) {
			t.Errorf("%s without a principal = %v", name, err)
		}
	}
	if _, err := w.Init(nora, first(), "deploy-2"); err == nil {
		t.Error("Init by a human")
	}
	if n, err := w.Init(job(t), policystore.Rows{Rules: rbac.StarterRules()}, "deploy-2"); n != 1 || err != nil || w.nora(t) != access.AllowRule {
		t.Errorf("a second Init = %d, %v: want the first policy", n, err)
	}
}

// TestBadChangesAreRefused, with what is wrong, and leave nothing.
func TestBadChangesAreRefused(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), func(c *policystore.Config) {
		c.Approval, c.Deviations = policystore.ApproveNone, []access.Deviation{oneAdmin()}
	})
	rule := func(change func(*rbac.Rule)) policystore.Change {
		r := rbac.Rule{Role: "nurse", Resources: []string{"bill"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}}
		change(&r)
		return policystore.Change{Add: policystore.Rows{Rules: []rbac.Rule{r}}, Reason: audit.ReasonAmended, Reference: "ticket-6"}
	}
	with := func(c policystore.Change, f func(*policystore.Change)) policystore.Change { f(&c); return c }
	links := func(all ...rbac.Link) policystore.Change {
		return policystore.Change{Add: policystore.Rows{Links: all}, Reason: audit.ReasonAmended, Reference: "ticket-6"}
	}
	for _, tt := range []struct {
		name, want string
		is         error
		c          policystore.Change
	}{
		{"nothing", "are empty", policystore.ErrInvalid, policystore.Change{Reason: audit.ReasonAmended, Reference: "t-1"}},
		{"no reason", "Change.Reason", policystore.ErrInvalid, with(give("u-fay", "nurse"), func(c *policystore.Change) { c.Reason = "" })},
		{"another's reason", "Change.Reason", policystore.ErrInvalid, with(give("u-fay", "nurse"), func(c *policystore.Change) { c.Reason = audit.ReasonPassword })},
		{"no reference", "Change.Reference is empty", policystore.ErrInvalid, with(give("u-fay", "nurse"), func(c *policystore.Change) { c.Reference = "" })},
		{"a reference that names somebody", "Change.Reference looks like", policystore.ErrInvalid, with(give("u-fay", "nurse"), func(c *policystore.Change) { c.Reference = "MRN-00123" })},
		{"no user", "is empty", policystore.ErrInvalid, give("", "nurse")},
		{"a user by mail address", "looks like an e-mail", policystore.ErrInvalid, give("fay@example.org", "nurse")},
		{"a role with a space", "a user or role has", policystore.ErrInvalid, give("u-fay", "charge nurse")},
		{"a user of every tenant", "Tenant has", policystore.ErrInvalid, policystore.Change{Add: policystore.Rows{Assignments: []rbac.Assignment{{Tenant: "*", User: "u-fay", Role: "nurse"}}}, Reason: audit.ReasonJoined, Reference: "t-1"}},
		{"a rule without actions", "no Resources, Actions or Purposes", policystore.ErrInvalid, rule(func(r *rbac.Rule) { r.Actions = nil })},
		{"an unknown purpose", "purpose", policystore.ErrInvalid, rule(func(r *rbac.Rule) { r.Purposes = []access.Purpose{"CURIOSITY"} })},
		{"a pattern that the model compares as text", "*", policystore.ErrInvalid, rule(func(r *rbac.Rule) { r.Resources = []string{"pat*"} })},
		{"a resource of 300 bytes", "more than 255 bytes", policystore.ErrInvalid, rule(func(r *rbac.Rule) { r.Resources = []string{strings.Repeat("a", 300)} })},
		{"a role of 65 bytes", "more than 64 bytes", policystore.ErrInvalid, rule(func(r *rbac.Rule) { r.Role = strings.Repeat("a", 65) })},
		{"a line break", "", policystore.ErrInvalid, rule(func(r *rbac.Rule) { r.Resources = []string{"a\nb"} })},
		{"a circle of roles", "cycle", policystore.ErrInvalid, links(rbac.Link{Role: "nurse", Inherits: "charge-nurse"})},
		{"what is there", "there already", policystore.ErrConflict, give("u-nora", "nurse")},
		{"what is not there", "not there", policystore.ErrConflict, take("u-nora", "billing")},
		{"added and taken away", "edited twice", policystore.ErrConflict, with(give("u-nora", "nurse"), func(c *policystore.Change) { c.Remove = c.Add })},
		{"a policy without rules", "no row", policystore.ErrInvalid, policystore.Change{Remove: policystore.Rows{Rules: first().Rules}, Reason: audit.ReasonAmended, Reference: "t-1"}},
	} {
		for way, f := range map[string]func() error{
			"Apply":   func() error { _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), tt.c); return err },
			"Propose": func() error { _, err := w.Propose(as(t, "u-alice", access.SystemAdmin), tt.c); return err },
		} {
			if err := f(); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s of %s = %v, want %q", way, tt.name, err, tt.want)
			}
		}
	}
	if w.Current() != 1 {
		t.Errorf("revision %d", w.Current())
	}
	if v, err := w.Verify(as(t, "u-alice", access.SystemAdmin)); err != nil || !v.OK() || v.Changes != 1 {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	if got, err := w.Pending(as(t, "u-alice", access.SystemAdmin)); err != nil || len(got) != 0 {
		t.Errorf("Pending = %+v, %v", got, err)
	}
	if _, err := w.Init(job(t), policystore.Rows{}, "deploy-2"); !errors.Is(err, policystore.ErrInvalid) {
		t.Errorf("Init of nothing = %v", err)
	}
}

// TestConcurrentWriters: changes from several goroutines of two processes all
// come, one after the other; of those that the first one rules out none comes.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		// Nobody has both roles: static separation of duties.
		apart := func(c *policystore.Config) {
			c.Approval, c.Deviations = policystore.ApproveNone, []access.Deviation{oneAdmin()}
			c.Validate = func(_ context.Context, _ *gorm.DB, after policystore.Rows) error {
				has := map[string]string{}
				for _, a := range after.Assignments {
					if before := has[a.User]; before != "" && (a.Role == "payer" || before == "payer") {
						return fmt.Errorf("%s is %s and %s", a.User, before, a.Role)
					}
					has[a.User] = a.Role
				}
				return nil
			}
		}
		w := initiated(t, d, nil)
		if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-carol", "security")); err != nil {
			t.Fatal(err)
		}
		stores := []*policystore.Store{w.join(t, apart), w.join(t, apart)}
		const users = 6
		won := make([][2]error, users)
		var wg sync.WaitGroup
		for u := range users {
			for i, role := range []string{"payer", "buyer"} {
				wg.Go(func() {
					_, won[u][i] = stores[(u+i)%2].Apply(as(t, "u-alice", access.SystemAdmin), give(fmt.Sprintf("u-%d", u), role))
				})
			}
		}
		wg.Wait()
		for u, errs := range won {
			if err := errors.Join(errs[:]...); (errs[0] == nil) == (errs[1] == nil) || !errors.Is(err, policystore.ErrInvalid) {
				t.Errorf("user %d: %v and %v: want one of the two, and the other refused by Validate", u, errs[0], errs[1])
			}
		}
		for _, s := range stores {
			eventually(t, "both have all changes", func() bool { return s.Current() == 2+users })
		}
		if err := storage.Settle(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		v, err := w.Verify(as(t, "u-alice", access.SystemAdmin), w.db.Trail)
		if err != nil || !v.OK() || v.Changes != 2+users {
			t.Errorf("Verify = %+v, %v", v, err)
		}
	})
}

// TestAChangeThatFailsLeavesNothing: where it cannot be recorded, where it is
// refused at the end, and where a table fails.
func TestAChangeThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		second := w.join(t, nil)
		no := errors.New("separation of duties")
		strict := w.join(t, func(c *policystore.Config) {
			c.Validate = func(context.Context, *gorm.DB, policystore.Rows) error { return no }
		})
		id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
		alice, bob := as(t, "u-alice", access.SystemAdmin), as(t, "u-bob", access.SystemAdmin)
		tries := map[string]func(s *policystore.Store) error{
			"Apply":   func(s *policystore.Store) error { _, err := s.Apply(alice, take("u-nora", "nurse")); return err },
			"Approve": func(s *policystore.Store) error { _, err := s.Approve(bob, id); return err },
		}
		for name, try := range tries {
			if err := try(strict); !errors.Is(err, no) || !errors.Is(err, policystore.ErrInvalid) {
				t.Errorf("%s that Validate refuses = %v", name, err)
			}
			w.db.Trail.Fail(errors.New("the disk is full"))
			if err := try(w.Store); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("%s without a trail = %v", name, err)
			}
			if _, err := w.Propose(alice, give("u-gus", "nurse")); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("Propose without a trail = %v", err)
			}
			w.db.Trail.Fail(nil)
		}
		// The last statement of the transaction fails.
		if err := w.db.Callback().Update().Before("gorm:update").Register("fails", func(tx *gorm.DB) {
			if tx.Statement.Table == "policy_revision" {
				_ = tx.AddError(no)
			}
		}); err != nil {
			t.Fatal(err)
		}
		for name, try := range tries {
			if err := try(w.Store); !errors.Is(err, no) {
				t.Errorf("%s whose last statement fails = %v", name, err)
			}
		}
		w.db.Callback().Update().Remove("fails")
		if err := storage.Settle(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		undone := 0
		for _, ev := range w.db.Trail.Events() {
			if ev.Type == audit.RolledBack {
				undone++
			}
		}
		if undone != 2 {
			t.Errorf("%d attempts rolled back, want 2", undone)
		}
		if w.Current() != 1 || second.Current() != 1 || w.nora(t) != access.AllowRule {
			t.Errorf("revisions %d and %d, nora: %s", w.Current(), second.Current(), w.nora(t))
		}
		if v, err := w.Verify(alice, w.db.Trail); err != nil || !v.OK() || v.Changes != 1 {
			t.Errorf("Verify = %+v, %v", v, err)
		}
		if got, err := w.Pending(alice); err != nil || len(got) != 1 {
			t.Errorf("Pending = %+v, %v", got, err)
		}
		for name, try := range tries { // and now they go
			if err := try(w.Store); err != nil {
				t.Errorf("%s = %v", name, err)
			}
		}
	})
}

// TestConfigIsChecked names each bad field.
func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*policystore.Config){
		"Config.Audit":          func(c *policystore.Config) { c.Audit = nil },
		"Config.Poll":           func(c *policystore.Config) { c.Poll = -1 },
		"Config.Model":          func(c *policystore.Config) { c.Model = "[request_definition]\nr = sub, obj, act\n" },
		"Config.Wait":           func(c *policystore.Config) { c.Wait = -1 },
		"Config.ProposalTTL":    func(c *policystore.Config) { c.ProposalTTL = -1 },
		"Config.MaxStale":       func(c *policystore.Config) { c.MaxStale = time.Second },
		"Config.Approval is no": func(c *policystore.Config) { c.Approval = "some" },
		"164.308(a)(4)":         func(c *policystore.Config) { c.Approval = policystore.ApproveNone },
		"Config.Operator":       func(c *policystore.Config) { c.Operator = "a b" },
		"Config.Deviations":     func(c *policystore.Config) { c.Deviations = []access.Deviation{{}} },
		"Config.Holders[0]":     func(c *policystore.Config) { c.Holders = []policystore.Holder{nil} },
		"Config.Shadow":         func(c *policystore.Config) { c.Shadow = 1 },
	} {
		cfg := policystore.Config{Audit: audittest.New(t)}
		change(&cfg)
		if _, err := policystore.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q", err, want)
		}
	}
	if _, err := policystore.New(policystore.Config{Audit: audittest.New(t)}); err != nil {
		t.Errorf("the zero value of all but Audit: %v", err)
	}
	s, err := policystore.New(policystore.Config{Audit: audittest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context(), nil); err == nil {
		t.Error("Open without a database")
	}
	if err := policystore.Migrate(t.Context(), nil); err == nil {
		t.Error("Migrate without a database")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
