// SPDX-License-Identifier: Apache-2.0

// Package format turns the lines of a journal into what other systems read:
// native JSON, FHIR R4 AuditEvent (the IHE BALP profiles), OCSF and CEF.
//
// What it makes is derived. The line itself is the record; only the native
// form holds it, byte for byte, so that its hash can be checked by whoever has
// it. The other forms name it by its event ID and leaf hash.
//
// Every form is still PHI, as the journal is: patients stand in it by
// pseudonym. docs/formats.md says where each field goes, and by which
// publication.
package format

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Format is one of the forms. The zero Format is JSON.
type Format string

// The formats.
const (
	JSON Format = "json" // the exact line, in an envelope with its ID, writer and leaf hash
	FHIR Format = "fhir" // FHIR R4 AuditEvent, IHE BALP profiles; one a patient
	OCSF Format = "ocsf" // Open Cybersecurity Schema Framework 1.5
	CEF  Format = "cef"  // Common Event Format, version 0
)

// Parse returns the format of that name.
func Parse(name string) (Format, error) {
	switch f := Format(name); f {
	case JSON, FHIR, OCSF, CEF:
		return f, nil
	}
	return "", fmt.Errorf("audit: format %q is not known: json, fhir, ocsf or cef", clip(name))
}

// ContentType is the media type of a document.
func (f Format) ContentType() string {
	switch f {
	case FHIR:
		return "application/fhir+json"
	case CEF:
		return "text/plain; charset=utf-8"
	}
	return "application/json"
}

// An Encoder makes documents of lines. The zero Encoder makes native JSON. It
// is a plain value and safe for concurrent use.
type Encoder struct {
	Format Format

	// Observer names the system whose journal it is: FHIR's source.observer,
	// OCSF's dst_endpoint, CEF's dvchost. An opaque ID; empty means the
	// journal's writer.
	Observer string
}

// ErrLine means that a line cannot be encoded: it is no line of a journal. No
// later try will succeed.
var ErrLine = errors.New("audit: the line cannot be encoded")

// Check names the bad field of e.
func (e Encoder) Check() error {
	if e.Format != "" {
		if _, err := Parse(string(e.Format)); err != nil {
			return err
		}
	}
	if e.Observer != "" {
		if err := access.CheckID(e.Observer); err != nil {
			return fmt.Errorf("audit: Encoder.Observer %w", err)
		}
	}
	return nil
}

// Append adds the documents of a line to dst, each on a line of its own that
// ends in a newline. Most lines are one document; in FHIR a line is one for
// each patient that it names, and in CEF one for every 64. The journal's own
// lines, segment headers and checkpoints, have no FHIR document and leave dst as it is.
//
// An error wraps [ErrLine], and dst is then as it was.
func (e Encoder) Append(dst []byte, l audit.Line) ([]byte, error) {
	if y := l.Time.UTC().Year(); y < 0 || y > 9999 {
		return dst, fmt.Errorf("%w: its time cannot be written", ErrLine)
	}
	var out []byte
	var err error
	switch e.Format {
	case "", JSON:
		out, err = e.native(dst, &l)
	case FHIR:
		out, err = e.fhir(dst, &l)
	case OCSF:
		out, err = e.ocsf(dst, &l)
	case CEF:
		out, err = e.cef(dst, &l)
	default:
		_, err = Parse(string(e.Format))
	}
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrLine, err)
	}
	return out, nil
}

// native wraps the exact bytes of the line, which stand last.
func (e Encoder) native(dst []byte, l *audit.Line) ([]byte, error) {
	if !json.Valid(l.Raw) || len(l.Raw) == 0 || l.Raw[0] != '{' || bytes.IndexByte(l.Raw, '\n') >= 0 {
		return nil, errors.New("it is not one line of JSON")
	}
	head, err := json.Marshal(struct {
		ID     string `json:"id"`
		Writer string `json:"writer"`
		Leaf   string `json:"leaf"`
	}{eventID(l), l.Position.Writer, leafText(l)})
	if err != nil {
		return nil, err
	}
	dst = append(dst, head[:len(head)-1]...)
	dst = append(dst, `,"line":`...)
	dst = append(dst, l.Raw...)
	return append(dst, "}\n"...), nil
}

// observer is who recorded the line.
func (e Encoder) observer(l *audit.Line) string {
	if e.Observer != "" {
		return e.Observer
	}
	if l.Position.Writer != "" {
		return l.Position.Writer
	}
	return "part164"
}

// eventID names the line among those of all journals.
func eventID(l *audit.Line) string {
	if l.ID != "" {
		return l.ID
	}
	return fmt.Sprintf("%s.%d", l.Position.Writer, l.Position.Seq)
}

const timeLayout = "2006-01-02T15:04:05.000000Z"

// instant is empty for the zero time.
func instant(t time.Time) string {
	if y := t.UTC().Year(); t.IsZero() || y < 0 || y > 9999 {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

func leafText(l *audit.Line) string { return base64.RawURLEncoding.EncodeToString(l.Leaf[:]) }

// event reports whether the line is one; the rest is the journal's own.
func event(l *audit.Line) bool {
	return l.Type != "" && l.Type != "segment" && l.Type != "checkpoint"
}

// breakGlass reports whether the event was emergency access.
func breakGlass(l *audit.Line) bool { return l.Purpose.Emergency() }

// appendJSON adds v as one line.
func appendJSON(dst []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(append(dst, text...), '\n'), nil
}

// distinct returns the values without repetition, in their order.
func distinct(n int, value func(int) string) []string {
	var out []string
	seen := make(map[string]bool)
	for i := range n {
		if v := value(i); v != "" && !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

func patients(l *audit.Line) []string {
	return distinct(len(l.Objects), func(i int) string { return l.Objects[i].Patient })
}

func records(l *audit.Line) []string {
	return distinct(len(l.Objects), func(i int) string { return l.Objects[i].Record })
}

func types(l *audit.Line) []string {
	return distinct(len(l.Objects), func(i int) string { return l.Objects[i].Type })
}

func fields(l *audit.Line) []string {
	var all []string
	for i := range l.Objects {
		all = append(all, l.Objects[i].Fields...)
	}
	return distinct(len(all), func(i int) string { return all[i] })
}

// clip bounds what an error quotes.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 32 {
		return strings.ToValidUTF8(s[:32], "") + "…"
	}
	return s
}
