// SPDX-License-Identifier: Apache-2.0

package breach

import (
	"cmp"
	"maps"
	"slices"
)

// A Group counts individuals of one tenant, or of one State of it.
type Group struct {
	Tenant      string      `json:"tenant"`
	State       string      `json:"state,omitempty"` // empty in the group of the whole tenant
	Individuals int         `json:"individuals"`
	Unsecured   int         `json:"unsecured"` // of them, those with unsecured PHI
	Thresholds  []Threshold `json:"thresholds,omitempty"`
}

// A Threshold is a number that the rule names, beside the group's own.
type Threshold struct {
	Citation string `json:"citation"`
	Says     string `json:"says"`
	Met      bool   `json:"met"` // by Group.Unsecured
}

// thresholds states those of 45 CFR 164.404 to 164.408 that a count alone
// decides: more than 500 residents of a State (164.406), 500 or more
// individuals (164.408).
func (g *Group) thresholds() []Threshold {
	if g.State != "" {
		return []Threshold{{"164.406(a)", "more than 500 residents of a State or jurisdiction: notice to prominent media outlets that serve it", g.Unsecured > 500}}
	}
	return []Threshold{
		{"164.404(a)", "each individual whose unsecured PHI was, or is reasonably believed to have been, reached: notice to the individual without unreasonable delay, at the latest 60 days after discovery", g.Unsecured > 0},
		{"164.408(b)", "500 or more individuals: notice to the Secretary at the same time as to the individuals", g.Unsecured >= 500},
		{"164.408(c)", "fewer than 500 individuals: notice to the Secretary at the latest 60 days after the end of the calendar year of discovery", g.Unsecured > 0 && g.Unsecured < 500},
	}
}

// groups counts a tenant's individuals, and those of each State.
func groups(tenant string, affected []Affected, states bool) []Group {
	by := map[string]*Group{"": {Tenant: tenant}}
	for _, a := range affected {
		names := []string{""}
		if states {
			names = append(names, cmp.Or(a.State, "unknown"))
		}
		for _, name := range names {
			g := by[name]
			if g == nil {
				g = &Group{Tenant: tenant, State: name}
				by[name] = g
			}
			if g.Individuals++; a.Unsecured {
				g.Unsecured++
			}
		}
	}
	var out []Group
	for _, name := range slices.Sorted(maps.Keys(by)) {
		g := by[name]
		if name != "unknown" {
			g.Thresholds = g.thresholds()
		}
		out = append(out, *g)
	}
	return out
}
