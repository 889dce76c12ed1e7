// SPDX-License-Identifier: Apache-2.0

package relation_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/audit/watchtest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func open(t *testing.T, change func(*relation.Config)) (*relation.Relations, *audittest.Trail) {
	t.Helper()
	trail := audittest.New(t)
	cfg := relation.Config{Store: relation.NewMemory(trail), Access: accesstest.Allow(), Audit: trail, Now: func() time.Time { return noon }}
	if change != nil {
		change(&cfg)
	}
	r, err := relation.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r, trail
}

func admin(t *testing.T) context.Context {
	return accesstest.AsIn(t, t.Context(), "t-1", "admin", access.PatientAdmin)
}

func nurse() access.Principal {
	return access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
}

func reaches(t *testing.T, r *relation.Relations, who access.Principal, purpose access.Purpose, at time.Time, patient string) bool {
	t.Helper()
	s := r.Related(who, purpose, at)
	if s == nil {
		return false
	}
	in, err := s.Has(t.Context(), who.Tenant, []string{patient})
	if err != nil {
		t.Fatal(err)
	}
	return in[0]
}

func TestARelationBeginsAndEnds(t *testing.T) {
	t.Parallel()
	r, trail := open(t, nil)
	if reaches(t, r, nurse(), access.Treatment, noon, "p-1") {
		t.Error("reached without a relation")
	}
	kept, err := r.Add(admin(t), relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam})
	if err != nil || kept.ID == "" || kept.Tenant != "t-1" || !kept.From.Equal(noon) {
		t.Fatalf("Add = %+v, %v", kept, err)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.RelationChanged, Outcome: audit.Success, Reason: audit.ReasonCreated, Action: access.Create, Rule: "CRTM",
		User: "u-1", UserKind: access.Human, Objects: []audit.Object{{Type: "relation", Record: kept.ID, Patient: "p-1"}}})
	if !reaches(t, r, nurse(), access.Treatment, noon, "p-1") || reaches(t, r, nurse(), access.Treatment, noon, "p-2") {
		t.Error("the relation does not reach its patient, or another too")
	}
	if err := r.End(admin(t), kept.ID, time.Time{}); err != nil {
		t.Fatal(err)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.RelationChanged, Reason: audit.ReasonRevoked, Action: access.Update})
	if reaches(t, r, nurse(), access.Treatment, noon, "p-1") {
		t.Error("reached after the end")
	}
	if err := r.End(admin(t), kept.ID, noon.Add(day)); err != nil || reaches(t, r, nurse(), access.Treatment, noon, "p-1") {
		t.Errorf("a later end gave the relation back: %v", err)
	}
	if err := r.End(accesstest.AsIn(t, t.Context(), "t-2", "admin", access.PatientAdmin), kept.ID, noon); !errors.Is(err, relation.ErrNotFound) {
		t.Errorf("End of another tenant's = %v", err)
	}
	seen, err := r.List(admin(t), relation.Query{Patient: "p-1"})
	if err != nil || len(seen) != 1 {
		t.Errorf("List = %v, %v", seen, err)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.Fetched, Objects: []audit.Object{{Type: "relation", Patient: "p-1"}}})
}

func TestWindowsOfAnEncounter(t *testing.T) {
	t.Parallel()
	r, _ := open(t, nil)
	kept, err := r.Add(admin(t), relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.Attending, From: noon, Until: noon.Add(day)})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Duration]bool{-30*day - time.Microsecond: false, -30 * day: true, 0: true, 31*day - time.Microsecond: true, 31 * day: false} {
		if got := reaches(t, r, nurse(), access.Treatment, noon.Add(at), "p-1"); got != want {
			t.Errorf("%v from the admission: %v, want %v", at, got, want)
		}
	}
	if err := r.Void(admin(t), kept.ID); err != nil || reaches(t, r, nurse(), access.Treatment, noon, "p-1") {
		t.Errorf("a mistake reaches in its window: %v", err)
	}
	strict, _ := open(t, func(c *relation.Config) { c.Windows = map[relation.Kind]relation.Window{} })
	if _, err := strict.Add(admin(t), relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.Attending, From: noon, Until: noon.Add(day)}); err != nil {
		t.Fatal(err)
	}
	if reaches(t, strict, nurse(), access.Treatment, noon.Add(-time.Microsecond), "p-1") || reaches(t, strict, nurse(), access.Treatment, noon.Add(day), "p-1") {
		t.Error("without windows it reaches beyond its times")
	}
}

