// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// A checkPath is one thing that is tried on a model.
type checkPath struct {
	name string
	run  func(*checked)
}

func checkPaths() []checkPath {
	return []checkPath{
		{"Create", (*checked).checkCreate},
		{"Reveal", (*checked).checkReveal},
		{"print", (*checked).checkPrint},
		{"Save", (*checked).checkSave},
		{"Updates by a struct", (*checked).checkUpdatesStruct},
		{"Updates by a map", (*checked).checkUpdatesMap},
		{"UpdateColumn", (*checked).checkUpdateColumn},
		{"bare values", (*checked).checkBare},
		{"Save of what was withheld", (*checked).checkWithheld},
		{"a mask sent back", (*checked).checkMask},
		{"upsert", (*checked).checkUpsert},
		{"raw SQL", (*checked).checkRaw},
		{"Outside and Bind", (*checked).checkBind},
		{"another client", (*checked).checkClient},
		{"a cell of another record", (*checked).checkMoved},
		{"conditions", (*checked).checkConditions},
		{"search", (*checked).checkSearch},
		{"another tenant", (*checked).checkTenant},
		{"NULL", (*checked).checkNull},
		{"rollback", (*checked).checkRollback},
		{"Delete", (*checked).checkDelete},
		{"the stored bytes", (*checked).checkStored},
		{"the statements' log", (*checked).checkLog},
		{"the trail", (*checked).checkTrail},
	}
}

// cells holds that each sealed column of a row is a cell, or NULL where
// nothing went in.
func (c *checked) cells(id string, want map[string]any) {
	c.Helper()
	row := c.raw(id)
	if row == nil {
		c.fault("", "the record is not stored", report)
	}
	for _, f := range c.sealed {
		raw, filled := row[f.DBName]
		if _, ok := want[f.Name]; ok && !filled {
			c.fault(f.Name, "the column is NULL and should hold a cell", "look for a hook, a default or a trigger that empties it")
		}
		if !filled {
			continue
		}
		if _, err := crypto.ParseHeader(raw); err != nil {
			c.fault(f.Name, fmt.Sprintf("the column holds %d bytes that are no cell", len(raw)), "look for a hook or a trigger that writes the column past storage")
		}
	}
}

// unharmed holds that a row is as it was, byte for byte.
func (c *checked) unharmed(id string, before map[string][]byte) {
	c.Helper()
	after := c.raw(id)
	if after == nil {
		c.fault("", "the record is gone", report)
		return
	}
	for _, name := range c.schema.DBNames {
		if f := c.schema.FieldsByDBName[name]; !bytes.Equal(before[name], after[name]) {
			c.fault(f.Name, "it was written all the same", report)
		}
	}
}

// refused holds that a statement failed, and that the error tells nothing.
func (c *checked) refused(field, what string, err error) {
	c.Helper()
	if err == nil {
		c.fault(field, what+" was not refused", report)
		return
	}
	if leak := c.leaks([]byte(err.Error())); leak != "" {
		c.fault(field, what+": the error holds "+leak, "do not put values into the errors of hooks")
	}
}

func (c *checked) checkCreate() {
	m := c.create()
	id := c.id(m.v)
	c.cells(id, m.want)
	c.holds(id, m.want)
	batch := reflect.New(reflect.SliceOf(c.typ))
	a, b := c.newRecord(), c.newRecord()
	batch.Elem().Set(reflect.Append(batch.Elem(), a.v.Elem(), b.v.Elem()))
	if err := c.as(c.ctx).Create(batch.Interface()).Error; err != nil {
		c.fault("", fmt.Sprintf("Create of a slice: %v", err), "set in the model given to CheckModel what the database insists on")
		return
	}
	for i, m := range []*made{a, b} {
		id := c.id(batch.Elem().Index(i).Addr())
		c.cells(id, m.want)
		c.holds(id, m.want)
	}
}

