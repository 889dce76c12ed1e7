// SPDX-License-Identifier: Apache-2.0

package document

import (
	"strings"
	"unicode"
)

// A Document is a report as it is printed: [Document.WriteText],
// [Document.WriteHTML]. What it holds may come from anybody: printing makes it
// harmless.
type Document struct {
	Title  string
	Lead   []string    // paragraphs
	Facts  [][2]string // name and value, above the tables
	Chart  *Chart      // nil where there is none
	Tables []Table
	Notes  []string
}

// A Table lists what a report found. Its first column names its rows.
type Table struct {
	Caption string
	Columns []string
	Rows    [][]string
	Empty   string // what stands where there is no row

	plain bool // the caption is no heading: the table belongs to the chart
}

// clean replaces what moves a terminal's cursor or turns the direction of
// writing: names come from the application's users.
func (d *Document) clean() {
	one := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				return ' '
			}
			return r
		}, s)
	}
	for i := range d.Facts {
		d.Facts[i][1] = one(d.Facts[i][1])
	}
	for i := range d.Tables {
		for _, row := range d.Tables[i].Rows {
			for k := range row {
				row[k] = one(row[k])
			}
		}
	}
}
