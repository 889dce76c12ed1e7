// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"
)

// kind returns the encoder of a type that does not render itself.
func (b *builder) kind(t reflect.Type, quoted bool) encodeFunc {
	var enc encodeFunc
	switch t.Kind() {
	case reflect.Bool:
		enc = encodeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		enc = encodeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		enc = encodeUint
	case reflect.Float32, reflect.Float64:
		enc = encodeFloat
	case reflect.String:
		switch {
		case t == numberType:
			enc = encodeStd
		case quoted:
			return encodeQuotedString
		default:
			return encodeString
		}
	case reflect.Struct:
		return b.structPlan(t).encode
	case reflect.Map:
		return b.mapEncoder(t)
	case reflect.Slice:
		if isBytes(t) {
			return encodeBytes
		}
		list := listEncoder(b.plan(t.Elem()))
		return func(e *encoder, v reflect.Value) outcome {
			if v.IsNil() {
				return e.null()
			}
			return e.nested(v, list)
		}
	case reflect.Array:
		return listEncoder(b.plan(t.Elem()))
	case reflect.Pointer:
		elem := b.plan(t.Elem())
		if quoted {
			elem = &plan{encode: b.encoder(t.Elem(), true)}
		}
		enc := func(e *encoder, v reflect.Value) outcome { return elem.encode(e, v.Elem()) }
		return func(e *encoder, v reflect.Value) outcome {
			if v.IsNil() {
				return e.null()
			}
			return e.nested(v, enc)
		}
	default:
		return func(e *encoder, _ reflect.Value) outcome { return e.fail(&json.UnsupportedTypeError{Type: t}) }
	}
	if !quoted {
		return enc
	}
	return func(e *encoder, v reflect.Value) outcome {
		e.buf = append(e.buf, '"')
		out := enc(e, v)
		e.buf = append(e.buf, '"')
		return out
	}
}

// encode writes the object: the fields that are shown, then the lists of those
// that are not.
func (p *structPlan) encode(e *encoder, v reflect.Value) outcome {
	next := byte('{')
	hiddenFrom, brokenFrom := len(e.withheld), len(e.broken)
fields:
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index[0])
		for _, i := range f.index[1:] {
			if fv.Kind() == reflect.Pointer {
				if fv.IsNil() {
					continue fields
				}
				fv = fv.Elem()
			}
			fv = fv.Field(i)
		}
		if !f.value && (f.omitEmpty && isEmpty(fv) || f.omitZero != nil && f.omitZero(fv)) &&
			(f.class < 0 || e.live && unite(e.rows, f.class).view != Withhold) {
			continue
		}
		start := len(e.buf)
		e.buf = append(e.buf, next)
		e.buf = append(e.buf, f.key...)
		var out outcome
		if f.class >= 0 {
			out = e.clear(f, fv)
		} else {
			out = f.plan.encode(e, fv)
		}
		switch {
		case out == failed:
			return failed
		case out == hidden:
			e.withheld = append(e.withheld, f.name)
			e.buf = e.buf[:start]
		case out == broken:
			e.broken = append(e.broken, f.name)
			e.buf = e.buf[:start]
		case out == null && f.value && (f.omitEmpty || f.omitZero != nil):
			e.buf = e.buf[:start]
		default:
			next = ','
		}
	}
	return e.close(next, hiddenFrom, brokenFrom, p.reserved)
}

// close ends an object with the lists of what it does not show.
func (e *encoder) close(next byte, hiddenFrom, brokenFrom int, reserved bool) outcome {
	if reserved && (len(e.withheld) > hiddenFrom || len(e.broken) > brokenFrom) {
		return e.fail(fmt.Errorf("an object with withheld values has a key %s or %s of its own: rename it", withheldList, unavailableList))
	}
	next = e.list(next, withheldList, e.withheld[hiddenFrom:])
	next = e.list(next, unavailableList, e.broken[brokenFrom:])
	e.withheld, e.broken = e.withheld[:hiddenFrom], e.broken[:brokenFrom]
	if next == '{' {
		e.buf = append(e.buf, next)
	}
	e.buf = append(e.buf, '}')
	return written
}

func (e *encoder) list(next byte, key string, names []string) byte {
	if len(names) == 0 {
		return next
	}
	e.buf = append(e.buf, next, '"')
	e.buf = append(e.buf, key...)
	e.buf = append(e.buf, `":`...)
	sep := byte('[')
	for _, n := range names {
		e.buf = appendString(append(e.buf, sep), n)
		sep = ','
	}
	e.buf = append(e.buf, ']')
	return ','
}