func (c *checked) checkReveal() {
	m := c.create()
	v, err := c.read(c.ctx, c.id(m.v))
	if err != nil {
		c.fault("", fmt.Sprintf("the record cannot be read: %v", err), report)
		return
	}
	for _, f := range c.sealed {
		if _, ok := m.want[f.Name]; !ok {
			continue
		}
		if _, err := get(c.ctx, f.ReflectValueOf(c.ctx, v.Elem())); !errors.Is(err, storage.ErrSealed) {
			c.fault(f.Name, fmt.Sprintf("before Reveal Get gives %v, want ErrSealed", err), "look for a hook such as AfterFind that reveals: whoever needs the value reveals it")
		}
	}
	if err := storage.Reveal(c.other, v.Interface()); err == nil {
		c.fault("", "another tenant reveals it", report)
	}
	if err := storage.Reveal(c.ctx, v.Interface()); err != nil {
		c.fault("", fmt.Sprintf("Reveal: %v", err), report)
	}
	for _, f := range c.sealed {
		if _, ok := m.want[f.Name]; !ok {
			continue
		}
		sealed := f.ReflectValueOf(c.ctx, v.Elem())
		if _, err := get(c.ctx, sealed); err != nil {
			c.fault(f.Name, fmt.Sprintf("after Reveal Get fails: %v", err), report)
		}
		if _, err := get(c.hidden, sealed); !errors.Is(err, storage.ErrNotRevealed) {
			c.fault(f.Name, "what one scope revealed, another reads", report)
		}
	}
	h, err := c.read(c.hidden, c.id(m.v))
	if err == nil {
		err = storage.Reveal(c.hidden, h.Interface())
	}
	if err != nil {
		c.fault("", fmt.Sprintf("Reveal to a role that sees nothing: %v", err), report)
		return
	}
	page, err := minimize.JSON(c.hidden, h.Interface())
	if err != nil {
		c.fault("", fmt.Sprintf("minimize.JSON fails: %v", err), "what the error says")
	}
	if leak := c.leaks(page); leak != "" {
		c.fault("", "minimize.JSON shows to a role that sees nothing "+leak, "look at the model's MarshalJSON: it goes around the policy")
	}
	for _, f := range c.clear {
		if leak := c.clearLeak(page); leak != "" {
			c.fault(f.Name, "minimize.JSON shows it to a role that sees nothing: "+leak, "look at the model's MarshalJSON: it goes around the policy")
			break
		}
	}
}

// checkPrint prints the model as programs do by accident, sealed and revealed.
func (c *checked) checkPrint() {
	m := c.create()
	revealed, err := c.read(c.ctx, c.id(m.v))
	if err == nil {
		err = storage.Reveal(c.ctx, revealed.Interface())
	}
	if err != nil {
		c.fault("", err.Error(), report)
		return
	}
	fresh := c.newRecord() // not written yet
	for state, v := range map[string]reflect.Value{"filled in": fresh.v, "written": m.v, "revealed": revealed} {
		list := reflect.MakeSlice(reflect.SliceOf(c.typ), 0, 1)
		list = reflect.Append(list, v.Elem())
		for form, x := range map[string]any{
			"the model": v.Elem().Interface(), "a pointer": v.Interface(), "a slice": list.Interface(),
			"a map": map[string]any{"k": v.Interface()}, "a struct": struct{ M any }{v.Interface()}, "a struct's own field": struct{ m any }{v.Elem().Interface()},
		} {
			for by, out := range printed(x) {
				if leak := c.leaks([]byte(out)); leak != "" {
					c.fault("", fmt.Sprintf("%s, as %s, printed by %s, shows %s", state, form, by, leak),
						"look at the model's String, GoString, Format, MarshalJSON, MarshalText and LogValue, and at fields that keep a copy of what was sealed")
					return
				}
			}
		}
	}
}

// printed is what the ways of printing make of a value. One that fails prints
// nothing.
func printed(x any) map[string]string {
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out["fmt "+verb] = fmt.Sprintf(verb, x)
	}
	out["fmt.Errorf"] = fmt.Errorf("failed: %v", x).Error()
	var b bytes.Buffer
	log.New(&b, "", 0).Print(x)
	out["log"] = b.String()
	b.Reset()
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "x", x)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "x", x)
	out["log/slog"] = b.String()
	b.Reset()
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"}), zapcore.AddSync(&b), zapcore.DebugLevel)
	zap.New(core).Info("m", zap.Any("x", x), zap.Reflect("y", x))
	zap.New(core).Sugar().Infof("%v %+v", x, x)
	out["zap"] = b.String()
	j, _ := json.Marshal(x)
	out["encoding/json"] = string(j)
	m, _ := xml.Marshal(x)
	out["encoding/xml"] = string(m)
	b.Reset()
	_ = gob.NewEncoder(&b).Encode(x)
	out["encoding/gob"] = b.String()
	b.Reset()
	_ = template.Must(template.New("").Parse(`{{.}} <a title="{{.}}">`)).Execute(&b, x)
	out["html/template"] = b.String()
	return out
}

