// SPDX-License-Identifier: Apache-2.0

package pdp_test

import (
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

// TestADisclosureIsAskedOfItsRecipient: what a patient restricts towards a health
// plan, and whom a patient's paper names, is about the disclosure to that
// recipient, and to no other; what restricts the use inside restricts it too.
func TestADisclosureIsAskedOfItsRecipient(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	directives, err := directive.New(directive.Config{Store: directive.NewMemory(trail), Access: accesstest.Allow(), Audit: trail})
	if err != nil {
		t.Fatal(err)
	}
	officer := as(t, "u-officer", "privacy-officer", access.Human, access.Operations)
	for _, d := range []directive.Directive{
		{Kind: directive.Restriction, Basis: directive.Required, Patient: "p-plan", Recipient: "plan-1", Purposes: []access.Purpose{access.Payment}},
		{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-inside", Roles: []string{"billing"}},
		{Kind: directive.Authorization, Patient: "p-paper", Recipient: "firm-1", Types: []string{"note"}, Purposes: []access.Purpose{access.Marketing}, Document: "doc-1", Until: time.Now().Add(time.Hour)},
		{Kind: directive.Authorization, Patient: "p-inside-paper", Types: []string{"note"}, Purposes: []access.Purpose{access.Marketing}, Document: "doc-2", Until: time.Now().Add(time.Hour)},
	} {
		if _, err := directives.Record(officer, d); err != nil {
			t.Fatal(err)
		}
	}
	engine, err := rbac.New(rbac.Config{Rules: []rbac.Rule{{Role: "billing", Resources: []string{"note"}, Actions: []access.Action{access.Disclose, access.Read}, Purposes: []access.Purpose{access.Payment, access.Marketing}}}})
	if err != nil {
		t.Fatal(err)
	}
	point, err := pdp.New(pdp.Config{Policy: engine, Directives: directives})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		purpose            access.Purpose
		patient, recipient string
		want               access.Code
	}{
		{access.Payment, "p-plan", "plan-1", access.DenyRestriction},
		{access.Payment, "p-plan", "plan-2", access.AllowRule},
		{access.Payment, "p-plan", "", access.AllowRule},
		{access.Payment, "p-other", "plan-1", access.AllowRule},
		{access.Payment, "p-inside", "plan-2", access.DenyRestriction},
		{access.Marketing, "p-paper", "firm-1", access.AllowRule},
		{access.Marketing, "p-paper", "firm-2", access.DenyConsent},
		{access.Marketing, "p-paper", "", access.DenyConsent},
		{access.Marketing, "p-inside-paper", "firm-1", access.DenyConsent},
		{access.Marketing, "p-inside-paper", "", access.AllowRule},
		{access.Payment, "p-other", "Jane Roe", access.DenyInvalid},
	} {
		ctx := as(t, "u-1", "billing", access.Human, tt.purpose)
		d, err := point.Check(ctx, access.Request{Action: access.Disclose, Recipient: tt.recipient, Resources: []access.Resource{note("n-1", tt.patient)}})
		if err != nil || len(d.Verdicts) != 1 || d.Verdicts[0].Code != tt.want || d.Allow(0) != (tt.want == access.AllowRule) {
			t.Errorf("%s of %s to %q = %+v, %v; want %s", tt.purpose, tt.patient, tt.recipient, d.Verdicts, err, tt.want)
		}
	}
}