func listEncoder(elem *plan) encodeFunc {
	return func(e *encoder, v reflect.Value) outcome {
		e.buf = append(e.buf, '[')
		for i := range v.Len() {
			if i > 0 {
				e.buf = append(e.buf, ',')
			}
			out := elem.encode(e, v.Index(i))
			if out == failed {
				return failed
			}
			e.instead(out)
		}
		e.buf = append(e.buf, ']')
		return written
	}
}

// mapEncoder writes an object with sorted keys.
func (b *builder) mapEncoder(t reflect.Type) encodeFunc {
	switch t.Key().Kind() {
	case reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
	default:
		if !t.Key().Implements(textMarshalerType) {
			return func(e *encoder, _ reflect.Value) outcome { return e.fail(&json.UnsupportedTypeError{Type: t}) }
		}
	}
	elem := b.plan(t.Elem())
	type entry struct {
		key   string
		value reflect.Value
	}
	object := func(e *encoder, v reflect.Value) outcome {
		entries := make([]entry, 0, v.Len())
		reserved := false
		for it := v.MapRange(); it.Next(); {
			key, err := keyText(it.Key())
			if err != nil {
				return e.fail(err)
			}
			entries = append(entries, entry{key, it.Value()})
			reserved = reserved || key == withheldList || key == unavailableList
		}
		slices.SortFunc(entries, func(x, y entry) int { return strings.Compare(x.key, y.key) })
		next := byte('{')
		hiddenFrom, brokenFrom := len(e.withheld), len(e.broken)
		for _, at := range entries {
			start := len(e.buf)
			e.buf = append(appendString(append(e.buf, next), at.key), ':')
			switch elem.encode(e, at.value) {
			case failed:
				return failed
			case hidden:
				e.withheld = append(e.withheld, at.key)
				e.buf = e.buf[:start]
			case broken:
				e.broken = append(e.broken, at.key)
				e.buf = e.buf[:start]
			default:
				next = ','
			}
		}
		return e.close(next, hiddenFrom, brokenFrom, reserved)
	}
	return func(e *encoder, v reflect.Value) outcome {
		if v.IsNil() {
			return e.null()
		}
		return e.nested(v, object)
	}
}

func keyText(k reflect.Value) (string, error) {
	if k.Kind() == reflect.String {
		return k.String(), nil
	}
	if m, ok := k.Interface().(encoding.TextMarshaler); ok {
		if k.Kind() == reflect.Pointer && k.IsNil() {
			return "", nil
		}
		b, err := m.MarshalText()
		return string(b), err
	}
	if k.CanInt() {
		return strconv.FormatInt(k.Int(), 10), nil
	}
	return strconv.FormatUint(k.Uint(), 10), nil
}

// A visit is a pointer, map or slice on the way to a value.
type visit struct {
	typ reflect.Type
	ptr unsafe.Pointer
	len int
}

// cycleDepth is where encoding/json, and this package, begin to look for
// cycles.
const cycleDepth = 1000

// nested writes what a pointer, map or slice leads to, unless it leads back to
// itself.
func (e *encoder) nested(v reflect.Value, enc encodeFunc) outcome {
	e.depth++
	if e.depth > cycleDepth {
		if e.depth > maxDepth {
			return e.fail(errDeep)
		}
		at := visit{typ: v.Type(), ptr: v.UnsafePointer()}
		if v.Kind() == reflect.Slice {
			at.len = v.Len()
		}
		if e.seen[at] {
			return e.fail(&json.UnsupportedValueError{Value: v, Str: "encountered a cycle via " + v.Type().String()})
		}
		if e.seen == nil {
			e.seen = make(map[visit]bool)
		}
		e.seen[at] = true
		defer delete(e.seen, at)
	}
	out := enc(e, v)
	e.depth--
	return out
}

func encodeInterface(e *encoder, v reflect.Value) outcome {
	if v.IsNil() {
		return e.null()
	}
	if e.depth++; e.depth > maxDepth {
		return e.fail(errDeep)
	}
	v = v.Elem()
	out := e.policy.plan(v.Type()).encode(e, v)
	e.depth--
	return out
}

// encodeMarshaler writes what the type's own MarshalJSON gives.
func encodeMarshaler(e *encoder, v reflect.Value) outcome {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return e.null()
	}
	if !v.CanInterface() {
		return e.fail(fmt.Errorf("embedded unexported type %s has a JSON name and renders itself: export it", v.Type()))
	}
	b, err := v.Interface().(json.Marshaler).MarshalJSON()
	var compact, escaped bytes.Buffer
	if err == nil {
		err = json.Compact(&compact, b)
	}
	if err != nil {
		return e.fail(&json.MarshalerError{Type: v.Type(), Err: err})
	}
	json.HTMLEscape(&escaped, compact.Bytes())
	e.buf = append(e.buf, escaped.Bytes()...)
	return written
}

