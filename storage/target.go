// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/minimize"
)

// A pick is one item of a select list: a column, or a function of one.
type pick struct {
	field *schema.Field // nil: count(*)
	call  string        // such as "max"; empty for the column itself
	as    string        // what the result calls it
}

// pickText is what an app may select by text: a column, or one of the five
// functions of one, with or without another name.
var pickText = regexp.MustCompile(`(?i)^(?:(count|min|max|sum|avg)\s*\(\s*(?:distinct\s*)?\(?\s*)?["` + "`" + `]?(?:([a-z_]\w*)["` + "`" + `]?\.["` + "`" + `]?)?([a-z_]\w*|\*)["` + "`" + `]?\s*\)?\s*\)?(?:\s+as\s+["` + "`" + `]?([a-z_]\w*)["` + "`" + `]?)?$`)

var (
	scannerType = reflect.TypeFor[sql.Scanner]()
	timeType    = reflect.TypeFor[time.Time]()
)

// A target is where rows go that are not read into the model: another struct, a
// map, values, or to an app that scans them itself.
type target struct {
	kind   reflect.Kind             // Struct, Map; Invalid for values
	schema *schema.Schema           // of a struct
	sealed map[string]*field        // by column of the result
	fields map[string]*schema.Field // of the struct, for the sealed columns
	id     string                   // what the result calls the ID; empty: it is not there
	clear  []*field                 // PHI in clear that is selected
}

// targets looks at what a statement selects, and where it goes.
func (r *reading) targets(stmt *gorm.Statement, rows bool) error {
	m := r.main
	t := stmt.ReflectValue.Type()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !rows && !fillable(stmt) {
		return r.refuse("the rows are read into nothing, or into what cannot hold them", "Find into a pointer to the model, to another struct or to a slice of either, or into a map[string]any")
	}
	n, counts := stmt.Dest.(*int64)
	counts = counts && n != nil && !rows
	if m == nil {
		if rows || t != stmt.Schema.ModelType && !counts {
			return r.refuse("rows with a joined model's PHI are not read into the model", "Find into the model with its associations")
		}
		_, by := stmt.Clauses["SELECT"]
		if len(r.joins) > 0 && !counts && (by || len(stmt.Selects) > 0) {
			return r.refuse("a select list beside a joined model's PHI", "select columns of the association: Joins(\"Person\", db.Select(\"name\"))")
		}
		return nil
	}
	if err := r.pick(stmt); err != nil {
		return err
	}
	if counts && len(r.picks) == 1 && r.picks[0].call == "count" {
		return r.countable(r.picks[0])
	}
	if t == m.typ && !rows {
		return r.ofModel(stmt)
	}
	switch {
	case len(stmt.Joins) > 0:
		return r.refuse("a join whose rows are not read into the model", "Find into the model with its associations")
	case stmt.TableExpr != nil && !m.named(stmt):
		return r.refuse("the statement names another table than its model", "use the model's own table")
	}
	return r.ofOther(stmt, t, rows)
}

// fillable reports whether GORM can put rows into the destination of a
// statement: for the others it panics.
func fillable(stmt *gorm.Statement) bool {
	switch v := stmt.Dest.(type) {
	case map[string]any:
		return v != nil
	case *map[string]any, *[]map[string]any:
		return true
	}
	v := stmt.ReflectValue
	if !v.CanAddr() {
		return false
	}
	t := v.Type()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Interface, reflect.Map, reflect.Func, reflect.Chan:
		return false
	}
	return true
}

