// SPDX-License-Identifier: Apache-2.0

package review

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/document"
)

// Document is the report as it is printed.
func (rev *Report) Document() *document.Document {
	d := &document.Document{
		Title: "Review of activity",
		Lead:  []string{"What was done in the period, by whom, and what wants a look (45 CFR 164.308(a)(1)(ii)(D), information system activity review)."},
		Facts: [][2]string{{"Period", rev.Period.Text(rev.Made)}, {"Made", document.Stamp(rev.Made)}, {"Digest", rev.Digest}},
		Chart: rev.chart, Notes: rev.Notes,
	}
	state := "open"
	if rev.Complete {
		state = "signed off for everybody, by somebody else"
	}
	d.Facts = append(d.Facts, [2]string{"Sign-off", state})
	people := document.Table{Caption: "Activity by person and program", Columns: []string{"Who", "Patients", "Seen", "Searched", "Changed", "Disclosed", "Emergency", "Refused", "Sign-ins", "Failed sign-ins", "Trail read", "Admin", "Reviewed by"}, Empty: "Nobody did anything in the period."}
	names := map[string]string{}
	for _, a := range rev.People {
		names[a.Who.ID] = a.Who.Name
	}
	for _, s := range rev.SignOffs {
		names[s.By.ID] = s.By.Name
	}
	for _, a := range rev.People {
		row := []string{a.Who.Text()}
		for _, n := range []int{a.Patients, a.Seen, a.Searched, a.Changed, a.Disclosed, a.Emergency, a.Refused, a.SignIns, a.Failed, a.Reports, a.Admin} {
			row = append(row, fmt.Sprint(n))
		}
		var by []string
		for _, id := range a.ReviewedBy {
			by = append(by, cmp.Or(names[id], id))
		}
		people.Rows = append(people.Rows, append(row, cmp.Or(strings.Join(by, ", "), "nobody else yet")))
	}
	look := document.Table{Caption: "What wants a look, the oldest first", Columns: []string{"Time (UTC)", "What", "Who", "About", "Count", "Came of it"}, Empty: "Nothing."}
	for _, s := range rev.Signals {
		what := string(s.Type)
		for _, more := range []string{s.Rule, string(s.Reason)} {
			if more != "" {
				what += ", " + more
			}
		}
		if s.Emergency {
			what += ", emergency access"
		}
		came := string(s.Disposition)
		if s.Type == audit.Alerted && came == "" {
			came = "open"
		}
		n := ""
		if s.Count > 0 {
			n = fmt.Sprint(s.Count)
		}
		look.Rows = append(look.Rows, []string{document.Stamp(s.Time), what, s.Who.Text(), s.About.Text(), n, came})
	}
	signed := document.Table{Caption: "Sign-offs", Columns: []string{"Time (UTC)", "By", "Of this review"}, Empty: "Nobody has signed off."}
	for _, s := range rev.SignOffs {
		current := "no: something was added since"
		if s.Current {
			current = "yes, without the signer's own activity"
		}
		signed.Rows = append(signed.Rows, []string{document.Stamp(s.Time), s.By.Text(), current})
	}
	d.Tables = []document.Table{people, look, signed}
	return d
}
