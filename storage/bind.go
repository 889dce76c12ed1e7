// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Bind tells sealed values which record they are of, where they were read by a
// statement that storage did not build: in a context of [Outside], by Scan or
// ScanRows. rows is a pointer to a model, to another struct with the same
// columns, to a slice of either, or a map or slice of maps. For what is not the
// model, name it: Bind(ctx, db.Model(&Patient{}), &rows).
//
// Each row is looked up by its ID: where it is in reach of the scope of ctx its
// cells are bound, and what it holds of PHI in clear is recorded. If one is out
// of reach, or has no ID, none is bound; the error is access.ErrDenied then, or
// ErrUnbound. Bind does not open anything: Reveal does. What has been read by
// Find, First and the like is bound already.
func Bind(ctx context.Context, db *gorm.DB, rows any) error {
	p, err := pluginOf(db)
	if err != nil {
		return err
	}
	if _, err := access.From(ctx); err != nil {
		return err
	}
	rv := reflect.ValueOf(rows)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if !rv.IsValid() || rv.Kind() == reflect.Pointer || !rv.CanAddr() && (rv.Kind() == reflect.Struct || rv.Kind() == reflect.Array) {
		return &RefusedError{Op: "bind", Why: "the rows are nil, or a copy", Mend: "pass a pointer to what the statement has read"}
	}
	of := db.Statement.Model
	if of == nil {
		of = rows
		t := elemType(rows)
		if t == nil || t.Kind() != reflect.Struct || !hasRecord(t) {
			return &RefusedError{Op: "bind", Why: "it is not known which model the rows are of", Mend: "name it: storage.Bind(ctx, db.Model(&Patient{}), &rows)"}
		}
	}
	if t := elemType(of); t == nil || t.Kind() != reflect.Struct {
		return &RefusedError{Op: "bind", Why: fmt.Sprintf("a %T is no model", of), Mend: "name it: storage.Bind(ctx, db.Model(&Patient{}), &rows)"}
	}
	parsed := &gorm.Statement{DB: db}
	if err := parsed.Parse(of); err != nil {
		return fmt.Errorf("storage: bind: %w", err)
	}
	m, err := p.modelFor(parsed.Schema)
	if err != nil {
		return err
	}
	if m == nil {
		return &RefusedError{Op: "bind", Table: parsed.Table, Why: "the model has no PHI", Mend: "its rows need no binding"}
	}
	b := &binder{plugin: p, ctx: p.asking(ctx, db.Statement.ConnPool), m: m}
	if err := b.collect(db, rv, rows); err != nil {
		return err
	}
	return b.bind(inner(db.Statement.ConnPool))
}

// elemType is the type behind pointers, slices and arrays; nil for nil.
func elemType(v any) reflect.Type {
	t := reflect.TypeOf(v)
	for t != nil && slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Array}, t.Kind()) {
		t = t.Elem()
	}
	return t
}

// A binder is one call of Bind.
type binder struct {
	*plugin
	ctx   context.Context
	m     *model
	ids   []string
	names []string                     // of the PHI in clear
	set   []func(rows map[string]*row) // binds one value
}