func TestRelationsThatAreRefused(t *testing.T) {
	t.Parallel()
	r, trail := open(t, nil)
	good := relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam}
	for name, change := range map[string]func(*relation.Relation){
		"no patient":        func(r *relation.Relation) { r.Patient = "" },
		"a patient's name":  func(r *relation.Relation) { r.Patient = "Jane Roe" },
		"no principal":      func(r *relation.Relation) { r.Principal = "" },
		"no kind":           func(r *relation.Relation) { r.Kind = "" },
		"another kind":      func(r *relation.Relation) { r.Kind = "FRIEND" },
		"an end before":     func(r *relation.Relation) { r.Until = noon.Add(-time.Hour) },
		"before all years":  func(r *relation.Relation) { r.From = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		"after all of them": func(r *relation.Relation) { r.Until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"another tenant":    func(r *relation.Relation) { r.Tenant = "t-2" },
		"oneself":           func(r *relation.Relation) { r.Principal = accesstest.Principal("t-1", "admin").ID },
	} {
		bad := good
		change(&bad)
		_, err := r.Add(admin(t), bad)
		if err == nil || strings.Contains(err.Error(), "Jane") {
			t.Errorf("%s: %v", name, err)
		}
	}
	audittest.Want(t, trail, audit.Event{Type: audit.Denied})
	audittest.WantNone(t, trail, audit.Event{Type: audit.RelationChanged})
	for name, ctx := range map[string]context.Context{"nobody": t.Context(), "no purpose": access.With(t.Context(), nurse(), "")} {
		if _, err := r.Add(ctx, good); err == nil {
			t.Errorf("%s adds a relation", name)
		}
		if err := r.End(ctx, "r-1", noon); err == nil {
			t.Errorf("%s ends a relation", name)
		}
		if _, err := r.List(ctx, relation.Query{}); err == nil {
			t.Errorf("%s lists relations", name)
		}
	}
	oneself, _ := open(t, func(c *relation.Config) { c.Oneself = true })
	good.Principal = accesstest.Principal("t-1", "admin").ID
	if _, err := oneself.Add(admin(t), good); err != nil {
		t.Errorf("with Oneself: %v", err)
	}
}

func TestNoRelationWithoutARecord(t *testing.T) {
	t.Parallel()
	r, trail := open(t, nil)
	kept, err := r.Add(admin(t), relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam})
	if err != nil {
		t.Fatal(err)
	}
	trail.Fail(errors.New("down"))
	if _, err := r.Add(admin(t), relation.Relation{Patient: "p-2", Principal: "u-1", Kind: relation.CareTeam}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Add = %v", err)
	}
	if err := r.End(admin(t), kept.ID, noon); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("End = %v", err)
	}
	if got, err := r.List(admin(t), relation.Query{}); err == nil {
		t.Errorf("List = %v", got)
	}
	if reaches(t, r, nurse(), access.Treatment, noon, "p-2") || !reaches(t, r, nurse(), access.Treatment, noon, "p-1") {
		t.Error("what was not recorded counts")
	}
}

