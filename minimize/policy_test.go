// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/part164/part164/access"
)

// need returns the policy of rules.
func need(t testing.TB, rules ...Rule) *Policy {
	t.Helper()
	p, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// as returns a context in which roles act for purpose under p.
func as(ctx context.Context, p *Policy, purpose access.Purpose, roles ...string) context.Context {
	ctx = access.With(ctx, access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: roles}, purpose)
	if s, err := access.From(ctx); err == nil {
		Pin(s, p)
	}
	return ctx
}

var treat, pay = []access.Purpose{access.Treatment}, []access.Purpose{access.Payment}

func TestDefaultWithholds(t *testing.T) {
	t.Parallel()
	named := need(t, Rule{Role: "nurse", Purposes: treat, Classes: []Class{Name}, View: Reveal, Right: Change})
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}, "named": named} {
		for _, q := range []struct {
			roles   []string
			purpose access.Purpose
			class   Class
		}{
			{nil, access.Treatment, Name},
			{[]string{""}, access.Treatment, Name},
			{[]string{"Nurse"}, access.Treatment, Name},
			{[]string{"physician"}, access.Treatment, Name},
			{[]string{"nurse"}, "", Name},
			{[]string{"nurse"}, "treat", Name},
			{[]string{"nurse"}, access.EmergencyTreatment, Name},
			{[]string{"nurse"}, access.Treatment, ""},
			{[]string{"nurse"}, access.Treatment, "NAME"},
			{[]string{"nurse"}, access.Treatment, SSN},
		} {
			if v, r := p.View(q.roles, q.purpose, q.class), p.Right(q.roles, q.purpose, q.class); v != Withhold || r != No {
				t.Errorf("%s policy gives %v %s %q: %v, %v", name, q.roles, q.purpose, q.class, v, r)
			}
		}
	}
	if v := named.View([]string{"x", "nurse"}, access.Treatment, Name); v != Reveal {
		t.Errorf("the named cell gives %v", v)
	}
}

func TestDenyWins(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Role: "physician", Purposes: treat, Classes: Classes(), View: Reveal, Right: Change},
		{Role: "physician", Purposes: treat, Classes: []Class{Psychotherapy}, Deny: true},
		{Role: "student", Purposes: treat, Classes: []Class{Sensitive}, Deny: true},
	}
	for range 2 {
		p := need(t, rules...)
		for _, q := range []struct {
			roles []string
			class Class
			want  View
		}{
			{[]string{"physician"}, Sensitive, Reveal},
			{[]string{"physician"}, Psychotherapy, Withhold},
			{[]string{"physician", "student"}, Sensitive, Withhold},
			{[]string{"student", "physician"}, Sensitive, Withhold},
			{[]string{"student", "physician"}, Name, Reveal},
		} {
			if got := p.View(q.roles, access.Treatment, q.class); got != q.want {
				t.Errorf("%v see %v of %s, want %v", q.roles, got, q.class, q.want)
			}
			if got := p.Right(q.roles, access.Treatment, q.class); (got == Change) != (q.want == Reveal) {
				t.Errorf("%v may %v %s", q.roles, got, q.class)
			}
		}
		slices.Reverse(rules)
	}
}

func TestRolesUniteInsideOnePurposeOnly(t *testing.T) {
	t.Parallel()
	p := need(t,
		Rule{Role: "nurse", Purposes: treat, Classes: []Class{Clinical}, View: Reveal, Right: Change},
		Rule{Role: "billing", Purposes: pay, Classes: []Class{Plan}, View: Reveal, Right: Set},
		Rule{Role: "billing", Purposes: treat, Classes: []Class{SSN}, View: Mask},
		Rule{Role: "clerk", Purposes: treat, Classes: []Class{SSN}, View: Reveal, Right: Set},
	)
	both := []string{"nurse", "billing", "clerk"}
	for _, q := range []struct {
		purpose access.Purpose
		class   Class
		view    View
		right   Right
	}{
		{access.Treatment, Clinical, Reveal, Change},
		{access.Treatment, Plan, Withhold, No},
		{access.Treatment, SSN, Reveal, Set},
		{access.Payment, Clinical, Withhold, No},
		{access.Payment, Plan, Reveal, Set},
		{access.Payment, SSN, Withhold, No},
	} {
		if v, r := p.View(both, q.purpose, q.class), p.Right(both, q.purpose, q.class); v != q.view || r != q.right {
			t.Errorf("%s of %s: %v, %v, want %v, %v", q.class, q.purpose, v, r, q.view, q.right)
		}
	}
}

