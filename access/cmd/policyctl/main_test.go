// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const rbacModel = `[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
`

// ctl runs policyctl.
func ctl(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// files writes a model and rows, and returns the options that name them.
func files(t *testing.T, model, rows string) []string {
	t.Helper()
	dir := t.TempDir()
	var out []string
	for _, f := range [][2]string{{"model", model}, {"policy", rows}} {
		if f[1] == "" {
			continue
		}
		path := filepath.Join(dir, f[0])
		if err := os.WriteFile(path, []byte(f[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		out = append(out, "-"+f[0], path)
	}
	return out
}

func TestHelpIsAManual(t *testing.T) {
	t.Parallel()
	for _, cmd := range commands() {
		for _, args := range [][]string{{cmd.name, "--help"}, {cmd.name, "-h"}, {"help", cmd.name}, {cmd.name, "x", "--help"}} {
			code, out, errs := ctl(t, "", args...)
			if code != exitOK || out != cmd.manual || errs != "" {
				t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
			}
		}
		for _, part := range []string{"NAME\n    policyctl " + cmd.name + " - " + cmd.summary, "SYNOPSIS", "DESCRIPTION", "OPTIONS", "-model FILE", "-policy FILE", "--json", "EXIT STATUS", "EXAMPLES"} {
			if !strings.Contains(cmd.manual, part) {
				t.Errorf("the manual of %s has no %q", cmd.name, part)
			}
		}
		for i, line := range strings.Split(cmd.manual, "\n") {
			if len(line) > 79 {
				t.Errorf("%s: line %d of the manual is %d wide", cmd.name, i+1, len(line))
			}
		}
	}
	if code, out, _ := ctl(t, "", "--help"); code != exitOK || !strings.Contains(out, "lint") || !strings.Contains(out, "EXIT STATUS") {
		t.Errorf("--help: exit %d\n%s", code, out)
	}
}

func TestBadUsage(t *testing.T) {
	t.Parallel()
	good := files(t, rbacModel, "p, nurse, chart, read\n")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, args := range [][]string{
		nil, {"frob"}, {"lint"}, {"eval"}, {"explain"}, {"diff"},
		append([]string{"lint", "x"}, good...), append([]string{"diff"}, good...), append([]string{"eval", "a", "b"}, good...),
		append([]string{"explain", "alice"}, good...), append([]string{"lint", "-frob"}, good...),
		append([]string{"diff", "-to", missing}, good...), append([]string{"diff", "-values", "obj"}, good...),
		append([]string{"diff", "-to", good[1], "x"}, good...),
		append([]string{"eval", missing}, good...),
		{"lint", "-model", missing, "-policy", good[3]}, {"lint", "-policy", missing}, {"eval", "-policy", missing},
		append([]string{"lint"}, files(t, "hello", "p, a")...), append([]string{"eval"}, files(t, rbacModel, "p, a")...),
		append([]string{"lint"}, files(t, rbacModel, "p, \"a")...),
	} {
		code, out, errs := ctl(t, "", args...)
		if code != exitCannotRun || out != "" || errs == "" {
			t.Errorf("%q: exit %d, %q, %q; want %d and why", args, code, out, errs, exitCannotRun)
		}
	}
}

func TestEvalAnswersEachLine(t *testing.T) {
	t.Parallel()
	policy := files(t, rbacModel, "p, nurse, chart, read\ng, alice, nurse\n")
	in := `["alice","chart","read"]
["alice","chart","write"]

