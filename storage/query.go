// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/minimize"
)

// query runs a SELECT. On a model with PHI it is scoped, its sealed cells are
// bound to their records, and what it shows in clear is checked and recorded
// before the app gets it.
func (p *plugin) query(db *gorm.DB, next func(*gorm.DB)) {
	if db.Error != nil || isOwn(db.Statement.Context) {
		next(db)
		return
	}
	m, err := p.modelOf(db)
	if err != nil {
		_ = db.AddError(err)
		return
	}
	if m == nil || db.Statement.SQL.Len() > 0 { // no PHI, or raw SQL: the guard looks at it
		p.unbuilt(db, next)
		return
	}
	stmt := db.Statement
	q := newSearch(db)
	err = p.scope(db, m, q)
	if err == nil {
		err = m.checkTarget(stmt)
	}
	if err == nil {
		err = m.selects(stmt)
	}
	if err != nil {
		_ = db.AddError(err)
		if db.DryRun { // a subquery: GORM drops its error and takes its text
			_, _ = stmt.SQL.WriteString(refusedTable)
		}
		return
	}
	before := stmt.ConnPool
	_, selected := stmt.Clauses["SELECT"]
	stmt.ConnPool = &built{ConnPool: inner(before), check: m.checkSelect(db, q)}
	next(db)
	stmt.ConnPool = before
	if !selected {
		delete(stmt.Clauses, "SELECT") // GORM's own, which the next finisher of a chain would take for the app's
	}
	if missed := errors.Is(db.Error, gorm.ErrRecordNotFound) && len(q.fields) > 0; db.DryRun || db.Error != nil && !missed {
		return // a search that found nothing is recorded all the same
	}
	if err := p.deliver(db, m, q); err != nil {
		clearDest(stmt.ReflectValue)
		db.RowsAffected = 0
		_ = db.AddError(err)
	}
}

// refusedTable stands in the text of a subquery that was refused, so that the
// statement around it is refused too.
const refusedTable = "phi_refused"

// A search collects what the Match expressions of a statement ask for.
type search struct {
	fields  []string // names of the fields searched
	selects int      // subselects on phi_index
	warn    bool     // the principal nears its limit of searches
}

// scope puts what the app wrote in brackets and adds the rows in reach:
// WHERE (app) AND tenant [AND subject]. It resolves Match.
func (p *plugin) scope(db *gorm.DB, m *model, q *search) error {
	if err := p.tooOld(db.Statement.Context); err != nil {
		return err
	}
	stmt := db.Statement
	if !m.named(stmt) {
		return &RefusedError{Op: "query", Table: m.table, Why: "the statement names another table than its model", Mend: "use the model's own table"}
	}
	if len(stmt.Joins) > 0 {
		return &RefusedError{Op: "query", Table: m.table, Why: "joins of tables with PHI are not scoped yet", Mend: "use Preload"}
	}
	if err := p.resolve(db, m, q); err != nil {
		return err
	}
	action := access.Read
	if len(q.fields) > 0 {
		action = access.Search
	}
	f, err := p.filter(stmt.Context, action, m)
	if err != nil {
		return err
	}
	bracket(stmt)
	stmt.AddClause(clause.Where{Exprs: reach(m, f)})
	return nil
}

// filter asks which rows are in reach, and records the refusal if none are.
func (p *plugin) filter(ctx context.Context, action access.Action, m *model) (access.Filter, error) {
	s, err := access.From(ctx)
	if err != nil {
		return access.Filter{}, err
	}
	minimize.Pin(s, p.cfg.Minimize)
	f, err := p.cfg.Access.Filter(ctx, action, m.name)
	if err == nil && f.Tenant != "" && f.Tenant != s.Principal().Tenant {
		err = &access.DeniedError{Action: action, Resource: m.name, Code: access.DenyTenant}
	}
	if err != nil {
		ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: action, Objects: []audit.Object{{Type: m.name}}}
		var denied *access.DeniedError
		if errors.As(err, &denied) {
			ev.Decision = denied.Decision
		}
		_, rerr := p.cfg.Audit.Record(ctx, ev)
		return access.Filter{}, errors.Join(err, rerr)
	}
	return f, nil
}

// bracket wraps the WHERE that the app wrote.
func bracket(stmt *gorm.Statement) {
	c, ok := stmt.Clauses["WHERE"]
	if !ok {
		return
	}
	where, ok := c.Expression.(clause.Where)
	if !ok || len(where.Exprs) == 0 {
		return
	}
	c.Expression = clause.Where{Exprs: []clause.Expression{brackets{where}}}
	stmt.Clauses["WHERE"] = c
}