// pick reads what the app selects by itself, and refuses expressions: they
// could carry PHI into a field that is shown to everybody.
func (r *reading) pick(stmt *gorm.Statement) error {
	var texts []string
	switch e := stmt.Clauses["SELECT"].Expression.(type) {
	case nil:
	case clause.Select: // as Pluck makes it
		for _, c := range e.Columns {
			if c.Table != "" && c.Table != clause.CurrentTable && c.Table != r.main.table || c.Alias != "" {
				return r.expression()
			}
			texts = append(texts, c.Name)
		}
	case clause.Expr: // as Count makes it
		column := "*"
		if len(e.Vars) == 1 {
			c, ok := e.Vars[0].(clause.Column)
			if !ok || c.Table != "" {
				return r.expression()
			}
			column = c.Name
		}
		switch strings.ToLower(e.SQL) {
		case "count(*)", "count(?)", "count(distinct(?))":
			texts = []string{"count(" + column + ")"}
		default:
			return r.expression()
		}
		return r.parse(texts)
	default:
		return r.expression()
	}
	if len(texts) == 0 {
		for _, s := range stmt.Selects {
			for part := range strings.SplitSeq(s, ",") {
				texts = append(texts, strings.TrimSpace(part))
			}
		}
		stmt.Selects = texts
	}
	if len(texts) == 1 && (texts[0] == "*" || texts[0] == r.main.table+".*") {
		stmt.Selects = nil
		return nil
	}
	if err := r.parse(texts); err != nil {
		return err
	}
	for i, p := range r.picks { // as GORM knows them
		if len(stmt.Selects) == len(r.picks) && p.field != nil && p.call == "" && p.as == p.field.DBName {
			stmt.Selects[i] = p.field.DBName
		}
	}
	return nil
}

func (r *reading) expression() error {
	return r.refuse("an expression in the select list", "select columns by name, or count, min, max, sum and avg of them")
}

func (r *reading) parse(texts []string) error {
	for _, text := range texts {
		if f := r.main.schema.LookUpField(text); f != nil && f.DBName != "" {
			r.picks = append(r.picks, pick{f, "", f.DBName})
			continue
		}
		parts := pickText.FindStringSubmatch(text)
		if parts == nil || strings.Count(text, "(") != strings.Count(text, ")") {
			return r.expression()
		}
		p := pick{call: strings.ToLower(parts[1]), as: parts[4]}
		if parts[2] != "" && !strings.EqualFold(parts[2], r.main.table) { // of a joined table
			return r.expression()
		}
		if parts[3] != "*" {
			if p.field = r.main.schema.LookUpField(parts[3]); p.field == nil || p.field.DBName == "" {
				return r.expression()
			}
		} else if p.call != "count" {
			return r.expression()
		}
		if p.as == "" && p.field != nil && p.call == "" {
			p.as = p.field.DBName
		}
		r.picks = append(r.picks, p)
	}
	return nil
}

// loaded is which columns of the model a statement reads, nil for all, and the
// PHI in clear among them.
func (r *reading) loaded(stmt *gorm.Statement) (map[string]bool, []*field) {
	if len(r.picks) == 0 {
		return r.main.loaded(stmt)
	}
	columns := map[string]bool{}
	var clear []*field
	for _, p := range r.picks {
		if p.field != nil {
			columns[p.field.DBName] = true
		}
	}
	for _, f := range r.main.clear {
		if columns[f.DBName] {
			clear = append(clear, f)
		}
	}
	return columns, clear
}

// countable reports why a column may not be counted: how many values there are
// tells of them.
func (r *reading) countable(p pick) error {
	if p.field == nil {
		return nil
	}
	return r.main.hidden(r.ctx, strings.ToLower(p.field.DBName))
}

// ofModel is a SELECT into the model itself.
func (r *reading) ofModel(stmt *gorm.Statement) error {
	for _, p := range r.picks {
		if p.call != "" || p.field == nil || p.as != p.field.DBName {
			return r.expression()
		}
	}
	m := r.main
	columns, clear := r.loaded(stmt)
	if columns == nil || len(clear) == 0 {
		return nil
	}
	// Whose it is must be known, to be recorded.
	if !columns[m.schema.PrioritizedPrimaryField.DBName] || m.subject != nil && !columns[m.subject.DBName] {
		r.seen = map[string]*row{}
		r.loose = &target{clear: clear}
	}
	return nil
}

