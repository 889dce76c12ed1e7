// SPDX-License-Identifier: Apache-2.0

package breach

import (
	"fmt"
	"strings"

	"github.com/part164/part164/audit/report/document"
)

// Document is the report as it is printed.
func (b *Report) Document() *document.Document {
	d := &document.Document{
		Title: "Whose PHI an incident has reached",
		Lead:  []string{"Incident: " + b.Incident + "."},
		Facts: [][2]string{{"Period", b.Period.Text(b.Made)}, {"Made", document.Stamp(b.Made)}, {"Refused events", fmt.Sprint(b.Refused)}, {"Statements outside storage", fmt.Sprint(b.Outside)}},
		Chart: b.chart, Notes: b.Notes,
	}
	tenants := document.Table{Caption: "Individuals by tenant and State", Columns: []string{"Tenant", "State", "Individuals", "With unsecured PHI"}}
	rule := document.Table{Caption: "Numbers that the rule names", Columns: []string{"45 CFR", "Of", "Says", "Unsecured here", "Met"}}
	for _, g := range b.Groups {
		state := g.State
		if state == "" {
			state = "all"
		}
		tenants.Rows = append(tenants.Rows, []string{g.Tenant, state, fmt.Sprint(g.Individuals), fmt.Sprint(g.Unsecured)})
		for _, t := range g.Thresholds {
			met := "no"
			if t.Met {
				met = "yes"
			}
			rule.Rows = append(rule.Rows, []string{t.Citation, g.Tenant + ", " + state, t.Says, fmt.Sprint(g.Unsecured), met})
		}
	}
	people := document.Table{Caption: "Individuals", Columns: []string{"Patient", "Tenant", "State", "First", "Last", "Events", "Not secured", "Secured"}, Empty: "The incident reached nobody's PHI, as far as the trail knows."}
	for _, a := range b.Affected {
		var open, secured []string
		for _, e := range a.Fields {
			text := e.Type
			if e.Field != "" {
				text += "." + e.Field
			}
			text += " " + string(e.How)
			if e.Secured {
				secured = append(secured, text)
			} else {
				open = append(open, text)
			}
		}
		people.Rows = append(people.Rows, []string{a.Patient, a.Tenant, a.State, document.Stamp(a.First), document.Stamp(a.Last), fmt.Sprint(len(a.Events)), strings.Join(open, ", "), strings.Join(secured, ", ")})
	}
	d.Tables = []document.Table{tenants, rule, people}
	return d
}
