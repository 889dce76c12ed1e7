// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// An assignment is one column that the app wants to set.
type assignment struct {
	*schema.Field
	phi    *field      // nil: no PHI
	sealed sealedField // for a sealed field
	value  any         // for every other
}

// update prepares an UPDATE: Save, Updates, Update and UpdateColumn. It writes
// the columns that differ from what is stored, and nothing that was not read.
func (p *plugin) update(o *op) (bool, error) {
	o.action = access.Update
	stmt := o.db.Statement
	named := o.named(stmt.ReflectValue)
	save := sameModel(stmt) && slices.Contains(stmt.Selects, "*")
	if save && len(named) == 1 && named[0].load == nil {
		return false, o.m.refuse("save", "the record was not read through storage, so that what it lacks would be lost", "read it first, or set single columns with Updates")
	}
	if save && len(named) == 1 && named[0].Version == 0 {
		return false, o.m.refuse("save", "the record was read without its version, so that another's change would be overwritten unseen", "select "+o.m.schema.LookUpField("Version").DBName+" too, or set single columns with Updates")
	}
	set, err := o.assignments()
	if err != nil {
		return false, err
	}
	if len(set) == 0 {
		o.action = access.Read // only its associations are saved
	}
	stored, err := o.lock(idsOf(named))
	if err != nil {
		return false, err
	}
	o.parents()
	if err := o.sameVersions(named); err != nil {
		return false, err
	}
	if len(o.rows) == 0 {
		if save {
			return false, ErrConflict // never an INSERT
		}
		return false, nil
	}
	if err := o.allow(); err != nil {
		return false, err
	}
	columns, err := o.compare(set, stored)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(columns, func(c clause.Assignment) bool { return o.m.softDeletes(c.Column.Name) }) {
		if err := o.allowTo(access.Delete); err != nil { // to take away, or to bring back
			return false, err
		}
	}
	if len(columns) == 0 && len(o.each) == 0 {
		o.db.RowsAffected = int64(len(o.rows)) // all is as it was: nothing to write, and no INSERT by GORM's Save
		return false, nil
	}
	o.finish(columns, set)
	return true, nil
}

// sameModel reports whether the values to write are the record itself, as for
// Save. Values that are no pointers may not be comparable.
func sameModel(stmt *gorm.Statement) bool {
	return reflect.ValueOf(stmt.Dest).Kind() == reflect.Pointer && stmt.Dest == stmt.Model
}

// assignments reads what the app wants to set from a map or a struct.
func (o *op) assignments() ([]assignment, error) {
	stmt := o.db.Statement
	selected, restricted := stmt.SelectAndOmitColumns(false, true)
	wanted := func(f *schema.Field) (explicit, ok bool) {
		v, named := selected[f.DBName]
		return named && v, named && v || !named && !restricted
	}
	dest := reflect.ValueOf(stmt.Dest)
	for dest.Kind() == reflect.Pointer && !dest.IsNil() {
		dest = dest.Elem()
	}
	var out []assignment
	add := func(f *schema.Field, value any) error {
		switch {
		case f.PrimaryKey, f.Name == "TenantID", f == o.m.subject:
			return o.m.refuse("update", "it sets "+f.Name+", which the cells are bound to", "create the record anew under the other; duplicate patients are merged with storage.RunJob")
		case hasPrefix(f.StructField.Index, o.m.record), o.m.isMergedInto(f):
			return nil // Version, the times and MergedInto are storage's
		}
		out = append(out, assignment{Field: f, phi: o.m.phi(f), value: value})
		return nil
	}
	switch {
	case dest.Kind() == reflect.Map && dest.Type().Key().Kind() == reflect.String:
		for _, k := range dest.MapKeys() {
			f := o.m.schema.LookUpField(k.String())
			if f == nil || f.DBName == "" {
				return nil, o.m.refuse("update", "the map names a column that the model does not have", "use the model's field or column names")
			}
			if _, ok := wanted(f); !ok {
				continue
			}
			v := dest.MapIndex(k).Interface()
			phi := o.m.phi(f)
			if phi != nil && phi.sealed {
				given, err := o.m.sealedValue("update", phi, v)
				if err != nil {
					return nil, err
				}
				out = append(out, assignment{Field: f, phi: phi, sealed: given})
				continue
			}
			if e, expr := v.(clause.Expression); expr && (phi != nil || o.m.names(e)) {
				return nil, o.m.refuse("update", "a SQL expression that sets or reads PHI", "pass a value")
			}
			if err := add(f, v); err != nil {
				return nil, err
			}
		}
	case dest.Kind() == reflect.Struct && dest.Type() == o.m.typ:
		if !dest.CanAddr() {
			c := reflect.New(o.m.typ).Elem()
			c.Set(dest)
			dest = c
		}
		ld, self := o.m.recordOf(dest).load, sameModel(stmt)
		for _, f := range o.m.schema.Fields {
			if f.DBName == "" || !f.Updatable || self && (f.PrimaryKey || f.Name == "TenantID") {
				continue
			}
			explicit, ok := wanted(f)
			value, zero := f.ValueOf(o.ctx, dest)
			phi := o.m.phi(f)
			var given sealedField
			if phi != nil && phi.sealed {
				given = phi.ref(o.ctx, dest)
				zero = given.cell() == nil
			}
			unread := self && zero && ld != nil && !ld.has(f.DBName)
			if !ok || unread || zero && !explicit {
				continue
			}
			if f == o.m.subject && self {
				out = append(out, assignment{Field: f, value: value}) // compared: a changed one is refused
				continue
			}
			if given != nil {
				out = append(out, assignment{Field: f, phi: phi, sealed: given})
				continue
			}
			if err := add(f, value); err != nil {
				return nil, err
			}
		}
	default:
		return nil, o.m.refuse("update", "the values are neither a map nor the model", "pass map[string]any, or the model")
	}
	slices.SortFunc(out, func(a, b assignment) int { return bytes.Compare([]byte(a.DBName), []byte(b.DBName)) })
	return out, nil
}

