// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
)

// TestPreview shows an approver what a proposal comes to, and not only its rows.
func TestPreview(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	bob := as(t, "u-bob", access.SystemAdmin)
	one := func(role, resource string, a access.Action, deny bool) rbac.Rule {
		return rbac.Rule{Role: role, Resources: []string{resource}, Actions: []access.Action{a}, Purposes: []access.Purpose{access.Treatment}, Deny: deny}
	}
	rows := func(c policystore.Rows) policystore.Change {
		return policystore.Change{Add: c, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	swap := give("u-fay", "charge-nurse")
	swap.Remove = take("u-nora", "nurse").Remove
	for _, tt := range []struct {
		name string
		c    policystore.Change
		want policystore.Effect
	}{
		{"roles, with those that they include", swap, policystore.Effect{
			Users:    []string{"+ user u-fay has role charge-nurse in tenant t-1", "+ user u-fay has role nurse in tenant t-1", "- user u-nora has role nurse in tenant t-1"},
			Findings: []string{},
		}},
		{"a link, by which users have roles, and roles rights", rows(policystore.Rows{Links: []rbac.Link{{Role: "approver", Inherits: "nurse"}}}), policystore.Effect{
			Users: []string{"+ user u-bob has role nurse in tenant t-1", "+ user u-carol has role nurse in tenant t-1", "+ user u-oscar has role nurse in tenant t-2"},
			Rights: []string{"+ approver may read patient for BTG in tenant (any other)", "+ approver may read patient for ETREAT and its kinds in tenant (any other)",
				"+ approver may read patient for TREAT and its kinds in tenant (any other)"},
		}},
		{"a denying rule takes, and shadows", rows(policystore.Rows{Rules: []rbac.Rule{one("nurse", "patient", access.Read, true)}}), policystore.Effect{
			Rights: []string{"- charge-nurse may read patient for TREAT and its kinds in tenant (any other)", "- nurse may read patient for TREAT and its kinds in tenant (any other)"},
			Findings: []string{"shadowed: role nurse may read patient for TREAT in every tenant: it allows only what is denied by " +
				"role nurse may not read patient for TREAT in every tenant (p, r:nurse, *, patient, read, TREAT, deny): take it away, or make the other narrower"},
		}},
		{"a rule that nobody has", rows(policystore.Rows{Rules: []rbac.Rule{one("porter", "bed", access.Read, false)}}), policystore.Effect{
			Rights:   []string{"+ porter may read bed for TREAT and its kinds in tenant (any other)"},
			Findings: []string{"unheld: role porter may read bed for TREAT in every tenant: nobody holds the role porter: assign it, or take its rules away"},
		}},
	} {
		id := propose(t, w.Store, "u-alice", tt.c)
		got, err := w.Preview(bob, id)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got.Revision != 1 || !slices.Equal(got.Users, tt.want.Users) || !slices.Equal(got.Rights, tt.want.Rights) || !slices.Equal(got.Findings, tt.want.Findings) || got.Unlisted != "" || got.Refused != "" {
			t.Errorf("%s: Preview = %q, %q, %q; %s %s", tt.name, got.Users, got.Rights, got.Findings, got.Unlisted, got.Refused)
		}
		report, err := w.Report(bob)
		if err != nil || len(report.Pending) != 1 || report.Pending[0].Effect == nil {
			t.Fatalf("%s: Report = %+v, %v", tt.name, report, err)
		}
		var text strings.Builder
		if err := report.Document().WriteText(&text); err != nil {
			t.Fatal(err)
		}
		for _, line := range slices.Concat(tt.want.Users, tt.want.Rights) {
			if !strings.Contains(strings.Join(strings.Fields(text.String()), " "), line) {
				t.Errorf("%s: no %q in\n%s", tt.name, line, &text)
			}
		}
		if err := w.Reject(bob, id); err != nil {
			t.Fatal(err)
		}
	}

	// What does not fit any more says so, and who may not see it sees nothing.
	first, second := propose(t, w.Store, "u-alice", give("u-fay", "nurse")), propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
	if _, err := w.Approve(bob, first); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Preview(bob, second); err != nil || got.Revision != 2 || !strings.Contains(got.Refused, "there already") || len(got.Users) > 0 {
		t.Errorf("what is there already: %+v, %v", got, err)
	}
	if _, err := w.Preview(as(t, "u-nora", access.SystemAdmin), second); !errors.Is(err, access.ErrDenied) {
		t.Errorf("who may not read the policy: %v", err)
	}
	if _, err := w.Preview(as(t, "u-oscar", access.SystemAdmin), second); !errors.Is(err, policystore.ErrNoProposal) {
		t.Errorf("another tenant's: %v", err)
	}
	if err := w.db.Exec("UPDATE policy_edits SET member = 'u-mallory' WHERE change_id = ?", second).Error; err != nil {
		t.Fatal(err)
	}
	if _, err := w.Preview(bob, second); !errors.Is(err, policystore.ErrForged) {
		t.Errorf("what SQL has edited: %v", err)
	}
	if report, err := w.Report(bob); err != nil || len(report.Pending) != 1 || !strings.Contains(report.Pending[0].Effect.Refused, "not made by Propose") {
		t.Errorf("Report = %+v, %v", report, err)
	}
	if err := storage.Settle(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
}

// TestPreviewOfATenant: what a change does in other tenants is told to the
// Operator only, whose changes alone do anything there.
func TestPreviewOfATenant(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	oscar := as(t, "u-oscar", access.SystemAdmin)
	rule := func(in string) policystore.Change {
		r := rbac.Rule{Tenant: in, Role: "nurse", Resources: []string{"bed"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}}
		return policystore.Change{Add: policystore.Rows{Rules: []rbac.Rule{r}}, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	}
	link := policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: "approver", Inherits: "nurse"}}}, Reason: audit.ReasonAmended, Reference: "ticket-5"}
	for _, c := range []policystore.Change{rule(""), rule(tenant), link} {
		if _, err := w.Propose(as(t, "u-olga", access.SystemAdmin), c); !errors.Is(err, access.ErrDenied) {
			t.Errorf("%+v, proposed by another tenant: %v", c.Add, err)
		}
		id := propose(t, w.Store, "u-alice", c)
		if got, err := w.Preview(oscar, id); !errors.Is(err, policystore.ErrNoProposal) {
			t.Errorf("%+v, previewed by another tenant: %+v, %v", c.Add, got, err)
		}
		if got, err := w.Preview(as(t, "u-bob", access.SystemAdmin), id); err != nil || len(got.Rights) == 0 {
			t.Errorf("%+v, previewed by the Operator: %+v, %v", c.Add, got, err)
		}
	}
	id := propose(t, w.Store, "u-olga", rule(other))
	want := []string{"+ charge-nurse may read bed for TREAT and its kinds in tenant " + other, "+ nurse may read bed for TREAT and its kinds in tenant " + other}
	for _, ctx := range []context.Context{oscar, as(t, "u-bob", access.SystemAdmin)} {
		if got, err := w.Preview(ctx, id); err != nil || !slices.Equal(got.Rights, want) || len(got.Users) > 0 {
			t.Errorf("a rule of a tenant: %+v, %v", got, err)
		}
	}
	report, err := w.Report(oscar)
	if err != nil || len(report.Pending) != 1 || !slices.Equal(report.Pending[0].Effect.Rights, want) {
		t.Errorf("Report of a tenant = %+v, %v", report, err)
	}
}