func TestNewNamesTheBadRule(t *testing.T) {
	t.Parallel()
	good := Rule{Role: "nurse", Purposes: treat, Classes: []Class{Name}, View: Reveal}
	for want, change := range map[string]func(*Rule){
		"Role is empty":              func(r *Rule) { r.Role = "" },
		"Role looks like an e-mail":  func(r *Rule) { r.Role = "a@b" },
		"Purposes is empty":          func(r *Rule) { r.Purposes = nil },
		`unknown purpose "treat"`:    func(r *Rule) { r.Purposes = []access.Purpose{"treat"} },
		"Classes is empty":           func(r *Rule) { r.Classes = nil },
		`unknown class "nmae"`:       func(r *Rule) { r.Classes = []Class{"nmae"} },
		"View is none of":            func(r *Rule) { r.View = 17 },
		"Right is none of":           func(r *Rule) { r.Right = 17 },
		"Deny together":              func(r *Rule) { r.Deny = true },
		"no form for the view gener": func(r *Rule) { r.View = Generalise },
		"no form for the view mask":  func(r *Rule) { r.View, r.Classes = Mask, []Class{Name, City} },
		"not available yet":          func(r *Rule) { r.View = Pseudonym },
	} {
		bad := good
		change(&bad)
		p, err := New([]Rule{good, bad})
		if err == nil || p != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rule 1") {
			t.Errorf("New: %v, want an error of rule 1 saying %q", err, want)
		}
	}
	if _, err := New(nil); err == nil {
		t.Error("New without rules: no error")
	}
}

func TestIDIsTheTables(t *testing.T) {
	t.Parallel()
	p := Starter()
	rules := p.Rules()
	rand.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	var split []Rule // one row a cell
	for _, r := range rules {
		for _, purpose := range r.Purposes {
			for _, c := range r.Classes {
				split = append(split, Rule{r.Role, []access.Purpose{purpose}, []Class{c}, r.View, r.Right, r.Deny})
			}
		}
	}
	for name, same := range map[string][]Rule{"shuffled": rules, "one row a cell": split} {
		if got := need(t, same...).ID(); got != p.ID() {
			t.Errorf("%s: ID %s, want %s", name, got, p.ID())
		}
	}
	for i := range split {
		for _, other := range []Rule{
			{split[i].Role, split[i].Purposes, split[i].Classes, Withhold, No, !split[i].Deny},
			{split[i].Role, split[i].Purposes, split[i].Classes, split[i].View, (split[i].Right + 1) % 3, false},
			{split[i].Role, []access.Purpose{access.Research}, split[i].Classes, split[i].View, split[i].Right, split[i].Deny},
			{"other", split[i].Purposes, split[i].Classes, split[i].View, split[i].Right, split[i].Deny},
		} {
			changed := slices.Clone(split)
			changed[i] = other
			if need(t, changed...).ID() == p.ID() {
				t.Errorf("row %+v changed to %+v keeps the ID", split[i], other)
			}
		}
	}
	if (*Policy)(nil).ID() != "" || new(Policy).ID() != "" {
		t.Error("the nil or zero policy has an ID")
	}
}