const notPlain = "a comment, a second statement, a backslash or $ quote, or parentheses that do not match"

// brackets is a WHERE in parentheses that it cannot leave.
type brackets struct{ where clause.Where }

// Build implements clause.Expression.
func (b brackets) Build(builder clause.Builder) {
	stmt, ok := builder.(*gorm.Statement)
	if !ok {
		_ = builder.AddError(errors.New("storage: query: unknown clause builder"))
		return
	}
	stmt.WriteByte('(')
	from := stmt.SQL.Len()
	b.where.Build(stmt)
	if !words(stmt.SQL.String()[from:], func(string, int) {}) {
		_ = stmt.AddError(&RefusedError{Op: "query", Table: stmt.Table, Why: "a condition has " + notPlain, Mend: "pass values as parameters"})
	}
	stmt.WriteByte(')')
}

// reach is a Filter as SQL.
func reach(m *model, f access.Filter) []clause.Expression {
	col := func(name string) clause.Column { return clause.Column{Table: clause.CurrentTable, Name: name} }
	if f.Tenant == "" {
		return []clause.Expression{clause.Expr{SQL: "1 = 0"}}
	}
	tenant := clause.Eq{Column: col(m.schema.LookUpField("TenantID").DBName), Value: f.Tenant}
	if f.AllSubjects {
		return []clause.Expression{tenant}
	}
	subject := m.schema.PrioritizedPrimaryField
	if m.subject != nil {
		subject = m.subject
	} else if !m.own {
		return []clause.Expression{clause.Expr{SQL: "1 = 0"}} // about nobody, and only some patients are in reach
	}
	ids := make([]any, len(f.Subjects))
	for i, s := range f.Subjects {
		ids[i] = s
	}
	return []clause.Expression{tenant, clause.IN{Column: col(subject.DBName), Values: ids}}
}

// checkTarget refuses to read PHI into something that storage cannot bind and
// record: a map, another struct, a slice of one column.
func (m *model) checkTarget(stmt *gorm.Statement) error {
	if n, ok := stmt.Dest.(*int64); ok && n != nil && isCount(stmt) {
		return nil
	}
	t := stmt.ReflectValue.Type()
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != m.typ {
		return &RefusedError{Op: "query", Table: m.table, Why: "the rows are not read into the model", Mend: "read the model itself; Pluck, Scan and maps are not handled yet"}
	}
	return nil
}

func isCount(stmt *gorm.Statement) bool {
	e, ok := stmt.Clauses["SELECT"].Expression.(clause.Expr)
	return ok && strings.EqualFold(e.SQL, "count(*)")
}

// selects refuses expressions in the SELECT list, which could carry clear PHI
// into a field that is shown to everybody, and splits "id, name".
func (m *model) selects(stmt *gorm.Statement) error {
	if e := stmt.Clauses["SELECT"].Expression; e != nil {
		if isCount(stmt) {
			return nil
		}
		return m.refuse("query", "an expression in the select list", "select columns by name")
	}
	var columns []string
	for _, s := range stmt.Selects {
		for part := range strings.SplitSeq(s, ",") {
			part = strings.TrimPrefix(strings.Trim(strings.TrimSpace(part), "\"`"), m.table+".")
			if f := m.schema.LookUpField(part); part != "*" && (f == nil || f.DBName == "") {
				return m.refuse("query", "an expression in the select list", "select columns by name")
			}
			columns = append(columns, part)
		}
	}
	stmt.Selects = columns
	return nil
}

// checkSelect looks at the finished text: one SELECT on this table only, and
// behind FROM no sealed column and no clear one that the caller may not see.
func (m *model) checkSelect(db *gorm.DB, q *search) func(string) error {
	return func(query string) error {
		selects, from, by, fromTable := 0, false, false, false
		var bad error
		plain := scan(query, func(w string, depth, end int) {
			if bad != nil {
				return
			}
			switch w {
			case "order", "group":
				by = true
			case "limit", "offset", "having", "for":
				by = false
			case "join":
				bad = m.refuse("query", "a join", "use Preload")
				return
			case "select":
				selects++
			case "union", "intersect", "except", "table":
				bad = m.refuse("query", "a set operation", "run one query for each part")
				return
			case "from":
				if depth == 0 {
					from = true
					return
				}
			}
			if w != m.bare() && w != "phi_index" && m.plugin().phi(w) {
				bad = m.refuse("query", "the statement names another table with PHI", "use Preload, or two queries")
				return
			}
			switch {
			case !from:
			case w == m.bare() && !fromTable:
				fromTable = true // behind FROM
				return
			case w == m.bare() && beforeColumn(query[end:]):
				return
			case w == m.bare():
				bad = m.refuse("query", "a condition or order on the whole row, or on a column called as its table", "name the columns, and no column as its table")
			case by && depth == 0 && strings.Trim(w, "0123456789") == "":
				bad = m.refuse("query", "an order by the number of a column", "name the column")
			}
			if bad == nil && from && called(query[end:]) && !mayCall(w) {
				bad = m.refuse("query", "a call of "+w+" in a condition or order", "compute the value in the program and pass it as a parameter")
			}
			if bad == nil && from {
				bad = m.hidden(db.Statement.Context, w)
			}
		})
		switch {
		case bad != nil:
			return bad
		case !plain:
			return m.refuse("query", notPlain, "pass values as parameters")
		case selects != 1+q.selects:
			return m.refuse("query", "a subquery", "run two queries")
		}
		return nil
	}
}

