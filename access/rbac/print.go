// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/part164/part164/access/policy"
)

// String returns the policy in force as a table for people: one line for each
// set of resource types that a role may treat alike.
func (e *Engine) String() string {
	p := e.inForce()
	if p == nil {
		return "no policy: everything is denied\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "role\tmay\ton\tfor\tin tenant")
	for _, l := range p.table() {
		fmt.Fprintln(w, strings.Join(l, "\t"))
	}
	for _, r := range distinct(p.rows) {
		if r.Fields[0] == "g" {
			in := "*"
			if len(r.Fields) == 4 {
				in = r.Fields[3]
			}
			fmt.Fprintf(w, "%s\tdo what %s may\t\t\t%s\n", r.Fields[1][2:], r.Fields[2][2:], in)
		}
	}
	w.Flush()
	return b.String()
}

// CSV returns the policy in force as Casbin rows, in a form that Config.Policy
// takes back.
func (e *Engine) CSV() string {
	p := e.inForce()
	if p == nil {
		return ""
	}
	var b strings.Builder
	for _, r := range distinct(p.rows) {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// table merges rows that differ in purpose, then those that differ in action,
// then those that differ in resource type.
func (p *version) table() [][]string {
	var lines [][]string // role, may, on, for, in tenant
	for _, r := range distinct(p.rows) {
		if r.Fields[0] != "p" {
			continue
		}
		f := r.Fields
		may := f[4]
		if f[len(f)-1] == "deny" {
			may = "not " + may
		}
		lines = append(lines, []string{f[1][2:], may, f[3], f[5], f[2]})
	}
	for _, column := range []int{3, 1, 2} {
		lines = merge(lines, column)
	}
	return lines
}

// merge joins lines that are equal but for one column.
func merge(lines [][]string, column int) [][]string {
	var out [][]string
	at := make(map[string]int)
	for _, l := range lines {
		rest := append(append([]string{fmt.Sprint(strings.HasPrefix(l[1], "not "))}, l[:column]...), l[column+1:]...)
		key := strings.Join(rest, "\x00")
		if i, ok := at[key]; ok {
			out[i][column] += " " + strings.TrimPrefix(l[column], "not ")
			continue
		}
		at[key] = len(out)
		out = append(out, l)
	}
	return out
}

// distinct drops repeated rows, as Casbin does.
func distinct(rows []policy.Row) []policy.Row {
	seen := make(map[string]bool, len(rows))
	return slices.DeleteFunc(slices.Clone(rows), func(r policy.Row) bool {
		s := r.String()
		repeated := seen[s]
		seen[s] = true
		return repeated
	})
}
