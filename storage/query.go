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

// refusedTable stands in the text of a subquery that was refused, so that the
// statement around it is refused too.
const refusedTable = "phi_refused"

// A search collects what the Match expressions of a statement ask for.
type search struct {
	fields  []string // names of the fields searched
	selects int      // subselects on phi_index
	matches int      // how many Matches there are
	terms   int      // things asked for, of all of them
	warn    bool     // the principal nears its limit of searches
	narrow  bool     // a Match must hold of every row, so that only what it finds needs reading
	own     ownTexts // of the sets in reach
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
	if err := p.resolve(db, m, q); err != nil {
		return err
	}
	action := access.Read
	if len(q.fields) > 0 {
		action = access.Search
	}
	f, err := p.filter(p.asking(stmt.Context, stmt.ConnPool), action, m)
	if err != nil {
		return err
	}
	exprs, err := p.reachBy(m, f, q)
	if err != nil {
		return err
	}
	q.own.collectFrom(stmt)
	bracket(stmt)
	stmt.AddClause(clause.Where{Exprs: exprs})
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
		ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: action, Code: codeOf(err), Objects: []audit.Object{{Type: m.name}}}
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
	case "where", "and", "or", "not", "in", "exists", "any", "all", "on", "like", "between", "having", "by", "limit", "offset", "when", "then", "else", "is",
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
	return minimize.Pin(s, p.cfg.Minimize).View(pr.Roles, s.Purpose(), f.class(ctx))
}

func firstDenial(d access.Decision, n int) access.Code {
	for i := range min(n, len(d.Verdicts)) {
		if !d.Verdicts[i].Allow {
			return d.Verdicts[i].Code
		}
	}
	return access.DenyInvalid
}

// codeOf returns the code that an event of the refusal err carries: one that
// an Authorizer made up, and a failure to decide, are access.DenyInvalid there.
func codeOf(err error) access.Code {
	var denied *access.DeniedError
	if errors.As(err, &denied) && denied.Code.Known() {
		return denied.Code
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
		case columns != nil && !columns[f.DBName]:
			// Not selected, and what stood there is of an earlier read.
			s.setCell(&cell{row: at, field: f.self, shown: &shown{kind: unloaded}})
		case f.tag.From != "":
			s.setCell(&cell{row: at, field: f.self, shown: &shown{kind: older}})
		case c != nil: // NULL, for which a *Sealed keeps what stood there
			s.setCell(nil)
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