// softDeletes reports whether setting a column deletes the row, or restores it.
func (m *model) softDeletes(column string) bool {
	f := m.schema.LookUpField(column)
	if f == nil {
		return false
	}
	_, ok := reflect.New(f.IndirectFieldType).Interface().(schema.DeleteClausesInterface)
	return ok
}

// names reports whether an expression of the app may read a PHI column.
func (m *model) names(e clause.Expression) bool {
	x, ok := e.(clause.Expr)
	if !ok {
		return true
	}
	found := false
	words(x.SQL, func(w string, _ int) { found = found || m.columns[w] != nil })
	for _, v := range x.Vars {
		switch v.(type) {
		case clause.Expression, clause.Column, clause.Table, *gorm.DB:
			found = true
		}
	}
	return found
}

// phi returns the PHI field of a schema field, nil for others.
func (m *model) phi(f *schema.Field) *field {
	for _, fd := range m.columns {
		if fd.Field == f {
			return fd
		}
	}
	return nil
}

// compare holds the assignments against each stored row: what is equal is left
// alone, what differs needs the right to write it. It returns the columns to
// set.
func (o *op) compare(set []assignment, stored reflect.Value) (clause.Set, error) {
	v := &rights{}
	values := map[string]any{}
	var names []string
	assign := func(a assignment, value any) {
		if _, ok := values[a.DBName]; !ok {
			names = append(names, a.DBName)
		}
		values[a.DBName] = value
	}
	keys, err := o.sealingKeys(set)
	if err != nil {
		return nil, err
	}
	for i, r := range o.rows {
		rv := stored.Index(i)
		for _, a := range set {
			if a.sealed == nil {
				old, _ := a.ValueOf(o.ctx, rv)
				if same(old, a.value) {
					continue
				}
				if a.Field == o.m.subject {
					return nil, o.m.refuse("update", "it changes the subject "+a.Name, "create the record anew for the other; duplicate patients are merged with storage.RunJob")
				}
				if a.phi != nil {
					o.right(v, r, a.phi, needed(clearText(old) == "" && reflect.ValueOf(old).IsZero()))
					v.input(a.phi, minimize.CheckChange(a.phi.tag.Class, clearText(old), clearText(a.value)))
					o.changes[r] = append(o.changes[r], change{a.phi, a.Name, nil})
				} else {
					o.changes[r] = append(o.changes[r], change{nil, a.Name, o.m.mark(o.ctx, a.Field, a.value)})
				}
				assign(a, a.value)
				continue
			}
			now, old := a.sealed.cell(), a.phi.ref(o.ctx, rv).cell()
			switch {
			case now == nil: // NULL
				if old == nil {
					if has, err := o.hasOlder(r, a.phi); err != nil {
						return nil, err
					} else if !has {
						continue
					}
				}
				o.right(v, r, a.phi, minimize.Change)
				o.changes[r] = append(o.changes[r], change{a.phi, a.Name, nil})
				o.drop[r] = append(o.drop[r], a.phi.logical)
				assign(a, nil)
			case now.isUnloaded():
				continue
			case !now.isFresh():
				var was []byte
				if old != nil {
					was = old.raw
				}
				if bytes.Equal(now.raw, was) {
					continue
				}
				if now.row == nil || now.row().record != r.record || now.field() != a.phi {
					return nil, o.m.refuse("update", "field "+a.Name+" holds a sealed value of another record or field", "reveal it and storage.Seal its value")
				}
				if now.row().version != 0 && now.row().version == r.version {
					continue // a job has sealed the same value anew since
				}
				return nil, ErrConflict // an older cell of this record
			default:
				c, plain, err := o.seal(keys[r.subject], r, a.phi, a.sealed)
				if err != nil {
					return nil, err
				}
				has := false
				if old == nil {
					if has, err = o.hasOlder(r, a.phi); err != nil {
						return nil, err
					}
				}
				o.right(v, r, a.phi, needed(old == nil && !has))
				v.input(a.phi, o.checkChange(a.phi, r, a.sealed, old, inputText(plain)))
				if err := o.index(r, a.phi, plain); err != nil {
					return nil, err
				}
				o.drop[r] = append(o.drop[r], a.phi.logical)
				o.changes[r] = append(o.changes[r], change{a.phi, a.Name, c.raw})
				if len(o.rows) > 1 {
					o.each[r] = append(o.each[r], sealing{a.phi, c})
					continue
				}
				o.replace(a.sealed, c)
				assign(a, c.raw)
			}
		}
	}
	if err := o.rightsErr(v); err != nil {
		return nil, err
	}
	olds, err := o.clearOlds(values)
	if err != nil {
		return nil, err
	}
	var out clause.Set
	for _, n := range olds {
		out = append(out, clause.Assignment{Column: clause.Column{Name: n}})
	}
	for _, n := range names {
		out = append(out, clause.Assignment{Column: clause.Column{Name: n}, Value: values[n]})
	}
	return out, nil
}