// ofOther is a SELECT into something else than the model.
func (r *reading) ofOther(stmt *gorm.Statement, t reflect.Type, rows bool) error {
	m := r.main
	to := &target{sealed: map[string]*field{}, fields: map[string]*schema.Field{}}
	picks := r.picks
	if !rows {
		switch t.Kind() {
		case reflect.Struct:
			parsed := &gorm.Statement{DB: stmt.DB}
			if value := reflect.PointerTo(t).Implements(scannerType) || t == timeType; value {
				break
			}
			if err := parsed.Parse(stmt.Dest); err == nil {
				to.kind, to.schema = reflect.Struct, parsed.Schema
				if len(picks) == 0 { // GORM selects the columns of the smaller struct
					for _, name := range to.schema.DBNames {
						f := m.schema.LookUpField(name)
						if f == nil || f.DBName == "" {
							return r.refuse("the target has a field "+name+" that the model has no column for", "leave it out, or tag it gorm:\"-\"")
						}
						picks = append(picks, pick{f, "", f.DBName})
					}
				}
			}
		case reflect.Map:
			to.kind = reflect.Map
		}
	}
	if len(picks) == 0 {
		for _, name := range m.schema.DBNames {
			if f := m.schema.FieldsByDBName[name]; f.Readable {
				picks = append(picks, pick{f, "", name})
			}
		}
	}
	if len(r.picks) == 0 && to.kind != reflect.Struct && len(stmt.Joins) == 0 && len(stmt.Selects) == 0 && len(stmt.Omits) == 0 {
		// GORM would select all columns of the table: also those in clear
		// that the model has no more, or reads as from=.
		for _, p := range picks {
			r.columns = append(r.columns, p.as)
		}
	}
	for _, p := range picks {
		if p.field == nil {
			continue
		}
		f := m.phi(p.field)
		switch {
		case f == nil:
			if p.call == "" && p.field == m.schema.PrioritizedPrimaryField {
				to.id = p.as
			}
			if dto := to.field(p.as); dto != nil && isSealedType(dto.FieldType) {
				return r.refuse("the target's field "+dto.Name+" is Sealed, and the column "+p.field.DBName+" is not", "give it the model's type")
			}
		case f.sealed:
			if p.call != "" || p.as != f.DBName {
				return r.refuse("a sealed column as an expression or by another name", "select "+f.DBName+" by name")
			}
			dto := to.field(p.as)
			switch {
			case to.kind == reflect.Map:
			case to.kind == reflect.Struct && dto == nil:
				continue // it goes nowhere
			case to.kind != reflect.Struct:
				return r.refuse("the sealed column "+f.DBName+" is read without its record", "Find into a struct with the ID and a storage.Sealed field, or into maps")
			case (&field{Field: dto}).sealedType() != f.sealedType():
				return r.refuse("the target's field "+dto.Name+" is not the Sealed that the model has", fmt.Sprintf("make it a %s", f.sealedType()))
			default:
				to.fields[p.as] = dto
			}
			to.sealed[p.as] = f
		default:
			if p.call == "count" {
				if err := r.countable(p); err != nil {
					return err
				}
				continue
			}
			// Without its tag nothing renders it as the policy says.
			if dto := to.field(p.as); (p.call != "" || dto == nil || !sameClass(dto, f)) && r.view(r.ctx, f) != minimize.Reveal {
				return r.main.filterOnHidden(r.ctx, f)
			}
			if dto := to.field(p.as); dto != nil && isSealedType(dto.FieldType) {
				return r.refuse("the target's field "+dto.Name+" is Sealed, and the column "+p.field.DBName+" is not", "give it the model's type")
			}
			to.clear = append(to.clear, f)
		}
	}
	r.loose = to
	if len(to.clear)+len(to.sealed) > 0 || len(r.q.fields) > 0 {
		r.seen = map[string]*row{}
	}
	return nil
}

func (t *target) field(column string) *schema.Field {
	if t.schema == nil {
		return nil
	}
	return t.schema.LookUpField(column)
}

// sameClass reports whether a field of another struct is tagged as the model's.
func sameClass(dto *schema.Field, f *field) bool {
	tag, err := minimize.ParseTag(dto.Tag.Get("phi"))
	return err == nil && tag.Class == f.tag.Class && tag.Class != minimize.Class("")
}

// grouped reports whether a row of the result stands for several records.
func (r *reading) grouped(stmt *gorm.Statement) bool {
	if _, ok := stmt.Clauses["GROUP BY"]; ok || stmt.Distinct {
		return true
	}
	for _, p := range r.picks {
		if p.call != "" {
			return true
		}
	}
	return false
}

