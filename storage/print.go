// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/part164/part164/minimize"
)

// String returns the placeholder.
func (s Sealed[T]) String() string {
	switch {
	case s.c == nil:
		return ""
	case s.c.field == nil:
		return "[PHI]"
	}
	return minimize.Placeholder(s.c.field().tag.Class)
}

// GoString returns the placeholder.
func (s Sealed[T]) GoString() string { return s.String() }

// Format prints the placeholder for every verb.
func (s Sealed[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON gives the placeholder, and null for NULL. It never fails, so
// that nobody is tempted to print the value in another way. To render what a
// caller may see, use minimize.WriteJSON.
func (s Sealed[T]) MarshalJSON() ([]byte, error) {
	if s.c == nil {
		return []byte("null"), nil
	}
	return []byte(`"` + s.String() + `"`), nil
}

// MarshalText gives the placeholder.
func (s Sealed[T]) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalXML gives the placeholder.
func (s Sealed[T]) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return e.EncodeElement(s.String(), start)
}

// GobEncode gives the placeholder.
func (s Sealed[T]) GobEncode() ([]byte, error) { return []byte(s.String()), nil }

// GobDecode fails: a placeholder is not a value.
func (s *Sealed[T]) GobDecode([]byte) error {
	return errors.New("storage: decode gob: a sealed value does not travel by gob")
}

// LogValue gives the placeholder to log/slog.
func (s Sealed[T]) LogValue() slog.Value { return slog.StringValue(s.String()) }
