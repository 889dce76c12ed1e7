// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/internal/again"
	"github.com/part164/part164/storage/policystore"
)

// A dutiful node is a store of the policy and a desk of grants over one
// database, as a process has them, with roles that exclude each other: payer, by
// chief-payer too, and buyer, by a grant too.
type dutiful struct {
	*policystore.Store
	desk   *grant.Desk
	inside func() // called in the transaction of a change, once it is asked about
}

func (w *world) dutiful(t *testing.T, change func(*policystore.Config)) *dutiful {
	t.Helper()
	n := &dutiful{}
	grants := accessstore.New(w.db.DB)
	var duties *duty.Separation
	var err error
	n.desk, err = grant.New(grant.Config{
		Store: grants.Grants(), Audit: w.db.Trail, Roles: func(_ context.Context, p access.Principal) ([]string, error) { return p.Roles, nil },
		Elevations: []grant.Elevation{{Role: "buyer", Requesters: []string{"front-desk"}, Approvers: []string{"officer"}, MaxTTL: time.Hour, Purposes: []access.Purpose{access.Operations}}},
		Duties: func(ctx context.Context, in, holder string, byGrant []string) error {
			return duties.Elevate(ctx, in, holder, byGrant)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Store = w.join(t, func(c *policystore.Config) {
		c.LockRoles = grants.LockRoles
		c.Assign = func(ctx context.Context, in, user string, roles []string) error {
			if n.inside != nil {
				n.inside()
			}
			return duties.Assign(ctx, in, user, roles)
		}
		change(c)
	})
	duties, err = duty.New(duty.Config{
		Exclusive: []duty.Exclusion{{Name: "pay_buy", Roles: []string{"payer", "buyer"}}},
		Limits:    []duty.Limit{{Role: "chief-payer", Max: 2}},
		Assigned:  n.Assigned, Elevated: n.desk.Elevated, Holders: n.Holders,
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// person is somebody whose sign-in brings a role.
func person(t *testing.T, id, role string) context.Context {
	return access.With(t.Context(), access.Principal{ID: id, Tenant: tenant, Kind: access.Human, Roles: []string{role}}, access.Operations)
}

// requested is a grant of the role buyer that waits for approval.
func (n *dutiful) requested(t *testing.T, user string) string {
	t.Helper()
	g, err := n.desk.Request(person(t, user, "front-desk"), grant.Request{Role: "buyer", Reason: audit.ReasonIndividual})
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// grants approves a grant, again where the database has undone that.
func (n *dutiful) grants(t *testing.T, id string) error {
	for {
		if _, err := n.desk.Approve(person(t, "u-officer", "officer"), id); err == nil || !again.InTheWay(err) {
			return err
		}
	}
}

// TestDutiesOfThePolicy: roles that exclude each other (access/duty) are given to
// nobody: by a role that includes one of them, beside a live grant, by a link that
// would bring the other, nor by two processes at once.
func TestDutiesOfThePolicy(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		if err := accessstore.Migrate(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		alone := func(c *policystore.Config) {
			c.Approval, c.Deviations = policystore.ApproveNone, []access.Deviation{oneAdmin()}
		}
		if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-carol", "security")); err != nil {
			t.Fatal(err)
		}
		alice := as(t, "u-alice", access.SystemAdmin)
		one, two := w.dutiful(t, alone), w.dutiful(t, alone)
		link := policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: "chief-payer", Inherits: "payer"}}}, Reason: audit.ReasonAmended, Reference: "ticket-3"}
		for _, c := range []policystore.Change{link, give("u-chief", "chief-payer")} {
			if _, err := one.Apply(alice, c); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := two.Apply(alice, give("u-chief", "buyer")); !errors.Is(err, duty.ErrConflict) || !errors.Is(err, policystore.ErrInvalid) {
			t.Errorf("a role beside one that includes its opposite = %v", err)
		}
		if _, err := two.Apply(alice, give("u-late", "clerk")); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Apply(alice, give("u-late", "buyer")); err != nil {
			t.Fatal(err)
		}
		brings := policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: "clerk", Inherits: "payer"}}}, Reason: audit.ReasonAmended, Reference: "ticket-4"}
		if _, err := two.Apply(alice, brings); !errors.Is(err, duty.ErrConflict) {
			t.Errorf("a link that brings the other role = %v", err)
		}

		// A role by a live grant is one too.
		id := two.requested(t, "u-elevated")
		if err := two.grants(t, id); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Apply(alice, give("u-elevated", "payer")); !errors.Is(err, duty.ErrConflict) {
			t.Errorf("a role beside the opposite one by a live grant = %v", err)
		}
		if _, err := two.desk.Revoke(person(t, "u-elevated", "front-desk"), id); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Apply(alice, give("u-elevated", "payer")); err != nil {
			t.Errorf("after its end: %v", err)
		}

		// Two processes at once: one of them.
		const users = 4
		won := make([][2]error, users)
		var wg sync.WaitGroup
		for u := range users {
			for i, role := range []string{"chief-payer", "buyer"} {
				wg.Go(func() {
					_, won[u][i] = []*dutiful{one, two}[(u+i)%2].Apply(alice, give(fmt.Sprintf("u-both-%d", u), role))
				})
			}
		}
		wg.Wait()
		for u, errs := range won {
			if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), duty.ErrConflict) {
				t.Errorf("user %d: %v and %v: want one of the two, and the other refused", u, errs[0], errs[1])
			}
		}
	})
}

