// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
)

func assignedConfig(all ...rbac.Assignment) rbac.Config {
	return rbac.Config{
		Rules: []rbac.Rule{
			{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}},
			{Role: "billing", Resources: []string{"bill"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}},
		},
		Links:    []rbac.Link{{Role: "charge-nurse", Inherits: "nurse"}},
		Assigned: true, Assignments: all, Revision: 7,
	}
}

func reads(t *testing.T, e *rbac.Engine, ctx context.Context, tenant, resource string) bool {
	t.Helper()
	d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: resource, Tenant: tenant}}})
	if err != nil {
		t.Fatal(err)
	}
	return d.AllowAll(1)
}

// TestAssignedRolesAreTheOnlyOnes: what a principal says of its roles widens
// nothing, in no tenant.
func TestAssignedRolesAreTheOnlyOnes(t *testing.T) {
	t.Parallel()
	e, err := rbac.New(assignedConfig(
		rbac.Assignment{Tenant: "t-1", User: "u-1", Role: "charge-nurse"}, rbac.Assignment{Tenant: "t-1", User: "u-1", Role: "billing"},
		rbac.Assignment{Tenant: "t-2", User: "u-2", Role: "nurse"},
	))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name          string
		tenant, user  string
		roles         []string
		patient, bill bool
	}{
		{"assigned", "t-1", "u-1", nil, true, true},
		{"narrowed", "t-1", "u-1", []string{"billing"}, false, true},
		{"narrowed to what another role inherits", "t-1", "u-1", []string{"nurse"}, false, false},
		{"claims more", "t-1", "u-1", []string{"billing", "nurse", "admin"}, false, true},
		{"of another tenant", "t-2", "u-1", nil, false, false},
		{"of another tenant, claimed", "t-1", "u-2", []string{"nurse"}, false, false},
		{"nobody's", "t-1", "u-3", []string{"nurse", "billing"}, false, false},
		{"called like a role", "t-1", "nurse", nil, false, false},
	} {
		ctx := access.With(t.Context(), access.Principal{ID: tt.user, Tenant: tt.tenant, Kind: access.Human, Roles: tt.roles}, access.Treatment)
		if got := reads(t, e, ctx, tt.tenant, "patient"); got != tt.patient {
			t.Errorf("%s: reads patients: %v", tt.name, got)
		}
		if got := reads(t, e, ctx, tt.tenant, "bill"); got != tt.bill {
			t.Errorf("%s: reads bills: %v", tt.name, got)
		}
		d, err := e.Check(ctx, access.Request{Action: access.Read})
		if got := e.Revision(ctx); got != 7 || err != nil || d.Revision != 7 {
			t.Errorf("%s: Revision = %d, of the decision %d, %v", tt.name, got, d.Revision, err)
		}
	}
	if err := e.Replace(assignedConfig()); err != nil {
		t.Fatal(err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"billing"}}, access.Treatment)
	if reads(t, e, ctx, "t-1", "bill") {
		t.Error("a policy that assigns nothing allowed")
	}
}

// TestRevisionIsThatOfTheScope: a scope that has asked keeps its policy, and
// the revision says so.
func TestRevisionIsThatOfTheScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // no second passes
		e, err := rbac.New(assignedConfig())
		if err != nil {
			t.Fatal(err)
		}
		p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}
		old := access.With(t.Context(), p, access.Treatment)
		reads(t, e, old, "t-1", "patient")
		cfg := assignedConfig()
		cfg.Revision = 8
		if err := e.Replace(cfg); err != nil {
			t.Fatal(err)
		}
		if got, now := e.Revision(old), e.Revision(access.With(t.Context(), p, access.Treatment)); got != 7 || now != 8 {
			t.Errorf("Revision = %d before, %d after; want 7 and 8", got, now)
		}
		var zero rbac.Engine
		if got := zero.Revision(old); got != 0 {
			t.Errorf("Revision of no policy = %d", got)
		}
		if got := e.Revision(t.Context()); got != 0 {
			t.Errorf("Revision without a scope = %d", got)
		}
	})
}

// TestUsersOfACSV: with Assigned the rows of users in a policy.csv are
// assignments, in their tenant and no other.
func TestUsersOfACSV(t *testing.T) {
	t.Parallel()
	const rules = "p, r:nurse, *, patient, read, TREAT, allow\n"
	e, err := rbac.New(rbac.Config{Policy: rules + "g, u:u-1, r:nurse, t-1\n", Assigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[[2]string]access.Code{{"t-1", "u-1"}: access.AllowRule, {"t-2", "u-1"}: access.DenyNoRule, {"t-1", "u-2"}: access.DenyNoRule} {
		ctx := access.With(t.Context(), access.Principal{ID: who[1], Tenant: who[0], Kind: access.Human}, access.Treatment)
		d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: who[0]}}})
		if err != nil || d.Verdicts[0].Code != want {
			t.Errorf("%v: %+v, %v, want %s", who, d.Verdicts, err, want)
		}
	}
	for row, why := range map[string]string{
		"g, u:u-1, r:nurse":           "one tenant",
		"g, u:u-1, nurse, t-1":        "role has no r: prefix",
		"g, u:, r:nurse, t-1":         "User is empty",
		"g, u:u-1, r:nurse, *":        "Tenant has",
		"g, u:jane@x.org, r:n, t-1":   "User looks like",
		"g, u:u-1, r:nurse, t-1, t-2": "one tenant",
	} {
		if _, err := rbac.New(rbac.Config{Policy: rules + row, Assigned: true}); err == nil || !strings.Contains(err.Error(), "Config.Policy line 2: ") || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", row, err, why)
		}
	}
	if _, err := rbac.New(rbac.Config{Policy: rules + "g, u:u-1, r:nurse, t-1"}); err == nil || !strings.Contains(err.Error(), "Config.Policy line 2: a user has a role here: set Config.Assigned") {
		t.Error(err)
	}
	found, err := rbac.Lint(rbac.Config{Policy: rules + "g, u:u-1, r:nurse, t-1\ng, u:u-1, r:nurze, t-1\n", Assigned: true})
	if err != nil || len(found) != 1 || found[0].Where != "Config.Policy line 3" || found[0].Kind != "unknown" {
		t.Error(found, err)
	}
	// Lint knows who holds what.
	found, err = rbac.Lint(rbac.Config{Policy: rules + "g, u:u-1, r:nurse, t-1\n", Assigned: true})
	if err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}

func TestBadAssignments(t *testing.T) {
	t.Parallel()
	good := rbac.Assignment{Tenant: "t-1", User: "u-1", Role: "nurse"}
	for want, change := range map[string]func(*rbac.Config){
		"Config.Assignments[1].Tenant is empty": func(c *rbac.Config) { c.Assignments[1].Tenant = "" },
		"Config.Assignments[1].User has":        func(c *rbac.Config) { c.Assignments[1].User = "a b" },
		"Config.Assignments[1].Role has":        func(c *rbac.Config) { c.Assignments[1].Role = "*" },
		"without Config.Assigned":               func(c *rbac.Config) { c.Assigned = false },
	} {
		cfg := assignedConfig(good, good)
		change(&cfg)
		if _, err := rbac.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