// updatable are the sealed fields that an update may write.
func (c *checked) updatable() []*checkedField {
	return slices.DeleteFunc(slices.Clone(c.sealed), func(f *checkedField) bool { return !f.Updatable || !f.Readable || !f.Creatable })
}

// setAll puts new values into every field that an update may write, and
// returns them.
func (c *checked) setAll(v reflect.Value) map[string]any {
	want := map[string]any{}
	for _, f := range c.updatable() {
		value, err := c.fillSealed(f.ReflectValueOf(c.ctx, v.Elem()), f)
		if err == nil {
			want[f.Name] = value
		}
	}
	for _, f := range c.clear {
		if fv := f.ReflectValueOf(c.ctx, v.Elem()); f.Updatable && f.Readable && f.Creatable {
			c.fillClear(fv, f)
			want[f.Name] = fv.Interface()
		}
	}
	return want
}

// wrote holds that a write wrote cells, which reveal what went in, and left
// alone what it was not to write.
func (c *checked) wrote(id string, err error, before map[string][]byte, want, kept map[string]any) {
	c.Helper()
	if err != nil {
		c.fault("", fmt.Sprintf("it fails: %v", err), report)
		return
	}
	all := maps.Clone(kept)
	maps.Copy(all, want)
	c.cells(id, all)
	c.holds(id, all)
	after := c.raw(id)
	for _, f := range c.sealed {
		_, set := want[f.Name]
		if changed := !bytes.Equal(before[f.DBName], after[f.DBName]); changed && !set {
			c.fault(f.Name, "it was written and was not to be", report)
		}
	}
}

func (c *checked) checkSave() {
	m := c.create()
	id := c.id(m.v)
	v, err := c.read(c.ctx, id)
	if err != nil {
		c.fault("", err.Error(), report)
		return
	}
	before := c.raw(id)
	err = c.as(c.ctx).Save(v.Interface()).Error
	c.wrote(id, err, before, nil, m.want) // nothing was changed
	want := c.setAll(v)
	err = c.as(c.ctx).Save(v.Interface()).Error
	c.wrote(id, err, before, want, m.want)
	stale := reflect.New(c.typ)
	stale.Elem().Set(m.v.Elem()) // as it was before
	c.setAll(stale)
	before = c.raw(id)
	if err := c.as(c.ctx).Save(stale.Interface()).Error; !errors.Is(err, storage.ErrConflict) {
		c.fault("", fmt.Sprintf("Save of an older version gives %v, want ErrConflict", err), report)
	}
	c.unharmed(id, before)
}

func (c *checked) checkUpdatesStruct() {
	m := c.create()
	id := c.id(m.v)
	v, before := reflect.New(c.typ), c.raw(id)
	want := c.setAll(v)
	c.wrote(id, c.as(c.ctx).Model(m.record()).Updates(v.Elem().Interface()).Error, before, want, m.want)
}

func (c *checked) checkUpdatesMap() {
	for _, byColumn := range []bool{false, true} {
		m := c.create()
		id := c.id(m.v)
		v, before := reflect.New(c.typ), c.raw(id)
		want, set := c.setAll(v), map[string]any{}
		for _, f := range slices.Concat(c.sealed, c.clear) {
			if _, ok := want[f.Name]; ok {
				name := f.Name
				if byColumn {
					name = f.DBName
				}
				set[name] = f.ReflectValueOf(c.ctx, v.Elem()).Interface()
			}
		}
		if len(set) == 0 {
			return
		}
		model := reflect.New(c.typ).Interface()
		err := c.as(c.ctx).Model(model).Where(c.column(c.schema.PrioritizedPrimaryField)+" = ?", id).Updates(set).Error
		c.wrote(id, err, before, want, m.want)
	}
}

func (c *checked) checkUpdateColumn() {
	m := c.create()
	id := c.id(m.v)
	kept := maps.Clone(m.want)
	for _, f := range c.updatable() {
		v, before := reflect.New(c.typ), c.raw(id)
		value, err := c.fillSealed(f.ReflectValueOf(c.ctx, v.Elem()), f)
		if err != nil {
			continue
		}
		err = c.as(c.ctx).Model(m.record()).UpdateColumn(f.DBName, f.ReflectValueOf(c.ctx, v.Elem()).Interface()).Error
		c.wrote(id, err, before, map[string]any{f.Name: value}, kept)
		kept[f.Name] = value
	}
}

