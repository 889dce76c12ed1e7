// SPDX-License-Identifier: Apache-2.0

package accesses

import (
	"fmt"
	"strings"

	"github.com/part164/part164/audit/report/document"
)

// Document is the report as it is printed.
func (r *Report) Document() *document.Document {
	d := &document.Document{
		Title: "Who saw this record",
		Lead:  []string{"Each time that somebody, or a program, saw, searched or changed the record, or was refused, as the audit trail has it. That this report was read is in it, too."},
		Facts: [][2]string{{"Record", r.Patient}, {"Period", r.Period.Text(r.Made)}, {"Made", document.Stamp(r.Made)}},
		Notes: r.Notes,
	}
	people := map[string]bool{}
	saw, refused, emergency := 0, 0, 0
	chart := document.NewChart("Accesses over time", "accesses", "refused or without effect")
	rows := make([][]string, 0, len(r.Entries))
	for i := range r.Entries {
		e := &r.Entries[i]
		what := string(e.Act)
		if e.Emergency {
			what += " (emergency access)"
			emergency++
		}
		series := 0
		if e.nothing() {
			series, refused = 1, refused+1
		} else if saw++; e.Who.Kind != "" {
			people[string(e.Who.Kind)+e.Who.ID] = true
		}
		chart.Add(e.Time, series)
		rows = append(rows, []string{document.Stamp(e.Time), e.Who.Text(), what, document.Purpose(e.Purpose), e.outcomeText(), recordsText(e.Records)})
	}
	d.Facts = append(d.Facts, [2]string{"Accesses", document.Count(saw, "time", "times") + ", by " + document.Count(len(people), "person or program", "persons or programs")},
		[2]string{"Refused or without effect", document.Count(refused, "time", "times")}, [2]string{"Emergency access", document.Count(emergency, "time", "times")})
	d.Chart = chart
	d.Tables = []document.Table{{Caption: "Accesses, the newest first", Columns: []string{"Time (UTC)", "Who", "What", "Purpose", "Outcome", "Records and fields"}, Rows: rows,
		Empty: "The trail holds no access to this record in the period."}}
	return d
}

func (e *Entry) outcomeText() string {
	out := e.Outcome
	switch out {
	case "rolled_back":
		out = "rolled back: nothing changed"
	case "open":
		out = "not known to this trail"
	}
	if e.Reason != "" {
		out += " (" + string(e.Reason) + ")"
	}
	return out
}

func recordsText(records []Touched) string {
	parts := make([]string, len(records))
	for i, t := range records {
		parts[i] = t.Type
		if len(t.Fields) > 0 {
			parts[i] += ": " + strings.Join(t.Fields, ", ")
		}
		if t.Count > 1 {
			parts[i] += fmt.Sprintf(" (%d records)", t.Count)
		}
		if t.Denied {
			parts[i] += " (refused)"
		}
	}
	return strings.Join(parts, "; ")
}
