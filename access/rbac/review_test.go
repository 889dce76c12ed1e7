// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
)

func TestLintOfRoles(t *testing.T) {
	t.Parallel()
	nurse := rule("nurse", access.Read, "patient", access.Treatment)
	wide := rbac.Rule{Role: "nurse", Resources: []string{"*"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{"*"}}
	denied := nurse
	denied.Role, denied.Deny = "staff", true
	for _, tt := range []struct {
		name string
		cfg  rbac.Config
		want []string
	}{
		{"starter", rbac.Config{Rules: rbac.StarterRules()}, nil},
		{"wide", rbac.Config{Rules: []rbac.Rule{wide}}, []string{"wildcard Config.Rules[0]", "purpose Config.Rules[0]"}},
		{"unreachable", rbac.Config{Rules: []rbac.Rule{wide, nurse}}, []string{"wildcard Config.Rules[0]", "purpose Config.Rules[0]", "unreachable Config.Rules[1]"}},
		{"shadowed", rbac.Config{Rules: []rbac.Rule{nurse, denied}, Links: []rbac.Link{{Role: "nurse", Inherits: "staff"}}}, []string{"shadowed Config.Rules[0]"}},
		{"cycle", rbac.Config{Rules: []rbac.Rule{nurse}, Links: []rbac.Link{{Role: "a", Inherits: "b"}, {Role: "b", Inherits: "a"}}}, []string{"cycle Config.Links[1]"}},
		{"unheld", rbac.Config{Rules: []rbac.Rule{nurse, rule("clerk", access.Read, "bill", access.Payment)}, Assigned: true, Links: []rbac.Link{{Role: "charge", Inherits: "nurse"}},
			Assignments: []rbac.Assignment{{Tenant: "t", User: "u", Role: "charge"}, {Tenant: "t", User: "u", Role: "clark"}}}, []string{"unheld Config.Rules[1]", "unknown Config.Assignments[1]"}},
	} {
		got, err := rbac.Lint(tt.cfg)
		var kinds []string
		for _, f := range got {
			kinds = append(kinds, f.Kind+" "+f.Where)
		}
		if err != nil || !slices.Equal(kinds, tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.name, kinds, err, tt.want)
		}
	}
	for _, cfg := range []rbac.Config{{}, {Policy: "p, nurse, *, patient, read, TREAT, allow"}, {Model: "x", Rules: rbac.StarterRules()}} {
		if _, err := rbac.Lint(cfg); err == nil {
			t.Errorf("Lint took %+v", cfg)
		}
	}
}

func TestDiffOfRoles(t *testing.T) {
	t.Parallel()
	nurse := rule("nurse", access.Read, "patient", access.Treatment)
	base := must(t, rbac.Config{Rules: []rbac.Rule{nurse}})
	deny := rule("nurse", access.Read, "patient", access.ClinicalTrial)
	deny.Deny = true
	local := rule("clerk", access.Read, "bill", access.Coverage)
	local.Tenant = "t-1"
	all := rbac.Rule{Role: "nurse", Resources: []string{"*"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}}
	for _, tt := range []struct {
		name string
		cfg  rbac.Config
		want string
	}{
		{"same", rbac.Config{Rules: []rbac.Rule{nurse}}, ""},
		{"same by a link", rbac.Config{Rules: []rbac.Rule{rule("staff", access.Read, "patient", access.Treatment)}, Links: []rbac.Link{{Role: "nurse", Inherits: "staff"}}},
			"+ staff may read patient for TREAT and its kinds in tenant (any other)"},
		{"another action", rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Update, "patient", access.Treatment)}},
			"- nurse may read patient for TREAT and its kinds in tenant (any other)\n+ nurse may update patient for TREAT and its kinds in tenant (any other)"},
		{"a kind denied", rbac.Config{Rules: []rbac.Rule{nurse, deny}}, "- nurse may read patient for CLINTRL in tenant (any other)"},
		{"all but a kind", rbac.Config{Rules: []rbac.Rule{nurse, rule("nurse", access.Read, "bill", access.Research), {Role: "nurse", Resources: []string{"bill"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.ClinicalTrialResearch}, Deny: true}}},
			"+ nurse may read bill for BIORCH in tenant (any other)\n+ nurse may read bill for DSRCH in tenant (any other)\n+ nurse may read bill for HRESCH in tenant (any other)\n" +
				"+ nurse may read bill for POARCH in tenant (any other)\n+ nurse may read bill for TRANSRCH in tenant (any other)"},
		{"one tenant", rbac.Config{Rules: []rbac.Rule{nurse, local}}, "+ clerk may read bill for COVERAGE and its kinds in tenant t-1"},
		{"every type", rbac.Config{Rules: []rbac.Rule{all}}, "+ nurse may read (any other) for TREAT and its kinds in tenant (any other)"},
		{"emergency", rbac.Config{Rules: []rbac.Rule{nurse, rule("nurse", access.Read, "patient", access.EmergencyTreatment)}}, "+ nurse may read patient for ETREAT in tenant (any other)"},
	} {
		got, err := rbac.Diff(base, must(t, tt.cfg), nil)
		var lines []string
		for _, c := range got {
			lines = append(lines, c.String())
		}
		if err != nil || strings.Join(lines, "\n") != tt.want {
			t.Errorf("%s:\n%s\n%v; want\n%s", tt.name, strings.Join(lines, "\n"), err, tt.want)
		}
	}
	patterns := must(t, rbac.Config{Model: domainModel, Policy: "p, r:nurse, *, ^pat.*$, read, TREAT"})
	if _, err := rbac.Diff(patterns, patterns, nil); err == nil {
		t.Error("Diff lists what a pattern matches")
	}
	if got, err := rbac.Diff(base, patterns, map[string][]string{"obj": {"patient", "path"}, "act": {"read"}}); err != nil || len(got) != 1 || got[0].Type != "path" || !got[0].Gained || got[0].Rule == "" {
		t.Errorf("%+v, %v", got, err)
	}
	var none rbac.Engine
	if _, err := rbac.Diff(&none, base, nil); err == nil {
		t.Error("Diff took an engine without a policy")
	}
}

func ExampleReplay() {
	engine := func(purposes ...access.Purpose) *rbac.Engine {
		e, err := rbac.New(rbac.Config{Rules: []rbac.Rule{{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: purposes}}})
		if err != nil {
			panic(err)
		}
		return e
	}
	asked := rbac.Asked{Tenant: "t-1", Roles: []string{"nurse"}, Action: access.Read, Type: "patient", Purpose: access.Treatment}
	other := asked
	other.Purpose = access.Payment
	changed, err := rbac.Replay(engine(access.Treatment, access.Payment), engine(access.Treatment), slices.Values([]rbac.Asked{asked, other, asked, other}))
	for _, c := range changed {
		fmt.Println(c.Purpose, c.Times, c.Old.Allow, c.New.Allow, c.New.Code)
	}
	fmt.Println(err)
	// Output:
	// HPAYMT 2 true false DENY_NO_RULE
	// <nil>
}

func ExampleLint() {
	findings, err := rbac.Lint(rbac.Config{Policy: `
p, r:nurse, *, patient, read, TREAT, allow
p, r:nurse, *, *,       read, TREAT, allow
p, r:nurse, *, patient, *,    *,     deny
`})
	for _, f := range findings {
		fmt.Println(f.Kind, "in", f.Where)
	}
	fmt.Println(err)
	// Output:
	// wildcard in Config.Policy line 3
	// shadowed in Config.Policy line 2
	// <nil>
}