func (c *checked) checkBare() {
	m := c.create()
	id := c.id(m.v)
	before := c.raw(id)
	for _, f := range c.updatable() {
		text := c.fill.text(f.tag.Class, true)
		c.fill.mark(text, true)
		model := func() *gorm.DB { return c.as(c.ctx).Model(m.record()) }
		c.refused(f.Name, "Updates with a bare text in a map", model().Updates(map[string]any{f.Name: text}).Error)
		c.refused(f.Name, "Update with bare bytes", model().Update(f.DBName, []byte(text)).Error)
		c.refused(f.Name, "UpdateColumn with a bare text", model().UpdateColumn(f.DBName, text).Error)
		c.refused(f.Name, "Update with an expression", model().Update(f.DBName, gorm.Expr("?", text)).Error)
		c.refused(f.Name, "Create from a map", c.as(c.ctx).Model(reflect.New(c.typ).Interface()).Create(map[string]any{f.DBName: text}).Error)
	}
	c.unharmed(id, before)
}

// checkWithheld edits the record as somebody who was shown nothing of it.
func (c *checked) checkWithheld() {
	m := c.create()
	id := c.id(m.v)
	v, err := c.read(c.hidden, id)
	if err == nil {
		err = storage.Reveal(c.hidden, v.Interface())
	}
	if err != nil {
		c.fault("", err.Error(), report)
		return
	}
	for _, f := range c.sealed {
		if _, ok := m.want[f.Name]; !ok {
			continue
		}
		if _, err := get(c.hidden, f.ReflectValueOf(c.hidden, v.Elem())); !errors.Is(err, storage.ErrWithheld) {
			c.fault(f.Name, fmt.Sprintf("withheld, Get gives %v, want ErrWithheld", err), report)
		}
	}
	before := c.raw(id)
	if err := c.as(c.hidden).Save(v.Interface()).Error; err != nil {
		c.fault("", fmt.Sprintf("Save of what was read fails: %v", err), report)
	}
	after := c.raw(id)
	for _, f := range slices.Concat(c.sealed, c.clear) {
		if !bytes.Equal(before[f.DBName], after[f.DBName]) {
			c.fault(f.Name, "saved back by somebody who was not shown it, it is lost or changed", report)
		}
	}
	for _, f := range c.sealed { // one column that was not selected
		u := reflect.New(c.typ)
		if err := c.as(c.ctx).Omit(f.Name).Take(u.Interface(), c.column(c.schema.PrioritizedPrimaryField)+" = ?", id).Error; err != nil {
			c.fault(f.Name, fmt.Sprintf("read without it: %v", err), report)
			continue
		}
		if err := c.as(c.ctx).Save(u.Interface()).Error; err != nil {
			c.fault(f.Name, fmt.Sprintf("saved without it: %v", err), report)
		}
		if now := c.raw(id); !bytes.Equal(before[f.DBName], now[f.DBName]) {
			c.fault(f.Name, "saved back without having been selected, it is lost or changed", report)
		}
	}
}

// checkMask sends back the masks that a client was shown.
func (c *checked) checkMask() {
	m := c.create()
	id := c.id(m.v)
	v, err := c.read(c.masked, id)
	if err == nil {
		err = storage.Reveal(c.masked, v.Interface())
	}
	if err != nil {
		c.fault("", err.Error(), report)
		return
	}
	before := c.raw(id)
	for _, f := range c.updatable() {
		sealed := f.ReflectValueOf(c.masked, v.Elem())
		if _, err := get(c.masked, sealed); !errors.Is(err, storage.ErrMasked) {
			continue // no mask for the class
		}
		mask := sealed.Addr().Interface().(minimize.Value).Minimized(c.masked).Text
		if leak := c.leaks([]byte(mask)); leak != "" {
			c.fault(f.Name, "its mask shows "+leak, "let the type's text be what its class expects, or take another class")
		}
		b, err := json.Marshal(mask)
		holder := reflect.New(f.FieldType)
		if err != nil || holder.Interface().(json.Unmarshaler).UnmarshalJSON(b) != nil {
			continue // a text is no value of the type
		}
		err = c.as(c.masked).Model(m.record()).Update(f.DBName, holder.Elem().Interface()).Error
		c.refused(f.Name, "the mask that a client was shown, sent back as the value,", err)
	}
	c.unharmed(id, before)
}