// beforeColumn reports whether a text goes on with the name of a column: ".*"
// is the whole row.
func beforeColumn(rest string) bool {
	const space = " \t\r\n\f\v"
	rest, dot := strings.CutPrefix(strings.TrimLeft(rest, space), ".")
	return dot && !strings.HasPrefix(strings.TrimLeft(rest, space), "*")
}

// called reports whether a text goes on with a parenthesis.
func called(rest string) bool {
	return strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n\f\v"), "(")
}

// mayCall reports whether a word may stand before a parenthesis in an app's
// condition. Functions beyond these could run a string as SQL, past the scope.
func mayCall(word string) bool {
	switch word {
	case "where", "and", "or", "not", "in", "any", "all", "on", "like", "between", "having", "by", "limit", "offset", "when", "then", "else", "is",
		"lower", "upper", "trim", "length", "char_length", "coalesce", "ifnull", "nullif", "abs", "round", "cast",
		"date", "time", "datetime", "timestamp", "julianday", "strftime", "unixepoch", "date_trunc", "date_part", "extract", "year", "month", "day", "now", "count", "min", "max", "sum", "avg":
		return true
	}
	return false
}

// hidden says why a word of a condition or an order may not stand there.
func (m *model) hidden(ctx context.Context, word string) error {
	f, ok := m.columns[word]
	switch {
	case !ok:
		return nil
	case f.sealed:
		return m.refuse("query", "a condition or order on the sealed column "+f.DBName, "search it with storage.Match on a field tagged search=exact or search=name, sort by it with storage.List; NULL cannot be asked for")
	case m.plugin().view(ctx, f) != minimize.Reveal:
		return m.filterOnHidden(ctx, f)
	}
	return nil
}

// filterOnHidden refuses, and records that somebody asked.
func (m *model) filterOnHidden(ctx context.Context, f *field) error {
	_, err := m.plugin().recordAs(ctx, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonMinimum, Action: access.Search,
		Objects: []audit.Object{{Type: m.name, Fields: []string{f.Name}}}})
	return errors.Join(fmt.Errorf("storage: query %s: %w: %s", m.table, ErrFilterOnHidden, f.Name), err)
}

func (m *model) refuse(op, why, mend string) error {
	return &RefusedError{Op: op, Table: m.table, Why: why, Mend: mend}
}

// view is what the scope's policy shows of a field.
func (p *plugin) view(ctx context.Context, f *field) minimize.View {
	s, err := access.From(ctx)
	if err != nil {
		return minimize.Withhold
	}
	pr := s.Principal()
	return minimize.Pin(s, p.cfg.Minimize).View(pr.Roles, s.Purpose(), f.tag.Class)
}

