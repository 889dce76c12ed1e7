// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"errors"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
)

func TestStarterLoads(t *testing.T) {
	t.Parallel()
	if _, err := rbac.New(rbac.Config{Rules: rbac.StarterRules()}); err != nil {
		t.Fatal(err)
	}
}

func TestStarterKeepsMaintenanceApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		role    string
		act     access.Action
		purpose access.Purpose
		want    bool
	}{
		{"maintenance", access.Maintain, access.RecordManagement, true},
		{"maintenance", access.Maintain, access.SystemAdmin, true},
		{"maintenance", access.Maintain, access.Treatment, false},
		{"maintenance", access.Read, access.RecordManagement, false},
		{"maintenance", access.Shred, access.RecordManagement, false},
		{"privacy-officer", access.Shred, access.Operations, true},
		{"privacy-officer", access.Maintain, access.Operations, false},
		{"physician", access.Shred, access.Treatment, false},
		{"admin", access.Maintain, access.SystemAdmin, false},
	} {
		ctx := accesstest.As(t, t.Context(), tt.role, tt.purpose)
		d, err := rbac.Starter().Check(ctx, access.Request{Action: tt.act, Resources: []access.Resource{{Type: "patient", ID: "r-1", Patient: "r-1", Tenant: accesstest.Tenant}}})
		if err != nil || d.Allow(0) != tt.want {
			t.Errorf("%s may %s for %s: %v, %v; want %v", tt.role, tt.act, tt.purpose, d.Allow(0), err, tt.want)
		}
	}
}

// Rules for emergency access are a ceiling: who broke the glass, package pdp
// knows.
func TestBreakGlassNeedsMoreThanARule(t *testing.T) {
	t.Parallel()
	e := rbac.Starter()
	ctx := accesstest.As(t, t.Context(), "physician", access.BreakGlass)
	d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", ID: "p-1", Patient: "p-1", Tenant: accesstest.Tenant}}})
	if err != nil || d.Allow(0) || d.Verdicts[0].Code != access.DenyGrant {
		t.Errorf("Check = %+v, %v", d, err)
	}
	if _, err := e.Filter(ctx, access.Read, "patient"); !errors.Is(err, access.ErrDenied) {
		t.Errorf("Filter: %v", err)
	}
	s, err := access.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := e.Rule(ctx, s.Principal(), access.Read, "patient", access.BreakGlass); err != nil || !v.Allow {
		t.Errorf("Rule = %+v, %v", v, err)
	}
}
