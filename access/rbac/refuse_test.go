// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
)

// edit returns DefaultModel with one text replaced.
func edit(t *testing.T, old, new string) string {
	t.Helper()
	if strings.Count(rbac.DefaultModel, old) != 1 {
		t.Fatalf("%q does not occur once in DefaultModel", old)
	}
	return strings.Replace(rbac.DefaultModel, old, new, 1)
}

// refused wants New to refuse cfg with an error that holds want.
func refused(t *testing.T, name string, cfg rbac.Config, want string) {
	t.Helper()
	e, err := rbac.New(cfg)
	if err == nil || e != nil || !strings.HasPrefix(err.Error(), "rbac: load policy: ") || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: New = %v, %v; want an error with %q", name, e != nil, err, want)
	}
}

func TestEmptyPolicyIsRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]rbac.Config{
		"zero":      {},
		"comments":  {Policy: "# nothing\n\n"},
		"links":     {Policy: "g, r:a, r:b"},
		"only deny": {Policy: "p, r:a, *, patient, read, TREAT, deny"},
	} {
		refused(t, name, cfg, "no row that allows anything")
	}
}

// The last two allow by the order of rows; the first allows by default.
func TestEffectsThatAllowByDefaultAreRefused(t *testing.T) {
	t.Parallel()
	for _, effect := range []string{
		"!some(where (p.eft == deny))",
		"some(where (p.eft == deny))",
		"!some(where (p.eft == allow))",
		"priority(p.eft) || deny",
		"subjectPriority(p.eft) || deny",
		"true",
	} {
		model := edit(t, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", effect)
		refused(t, effect, rbac.Config{Model: model, Rules: rbac.StarterRules()}, "policy_effect")
	}
}

// Each of these is how somebody opens a back door in a Casbin matcher, or
// leaves a field of the request out.
func TestMatchersThatCouldAllowMoreAreRefused(t *testing.T) {
	t.Parallel()
	const full = "g(r.sub, p.sub) && (r.dom == p.dom || p.dom == '*') && (r.obj == p.obj || p.obj == '*') && (r.act == p.act || p.act == '*') && (r.pur == p.pur || p.pur == '*')"
	for name, matcher := range map[string]string{
		"superuser":          full + ` || r.sub == "r:root"`,
		"superuser first":    `r.sub == "root" || ` + full,
		"superuser inside":   strings.Replace(full, "g(r.sub, p.sub)", `(g(r.sub, p.sub) || r.sub == "r:admin")`, 1),
		"request star":       strings.Replace(full, "p.pur == '*'", "r.pur == '*'", 1),
		"another star":       strings.Replace(full, "p.pur == '*'", "p.pur == '?'", 1),
		"crossed star":       strings.Replace(full, "p.pur == '*'", "p.dom == '*'", 1),
		"star at the top":    full + " || p.obj == '*'",
		"true":               strings.Replace(full, "g(r.sub, p.sub)", "true", 1),
		"arithmetic":         full + " && 1 == 1",
		"or true":            full + " || 1 == 1",
		"negation":           full + " && !(r.sub == p.sub)",
		"not equal":          strings.Replace(full, "r.obj == p.obj", "r.obj != p.obj", 1),
		"crossed fields":     strings.Replace(full, "r.obj == p.obj", "r.obj == p.act", 1),
		"eval":               full + " && eval(p.obj)",
		"in":                 strings.Replace(full, "(r.obj == p.obj || p.obj == '*')", "r.obj in ('patient', 'document')", 1),
		"ternary":            full + " ? true : false",
		"keyMatch2":          strings.Replace(full, "(r.obj == p.obj || p.obj == '*')", "keyMatch2(r.obj, p.obj)", 1),
		"regexMatch swapped": strings.Replace(full, "(r.obj == p.obj || p.obj == '*')", "regexMatch(p.obj, r.obj)", 1),
		"role by pattern":    strings.Replace(full, "g(r.sub, p.sub)", "keyMatch(r.sub, p.sub)", 1),
		"roles swapped":      strings.Replace(full, "g(r.sub, p.sub)", "g(p.sub, r.sub)", 1),
		"role in a domain":   strings.Replace(full, "g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)", 1),
		"no role":            strings.Replace(full, "g(r.sub, p.sub) && ", "", 1),
		"no tenant":          strings.Replace(full, "(r.dom == p.dom || p.dom == '*') && ", "", 1),
		"no type":            strings.Replace(full, "(r.obj == p.obj || p.obj == '*') && ", "", 1),
		"no action":          strings.Replace(full, "(r.act == p.act || p.act == '*') && ", "", 1),
		"no purpose":         strings.Replace(full, " && (r.pur == p.pur || p.pur == '*')", "", 1),
		"twice":              full + " && r.obj == p.obj",
		"empty term":         full + " && ()",
		"empty":              `""`,
		"unbalanced":         full + " && (",
	} {
		refused(t, name, rbac.Config{Model: edit(t, full, matcher), Rules: rbac.StarterRules()}, "Config.Model")
	}
}

func TestModelsOfAnotherShapeAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ model, want string }{
		"not a model":      {"hello", "Config.Model"},
		"unclosed section": {"[request_definition", "Config.Model"},
		"no matcher":       {"[request_definition]\nr = sub, dom, obj, act, pur\n[policy_definition]\np = sub, dom, obj, act, pur\n[policy_effect]\ne = some(where (p.eft == allow))\n", "matchers"},
		"four fields":      {edit(t, "r = sub, dom, obj, act, pur", "r = sub, dom, obj, act"), "r.pur is no field of the definitions"},
		"other order":      {edit(t, "r = sub, dom, obj, act, pur", "r = sub, obj, dom, act, pur"), "request_definition"},
		"policy order":     {edit(t, "p = sub, dom, obj, act, pur, eft", "p = sub, obj, dom, act, pur, eft"), "policy_definition"},
		"priority column":  {edit(t, "p = sub, dom, obj, act, pur, eft", "p = priority, sub, dom, obj, act, pur, eft"), "policy_definition"},
		"two matchers":     {rbac.DefaultModel + "m2 = r.sub == p.sub\n", "more than one m"},
		"two policies":     {edit(t, "[role_definition]", "p2 = sub, act\n[role_definition]"), "more than one p"},
		"two hierarchies":  {edit(t, "g = _, _", "g = _, _\ng2 = _, _"), "more than one g"},
		"one-sided g":      {edit(t, "g = _, _", "g = _"), "role_definition"},
		"conditional g":    {edit(t, "g = _, _", "g = _, _, (_, _)"), "role_definition"},
	} {
		refused(t, name, rbac.Config{Model: tt.model, Rules: rbac.StarterRules()}, tt.want)
	}
}

