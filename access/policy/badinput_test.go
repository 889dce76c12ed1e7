// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access/policy"
)

func TestMalformedModelsAreRefused(t *testing.T) {
	t.Parallel()
	edit := func(old, new string) string {
		if !strings.Contains(denyModel, old) {
			t.Fatalf("%q is not in the model", old)
		}
		return strings.Replace(denyModel, old, new, 1)
	}
	for name, tt := range map[string]struct{ model, want string }{
		"empty":            {"", "missing required sections"},
		"prose":            {"hello", "line 1 is neither a section, such as [matchers], nor a definition, such as r = sub, obj, act: is it a model.conf?"},
		"a CSV":            {"p, nurse, chart, read\n", "is it a model.conf?"},
		"a mark":           {"\ufeff" + denyModel, "save the file as UTF-8 without it"},
		"one =":            {edit("r.obj == p.obj", "r.obj = p.obj"), "write =="},
		"unclosed":         {"[request_definition", "policy: read model"},
		"no matcher":       {edit("[matchers]", "[x]"), "matchers"},
		"no request":       {edit("[request_definition]", "[x]"), "request_definition"},
		"unbalanced":       {edit("g(r.sub, p.sub)", "g(r.sub, p.sub"), "matcher"},
		"no operand":       {edit("g(r.sub, p.sub) &&", "&&"), "policy: read model"},
		"unknown field":    {edit("r.obj == p.obj", "r.obj == p.object"), "p.object is no field"},
		"unknown function": {edit("g(r.sub, p.sub)", "isAdmin(r.sub)"), "the function isAdmin is none of Casbin's"},
		"unknown effect":   {edit("!some(where (p.eft == deny))", "some(where (p.eft == deny))"), "policy_effect is none of Casbin's"},
		"empty field":      {edit("r = sub, obj, act", "r = sub, , act"), "has no name"},
		"one-sided g":      {edit("g = _, _", "g = _"), "role_definition g"},
		"four-sided g":     {edit("g = _, _", "g = _, _, _, _"), "role_definition g"},
		"named g":          {edit("g = _, _", "g = user, role"), "role_definition g"},
		"effect, no eft":   {edit("p = sub, obj, act, eft", "p = sub, obj, act"), "asks for p.eft"},
		"two matchers":     {denyModel + "m2 = r.sub == p.sub\n", "more than one definition"},
		"two requests":     {edit("[policy_definition]", "r2 = sub\n[policy_definition]"), "more than one definition"},
		"two names":        {edit("r = sub, obj, act", "r = sub, obj, act, act"), "two fields have one name"},
	} {
		csv := "p, nurse, chart, read, allow\n"
		if name == "effect, no eft" {
			csv = "p, nurse, chart, read\n"
		}
		p, err := policy.Compile(policy.Config{Model: tt.model, Rows: rows(t, csv)})
		if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Compile = %v, %v; want an error with %q", name, p != nil, err, tt.want)
		}
	}
}

// TestAMarkInFrontOfRows: an editor's byte order mark would hide the first rule.
func TestAMarkInFrontOfRows(t *testing.T) {
	t.Parallel()
	if _, err := policy.ReadCSV(strings.NewReader("\ufeffp, nurse, chart, read, allow\n")); err == nil || !strings.Contains(err.Error(), "byte order mark") {
		t.Error(err)
	}
}

func TestMalformedRowsAreRefused(t *testing.T) {
	t.Parallel()
	const good = "p, nurse, chart, read, allow"
	for _, tt := range []struct {
		fields []string
		want   string
	}{
		{nil, "Rows[1]: the row is empty"},
		{[]string{""}, "Rows[1]: the row is empty"},
		{[]string{"x", "a", "b"}, "Rows[1]: the row begins with what the model does not define"},
		{[]string{"p2", "a", "b", "c", "allow"}, "Rows[1]: the row begins with"},
		{[]string{"g2", "a", "b"}, "Rows[1]: the row begins with"},
		{[]string{"P", "a", "b", "c", "allow"}, "Rows[1]: the row begins with"},
		{[]string{"\ufeffp", "a", "b", "c", "allow"}, "Rows[1]: the row begins with"},
		{[]string{"p", "a", "b", "c"}, "Rows[1]: the row has 3 fields after p, the model's policy_definition has 4"},
		{[]string{"p", "a", "b", "c", "allow", "x"}, "Rows[1]: the row has 5 fields"},
		{[]string{"g", "a"}, "Rows[1]: the row has 1 fields after g, the model's role_definition has 2"},
		{[]string{"g", "a", "b", "c"}, "Rows[1]: the row has 3 fields after g, of which Casbin reads 2"},
		{[]string{"p", "a", "b", "", "allow"}, "Rows[1]: act is empty"},
		{[]string{"g", "a", ""}, "Rows[1]: role is empty"},
		{[]string{"p", "a", "b", "c", "Allow"}, "Rows[1]: eft is neither allow nor deny"},
		{[]string{"p", "a", "b", "c", ""}, "Rows[1]: eft is empty"},
		{[]string{"p", "a ", "b", "c", "allow"}, "Rows[1]: sub begins or ends with a space"},
		{[]string{"p", "a", "b,c", "c", "allow"}, "Rows[1]: a field holds a comma, and Casbin takes the row for that of Rows[0]"},
		{[]string{"p", "a", "b\nc", "c", "allow"}, "Rows[1]: obj holds a control character"},
		{[]string{"p", "a", "b\x00c", "c", "allow"}, "Rows[1]: obj holds a control character"},
		{[]string{"g", "a", "b\x7fc"}, "Rows[1]: role holds a control character"},
		{[]string{"p", "a", "b\xff", "c", "allow"}, "Rows[1]: obj is not UTF-8"},
		{[]string{"p", "a", strings.Repeat("x", 1025), "c", "allow"}, "Rows[1]: obj is longer than 1024 bytes"},
	} {
		first := strings.Split(good, ", ")
		if slices.Contains(tt.fields, "b,c") {
			first = []string{"p", "a,b", "c", "c", "allow"}
		}
		p, err := policy.Compile(policy.Config{Model: denyModel, Rows: []policy.Row{{Fields: first}, {Fields: tt.fields}}})
		if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: Compile = %v, %v; want an error with %q", tt.fields, p != nil, err, tt.want)
		}
	}
	for model, csv := range map[string]string{
		strings.Replace(denyModel, " && !some(where (p.eft == deny))", "", 1): "p, nurse, chart, write, deny\n",
		strings.Replace(strings.Replace(denyModel, "p = sub", "p = priority, sub", 1), "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny", 1) + "# " + good + "\n": "p, high, nurse, chart, read, allow\n",
	} {
		p, err := policy.Compile(policy.Config{Model: model, Rows: rows(t, csv)})
		if p != nil || err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("Compile = %v, %v\n%s", p != nil, err, csv)
		}
	}
}

