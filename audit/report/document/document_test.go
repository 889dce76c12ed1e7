// SPDX-License-Identifier: Apache-2.0

package document_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit/report/document"
)

func sample() *document.Document {
	d := &document.Document{Title: "Who saw this", Lead: []string{"A paragraph."}, Facts: [][2]string{{"Record", "r-1"}}, Chart: document.NewChart("Accesses over time", "accesses", "refused"),
		Tables: []document.Table{{Caption: "Accesses", Columns: []string{"Time", "Who", "What"}, Rows: [][]string{{"2026-03-02", "Nora", "saw"}, {"2026-03-03", "Omar", ""}}},
			{Caption: "Nothing here", Columns: []string{"Time"}, Empty: "There is none."}}, Notes: []string{"A note."}}
	begin := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	for i := range 40 {
		d.Chart.Add(begin.AddDate(0, 0, i), i%3/2)
	}
	return d
}

func page(t *testing.T, d *document.Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// An element of a page: enough of HTML for one that this package writes.
type element struct {
	name  string
	attr  map[string]string
	path  []string // the elements around it
	inner string   // text
}

func elements(t *testing.T, page string) []element {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(page))
	dec.Strict, dec.AutoClose, dec.Entity = false, []string{"meta", "link"}, xml.HTMLEntity
	var out []element
	var open []int
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			e := element{name: tok.Name.Local, attr: map[string]string{}}
			for _, a := range tok.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			for _, i := range open {
				e.path = append(e.path, out[i].name)
			}
			out = append(out, e)
			open = append(open, len(out)-1)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, i := range open {
				out[i].inner += string(tok)
			}
		}
	}
}

// What a reader without eyes, hands or scripts goes by.
func TestThePageIsAccessible(t *testing.T) {
	t.Parallel()
	all := elements(t, page(t, sample()))
	count := map[string]int{}
	ids := map[string]bool{}
	for _, e := range all {
		count[e.name]++
		if id := e.attr["id"]; id != "" {
			if ids[id] {
				t.Errorf("the id %s stands twice", id)
			}
			ids[id] = true
		}
	}
	for name, want := range map[string]int{"main": 1, "footer": 1, "h1": 1, "title": 4, "script": 0, "caption": 2, "img": 0, "form": 0} { // titles: the page's, the chart's, and of its bars
		if name == "title" && count[name] >= want || count[name] == want {
			continue
		}
		t.Errorf("%d <%s>, want %d", count[name], name, want)
	}
	level := 0
	for _, e := range all {
		switch e.name {
		case "html":
			if e.attr["lang"] != "en" {
				t.Error("the page names no language")
			}
		case "title":
			if strings.TrimSpace(e.inner) == "" {
				t.Error("an empty title")
			}
		case "a":
			if to, ok := strings.CutPrefix(e.attr["href"], "#"); !ok || !ids[to] {
				t.Errorf("a link to %q leads nowhere", e.attr["href"])
			}
		case "h1", "h2", "h3":
			if n := int(e.name[1] - '0'); n > level+1 {
				t.Errorf("a heading %s after one of level %d", e.name, level)
			} else {
				level = n
			}
		case "th":
			if want := map[bool]string{true: "col", false: "row"}[slices.Contains(e.path, "thead")]; e.attr["scope"] != want {
				t.Errorf("a header cell %q has the scope %q, want %s", e.inner, e.attr["scope"], want)
			}
		case "td":
			if strings.TrimSpace(e.inner) == "" || e.attr["data-column"] == "" {
				t.Errorf("a cell is empty, or does not say of which column: %+v", e)
			}
		case "svg":
			label := strings.Fields(e.attr["aria-labelledby"])
			if e.attr["role"] != "img" || len(label) != 2 || !ids[label[0]] || !ids[label[1]] {
				t.Errorf("the chart has no text in its place: %v", e.attr)
			}
		case "desc":
			if !strings.Contains(e.inner, "27 accesses, 13 refused") {
				t.Errorf("the chart's text is %q", e.inner)
			}
		}
		if e.attr["role"] == "region" && (e.attr["tabindex"] != "0" || e.attr["aria-label"] == "") {
			t.Errorf("what scrolls is not reached by keyboard, or has no name: %v", e.attr)
		}
		for name := range e.attr {
			if strings.HasPrefix(name, "on") || name == "style" || name == "src" {
				t.Errorf("<%s> has the attribute %s", e.name, name)
			}
		}
	}
}