// The forms that the documentation of DefaultModel promises.
func TestAdmittedModelsDecide(t *testing.T) {
	t.Parallel()
	head := "[request_definition]\nr = sub, dom, obj, act, pur\n[policy_definition]\np = sub, dom, obj, act, pur\n"
	tail := "[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = "
	for name, tt := range map[string]struct {
		model, row   string
		read, delete bool
	}{
		"no hierarchy, equality only": {head + tail + "r.sub == p.sub && r.dom == p.dom && r.obj == p.obj && r.act == p.act && r.pur == p.pur",
			"p, r:nurse, t-test, patient, read, TREAT", true, false},
		"swapped, in brackets, over lines": {head + tail + "(p.sub == r.sub) && ((p.dom == '*' || p.dom == r.dom)) && \\\n  (r.obj == p.obj) && (\"*\" == p.act || r.act == p.act) && p.pur == r.pur # as ever",
			"p, r:nurse, *, patient, *, TREAT", true, true},
		"keyMatch": {head + tail + "r.sub == p.sub && keyMatch(r.dom, p.dom) && keyMatch(r.obj, p.obj) && keyMatch(r.act, p.act) && r.pur == p.pur",
			"p, r:nurse, t-*, pat*, read, TREAT", true, false},
		"globMatch": {head + tail + "r.sub == p.sub && globMatch(r.dom, p.dom) && globMatch(r.obj, p.obj) && globMatch(r.act, p.act) && r.pur == p.pur",
			"p, r:nurse, *, pat*, *, TREAT", true, true},
		"regexMatch": {head + tail + "r.sub == p.sub && regexMatch(r.dom, p.dom) && regexMatch(r.obj, p.obj) && regexMatch(r.act, p.act) && regexMatch(r.pur, p.pur)",
			"p, r:nurse, ^t-[a-z]+$, ^(?:patient|document)$, ^(?:read|search)$, ^TREAT$", true, false},
	} {
		e, err := rbac.New(rbac.Config{Model: tt.model, Policy: tt.row})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ctx := accesstest.As(t, t.Context(), "nurse", access.Treatment)
		if got := verdict(t, e, ctx, access.Read, "patient").Allow; got != tt.read {
			t.Errorf("%s: read %v, want %v", name, got, tt.read)
		}
		if got := verdict(t, e, ctx, access.Delete, "patient").Allow; got != tt.delete {
			t.Errorf("%s: delete %v, want %v", name, got, tt.delete)
		}
		for _, other := range []string{"billing", "r:nurse", "nurse2"} {
			if verdict(t, e, accesstest.As(t, t.Context(), other, access.Treatment), access.Read, "patient").Allow {
				t.Errorf("%s: role %s is allowed", name, other)
			}
		}
		if verdict(t, e, accesstest.As(t, t.Context(), "nurse", access.Payment), access.Read, "patient").Allow {
			t.Errorf("%s: another purpose is allowed", name)
		}
	}
}

