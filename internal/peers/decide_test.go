// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"

	"github.com/part164/part164/access/policy"
)

// TestCasbin3Agrees holds the compiled policy against Casbin v3 too, which may
// take the place of v2 one day: the answer, and the row that decided.
func TestCasbin3Agrees(t *testing.T) {
	t.Parallel()
	requests := 6_000
	if os.Getenv("PART164_TEST_LONG") != "" {
		requests = 600_000
	}
	const head = "[request_definition]\nr = sub, dom, obj, act\n[policy_definition]\np = sub, dom, obj, act, eft\n[role_definition]\ng = _, _, _\n[policy_effect]\ne = %s\n[matchers]\nm = %s\n"
	effects := []string{"some(where (p.eft == allow))", "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny"}
	const who = "g(r.sub, p.sub, r.dom) && (r.dom == p.dom || p.dom == '*') && (r.act == p.act || p.act == '*') && "
	objects := map[string][2][]string{ // the term: patterns, and values
		"r.obj == p.obj":           {{"o1", "o2", "o3"}, {"o1", "o2", "o4"}},
		"keyMatch(r.obj, p.obj)":   {{"/a/*", "/a/1", "/*", "*"}, {"/a/1", "/a/2/b", "/b"}},
		"keyMatch2(r.obj, p.obj)":  {{"/a/:id", "/a/*", "/:x/1", "/a.b"}, {"/a/1", "/a/2/b", "/b/1", "/aXb"}},
		"keyMatch4(r.obj, p.obj)":  {{"/a/{id}", "/{x}/{x}", "/a/*"}, {"/a/1", "/a/a", "/b/b", "/b"}},
		"regexMatch(r.obj, p.obj)": {{"^a$", "b", "^(a|c)$", ".*"}, {"a", "b", "ab", "c"}},
		"ipMatch(r.obj, p.obj)":    {{"10.0.0.0/8", "10.1.0.0/16", "192.168.1.1"}, {"10.1.2.3", "10.2.2.3", "192.168.1.1", "::1"}},
	}
	var terms []string
	for term := range objects {
		terms = append(terms, term)
	}
	slices.Sort(terms)
	rnd := rand.New(rand.NewPCG(3, 10))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	asked, allowed, compiled := 0, 0, 0
	for world := 0; asked < requests; world++ {
		term := terms[world%len(terms)]
		conf := fmt.Sprintf(head, effects[world%len(effects)], who+term)
		var rows []policy.Row
		var rules, links [][]string
		for range 1 + rnd.IntN(15) {
			rule := []string{pick("r1", "r2", "u1", "u2"), pick("d1", "d2", "*"), pick(objects[term][0]...), pick("read", "write", "*"), pick("allow", "allow", "deny")}
			if !slices.ContainsFunc(rules, func(r []string) bool { return slices.Equal(r, rule) }) {
				rules = append(rules, rule)
				rows = append(rows, policy.Row{Fields: append([]string{"p"}, rule...)})
			}
		}
		for range rnd.IntN(8) {
			n := rnd.IntN(3) // upwards only: v3 refuses circles
			link := []string{[]string{"u1", "u2", "r1"}[n], []string{"r1", "r1", "r2"}[n], pick("d1", "d2")}
			if !slices.ContainsFunc(links, func(l []string) bool { return slices.Equal(l, link) }) {
				links = append(links, link)
				rows = append(rows, policy.Row{Fields: append([]string{"g"}, link...)})
			}
		}
		p, err := policy.Compile(policy.Config{Model: conf, Rows: rows, AsCasbin: true})
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.NewModelFromString(conf)
		if err != nil {
			t.Fatal(err)
		}
		e, err := casbin.NewEnforcer(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.AddPolicies(rules); err != nil {
			t.Fatal(err)
		}
		if len(links) > 0 {
			if _, err := e.AddGroupingPolicies(links); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			request := []string{pick("u1", "u2", "u3", "r1"), pick("d1", "d2", "d3"), pick(objects[term][1]...), pick("read", "write", "delete")}
			got, gotErr := p.Decide(request...)
			want, rule, wantErr := e.EnforceEx(request[0], request[1], request[2], request[3])
			row := ""
			if got.Rule != nil {
				row = strings.Join(got.Rule.Fields[1:], ",")
			}
			asked++
			if got.By == policy.Compiled {
				compiled++
			}
			if got.Allow {
				allowed++
			}
			if gotErr != nil || wantErr != nil || got.Allow != want || row != strings.Join(rule, ",") {
				t.Fatalf("world %d: %q: %+v %q, %v; Casbin v3 %v %q, %v\n%s", world, request, got, row, gotErr, want, rule, wantErr, conf)
			}
		}
	}
	t.Logf("%d requests, %d allowed, %d by the index", asked, allowed, compiled)
	if allowed == 0 || compiled < asked*9/10 {
		t.Errorf("of %d requests %d are allowed, %d decided by the index", asked, allowed, compiled)
	}
}