func TestWhomARelationServes(t *testing.T) {
	t.Parallel()
	other := relation.NewMemory(audittest.New(t))
	ev := audit.Event{Type: audit.RelationChanged, Outcome: audit.Success, Action: access.Create, Reason: audit.ReasonCreated, Objects: []audit.Object{{Type: relation.Resource, Tenant: "t-1", Record: "r-1"}}}
	if err := other.Add(admin(t), relation.Relation{ID: "r-1", Tenant: "t-1", Patient: "p-9", Principal: "u-1", Kind: relation.CareTeam, From: noon}, ev); err != nil {
		t.Fatal(err)
	}
	r, _ := open(t, func(c *relation.Config) {
		c.Kinds = map[access.Purpose][]relation.Kind{access.CareCoordination: {relation.PrimaryCare}, access.Payment: {}}
		c.Others = []func(access.Principal, access.Purpose, time.Time) access.Set{func(who access.Principal, purpose access.Purpose, at time.Time) access.Set {
			if purpose != access.Treatment {
				return nil
			}
			return other.Set(relation.Reach{Tenant: who.Tenant, Principal: "u-1", At: at, Kinds: map[relation.Kind]relation.Window{relation.CareTeam: {}}})
		}}
	})
	for _, n := range []relation.Relation{{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam}, {Patient: "p-2", Principal: "u-1", Kind: relation.PrimaryCare},
		{Patient: "p-3", Principal: "u-1", Kind: relation.Representative}, {Patient: "p-4", Principal: "u-1", Kind: relation.Representative}} {
		if _, err := r.Add(admin(t), n); err != nil {
			t.Fatal(err)
		}
	}
	proxy, bare, patient, service, bad, elsewhere := nurse(), nurse(), nurse(), nurse(), nurse(), nurse()
	proxy.Kind, proxy.OnBehalf, proxy.OnBehalfKind = access.Proxy, "p-3", access.Patient
	bare.Kind, patient.Kind, service.Kind, bad.ID, elsewhere.Tenant = access.Proxy, access.Patient, access.Service, "", "t-2"
	for _, tt := range []struct {
		name    string
		who     access.Principal
		purpose access.Purpose
		want    []string
	}{
		{"staff", nurse(), access.Treatment, []string{"p-1", "p-2", "p-9"}},
		{"a purpose of its own", nurse(), access.CareCoordination, []string{"p-2"}},
		{"a purpose above", nurse(), access.PopulationHealth, []string{"p-1", "p-2"}},
		{"a purpose that nothing serves", nurse(), access.ClaimAttachment, nil},
		{"no purpose", nurse(), "", nil},
		{"a service", service, access.Treatment, []string{"p-1", "p-2", "p-9"}},
		{"a proxy", proxy, access.PatientRequest, []string{"p-3"}},
		{"a proxy of nobody", bare, access.PatientRequest, nil},
		{"a patient", patient, access.PatientRequest, nil},
		{"nobody", bad, access.Treatment, nil},
		{"the same ID elsewhere", elsewhere, access.Treatment, nil},
	} {
		var got []string
		for _, p := range []string{"p-1", "p-2", "p-3", "p-4", "p-9"} {
			if reaches(t, r, tt.who, tt.purpose, noon, p) {
				got = append(got, p)
			}
		}
		if tt.name == "the same ID elsewhere" {
			got = slices.DeleteFunc(got, func(p string) bool { return p == "p-9" }) // the test's own set does not look
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Who may say that somebody cares for a patient is what the policy says: what it
// does not allow is on record, and changes nothing.
func TestWhoMayChangeRelations(t *testing.T) {
	t.Parallel()
	policy := &accesstest.Fake{Rules: []accesstest.Rule{
		{Role: "registrar", Action: access.Create, Type: relation.Resource, Purpose: access.PatientAdmin},
		{Role: "registrar", Action: access.Update, Type: relation.Resource, Purpose: access.PatientAdmin},
		{Role: "registrar", Action: access.Read, Type: relation.Resource, Purpose: access.PatientAdmin},
		{Role: "nurse", Action: access.Read, Type: "*", Purpose: "*"},
		{Role: "nurse", Action: "*", Type: "chart", Purpose: "*"},
	}}
	r, trail := open(t, func(c *relation.Config) { c.Access = policy })
	registrar := accesstest.AsIn(t, t.Context(), "t-1", "registrar", access.PatientAdmin)
	n := relation.Relation{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam}
	kept, err := r.Add(registrar, n)
	if err != nil {
		t.Fatal(err)
	}
	for name, ctx := range map[string]context.Context{
		"a nurse":         accesstest.AsIn(t, t.Context(), "t-1", "nurse", access.Treatment),
		"another purpose": accesstest.AsIn(t, t.Context(), "t-1", "registrar", access.Treatment),
		"the engine errs": registrar,
	} {
		if name == "the engine errs" {
			policy.Fail(errors.New("down"))
		}
		before := len(trail.Events())
		_, err := r.Add(ctx, relation.Relation{Patient: "p-2", Principal: "u-1", Kind: relation.CareTeam})
		for what, err := range map[string]error{"add": err, "end": r.End(ctx, kept.ID, noon), "void": r.Void(ctx, kept.ID)} {
			if err == nil || name != "the engine errs" && !errors.Is(err, access.ErrDenied) {
				t.Errorf("%s: %s = %v", name, what, err)
			}
		}
		if n := len(trail.Events()) - before; name != "the engine errs" && n != 3 {
			t.Errorf("%s: %d events, want three refusals", name, n)
		}
		policy.Fail(nil)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.Denied, Action: access.Create, Code: access.DenyNoRule, Objects: []audit.Object{{Type: relation.Resource, Patient: "p-2"}}},
		audit.Event{Type: audit.Denied, Action: access.Update})
	if _, err := r.List(accesstest.AsIn(t, t.Context(), "t-1", "clerk", access.Treatment), relation.Query{}); !errors.Is(err, access.ErrDenied) {
		t.Errorf("List = %v", err)
	}
	if !reaches(t, r, nurse(), access.Treatment, noon, "p-1") || reaches(t, r, nurse(), access.Treatment, noon, "p-2") {
		t.Error("what was refused has changed something")
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	for field, spoil := range map[string]func(*relation.Config){
		"Config.Store":   func(c *relation.Config) { c.Store = nil },
		"Config.Access":  func(c *relation.Config) { c.Access = nil },
		"Config.Audit":   func(c *relation.Config) { c.Audit = nil },
		"Config.Windows": func(c *relation.Config) { c.Windows = map[relation.Kind]relation.Window{"X": {}} },
		"Config.Windows[ATND]": func(c *relation.Config) {
			c.Windows = map[relation.Kind]relation.Window{relation.Attending: {After: -1}}
		},
		"Config.Kinds":        func(c *relation.Config) { c.Kinds = map[access.Purpose][]relation.Kind{"X": nil} },
		"Config.Kinds[TREAT]": func(c *relation.Config) { c.Kinds = map[access.Purpose][]relation.Kind{access.Treatment: {"X"}} },
		"Config.Others": func(c *relation.Config) {
			c.Others = make([]func(access.Principal, access.Purpose, time.Time) access.Set, 1)
		},
	} {
		cfg := relation.Config{Store: relation.NewMemory(audittest.New(t)), Access: accesstest.Allow(), Audit: audittest.New(t)}
		spoil(&cfg)
		if _, err := relation.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// The rules of audit/watch see the relations.
func TestWatched(t *testing.T) {
	t.Parallel()
	r, trail := open(t, nil)
	for _, n := range []relation.Relation{{Patient: "p-1", Principal: "u-1", Kind: relation.CareTeam}, {Patient: "p-2", Principal: "u-1", Kind: relation.Attending, From: noon.Add(-2 * day), Until: noon.Add(-day)},
		{Patient: "p-3", Principal: "u-1", Kind: relation.CareTeam, From: noon.Add(-2 * day), Until: noon.Add(-day)}} {
		if _, err := r.Add(admin(t), n); err != nil {
			t.Fatal(err)
		}
	}
	rest := new(watchtest.Fake)
	rest.Set("t-1", "u-1", "p-2", watch.Relation{Staff: true})
	rest.Set("t-1", "", "p-3", watch.Relation{VIP: true})
	watchtest.TestRelations(t, r.Watched(trail.Pseudonym, rest),
		watchtest.Known{Tenant: "t-1", Actor: "u-1", Patient: "p-1", Relation: watch.Relation{Care: true}},
		watchtest.Known{Tenant: "t-1", Actor: "u-1", Patient: "p-2", Relation: watch.Relation{Care: true, Staff: true}},
		watchtest.Known{Tenant: "t-1", Actor: "u-1", Patient: "p-3", Relation: watch.Relation{VIP: true}})
	watchtest.TestRelations(t, r.Watched(trail.Pseudonym, nil),
		watchtest.Known{Tenant: "t-1", Actor: "u-1", Patient: "p-1", Relation: watch.Relation{Care: true}})
	blind := r.Watched(func(string, string) string { return "" }, nil)
	if got, err := blind.Relate(t.Context(), "t-1", "u-1", []string{"", "p-1"}); err != nil || got[0].Care || got[1].Care {
		t.Errorf("a trail that cannot name anybody: %+v, %v", got, err)
	}
}
