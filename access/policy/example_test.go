// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/part164/part164/access/policy"
)

const model = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && (r.act == p.act || p.act == '*')
`

// A model.conf and the rows of a policy.csv, as Casbin has them.
func Example() {
	rows, err := policy.ReadCSV(strings.NewReader(`
p, r:nurse, /patients/:id, read, allow
p, r:ward-b, /patients/9, *, deny
g, u:alice, r:nurse
g, u:bob, r:nurse
g, u:bob, r:ward-b
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.Compile(policy.Config{Model: model, Rows: rows})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, request := range [][]string{
		{"u:alice", "/patients/9", "read"},
		{"u:bob", "/patients/9", "read"},
		{"u:alice", "/patients/9", "delete"},
		{"u:alice", "/patients/../audit", "read"},
	} {
		d, err := p.Decide(request...)
		switch {
		case err != nil:
			fmt.Println(err)
		case d.Rule != nil:
			fmt.Println(d.Allow, d.Rule.From)
		case d.Refused != "":
			fmt.Println(d.Allow, d.Refused)
		default:
			fmt.Println(d.Allow, "no row")
		}
	}
	// Output:
	// true line 2
	// false line 3
	// false no row
	// false r.obj is not a plain path: it has . or .. or empty segments, encoded or control characters
}

// What Casbin would take, and could allow more than it seems to, is refused.
func ExampleCompile() {
	rows, err := policy.ReadCSV(strings.NewReader("p, r:nurse, /patients/:id.pdf, read, allow\ng, u:alice, u:alice\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	back := strings.Replace(model, "g(r.sub, p.sub) &&", "(g(r.sub, p.sub) || r.sub == 'root') &&", 1)
	_, err = policy.Compile(policy.Config{Model: back, Rows: rows})
	if refused := (*policy.RefusedError)(nil); errors.As(err, &refused) {
		for _, f := range refused.Findings {
			fmt.Println(f.Kind, "in", f.Where)
		}
	}
	// Output:
	// back-door in matchers
	// pattern in line 1
	// cycle in line 2
}

func ExamplePolicy_Plan() {
	p, err := policy.Compile(policy.Config{Model: model, Rows: []policy.Row{{Fields: []string{"p", "r:nurse", "/patients/*", "read", "allow"}}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	plan := p.Plan()
	fmt.Println(plan.By)
	fmt.Println("looks up:", strings.Join(plan.Index, "; "))
	fmt.Println("tries:", strings.Join(plan.Residual, "; "))
	// Output:
	// compiled
	// looks up: g(r.sub, p.sub); r.act == p.act || p.act == '*'
	// tries: keyMatch2(r.obj, p.obj)
}
