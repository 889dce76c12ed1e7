// SPDX-License-Identifier: Apache-2.0

package minimize_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
)

// wide has 20 fields: 11 strings that are masked, a ZIP, a date and an age
// that are generalised, and 6 that are clear of PHI.
type wide struct {
	First    string    `json:"first" phi:"name,clear"`
	Last     string    `json:"last" phi:"name,clear"`
	MRN      string    `json:"mrn" phi:"mrn,clear"`
	SSN      string    `json:"ssn" phi:"ssn,clear"`
	Phone    string    `json:"phone" phi:"phone,clear"`
	Mobile   string    `json:"mobile" phi:"phone,clear"`
	Fax      string    `json:"fax" phi:"fax,clear"`
	Email    string    `json:"email" phi:"email,clear"`
	Plan     string    `json:"plan" phi:"plan,clear"`
	Account  string    `json:"account" phi:"account,clear"`
	License  string    `json:"license" phi:"license,clear"`
	ZIP      string    `json:"zip" phi:"zip,clear"`
	Admitted time.Time `json:"admitted" phi:"date,clear"`
	Age      int       `json:"age" phi:"age,clear"`
	Status   string    `json:"status" phi:"-"`
	Ward     string    `json:"ward" phi:"-"`
	Version  int64     `json:"version" phi:"-"`
	Active   bool      `json:"active" phi:"-"`
	Updated  time.Time `json:"updated" phi:"-"`
	Kind     string    `json:"kind" phi:"-"`
}

func newWide() *wide {
	at := time.Date(2026, 11, 22, 9, 30, 0, 123456789, time.UTC)
	return &wide{"Jane", "Roe-Smith", "MRN-0012345", "219-09-9999", "(617) 555-0123", "(617) 555-0199", "617-555-0100", "jane.roe@example.org",
		"1EG4-TE5-MK73", "ACC-99887766", "S99912345", "02139", at, 46, "admitted", "R2", 12, true, at, "inpatient"}
}

func views(view func(minimize.Class) minimize.View) (rules []minimize.Rule) {
	for _, c := range minimize.Classes() {
		rules = append(rules, minimize.Rule{Role: "nurse", Purposes: []access.Purpose{access.Treatment}, Classes: []minimize.Class{c}, View: view(c)})
	}
	return rules
}

// BenchmarkJSON reports the time to render a 20-field row, divided by the time
// that encoding/json takes for the same row in plain: rounds of both take
// turns, and ratio is their median. The goal is 0.5 masked.
func BenchmarkJSON(b *testing.B) {
	masked := func(c minimize.Class) minimize.View {
		switch c {
		case minimize.Name, minimize.MRN, minimize.SSN, minimize.Phone, minimize.Fax, minimize.Email, minimize.Plan, minimize.Account, minimize.License:
			return minimize.Mask
		case minimize.ZIP, minimize.Date, minimize.Age:
			return minimize.Generalise
		}
		return minimize.Withhold
	}
	for _, bb := range []struct {
		name string
		view func(minimize.Class) minimize.View
	}{
		{"masked", masked},
		{"revealed", func(minimize.Class) minimize.View { return minimize.Reveal }},
		{"withheld", func(minimize.Class) minimize.View { return minimize.Withhold }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p, err := minimize.New(views(bb.view))
			if err != nil {
				b.Fatal(err)
			}
			ctx := minimizetest.As(b.Context(), "nurse", access.Treatment, p)
			v := newWide()
			const round = 200
			var ratios []float64
			var ours, theirs time.Duration
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%round != 0 {
					continue
				}
				start := time.Now()
				for range round {
					if _, err := minimize.JSON(ctx, v); err != nil {
						b.Fatal(err)
					}
				}
				mid := time.Now()
				for range round {
					if _, err := json.Marshal(v); err != nil {
						b.Fatal(err)
					}
				}
				x, y := mid.Sub(start), time.Since(mid)
				ours, theirs = ours+x, theirs+y
				ratios = append(ratios, float64(x)/float64(y))
			}
			if len(ratios) == 0 {
				return
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(ratios[0], "min-ratio")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(len(ratios)*round), "ours-ns")
			b.ReportMetric(float64(theirs.Nanoseconds())/float64(len(ratios)*round), "std-ns")
		})
	}
}