// Rows are for roles, and a user never gets one by being called like it.
func TestUserNamesAreNoRoles(t *testing.T) {
	t.Parallel()
	for _, row := range []string{
		"p, nurse, *, patient, read, TREAT, allow",
		"p, u:alice, *, patient, read, TREAT, allow",
		"p, *, *, patient, read, TREAT, allow",
		"p, r:, *, patient, read, TREAT, allow",
		"p, r:jane@example.org, *, patient, read, TREAT, allow",
		"g, alice, r:nurse",
		"g, u:alice, r:nurse",
		"g, r:charge, nurse",
	} {
		refused(t, row, rbac.Config{Policy: "p, r:nurse, *, patient, read, TREAT, allow\n" + row}, "line 2")
	}
	e := must(t, rbac.Config{Rules: []rbac.Rule{rule("nurse", access.Read, "patient", access.Treatment)}})
	for _, id := range []string{"nurse", "r:nurse"} {
		p := accesstest.Principal("t-1", "r:nurse", "u:nurse")
		p.ID = id
		if v := verdict(t, e, access.With(t.Context(), p, access.Treatment), access.Read, "patient"); v.Allow {
			t.Errorf("the user %s is taken for the role: %+v", id, v)
		}
	}
}

func TestRoleDepth(t *testing.T) {
	t.Parallel()
	chain := func(n int) rbac.Config {
		cfg := rbac.Config{Rules: []rbac.Rule{rule(fmt.Sprint("role", n), access.Read, "patient", access.Treatment)}}
		for i := range n {
			cfg.Links = append(cfg.Links, rbac.Link{Role: fmt.Sprint("role", i), Inherits: fmt.Sprint("role", i+1)})
		}
		return cfg
	}
	e := must(t, chain(10))
	if v := verdict(t, e, accesstest.As(t, t.Context(), "role0", access.Treatment), access.Read, "patient"); !v.Allow || len(v.Path) != 11 {
		t.Errorf("10 links: %+v, want allowed over 11 roles", v)
	}
	refused(t, "11 links", chain(11), "more than 10 links")
}

