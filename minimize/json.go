// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
)

// JSON renders v for the scope in ctx. It never reveals: a [Value] appears as
// what was revealed to this very scope, and a clear PHI field through the view
// that the scope's policy ([Pin]) gives its class.
//
//   - shown: the value's JSON. Where everything is shown, and for types without
//     PHI, the result is that of [encoding/json.Marshal] byte for byte.
//   - shown in part: a string, such as "***-**-1234".
//   - no value: null, or nothing under omitempty and omitzero.
//   - withheld, or sealed to this scope: the key is left out and its name is
//     listed in "_withheld" of the same object.
//   - could not be opened: left out and listed in "_unavailable".
//
// In a list, and at the top, where there is no key to leave out, a withheld
// value is its [Placeholder]; [CheckInput] refuses it as input. Without a live
// scope every PHI field is withheld, and without a pinned policy every clear
// one.
//
// A type that cannot be rendered safely is an error, whatever the scope may
// see: a struct with a phi tag and an exported field without one, a bad tag, a
// type with clear PHI fields that renders itself (MarshalJSON, MarshalText),
// and a field named "_withheld". So is nesting deeper than 10,000, which
// encoding/json cannot read back. Other errors are those of encoding/json. On
// error there is no output.
func JSON(ctx context.Context, v any) ([]byte, error) {
	e := newEncoder(ctx)
	defer e.free()
	if err := e.top(v); err != nil {
		return nil, err
	}
	return bytes.Clone(e.buf), nil
}

// WriteJSON writes what [JSON] renders to w, with a line feed, or nothing on
// error. An [http.ResponseWriter] first gets Cache-Control: no-store, and
// Content-Type: application/json where the handler has set none.
func WriteJSON(ctx context.Context, w io.Writer, v any) error {
	e := newEncoder(ctx)
	defer e.free()
	if err := e.top(v); err != nil {
		return err
	}
	if rw, ok := w.(http.ResponseWriter); ok {
		h := rw.Header()
		h.Set("Cache-Control", "no-store")
		if h.Get("Content-Type") == "" {
			h.Set("Content-Type", "application/json")
		}
	}
	if _, err := w.Write(append(e.buf, '\n')); err != nil {
		return fmt.Errorf("minimize: write JSON: %w", err)
	}
	return nil
}

// An encoder renders one value. It is kept in the policy for the next one.
type encoder struct {
	ctx    context.Context
	live   bool    // the scope may act
	policy *Policy // of the scope; never nil
	views  *views  // what the scope sees of each class

	buf      []byte
	scratch  []byte
	depth    int
	seen     map[visit]bool
	class    Class    // of the last value that came to nothing
	withheld []string // names of the open objects' hidden fields, innermost last
	broken   []string // the same for unavailable ones
	err      error    // why it failed
}

// newEncoder returns an encoder for the scope in ctx.
func newEncoder(ctx context.Context) *encoder {
	vs, p, live := viewsOf(ctx)
	if p == nil {
		p = new(Policy) // shows nothing
	}
	e, ok := p.encoders.Get().(*encoder)
	if !ok {
		e = new(encoder)
	}
	e.ctx, e.live, e.policy, e.views = ctx, live, p, vs
	return e
}

// maxKept bounds the memory that an encoder keeps because one value was large.
const maxKept = 64 << 10

// free wipes the encoder and keeps its memory for the next one.
func (e *encoder) free() {
	if cap(e.buf) > maxKept || cap(e.scratch) > maxKept {
		return
	}
	clear(e.buf[:cap(e.buf)])
	clear(e.scratch[:cap(e.scratch)])
	clear(e.withheld[:cap(e.withheld)])
	clear(e.broken[:cap(e.broken)])
	p := e.policy
	*e = encoder{buf: e.buf[:0], scratch: e.scratch[:0], withheld: e.withheld[:0], broken: e.broken[:0]}
	p.encoders.Put(e)
}

// top renders v, or its placeholder, to e.buf.
func (e *encoder) top(v any) error {
	b, out := e.any(e.buf, v)
	if out == failed {
		return fmt.Errorf("minimize: render %T: %w", v, e.err)
	}
	e.buf = e.instead(b, out)
	return nil
}

// An outcome says what became of a value.
type outcome uint8

const (
	written outcome = iota
	null            // written as null
	hidden          // nothing is written: withheld
	broken          // nothing is written: unavailable
	failed          // e.err says why
)

