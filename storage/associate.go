// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// insert is the create callback. GORM's own upserts, by which it saves
// associations, and DoNothing become plain inserts here: an upsert would write
// cells that are bound to one record into the row of another.
func (p *plugin) insert(db *gorm.DB, next func(*gorm.DB)) {
	stmt := db.Statement
	m, err := p.modelOf(db)
	if err != nil || m == nil || db.Error != nil || db.DryRun || stmt.SQL.Len() > 0 || isOwn(stmt) {
		p.write(db, next, access.Create, p.create)
		return
	}
	if reflect.Indirect(reflect.ValueOf(stmt.Dest)).Kind() == reflect.Map || stmt.ReflectValue.Kind() == reflect.Slice && elemOf(stmt.ReflectValue.Type()).Kind() == reflect.Map {
		p.insertMaps(db, m, next)
		return
	}
	c, upsert := stmt.Clauses["ON CONFLICT"]
	if !upsert {
		p.write(db, next, access.Create, p.create)
		return
	}
	on, _ := c.Expression.(clause.OnConflict)
	delete(stmt.Clauses, "ON CONFLICT")
	defer func() { stmt.Clauses["ON CONFLICT"] = c }()
	tx, _ := unwrap(stmt.ConnPool).(*txConn)
	switch {
	case tx == nil:
		p.write(db, next, access.Create, p.create) // which says so
	case savesAssociation(db, on):
		p.associate(db, m, tx, on, next)
	case on.DoNothing && m.anyDuplicate(on):
		p.insertOrNot(db, m, tx, on, next)
	default:
		_ = db.AddError(m.refuse("create", "an upsert, or a save of a slice: it would overwrite rows that nobody has read",
			"Create new records, Save or Updates each record that was read, in db.Transaction; OnConflict{DoNothing: true} leaves what is there alone"))
	}
}

