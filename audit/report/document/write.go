// SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
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

// WriteText writes the document for a terminal or a text file.
func (d *Document) WriteText(w io.Writer) error {
	d.clean()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%s\n", d.Title, strings.Repeat("=", utf8.RuneCountInString(d.Title)))
	for _, p := range d.Lead {
		fmt.Fprintf(&b, "\n%s\n", p)
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range d.Facts {
		fmt.Fprintf(t, "%s:\t%s\n", f[0], f[1])
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
		return fmt.Errorf("document: write text: %w", err)
	}
	return nil
}

// WriteHTML writes the document as one HTML page that needs nothing else: no
// script, no other file. Serve it with [ContentSecurityPolicy].
func (d *Document) WriteHTML(w io.Writer) error {
	d.clean()
	return execute(w, "page", struct {
		*Document
		Style, Policy string
	}{d, style, metaPolicy()})
}

// WriteFigure writes the chart as a figure element for a page of the
// application's own: an SVG image, and behind it the table of its figures. It
// has no style of its own, so that any content security policy lets it through,
// and one set of IDs, so that a page holds one chart.
func (c *Chart) WriteFigure(w io.Writer) error { return execute(w, "figure", c) }

func execute(w io.Writer, name string, data any) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"drawing": (*Chart).drawing,
		"figures": (*Chart).figures,
		"css":     func(s string) template.CSS { return template.CSS(s) }, // style.css of this package
		"plain":   func(t Table) bool { return t.plain },
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
		return fmt.Errorf("document: write HTML: %w", err)
	}
	return nil
}

// ContentSecurityPolicy returns the header value under which a page of
// [Document.WriteHTML] shows as it should and can do nothing.
func ContentSecurityPolicy() string { return metaPolicy() + "; frame-ancestors 'none'" }

// metaPolicy is the part of the policy that also works inside the page, where
// it goes with a saved copy.
func metaPolicy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}
