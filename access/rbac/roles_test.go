// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"context"
	"slices"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
)

// TestRoles: the roles that somebody acts in are those that the policy gives,
// with those that they include, whatever the principal says.
func TestRoles(t *testing.T) {
	t.Parallel()
	cfg := rbac.Config{
		Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment)},
		Links: []rbac.Link{{Role: "charge-nurse", Inherits: "nurse"}, {Role: "head-nurse", Inherits: "charge-nurse"}},
	}
	assigned := cfg
	assigned.Assigned = true
	assigned.Assignments = []rbac.Assignment{
		{Tenant: accesstest.Tenant, User: "u-1", Role: "head-nurse"}, {Tenant: accesstest.Tenant, User: "u-1", Role: "auditor"},
		{Tenant: "t-other", User: "u-1", Role: "admin"},
	}
	plain := assigned
	plain.Assignments = []rbac.Assignment{{Tenant: accesstest.Tenant, User: "u-1", Role: "auditor"}}
	for _, tt := range []struct {
		name     string
		cfg      rbac.Config
		has, who []string // the principal's roles in the scope; and those asked about
		want     []string
	}{
		{"of the principal", cfg, []string{"head-nurse"}, []string{"head-nurse"}, []string{"head-nurse", "charge-nurse", "nurse"}},
		{"without a rule", cfg, []string{"auditor"}, []string{"auditor"}, []string{"auditor"}},
		{"none", cfg, nil, nil, nil},
		{"of a grant", cfg, []string{"auditor"}, []string{"auditor", "charge-nurse"}, []string{"auditor", "charge-nurse", "nurse"}},
		{"assigned", assigned, nil, nil, []string{"head-nurse", "auditor", "charge-nurse", "nurse"}},
		{"assigned, and including nothing", plain, nil, nil, []string{"auditor"}},
		{"assigned, and one of them taken", assigned, []string{"auditor"}, []string{"auditor"}, []string{"auditor"}},
		{"not assigned", assigned, []string{"admin"}, []string{"admin"}, nil},
		{"assigned, and of a grant", assigned, []string{"auditor"}, []string{"auditor", "surgeon"}, []string{"auditor", "surgeon"}},
	} {
		e, err := rbac.New(tt.cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := accesstest.Principal(accesstest.Tenant, tt.has...)
		p.ID = "u-1"
		who := p
		who.Roles = slices.Clone(tt.who)
		before := slices.Clone(tt.who)
		for range 2 { // a list that is shared would have grown
			got, err := e.Roles(access.With(t.Context(), p, access.Treatment), who)
			if err != nil || !slices.Equal(sorted(got), sorted(tt.want)) {
				t.Errorf("%s: %v, %v, want %v", tt.name, got, err, tt.want)
			}
			for i := range got {
				got[i] = "admin"
			}
		}
		if !slices.Equal(who.Roles, before) {
			t.Errorf("%s: the caller's roles have become %v", tt.name, who.Roles)
		}
	}
	e, err := rbac.New(assigned)
	if err != nil {
		t.Fatal(err)
	}
	u := access.Principal{ID: "u-1", Tenant: accesstest.Tenant, Kind: access.Human, Roles: []string{"auditor", "admin"}}
	if got, err := e.Roles(context.Background(), u); err != nil || !slices.Equal(got, []string{"auditor"}) {
		t.Errorf("without a scope: %v, %v", got, err)
	}
	if got, err := new(rbac.Engine).Roles(t.Context(), u); err == nil {
		t.Errorf("without a policy: %v", got)
	}
}

// TestAScopeActsInIncludedRoles: the minimum necessary is measured by the roles
// that the policy gives, those that they include among them.
func TestAScopeActsInIncludedRoles(t *testing.T) {
	t.Parallel()
	for _, assigned := range []bool{true, false} {
		cfg := rbac.Config{
			Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment)},
			Links: []rbac.Link{{Role: "charge-nurse", Inherits: "nurse"}},
		}
		who := access.Principal{ID: "u-1", Tenant: accesstest.Tenant, Kind: access.Human}
		if cfg.Assigned = assigned; assigned {
			cfg.Assignments = []rbac.Assignment{{Tenant: who.Tenant, User: who.ID, Role: "charge-nurse"}}
		} else {
			who.Roles = []string{"charge-nurse"}
		}
		e, err := rbac.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx := access.With(t.Context(), who, access.Treatment)
		if _, err := e.Filter(ctx, access.Read, "patient"); err != nil {
			t.Fatal(err)
		}
		s, err := access.From(ctx)
		if err != nil || !slices.Equal(s.Roles(), []string{"charge-nurse", "nurse"}) {
			t.Errorf("assigned %t: %v, %v", assigned, s.Roles(), err)
		}
	}
}

// TestRolesOfATenant: a link that holds in one tenant brings nothing elsewhere.
func TestRolesOfATenant(t *testing.T) {
	t.Parallel()
	e, err := rbac.New(rbac.Config{Model: domainModel, Rules: []rbac.Rule{rule("nurse", access.Read, "^patient$", access.Treatment)},
		Links: []rbac.Link{{Role: "charge-nurse", Inherits: "nurse", Tenant: "t-other"}}})
	if err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[string][]string{"t-other": {"charge-nurse", "nurse"}, accesstest.Tenant: {"charge-nurse"}} {
		p := accesstest.Principal(tenant, "charge-nurse")
		if got, err := e.Roles(access.With(t.Context(), p, access.Treatment), p); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", tenant, got, err, want)
		}
	}
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