// lookUp finds the rows that the statement will read and records what it will
// show of them: what comes back does not say whose it is. The statement then
// runs against these.
func (r *reading) lookUp(db *gorm.DB) error {
	stmt, m := db.Statement, r.main
	columns := m.identity()
	found := reflect.New(reflect.SliceOf(m.typ))
	q := r.own(r.ctx, &built{ConnPool: inner(stmt.ConnPool), check: r.check}).Model(reflect.New(m.typ).Interface()).Select(columns)
	if stmt.Unscoped {
		q = q.Unscoped()
	}
	q.Statement.Clauses["WHERE"] = stmt.Clauses["WHERE"]
	limited := false
	if !r.grouped(stmt) {
		for _, name := range []string{"ORDER BY", "LIMIT"} {
			if c, ok := stmt.Clauses[name]; ok {
				q.Statement.Clauses[name] = c
				limited = limited || name == "LIMIT"
			}
		}
	}
	if !limited {
		q = q.Limit(maxRows + 1)
	}
	if err := q.Find(found.Interface()).Error; err != nil {
		return r.clean("query", m.table, err)
	}
	rows := found.Elem()
	if rows.Len() > maxRows {
		return r.refuse(fmt.Sprintf("more than %d records are read into something else than the model", maxRows), "use FindInBatches with the model")
	}
	names := append([]string(nil), r.q.fields...)
	for _, f := range r.loose.clear {
		names = append(names, f.Name)
	}
	var rec recording
	for i := range rows.Len() {
		row := m.rowOf(r.ctx, rows.Index(i))
		r.seen[row.record] = row
		if len(names) > 0 {
			rec.add(row, names, len(r.loose.clear) > 0)
		}
	}
	return r.record(&rec, -1)
}

// deliver binds the cells of the rows.
func (t *target) deliver(r *reading, db *gorm.DB) error {
	stmt := db.Statement
	if t.schema == nil && t.kind != reflect.Map { // the model, or values
		if r.main != nil && stmt.ReflectValue.IsValid() {
			columns, _ := r.loaded(stmt)
			return eachRow(stmt.ReflectValue, r.main.typ, func(rv reflect.Value) error { r.main.bind(r.ctx, rv, columns); return nil })
		}
		return nil
	}
	if len(t.sealed) == 0 || db.RowsAffected == 0 {
		return nil
	}
	if t.kind == reflect.Map {
		return t.bindMaps(stmt.Dest, func(id string) *row { return r.seen[id] })
	}
	return eachRow(stmt.ReflectValue, t.schema.ModelType, func(rv reflect.Value) error {
		t.bindStruct(r.ctx, rv, r.seen)
		return nil
	})
}

// bindStruct tells the cells of a row which record they are of. NULL is bound
// too: none and not shown must not look alike.
func (t *target) bindStruct(ctx context.Context, rv reflect.Value, rows map[string]*row) {
	var r *row
	if f := t.field(t.id); t.id != "" && f != nil {
		id, _ := f.ValueOf(ctx, rv)
		r = rows[fmt.Sprint(id)]
	}
	for column, dto := range t.fields {
		s := refOf(dto.ReflectValueOf(ctx, rv))
		c := s.cell()
		switch {
		case r == nil || c != nil && (c.row != nil || c.raw == nil):
		case c == nil:
			s.setCell(&cell{row: r.ref(), field: t.sealed[column].self})
		default:
			s.setCell(&cell{raw: c.raw, row: r.ref(), field: t.sealed[column].self})
		}
	}
}

// bindMaps puts a Sealed in place of the bytes of each cell.
func (t *target) bindMaps(dest any, find func(id string) *row) error {
	var maps []map[string]any
	switch v := dest.(type) {
	case map[string]any:
		maps = append(maps, v)
	case *map[string]any:
		maps = append(maps, *v)
	case []map[string]any:
		maps = v
	case *[]map[string]any:
		maps = *v
	}
	for _, values := range maps {
		var r *row
		if id, ok := values[t.id]; ok && t.id != "" {
			if b, ok := id.([]byte); ok {
				id = string(b)
			}
			r = find(fmt.Sprint(id))
		}
		for column, f := range t.sealed {
			v, ok := values[column]
			if !ok {
				continue
			}
			s := reflect.New(f.sealedType())
			c := &cell{field: f.self}
			if r != nil {
				c.row = r.ref()
			}
			switch v := v.(type) {
			case nil:
				if r == nil {
					c = nil
				}
			case []byte:
				c.raw = v
			case string:
				c.raw = []byte(v)
			default:
				continue // Sealed already
			}
			s.Interface().(sealedField).setCell(c)
			values[column] = s.Elem().Interface()
		}
	}
	return nil
}
