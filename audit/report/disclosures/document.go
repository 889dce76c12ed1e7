// SPDX-License-Identifier: Apache-2.0

package disclosures

import (
	"slices"
	"strings"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/document"
)

// Document is the report as it is printed.
func (d *Report) Document() *document.Document {
	doc := &document.Document{
		Title: "Accounting of disclosures",
		Lead:  []string{"To whom the record, or a part of it, was disclosed, as 45 CFR 164.528 requires it to be accounted for. What paragraph (a)(1) of it excepts is not listed, such as disclosures for treatment, payment and health care operations, to the individual, and by authorization."},
		Facts: [][2]string{{"Record", d.Patient}, {"Period", d.Period.Text(d.Made)}, {"Requested", document.Day(d.Requested)},
			{"To be answered by", document.Day(d.Due) + ", or with the one extension and a written statement of its reasons by " + document.Day(d.Extended)}, {"Made", document.Stamp(d.Made)}},
		Notes: append(slices.Clone(d.Notes), "The first accounting in any 12 months is free of charge, 45 CFR 164.528(c)(2)."),
	}
	list := document.Table{Caption: "Disclosures, the oldest first", Columns: []string{"Date (UTC)", "To whom", "Address", "What", "Purpose", "How often", "Last"},
		Empty: "No disclosure that must be accounted for was made in the period."}
	sealed := 0
	for _, e := range d.Entries {
		often, last := document.Count(e.Number, "time", "times"), ""
		if e.Frequency != audit.Once {
			often = string(e.Frequency)
			if e.Number > 1 {
				often += ", " + document.Count(e.Number, "time", "times")
			}
		}
		if !e.Last.IsZero() {
			last = document.Day(e.Last)
		}
		why := "not held"
		if e.Sealed {
			why, sealed = "sealed", sealed+1
		}
		text := func(field, value string) string {
			if slices.Contains(e.Missing, field) {
				return strings.TrimSpace(value + " (" + why + ")")
			}
			return value
		}
		list.Rows = append(list.Rows, []string{document.Day(e.Date), text("recipient", e.Recipient), e.Address, text("description", e.Description), text("statement", e.Statement), often, last})
	}
	doc.Tables = append(doc.Tables, list)
	if sealed > 0 {
		doc.Notes = append(doc.Notes, "The accounting is not complete: of "+document.Count(sealed, "entry", "entries")+" the name, the description and the purpose are sealed in a journal that was only read here. Make it in the application, or with auditctl from that journal itself while nothing else has it open, without --record.")
	}
	if len(d.Research) > 0 {
		t := document.Table{Caption: "Research on 50 or more individuals", Columns: []string{"Protocol", "Description", "Type of PHI", "From", "To", "Sponsor", "Researcher"}}
		for _, s := range d.Research {
			t.Rows = append(t.Rows, []string{s.Name, s.Description, s.PHI, document.Day(s.First), document.Day(s.Last), s.Sponsor, s.Researcher})
		}
		doc.Tables = append(doc.Tables, t)
		doc.Notes = append(doc.Notes, "For these protocols, the PHI of the individual may or may not have been disclosed, 45 CFR 164.528(b)(4)(i)(F). On request, the individual is helped to reach the sponsor and the researcher, (b)(4)(ii).")
	}
	return doc
}
