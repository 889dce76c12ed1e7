// SPDX-License-Identifier: Apache-2.0

package minimizetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
)

// A Value is a fake [minimize.Value] that lives in memory. Like a sealed column
// it prints as its placeholder on every path, and shows itself only to the
// scope that it was revealed to. The zero Value is null. It is immutable and
// safe for concurrent use.
type Value struct {
	_    [0]func() // incomparable
	cell *cell
}

type cell struct {
	class  minimize.Class
	open   func() any // nil cannot be opened
	scope  *access.Scope
	view   minimize.View
	broken bool
}

// Seal returns a value that nobody has revealed.
func Seal(c minimize.Class, v any) Value {
	return Value{cell: &cell{class: c, open: func() any { return v }}}
}

// Broken returns a value that does not open when it is revealed.
func Broken(c minimize.Class) Value { return Value{cell: &cell{class: c, broken: true}} }

// Reveal returns the value as the policy pinned to the scope in ctx shows it
// to that scope; unchanged where there is no scope or policy.
func (v Value) Reveal(ctx context.Context) Value {
	p, ok := minimize.PolicyOf(ctx)
	s, err := access.From(ctx)
	if !ok || err != nil || v.cell == nil {
		return v
	}
	return v.RevealAs(ctx, p.View(s.Roles(), s.Purpose(), v.cell.class))
}

// RevealAs returns the value as the view shows it to the scope in ctx,
// whatever the policy says; unchanged where there is no scope.
func (v Value) RevealAs(ctx context.Context, view minimize.View) Value {
	s, err := access.From(ctx)
	if err != nil || v.cell == nil {
		return v
	}
	c := *v.cell
	c.scope, c.view = s, view
	return Value{cell: &c}
}

// Minimized implements [minimize.Value].
func (v Value) Minimized(ctx context.Context) minimize.Rendering {
	c := v.cell
	if c == nil {
		return minimize.Rendering{State: minimize.Null}
	}
	r := minimize.Rendering{Class: c.class, Text: v.String()}
	s, err := access.From(ctx)
	switch {
	case err != nil || c.scope != s:
		return r
	case c.view == minimize.Withhold:
		r.State = minimize.Withheld
	case c.broken:
		r.State = minimize.Unavailable
	case c.view == minimize.Reveal:
		r.State, r.Value = minimize.Shown, c.open()
		r.Text = fmt.Sprint(r.Value)
	default:
		r.State, r.Text = minimize.Partly, minimize.Apply(c.view, c.class, fmt.Sprint(c.open()))
		if r.Text == v.String() {
			r.State = minimize.Withheld // the class has no such form
		}
	}
	return r
}

// String returns the placeholder.
func (v Value) String() string {
	if v.cell == nil {
		return minimize.Placeholder("")
	}
	return minimize.Placeholder(v.cell.class)
}

// GoString returns the placeholder.
func (v Value) GoString() string { return v.String() }

// Format prints the placeholder for every verb.
func (v Value) Format(f fmt.State, _ rune) { io.WriteString(f, v.String()) }

// MarshalText gives the placeholder.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalJSON gives the placeholder.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.String()) }

// GobEncode gives the placeholder.
func (v Value) GobEncode() ([]byte, error) { return []byte(v.String()), nil }

// LogValue gives the placeholder.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// Policy returns a policy in which role has the view and the right on classes
// for purpose, and nothing else.
func Policy(t testing.TB, role string, purpose access.Purpose, view minimize.View, right minimize.Right, classes ...minimize.Class) *minimize.Policy {
	t.Helper()
	p, err := minimize.New([]minimize.Rule{{
		Role: role, Purposes: []access.Purpose{purpose}, Classes: classes, View: view, Right: right,
	}})
	if err != nil {
		t.Fatalf("minimizetest: %v", err)
	}
	return p
}

// As returns a context in which a human with role acts for purpose, in a new
// scope with the policy pinned. A nil policy pins none.
func As(ctx context.Context, role string, purpose access.Purpose, p *minimize.Policy) context.Context {
	ctx = access.With(ctx, access.Principal{ID: "user-1", Tenant: "tenant-1", Kind: access.Human, Roles: []string{role}}, purpose)
	if s, err := access.From(ctx); err == nil {
		minimize.Pin(s, p)
	}
	return ctx
}