func TestRulesAreData(t *testing.T) {
	t.Parallel()
	p := Starter()
	b, err := json.Marshal(p.Rules())
	if err != nil {
		t.Fatal(err)
	}
	var rules []Rule
	if err := json.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	if need(t, rules...).ID() != p.ID() {
		t.Error("a policy changes on its way through JSON")
	}
	for _, bad := range []string{`[{"view":"all"}]`, `[{"right":"write"}]`, `[{"view":5}]`} {
		if err := json.Unmarshal([]byte(bad), &rules); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	mine := p.Rules()
	mine[0].Classes[0] = "x"
	mine[0].Purposes[0] = "x"
	if p.Rules()[0].Classes[0] == "x" || p.Rules()[0].Purposes[0] == "x" {
		t.Error("Rules gives away the policy's own memory")
	}
}

func TestStarter(t *testing.T) {
	t.Parallel()
	p := Starter()
	if p == nil {
		t.Fatal("Starter is nil")
	}
	clinical := []Class{Clinical, Problem, Allergy, Medication, Text, Sensitive}
	for _, role := range []string{"physician", "nurse"} {
		for _, purpose := range []access.Purpose{access.Treatment, access.EmergencyTreatment} {
			for _, c := range append(clinical, Name, DOB, Street, City, ZIP, Phone, MRN) {
				if v := p.View([]string{role}, purpose, c); v != Reveal {
					t.Errorf("%s sees %v of %s for %s", role, v, c, purpose)
				}
			}
			if v := p.View([]string{role}, purpose, SSN); v != Mask {
				t.Errorf("%s sees %v of the SSN", role, v)
			}
		}
	}
	for _, tt := range []struct {
		role    string
		purpose access.Purpose
		views   map[Class]View
		rights  map[Class]Right
	}{
		{"physician", access.Treatment, map[Class]View{Psychotherapy: Withhold},
			map[Class]Right{Clinical: Change, Problem: Change, Allergy: Change, Medication: Change, Text: Change, Name: Change, SSN: Change, Plan: No, Psychotherapy: No}},
		{"nurse", access.Treatment, map[Class]View{Psychotherapy: Withhold},
			map[Class]Right{Clinical: Change, Allergy: Change, Name: Change, Phone: Change, SSN: Set, Problem: No, Medication: No, Text: No, Plan: No}},
		{"billing", access.Payment,
			map[Class]View{Name: Reveal, DOB: Reveal, Street: Reveal, ZIP: Reveal, Plan: Reveal, Account: Reveal, MRN: Reveal, Phone: Mask, SSN: Mask, Psychotherapy: Withhold, Email: Withhold},
			map[Class]Right{Plan: Change, Account: Change, Name: No, SSN: No, MRN: No}},
		{"privacy-officer", access.Compliance,
			map[Class]View{Name: Reveal, MRN: Reveal, DOB: Generalise, SSN: Withhold, Phone: Withhold}, map[Class]Right{Name: No, MRN: No}},
	} {
		for c, want := range tt.views {
			if got := p.View([]string{tt.role}, tt.purpose, c); got != want {
				t.Errorf("%s sees %v of %s, want %v", tt.role, got, c, want)
			}
		}
		for c, want := range tt.rights {
			if got := p.Right([]string{tt.role}, tt.purpose, c); got != want {
				t.Errorf("%s may %v %s, want %v", tt.role, got, c, want)
			}
		}
		if tt.purpose == access.Treatment {
			continue
		}
		for _, c := range clinical {
			if v := p.View([]string{tt.role}, tt.purpose, c); v != Withhold {
				t.Errorf("%s sees %v of %s", tt.role, v, c)
			}
		}
	}
	for _, purpose := range []access.Purpose{access.SystemAdmin, access.Treatment, access.Payment, access.Operations} {
		for _, c := range Classes() {
			if v, r := p.View([]string{"admin"}, purpose, c), p.Right([]string{"admin"}, purpose, c); v != Withhold || r != No {
				t.Errorf("admin has %v, %v of %s for %s", v, r, c, purpose)
			}
		}
	}
	for _, c := range Classes() {
		for _, other := range []access.Purpose{access.Research, access.Operations, access.PublicHealth} {
			if v := p.View([]string{"physician", "nurse", "billing", "privacy-officer"}, other, c); v != Withhold {
				t.Errorf("all roles together see %v of %s for %s", v, c, other)
			}
		}
	}
}

func TestPinFixesTheFirst(t *testing.T) {
	t.Parallel()
	a, b := Starter(), need(t, Rule{Role: "nurse", Purposes: treat, Classes: []Class{Name}, View: Reveal})
	ctx := as(t.Context(), nil, access.Treatment, "nurse")
	if p, ok := PolicyOf(ctx); ok || p != nil {
		t.Error("a policy before any was pinned")
	}
	s, err := access.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := Pin(s, nil); got != nil {
		t.Error("Pin(nil) gives a policy")
	}
	if got := Pin(s, a); got != a {
		t.Error("Pin gives another policy than the first")
	}
	if got := Pin(s, b); got != a {
		t.Error("a second Pin changes the policy of the scope")
	}
	if p, ok := PolicyOf(ctx); !ok || p != a {
		t.Error("PolicyOf is not the pinned policy")
	}
	if _, ok := PolicyOf(access.ForPurpose(ctx, access.Payment)); ok {
		t.Error("the pin follows into another scope")
	}
	s.End()
	if _, ok := PolicyOf(ctx); ok {
		t.Error("PolicyOf an ended scope")
	}
}

func TestPinRace(t *testing.T) {
	t.Parallel()
	ctx := as(t.Context(), nil, access.Treatment, "nurse")
	s, _ := access.From(ctx)
	got := make([]*Policy, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = Pin(s, Starter()) })
	}
	wg.Wait()
	for _, p := range got {
		if p != got[0] || p == nil {
			t.Fatal("two policies in one scope")
		}
	}
}