func (b *binder) collect(db *gorm.DB, rv reflect.Value, rows any) error {
	m := b.m
	to := &target{sealed: map[string]*field{}, fields: map[string]*schema.Field{}, id: m.schema.PrioritizedPrimaryField.DBName}
	for _, f := range m.sealed {
		to.sealed[f.DBName] = f
	}
	id := func(v any) error {
		if s, ok := v.([]byte); ok {
			v = string(s)
		}
		s, _ := v.(string)
		if s == "" {
			return fmt.Errorf("storage: bind %s: a row has no ID: %w", m.table, ErrUnbound)
		}
		b.ids = append(b.ids, s)
		return nil
	}
	t := rv.Type()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Map:
		to.kind = reflect.Map
		list, ok := rv.Interface().([]map[string]any)
		if one, is := rv.Interface().(map[string]any); is {
			list, ok = []map[string]any{one}, true
		}
		if !ok {
			break
		}
		for _, values := range list {
			if err := id(values[to.id]); err != nil {
				return err
			}
			for _, f := range m.clear {
				if _, ok := values[f.DBName]; ok {
					b.names = append(b.names, f.Name)
				}
			}
		}
		b.set = append(b.set, func(found map[string]*row) {
			_ = to.bindMaps(list, func(id string) *row { return found[id] })
		})
		return nil
	case t == m.typ:
		for _, f := range m.clear {
			b.names = append(b.names, f.Name)
		}
		return eachRow(rv, t, func(v reflect.Value) error {
			if err := id(m.recordOf(v).ID); err != nil {
				return err
			}
			b.set = append(b.set, func(found map[string]*row) { m.bindAgain(b.ctx, v, found[m.recordOf(v).ID]) })
			return nil
		})
	case t.Kind() == reflect.Struct:
		parsed := &gorm.Statement{DB: db}
		if err := parsed.Parse(rows); err != nil {
			return fmt.Errorf("storage: bind: %w", err)
		}
		to.kind, to.schema = reflect.Struct, parsed.Schema
		for _, f := range m.sealed {
			if dto := to.field(f.DBName); dto != nil && isSealedType(dto.FieldType) {
				if (&field{Field: dto}).sealedType() != f.sealedType() {
					return m.refuse("bind", "the field "+dto.Name+" is not the Sealed that the model has", fmt.Sprintf("make it a %s", f.sealedType()))
				}
				to.fields[f.DBName] = dto
			}
		}
		for _, f := range m.clear {
			if to.field(f.DBName) != nil {
				b.names = append(b.names, f.Name)
			}
		}
		key := to.field(to.id)
		if key == nil {
			return fmt.Errorf("storage: bind %s: the struct has no ID: %w", m.table, ErrUnbound)
		}
		return eachRow(rv, t, func(v reflect.Value) error {
			s, _ := key.ValueOf(b.ctx, v)
			if err := id(fmt.Sprint(s)); err != nil {
				return err
			}
			b.set = append(b.set, func(found map[string]*row) { to.bindStruct(b.ctx, v, found) })
			return nil
		})
	}
	return m.refuse("bind", "the rows are neither structs nor maps", "pass a pointer to them")
}

// bindAgain binds a model that storage did not read. Which of its columns were
// selected is not known: Save writes those that hold something.
func (m *model) bindAgain(ctx context.Context, rv reflect.Value, r *row) {
	for _, f := range m.sealed {
		s := f.ref(ctx, rv)
		if c := s.cell(); c != nil && c.row == nil && c.raw != nil {
			s.setCell(&cell{raw: c.raw, row: r.ref(), field: f.self})
		}
	}
	m.recordOf(rv).load = &load{columns: map[string]bool{}, row: r.ref()}
}

// refuseRow records that a row is out of reach, and says no more.
func (b *binder) refuseRow(id string) error {
	_, err := b.recordAs(b.ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Read, Code: access.DenySubject,
		Objects: []audit.Object{{Type: b.m.name, Record: id}}})
	return errors.Join(&access.DeniedError{Action: access.Read, Resource: b.m.name, Code: access.DenySubject}, err)
}

func (b *binder) bind(conn gorm.ConnPool) error {
	if len(b.ids) == 0 {
		return nil
	}
	found, err := b.identities(b.ctx, conn, b.m, access.Read, b.ids)
	if err != nil {
		return err
	}
	r := &reading{plugin: b.plugin, ctx: b.ctx, main: b.m, q: &search{}}
	var rec recording
	names := unique(b.names)
	for _, id := range unique(append([]string(nil), b.ids...)) {
		row := found[id]
		if row == nil {
			return b.refuseRow(id)
		}
		if len(names) > 0 {
			rec.add(row, names, true)
		}
	}
	if err := r.record(&rec, -1); err != nil {
		return err
	}
	for _, set := range b.set {
		set(found)
	}
	return nil
}