// TestDutiesAcrossNodes: of two nodes that have not heard of each other's changes
// since they started, one gives a role and the other its opposite: by proposals,
// by a role link, by a grant; in both orders and at once. One of the two holds.
func TestDutiesAcrossNodes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		if err := accessstore.Migrate(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		slow := func(c *policystore.Config) { c.Poll, c.MaxStale = time.Hour, 2*time.Hour }
		one, two := w.dutiful(t, slow), w.dutiful(t, slow)
		approve := func(n *dutiful, by string, c policystore.Change) func() error {
			id := propose(t, w.Store, "u-alice", c)
			return func() error { _, err := n.Approve(as(t, by, access.SystemAdmin), id); return err }
		}
		want := func(c policystore.Change, n *dutiful) {
			t.Helper()
			if err := approve(n, "u-bob", c)(); err != nil {
				t.Fatal(err)
			}
		}
		link := func(from, to string) policystore.Change {
			return policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: from, Inherits: to}}}, Reason: audit.ReasonAmended, Reference: "ticket-3"}
		}
		want(link("chief-payer", "payer"), one)
		ways := map[string]func(user string) (first, second func() error){
			"two proposals": func(user string) (_, _ func() error) {
				return approve(one, "u-bob", give(user, "payer")), approve(two, "u-carol", give(user, "buyer"))
			},
			"a proposal and a grant": func(user string) (_, _ func() error) {
				id := two.requested(t, user)
				return approve(one, "u-bob", give(user, "payer")), func() error { return two.grants(t, id) }
			},
			"a role link and a grant": func(user string) (_, _ func() error) {
				want(give(user, "clerk-"+user), two)
				id := two.requested(t, user)
				return approve(one, "u-bob", link("clerk-"+user, "payer")), func() error { return two.grants(t, id) }
			},
			"a role link and a proposal": func(user string) (_, _ func() error) {
				want(give(user, "clerk-"+user), one)
				return approve(one, "u-bob", link("clerk-"+user, "payer")), approve(two, "u-carol", give(user, "buyer"))
			},
		}
		n := 0
		for way, acts := range ways {
			for _, order := range []string{"the one first", "the other first", "at once", "at once, again"} {
				n++
				first, second := acts(fmt.Sprintf("u-%d", n))
				var errs [2]error
				switch order {
				case "the one first":
					errs[0] = first()
					errs[1] = second()
				case "the other first":
					errs[1] = second()
					errs[0] = first()
				default:
					var wg sync.WaitGroup
					wg.Go(func() { errs[0] = first() })
					wg.Go(func() { errs[1] = second() })
					wg.Wait()
				}
				if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), duty.ErrConflict) {
					t.Errorf("%s, %s: %v and %v: want one of the two, and the other refused", way, order, errs[0], errs[1])
				}
			}
		}

		// A grant that comes while a change is about to be made waits for it.
		id := two.requested(t, "u-between")
		granted := make(chan error, 1)
		one.inside = func() {
			one.inside = nil
			go func() { granted <- two.grants(t, id) }()
			select {
			case err := <-granted:
				granted <- err
			case <-time.After(300 * time.Millisecond): // long enough for one that does not wait
			}
		}
		want(give("u-between", "payer"), one)
		if err := <-granted; !errors.Is(err, duty.ErrConflict) {
			t.Errorf("a grant while its opposite is being assigned = %v", err)
		}

		// A limit holds for those that one change gives a role together.
		three := give("u-l1", "chief-payer")
		for _, user := range []string{"u-l2", "u-l3"} {
			three.Add.Assignments = append(three.Add.Assignments, give(user, "chief-payer").Add.Assignments...)
		}
		if err := approve(two, "u-bob", three)(); !errors.Is(err, duty.ErrConflict) {
			t.Errorf("three of whom two may be chief-payer = %v", err)
		}
		want(give("u-l1", "chief-payer"), one)
		if got, err := two.Holders(t.Context(), tenant, "chief-payer"); err != nil || fmt.Sprint(got) != "[u-l1]" {
			t.Errorf("Holders = %v, %v", got, err)
		}
		if got, err := two.Assigned(t.Context(), tenant, "u-l1"); err != nil || fmt.Sprint(got) != "[chief-payer payer]" {
			t.Errorf("Assigned = %v, %v", got, err)
		}
		if got, err := two.Assigned(t.Context(), other, "u-l1"); err != nil || len(got) != 0 {
			t.Errorf("Assigned in another tenant = %v, %v", got, err)
		}

		// A role is taken away without asking, though what is left is no better.
		one.inside = func() { t.Error("asked about a role that is taken away") }
		if _, err := one.Apply(as(t, "u-alice", access.SystemAdmin), take("u-l1", "chief-payer")); err != nil {
			t.Error(err)
		}
		one.inside = nil

		// It waits for no second connection.
		pool, err := w.db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		id = two.requested(t, "u-pool")
		want(give("u-other", "payer"), one)
		pool.SetMaxOpenConns(1)
		defer pool.SetMaxOpenConns(0)
		ctx, cancel := context.WithTimeout(person(t, "u-officer", "officer"), 20*time.Second)
		defer cancel()
		if _, err := two.desk.Approve(ctx, id); err != nil {
			t.Errorf("with one connection: %v", err)
		}
	})
}
