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
		return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
			if v.IsNil() {
				return appendNull(b)
			}
			return e.nested(b, v, list)
		}
	case reflect.Array:
		return listEncoder(b.plan(t.Elem()))
	case reflect.Pointer:
		elem := b.plan(t.Elem())
		if quoted {
			elem = &plan{encode: b.encoder(t.Elem(), true)}
		}
		enc := func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) { return elem.encode(e, b, v.Elem()) }
		return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
			if v.IsNil() {
				return appendNull(b)
			}
			return e.nested(b, v, enc)
		}
	default:
		return func(e *encoder, _ []byte, _ reflect.Value) ([]byte, outcome) {
			return e.fail(&json.UnsupportedTypeError{Type: t})
		}
	}
	if !quoted {
		return enc
	}
	return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
		b, out := enc(e, append(b, '"'), v)
		return append(b, '"'), out
	}
}

// encode writes the object: the fields that are shown, then the lists of those
// that are not.
func (p *structPlan) encode(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
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
			(f.class < 0 || e.live && e.views.of[f.class] != Withhold) {
			continue
		}
		start := len(b)
		b = append(b, f.key...)
		b[start] = next
		var out outcome
		if f.class >= 0 {
			b, out = e.clear(b, f, fv)
		} else {
			b, out = f.plan.encode(e, b, fv)
		}
		switch {
		case out == failed:
			return nil, failed
		case out == hidden:
			e.withheld = append(e.withheld, f.name)
			b = b[:start]
		case out == broken:
			e.broken = append(e.broken, f.name)
			b = b[:start]
		case out == null && f.value && (f.omitEmpty || f.omitZero != nil):
			b = b[:start]
		default:
			next = ','
		}
	}
	return e.close(b, next, hiddenFrom, brokenFrom, p.reserved)
}

// close ends an object with the lists of what it does not show.
func (e *encoder) close(b []byte, next byte, hiddenFrom, brokenFrom int, reserved bool) ([]byte, outcome) {
	if reserved && (len(e.withheld) > hiddenFrom || len(e.broken) > brokenFrom) {
		return e.fail(fmt.Errorf("an object with withheld values has a key %s or %s of its own: rename it", withheldList, unavailableList))
	}
	b, next = appendNames(b, next, withheldList, e.withheld[hiddenFrom:])
	b, next = appendNames(b, next, unavailableList, e.broken[brokenFrom:])
	e.withheld, e.broken = e.withheld[:hiddenFrom], e.broken[:brokenFrom]
	if next == '{' {
		b = append(b, next)
	}
	return append(b, '}'), written
}

func appendNames(b []byte, next byte, key string, names []string) ([]byte, byte) {
	if len(names) == 0 {
		return b, next
	}
	b = append(append(append(b, next, '"'), key...), `":`...)
	sep := byte('[')
	for _, n := range names {
		b = appendString(append(b, sep), n)
		sep = ','
	}
	return append(b, ']'), ','
}

func listEncoder(elem *plan) encodeFunc {
	return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			var out outcome
			if b, out = elem.encode(e, b, v.Index(i)); out == failed {
				return nil, failed
			}
			b = e.instead(b, out)
		}
		return append(b, ']'), written
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
			return func(e *encoder, _ []byte, _ reflect.Value) ([]byte, outcome) {
				return e.fail(&json.UnsupportedTypeError{Type: t})
			}
		}
	}
	elem := b.plan(t.Elem())
	type entry struct {
		key   string
		value reflect.Value
	}
	object := func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
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
			start := len(b)
			b = append(appendString(append(b, next), at.key), ':')
			var out outcome
			b, out = elem.encode(e, b, at.value)
			switch out {
			case failed:
				return nil, failed
			case hidden:
				e.withheld = append(e.withheld, at.key)
				b = b[:start]
			case broken:
				e.broken = append(e.broken, at.key)
				b = b[:start]
			default:
				next = ','
			}
		}
		return e.close(b, next, hiddenFrom, brokenFrom, reserved)
	}
	return func(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
		if v.IsNil() {
			return appendNull(b)
		}
		return e.nested(b, v, object)
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
func (e *encoder) nested(b []byte, v reflect.Value, enc encodeFunc) ([]byte, outcome) {
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
	b, out := enc(e, b, v)
	e.depth--
	return b, out
}

func encodeInterface(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	if v.IsNil() {
		return appendNull(b)
	}
	if e.depth++; e.depth > maxDepth {
		return e.fail(errDeep)
	}
	v = v.Elem()
	b, out := e.policy.plan(v.Type()).encode(e, b, v)
	e.depth--
	return b, out
}

// encodeMarshaler writes what the type's own MarshalJSON gives.
func encodeMarshaler(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return appendNull(b)
	}
	if !v.CanInterface() {
		return e.fail(fmt.Errorf("embedded unexported type %s has a JSON name and renders itself: export it", v.Type()))
	}
	raw, err := v.Interface().(json.Marshaler).MarshalJSON()
	var compact, escaped bytes.Buffer
	if err == nil {
		err = json.Compact(&compact, raw)
	}
	if err != nil {
		return e.fail(&json.MarshalerError{Type: v.Type(), Err: err})
	}
	json.HTMLEscape(&escaped, compact.Bytes())
	return append(b, escaped.Bytes()...), written
}