func (e *encoder) fail(err error) ([]byte, outcome) {
	e.err = err
	return nil, failed
}

func appendNull(b []byte) ([]byte, outcome) { return append(b, "null"...), null }

// instead writes the placeholder where a value has no key to leave out.
func (e *encoder) instead(b []byte, out outcome) []byte {
	if out == hidden || out == broken {
		b = appendString(b, Placeholder(e.class))
	}
	return b
}

// any writes v by the plan of its dynamic type.
func (e *encoder) any(b []byte, v any) ([]byte, outcome) {
	if v == nil {
		return appendNull(b)
	}
	rv := reflect.ValueOf(v)
	return e.policy.plan(rv.Type()).encode(e, b, rv)
}

// value writes what x lets the scope see.
func (e *encoder) value(b []byte, x Value) ([]byte, outcome) {
	if !e.live {
		e.class = ""
		return b, hidden
	}
	r := x.Minimized(e.ctx)
	e.class = r.Class
	switch r.State {
	case Shown:
		switch v := r.Value.(type) {
		case string:
			return appendString(b, v), written
		case Value:
			return b, hidden // a value that shows another one could go on for ever
		}
		if e.depth++; e.depth > maxDepth {
			return e.fail(errDeep)
		}
		defer func() { e.depth-- }()
		return e.any(b, r.Value)
	case Partly:
		return appendString(b, r.Text), written
	case Null:
		return appendNull(b)
	case Unavailable:
		return b, broken
	default: // Sealed, Withheld, and what is no state
		return b, hidden
	}
}

// clear writes a field that is PHI and stored in clear, through the view of
// its class.
func (e *encoder) clear(b []byte, f *field, v reflect.Value) ([]byte, outcome) {
	c := classes[f.class]
	switch view := e.views.of[f.class]; {
	case !e.live || view == Withhold:
		e.class = c
		return b, hidden
	case view == Reveal:
		return f.plan.encode(e, b, v)
	case f.scalar:
		text, _ := scalarText(v)
		if view == Mask && f.mask != noMask && text != "" {
			start := len(b)
			return e.masked(appendMask(append(b, '"'), f.mask, text), start)
		}
		return e.text(b, view, c, text)
	default:
		return e.partly(b, view, c, v)
	}
}

// text writes a view of a text.
func (e *encoder) text(b []byte, view View, c Class, text string) ([]byte, outcome) {
	start := len(b)
	b, ok := appendView(append(b, '"'), view, c, text, e.views.year)
	if !ok {
		e.class = c
		return b[:start], hidden
	}
	return e.masked(b, start)
}

// masked ends the string that begins at start.
func (e *encoder) masked(b []byte, start int) ([]byte, outcome) {
	if shown := b[start+1:]; !isPlain(shown) {
		e.scratch = append(e.scratch[:0], shown...)
		return appendString(b[:start], e.scratch), written
	}
	return append(b, '"'), written
}

// partly writes a view of the text of v, or of each element of a list.
func (e *encoder) partly(b []byte, view View, c Class, v reflect.Value) ([]byte, outcome) {
	if v.Type() == timeType && view == Generalise && (c == DOB || c == Date) {
		if t := timeOf(v); !t.IsZero() {
			return append(appendYear(append(b, '"'), c, t.Year(), e.views.year), '"'), written
		}
	}
	if x, ok := asValue(v); ok {
		return e.value(b, x)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return appendNull(b)
		}
		if v.Kind() == reflect.Interface || !hasText(v.Type()) {
			if e.depth++; e.depth > maxDepth {
				return e.fail(errDeep)
			}
			defer func() { e.depth-- }()
			return e.partly(b, view, c, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		if hasText(v.Type()) || isBytes(v.Type()) {
			break
		}
		if v.Kind() == reflect.Slice && v.IsNil() {
			return appendNull(b)
		}
		if e.depth++; e.depth > maxDepth {
			return e.fail(errDeep)
		}
		defer func() { e.depth-- }()
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			var out outcome
			if b, out = e.partly(b, view, c, v.Index(i)); out == failed {
				return nil, failed
			}
			b = e.instead(b, out)
		}
		return append(b, ']'), written
	}
	text, ok := textOf(v)
	if !ok {
		e.class = c
		return b, hidden
	}
	return e.text(b, view, c, text)
}
