// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access/policy"
)

const purposeModel = `
[request_definition]
r = sub, obj, act, pur
[policy_definition]
p = sub, obj, act, pur, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && (r.obj == p.obj || p.obj == '*') && (r.act == p.act || p.act == '*') && (r.pur == p.pur || p.pur == '*')
`

// found writes findings as "kind where".
func found(t *testing.T, model, csv string) []string {
	t.Helper()
	all, err := policy.Lint(policy.Config{Model: model, Rows: rows(t, csv)})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range all {
		out = append(out, f.Kind+" "+f.Where)
		if f.Why == "" || strings.Contains(f.String(), "%!") {
			t.Errorf("finding %+v", f)
		}
	}
	return out
}

func TestLintFinds(t *testing.T) {
	t.Parallel()
	const good = "p, r:nurse, chart, read, TREAT, allow\ng, u:alice, r:nurse\n"
	prio := strings.Replace(purposeModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny", 1)
	for _, tt := range []struct {
		name, model, csv string
		want             []string
	}{
		{"nothing", purposeModel, good, nil},
		{"shadowed", purposeModel, good + "p, r:nurse, chart, *, *, deny", []string{"shadowed line 1"}},
		{"shadowed by a role above", purposeModel, good + "g, r:nurse, r:staff\np, r:staff, chart, read, *, deny", []string{"shadowed line 1"}},
		{"denied in part", purposeModel, good + "p, r:nurse, chart, read, TREAT, deny\np, r:nurse, bill, read, TREAT, allow", []string{"shadowed line 1"}},
		{"narrower denial", purposeModel, "p, r:nurse, chart, *, TREAT, allow\ng, u:alice, r:nurse\np, r:nurse, chart, delete, TREAT, deny", nil},
		{"unreachable", purposeModel, "p, r:nurse, chart, *, TREAT, allow\n" + good, []string{"unreachable line 2"}},
		{"wider later", purposeModel, good + "p, r:nurse, chart, *, TREAT, allow", nil},
		{"unreachable by priority", prio, good + "p, r:nurse, chart, read, TREAT, deny", []string{"unreachable line 3"}},
		{"shadowed by priority", prio, "p, r:nurse, chart, *, TREAT, deny\n" + good, []string{"shadowed line 2"}},
		{"unheld", purposeModel, good + "p, r:clerk, bill, read, HPAYMT, allow", []string{"unheld line 3"}},
		{"names", purposeModel, "p, nurse, chart, read, TREAT, allow\ng, alice, nurse", []string{"names line 2"}},
		{"wildcard", purposeModel, good + "p, r:nurse, *, search, TREAT, allow", []string{"wildcard line 3"}},
		{"denying wildcard", purposeModel, good + "p, r:nurse, *, delete, TREAT, deny", nil},
		{"purpose", purposeModel, good + "p, r:nurse, bill, read, *, allow", []string{"purpose line 3"}},
		{"no purpose", denyModel, "p, r:nurse, chart, read, allow\ng, u:alice, r:nurse", []string{"purpose request_definition"}},
		{"ignored", strings.Replace(purposeModel, " && (r.act == p.act || p.act == '*')", "", 1), good, []string{"ignored matchers"}},
		{"casbin", strings.Replace(purposeModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "subjectPriority(p.eft) || deny", 1), good, []string{"casbin model"}},
		{"eval", strings.Replace(purposeModel, "g(r.sub, p.sub)", "g(r.sub, p.sub) && eval(p.sub)", 1), good, []string{"eval matchers", "casbin model"}},
		{"refused", purposeModel, good + "g, r:nurse, r:nurse", []string{"cycle line 3"}},
		{"mid-pattern and unanchored", strings.Replace(strings.Replace(purposeModel, "(r.obj == p.obj || p.obj == '*')", "keyMatch(r.obj, p.obj)", 1), "(r.act == p.act || p.act == '*')", "regexMatch(r.act, p.act)", 1),
			"p, r:nurse, /a/*/b, ^read$, TREAT, allow\np, r:nurse, /a, read, TREAT, allow\np, r:nurse, *, ^read$, TREAT, allow\ng, u:alice, r:nurse", []string{"mid-pattern line 1", "unanchored line 2", "wildcard line 3", "unreachable line 3"}},
	} {
		got := found(t, tt.model, tt.csv)
		if tt.name == "mid-pattern and unanchored" { // what is refused is looked at as Casbin reads it
			got, tt.want = got[:2], tt.want[:2]
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if _, err := policy.Lint(policy.Config{Model: "x"}); err == nil {
		t.Error("Lint took no model")
	}
	if got, err := policy.Lint(policy.Config{Model: purposeModel}); err != nil || len(got) != 1 || got[0].Kind != "empty" {
		t.Errorf("of no rows: %+v, %v", got, err)
	}
}

// What Lint calls unreachable or shadowed changes nothing when it is taken away.
func TestLintTellsTheTruthOfRules(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 64))
	taken := 0
	for world := range 400 {
		pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
		var all []policy.Row
		for i := range 2 + rnd.IntN(10) {
			all = append(all, policy.Row{Fields: []string{"p", pick("r:a", "r:b", "r:c"), pick("o1", "o2", "*"), pick("read", "write", "*"), pick("TREAT", "*"), pick("allow", "allow", "deny")}, From: fmt.Sprint(i)})
		}
		for range rnd.IntN(4) {
			n := rnd.IntN(2)
			all = append(all, policy.Row{Fields: []string{"g", []string{"r:a", "r:b"}[n], []string{"r:b", "r:c"}[n]}, From: "g"})
		}
		model := purposeModel
		if world%2 == 0 {
			model = strings.Replace(purposeModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny", 1)
		}
		cfg := policy.Config{Model: model, Rows: all, AskedByRole: true}
		findings, err := policy.Lint(cfg)
		if err != nil {
			t.Fatal(err)
		}
		before, err := policy.Compile(cfg)
		if err != nil {
			continue // no row allows
		}
		for _, f := range findings {
			if f.Kind != "unreachable" && f.Kind != "shadowed" {
				continue
			}
			taken++
			without := cfg
			without.Rows = slices.DeleteFunc(slices.Clone(all), func(r policy.Row) bool { return r.From == f.Where })
			without.AsCasbin = true // perhaps nothing allows any more
			after, err := policy.Compile(without)
			if err != nil {
				t.Fatal(err)
			}
			for _, request := range product([]string{"r:a", "r:b", "r:c", "r:d"}, []string{"o1", "o2", "o3"}, []string{"read", "write", "x"}, []string{"TREAT", "HPAYMT"}) {
				x, err1 := before.Decide(request...)
				y, err2 := after.Decide(request...)
				if err1 != nil || err2 != nil || x.Allow != y.Allow && len(without.Rows) > 0 && y.By == policy.Compiled {
					t.Fatalf("%s of %s, yet %q is %v with it and %v without\n%v", f.Kind, f.Where, request, x.Allow, y.Allow, all)
				}
			}
		}
	}
	if taken < 300 {
		t.Errorf("only %d rules were called so", taken)
	}
}

// product makes every combination.
func product(of ...[]string) [][]string {
	out := [][]string{nil}
	for _, values := range of {
		var next [][]string
		for _, head := range out {
			for _, v := range values {
				next = append(next, append(slices.Clone(head), v))
			}
		}
		out = next
	}
	return out
}

// Diff holds against asking everything.
func TestDiffIsExact(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(2, 64))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	models := []string{purposeModel, strings.NewReplacer("g = _, _", "g = _, _, _", "g(r.sub, p.sub)", "g(r.sub, p.sub, r.pur)").Replace(purposeModel)}
	changes := 0
	for world := range 200 {
		model := models[world%2]
		random := func() *policy.Policy {
			for {
				var all []policy.Row
				for range 1 + rnd.IntN(6) {
					all = append(all, policy.Row{Fields: []string{"p", pick("r:a", "r:b"), pick("o1", "o2", "*"), pick("read", "*"), pick("TREAT", "HPAYMT", "*"), pick("allow", "allow", "deny")}})
				}
				for range rnd.IntN(5) {
					row := policy.Row{Fields: []string{"g", pick("u:1", "u:2", "u:3"), pick("r:a", "r:b")}}
					if world%2 == 1 {
						row.Fields = append(row.Fields, pick("TREAT", "HPAYMT"))
					}
					all = append(all, row)
				}
				if p, err := policy.Compile(policy.Config{Model: model, Rows: all}); err == nil {
					return p
				}
			}
		}
		old, new := random(), random()
		got, err := policy.Diff(old, new, map[string][]string{"obj": {"o1", "o2"}, "act": {"read"}, "pur": {"TREAT", "HPAYMT"}})
		if err != nil {
			t.Fatal(err)
		}
		listed := make(map[string]policy.Change)
		for _, c := range got {
			listed[strings.Join(c.Request, "|")] = c
		}
		for _, request := range product([]string{"u:1", "u:2", "u:3", "r:a", "r:b", policy.AnyOther}, []string{"o1", "o2", policy.AnyOther}, []string{"read", policy.AnyOther}, []string{"TREAT", "HPAYMT", policy.AnyOther}) {
			x, err1 := old.Decide(request...)
			y, err2 := new.Decide(request...)
			c, ok := listed[strings.Join(request, "|")]
			if err1 != nil || err2 != nil || ok != (x.Allow != y.Allow) || ok && (c.Old.Allow != x.Allow || c.Gained() != y.Allow) {
				t.Fatalf("%q: %v before, %v after; listed %v", request, x.Allow, y.Allow, ok)
			}
			delete(listed, strings.Join(request, "|"))
			if ok {
				changes++
			}
		}
		if len(listed) > 0 {
			t.Fatalf("listed what was not asked: %v", listed)
		}
	}
	if changes < 1000 {
		t.Errorf("only %d changes", changes)
	}
}

func TestDiffSaysWhatItCannot(t *testing.T) {
	t.Parallel()
	a := compile(t, denyModel, "p, nurse, chart, read, allow")
	paths := compile(t, strings.Replace(denyModel, "r.obj == p.obj", "keyMatch(r.obj, p.obj)", 1), "p, nurse, /chart/*, read, allow")
	slow := compile(t, strings.Replace(denyModel, "r.obj == p.obj", "r.obj == p.obj && keyMatch(r.obj, 'c*')", 1), "p, nurse, chart, read, allow")
	other := compile(t, purposeModel, "p, r:nurse, chart, read, TREAT, allow")
	for name, tt := range map[string]struct {
		old, new *policy.Policy
		values   map[string][]string
		want     string
	}{
		"pattern":     {a, paths, nil, "obj is matched by keyMatch(r.obj, p.obj)"},
		"casbin":      {slow, a, nil, "use Replay"},
		"two models":  {a, other, nil, "two request_definitions"},
		"no policy":   {a, nil, nil, "no policy"},
		"zero":        {new(policy.Policy), a, nil, "no policy"},
		"wrong field": {a, a, map[string][]string{"type": {"x"}}, "no field of the request"},
	} {
		if got, err := policy.Diff(tt.old, tt.new, tt.values); err == nil || got != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, got, err, tt.want)
		}
	}
	got, err := policy.Diff(a, paths, map[string][]string{"obj": {"/chart/1", "chart", "/other"}})
	if err != nil || fmt.Sprint(got) != "[+ nurse, /chart/1, read - nurse, chart, read]" {
		t.Errorf("%v, %v", got, err)
	}
}