func TestMalformedCSVIsRefused(t *testing.T) {
	t.Parallel()
	for csv, want := range map[string]string{
		"p, a, \"b\nc\", d":                 "line 1: ",
		"\n\np, a, b\"c, d":                 "line 3: ",
		"p, a\n" + strings.Repeat("x", 2e6): "line 2: ",
		"p, a, \"b":                         "line 1: ",
	} {
		if out, err := policy.ReadCSV(strings.NewReader(csv)); out != nil || err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v, %v; want %q", csv, out, err, want)
		}
	}
	got, err := policy.ReadCSV(strings.NewReader("# a comment\r\n\r\n  p, alice , \"a, b\",read\t\r\n#p, x\ng,a,b"))
	if err != nil || len(got) != 2 || strings.Join(got[0].Fields, "|") != "p|alice |a, b|read" || got[0].From != "line 3" || got[1].From != "line 5" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := policy.ReadCSV(failing{}); err == nil {
		t.Error("an error of the reader is lost")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken") }

// A request of another shape, or with more in it than any name has, is denied.
func TestOddRequestsAreDenied(t *testing.T) {
	t.Parallel()
	p := compile(t, roleModel, "p, nurse, chart, read\ng, alice, nurse")
	s, err := p.Subject("alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range [][]string{nil, {"alice"}, {"alice", "chart"}, {"alice", "chart", "read", "read"}} {
		for _, decide := range []func(...string) (policy.Decision, error){p.Decide, p.Casbin} {
			if d, err := decide(request...); err == nil || d.Allow {
				t.Errorf("%q: %+v, %v", request, d, err)
			}
		}
	}
	for _, rest := range [][]string{nil, {"chart"}, {"chart", "read", "read"}} {
		if d, err := s.Decide(rest...); err == nil || d.Allow {
			t.Errorf("%q: %+v, %v", rest, d, err)
		}
	}
	if _, err := p.Subject("a", "b", "c", "d"); err == nil {
		t.Error("a subject has more fields than a request")
	}
	long := strings.Repeat("x", 2000)
	for _, first := range []string{"", long} {
		s, err := p.Subject(first)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := s.Decide("chart", "read"); err != nil || d.Allow || d.Refused == "" {
			t.Errorf("a subject of %d bytes: %+v, %v", len(first), d, err)
		}
	}
	for _, request := range [][]string{{long, "chart", "read"}, {"alice", long, "read"}, {"alice", "chart", long}} {
		if d, err := p.Decide(request...); err != nil || d.Allow || !strings.Contains(d.Refused, "too long") {
			t.Errorf("%+v, %v", d, err)
		}
	}
	for _, odd := range []string{"chart ", " chart", "Chart", "chart\x00", "chart\n", "*", "o'chart", "' || 'a' == 'a", "ch\xffart"} {
		if d, err := p.Decide("alice", odd, "read"); err != nil || d.Allow {
			t.Errorf("%q: %+v, %v", odd, d, err)
		}
	}
}

// TestAModelWithoutASubject can be asked by Casbin too.
func TestAModelWithoutASubject(t *testing.T) {
	t.Parallel()
	p, err := policy.Compile(policy.Config{Rows: []policy.Row{{Fields: []string{"p", "/a/*"}}},
		Model: "[request_definition]\nr = obj\n[policy_definition]\np = obj\n[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = keyMatch(r.obj, p.obj)\n"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/a/1": true, "/b": false} {
		d, err := p.Decide(path)
		raw, rawErr := p.Casbin(path)
		if _, explainErr := p.Explain(path); d.Allow != want || raw.Allow != want || err != nil || rawErr != nil || explainErr != nil {
			t.Errorf("%s: %+v, %v; Casbin %+v, %v; want %v", path, d, err, raw, rawErr, want)
		}
	}
}