// deliver binds the cells of the rows that were read, and records the rows
// whose PHI is now in the app's hands in clear, or that a search has found.
func (p *plugin) deliver(db *gorm.DB, m *model, q *search) error {
	stmt := db.Statement
	ctx := stmt.Context
	loaded, clear := m.loaded(stmt)
	var objects []audit.Object
	var resources []access.Resource
	names := append([]string(nil), q.fields...)
	for _, f := range clear {
		names = append(names, f.Name)
	}
	seen := len(clear) > 0
	if db.RowsAffected == 0 && len(q.fields) == 0 {
		return nil
	}
	err := eachRow(stmt.ReflectValue, m.typ, func(rv reflect.Value) error {
		if db.RowsAffected == 0 {
			return nil
		}
		r := m.bind(ctx, rv, loaded)
		if len(names) == 0 {
			return nil
		}
		objects = append(objects, audit.Object{Type: m.name, Tenant: r.tenant, Record: r.record, Patient: r.subject, Version: r.version, Fields: names})
		if seen {
			resources = append(resources, access.Resource{Type: m.name, ID: r.record, Patient: r.subject, Tenant: r.tenant})
		}
		return nil
	})
	if err != nil {
		return err
	}
	list := listingOf(db)
	if list != nil && !list.page {
		return nil // nobody sees the candidates; the page is recorded
	}
	counted := false
	if n, ok := stmt.Dest.(*int64); ok {
		counted = len(q.fields) > 0
		if counted {
			db.RowsAffected = *n
		}
	}
	if len(objects) == 0 && len(q.fields) == 0 {
		return nil
	}
	ev := audit.Event{Type: audit.Fetched, Outcome: audit.Success, Action: access.Read, Objects: objects}
	if len(q.fields) > 0 {
		ev.Type, ev.Action, ev.Reason = audit.Searched, access.Search, q.reason()
		ev.Count = len(objects)
		if counted {
			ev.Count = int(db.RowsAffected)
		}
		if list != nil {
			ev.Count = list.count
		}
		if len(objects) == 0 {
			ev.Objects = []audit.Object{{Type: m.name, Fields: names}}
		}
	}
	if len(resources) > 0 {
		d, err := p.cfg.Access.Check(ctx, access.Request{Action: access.Read, Resources: resources})
		if err == nil && !d.AllowAll(len(resources)) {
			err = &access.DeniedError{Action: access.Read, Resource: m.name, Code: firstDenial(d, len(resources)), Decision: d.ID}
		}
		if err != nil {
			ev.Type, ev.Outcome, ev.Reason, ev.Decision = audit.Denied, audit.Failure, audit.ReasonPolicy, d.ID
			_, rerr := p.cfg.Audit.Record(ctx, ev)
			return errors.Join(err, rerr)
		}
		ev.Decision = d.ID
	}
	if _, err := p.cfg.Audit.Record(ctx, ev); err != nil {
		return fmt.Errorf("storage: query %s: %w", m.table, err)
	}
	return nil
}

func firstDenial(d access.Decision, n int) access.Code {
	for i := range min(n, len(d.Verdicts)) {
		if !d.Verdicts[i].Allow {
			return d.Verdicts[i].Code
		}
	}
	return access.DenyInvalid
}

// loaded returns which columns the statement read (nil: all) and the clear PHI
// fields among them.
func (m *model) loaded(stmt *gorm.Statement) (map[string]bool, []*field) {
	if len(stmt.Selects) == 0 && len(stmt.Omits) == 0 {
		return nil, m.clear
	}
	selected, restricted := stmt.SelectAndOmitColumns(false, false)
	columns := make(map[string]bool, len(m.schema.DBNames))
	for _, name := range m.schema.DBNames {
		v, ok := selected[name]
		columns[name] = ok && v || !ok && !restricted
	}
	var clear []*field
	for _, f := range m.clear {
		if columns[f.DBName] {
			clear = append(clear, f)
		}
	}
	return columns, clear
}

// bind tells the cells of a row which record they belong to, and marks those
// that were not selected.
func (m *model) bind(ctx context.Context, rv reflect.Value, columns map[string]bool) *row {
	r := m.rowOf(ctx, rv)
	at := r.ref()
	for _, f := range m.sealed {
		s := f.ref(ctx, rv)
		switch c := s.cell(); {
		case c != nil && c.row == nil && c.raw != nil:
			c.row, c.field = at, f.self // just scanned: nobody else has it
		case c != nil, columns != nil && !columns[f.DBName]:
			// Not selected, and what stood there is of an earlier read.
			s.setCell(&cell{row: at, field: f.self, shown: &shown{kind: unloaded}})
		case f.tag.From != "":
			s.setCell(&cell{row: at, field: f.self, shown: &shown{kind: older}})
		}
	}
	m.recordOf(rv).load = &load{columns: columns, row: at}
	return r
}

// eachRow calls f with every struct of a destination: a struct, or a slice or
// array of structs or pointers.
func eachRow(rv reflect.Value, typ reflect.Type, f func(reflect.Value) error) error {
	switch rv.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range rv.Len() {
			if err := eachRow(rv.Index(i), typ, f); err != nil {
				return err
			}
		}
	case reflect.Pointer, reflect.Interface:
		if !rv.IsNil() {
			return eachRow(rv.Elem(), typ, f)
		}
	case reflect.Struct:
		if rv.Type() == typ && rv.CanAddr() {
			return f(rv)
		}
	}
	return nil
}

// clearDest takes back what was read.
func clearDest(rv reflect.Value) {
	if rv.CanSet() {
		rv.SetZero()
	}
}
