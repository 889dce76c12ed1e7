// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"crypto/subtle"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
)

// Sealed holds one PHI value of a model. In the database it is a sealed cell;
// in memory it stays sealed until [Reveal] opens it for one scope. The zero
// Sealed is NULL.
//
// Copies share the cell, which is immutable: a copy made before Reveal stays
// sealed. Sealed cannot be compared with ==; use Equal. Every way of printing
// or marshalling it gives a placeholder. That protects against accidents, not
// against a memory dump.
type Sealed[T any] struct {
	_ [0]func()
	c *cell
}

// A cell is what a Sealed points to. It never changes once others can see it.
//
// What it belongs to stands behind functions, as plaintext does: a dumper that
// followed pointers would print GORM's whole schema with each value.
//
// The order matters to go-spew, which takes a Sealed in an interface, where Go
// keeps the pointer itself, for a pointer to one, and calls String: it then
// reads shown as the cell, and the second word of shown as its field. That is
// nil, so that it prints a placeholder where it would crash.
type cell struct {
	shown *shown // nil: sealed
	field func() *field
	row   func() *row // which record it belongs to; nil where storage does not know
	raw   []byte      // as stored; nil for NULL and for a value not sealed yet
}

// A row names the record that cells were read from or written to.
type row struct {
	model                   *model
	tenant, record, subject string
	version                 int64
}

// ref is what cells keep of their row.
func (r *row) ref() func() *row { return func() *row { return r } }

// A shown says what one scope may see of a cell. Values sit in closures, which
// no printer and no reflection follows.
type shown struct {
	kind  showing
	_     func() *field              // always nil: see cell
	value any                        // fresh: func() ([]byte, error), encoded; full: func() T; partly: func() string
	valid func(context.Context) bool // whether the scope of a context may see it; nil where nothing was opened
}

type showing uint8

const (
	fresh       showing = iota + 1 // given by Seal, not in the database yet
	full                           // revealed
	partly                         // a mask or generalisation of it is left
	withheld                       // the policy shows nothing
	unavailable                    // it did not open
	unloaded                       // the column was not selected
	older                          // NULL, while the old column may hold the value in clear
)

// A stamp is the right to see what one Reveal opened.
type stamp struct {
	scope *access.Scope
	until time.Time
	now   func() time.Time
}

func (s *stamp) valid(ctx context.Context) bool {
	scope, err := access.From(ctx)
	return err == nil && scope == s.scope && s.now().Before(s.until)
}

// Seal returns v as a value to be written. It is sealed when its record is.
//
// T is a string, []byte, integer, float, bool, [time.Time], [Date], or what
// encoding/json can write and read back: a struct, slice or map. Of a time the
// instant and the offset are kept. A nil []byte is an empty one: NULL is the
// zero Sealed. A float that is NaN or infinite, a date that the calendar does
// not have, and what else has no encoding fails when it is written; a type that
// has none is refused by [Migrate]. Later changes of v do not reach the Sealed.
func Seal[T any](v T) Sealed[T] {
	plain, err := encode(v)
	return Sealed[T]{c: &cell{shown: &shown{kind: fresh, value: func() ([]byte, error) { return plain, err }}}}
}

// Get returns the plaintext where it was revealed in full to the scope of ctx.
// The error is [ErrSealed], [ErrNotRevealed], [ErrWithheld], [ErrMasked] or
// [ErrUnavailable]. NULL gives the zero T.
func (s Sealed[T]) Get(ctx context.Context) (T, error) {
	var zero T
	if s.c == nil {
		return zero, nil
	}
	sh := s.c.shown
	switch {
	case sh == nil, sh.kind == fresh, sh.kind == older:
		return zero, ErrSealed
	case sh.kind == unloaded:
		return zero, fmt.Errorf("%w: the column was not selected", ErrWithheld)
	case !sh.valid(ctx):
		return zero, ErrNotRevealed
	}
	switch sh.kind {
	case full:
		return sh.value.(func() T)(), nil
	case partly:
		return zero, ErrMasked
	case withheld:
		return zero, ErrWithheld
	}
	return zero, ErrUnavailable
}

// Text returns what the scope of ctx may see: the value, its mask, or the
// placeholder. It never fails. NULL gives "".
func (s Sealed[T]) Text(ctx context.Context) string { return s.Minimized(ctx).Text }

// IsNull reports whether the value is known to be NULL. One that was withheld
// or not selected is not known to be.
func (s Sealed[T]) IsNull() bool { return s.c == nil }

// Minimized implements [minimize.Value].
func (s Sealed[T]) Minimized(ctx context.Context) minimize.Rendering {
	if s.c == nil {
		return minimize.Rendering{State: minimize.Null}
	}
	r := minimize.Rendering{State: minimize.Sealed}
	if s.c.field != nil {
		r.Class = s.c.field().tag.Class
	}
	if sh := s.c.shown; sh != nil && sh.kind != fresh && sh.kind != unloaded && sh.valid(ctx) {
		switch sh.kind {
		case full:
			v := sh.value.(func() T)()
			r.State, r.Text, r.Value = minimize.Shown, text(v), v
			return r
		case partly:
			r.State, r.Text = minimize.Partly, sh.value.(func() string)()
			return r
		case withheld:
			r.State = minimize.Withheld
		case unavailable:
			r.State = minimize.Unavailable
		}
	}
	r.Text = s.String()
	return r
}