// encodeText writes what the type's own MarshalText gives, as a string.
func encodeText(e *encoder, v reflect.Value) outcome {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return e.null()
	}
	if !v.CanInterface() {
		return e.fail(fmt.Errorf("embedded unexported type %s has a JSON name and renders itself: export it", v.Type()))
	}
	b, err := v.Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return e.fail(fmt.Errorf("error calling MarshalText for type %s: %w", v.Type(), err))
	}
	e.buf = appendString(e.buf, b)
	return written
}

// encodeStd leaves a rare value to encoding/json.
func encodeStd(e *encoder, v reflect.Value) outcome {
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return e.fail(err)
	}
	e.buf = append(e.buf, b...)
	return written
}

func encodeTime(e *encoder, v reflect.Value) outcome {
	t := timeOf(v)
	_, offset := t.Zone()
	if year := t.Year(); year < 0 || year > 9999 || offset <= -24*3600 || offset >= 24*3600 {
		return encodeMarshaler(e, v) // an error, in the words of the time package
	}
	e.buf = append(e.buf, '"')
	e.buf = t.AppendFormat(e.buf, time.RFC3339Nano)
	e.buf = append(e.buf, '"')
	return written
}

func encodeBool(e *encoder, v reflect.Value) outcome {
	e.buf = strconv.AppendBool(e.buf, v.Bool())
	return written
}

func encodeInt(e *encoder, v reflect.Value) outcome {
	e.buf = strconv.AppendInt(e.buf, v.Int(), 10)
	return written
}

func encodeUint(e *encoder, v reflect.Value) outcome {
	e.buf = strconv.AppendUint(e.buf, v.Uint(), 10)
	return written
}

func encodeFloat(e *encoder, v reflect.Value) outcome {
	f := v.Float()
	if abs := max(f, -f); abs == 0 || abs >= 1e-5 && abs < 1e20 { // encoding/json uses exponents a little further out
		e.buf = strconv.AppendFloat(e.buf, f, 'f', -1, v.Type().Bits())
		return written
	}
	if v.Kind() == reflect.Float32 {
		return encodeStd(e, reflect.ValueOf(float32(f)))
	}
	return encodeStd(e, reflect.ValueOf(f))
}

func encodeString(e *encoder, v reflect.Value) outcome {
	e.buf = appendString(e.buf, v.String())
	return written
}

// encodeQuotedString writes a string whose text is the JSON of the string.
func encodeQuotedString(e *encoder, v reflect.Value) outcome {
	e.scratch = appendString(e.scratch[:0], v.String())
	e.buf = appendString(e.buf, e.scratch)
	return written
}

func isBytes(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Uint8 || isValue(t.Elem()) {
		return false
	}
	p := reflect.PointerTo(t.Elem())
	return !p.Implements(marshalerType) && !p.Implements(textMarshalerType)
}

func encodeBytes(e *encoder, v reflect.Value) outcome {
	if v.IsNil() {
		return e.null()
	}
	e.buf = append(e.buf, '"')
	e.buf = base64.StdEncoding.AppendEncode(e.buf, v.Bytes())
	e.buf = append(e.buf, '"')
	return written
}

const hexDigits = "0123456789abcdef"

// appendString appends s as encoding/json writes it: with HTML characters, the
// line separators U+2028 and U+2029 and invalid UTF-8 escaped.
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[from:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\b':
				dst = append(dst, '\\', 'b')
			case '\f':
				dst = append(dst, '\\', 'f')
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[from:i]...), `\ufffd`...)
			from = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[from:i]...), '\\', 'u', '2', '0', '2', hexDigits[r&15])
			from = i + size
		}
		i += size
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// hasText reports whether a type has a text form of its own.
func hasText(t reflect.Type) bool { return t == timeType || t.Implements(textMarshalerType) }

// isScalar reports whether the text of a type's values is that of its kind.
func isScalar(t reflect.Type) bool { return quotable(t) && t.Kind() != reflect.Pointer && !hasText(t) }

// textOf returns the text that a mask or a generaliser works on. It reports
// false for what has none.
func textOf(v reflect.Value) (string, bool) {
	switch {
	case v.Type() == timeType:
		t := timeOf(v)
		if t.IsZero() {
			return "", true
		}
		return t.Format(time.RFC3339Nano), true
	case v.Type().Implements(textMarshalerType):
		b, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return string(b), err == nil
	case isBytes(v.Type()):
		return string(v.Bytes()), true
	}
	return scalarText(v)
}

func scalarText(v reflect.Value) (string, bool) {
	switch {
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), true
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), true
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'f', -1, 64), true
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	}
	return "", false
}

// timeOf returns the time in v, without copying it to the heap where it can.
func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}
