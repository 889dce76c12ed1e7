// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// encode turns a value into the bytes that are sealed:
//
//	string and []byte kinds   as they are, invalid UTF-8 included
//	Date                      2006-01-02, which a Sealed[string] reads too; none is empty
//	time.Time                 JSON: RFC 3339 with nanoseconds and its offset
//	everything else           its JSON
//
// A kind counts for a type of its own too (type MRN string), unless the type
// marshals itself. testdata/values.json holds values of each: what a release
// has written, every later one reads.
func encode[T any](v T) ([]byte, error) {
	switch v := any(v).(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return append([]byte{}, v...), nil
	case Date:
		return v.MarshalText()
	case time.Time:
		return encodeTime(v)
	}
	rv := reflect.ValueOf(&v).Elem()
	switch {
	case !isRaw(rv.Type()):
	case rv.Kind() == reflect.String:
		return []byte(rv.String()), nil
	default:
		return append([]byte{}, rv.Bytes()...), nil
	}
	b, err := json.Marshal(&v) // by its address: MarshalJSON may want a pointer
	if err != nil {            // the cause may quote the value
		return nil, fmt.Errorf("storage: seal: this value of type %T has no JSON: NaN, an infinity, a year over 9999 or a cycle", v)
	}
	if bytes.Contains(b, []byte(`\ufffd`)) && !isText(rv, 0) { // which encoding/json would have replaced
		return nil, fmt.Errorf("storage: seal: this value of type %T holds text that is not UTF-8: use []byte for it", v)
	}
	return b, nil
}

// encodeTime drops the monotonic clock and the name of the zone, and keeps the
// instant and the offset. RFC 3339 has no offsets of seconds, as local mean
// times before 1900 have: such a time becomes UTC.
func encodeTime(t time.Time) ([]byte, error) {
	if _, offset := t.Zone(); offset%60 != 0 {
		t = t.UTC()
	}
	b, err := t.MarshalJSON()
	if err != nil {
		return nil, errors.New("storage: seal: a time outside the years 0 to 9999, or with an offset of a day or more")
	}
	return b, nil
}

func decode[T any](b []byte) (T, error) {
	var v T
	bad := func() (T, error) {
		var zero T
		return zero, fmt.Errorf("storage: open: the cell does not hold a %T", v) // the cause would quote the plaintext
	}
	switch p := any(&v).(type) {
	case *string:
		*p = string(b)
		return v, nil
	case *[]byte:
		*p = append([]byte{}, b...)
		return v, nil
	case *Date:
		if p.UnmarshalText(b) != nil {
			return bad()
		}
		return v, nil
	case *time.Time:
		var text string
		if json.Unmarshal(b, &text) != nil {
			return bad()
		}
		// In UTC, so that it reads the same wherever the process runs.
		t, err := time.ParseInLocation(time.RFC3339Nano, text, time.UTC)
		if err != nil {
			return bad()
		}
		*p = t
		return v, nil
	}
	rv := reflect.ValueOf(&v).Elem()
	switch {
	case !isRaw(rv.Type()):
	case rv.Kind() == reflect.String:
		rv.SetString(string(b))
		return v, nil
	default:
		rv.SetBytes(append([]byte{}, b...))
		return v, nil
	}
	if rv.CanInt() || rv.CanUint() || rv.CanFloat() || rv.Kind() == reflect.Bool {
		if string(b) == "null" { // which encoding/json takes for "leave it"
			return bad()
		}
	}
	if json.Unmarshal(b, &v) != nil {
		return bad()
	}
	return v, nil
}

// isRaw reports whether values of a type are sealed as their bytes.
func isRaw(t reflect.Type) bool {
	if t.Kind() != reflect.String && (t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Uint8) {
		return false
	}
	m, _ := marshals(t)
	return !m
}

// text is a value as people read it: what is searched, masked and rendered.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
		return base64.StdEncoding.EncodeToString(v)
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.Format(time.RFC3339Nano)
	case encoding.TextMarshaler:
		if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
			return ""
		}
		b, _ := v.MarshalText()
		return string(b)
	case fmt.Stringer:
		if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
			return ""
		}
		return v.String()
	}
	switch rv := reflect.ValueOf(v); {
	case !rv.IsValid():
		return ""
	case rv.Kind() == reflect.String:
		return rv.String()
	case rv.CanFloat():
		return strconv.FormatFloat(rv.Float(), 'f', -1, rv.Type().Bits())
	case isRaw(rv.Type()):
		return text(rv.Bytes())
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return strings.Trim(strings.TrimSuffix(b.String(), "\n"), `"`)
}

// isText reports whether every string that reflection reaches is UTF-8.
func isText(v reflect.Value, depth int) bool {
	if depth > 1000 {
		return true // encoding/json has looked for cycles
	}
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || isText(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if v.Type().Elem().Kind() != reflect.Uint8 && !isText(v.Index(i), depth+1) {
				return false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !isText(it.Key(), depth+1) || !isText(it.Value(), depth+1) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !isText(v.Field(i), depth+1) {
				return false
			}
		}
	}
	return true
}

