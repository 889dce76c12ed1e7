// SPDX-License-Identifier: Apache-2.0

package pdp_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

// TestRolesOfThePolicyCount: what is asked by roles beside the rules counts for
// the roles that the policy assigns, for those that they include, and for those
// of a grant, though the principal names none of them.
func TestRolesOfThePolicyCount(t *testing.T) {
	t.Parallel()
	notes := func(role string) rbac.Rule {
		return rbac.Rule{Role: role, Resources: []string{"note"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Payment}}
	}
	engine, err := rbac.New(rbac.Config{
		Assigned: true, Rules: []rbac.Rule{notes("billing"), notes("clerk")},
		Links: []rbac.Link{{Role: "billing-lead", Inherits: "billing"}},
		Assignments: []rbac.Assignment{
			{Tenant: tenant, User: "u-billing", Role: "billing"}, {Tenant: tenant, User: "u-lead", Role: "billing-lead"},
			{Tenant: tenant, User: "u-clerk", Role: "clerk"}, {Tenant: tenant, User: "u-elevated", Role: "porter"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	directives, err := directive.New(directive.Config{Store: directive.NewMemory(audittest.New(t)), Access: accesstest.Allow(), Audit: audittest.New(t), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := directives.Record(as(t, "u-officer", "x", access.Human, access.Compliance),
		directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1", Roles: []string{"billing"}}); err != nil {
		t.Fatal(err)
	}
	duties, err := duty.New(duty.Config{Sessions: []duty.Exclusion{{Name: "hats", Roles: []string{"billing", "everybody"}}}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := netip.MustParsePrefix("192.0.2.0/24")
	for name, tt := range map[string]struct {
		change func(*pdp.Config)
		want   access.Code // of who has billing
	}{
		"nothing": {func(*pdp.Config) {}, access.AllowRule},
		"addresses": {func(c *pdp.Config) {
			c.Addresses = []pdp.AddressRule{{Roles: []string{"billing"}, Prefixes: []netip.Prefix{elsewhere}}}
		}, access.DenyAddress},
		"restrictions": {func(c *pdp.Config) { c.Directives = directives }, access.DenyRestriction},
		"duties":       {func(c *pdp.Config) { c.Duties, c.Policy = duties, everybody{engine} }, access.DenyDuty},
		"posture": {func(c *pdp.Config) {
			c.Posture = func(_ context.Context, who access.Principal) error {
				if slices.Contains(who.Roles, "billing") {
					return errors.New("not from a telephone")
				}
				return nil
			}
		}, access.DenyDevice},
	} {
		w := &world{grants: []pdp.Grant{{ID: "g-1", Role: "billing", Purposes: []access.Purpose{access.Payment}, Until: now.Add(time.Hour)}}}
		cfg := pdp.Config{Policy: engine, Now: func() time.Time { return now }}
		tt.change(&cfg)
		for user, want := range map[string]access.Code{"u-billing": tt.want, "u-lead": tt.want, "u-clerk": access.AllowRule, "u-elevated": tt.want} {
			cfg.Grants = nil
			if user == "u-elevated" {
				cfg.Grants = w
				switch tt.want {
				case access.AllowRule:
					want = access.AllowGrant
				case access.DenyRestriction:
				default:
					want = access.DenyNoRule // there is no way
				}
			}
			p, err := pdp.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx := access.With(t.Context(), access.Principal{ID: user, Tenant: tenant, Kind: access.Human, Assurance: 2}, access.Payment)
			if v := one(t, p, ctx, access.Read, note("r-1", "p-1")); v.Code != want {
				t.Errorf("%s, %s: %+v, want %s", name, user, v, want)
			}
			f, err := p.Filter(ctx, access.Read, "note")
			in := make([]bool, 1)
			if err == nil {
				in, err = f.Match(ctx, note("r-1", "p-1"))
			}
			if allowed := want == access.AllowRule || want == access.AllowGrant; in[0] != allowed || err != nil && !errors.Is(err, access.ErrDenied) {
				t.Errorf("%s, %s: Filter says %v, %v", name, user, in[0], err)
			}
		}
	}
}

// everybody has one role more.
type everybody struct{ *rbac.Engine }

func (e everybody) Roles(ctx context.Context, who access.Principal) ([]string, error) {
	roles, err := e.Engine.Roles(ctx, who)
	return append(roles, "everybody"), err
}