func (c *checked) checkUpsert() {
	m := c.create()
	id := c.id(m.v)
	before := c.raw(id)
	again := c.newRecord()
	if err := c.schema.PrioritizedPrimaryField.Set(c.ctx, again.v.Elem(), id); err != nil {
		c.Fatalf("CheckModel: %v", err)
	}
	_ = c.as(c.ctx).Clauses(clause.OnConflict{UpdateAll: true}).Create(again.record()).Error
	c.unharmed(id, before)
	list := reflect.New(reflect.SliceOf(c.typ))
	list.Elem().Set(reflect.Append(list.Elem(), again.v.Elem()))
	_ = c.as(c.ctx).Save(list.Interface()).Error
	c.unharmed(id, before)
}

// checkRaw runs SQL by hand through the database of storage.
func (c *checked) checkRaw() {
	m := c.create()
	id := c.id(m.v)
	before := c.raw(id)
	table, db := quote(c.db, c.schema.Table), c.as(c.ctx)
	var maps []map[string]any
	c.refused("", "Raw and Scan", db.Raw("SELECT * FROM "+table).Scan(&maps).Error)
	c.refused("", "Table and Find into maps", db.Table(c.schema.Table).Find(&maps).Error)
	if rows, err := db.Raw("SELECT * FROM " + table).Rows(); err == nil {
		_ = errors.Join(rows.Err(), rows.Close())
		c.refused("", "Raw and Rows", nil)
	}
	c.refused("", "Exec of a DELETE", db.Exec("DELETE FROM "+table).Error)
	for _, f := range c.sealed {
		text := c.fill.text(f.tag.Class, true)
		c.fill.mark(text, true)
		c.refused(f.Name, "Exec with a text", db.Exec("UPDATE "+table+" SET "+c.column(f.Field)+" = ?", text).Error)
		c.refused(f.Name, "Exec with the value itself", db.Exec("UPDATE "+table+" SET "+c.column(f.Field)+" = ?", f.ReflectValueOf(c.ctx, c.newRecord().v.Elem()).Interface()).Error)
		c.refused(f.Name, "Pluck into texts", db.Model(reflect.New(c.typ).Interface()).Pluck(f.DBName, &[]string{}).Error)
	}
	c.unharmed(id, before)
}

// checkBind reads by SQL that storage did not build, as maintenance does.
func (c *checked) checkBind() {
	m := c.create()
	id := c.id(m.v)
	query := "SELECT * FROM " + quote(c.db, c.schema.Table) + " WHERE " + c.column(c.schema.PrioritizedPrimaryField) + " = ?"
	read := func() reflect.Value {
		v := reflect.New(c.typ)
		if err := c.as(storage.Outside(c.ctx, audit.ReasonRepair)).Raw(query, id).Scan(v.Interface()).Error; err != nil {
			c.fault("", fmt.Sprintf("Raw and Scan in a context of Outside: %v", err), report)
		}
		return v
	}
	v := read()
	_ = storage.Reveal(c.ctx, v.Interface())
	for _, f := range c.sealed {
		if _, ok := m.want[f.Name]; !ok {
			continue
		}
		if _, err := get(c.ctx, f.ReflectValueOf(c.ctx, v.Elem())); err == nil {
			c.fault(f.Name, "read past storage and not bound, it is revealed", report)
		}
	}
	if err := storage.Bind(c.other, c.db, read().Interface()); err == nil {
		c.fault("", "another tenant binds it", report)
	}
	v = read()
	if err := errors.Join(storage.Bind(c.ctx, c.db, v.Interface()), storage.Reveal(c.ctx, v.Interface())); err != nil {
		c.fault("", fmt.Sprintf("Bind and Reveal: %v", err), report)
		return
	}
	for _, f := range c.sealed {
		want, ok := m.want[f.Name]
		if !ok {
			continue
		}
		if got, err := get(c.ctx, f.ReflectValueOf(c.ctx, v.Elem())); err != nil || want != any(unknown{}) && !same(want, got) {
			c.fault(f.Name, fmt.Sprintf("bound and revealed, it is not what was sealed (%v)", err), report)
		}
	}
}

// checkClient writes plaintext as another program would.
func (c *checked) checkClient() {
	m := c.create()
	id := c.id(m.v)
	before := c.raw(id)
	for _, f := range c.sealed {
		text := c.fill.text(f.tag.Class, true)
		c.fill.mark(text, true)
		for _, value := range []string{"'" + text + "'", "''"} {
			_, err := c.plain.ExecContext(c.Context(), fmt.Sprintf("UPDATE %s SET %s = %s", quote(c.db, c.schema.Table), c.column(f.Field), value))
			if err == nil {
				c.fault(f.Name, "another client writes plaintext into it", "let storage.Migrate put its constraint on the column, and do not drop it")
				_, _ = c.plain.ExecContext(c.Context(), fmt.Sprintf("UPDATE %s SET %s = NULL", quote(c.db, c.schema.Table), c.column(f.Field)))
				return
			}
		}
	}
	c.unharmed(id, before)
}