func needed(empty bool) minimize.Right {
	if empty {
		return minimize.Set
	}
	return minimize.Change
}

// sealingKeys reads the keys of the rows under lock, where something is sealed.
func (o *op) sealingKeys(set []assignment) (map[string]*crypto.Key, error) {
	if !slices.ContainsFunc(set, func(a assignment) bool { return a.sealed != nil && a.sealed.cell().isFresh() }) {
		return nil, nil
	}
	var subjects []string
	for _, r := range o.rows {
		subjects = append(subjects, r.subject)
	}
	keys, err := o.tx.keys.SealingKeys(o.ctx, o.scope.Principal().Tenant, unique(subjects))
	if err != nil {
		return nil, fmt.Errorf("storage: update %s: %w", o.m.table, err)
	}
	return keys, nil
}

// checkChange refuses what the caller was shown of the stored value instead of
// the value. A stored cell is opened for it only where the caller sees a part
// of it.
func (o *op) checkChange(f *field, r *row, s sealedField, old *cell, input string) error {
	class := f.tag.Class
	view := o.policy.View(withRole(o.scope, o.roles[r]), o.scope.Purpose(), class)
	if old == nil || view == minimize.Withhold || view == minimize.Reveal {
		return minimize.CheckInput(class, input)
	}
	h, err := crypto.ParseHeader(old.raw)
	if err != nil {
		return minimize.CheckInput(class, input)
	}
	found, err := o.tx.keys.Lookup(o.ctx, r.tenant, []crypto.KeyRef{{Subject: r.subject, Version: h.KeyVersion}})
	if err != nil {
		return err
	}
	if len(found) != 1 || found[0].Err != nil {
		return minimize.CheckInput(class, input) // it cannot have been shown either
	}
	plain, err := r.openCell(nil, found[0].Key, f, old.raw)
	if err != nil {
		return minimize.CheckInput(class, input)
	}
	stored, err := textOf(s, plain)
	if err != nil {
		return minimize.CheckInput(class, input)
	}
	return minimize.CheckChange(class, stored, input)
}

// same compares a stored value with a new one.
func same(a, b any) bool {
	ta, okA := a.(time.Time)
	tb, okB := b.(time.Time)
	if okA && okB {
		return ta.Equal(tb)
	}
	if _, ok := b.(clause.Expression); ok {
		return false
	}
	return reflect.DeepEqual(a, b)
}

// finish counts the versions up, narrows the statement to the locked rows, and
// says what the app's structs will hold.
func (o *op) finish(columns clause.Set, set []assignment) {
	stmt := o.db.Statement
	version := o.m.schema.LookUpField("Version")
	updated := o.m.schema.LookUpField("UpdatedAt")
	now := o.now()
	var next any = clause.Expr{SQL: "? + 1", Vars: []any{clause.Column{Name: version.DBName}}}
	if len(o.rows) == 1 {
		next = o.rows[0].version + 1
	}
	byID := map[string]*row{}
	for _, r := range o.rows {
		r.version++
		byID[r.record] = r
	}
	columns = append(columns,
		clause.Assignment{Column: clause.Column{Name: version.DBName}, Value: next},
		clause.Assignment{Column: clause.Column{Name: updated.DBName}, Value: now})
	stmt.AddClause(columns)
	o.narrow()
	_ = eachRow(stmt.ReflectValue, o.m.typ, func(rv reflect.Value) error {
		rec := o.m.recordOf(rv)
		r, ok := byID[rec.ID]
		if !ok {
			return nil
		}
		o.keep(rec)
		o.done = append(o.done, func() {
			rec.Version, rec.UpdatedAt = r.version, now
			if sameModel(stmt) {
				return
			}
			for _, s := range o.each[r] {
				o.replace(s.field.ref(o.ctx, rv), s.cell)
			}
			for _, a := range set {
				if a.sealed != nil {
					if c := a.sealed.cell(); !c.isFresh() {
						o.replace(a.phi.ref(o.ctx, rv), c)
					}
				} else if _, expr := a.value.(clause.Expression); !expr {
					_ = a.Set(o.ctx, rv, a.value)
				}
			}
		})
		return nil
	})
	o.done = append(o.done, func() { delete(stmt.Clauses, "SET") })
}

var _ gorm.Plugin = (*plugin)(nil)