// Equal reports whether both hold the same, as far as that can be told without
// opening anything; go-cmp and tests call it.
//
//   - Two values not sealed yet are equal where their values are.
//   - Two cells are equal where the stored bytes are, whatever of them is
//     revealed, masked or withheld, and to whom. Two cells sealed apart differ
//     even where their plaintext is the same, and a cell differs from a value
//     not sealed yet.
//   - NULL equals NULL; a NULL that was withheld, and a column that was not
//     selected, equal only themselves in another copy of the same record.
func (s Sealed[T]) Equal(o Sealed[T]) bool {
	a, b := s.c, o.c
	switch {
	case a == b:
		return true
	case a == nil || b == nil:
		return false
	case a.isFresh() && b.isFresh():
		x, errX := s.plain(a)
		y, errY := o.plain(b)
		return errX == nil && errY == nil && subtle.ConstantTimeCompare(x, y) == 1
	case a.isFresh() || b.isFresh():
		return false
	case a.raw != nil || b.raw != nil:
		return bytes.Equal(a.raw, b.raw)
	}
	if a.row == nil || b.row == nil || a.isUnloaded() != b.isUnloaded() {
		return false
	}
	x, y := a.row(), b.row()
	return a.field() == b.field() && x.tenant == y.tenant && x.record == y.record
}

// Scan implements [database/sql.Scanner]. It clones the driver's bytes, which
// are valid until the next row only.
func (s *Sealed[T]) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		s.c = nil
	case []byte:
		s.c = &cell{raw: append(make([]byte, 0, len(v)), v...)}
	case string:
		s.c = &cell{raw: []byte(v)}
	default:
		return errors.New("storage: scan a sealed column: it holds no bytes: call storage.Migrate")
	}
	return nil
}

// Value implements [driver.Valuer]: the sealed bytes, or an error where the
// value reaches the driver by a way that storage does not handle. It returns a
// value beside the error because GORM turns a nil one into IS NULL.
func (s Sealed[T]) Value() (driver.Value, error) {
	switch {
	case s.c == nil:
		return nil, nil
	case s.c.raw != nil:
		return s.c.raw, nil
	case s.c.shown != nil && s.c.shown.kind == withheld:
		return nil, nil // a NULL that was withheld
	}
	return []byte("[PHI]"), &RefusedError{Op: "write", Why: "a value that is not sealed reached the driver", Mend: "write it through a model with GORM's Create, Save or Updates; search with storage.Match"}
}

// GormDataType implements GORM's schema.GormDataTypeInterface.
func (Sealed[T]) GormDataType() string { return "bytes" }

// GormDBDataType implements GORM's migrator.GormDataTypeInterface.
func (Sealed[T]) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	switch db.Name() {
	case "postgres":
		return "bytea"
	case "mysql":
		return "longblob"
	}
	return "blob"
}

// UnmarshalJSON takes a value from a client. It refuses a placeholder: what a
// client was shown is not what it may write. null is NULL.
func (s *Sealed[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		s.c = nil
		return nil
	}
	var t string
	if json.Unmarshal(b, &t) == nil && strings.HasPrefix(t, "[PHI") {
		return &WriteError{Resource: "input", Fields: []string{"a field"}, Masked: true}
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return errors.New("storage: unmarshal a sealed value: the JSON has another type") // the cause would quote the input
	}
	*s = Seal(v)
	return nil
}

// sealedField is how the plugin reaches a Sealed of any T.
type sealedField interface {
	cell() *cell
	setCell(*cell)
	plain(*cell) ([]byte, error) // the encoding of a fresh value
	open([]byte) (any, error)    // what a cell opened to, framed or not, as a func() T
	textOf(any) string           // a func() T as people read its value
	valueType() reflect.Type     // T

	fromColumn(any) (*cell, error) // a fresh value of what a column in clear holds
	toColumn([]byte) (any, error)  // what a cell opened to, for a column in clear
}

func (s *Sealed[T]) cell() *cell     { return s.c }
func (s *Sealed[T]) setCell(c *cell) { s.c = c }

func (s Sealed[T]) plain(c *cell) ([]byte, error) {
	f, ok := c.shown.value.(func() ([]byte, error))
	if !ok {
		return nil, errors.New("storage: seal: the value has another type than its field")
	}
	return f()
}

func (s *Sealed[T]) open(b []byte) (any, error) {
	b, err := unframe(b)
	if err != nil {
		return nil, err
	}
	v, err := decode[T](b)
	if err != nil {
		return nil, err
	}
	switch reflect.TypeFor[T]().Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Struct, reflect.Interface, reflect.Array:
		own := bytes.Clone(b) // each caller gets a value of its own: cells are immutable
		return func() T { v, _ := decode[T](own); return v }, nil
	}
	return func() T { return v }, nil
}

func (s *Sealed[T]) textOf(value any) string { return text(value.(func() T)()) }
func (s *Sealed[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

// rawBytes are the stored bytes; nil for none.
func (c *cell) rawBytes() []byte {
	if c == nil {
		return nil
	}
	return c.raw
}

func (c *cell) isFresh() bool    { return c != nil && c.shown != nil && c.shown.kind == fresh }
func (c *cell) isUnloaded() bool { return c != nil && c.shown != nil && c.shown.kind == unloaded }