func TestCyclesAreRefused(t *testing.T) {
	t.Parallel()
	for _, links := range []string{"g, r:a, r:a", "g, r:a, r:b\ng, r:b, r:a", "g, r:a, r:b\ng, r:b, r:c\ng, r:c, r:b"} {
		refused(t, links, rbac.Config{Policy: "p, r:a, *, patient, read, TREAT, allow\n" + links}, "cycle")
	}
}

func TestPatternsThatMatchMoreThanTheySayAreRefused(t *testing.T) {
	t.Parallel()
	pattern := func(fn string) string {
		return edit(t, "(r.obj == p.obj || p.obj == '*')", fn+"(r.obj, p.obj)")
	}
	for _, tt := range []struct{ model, obj, want string }{
		{rbac.DefaultModel, "pat*", "plain character"},
		{rbac.DefaultModel, "*x", "plain character"},
		{rbac.DefaultModel, "**", "plain character"},
		{rbac.DefaultModel, "patient records", "identifier"},
		{edit(t, "(r.obj == p.obj || p.obj == '*')", "r.obj == p.obj"), "*", "plain character"},
		{pattern("keyMatch"), "pat*notes", "after the *"},
		{pattern("keyMatch"), "*notes", "after the *"},
		{pattern("keyMatch"), "pat**", "after the *"},
		{pattern("keyMatch"), "pat/*", "identifier"},
		{pattern("globMatch"), "p*t*", "after the *"},
		{pattern("globMatch"), "pat[a-z]", "identifier"},
		{pattern("globMatch"), "pat?ent", "identifier"},
		{pattern("regexMatch"), "patient", "not anchored"},
		{pattern("regexMatch"), "^patient", "not anchored"},
		{pattern("regexMatch"), "patient$", "not anchored"},
		{pattern("regexMatch"), "^patient|document$", "not anchored"},
		{pattern("regexMatch"), "^patient$|^document$", "not anchored"},
		{pattern("regexMatch"), "(?m)^patient$", "not anchored"},
		{pattern("regexMatch"), "(^patient$)?", "not anchored"},
		{pattern("regexMatch"), ".*", "not anchored"},
		{pattern("regexMatch"), "*", "no regular expression"},
	} {
		refused(t, tt.obj, rbac.Config{Model: tt.model, Policy: "p, r:nurse, *, " + tt.obj + ", read, TREAT, allow"}, tt.want)
	}
	model := edit(t, "(r.pur == p.pur || p.pur == '*')", "keyMatch(r.pur, p.pur)")
	refused(t, "purposes by pattern", rbac.Config{Model: model, Policy: "p, r:nurse, *, patient, read, H*, allow"}, "pattern")
}

// A row that makes Casbin fail would make every decision fail.
func TestErroringRowsAreRefused(t *testing.T) {
	t.Parallel()
	model := edit(t, "(r.obj == p.obj || p.obj == '*')", "regexMatch(r.obj, p.obj)")
	for _, re := range []string{"^(patient$", "^[a-$", "^a{2,1}$", `^\p{Nope}$`, "^(?<!a)b$"} {
		refused(t, re, rbac.Config{Model: model, Policy: "p, r:nurse, *, ^patient$, read, TREAT, allow\np, r:nurse, *, \"" + re + "\", read, TREAT, allow"}, "line 2: obj")
	}
}

