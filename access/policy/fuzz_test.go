// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access/policy"
)

// FuzzCompile: no model and no rows make Compile panic, and what compiles
// allows only what a row says: never an empty request, never somebody whom no
// row and no link names.
func FuzzCompile(f *testing.F) {
	f.Add(roleModel, "p, nurse, chart, read\ng, alice, nurse", "alice", "chart", "read")
	f.Add(denyModel, "p, nurse, chart, read, allow\np, bob, chart, read, deny\ng, bob, nurse", "bob", "chart", "read")
	f.Add(strings.Replace(roleModel, "r.obj == p.obj", "keyMatch2(r.obj, p.obj)", 1), "p, nurse, /a/:id/*, read", "nurse", "/a/1/b", "read")
	f.Add(strings.Replace(roleModel, "r.obj == p.obj", "ipMatch(r.obj, p.obj)", 1), "p, nurse, 10.0.0.0/8, read", "nurse", "10.1.1.1", "read")
	f.Add(strings.Replace(roleModel, "r.obj == p.obj", "(regexMatch(r.obj, p.obj) || p.obj == '*')", 1), "p, nurse, ^a|b$, read\np, x, *, read", "nurse", "a", "read")
	f.Add(strings.Replace(roleModel, "r.obj == p.obj", "(r.obj == p.obj || r.sub == 'root')", 1), "p, nurse, chart, read", "root", "chart", "read")
	f.Add("[request_definition]\nr = sub\n[policy_definition]\np = sub\n[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = r.sub in ('a') ? true : !(p.sub != r.sub)", "p, a", "a", "", "")
	f.Fuzz(func(t *testing.T, model, csv, sub, obj, act string) {
		if len(model) > 4000 || len(csv) > 4000 {
			return
		}
		all, err := policy.ReadCSV(strings.NewReader(csv))
		if err != nil {
			return
		}
		if _, err := policy.ReadModel(model); err != nil {
			return
		}
		p, err := policy.Compile(policy.Config{Model: model, Rows: all})
		if err != nil {
			return
		}
		m, err := policy.ReadModel(model)
		if err != nil {
			t.Fatal(err)
		}
		request := make([]string, len(m.Request))
		for i := range request {
			request[i] = []string{sub, obj, act}[i%3]
		}
		d, err := p.Decide(request...)
		if d.Allow && (err != nil || d.Rule == nil || d.Refused != "" || slices.Contains(request, "")) {
			t.Fatalf("%q is allowed: %+v, %v\n%s\n%s", request, d, err, model, csv)
		}
		raw, rawErr := p.Casbin(request...)
		if d.Allow && !raw.Allow || d.Refused == "" && err == nil && rawErr == nil && (d.Allow != raw.Allow || text(d.Rule) != text(raw.Rule)) {
			t.Fatalf("%q: %+v, %v; Casbin %+v, %v\n%s\n%s", request, d, err, raw, rawErr, model, csv)
		}
		for i := range request {
			request[i] = "nobody-whom-a-row-names-" + strings.Repeat("x", i)
		}
		names := strings.Contains(csv, "*") || strings.Contains(csv, "^") || strings.Contains(csv, "/") || strings.Contains(csv, "{") || strings.Contains(csv, "?") || strings.Contains(csv, "[")
		if d, _ := p.Decide(request...); d.Allow && !names && !strings.Contains(model, "!") {
			t.Fatalf("nobody is allowed: %+v\n%s\n%s", d, model, csv)
		}
	})
}

// FuzzDecide: no request makes a policy panic, or answer in another way than
// Casbin where it is asked.
func FuzzDecide(f *testing.F) {
	var all []*policy.Policy
	for _, match := range []string{"r.obj == p.obj", "keyMatch(r.obj, p.obj)", "keyMatch2(r.obj, p.obj)", "keyMatch3(r.obj, p.obj)", "keyMatch4(r.obj, p.obj)", "keyMatch5(r.obj, p.obj)", "globMatch(r.obj, p.obj)", "regexMatch(r.obj, p.obj)", "ipMatch(r.obj, p.obj)"} {
		patterns := map[string]string{"keyMatch3": "/a/{id}/*", "keyMatch4": "/a/{id}/{id}", "keyMatch5": "/a/{id}", "globMatch": "/a/**", "regexMatch": "^/a/[0-9]+$", "ipMatch": "10.0.0.0/8"}
		pattern := "/a/*"
		if name, _, ok := strings.Cut(match, "("); ok && patterns[name] != "" {
			pattern = patterns[name]
		}
		all = append(all, compile(f, strings.Replace(denyModel, "r.obj == p.obj", match, 1), "p, nurse, "+pattern+", read, allow\np, eve, "+pattern+", read, deny\ng, alice, nurse\ng, eve, nurse"))
	}
	f.Add("alice", "/a/1", "read")
	f.Add("eve", "/a/../b", "read")
	f.Add("nurse", "10.1.1.1", "read")
	f.Add("alice", "/a/\x00", "")
	f.Add("alice", "/a/1/1", "read")
	f.Fuzz(func(t *testing.T, sub, obj, act string) {
		for i, p := range all {
			d, err := p.Decide(sub, obj, act)
			s, serr := p.Subject(sub)
			if serr != nil {
				t.Fatal(serr)
			}
			same, sameErr := s.Decide(obj, act)
			raw, rawErr := p.Casbin(sub, obj, act)
			if d != same || (err == nil) != (sameErr == nil) {
				t.Fatalf("%d: %q: %+v, %v; by its subject %+v, %v", i, []string{sub, obj, act}, d, err, same, sameErr)
			}
			if d.Allow != raw.Allow || d.Refused == "" && err == nil && rawErr == nil && text(d.Rule) != text(raw.Rule) {
				t.Fatalf("%d: %q: %+v, %v; Casbin %+v, %v", i, []string{sub, obj, act}, d, err, raw, rawErr)
			}
			if d.Allow && (sub == "eve" || err != nil || act != "read") {
				t.Fatalf("%d: %q: %+v, %v", i, []string{sub, obj, act}, d, err)
			}
		}
	})
}
