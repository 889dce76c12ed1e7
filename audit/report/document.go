// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/part164/part164/access"
)

// A Report is one of this package's: an [Access], [Disclosures], [Breach] or
// [Review].
type Report interface{ document() document }

// A document is a report as it is printed.
type document struct {
	Title  string
	Lead   []string
	Facts  []fact
	Chart  *chart // nil where there is none
	Tables []table
	Notes  []string
}

type fact struct{ Name, Value string }

// A table's first column names its rows.
type table struct {
	Caption string
	Columns []string
	Rows    [][]string
	Empty   string // what stands where there is no row
	Plain   bool   // the caption is no heading: the table belongs to the chart
}

// clean replaces what moves a terminal's cursor or turns the direction of
// writing: names come from the application's users.
func (d *document) clean() {
	one := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				return ' '
			}
			return r
		}, s)
	}
	for i := range d.Facts {
		d.Facts[i].Value = one(d.Facts[i].Value)
	}
	for i := range d.Tables {
		for _, row := range d.Tables[i].Rows {
			for k := range row {
				row[k] = one(row[k])
			}
		}
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (p Period) text(made time.Time) string {
	from, to := "the beginning of the trail", stamp(made)
	if !p.Since.IsZero() {
		from = stamp(p.Since)
	}
	if !p.Until.IsZero() {
		to = stamp(p.Until)
	}
	return from + " to " + to + " (UTC)"
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// purposeText says a purpose of use in words.
func purposeText(p access.Purpose) string {
	switch p {
	case "":
		return "none stated"
	case access.Treatment:
		return "treatment"
	case access.EmergencyTreatment:
		return "treatment in an emergency"
	case access.BreakGlass:
		return "emergency access"
	case access.CareManagement:
		return "care management"
	case access.Payment:
		return "payment"
	case access.Operations:
		return "health care operations"
	case access.Compliance:
		return "review of access"
	case access.RecordManagement:
		return "record management"
	case access.SystemAdmin:
		return "system administration"
	case access.PatientRequest:
		return "patient request"
	case access.PublicHealth:
		return "public health"
	case access.Research:
		return "research"
	}
	return string(p)
}
