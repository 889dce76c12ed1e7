// SPDX-License-Identifier: Apache-2.0

package directive_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, change func(*directive.Config)) (*directive.Directives, *audittest.Trail, *time.Time) {
	t.Helper()
	trail, now := audittest.New(t), noon
	cfg := directive.Config{Store: directive.NewMemory(trail), Access: accesstest.Allow(), Audit: trail, Now: func() time.Time { return now },
		Needs: []directive.Need{directive.PsychotherapyNotes("session_note"), directive.Marketing()}}
	if change != nil {
		change(&cfg)
	}
	d, err := directive.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d, trail, &now
}

func admin(t *testing.T) context.Context {
	return accesstest.AsIn(t, t.Context(), "t-1", "privacy-officer", access.PatientAdmin)
}

func nurse() access.Principal {
	return access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
}

func record(t *testing.T, d *directive.Directives, n directive.Directive) directive.Directive {
	t.Helper()
	kept, err := d.Record(admin(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func in(t *testing.T, s access.Set, id string) bool {
	t.Helper()
	if s == nil {
		return false
	}
	got, err := s.Has(t.Context(), "t-1", []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func restricted(t *testing.T, d *directive.Directives, purpose access.Purpose, patient string) bool {
	t.Helper()
	s, _ := d.Restricted(nurse(), purpose, "chart", noon)
	return in(t, s, patient)
}

func authorized(t *testing.T, d *directive.Directives, purpose access.Purpose, typ, patient string) (needed, has bool) {
	t.Helper()
	needed, of, _ := d.Authorized(nurse(), purpose, typ, noon)
	has = len(of) > 0
	for _, s := range of {
		has = has && in(t, s, patient)
	}
	return needed, has
}

func TestARestriction(t *testing.T) {
	t.Parallel()
	d, trail, _ := open(t, func(c *directive.Config) { c.Unbound = []access.Purpose{access.PublicHealth} })
	kept := record(t, d, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1", Roles: []string{"nurse"}, Purposes: []access.Purpose{access.Treatment, access.PublicHealth}})
	audittest.Want(t, trail, audit.Event{Type: audit.DirectiveChanged, Outcome: audit.Success, Reason: audit.ReasonCreated, Rule: "restriction", Citation: "164.522(a)(1)",
		Objects: []audit.Object{{Type: "directive", Record: kept.ID, Patient: "p-1"}}})
	for purpose, want := range map[access.Purpose]bool{
		access.Treatment: true, access.CareCoordination: true, access.EmergencyRoom: true,
		access.Payment: false, access.Disaster: false, access.BreakGlass: false, access.EmergencyTreatment: false,
	} {
		if got := restricted(t, d, purpose, "p-1"); got != want {
			t.Errorf("%s: restricted %v, want %v", purpose, got, want)
		}
	}
	if restricted(t, d, access.Treatment, "p-2") {
		t.Error("another patient is restricted too")
	}
	for _, how := range []directive.Ending{"", directive.Occurred, directive.Lifted, "terminated"} {
		if err := d.End(admin(t), kept.ID, how); err == nil {
			t.Errorf("a restriction ended by %q", how)
		}
	}
	if err := d.End(admin(t), kept.ID, directive.Oral); err != nil {
		t.Fatal(err)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.DirectiveChanged, Reason: audit.ReasonRevoked, Action: access.Update})
	if restricted(t, d, access.Treatment, "p-1") {
		t.Error("restricted after the end")
	}
}

// A restriction that names nobody is of the workforce and of whoever asks on the
// patient's behalf, not of the patient.
func TestARestrictionLeavesPatientsTheirOwn(t *testing.T) {
	t.Parallel()
	d, _, _ := open(t, nil)
	record(t, d, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1"})
	for _, tt := range []struct {
		kind    access.Kind
		purpose access.Purpose
		want    bool
	}{
		{access.Patient, access.PatientRequest, false},
		{access.Patient, access.Treatment, true},
		{access.Proxy, access.PatientRequest, true},
		{access.Human, access.PatientRequest, true},
		{access.Human, access.Treatment, true},
	} {
		who := nurse()
		who.Kind = tt.kind
		patients, _ := d.Restricted(who, tt.purpose, "chart", noon)
		if got := patients != nil && in(t, patients, "p-1"); got != tt.want {
			t.Errorf("%s for %s: restricted %v, want %v", tt.kind, tt.purpose, got, tt.want)
		}
	}
}

func TestARestrictionOfARecordAndOfADisclosure(t *testing.T) {
	t.Parallel()
	d, _, _ := open(t, nil)
	record(t, d, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1", Types: []string{"chart"}, Record: "r-1"})
	record(t, d, directive.Directive{Kind: directive.Restriction, Basis: directive.Required, Patient: "p-2", Recipient: "plan-1", Purposes: []access.Purpose{access.Payment, access.Operations}})
	patients, records := d.Restricted(nurse(), access.Treatment, "chart", noon)
	if in(t, patients, "p-1") || !in(t, records, "r-1") || in(t, records, "r-2") {
		t.Error("a restriction of one record is not that")
	}
	if restricted(t, d, access.Payment, "p-2") {
		t.Error("a restriction of a disclosure restricts the use inside")
	}
	for recipient, want := range map[string]bool{"plan-1": true, "plan-2": false, "": false} {
		s, r := d.RestrictedTo(recipient, nurse(), access.ClaimAttachment, "chart", noon)
		if in(t, s, "p-2") != want || !in(t, r, "r-1") {
			t.Errorf("to %q: restricted %v, want %v", recipient, !want, want)
		}
	}
	if s, r := d.RestrictedTo("plan-1", nurse(), access.BreakGlass, "chart", noon); s != nil || r != nil {
		t.Error("an emergency is restricted")
	}
}

func TestAnAuthorization(t *testing.T) {
	t.Parallel()
	d, trail, now := open(t, func(c *directive.Config) {
		c.Others = func(who access.Principal, typ string) access.Set { return access.AllBut{"by-" + who.ID} }
	})
	if needed, _ := authorized(t, d, access.Treatment, "chart", "p-1"); needed {
		t.Error("treatment needs an authorization")
	}
	paper := directive.Directive{Kind: directive.Authorization, Patient: "p-1", Types: []string{"session_note"}, Purposes: []access.Purpose{access.Treatment}, Document: "doc-1", Until: noon.Add(time.Hour)}
	kept := record(t, d, paper)
	for _, tt := range []struct {
		purpose     access.Purpose
		typ, who    string
		needed, has bool
	}{
		{access.Treatment, "session_note", "p-1", true, true},
		{access.CareCoordination, "session_note", "p-1", true, true},
		{access.Treatment, "session_note", "p-2", true, false},
		{access.BreakGlass, "session_note", "p-1", true, false},
		{access.Payment, "session_note", "p-1", true, false},
		{access.Marketing, "chart", "p-1", true, false},
		{access.Payment, "chart", "p-1", false, false},
	} {
		if needed, has := authorized(t, d, tt.purpose, tt.typ, tt.who); needed != tt.needed || has != tt.has {
			t.Errorf("%s of %s for %s: needed %v, there %v", tt.typ, tt.who, tt.purpose, needed, has)
		}
	}
	_, _, others := d.Authorized(nurse(), access.Treatment, "session_note", noon)
	if in(t, others, "by-u-1") || !in(t, others, "by-u-2") {
		t.Error("whoever wrote a note needs an authorization, or another does not")
	}
	if _, _, others = d.Authorized(nurse(), access.Payment, "session_note", noon); others != nil {
		t.Error("whoever wrote a note may use it for payment without an authorization")
	}
	if needed, of := d.AuthorizedTo("lab-1", nurse(), access.Treatment, "session_note", noon); !needed || len(of) != 1 || in(t, of[0], "p-1") {
		t.Error("an authorization of a use serves a disclosure")
	}
	*now = noon.Add(-time.Minute) // another node's clock
	if err := d.End(admin(t), kept.ID, directive.Revoked); err != nil {
		t.Fatal(err)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.DirectiveChanged, Reason: audit.ReasonCreated, Rule: "authorization"}, audit.Event{Type: audit.DirectiveChanged, Reason: audit.ReasonRevoked})
	if _, has := authorized(t, d, access.Treatment, "session_note", "p-1"); has {
		t.Error("it counts after it was revoked")
	}
	paper.Until, paper.Event = time.Time{}, "discharge"
	kept = record(t, d, paper)
	if err := d.End(admin(t), kept.ID, directive.Occurred); err != nil {
		t.Error(err)
	}
	paper.Event = directive.NoEnd
	paper.Purposes = []access.Purpose{access.Research}
	if kept = record(t, d, paper); d.End(admin(t), kept.ID, directive.Occurred) == nil {
		t.Error("an event occurred that is none")
	}
}

func TestDirectivesThatAreRefused(t *testing.T) {
	t.Parallel()
	d, trail, _ := open(t, nil)
	restriction := directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1"}
	paper := directive.Directive{Kind: directive.Authorization, Patient: "p-1", Types: []string{"chart"}, Purposes: []access.Purpose{access.Marketing}, Document: "doc-1", Until: noon.Add(time.Hour)}
	hold := directive.Directive{Kind: directive.Hold, Patient: "p-1"}
	for name, bad := range map[string]directive.Directive{
		"no kind":               with(restriction, func(d *directive.Directive) { d.Kind = "" }),
		"no patient":            with(restriction, func(d *directive.Directive) { d.Patient = "" }),
		"a name":                with(restriction, func(d *directive.Directive) { d.Principals = []string{"Jane Roe"} }),
		"no basis":              with(restriction, func(d *directive.Directive) { d.Basis = "" }),
		"a purpose of nobody":   with(restriction, func(d *directive.Directive) { d.Purposes = []access.Purpose{"CURIOSITY"} }),
		"a record without type": with(restriction, func(d *directive.Directive) { d.Record = "r-1" }),
		"required without recipient": with(restriction, func(d *directive.Directive) {
			d.Basis, d.Purposes = directive.Required, []access.Purpose{access.Payment}
		}),
		"required of treatment": with(restriction, func(d *directive.Directive) {
			d.Basis, d.Recipient, d.Purposes = directive.Required, "plan-1", []access.Purpose{access.Payment, access.Treatment}
		}),
		"an end before":           with(restriction, func(d *directive.Directive) { d.Until = noon.Add(-time.Hour) }),
		"an event":                with(restriction, func(d *directive.Directive) { d.Event = "discharge" }),
		"another tenant":          with(restriction, func(d *directive.Directive) { d.Tenant = "t-2" }),
		"too many":                with(restriction, func(d *directive.Directive) { d.Roles = slices.Repeat([]string{"nurse"}, 65) }),
		"of nothing":              with(paper, func(d *directive.Directive) { d.Types = nil }),
		"for nothing":             with(paper, func(d *directive.Directive) { d.Purposes = nil }),
		"not signed":              with(paper, func(d *directive.Directive) { d.Document = "" }),
		"without end":             with(paper, func(d *directive.Directive) { d.Until = time.Time{} }),
		"an end in words":         with(paper, func(d *directive.Directive) { d.Event = "when Jane is well" }),
		"no end of marketing":     with(paper, func(d *directive.Directive) { d.Event = directive.NoEnd }),
		"notes and more":          with(paper, func(d *directive.Directive) { d.Types = []string{"chart", "session_note"} }),
		"a basis of an agreement": with(paper, func(d *directive.Directive) { d.Basis = directive.Agreed }),
		"a hold of a part":        with(hold, func(d *directive.Directive) { d.Types = []string{"chart"} }),
	} {
		if _, err := d.Record(admin(t), bad); err == nil || strings.Contains(err.Error(), "Jane") || strings.Contains(err.Error(), "CURIOSITY") {
			t.Errorf("%s: %v", name, err)
		}
	}
	audittest.WantNone(t, trail, audit.Event{Type: audit.DirectiveChanged})
	for name, ctx := range map[string]context.Context{"nobody": t.Context(), "no purpose": access.With(t.Context(), nurse(), "")} {
		if _, err := d.Record(ctx, restriction); err == nil {
			t.Errorf("%s records", name)
		}
		if _, err := d.List(ctx, "p-1"); err == nil {
			t.Errorf("%s lists", name)
		}
	}
}

func with(d directive.Directive, change func(*directive.Directive)) directive.Directive {
	change(&d)
	return d
}

func TestNoDirectiveWithoutARecord(t *testing.T) {
	t.Parallel()
	d, trail, _ := open(t, nil)
	kept := record(t, d, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1"})
	trail.Fail(errors.New("down"))
	if err := d.End(admin(t), kept.ID, directive.Revoked); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("End = %v", err)
	}
	if _, err := d.Record(admin(t), directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-2"}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record = %v", err)
	}
	if got, err := d.List(admin(t), "p-1"); err == nil {
		t.Errorf("List = %v", got)
	}
	trail.Fail(nil)
	if !restricted(t, d, access.Treatment, "p-1") || restricted(t, d, access.Treatment, "p-2") {
		t.Error("what was not recorded counts")
	}
	if got, err := d.List(admin(t), "p-1"); err != nil || len(got) != 1 {
		t.Errorf("List = %v, %v", got, err)
	}
	audittest.Want(t, trail, audit.Event{Type: audit.Fetched, Objects: []audit.Object{{Type: "directive", Record: kept.ID, Patient: "p-1"}}})
	if err := d.Void(admin(t), kept.ID); err != nil || restricted(t, d, access.Treatment, "p-1") {
		t.Errorf("a mistake counts: %v", err)
	}
}

// Who may record what a patient said, and end it, is what the policy says.
func TestWhoMayChangeDirectives(t *testing.T) {
	t.Parallel()
	policy := &accesstest.Fake{Rules: []accesstest.Rule{{Role: "privacy-officer", Action: "*", Type: directive.Resource, Purpose: "*"}, {Role: "nurse", Action: "*", Type: "chart", Purpose: "*"}}}
	d, trail, _ := open(t, func(c *directive.Config) { c.Access = policy })
	n := directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1"}
	kept := record(t, d, n)
	other := accesstest.AsIn(t, t.Context(), "t-1", "nurse", access.Treatment)
	_, err := d.Record(other, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-2"})
	_, lerr := d.List(other, "p-1")
	for what, err := range map[string]error{"record": err, "list": lerr, "end": d.End(other, kept.ID, directive.Oral), "void": d.Void(other, kept.ID)} {
		if !errors.Is(err, access.ErrDenied) {
			t.Errorf("%s = %v", what, err)
		}
	}
	audittest.Want(t, trail, audit.Event{Type: audit.Denied, Action: access.Create, Code: access.DenyNoRule, Objects: []audit.Object{{Type: directive.Resource, Patient: "p-2"}}})
	audittest.Want(t, trail, audit.Event{Type: audit.Denied, Action: access.Update}, audit.Event{Type: audit.Denied, Action: access.Update})
	audittest.Want(t, trail, audit.Event{Type: audit.Denied, Action: access.Read})
	policy.Fail(errors.New("down"))
	if err := d.Void(admin(t), kept.ID); err == nil {
		t.Error("the engine errs, and a restriction is void")
	}
	if !restricted(t, d, access.Treatment, "p-1") || restricted(t, d, access.Treatment, "p-2") {
		t.Error("what was refused has changed something")
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	for field, spoil := range map[string]func(*directive.Config){
		"Config.Store":    func(c *directive.Config) { c.Store = nil },
		"Config.Access":   func(c *directive.Config) { c.Access = nil },
		"Config.Audit":    func(c *directive.Config) { c.Audit = nil },
		"Config.Needs[0]": func(c *directive.Config) { c.Needs = []directive.Need{{Purposes: []access.Purpose{"X"}}} },
		"Config.Needs[1]": func(c *directive.Config) { c.Needs = []directive.Need{{}, {Types: []string{"a b"}}} },
		"Config.Unbound":  func(c *directive.Config) { c.Unbound = []access.Purpose{"X"} },
	} {
		cfg := directive.Config{Store: directive.NewMemory(audittest.New(t)), Access: accesstest.Allow(), Audit: audittest.New(t)}
		spoil(&cfg)
		if _, err := directive.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