func ExampleDiff() {
	compile := func(csv string) *policy.Policy {
		rows, err := policy.ReadCSV(strings.NewReader(csv))
		if err != nil {
			panic(err)
		}
		p, err := policy.Compile(policy.Config{Model: purposeModel, Rows: rows})
		if err != nil {
			panic(err)
		}
		return p
	}
	old := compile("p, r:nurse, chart, read, TREAT, allow\ng, u:alice, r:nurse")
	new := compile("p, r:nurse, chart, *, TREAT, allow\np, r:nurse, chart, delete, TREAT, deny\ng, u:bob, r:nurse")
	changes, err := policy.Diff(old, new, nil)
	for _, c := range changes {
		fmt.Println(c)
	}
	fmt.Println(err)
	// Output:
	// - u:alice, chart, read, TREAT
	// + u:bob, chart, (any other), TREAT
	// + u:bob, chart, read, TREAT
	// <nil>
}

func TestReplayListsWhatChanges(t *testing.T) {
	t.Parallel()
	old := compile(t, denyModel, "p, nurse, chart, read, allow\ng, alice, nurse\np, bob, chart, read, allow")
	new := compile(t, denyModel, "p, nurse, chart, write, allow\ng, alice, nurse\np, bob, chart, read, allow")
	asked := [][]string{{"alice", "chart", "read"}, {"bob", "chart", "read"}, {"alice", "chart", "write"}, {"alice", "chart", "read"}, {"carol", "chart", "read"}}
	got, err := policy.Replay(old, new, slices.Values(asked))
	if err != nil || fmt.Sprint(got) != "[- alice, chart, read + alice, chart, write]" || got[0].Gained() || !got[1].Gained() {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := policy.Replay(old, new, slices.Values([][]string{{"alice"}})); err == nil || !strings.Contains(err.Error(), "request 1") {
		t.Errorf("a request of another shape: %v", err)
	}
	third := compile(t, denyModel, "p, alice, chart, read, allow\np, bob, chart, read, allow")
	if got, err := policy.Replay(old, third, slices.Values(asked)); err != nil || fmt.Sprint(got) != "[~ alice, chart, read]" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestExplainNamesRolesAndNearMisses(t *testing.T) {
	t.Parallel()
	p := compile(t, purposeModel, "p, r:nurse, chart, read, TREAT, allow\np, r:student, chart, *, *, deny\ng, r:charge, r:nurse\ng, u:alice, r:charge\ng, u:alice, r:other\ng, u:sam, r:student")
	for _, tt := range []struct {
		request    string
		path, near string
		allow      bool
	}{
		{"u:alice chart read TREAT", "u:alice r:charge r:nurse", "", true},
		{"u:sam chart read TREAT", "u:sam r:student", "", false},
		{"u:alice chart read HPAYMT", "", "line 1, but for r.pur == p.pur || p.pur == '*': p, r:nurse, chart, read, TREAT, allow", false},
		{"u:alice chart write TREAT", "", "line 1, but for r.act == p.act || p.act == '*': p, r:nurse, chart, read, TREAT, allow", false},
		{"u:bob chart read TREAT", "", "line 1, but for g(r.sub, p.sub): p, r:nurse, chart, read, TREAT, allow", false},
		{"u:bob chart write TREAT", "", "", false},
		{"r:nurse chart read TREAT", "", "", false},
	} {
		x, err := p.Explain(strings.Fields(tt.request)...)
		if err != nil || x.Decision.Allow != tt.allow || strings.Join(x.Path, " ") != tt.path || strings.Join(x.Near, "\n") != tt.near {
			t.Errorf("%s: %+v, %v", tt.request, x, err)
		}
	}
	if x, err := p.Explain("u:alice"); err == nil || x.Decision.Allow {
		t.Errorf("%+v, %v", x, err)
	}
}
