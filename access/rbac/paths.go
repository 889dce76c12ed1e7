// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"slices"

	"github.com/part164/part164/access/policy"
)

// A reach is a role that another role leads to, in a tenant; tenant is empty
// where links hold in all.
type reach struct{ tenant, from, to string }

// paths holds the shortest chain of roles for each reach, and for each role the
// chain of itself alone.
func paths(rows []policy.Row) map[reach][]string {
	out := make(map[reach][]string)
	up := make(map[reach][]string) // of tenant and from
	for _, r := range rows {
		if r.Fields[0] == "p" {
			out[reach{from: r.Fields[1], to: r.Fields[1]}] = []string{r.Fields[1]}
			continue
		}
		at := reach{from: r.Fields[1]}
		if len(r.Fields) == 4 {
			at.tenant = r.Fields[3]
		}
		up[at] = append(up[at], r.Fields[2])
	}
	for at := range up {
		for queue := [][]string{{at.from}}; len(queue) > 0; queue = queue[1:] {
			chain := queue[0]
			last := chain[len(chain)-1]
			for _, role := range up[reach{tenant: at.tenant, from: last}] {
				to := reach{at.tenant, at.from, role}
				if out[to] == nil {
					out[to] = append(slices.Clone(chain), role)
					queue = append(queue, out[to])
				}
			}
		}
	}
	return out
}

// includes holds the roles that each role leads to, itself left out.
func includes(paths map[reach][]string) map[reach][]string {
	out := make(map[reach][]string)
	for p := range paths {
		if p.from != p.to {
			at := reach{tenant: p.tenant, from: p.from}
			out[at] = append(out[at], p.to)
		}
	}
	for at := range out {
		slices.Sort(out[at])
	}
	return out
}

// withIncluded returns roles and those that they include in a tenant. It shares
// roles where there are none.
func (v *version) withIncluded(tenant string, roles []string) []string {
	out := roles[:len(roles):len(roles)]
	for _, role := range roles {
		for _, in := range []string{"", tenant} {
			for _, more := range v.includes[reach{tenant: in, from: "r:" + role}] {
				if name := more[len("r:"):]; !slices.Contains(out, name) {
					out = append(out, name)
				}
			}
		}
	}
	return out
}

// path returns the shortest chain of roles from one to another.
func (v *version) path(tenant, from, to string) []string {
	if from == to {
		return v.paths[reach{from: from, to: to}]
	}
	if p := v.paths[reach{from: from, to: to}]; p != nil {
		return p
	}
	return v.paths[reach{tenant, from, to}]
}