["nurse","chart","read"]
["","chart","read"]
["alice","chart"]
["alice",null,"read"]
{"sub":"alice"}
null
nonsense
["alice","chart","read"]`
	code, out, errs := ctl(t, in, append([]string{"eval"}, policy...)...)
	want := `{"allow":true,"rule":["nurse","chart","read"],"by":"compiled"}
{"allow":false,"rule":[],"by":"compiled"}
{"allow":false,"rule":[],"by":"compiled","refused":"r.sub is the name of a role: users and roles need names of their own, such as u:alice and r:nurse"}
{"allow":false,"rule":[],"by":"compiled","refused":"r.sub is empty"}
{"allow":false,"rule":[],"by":"compiled","error":"policy: decide: the request has 2 fields, the model's request_definition has 3: sub, obj, act"}
{"allow":false,"rule":[],"by":"compiled","error":"the line is no JSON array of strings, such as [\"alice\",\"data1\",\"read\"]"}
{"allow":false,"rule":[],"by":"compiled","error":"the line is no JSON array of strings, such as [\"alice\",\"data1\",\"read\"]"}
{"allow":false,"rule":[],"by":"compiled","error":"the line is no JSON array of strings, such as [\"alice\",\"data1\",\"read\"]"}
{"allow":false,"rule":[],"by":"compiled","error":"the line is no JSON array of strings, such as [\"alice\",\"data1\",\"read\"]"}
{"allow":true,"rule":["nurse","chart","read"],"by":"compiled"}
`
	if code != exitFound || out != want || errs != "" {
		t.Errorf("exit %d, %q\n%s", code, errs, out)
	}
	// As Casbin, a role is a user too.
	code, out, _ = ctl(t, `["nurse","chart","read"]`, append([]string{"eval", "-as-casbin"}, policy...)...)
	if code != exitOK || out != `{"allow":true,"rule":["nurse","chart","read"],"by":"compiled"}`+"\n" {
		t.Errorf("as Casbin: exit %d\n%s", code, out)
	}
	// From a file, and by Casbin itself.
	slow := files(t, strings.Replace(rbacModel, "some(where (p.eft == allow))", "subjectPriority(p.eft) || deny", 1), "p, nurse, chart, read\ng, alice, nurse\n")
	requests := filepath.Join(t.TempDir(), "requests")
	if err := os.WriteFile(requests, []byte(`["alice","chart","read"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ = ctl(t, "", append([]string{"eval", requests, "-as-casbin"}, slow...)...)
	if code != exitOK || out != `{"allow":true,"rule":["nurse","chart","read"],"by":"casbin"}`+"\n" {
		t.Errorf("by Casbin: exit %d\n%s", code, out)
	}
	if code, _, errs := ctl(t, strings.Repeat("x", 2<<20), append([]string{"eval"}, policy...)...); code != exitCannotRun || !strings.Contains(errs, "line 1") {
		t.Errorf("an endless line: exit %d, %q", code, errs)
	}
}

