// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/audit/watchtest"
)

// TestAReviewedGrantIsReviewedAccess: what was done under a broken glass is no
// longer to be looked at once somebody has reviewed that grant, and nothing else
// is taken off with it.
func TestAReviewedGrantIsReviewedAccess(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		seen    []string     // patients, in one event
		review  string       // the patient whose grant is reviewed; empty: none
		finding audit.Reason // of it
		want    bool         // an alert
	}{
		"nobody reviews":             {[]string{"p-1"}, "", "", true},
		"reviewed":                   {[]string{"p-1"}, "p-1", audit.ReasonExplained, false},
		"a violation":                {[]string{"p-1"}, "p-1", audit.ReasonViolation, false},
		"somebody else decides":      {[]string{"p-1"}, "p-1", audit.ReasonEscalated, true},
		"another patient's":          {[]string{"p-1"}, "p-2", audit.ReasonExplained, true},
		"one of two patients":        {[]string{"p-1", "p-2"}, "p-1", audit.ReasonExplained, true},
		"somebody else's of the one": {[]string{"p-1"}, "other", audit.ReasonExplained, true},
	} {
		trail := audittest.New(t)
		at := time.Now()
		desk, err := grant.New(grant.Config{
			Store: grant.NewMemory(), Audit: trail, Now: func() time.Time { return at },
			Roles:     func(_ context.Context, p access.Principal) ([]string, error) { return p.Roles, nil },
			Emergency: &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"officer"}},
			Confirm:   func(context.Context, access.Principal, string) error { return nil },
			Alert:     func(context.Context, grant.Alert) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		as := func(id, role string, purpose access.Purpose) context.Context {
			return access.With(t.Context(), access.Principal{ID: id, Tenant: "t-1", Kind: access.Human, Roles: []string{role}, Session: "s-1", Assurance: 2, AuthTime: at}, purpose)
		}
		grants := map[string]grant.Grant{}
		for patient, nurse := range map[string]string{"p-1": "u-1", "p-2": "u-1", "other": "u-2"} {
			p := patient
			if p == "other" {
				p = "p-1"
			}
			if grants[patient], err = desk.BreakGlass(as(nurse, "nurse", access.Treatment), grant.Glass{Patient: p, Reason: audit.ReasonEmergency}, ""); err != nil {
				t.Fatal(err)
			}
		}
		ev := audit.Event{Type: audit.Revealed, Outcome: audit.Success}
		for _, p := range tt.seen {
			ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: p, Patient: p})
		}
		at = time.Now() // of the trail, and so of the access
		if _, err := trail.Record(as("u-1", "nurse", access.BreakGlass), ev); err != nil {
			t.Fatal(err)
		}
		at = at.Add(5 * time.Hour)
		if tt.review != "" {
			if _, err := desk.Review(as("u-officer", "officer", access.Compliance), grants[tt.review].ID, tt.finding); err != nil {
				t.Fatal(err)
			}
		}
		w, err := watch.New(watch.Config{Audit: audittest.New(t), Relations: new(watchtest.Fake)})
		if err != nil {
			t.Fatal(err)
		}
		service := access.With(t.Context(), access.Principal{ID: "watch", Tenant: "t-1", Kind: access.Service}, access.Compliance)
		for _, ev := range trail.Events() {
			if _, err := w.Observe(service, ev); err != nil {
				t.Fatal(err)
			}
		}
		alerts, err := w.Tick(service, at.Add(73*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(alerts, func(a watch.Alert) bool { return a.Rule == watch.BreakGlass }); got != tt.want {
			t.Errorf("%s: an alert %v, want %v", name, got, tt.want)
		}
	}
}