// checkMoved puts the cell of one record into another.
func (c *checked) checkMoved() {
	a, b := c.create(), c.create()
	from, to := c.id(a.v), c.id(b.v)
	for _, f := range c.sealed {
		if _, ok := a.want[f.Name]; !ok {
			continue
		}
		marks := []any{"?", "?"}
		if c.db.Name() == "postgres" {
			marks = []any{"$1", "$2"}
		}
		table, column, id := quote(c.db, c.schema.Table), c.column(f.Field), c.column(c.schema.PrioritizedPrimaryField)
		if _, err := c.plain.ExecContext(c.Context(), fmt.Sprintf("UPDATE "+table+" SET "+column+" = %s WHERE "+id+" = %s", marks...), c.raw(from)[f.DBName], to); err != nil {
			c.Fatalf("CheckModel: second connection: %v", err)
		}
	}
	v, err := c.read(c.ctx, to)
	if err != nil {
		c.fault("", err.Error(), report)
		return
	}
	_ = storage.Reveal(c.ctx, v.Interface())
	for _, f := range c.sealed {
		if _, ok := a.want[f.Name]; !ok {
			continue
		}
		if _, err := get(c.ctx, f.ReflectValueOf(c.ctx, v.Elem())); !errors.Is(err, storage.ErrUnavailable) {
			c.fault(f.Name, fmt.Sprintf("the cell of another record opens: Get gives %v", err), report)
		}
	}
	_ = c.as(c.ctx).Delete(v.Interface())
}

func (c *checked) checkConditions() {
	m := c.create()
	find := func() (*gorm.DB, any) {
		list := reflect.New(reflect.SliceOf(c.typ)).Interface()
		return c.as(c.ctx), list
	}
	for _, f := range c.sealed {
		value := f.ReflectValueOf(c.ctx, m.v.Elem()).Interface()
		column := c.column(f.Field)
		for what, where := range map[string]func(*gorm.DB) *gorm.DB{
			"Where with a text":  func(db *gorm.DB) *gorm.DB { return db.Where(column+" = ?", "x") },
			"Where with a value": func(db *gorm.DB) *gorm.DB { return db.Where(column+" = ?", value) },
			"Where with a map":   func(db *gorm.DB) *gorm.DB { return db.Where(map[string]any{f.DBName: value}) },
			"IS NULL":            func(db *gorm.DB) *gorm.DB { return db.Where(column + " IS NULL") },
			"Order":              func(db *gorm.DB) *gorm.DB { return db.Order(column) },
			"Group":              func(db *gorm.DB) *gorm.DB { return db.Group(column) },
		} {
			db, list := find()
			c.refused(f.Name, what, where(db).Find(list).Error)
		}
		holder := reflect.New(c.typ)
		f.ReflectValueOf(c.ctx, holder.Elem()).Set(f.ReflectValueOf(c.ctx, m.v.Elem()))
		db, list := find()
		c.refused(f.Name, "Where with the model", db.Where(holder.Interface()).Find(list).Error)
	}
	for _, f := range c.clear {
		list := reflect.New(reflect.SliceOf(c.typ)).Interface()
		if err := c.as(c.hidden).Where(c.column(f.Field) + " IS NOT NULL").Find(list).Error; !errors.Is(err, storage.ErrFilterOnHidden) {
			c.fault(f.Name, fmt.Sprintf("a condition by somebody who may not see it gives %v, want ErrFilterOnHidden", err), report)
		}
	}
}

