// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/part164/part164/access"
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
	e := &encoder{ctx: ctx, now: time.Now()}
	if s, err := access.From(ctx); err == nil {
		e.live = true
		if p, ok := PolicyOf(ctx); ok {
			e.policy = p
			e.rows = p.rows(s.Principal().Roles, s.Purpose())
		}
	}
	if e.policy == nil {
		e.policy = new(Policy) // shows nothing
	}
	if out := e.any(v); out == failed {
		return nil, fmt.Errorf("minimize: render %T: %w", v, e.err)
	} else if out != written {
		e.instead(out)
	}
	return e.buf, nil
}

// WriteJSON writes what [JSON] renders to w, with a line feed, or nothing on
// error. An [http.ResponseWriter] first gets Cache-Control: no-store, and
// Content-Type: application/json where the handler has set none.
func WriteJSON(ctx context.Context, w io.Writer, v any) error {
	b, err := JSON(ctx, v)
	if err != nil {
		return err
	}
	if rw, ok := w.(http.ResponseWriter); ok {
		h := rw.Header()
		h.Set("Cache-Control", "no-store")
		if h.Get("Content-Type") == "" {
			h.Set("Content-Type", "application/json")
		}
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("minimize: write JSON: %w", err)
	}
	return nil
}

// An encoder renders one value once.
type encoder struct {
	ctx    context.Context
	live   bool    // the scope may act
	policy *Policy // of the scope; never nil
	rows   []*row  // what the scope's roles have in it
	now    time.Time

	buf      []byte
	scratch  []byte
	depth    int
	seen     map[visit]bool
	class    Class    // of the last value that came to nothing
	withheld []string // names of the open objects' hidden fields, innermost last
	broken   []string // the same for unavailable ones
	err      error    // why it failed
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

func (e *encoder) fail(err error) outcome {
	e.err = err
	return failed
}

// null writes what stands for no value.
func (e *encoder) null() outcome {
	e.buf = append(e.buf, "null"...)
	return null
}

// instead writes the placeholder where a value has no key to leave out.
func (e *encoder) instead(out outcome) {
	if out == hidden || out == broken {
		e.buf = appendString(e.buf, Placeholder(e.class))
	}
}

// any writes v by the plan of its dynamic type.
func (e *encoder) any(v any) outcome {
	if v == nil {
		return e.null()
	}
	rv := reflect.ValueOf(v)
	p := e.policy.plan(rv.Type())
	start := len(e.buf)
	if start == 0 {
		e.buf = make([]byte, 0, p.size.Load()+64)
	}
	out := p.encode(e, rv)
	if start == 0 {
		p.size.Store(int64(min(len(e.buf), maxHint)))
	}
	return out
}

// maxHint bounds what is allocated ahead because the last value was large.
const maxHint = 64 << 10

// value writes what x lets the scope see.
func (e *encoder) value(x Value) outcome {
	if !e.live {
		e.class = ""
		return hidden
	}
	r := x.Minimized(e.ctx)
	e.class = r.Class
	switch r.State {
	case Shown:
		switch v := r.Value.(type) {
		case string:
			e.buf = appendString(e.buf, v)
			return written
		case Value:
			return hidden // a value that shows another one could go on for ever
		}
		if e.depth++; e.depth > maxDepth {
			return e.fail(errDeep)
		}
		defer func() { e.depth-- }()
		return e.any(r.Value)
	case Partly:
		e.buf = appendString(e.buf, r.Text)
		return written
	case Null:
		return e.null()
	case Unavailable:
		return broken
	default: // Sealed, Withheld, and what is no state
		return hidden
	}
}

// clear writes a field that is PHI and stored in clear, through the view of
// its class.
func (e *encoder) clear(f *field, v reflect.Value) outcome {
	switch view := unite(e.rows, f.class).view; {
	case !e.live || view == Withhold:
		e.class = classes[f.class]
		return hidden
	case view == Reveal:
		return f.plan.encode(e, v)
	case f.scalar:
		text, _ := scalarText(v)
		return e.text(view, classes[f.class], text)
	default:
		return e.partly(view, classes[f.class], v)
	}
}

// text writes a view of a text.
func (e *encoder) text(view View, c Class, text string) outcome {
	e.class = c
	var ok bool
	if e.scratch, ok = appendView(e.scratch[:0], view, c, text, e.now); !ok {
		return hidden
	}
	e.buf = appendString(e.buf, e.scratch)
	return written
}

// partly writes a view of the text of v, or of each element of a list.
func (e *encoder) partly(view View, c Class, v reflect.Value) outcome {
	e.class = c
	if v.Type() != timeType {
		if x, ok := asValue(v); ok {
			return e.value(x)
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return e.null()
		}
		if v.Kind() == reflect.Interface || !hasText(v.Type()) {
			if e.depth++; e.depth > maxDepth {
				return e.fail(errDeep)
			}
			defer func() { e.depth-- }()
			return e.partly(view, c, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		if hasText(v.Type()) || isBytes(v.Type()) {
			break
		}
		if v.Kind() == reflect.Slice && v.IsNil() {
			return e.null()
		}
		if e.depth++; e.depth > maxDepth {
			return e.fail(errDeep)
		}
		defer func() { e.depth-- }()
		e.buf = append(e.buf, '[')
		for i := range v.Len() {
			if i > 0 {
				e.buf = append(e.buf, ',')
			}
			out := e.partly(view, c, v.Index(i))
			if out == failed {
				return failed
			}
			e.instead(out)
		}
		e.buf = append(e.buf, ']')
		return written
	}
	if v.Type() == timeType && view == Generalise && (c == DOB || c == Date) {
		if t := timeOf(v); !t.IsZero() {
			e.buf = append(appendYear(append(e.buf, '"'), c, t.Year(), e.now), '"')
			return written
		}
	}
	text, ok := textOf(v)
	if !ok {
		return hidden
	}
	return e.text(view, c, text)
}