func TestRowsOfTheWrongShapeAreRefused(t *testing.T) {
	t.Parallel()
	const good = "p, r:nurse, *, patient, read, TREAT, allow\n"
	for row, want := range map[string]string{
		"p, r:nurse, *, patient, read, TREAT":           "line 2: the row has 5 fields",
		"p, r:nurse, *, patient, read, TREAT, allow, x": "line 2: the row has 7 fields",
		"p": "line 2: the row has 0 fields",
		"p, r:nurse, *, patient, read, TREAT, Allow":      "line 2: eft",
		"p, r:nurse, *, patient, read, TREAT, ":           "line 2: eft",
		"p, r:nurse, *, patient, read, CURIOSITY, allow":  "line 2: pur is not a purpose",
		"p, r:nurse, *, patient, read, treat, allow":      "line 2: pur is not a purpose",
		"p, r:nurse, *, patient, , TREAT, allow":          "line 2: act is empty",
		"p, r:nurse, *, , read, TREAT, allow":             "line 2: obj is empty",
		"p, r:nurse, , patient, read, TREAT, allow":       "line 2: dom is empty",
		"p, , *, patient, read, TREAT, allow":             "line 2: role has no r: prefix",
		"p, r:nurse, a@b.org, patient, read, TREAT, deny": "line 2: dom looks like an e-mail",
		"p2, r:nurse, *, patient, read, TREAT, allow":     "line 2: the row begins with neither p nor g",
		"g2, r:a, r:b": "line 2: the row begins with neither p nor g",
		"P, r:nurse, *, patient, read, TREAT, allow": "line 2: the row begins with neither p nor g",
		"g, r:a":           "line 2: the row has 1 fields after g",
		"g, r:a, r:b, t-1": "line 2: the row has 3 fields after g",
		"p, r:nurse, *, \"patient, read, TREAT, allow":   "Config.Policy: policy: read rows: line 2",
		"p, r:nurse, *, pa\"tient, read, TREAT, allow":   "Config.Policy: policy: read rows: line 2",
		"p, r:nurse, *, pat\x00ient, read, TREAT, allow": "line 2: obj holds a control character",
		"# fine\n\n\np, r:nurse":                         "line 5: the row has 1 fields",
	} {
		refused(t, row, rbac.Config{Policy: good + row}, want)
	}
	long := strings.Repeat("x", 65)
	refused(t, "long name", rbac.Config{Policy: "p, r:nurse, *, " + long + ", read, TREAT, allow"}, "longer than 64")
	allowOnly := strings.Replace(rbac.DefaultModel, " && !some(where (p.eft == deny))", "", 1)
	refused(t, "deny that the effect ignores", rbac.Config{Model: allowOnly, Policy: good + "p, r:nurse, *, document, read, TREAT, deny"}, "line 2: eft is deny")
	noLinks := edit(t, "[role_definition]\ng = _, _\n", "")
	noLinks = strings.Replace(noLinks, "g(r.sub, p.sub)", "r.sub == p.sub", 1)
	refused(t, "links without a hierarchy", rbac.Config{Model: noLinks, Policy: good + "g, r:a, r:b"}, "line 2: the row begins with what the model does not define")
	unused := strings.Replace(rbac.DefaultModel, "g(r.sub, p.sub)", "r.sub == p.sub", 1)
	refused(t, "links that the matcher ignores", rbac.Config{Model: unused, Policy: good + "g, r:a, r:b"}, "line 2: the row has 2 fields after g")
}

func TestRulesOfTheWrongShapeAreRefused(t *testing.T) {
	t.Parallel()
	allowOnly := strings.Replace(rbac.DefaultModel, " && !some(where (p.eft == deny))", "", 1)
	ok := rule("nurse", access.Read, "patient", access.Treatment)
	with := func(edit func(*rbac.Rule)) []rbac.Rule {
		r := ok
		edit(&r)
		return []rbac.Rule{ok, r}
	}
	for name, tt := range map[string]struct {
		cfg  rbac.Config
		want string
	}{
		"no resources":  {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Resources = nil })}, "Config.Rules[1]: Resources, Actions or Purposes"},
		"no actions":    {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Actions = nil })}, "Config.Rules[1]: Resources, Actions or Purposes"},
		"no purposes":   {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Purposes = nil })}, "Config.Rules[1]: Resources, Actions or Purposes"},
		"empty type":    {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Resources = []string{""} })}, "Config.Rules[1]: obj is empty"},
		"no role":       {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Role = "" })}, "Config.Rules[1]: sub after r: is empty"},
		"odd purpose":   {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Purposes = []access.Purpose{"FUN"} })}, "Config.Rules[1]: pur"},
		"deny ignored":  {rbac.Config{Model: allowOnly, Rules: with(func(r *rbac.Rule) { r.Deny = true })}, "Config.Rules[1]: Deny"},
		"e-mail tenant": {rbac.Config{Rules: with(func(r *rbac.Rule) { r.Tenant = "a@b.org" })}, "Config.Rules[1]: dom"},
		"link tenant":   {rbac.Config{Rules: with(func(*rbac.Rule) {}), Links: []rbac.Link{{Role: "a", Inherits: "b", Tenant: "t"}}}, "Config.Links[0]"},
		"empty link":    {rbac.Config{Rules: with(func(*rbac.Rule) {}), Links: []rbac.Link{{}}}, "Config.Links[0]: the role links form a cycle"},
		"no link tenant": {rbac.Config{Model: domainModel, Rules: []rbac.Rule{rule("nurse", access.Read, "^patient$", access.Treatment)},
			Links: []rbac.Link{{Role: "a", Inherits: "b"}}}, "Config.Links[0]: domain is empty"},
	} {
		refused(t, name, tt.cfg, tt.want)
	}
}