func TestEvalListsRefusals(t *testing.T) {
	t.Parallel()
	open := files(t, strings.Replace(rbacModel, "g(r.sub, p.sub) &&", "(g(r.sub, p.sub) || r.sub == 'root') &&", 1), "p, nurse, chart, read\ng, a, a\n")
	const in = `["root","chart","read"]` + "\n" + `["nurse","chart","read"]` + "\n"
	code, out, errs := ctl(t, in, append([]string{"eval"}, open...)...)
	if code != exitFound || strings.Count(out, `"allow":false`) != 2 || strings.Count(out, `"refused":"the policy is refused: `) != 2 ||
		!strings.Contains(errs, "refused: matchers: back-door: ") || !strings.Contains(errs, "refused: line 2: cycle: ") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = ctl(t, in, append([]string{"eval", "-as-casbin"}, open...)...)
	if code != exitOK || strings.Count(out, `"allow":true`) != 2 || errs != "" {
		t.Errorf("as Casbin: exit %d\n%s%s", code, out, errs)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	good := files(t, "", "p, r:nurse, *, patient, read, TREAT, allow\n")
	if code, out, errs := ctl(t, "", append([]string{"lint"}, good...)...); code != exitOK || !strings.HasPrefix(out, "compiled: 1 rules, 0 links; rows are found by ") || errs != "" {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	for name, tt := range map[string]struct {
		files []string
		want  string
	}{
		"refused":  {files(t, rbacModel, "p, nurse, chart, read\ng, a, a\n"), "line 2: cycle: "},
		"shadowed": {files(t, "", "p, r:nurse, *, patient, read, TREAT, allow\np, r:nurse, *, patient, *, *, deny\n"), "line 1: shadowed: "},
		"a user":   {files(t, "", "p, nurse, *, patient, read, TREAT, allow\n"), "has no r: prefix"},
		"names":    {files(t, rbacModel, "p, nurse, chart, read\ng, alice, nurse\n"), "line 2: names: "},
	} {
		code, out, errs := ctl(t, "", append([]string{"lint"}, tt.files...)...)
		if code != exitFound || !strings.Contains(out, tt.want) || errs != "" {
			t.Errorf("%s: exit %d, want %q\n%s%s", name, code, tt.want, out, errs)
		}
		code, out, _ = ctl(t, "", append([]string{"lint", "--json"}, tt.files...)...)
		var v struct {
			OK       bool
			Findings []finding
		}
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitFound || v.OK || len(v.Findings) == 0 || v.Findings[0].Why == "" {
			t.Errorf("%s: exit %d, %v\n%s", name, code, err, out)
		}
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	old := files(t, rbacModel, "p, nurse, chart, read\ng, alice, nurse\n")
	to := files(t, "", "p, nurse, chart, write\ng, alice, nurse\ng, bob, nurse\n")[1]
	code, out, errs := ctl(t, "", append([]string{"diff", "-to", to}, old...)...)
	want := "- alice, chart, read  by line 1: p, nurse, chart, read\n+ alice, chart, write  by line 1: p, nurse, chart, write\n+ bob, chart, write  by line 1: p, nurse, chart, write\n"
	if code != exitFound || out != want || errs != "" {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, _ := ctl(t, "", append([]string{"diff", "-to", old[len(old)-1]}, old[:2]...)...); code != exitCannotRun {
		t.Errorf("without -policy: exit %d\n%s", code, out)
	}
	code, out, _ = ctl(t, "", append([]string{"diff", "--json", "-to", to}, old...)...)
	var v struct {
		Same    bool
		Changes []changed
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitFound || v.Same || len(v.Changes) != 3 || v.Changes[0].Sign != "-" || len(v.Changes[0].Request) != 3 {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	requests := filepath.Join(t.TempDir(), "requests")
	if err := os.WriteFile(requests, []byte(`["bob","chart","write"]`+"\n"+`["bob","chart","read"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := ctl(t, "", append([]string{"diff", "-requests", requests, "-to", to}, old...)...); code != exitFound || out != "+ bob, chart, write  by line 1: p, nurse, chart, write\n" {
		t.Errorf("exit %d\n%s", code, out)
	}
	roles := files(t, "", "p, r:nurse, *, patient, read, TREAT, allow\n")
	toRoles := files(t, "", "p, r:nurse, *, patient, update, TREAT, allow\n")[1]
	if code, out, errs := ctl(t, "", append([]string{"diff", "-to", toRoles}, roles...)...); code != exitFound ||
		out != "- nurse may read patient for TREAT and its kinds in tenant (any other)\n+ nurse may update patient for TREAT and its kinds in tenant (any other)\n" {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, _ := ctl(t, "", append([]string{"diff", "-to", roles[1]}, roles...)...); code != exitOK || out != "" {
		t.Errorf("of the same: exit %d\n%s", code, out)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	policy := files(t, rbacModel, "p, nurse, chart, read\ng, alice, charge\ng, charge, nurse\n")
	for request, want := range map[string]struct {
		code int
		out  string
	}{
		"alice chart read":  {exitOK, "allowed by line 1: p, nurse, chart, read\nroles: alice -> charge -> nurse\n"},
		"alice chart write": {exitFound, "denied: no row allows it\nnear: line 1, but for r.act == p.act: p, nurse, chart, read\n"},
		"nurse chart read":  {exitFound, "denied: r.sub is the name of a role: users and roles need names of their own, such as u:alice and r:nurse\n"},
		"-- -a chart write": {exitFound, "denied: no row allows it\n"},
	} {
		args := append(append([]string{"explain"}, policy...), strings.Fields(request)...)
		if code, out, errs := ctl(t, "", args...); code != want.code || out != want.out || errs != "" {
			t.Errorf("%s: exit %d\n%s%s", request, code, out, errs)
		}
		args = append(append([]string{"explain", "--json"}, policy...), strings.Fields(request)...)
		code, out, _ := ctl(t, "", args...)
		var v struct{ Allow bool }
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != want.code || v.Allow != (code == exitOK) {
			t.Errorf("%s: exit %d, %v\n%s", request, code, err, out)
		}
	}
}

// With -roles a policy with a model of its own is one of package rbac, as it is
// without -model: roles ask, and it is loaded as rbac loads it.
func TestRolesAsk(t *testing.T) {
	t.Parallel()
	tenants := strings.NewReplacer("sub, obj, act", "sub, dom, obj, act, pur", "g = _, _", "g = _, _, _",
		"g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.pur == p.pur").Replace(rbacModel)
	policy := files(t, tenants, "p, r:nurse, elm, patient, read, TREAT\ng, r:charge, r:nurse, elm\ng, u:u-1, r:charge, elm\n")
	if code, out, errs := ctl(t, "", append([]string{"lint", "-roles"}, policy...)...); code != exitOK || !strings.HasPrefix(out, "compiled: 1 rules, 2 links") || errs != "" {
		t.Errorf("lint: exit %d\n%s%s", code, out, errs)
	}
	byUsers := files(t, tenants, "p, r:nurse, elm, patient, read, TREAT\ng, r:charge, r:nurse, elm\n")
	if code, out, _ := ctl(t, "", append([]string{"lint"}, byUsers...)...); code != exitFound || !strings.Contains(out, ": names: ") {
		t.Errorf("lint, where users ask: exit %d\n%s", code, out)
	}
	ask := []string{"r:charge", "elm", "patient", "read", "TREAT"}
	if code, out, errs := ctl(t, "", slices.Concat([]string{"explain", "-roles"}, policy, ask)...); code != exitOK || !strings.HasPrefix(out, "allowed by line 1: ") {
		t.Errorf("explain: exit %d\n%s%s", code, out, errs)
	}
	to := files(t, "", "p, r:nurse, elm, patient, read, HPAYMT\n")[1]
	if code, out, errs := ctl(t, "", slices.Concat([]string{"diff", "-roles", "-to", to}, policy)...); code != exitFound || !strings.Contains(out, "- charge may read patient for TREAT") {
		t.Errorf("diff: exit %d\n%s%s", code, out, errs)
	}
	if code, _, errs := ctl(t, "", "lint", "-policy", to); code != exitCannotRun || !strings.Contains(errs, "name yours with -model") {
		t.Errorf("without the model: exit %d, %q", code, errs)
	}
}

// What a file holds reaches the terminal as text.
func TestATerminalIsNotObeyed(t *testing.T) {
	t.Parallel()
	evil := files(t, rbacModel, "p, nurse\x1b[2J, chart, read\ng, a\u202eb, a\u202eb\n")
	for _, args := range [][]string{{"lint"}, {"eval"}, {"explain", "a\x1b[2J", "b", "c"}} {
		_, out, errs := ctl(t, `["a","b","c"]`, append(args, evil...)...)
		if all := out + errs; strings.ContainsAny(all, "\x1b\u202e") && args[0] != "eval" || strings.ContainsAny(errs, "\x1b\u202e") {
			t.Errorf("%q: %q", args, all)
		}
	}
}
