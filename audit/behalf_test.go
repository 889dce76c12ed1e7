// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Whoever acts for a patient, the patient is a pseudonym, and the one that the
// journal has for that patient everywhere, also after a rotation. Whoever acts
// for a colleague names the colleague.
func TestOnBehalfOfAPatientIsAPseudonym(t *testing.T) {
	t.Parallel()
	j, _ := open(t, audit.Config{})
	for id, kind := range map[string]access.Kind{"u-1": access.Human, "s-1": access.Service, "x-1": access.Proxy} {
		p := access.Principal{ID: id, Tenant: "t-1", Kind: kind, OnBehalf: "r-1", OnBehalfKind: access.Patient}
		if _, err := j.Record(access.With(t.Context(), p, access.PatientRequest), reveal("r-1")); err != nil {
			t.Fatal(err)
		}
	}
	delegate := access.Principal{ID: "u-2", Tenant: "t-1", Kind: access.Human, OnBehalf: "u-1", OnBehalfKind: access.Human}
	if _, err := j.Record(access.With(t.Context(), delegate, access.Treatment), search(1)); err != nil {
		t.Fatal(err)
	}
	unsaid := access.Principal{ID: "s-2", Tenant: "t-1", Kind: access.Service, OnBehalf: "r-1"}
	if _, err := j.Record(access.With(t.Context(), unsaid, access.Treatment), search(1)); err == nil {
		t.Error("a principal that acts for somebody, of whom it does not say what, is recorded")
	}
	for range 2 {
		for _, s := range types(t, j, audit.Revealed) {
			if s.Actor.OnBehalf != j.Pseudonym("t-1", "r-1") || s.Actor.OnBehalfKind != access.Patient || (s.Actor.Kind != access.Proxy) != (s.Actor.ID == "u-1" || s.Actor.ID == "s-1") {
				t.Errorf("actor %+v, want on behalf of %s", s.Actor, j.Pseudonym("t-1", "r-1"))
			}
		}
		if s := types(t, j, audit.Searched); len(s) != 1 || s[0].Actor.OnBehalf != "u-1" || s[0].Actor.OnBehalfKind != access.Human {
			t.Errorf("the delegate's %+v", s)
		}
		if err := j.RotateKeys(officer(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
