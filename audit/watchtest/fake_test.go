// SPDX-License-Identifier: Apache-2.0

package watchtest_test

import (
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/audit/watchtest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	f := new(watchtest.Fake)
	known := []watchtest.Known{
		{Tenant: "t-1", Actor: "u-1", Patient: "p-1", Relation: watch.Relation{Care: true}},
		{Tenant: "t-1", Actor: "u-1", Patient: "p-2", Relation: watch.Relation{VIP: true, SameSurname: true}},
	}
	for _, k := range known {
		f.Set(k.Tenant, k.Actor, k.Patient, k.Relation)
	}
	watchtest.TestRelations(t, f, known...)
}

// The rules on sign-ins and emergency access, over events as session and access
// write them and an authorizer that allows emergency access to one role.
func TestActsOnSyntheticEvents(t *testing.T) {
	t.Parallel()
	watchtest.TestActs(t, func(t *testing.T) watchtest.Acts {
		trail := audittest.New(t)
		authorizer := &accesstest.Fake{Rules: []accesstest.Rule{{Role: "physician", Action: access.Read, Type: "patient", Purpose: access.BreakGlass}}}
		principal := func(id string) access.Principal {
			return access.Principal{ID: id, Tenant: accesstest.Tenant, Kind: access.Human, Roles: []string{"physician"}}
		}
		record := func(t *testing.T, id string, purpose access.Purpose, ev audit.Event) {
			t.Helper()
			if _, err := trail.Record(access.With(t.Context(), principal(id), purpose), ev); err != nil {
				t.Fatal(err)
			}
		}
		return watchtest.Acts{
			Events: trail.Events, User: "u-1", Reviewer: "u-2", Patient: "p-1",
			FailSignIn: func(t *testing.T, user string) {
				record(t, user, "", audit.Event{Type: audit.SignInFailed, Outcome: audit.Failure, Reason: audit.ReasonPassword})
			},
			SignIn: func(t *testing.T, user string) {
				record(t, user, "", audit.Event{Type: audit.SignIn, Outcome: audit.Success})
			},
			BreakGlass: func(t *testing.T, user, patient string) {
				ctx := access.With(t.Context(), principal(user), access.BreakGlass)
				d, err := authorizer.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", ID: patient, Patient: patient, Tenant: accesstest.Tenant}}})
				if err != nil || !d.AllowAll(1) {
					t.Fatalf("emergency access is denied: %v", err)
				}
				record(t, user, access.BreakGlass, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Decision: d.ID, Objects: []audit.Object{{Type: "patient", Record: patient, Patient: patient}}})
			},
			Review: func(t *testing.T, reviewer, event string) {
				record(t, reviewer, access.Compliance, audit.Event{Type: audit.Reviewed, Outcome: audit.Success, About: event})
			},
		}
	})
}