// checkSearch finds the record by each field that can be searched, and only it.
func (c *checked) checkSearch() {
	m := c.create()
	id := c.id(m.v)
	for _, f := range c.sealed {
		query, ok := m.want[f.Name].(string)
		if len(f.tag.Search) == 0 || !ok {
			continue
		}
		found := func(ctx context.Context, q string) (ids []string, err error) {
			list := reflect.New(reflect.SliceOf(c.typ))
			err = c.as(ctx).Where(storage.Match(f.Name, q)).Find(list.Interface()).Error
			for i := range list.Elem().Len() {
				ids = append(ids, c.id(list.Elem().Index(i).Addr()))
			}
			return ids, err
		}
		if ids, err := found(c.ctx, query); err != nil || !slices.Contains(ids, id) {
			c.fault(f.Name, fmt.Sprintf("a search for its value finds %d records and not this one (%v)", len(ids), err), report)
		}
		other := c.fill.text(f.tag.Class, true)
		if ids, err := found(c.ctx, other); err != nil || slices.Contains(ids, id) {
			c.fault(f.Name, fmt.Sprintf("a search for another value finds it (%v)", err), report)
		}
		if ids, err := found(c.other, query); err != nil || len(ids) > 0 {
			c.fault(f.Name, fmt.Sprintf("another tenant finds %d records (%v)", len(ids), err), report)
		}
		if _, err := found(c.hidden, query); !errors.Is(err, storage.ErrFilterOnHidden) {
			c.fault(f.Name, fmt.Sprintf("a search by somebody who may not see it gives %v, want ErrFilterOnHidden", err), report)
		}
		if f.tag.Unique {
			twin := c.newRecord()
			f.ReflectValueOf(c.ctx, twin.v.Elem()).Set(c.sealedText(f, query))
			if err := c.as(c.ctx).Create(twin.record()).Error; !errors.Is(err, storage.ErrDuplicate) {
				c.fault(f.Name, fmt.Sprintf("a second record with its value gives %v, want ErrDuplicate", err), report)
			}
		}
	}
}

// sealedText is a Sealed of a field's type with a text.
func (c *checked) sealedText(f *checkedField, text string) reflect.Value {
	v := reflect.New(f.FieldType)
	b, err := json.Marshal(text)
	if err == nil {
		err = v.Interface().(json.Unmarshaler).UnmarshalJSON(b)
	}
	if err != nil {
		c.Fatalf("CheckModel: %v", err)
	}
	return v.Elem()
}

func (c *checked) checkTenant() {
	m := c.create()
	id := c.id(m.v)
	before := c.raw(id)
	if _, err := c.read(c.other, id); !errors.Is(err, gorm.ErrRecordNotFound) {
		c.fault("", fmt.Sprintf("another tenant reads it (%v)", err), report)
	}
	for what, write := range map[string]func(v reflect.Value) *gorm.DB{
		"Save":   func(v reflect.Value) *gorm.DB { return c.as(c.other).Save(v.Interface()) },
		"Delete": func(v reflect.Value) *gorm.DB { return c.as(c.other).Delete(v.Interface()) },
		"Create": func(v reflect.Value) *gorm.DB { return c.as(c.other).Create(v.Interface()) },
		"Updates": func(v reflect.Value) *gorm.DB {
			return c.as(c.other).Model(reflect.New(c.typ).Interface()).Where("1 = 1 OR "+c.column(c.schema.PrioritizedPrimaryField)+" = ?", id).Updates(v.Elem().Interface())
		},
	} {
		v := reflect.New(c.typ)
		v.Elem().Set(m.v.Elem())
		c.setAll(v)
		if tx := write(v); tx.Error == nil && tx.RowsAffected > 0 {
			c.fault("", what+" by another tenant does something", report)
		}
		c.unharmed(id, before)
	}
}

func (c *checked) checkNull() {
	v := reflect.New(c.typ)
	v.Elem().Set(reflect.ValueOf(c.model).Elem())
	c.refer(v, 0)
	for _, f := range c.clear {
		c.fillClear(f.ReflectValueOf(c.ctx, v.Elem()), f) // it may be NOT NULL
	}
	for _, f := range c.sealed {
		s := f.ReflectValueOf(c.ctx, v.Elem())
		s.Set(reflect.Zero(s.Type()))
	}
	if err := c.as(c.ctx).Create(v.Interface()).Error; err != nil {
		for _, f := range c.sealed {
			if f.NotNull {
				return // the app's own rule
			}
		}
		c.fault("", fmt.Sprintf("without values it cannot be created: %v", err), "look for a hook or a constraint that wants one, or tag the field `gorm:\"not null\"`")
		return
	}
	row := c.raw(c.id(v))
	for _, f := range c.sealed {
		if _, ok := row[f.DBName]; ok {
			c.fault(f.Name, "a value that is not there is stored as something else than NULL", "look for a hook or a default that fills it")
		}
	}
	u, err := c.read(c.ctx, c.id(v))
	if err == nil {
		err = storage.Reveal(c.ctx, u.Interface())
	}
	if err != nil {
		c.fault("", err.Error(), report)
		return
	}
	for _, f := range c.sealed {
		if null := f.ReflectValueOf(c.ctx, u.Elem()).Addr().MethodByName("IsNull").Call(nil)[0].Bool(); !null {
			c.fault(f.Name, "NULL does not come back as NULL", report)
		}
	}
	m := c.create()
	for _, f := range c.updatable() {
		if f.NotNull {
			continue
		}
		if err := c.as(c.ctx).Model(m.record()).Update(f.Name, nil).Error; err != nil {
			c.fault(f.Name, fmt.Sprintf("Update with nil: %v", err), report)
		}
		if _, ok := c.raw(c.id(m.v))[f.DBName]; ok {
			c.fault(f.Name, "Update with nil does not make it NULL", report)
		}
	}
}