func elemOf(t reflect.Type) reflect.Type {
	t = t.Elem()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// anyDuplicate reports whether a DoNothing is about any duplicate, or about
// that of the primary key.
func (m *model) anyDuplicate(on clause.OnConflict) bool {
	if on.OnConstraint != "" || len(on.Where.Exprs)+len(on.TargetWhere.Exprs) > 0 || len(on.Columns) > 1 {
		return false
	}
	return len(on.Columns) == 0 || on.Columns[0].Name == m.schema.PrioritizedPrimaryField.DBName
}

// savesAssociation reports whether GORM saves the association of another
// statement's values: then the conflict clause is its own.
func savesAssociation(db *gorm.DB, on clause.OnConflict) bool {
	if _, ok := db.Get("gorm:saved_association_map"); !ok {
		return false
	}
	for _, a := range on.DoUpdates {
		if c, ok := a.Value.(clause.Column); !ok || c.Table != "excluded" {
			return false
		}
	}
	return !on.UpdateAll || db.FullSaveAssociations
}

// insertOrNot inserts the rows that meet no duplicate. Of the others nothing is
// left: no row, no token, no key; the trail says that the attempt rolled back.
func (p *plugin) insertOrNot(db *gorm.DB, m *model, tx *txConn, on clause.OnConflict, next func(*gorm.DB)) {
	var n int64
	try := func(values reflect.Value) (duplicate bool) {
		mark, err := tx.setMark(db.Statement.Context)
		if err != nil {
			_ = db.AddError(err)
			return false
		}
		p.writeValues(db, m, tx, values, next)
		failed := db.Error
		err = tx.endMark(mark, failed != nil)
		if failed == nil {
			n += db.RowsAffected
		} else if err == nil && errors.Is(failed, ErrDuplicate) {
			db.Error, duplicate = nil, true
		}
		_ = db.AddError(err)
		return duplicate
	}
	values := m.pointers(db.Statement.ReflectValue)
	if values.Len() != destLen(db.Statement.ReflectValue) || values.Len() == 0 {
		p.write(db, next, access.Create, p.create) // which says what is wrong
		return
	}
	duplicate := true
	if values.Len() > 1 { // there is none, mostly
		duplicate = try(values)
	}
	for i := 0; duplicate && i < values.Len() && db.Error == nil; i++ {
		if one := values.Slice(i, i+1); try(one) {
			p.onlyByID(db, m, tx, on, one)
		}
	}
	db.RowsAffected = n
}

// onlyByID keeps a duplicate an error where the app's DoNothing names the
// primary key, and it is another column's.
func (p *plugin) onlyByID(db *gorm.DB, m *model, tx *txConn, on clause.OnConflict, one reflect.Value) {
	if len(on.Columns) == 0 {
		return
	}
	id := m.recordOf(one.Index(0).Elem()).ID
	var n int64
	err := p.own(db.Statement.Context, tx.Tx).Table(m.table).Where(clause.Eq{Column: m.schema.PrioritizedPrimaryField.DBName, Value: id}).Count(&n).Error
	if err == nil && (id == "" || n == 0) {
		err = ErrDuplicate
	}
	_ = db.AddError(p.clean("create", m.table, err))
}

// pointers returns the model values of a destination as a slice of pointers.
func (m *model) pointers(rv reflect.Value) reflect.Value {
	out := reflect.MakeSlice(reflect.SliceOf(reflect.PointerTo(m.typ)), 0, max(1, destLen(rv)))
	_ = eachRow(rv, m.typ, func(v reflect.Value) error { out = reflect.Append(out, v.Addr()); return nil })
	return out
}

// writeValues inserts other values in place of the statement's.
func (p *plugin) writeValues(db *gorm.DB, m *model, tx *txConn, values reflect.Value, next func(*gorm.DB)) {
	stmt := db.Statement
	dest, rv := stmt.Dest, stmt.ReflectValue
	defer func() { stmt.Dest, stmt.ReflectValue = dest, rv }()
	holder := reflect.New(values.Type())
	holder.Elem().Set(values)
	stmt.Dest, stmt.ReflectValue = holder.Interface(), holder.Elem()
	stmt.SQL.Reset()
	stmt.Vars = nil
	p.writeIn(db, m, tx, next, p.create)
}

// insertMaps creates one record a map. The values of sealed fields are Sealed,
// as in an update by map. The record's ID is put into the map.
func (p *plugin) insertMaps(db *gorm.DB, m *model, next func(*gorm.DB)) {
	stmt := db.Statement
	tx, ok := unwrap(stmt.ConnPool).(*txConn)
	_, upsert := stmt.Clauses["ON CONFLICT"]
	if !ok || upsert {
		_ = db.AddError(m.refuse("create", "an upsert by map", "Create the records, or read them and use Updates"))
		return
	}
	var maps []map[string]any
	switch v := stmt.Dest.(type) {
	case map[string]any:
		maps = append(maps, v)
	case *map[string]any:
		maps = append(maps, *v)
	case []map[string]any:
		maps = v
	case *[]map[string]any:
		maps = *v
	}
	if len(maps) == 0 || slices.ContainsFunc(maps, func(values map[string]any) bool { return values == nil }) {
		_ = db.AddError(m.refuse("create", "the values are not the model: a map of another type, or none", "pass a pointer to the model, a slice of it, or map[string]any"))
		return
	}
	var n int64
	selects := stmt.Selects
	defer func() { stmt.Selects = selects }()
	for _, values := range maps {
		rv := reflect.New(m.typ)
		names, err := p.fill(stmt.Context, m, rv.Elem(), values)
		if err != nil {
			_ = db.AddError(err)
			return
		}
		if len(selects) == 0 {
			stmt.Selects = names
		}
		one := reflect.MakeSlice(reflect.SliceOf(rv.Type()), 0, 1)
		p.writeValues(db, m, tx, reflect.Append(one, rv), next)
		if db.Error != nil {
			return
		}
		n += db.RowsAffected
		values[m.schema.PrioritizedPrimaryField.DBName] = m.recordOf(rv.Elem()).ID
	}
	db.RowsAffected = n
}

// fill sets the fields of a new record from a map. It returns their names.
func (p *plugin) fill(ctx context.Context, m *model, rv reflect.Value, values map[string]any) ([]string, error) {
	var names []string
	for k, v := range values {
		f := m.schema.LookUpField(k)
		if f == nil || f.DBName == "" {
			return nil, m.refuse("create", "the map names a column that the model does not have", "use the model's field or column names")
		}
		names = append(names, f.Name)
		if phi := m.phi(f); phi != nil && phi.sealed {
			holder, err := m.sealedValue("create", phi, v)
			if err != nil {
				return nil, err
			}
			phi.ref(ctx, rv).setCell(holder.cell())
			continue
		}
		if _, expr := v.(clause.Expression); expr {
			return nil, m.refuse("create", "a SQL expression for "+f.Name, "pass a value")
		}
		if err := f.Set(ctx, rv, v); err != nil {
			return nil, m.refuse("create", "the map's value for "+f.Name+" has another type than the field", "pass the field's own type")
		}
	}
	return names, nil
}

// sealedValue is the Sealed in a map for a sealed field; nil is NULL.
func (m *model) sealedValue(op string, f *field, v any) (sealedField, error) {
	holder := reflect.New(f.sealedType())
	switch rv := reflect.ValueOf(v); {
	case v == nil:
	case rv.Type() == holder.Type().Elem():
		holder.Elem().Set(rv)
	case rv.Type() == holder.Type():
		if !rv.IsNil() {
			holder.Elem().Set(rv.Elem())
		}
	default:
		return nil, m.refuse(op, "a bare value for the sealed field "+f.Name, "pass storage.Seal(value), or nil for NULL")
	}
	return holder.Interface().(sealedField), nil
}

// associate saves the values of an association. New records are created; what
// was read is left alone, but for a foreign key that GORM has set anew, and
// with FullSaveAssociations for what was changed in it.
func (p *plugin) associate(db *gorm.DB, m *model, tx *txConn, on clause.OnConflict, next func(*gorm.DB)) {
	stmt := db.Statement
	ctx := stmt.Context
	scope, err := access.From(ctx)
	if err != nil {
		_ = db.AddError(err)
		return
	}
	tenant := scope.Principal().Tenant
	all := m.pointers(stmt.ReflectValue)
	none := func() reflect.Value { return reflect.MakeSlice(all.Type(), 0, all.Len()) }
	fresh, known := none(), none()
	var refs []string // named by ID alone
	for i := range all.Len() {
		rec := m.recordOf(all.Index(i).Elem())
		switch ld := rec.load.of(); {
		case rec.TenantID != "" && rec.TenantID != tenant, ld != nil && ld.tenant != "" && ld.tenant != tenant:
			denied := &access.DeniedError{Action: access.Update, Resource: m.name, Code: access.DenyTenant}
			_, rerr := p.recordAs(ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Update, Code: denied.Code, Objects: []audit.Object{{Type: m.name}}})
			_ = db.AddError(errors.Join(denied, rerr))
			return
		case ld != nil && ld.record == rec.ID && rec.ID != "":
			known = reflect.Append(known, all.Index(i))
		default:
			if rec.ID != "" {
				refs = append(refs, rec.ID)
			}
			fresh = reflect.Append(fresh, all.Index(i))
		}
	}
	if on.DoNothing && len(refs) > 0 {
		there, err := p.identities(p.asking(ctx, tx), tx.Tx, m, access.Read, refs)
		if err != nil {
			_ = db.AddError(err)
			return
		}
		list := fresh
		fresh = none()
		for i := range list.Len() {
			if there[m.recordOf(list.Index(i).Elem()).ID] == nil {
				fresh = reflect.Append(fresh, list.Index(i))
			}
		}
	}
	if err := p.reassociate(db, m, tx, on, known); err != nil {
		_ = db.AddError(err)
		return
	}
	if fresh.Len() > 0 {
		p.writeValues(db, m, tx, fresh, next)
	}
}

