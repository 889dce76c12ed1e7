// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

//go:embed page.html
var page string

//go:embed style.css
var style string

// WriteJSON writes a report as one indented JSON object: the fields of its
// type. Times are RFC 3339, in UTC.
func WriteJSON(w io.Writer, r Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("report: write JSON: %w", err)
	}
	return nil
}

// WriteText writes a report for a terminal or a text file.
func WriteText(w io.Writer, r Report) error {
	d := r.document()
	d.clean()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%s\n", d.Title, strings.Repeat("=", utf8.RuneCountInString(d.Title)))
	for _, p := range d.Lead {
		fmt.Fprintf(&b, "\n%s\n", p)
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range d.Facts {
		fmt.Fprintf(t, "%s:\t%s\n", f.Name, f.Value)
	}
	_ = t.Flush() // into memory
	for _, tab := range d.Tables {
		fmt.Fprintf(&b, "\n%s\n\n", tab.Caption)
		if len(tab.Rows) == 0 {
			fmt.Fprintf(&b, "%s\n", tab.Empty)
			continue
		}
		fmt.Fprintln(t, strings.Join(tab.Columns, "\t"))
		for _, row := range tab.Rows {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		_ = t.Flush()
	}
	if len(d.Notes) > 0 {
		b.WriteString("\nNotes\n\n")
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "* %s\n", n)
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("report: write text: %w", err)
	}
	return nil
}

// WriteHTML writes a report as one HTML page that needs nothing else: no
// script, no other file. Serve it with [ContentSecurityPolicy].
func WriteHTML(w io.Writer, r Report) error {
	d := r.document()
	d.clean()
	return execute(w, "page", struct {
		document
		Style, Policy string
	}{d, style, metaPolicy()})
}

// WriteChart writes the report's chart of events over time as an SVG element
// for a page of the application's own. It has no style of its own, so that any
// content security policy lets it through. A report has one at most.
func WriteChart(w io.Writer, r Report) error {
	d := r.document()
	if d.Chart == nil {
		return nil
	}
	return execute(w, "chart", d.Chart)
}

func execute(w io.Writer, name string, data any) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"drawing": (*chart).drawing,
		"figures": (*chart).figures,
		"css":     func(s string) template.CSS { return template.CSS(s) }, // style.css of this package
		"isFirst": func(i int) bool { return i == 0 },
	}).Parse(page)
	var b bytes.Buffer
	if err == nil {
		err = t.ExecuteTemplate(&b, name, data)
	}
	if err == nil {
		_, err = b.WriteTo(w)
	}
	if err != nil {
		return fmt.Errorf("report: write HTML: %w", err)
	}
	return nil
}

// ContentSecurityPolicy returns the header value under which a page of
// [WriteHTML] shows as it should and can do nothing.
func ContentSecurityPolicy() string { return metaPolicy() + "; frame-ancestors 'none'" }

// metaPolicy is the part of the policy that also works inside the page, where
// it goes with a saved copy.
func metaPolicy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}