func (c *checked) checkRollback() {
	undo := errors.New("undo")
	m := c.newRecord()
	err := c.as(c.ctx).Transaction(func(tx *gorm.DB) error {
		return errors.Join(tx.Create(m.record()).Error, undo)
	})
	if !errors.Is(err, undo) {
		c.fault("", fmt.Sprintf("a transaction that is undone gives %v", err), report)
	}
	if id := c.id(m.v); id != "" && c.raw(id) != nil {
		c.fault("", "Create in a transaction that was undone is stored", "look for a hook that writes outside the transaction: use the *gorm.DB that it is given")
	}
	again := c.create() // a retry needs the values
	c.holds(c.id(again.v), again.want)
}

func (c *checked) checkDelete() {
	m := c.create()
	id := c.id(m.v)
	if err := c.as(c.ctx).Delete(m.record()).Error; err != nil {
		c.fault("", fmt.Sprintf("Delete: %v", err), report)
	}
	if _, err := c.read(c.ctx, id); !errors.Is(err, gorm.ErrRecordNotFound) {
		c.fault("", "it is deleted and can still be read", report)
	}
	if err := c.as(c.ctx).Unscoped().Delete(m.record()).Error; err != nil && !errors.Is(err, storage.ErrConflict) {
		c.fault("", fmt.Sprintf("Delete for good: %v", err), report)
	}
	mark := "?"
	if c.db.Name() == "postgres" {
		mark = "$1"
	}
	var tokens int
	if err := c.plain.QueryRowContext(c.Context(), "SELECT count(*) FROM phi_index WHERE record_id = "+mark, id).Scan(&tokens); err != nil {
		c.Fatalf("CheckModel: second connection: %v", err)
	}
	if row := c.raw(id); row == nil && tokens > 0 {
		c.fault("", fmt.Sprintf("it is deleted for good and %d search tokens are left", tokens), report)
	}
}

// checkStored looks for all that was ever sealed in all that is stored.
func (c *checked) checkStored() {
	if leak := c.leaks(c.stored()); leak != "" {
		c.fault("", "the database holds "+leak, "look for a hook, a column without a tag or another table that keeps a copy")
	}
}

func (c *checked) checkLog() {
	c.create()
	text := c.log.String()
	if !strings.Contains(text, c.schema.Table) {
		c.fault("", "nothing of it is in the log of statements", report)
	}
	for _, leak := range []string{c.leaks([]byte(text)), c.clearLeak([]byte(text))} {
		if leak != "" {
			c.fault("", "GORM's log holds "+leak, "do not put values into the text of conditions or into the errors of hooks: pass them as parameters")
		}
	}
}

// checkTrail holds that reads, writes and reveals are recorded, without values.
func (c *checked) checkTrail() {
	c.trail.Reset()
	m := c.create()
	id := c.id(m.v)
	c.holds(id, m.want)
	var names []string
	for _, f := range c.sealed {
		if _, ok := m.want[f.Name]; ok {
			names = append(names, f.Name)
		}
	}
	written, revealed := false, len(names) == 0
	for _, ev := range c.trail.Events() {
		text := fmt.Appendf(nil, "%+v", ev)
		for _, leak := range []string{c.leaks(text), c.clearLeak(text)} {
			if leak != "" {
				c.fault("", fmt.Sprintf("an event of type %s holds %s", ev.Type, leak), report)
			}
		}
		for _, o := range ev.Objects {
			if o.Record != id {
				continue
			}
			has := func(f string) bool { return slices.Contains(o.Fields, f) }
			all := !slices.ContainsFunc(names, func(f string) bool { return !has(f) })
			written = written || ev.Type == audit.WriteAttempt && all
			revealed = revealed || ev.Type == audit.Revealed && all
		}
	}
	if !written {
		c.fault("", "Create is not in the trail with all of its fields", report)
	}
	if !revealed {
		c.fault("", "Reveal is not in the trail with all of its fields", report)
	}
}