// reassociate sees to associated records that were read before.
func (p *plugin) reassociate(db *gorm.DB, m *model, tx *txConn, on clause.OnConflict, known reflect.Value) error {
	stmt := db.Statement
	ctx := stmt.Context
	var ids []any
	var keys []*schema.Field
	for i := range known.Len() {
		rv := known.Index(i).Elem()
		rec := m.recordOf(rv)
		ids = append(ids, rec.ID)
		if m.subject != nil && m.subjectOf(ctx, rv) != rec.load.of().subject && rec.load.of().subject != "" {
			return m.refuse("save", "an associated record is of another patient: its "+m.subject.Name+" would change", "create the record anew for the other; duplicate patients are merged with storage.RunJob")
		}
	}
	again := func() *gorm.DB {
		return db.Session(&gorm.Session{NewDB: true, SkipHooks: true}).Omit(clause.Associations)
	}
	if on.UpdateAll {
		for i := range known.Len() {
			if err := again().Save(known.Index(i).Interface()).Error; err != nil {
				return err
			}
		}
		return nil
	}
	for _, a := range on.DoUpdates {
		if f := m.schema.LookUpField(a.Column.Name); f != nil && f != m.subject {
			keys = append(keys, f)
		}
	}
	if len(keys) == 0 || len(ids) == 0 {
		return nil
	}
	columns := []string{m.schema.PrioritizedPrimaryField.DBName}
	names := make([]string, len(keys))
	for i, f := range keys {
		columns, names[i] = append(columns, f.DBName), f.Name
	}
	stored := reflect.New(reflect.SliceOf(m.typ))
	err := p.own(ctx, tx.Tx).Model(reflect.New(m.typ).Interface()).Unscoped().Select(columns).
		Where(clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: columns[0]}, Values: ids}).Find(stored.Interface()).Error
	if err != nil {
		return p.clean("save", m.table, err)
	}
	byID := map[string]reflect.Value{}
	for i := range stored.Elem().Len() {
		byID[m.recordOf(stored.Elem().Index(i)).ID] = stored.Elem().Index(i)
	}
	for i := range known.Len() {
		rv := known.Index(i).Elem()
		old, ok := byID[m.recordOf(rv).ID]
		for _, f := range keys {
			now, _ := f.ValueOf(ctx, rv)
			if ok {
				if was, _ := f.ValueOf(ctx, old); same(was, now) {
					continue
				}
			}
			if err := again().Select(names).Updates(rv.Addr().Interface()).Error; err != nil {
				return err
			}
			break
		}
	}
	return nil
}

