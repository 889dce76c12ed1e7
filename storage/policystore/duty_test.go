// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/policystore"
)

// held are the roles of a user by the policy, with those that they include.
func held(rows policystore.Rows, user string) (out []string) {
	for _, a := range rows.Assignments {
		if a.Tenant == tenant && a.User == user {
			out = append(out, a.Role)
		}
	}
	for i := 0; i < len(out); i++ {
		for _, l := range rows.Links {
			if l.Role == out[i] && (l.Tenant == "" || l.Tenant == tenant) && !slices.Contains(out, l.Inherits) {
				out = append(out, l.Inherits)
			}
		}
	}
	return out
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
		grants := accessstore.New(w.db.DB)
		var separation *duty.Separation
		desk, err := grant.New(grant.Config{
			Store: grants.Grants(), Audit: w.db.Trail,
			Elevations: []grant.Elevation{{Role: "buyer", Requesters: []string{"front-desk"}, Approvers: []string{"officer"}, MaxTTL: time.Hour, Purposes: []access.Purpose{access.Operations}}},
			Duties: func(ctx context.Context, in, holder string, byGrant []string) error {
				return separation.Elevate(ctx, in, holder, byGrant)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		separation, err = duty.New(duty.Config{
			Exclusive: []duty.Exclusion{{Name: "pay_buy", Roles: []string{"payer", "buyer"}}},
			Assigned: func(ctx context.Context, in, user string) ([]string, error) {
				return w.Roles(ctx, access.Principal{ID: user, Tenant: in, Kind: access.Human})
			},
			Elevated: desk.Elevated,
		})
		if err != nil {
			t.Fatal(err)
		}
		apart := func(c *policystore.Config) {
			c.Approval, c.Deviations = policystore.ApproveNone, []access.Deviation{oneAdmin()}
			c.Validate = func(ctx context.Context, tx *gorm.DB, after policystore.Rows) error {
				if err := grants.LockRoles(ctx, tx, tenant); err != nil {
					return err
				}
				users := map[string]bool{}
				for _, a := range after.Assignments {
					if users[a.User] || a.Tenant != tenant {
						continue
					}
					users[a.User] = true
					if err := separation.Assign(storage.InTx(ctx, tx), tenant, a.User, held(after, a.User)); err != nil {
						return err
					}
				}
				return nil
			}
		}
		if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-carol", "security")); err != nil {
			t.Fatal(err)
		}
		alice := as(t, "u-alice", access.SystemAdmin)
		one, two := w.join(t, apart), w.join(t, apart)
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
		person := func(id, role string) context.Context {
			return access.With(t.Context(), access.Principal{ID: id, Tenant: tenant, Kind: access.Human, Roles: []string{role}}, access.Operations)
		}
		g, err := desk.Request(person("u-elevated", "front-desk"), grant.Request{Role: "buyer", Reason: audit.ReasonIndividual})
		if err != nil {
			t.Fatal(err)
		}
		if g, err = desk.Approve(person("u-officer", "officer"), g.ID); err != nil || g.State != grant.Active {
			t.Fatalf("Approve = %s, %v", g.State, err)
		}
		if _, err := one.Apply(alice, give("u-elevated", "payer")); !errors.Is(err, duty.ErrConflict) {
			t.Errorf("a role beside the opposite one by a live grant = %v", err)
		}
		if _, err := desk.Revoke(person("u-elevated", "front-desk"), g.ID); err != nil {
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
					_, won[u][i] = []*policystore.Store{one, two}[(u+i)%2].Apply(alice, give(fmt.Sprintf("u-both-%d", u), role))
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