// The figures of the chart add up to what was counted.
func TestTheChartHasItsFigures(t *testing.T) {
	t.Parallel()
	var inside bool
	sum := [2]int{}
	var row []string
	for _, e := range elements(t, page(t, sample())) {
		if e.name == "table" {
			inside = slices.Contains(e.path, "details")
		}
		if e.name == "td" && inside {
			row = append(row, e.inner)
		}
	}
	for i, cell := range row {
		n, err := strconv.Atoi(cell)
		if err != nil {
			t.Fatal(err)
		}
		sum[i%2] += n
	}
	if sum != [2]int{27, 13} {
		t.Errorf("the figures add up to %v, want 27 and 13", sum)
	}
}

// WCAG 2.2, 1.4.3 and 1.4.11: text 4.5 to 1, what else tells something 3 to 1,
// in the light and in the dark.
func TestContrast(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	schemes := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(string(css), -1)
	if len(schemes) != 3 { // light, dark, print
		t.Fatalf("%d schemes", len(schemes))
	}
	bars := regexp.MustCompile(`(?:fill|stroke)="(#[0-9a-f]{6})"`).FindAllStringSubmatch(page(t, sample()), -1)
	if len(bars) < 3 {
		t.Fatal("the chart has no colours")
	}
	for i, scheme := range schemes {
		colour := map[string]string{}
		for _, m := range regexp.MustCompile(`--(\w+): (#[0-9a-f]+)`).FindAllStringSubmatch(scheme[1], -1) {
			colour[m[1]] = m[2]
		}
		for name, least := range map[string]float64{"ink": 4.5, "soft": 4.5, "rule": 3, "focus": 3} {
			if colour[name] == "" && i == 2 {
				continue // nothing has the focus on paper
			}
			if got := contrast(t, colour[name], colour["paper"]); got < least {
				t.Errorf("scheme %d: --%s on --paper has %.2f to 1, want %.1f", i, name, got, least)
			}
		}
		for _, b := range bars {
			if got := contrast(t, b[1], colour["paper"]); got < 3 {
				t.Errorf("scheme %d: %s of the chart has %.2f to 1, want 3", i, b[1], got)
			}
		}
	}
}

// contrast is WCAG's ratio of relative luminances.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(c string) float64 {
		c = strings.TrimPrefix(c, "#")
		if len(c) == 3 {
			c = fmt.Sprintf("%c%c%c%c%c%c", c[0], c[0], c[1], c[1], c[2], c[2])
		}
		n, err := strconv.ParseUint(c, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			v := float64(n>>(16-8*i)&0xff) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// What the application's users are called cannot break the page or the
// terminal, and the page can do nothing.
func TestPrintsAreSafe(t *testing.T) {
	t.Parallel()
	evil := "<script>alert(1)</script>\x1b[2J\u202e\"&"
	d := sample()
	d.Facts = append(d.Facts, [2]string{"Name", evil})
	d.Tables[0].Rows[0][1] = evil
	var text, chart bytes.Buffer
	if err := errors.Join(d.WriteText(&text), d.Chart.WriteFigure(&chart)); err != nil {
		t.Fatal(err)
	}
	html := page(t, d)
	for name, s := range map[string]string{"page": html, "text": text.String()} {
		if strings.Contains(s, "\x1b") || strings.Contains(s, "\u202e") || name == "page" && strings.Contains(s, "<script") {
			t.Errorf("the %s holds what a name brought in", name)
		}
	}
	for _, bad := range []string{"http://", "https://", "@import", "url(h"} {
		if strings.Contains(strings.ReplaceAll(html, "http://www.w3.org/2000/svg", ""), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if !strings.HasPrefix(strings.TrimSpace(chart.String()), "<figure") || strings.Contains(chart.String(), "style=") {
		t.Error("the chart is no figure that every policy lets through")
	}
	if p := document.ContentSecurityPolicy(); !strings.HasPrefix(p, "default-src 'none';") || !strings.Contains(p, "frame-ancestors 'none'") || strings.Contains(p, "unsafe") {
		t.Errorf("the policy is %s", p)
	}
}