// Padding hides the length of a value. A plaintext that is padded, or that
// begins with padMark, is framed inside the cell:
//
//	padMark value 0x80 0x00...
//
// (the padding of ISO/IEC 7816-4), so that padded and unpadded cells of a field
// stand side by side. padMark occurs nowhere in UTF-8 and begins no cell.
const (
	padMark = 0xF8
	padEnd  = 0x80
)

// frame pads a plaintext to size bytes, doubled until it fits; size 0 pads
// nothing.
func frame(plain []byte, size int) []byte {
	if size == 0 && (len(plain) == 0 || plain[0] != padMark) {
		return plain
	}
	size = max(size, 1)
	for size < len(plain)+2 {
		size *= 2
	}
	out := make([]byte, 0, size)
	out = append(append(append(out, padMark), plain...), padEnd)
	return out[:size]
}

// unframe undoes frame, whatever size it was called with.
func unframe(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != padMark {
		return b, nil
	}
	end := len(b) - 1
	for end > 0 && b[end] == 0 {
		end--
	}
	if end == 0 || b[end] != padEnd {
		return nil, errors.New("storage: open: the padding of the cell is broken")
	}
	return b[1:end], nil
}

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	anyType         = reflect.TypeFor[any]()
)

// marshals reports whether a type renders itself to JSON, and whether only its
// pointer does.
func marshals(t reflect.Type) (ok, byPointer bool) {
	if t.Implements(jsonMarshaler) || t.Implements(textMarshaler) {
		return true, false
	}
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false, false
	}
	p := reflect.PointerTo(t)
	byPointer = p.Implements(jsonMarshaler) || p.Implements(textMarshaler)
	return byPointer, byPointer
}

// unmarshals reports whether a type reads itself from JSON.
func unmarshals(t reflect.Type) bool {
	if t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t)
	}
	return t.Implements(jsonUnmarshaler) || t.Implements(textUnmarshaler)
}

// cannotSeal says why values of a type could not be stored and read back as
// they were; "" where they can.
func cannotSeal(t reflect.Type) string {
	if t.Kind() == reflect.Interface {
		return "an interface: name the type that it holds"
	}
	return unsealable(t, true, nil)
}

// unsealable is cannotSeal below the top. addressable is false in a map, where
// encoding/json does not find methods of pointers.
func unsealable(t reflect.Type, addressable bool, above []reflect.Type) string {
	if slices.Contains(above, t) {
		return ""
	}
	above = append(above, t)
	if reflect.PointerTo(t).Implements(sealedFieldType) {
		return "it holds a Sealed, which would be stored as a placeholder"
	}
	if ok, byPointer := marshals(t); ok {
		switch {
		case byPointer && !addressable:
			return fmt.Sprintf("%s in a map, whose MarshalJSON or MarshalText is one of its pointer: use pointers", t)
		case !unmarshals(t):
			return fmt.Sprintf("%s marshals itself and has neither UnmarshalJSON nor UnmarshalText", t)
		}
		return ""
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Sprintf("%s has no JSON", t)
	case reflect.Interface:
		if t != anyType {
			return fmt.Sprintf("%s is an interface, which JSON cannot be read back into", t)
		}
	case reflect.Pointer:
		return unsealable(t.Elem(), true, above)
	case reflect.Slice:
		return unsealable(t.Elem(), true, above)
	case reflect.Array:
		return unsealable(t.Elem(), addressable, above)
	case reflect.Map:
		k := t.Key()
		text := k.Implements(textMarshaler) && reflect.PointerTo(k).Implements(textUnmarshaler)
		if kind := reflect.Zero(k); !text && k.Kind() != reflect.String && !kind.CanInt() && !kind.CanUint() {
			return fmt.Sprintf("%s is no key of a JSON object", k)
		}
		return unsealable(t.Elem(), false, above)
	case reflect.Struct:
		return unsealableStruct(t, addressable, above)
	}
	return ""
}

func unsealableStruct(t reflect.Type, addressable bool, above []reflect.Type) string {
	kept := 0
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("json") == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if !f.IsExported() {
			if f.Type.Kind() == reflect.Pointer {
				return fmt.Sprintf("%s embeds %s, which JSON cannot be read back into", t, f.Type)
			}
			if f.Type.Kind() != reflect.Struct {
				continue
			}
		}
		if why := unsealable(f.Type, addressable, above); why != "" {
			return f.Name + ": " + why
		}
		kept++
	}
	if kept == 0 && t.NumField() > 0 {
		return fmt.Sprintf("%s has no exported field: nothing of it would be stored", t)
	}
	return ""
}