// An action or a type that is no identifier could slip through a pattern, and
// could not be recorded.
func TestOddRequestsAreDenied(t *testing.T) {
	t.Parallel()
	e := must(t, rbac.Config{Model: edit(t, "(r.obj == p.obj || p.obj == '*') && (r.act == p.act || p.act == '*')", "keyMatch(r.obj, p.obj) && keyMatch(r.act, p.act)"),
		Policy: "p, r:nurse, *, *, *, TREAT, allow"})
	ctx := accesstest.As(t, t.Context(), "nurse", access.Treatment)
	if !verdict(t, e, ctx, "read", "patient").Allow {
		t.Fatal("denied")
	}
	for _, odd := range []string{"", "*", "a b", "a\n", "a\x00", "é", strings.Repeat("x", 65), "123-45-6789", "jane@example.org"} {
		if v := verdict(t, e, ctx, access.Action(odd), "patient"); v.Allow || v.Code != access.DenyInvalid {
			t.Errorf("action %q: %+v", odd, v)
		}
		if v := verdict(t, e, ctx, "read", odd); v.Allow || v.Code != access.DenyInvalid {
			t.Errorf("type %q: %+v", odd, v)
		}
	}
}

// FuzzNew: no model or policy makes New panic, and what loads allows only what
// one of its own rows says.
func FuzzNew(f *testing.F) {
	f.Add(rbac.DefaultModel, rbac.Starter().CSV())
	f.Add(domainModel, "p, r:nurse, *, ^patient$, read, TREAT\ng, r:a, r:nurse, t-test")
	f.Add("", "p, r:nurse, *, patient, read, TREAT, deny\np, r:nurse, *, *, *, *, allow")
	f.Add("[request_definition]\nr = sub\n[matchers]\nm = r.sub == \"root\" || true", "p,r:nurse")
	f.Add(strings.Replace(rbac.DefaultModel, "g = _, _", "g = _, _, (", 1), "g, r:a, r:b")
	f.Fuzz(func(t *testing.T, model, policy string) {
		e, err := rbac.New(rbac.Config{Model: model, Policy: policy})
		if err != nil {
			return
		}
		for _, role := range []string{"nurse", "root", "nobody"} {
			for _, pur := range []access.Purpose{access.Treatment, access.Payment} {
				ctx := accesstest.As(t, t.Context(), role, pur)
				d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
					{Type: "patient", Tenant: accesstest.Tenant}, {Type: "patient", Tenant: "t-other"}, {Type: "", Tenant: accesstest.Tenant}}})
				if err != nil {
					t.Fatalf("%v\n%s\n%s", err, model, policy)
				}
				if d.Allow(1) || d.Allow(2) || d.Allow(0) && !strings.Contains(e.CSV(), d.Verdicts[0].Rule+"\n") {
					t.Fatalf("%s for %s: %+v\n%s", role, pur, d, e.CSV())
				}
			}
		}
	})
}
