// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"reflect"
	"strings"
	"time"

	"github.com/part164/part164/access"
)

// Funcs returns the functions through which an html/template shows PHI to the
// scope in ctx. They never reveal.
//
//	{{phi .Name}}            what the scope may see of a Value; nothing where there is no value
//	{{phi . "NextVisit"}}    the same for a clear PHI field of a row, by its Go name
//	{{state .Name}}          shown, masked, none, withheld or unavailable
//	{{why .Name}}            the reason why it is not shown in full; empty where it is
//
// A time takes a layout as last argument: {{phi . "NextVisit" "2 Jan 2006"}}.
// A withheld value is <span class="phi-withheld" title="...">withheld</span>,
// with the reason, and one that could not be opened the same with
// "unavailable". In a form, ask {{state .Name}} first and offer no input for
// what is not shown; [CheckInput] refuses what comes back anyway.
//
// Functions are bound before a template is parsed, so parse with
// Funcs(context.Background()), never execute that template, and for each
// request take its Clone with Funcs(ctx). They are for html/template only:
// text/template escapes nothing.
func Funcs(ctx context.Context) template.FuncMap {
	return template.FuncMap{
		"phi": func(v any, args ...string) (any, error) {
			r, err := look(ctx, v, args)
			if err != nil {
				return nil, err
			}
			switch r.State {
			case Shown, Partly:
				return r.Text, nil
			case Null:
				return "", nil
			}
			word := stateWord(r.State)
			return template.HTML(`<span class="phi-` + word + `" title="` +
				template.HTMLEscapeString(reason(ctx, r)) + `">` + word + `</span>`), nil
		},
		"state": func(v any, args ...string) (string, error) {
			r, err := look(ctx, v, args)
			return stateWord(r.State), err
		},
		"why": func(v any, args ...string) (string, error) {
			r, err := look(ctx, v, args)
			return reason(ctx, r), err
		},
	}
}

// stateWord is the state's name for people.
func stateWord(s State) string {
	switch s {
	case Shown:
		return "shown"
	case Partly:
		return "masked"
	case Null:
		return "none"
	case Unavailable:
		return unavailable
	}
	return withheld
}

// reason says why a value is not shown in full. It names roles and purpose,
// which are codes, and nothing of the value.
func reason(ctx context.Context, r Rendering) string {
	if r.State == Shown || r.State == Null {
		return ""
	}
	s, err := access.From(ctx)
	if err != nil {
		return "nobody is signed in for a purpose, or the request is over"
	}
	who := strings.Join(s.Roles(), ", ")
	if who == "" {
		who = "somebody without a role"
	}
	switch r.State {
	case Partly:
		return fmt.Sprintf("the policy shows only a part of class %s to %s for %s", r.Class, who, s.Purpose())
	case Withheld:
		return fmt.Sprintf("the policy does not show class %s to %s for %s", r.Class, who, s.Purpose())
	case Unavailable:
		return "the stored value could not be opened; this has been recorded"
	}
	return "not revealed to this request"
}

// look returns what the scope of ctx may see of a Value, or of the field of a
// row that args names.
func look(ctx context.Context, v any, args []string) (Rendering, error) {
	if v == nil {
		return Rendering{State: Null}, nil
	}
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if x, ok := asValue(rv); ok {
		return lookValue(ctx, x, args), nil
	}
	switch {
	case rv.Kind() == reflect.Pointer && holdsValue(rv.Type()):
		return Rendering{State: Null}, nil // a nil pointer to a Value
	case rv.Kind() != reflect.Struct || len(args) == 0:
		return Rendering{}, fmt.Errorf(`minimize: template: %T is no minimize.Value: for a clear field name it after its row, as in {{phi . "NextVisit"}}`, v)
	}
	return lookField(ctx, rv, args[0], args[1:])
}

func lookValue(ctx context.Context, x Value, args []string) Rendering {
	if _, err := access.From(ctx); err != nil {
		return Rendering{State: Sealed}
	}
	r := x.Minimized(ctx)
	if at, ok := r.Value.(time.Time); ok && r.State == Shown && len(args) > 0 {
		r.Text = at.Format(args[0])
	}
	return r
}

// lookField looks at the field name of the struct row.
func lookField(ctx context.Context, row reflect.Value, name string, args []string) (Rendering, error) {
	sf, ok := row.Type().FieldByName(name)
	if !ok || !sf.IsExported() {
		return Rendering{}, fmt.Errorf("minimize: template: type %s has no field %s", row.Type(), name)
	}
	tag, tagged, err := FieldTag(sf)
	if err == nil && !tagged {
		err = errors.New(`no phi tag: add its class, or phi:"-" for what is not about a person`)
	}
	if err != nil {
		return Rendering{}, fmt.Errorf("minimize: template: field %s of %s: %w", name, row.Type(), err)
	}
	v, err := row.FieldByIndexErr(sf.Index)
	if err != nil {
		return Rendering{State: Null, Class: tag.Class}, nil // in an embedded nil pointer
	}
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			break
		}
		v = v.Elem()
	}
	if x, ok := asValue(v); ok {
		return lookValue(ctx, x, args), nil
	}
	view := Reveal
	if i := tag.Class.index(); i >= 0 {
		vs, _, _ := viewsOf(ctx)
		view = vs.of[i]
	}
	r := Rendering{Class: tag.Class}
	if view == Withhold {
		r.State = Withheld
		return r, nil
	}
	if k := v.Kind(); (k == reflect.Pointer || k == reflect.Interface) && v.IsNil() {
		r.State = Null
		return r, nil
	}
	text, ok := textOf(v)
	if !ok {
		return Rendering{}, fmt.Errorf("minimize: template: field %s of %s has no text form: range over it in the template", name, row.Type())
	}
	if view == Reveal {
		r.State, r.Text = Shown, text
		if at, ok := v.Interface().(time.Time); ok && len(args) > 0 && text != "" {
			r.Text = at.Format(args[0])
		}
		return r, nil
	}
	b, ok := appendView(nil, view, tag.Class, text, 0)
	if !ok {
		r.State = Withheld
		return r, nil
	}
	r.State, r.Text = Partly, string(b)
	return r, nil
}
