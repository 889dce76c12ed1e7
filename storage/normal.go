// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/part164/part164/minimize"
)

// The forms below are what tokens are made of. They must stay as they are: a
// change would orphan the tokens that are stored, until the index is rebuilt.

// values are the values that a field's text holds: several where it is the JSON
// of a list of strings.
func (f *field) values(plain string) []string {
	if t := f.valueType(); t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String {
		var list []string
		if json.Unmarshal([]byte(plain), &list) == nil {
			return list
		}
	}
	return []string{plain}
}

// valueType is the T of the field's Sealed[T].
func (f *field) valueType() reflect.Type {
	return reflect.New(f.sealedType()).Interface().(sealedField).valueType()
}

// normal is the form in which two values of the field are equal for search and
// unique, empty where there is nothing to compare.
func (f *field) normal(s string) string {
	switch f.valueType().Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64, reflect.Bool:
		return strings.TrimSpace(s) // as JSON has it: a sign and a point are not punctuation
	}
	return normalOf(f.tag.Class, s)
}

// normalOf is the normal form of a class. It is its own normal form, and what
// is not of the class, such as "unknown" for a telephone, still equals itself.
func normalOf(class minimize.Class, s string) string {
	switch class {
	case minimize.Email, minimize.URL:
		return strings.TrimSpace(norm.NFKC.String(strings.ToLower(norm.NFKC.String(strings.Map(plainMark, s)))))
	case minimize.Name:
		return strings.Map(lettersOnly, fold(strings.Map(plainMark, s)))
	}
	if v, ok := formOf(class, s); ok {
		return v
	}
	s = norm.NFKC.String(strings.Map(lettersOnly, strings.ToLower(norm.NFKC.String(s))))
	if v, ok := formOf(class, s); ok {
		return v
	}
	return s
}

// formOf is the form that a class has of its own, where s is of the class.
func formOf(class minimize.Class, s string) (string, bool) {
	switch class {
	case minimize.Phone, minimize.Fax:
		return phoneOf(s)
	case minimize.Date, minimize.DOB:
		return dateOf(s)
	case minimize.SSN:
		d := digits(s)
		return d, len(d) == 9 && strings.IndexFunc(s, unicode.IsLetter) < 0
	case minimize.ZIP:
		if d := digits(s); (len(d) == 5 || len(d) == 9) && strings.IndexFunc(s, unicode.IsLetter) < 0 {
			return d[:5], true // ZIP+4 is found by its ZIP
		}
	case minimize.IP:
		if a, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil {
			return a.Unmap().String(), true
		}
	}
	return "", false
}

func lettersOnly(r rune) rune {
	if isName(r) {
		return r
	}
	return -1
}

// digits are the decimal digits of a text, of any script, as ASCII.
func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, norm.NFKC.String(s))
}

// dateLayouts are the forms in which a date is understood. Where only numbers
// stand, with a day that may be a month, it is read as in the United States.
func dateLayouts() []string {
	return []string{
		"2006-1-2", "2006/1/2", "2006.1.2", "20060102",
		"1/2/2006", "1-2-2006",
		"Jan 2 2006", "January 2 2006", "2 Jan 2006", "2 January 2006", "2-Jan-2006", "2-January-2006", "2Jan2006",
		"Mon Jan 2 2006", "Monday January 2 2006", "Mon 2 Jan 2006", "Monday 2 January 2006",
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999",
	}
}

// dateOf returns a date as ISO 8601 has it: 2006-01-02, or less where less is
// known, 2006-01 or 2006. Of a time it is the day that it names, in its own
// zone.
func dateOf(s string) (string, bool) {
	s = strings.Map(plainMark, norm.NFKC.String(s))
	s = strings.Join(strings.Fields(strings.NewReplacer(",", " ", "\"", " ").Replace(s)), " ")
	if isYear(s) {
		return s, true
	}
	for _, layout := range []string{"2006-1", "2006/1", "1/2006", "Jan 2006", "January 2006"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 0 {
			return t.Format("2006-01"), true
		}
	}
	for _, layout := range dateLayouts() {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 0 {
			return t.Format(time.DateOnly), true
		}
	}
	return "", false
}

func isYear(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && len(s) == 4 && n > 0
}

// yearOf returns the year of a date in its normal form.
func yearOf(date string) (string, bool) {
	if len(date) < 4 || !isYear(date[:4]) || len(date) > 4 && date[4] != '-' {
		return "", false
	}
	return date[:4], true
}