const parentsKey = "part164:parents"

// parents tells the statements by which GORM saves associations of which
// patient the rows of this one are.
func (o *op) parents() {
	m := map[string]string{}
	for _, r := range o.rows {
		if r.record != "" && r.subject != "" {
			m[r.record] = r.subject
		}
	}
	o.db.Statement.Settings.Store(parentsKey, m)
}

// inherit gives a new record the patient of the record that it is associated
// with, and refuses another patient's.
func (o *op) inherit(rv reflect.Value) error {
	if o.m.subject == nil {
		return nil
	}
	var of []string
	if v, ok := o.db.Get(parentsKey); ok {
		if parents, ok := v.(map[string]string); ok {
			for _, f := range o.m.schema.Fields {
				if f.DBName == "" || f.PrimaryKey || f.FieldType.Kind() != reflect.String {
					continue
				}
				id, _ := f.ValueOf(o.ctx, rv)
				if s, ok := parents[fmt.Sprint(id)]; ok {
					of = append(of, s)
				}
			}
		}
	}
	for _, rel := range o.m.schema.Relationships.BelongsTo {
		rm, err := o.modelFor(rel.FieldSchema)
		if err != nil {
			return err
		}
		if rm == nil || rm.own || rm.subject == nil {
			continue
		}
		if _, zero := rel.Field.ValueOf(o.ctx, rv); zero {
			continue
		}
		related := reflect.Indirect(rel.Field.ReflectValueOf(o.ctx, rv))
		if s := rm.subjectOf(o.ctx, related); s != "" {
			of = append(of, s)
		}
	}
	for _, s := range of {
		mine := o.m.subjectOf(o.ctx, rv)
		if mine == "" {
			if err := o.m.subject.Set(o.ctx, rv, s); err != nil {
				return fmt.Errorf("storage: create %s: set %s: %w", o.m.table, o.m.subject.Name, err)
			}
			o.undo = append(o.undo, func() { _ = o.m.subject.Set(o.ctx, rv, "") })
			continue
		}
		if mine != s {
			return o.m.refuse("create", "the record is of another patient than the one that it is associated with", "leave "+o.m.subject.Name+" empty, or set it to the same patient")
		}
	}
	return nil
}

// identities looks up records by ID as far as they are in reach: which patient
// each is about, and its version.
func (p *plugin) identities(ctx context.Context, conn gorm.ConnPool, m *model, action access.Action, ids []string) (map[string]*row, error) {
	f, err := p.filter(p.asking(ctx, conn), action, m)
	if err != nil {
		return nil, err
	}
	inReach, err := p.reach(m, f, clause.CurrentTable, nil)
	if err != nil {
		return nil, err
	}
	columns := m.identity()
	out := map[string]*row{}
	ids = unique(append([]string(nil), ids...))
	for len(ids) > 0 {
		n := min(keyChunk, len(ids))
		list := make([]any, n)
		for i, id := range ids[:n] {
			list[i] = id
		}
		ids = ids[n:]
		found := reflect.New(reflect.SliceOf(m.typ))
		db := p.own(ctx, conn).Model(reflect.New(m.typ).Interface()).Unscoped().Select(columns).
			Where(clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: columns[0]}, Values: list})
		for _, e := range inReach {
			db = db.Where(e)
		}
		if err := db.Find(found.Interface()).Error; err != nil {
			return nil, p.clean("query", m.table, err)
		}
		for i := range found.Elem().Len() {
			r := m.rowOf(ctx, found.Elem().Index(i))
			out[r.record] = r
		}
	}
	return out, nil
}