// encodeText writes what the type's own MarshalText gives, as a string.
func encodeText(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return appendNull(b)
	}
	if !v.CanInterface() {
		return e.fail(fmt.Errorf("embedded unexported type %s has a JSON name and renders itself: export it", v.Type()))
	}
	text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return e.fail(fmt.Errorf("error calling MarshalText for type %s: %w", v.Type(), err))
	}
	return appendString(b, text), written
}

// encodeStd leaves a rare value to encoding/json.
func encodeStd(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		return e.fail(err)
	}
	return append(b, raw...), written
}

func encodeTime(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	t := timeOf(v)
	_, offset := t.Zone()
	if year := t.Year(); year < 0 || year > 9999 || offset <= -24*3600 || offset >= 24*3600 {
		return encodeMarshaler(e, b, v) // an error, in the words of the time package
	}
	b = t.AppendFormat(append(b, '"'), time.RFC3339Nano)
	return append(b, '"'), written
}

func encodeBool(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	return strconv.AppendBool(b, v.Bool()), written
}

func encodeInt(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	return strconv.AppendInt(b, v.Int(), 10), written
}

func encodeUint(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	return strconv.AppendUint(b, v.Uint(), 10), written
}

func encodeFloat(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	f := v.Float()
	if abs := max(f, -f); abs == 0 || abs >= 1e-5 && abs < 1e20 { // encoding/json uses exponents a little further out
		return strconv.AppendFloat(b, f, 'f', -1, v.Type().Bits()), written
	}
	if v.Kind() == reflect.Float32 {
		return encodeStd(e, b, reflect.ValueOf(float32(f)))
	}
	return encodeStd(e, b, reflect.ValueOf(f))
}

func encodeString(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	return appendString(b, v.String()), written
}

// encodeQuotedString writes a string whose text is the JSON of the string.
func encodeQuotedString(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	e.scratch = appendString(e.scratch[:0], v.String())
	return appendString(b, e.scratch), written
}

func isBytes(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Uint8 || isValue(t.Elem()) {
		return false
	}
	p := reflect.PointerTo(t.Elem())
	return !p.Implements(marshalerType) && !p.Implements(textMarshalerType)
}

func encodeBytes(e *encoder, b []byte, v reflect.Value) ([]byte, outcome) {
	if v.IsNil() {
		return appendNull(b)
	}
	b = base64.StdEncoding.AppendEncode(append(b, '"'), v.Bytes())
	return append(b, '"'), written
}

const hexDigits = "0123456789abcdef"

// Kinds of bytes, in the table ascii.
const (
	plain  = 1 << iota // stands for itself in a JSON string
	digit              // 0 to 9
	letter             // a to z and A to Z
)

// ascii tells the kinds of a byte. It is never changed.
var ascii = func() (kinds [256]uint8) {
	for c := range byte(utf8.RuneSelf) {
		switch {
		case c >= '0' && c <= '9':
			kinds[c] = plain | digit
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			kinds[c] = plain | letter
		case c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&':
			kinds[c] = plain
		}
	}
	return kinds
}()

func isPlain(s []byte) bool {
	for _, c := range s {
		if ascii[c]&plain == 0 {
			return false
		}
	}
	return true
}

// appendString appends s as encoding/json writes it: with HTML characters, the
// line separators U+2028 and U+2029 and invalid UTF-8 escaped.
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if ascii[c]&plain != 0 {
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
