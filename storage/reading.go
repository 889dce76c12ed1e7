// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A reading is one SELECT that shows PHI: of a model, of others joined to it,
// or both.
type reading struct {
	*plugin
	ctx   context.Context
	main  *model // nil: the model read has no PHI, one joined to it has
	q     *search
	steps []step
	joins []*joined

	allowed map[string]int    // how often the text may name another table with PHI
	columns []string          // what to select where neither the app nor GORM says it
	aliases map[string]string // what joined tables are called, and their names

	picks []pick          // what the app selects by itself; nil: the model's columns
	loose *target         // where the rows go, if not into the model; nil: into the model
	seen  map[string]*row // the rows to be read, by ID, where they are looked up first
}

// query runs a SELECT. On a model with PHI it is scoped, its sealed cells are
// bound to their records, and what it shows in clear is checked and recorded
// before the app gets it.
func (p *plugin) query(db *gorm.DB, next func(*gorm.DB)) {
	r := p.prepare(db, next, false)
	if r == nil {
		return
	}
	stmt := db.Statement
	r.run(db, next)
	if missed := errors.Is(db.Error, gorm.ErrRecordNotFound) && len(r.q.fields) > 0; db.DryRun || db.Error != nil && !missed {
		return // a search that found nothing is recorded all the same
	}
	if err := r.deliver(db); err != nil {
		clearDest(stmt.ReflectValue)
		db.RowsAffected = 0
		_ = db.AddError(err)
	}
}

// row runs a SELECT whose rows the app scans by itself: by Row, Rows or Scan.
// What they show in clear is recorded before.
func (p *plugin) row(db *gorm.DB, next func(*gorm.DB)) {
	if r := p.prepare(db, next, true); r != nil {
		r.run(db, next)
		return
	}
	if rows, ok := db.Get("rows"); db.Error != nil && ok && rows == false {
		// Row has no error of its own: the app finds it in Scan.
		db.Statement.Dest = inner(p.pool).QueryRowContext(ended(db.Statement.Context, db.Error), "SELECT 1")
	}
}

// prepare scopes a SELECT. It returns nil where there is nothing more to do:
// the statement has no PHI and has run, or it is refused.
func (p *plugin) prepare(db *gorm.DB, next func(*gorm.DB), rows bool) *reading {
	stmt := db.Statement
	if db.Error != nil || isOwn(stmt) {
		next(db)
		return nil
	}
	m, err := p.modelOf(db)
	if err != nil {
		_ = db.AddError(err)
		return nil
	}
	if stmt.SQL.Len() > 0 { // raw SQL: the guard looks at it
		p.unbuilt(db, next)
		return nil
	}
	r := &reading{plugin: p, ctx: p.asking(stmt.Context, stmt.ConnPool), main: m, q: newSearch(db)}
	if err := r.joined(stmt); err != nil {
		p.refuseQuery(db, err)
		return nil
	}
	if m == nil && len(r.allowed) == 0 {
		if l := p.linkOf(stmt); l != nil {
			if err := p.fit(db); err != nil {
				p.refuseQuery(db, err)
				return nil
			}
			p.queryLink(db, l, next)
		} else {
			p.unbuilt(db, next)
		}
		return nil
	}
	if err = p.fit(db); err != nil {
		p.refuseQuery(db, err)
		return nil
	}
	if m != nil {
		err = p.scope(db, m, r.q)
	} else {
		err = p.tooOld(stmt.Context)
	}
	if err == nil {
		err = r.targets(stmt, rows)
	}
	if err == nil && r.seen != nil && !db.DryRun {
		err = r.lookUp(db)
	}
	if err != nil {
		p.refuseQuery(db, err)
		return nil
	}
	return r
}

func (p *plugin) refuseQuery(db *gorm.DB, err error) {
	_ = db.AddError(err)
	if db.DryRun { // a subquery: GORM drops its error and takes its text
		_, _ = db.Statement.SQL.WriteString(refusedTable)
	}
}

// run runs the statement, and puts back what it changed in it for the next
// finisher of the chain.
func (r *reading) run(db *gorm.DB, next func(*gorm.DB)) {
	stmt := db.Statement
	pool, joins, where, limit := stmt.ConnPool, stmt.Joins, stmt.Clauses["WHERE"], stmt.Clauses["LIMIT"]
	_, selected := stmt.Clauses["SELECT"]
	from, fromSet := stmt.Clauses["FROM"]
	if r.columns != nil {
		stmt.Selects = r.columns
		defer func() { stmt.Selects = nil }()
	}
	r.join(stmt)
	if r.seen != nil && !db.DryRun {
		ids := make([]any, 0, len(r.seen))
		for id := range r.seen {
			ids = append(ids, id)
		}
		stmt.AddClause(clause.Where{Exprs: []clause.Expression{clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: r.main.schema.PrioritizedPrimaryField.DBName}, Values: ids}}})
		if !r.grouped(stmt) {
			delete(stmt.Clauses, "LIMIT") // it chose these rows
		}
	}
	stmt.ConnPool = &built{ConnPool: inner(pool), check: r.check}
	next(db)
	stmt.ConnPool, stmt.Joins = pool, joins
	db.Error = r.clean("query", stmt.Table, db.Error)
	if !selected {
		delete(stmt.Clauses, "SELECT") // GORM's own, which the next finisher of a chain would take for the app's
	}
	if len(r.joins) > 0 {
		if fromSet {
			stmt.Clauses["FROM"] = from
		} else {
			delete(stmt.Clauses, "FROM")
		}
	}
	if r.seen != nil {
		stmt.Clauses["WHERE"] = where
		if limit.Expression != nil {
			stmt.Clauses["LIMIT"] = limit
		}
	}
}

func (r *reading) refuse(why, mend string) error {
	table := ""
	if r.main != nil {
		table = r.main.table
	} else if len(r.joins) > 0 {
		table = r.joins[0].model.table
	}
	return &RefusedError{Op: "query", Table: table, Why: why, Mend: mend}
}

// check looks at the finished text: one SELECT, which names no table with PHI
// but those that storage has scoped, and behind FROM no sealed column and no
// clear one that the caller may not see.
func (r *reading) check(query string) error {
	main := ""
	if r.main != nil {
		main = r.main.bare()
	}
	query = r.q.own.without(query)
	allowed := map[string]int{"phi_index": r.q.selects}
	for t, n := range r.allowed {
		allowed[t] = n
	}
	selects, from, by, fromTable, last := 0, false, false, false, ""
	var bad error
	plain := scan(query, func(w string, depth, end int) {
		if bad != nil {
			return
		}
		before := last
		last = w
		switch w {
		case "order", "group":
			by = true
		case "limit", "offset", "having", "for":
			by = false
		case "natural":
			bad = r.refuse("a natural join, which compares columns that nobody names", "name them in ON")
			return
		case "select":
			if depth == 0 {
				selects++
			}
		case "union", "intersect", "except", "table":
			bad = r.refuse("a set operation", "run one query for each part")
			return
		case "from":
			if depth == 0 {
				from = true
				return
			}
		}
		if w != main && r.phi(w) {
			switch n, ok := allowed[w]; {
			case ok && w != "phi_index" && beforeColumn(query[end:]):
			case n > 0:
				allowed[w]--
			default:
				bad = r.refuse("the statement names another table with PHI, "+w, "use Preload, Joins of an association, or two queries")
			}
			return
		}
		switch {
		case !from:
		case w == main && !fromTable:
			fromTable = true // behind FROM
			return
		case w == main && beforeColumn(query[end:]):
			return
		case w == main && allowed[w] > 0: // in a condition of storage's
			allowed[w]--
			return
		case w == main:
			bad = r.refuse("the table a second time, or a condition or order on the whole row or on a column called as its table", "name the columns, and no column as its table")
		case by && depth == 0 && strings.Trim(w, "0123456789") == "":
			bad = r.refuse("an order by the number of a column", "name the column")
		}
		if bad == nil && from && called(query[end:]) && !mayCall(w) {
			bad = r.refuse("a call of "+w+" in a condition or order", "compute the value in the program and pass it as a parameter")
		}
		if t, ok := r.aliases[w]; ok {
			if bad == nil && from && before != t && !beforeColumn(query[end:]) {
				bad = r.refuse("a condition or order on the whole row of "+w, "name its columns, and no column as the table")
			}
			return
		}
		if bad == nil && from {
			bad = r.hidden(w)
		}
	})
	switch {
	case bad != nil:
		return bad
	case !plain:
		return r.refuse(notPlain, "pass values as parameters")
	case selects != 1:
		return r.refuse("several selects", "run one query for each")
	}
	return nil
}

// hidden says why a word of a condition or an order may not stand there.
func (r *reading) hidden(word string) error {
	if r.main != nil {
		if err := r.main.hidden(r.ctx, word); err != nil {
			return err
		}
	}
	for _, j := range r.joins {
		if err := j.model.hidden(r.ctx, word); err != nil {
			return err
		}
	}
	return nil
}

// checkSelect is check for a SELECT of the plugin's own with conditions of the
// app's.
func (m *model) checkSelect(db *gorm.DB, q *search) func(string) error {
	r := &reading{plugin: m.plugin(), ctx: db.Statement.Context, main: m, q: q}
	return r.check
}

// deliver binds the cells of the rows that were read, and records the rows
// whose PHI is now in the app's hands in clear, or that a search has found.
func (r *reading) deliver(db *gorm.DB) error {
	if r.loose != nil {
		return r.loose.deliver(r, db)
	}
	stmt := db.Statement
	if db.RowsAffected == 0 && len(r.q.fields) == 0 {
		return nil
	}
	var rec recording
	if m := r.main; m != nil && db.RowsAffected > 0 {
		loaded, clear := r.loaded(stmt)
		if r.seen != nil {
			clear = nil // recorded before
		}
		names := append([]string(nil), r.q.fields...)
		for _, f := range clear {
			names = append(names, f.Name)
		}
		err := eachRow(stmt.ReflectValue, m.typ, func(rv reflect.Value) error {
			if row := m.bind(r.ctx, rv, loaded); len(names) > 0 {
				rec.add(row, names, len(clear) > 0)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(r.joins) > 0 && db.RowsAffected > 0 {
		if err := eachRow(stmt.ReflectValue, stmt.Schema.ModelType, func(rv reflect.Value) error { return r.deliverJoined(rv, &rec) }); err != nil {
			return err
		}
	}
	counted := -1
	if n, ok := stmt.Dest.(*int64); ok && len(r.q.fields) > 0 {
		db.RowsAffected = *n
		counted = int(*n)
	}
	list := listingOf(db)
	if list != nil && !list.page {
		return nil // nobody sees the candidates; the page is recorded
	}
	if list != nil {
		counted = list.count
	}
	return r.record(&rec, counted)
}

// A recording is what of PHI a statement has put into the app's hands.
type recording struct {
	objects   []audit.Object
	resources []access.Resource
}

func (c *recording) add(r *row, names []string, clear bool) {
	c.objects = append(c.objects, audit.Object{Type: r.model.name, Tenant: r.tenant, Record: r.record, Patient: r.subject, Version: r.version, Fields: names})
	if clear {
		c.resources = append(c.resources, access.Resource{Type: r.model.name, ID: r.record, Patient: r.subject, Tenant: r.tenant})
	}
}

// record checks and records it. counted is how many rows a search has found
// where it was only asked for their number, else -1.
func (r *reading) record(c *recording, counted int) error {
	if len(c.objects) == 0 && len(r.q.fields) == 0 {
		return nil
	}
	ev := audit.Event{Type: audit.Fetched, Outcome: audit.Success, Action: access.Read, Objects: c.objects}
	if len(r.q.fields) > 0 {
		ev.Type, ev.Action, ev.Reason = audit.Searched, access.Search, r.q.reason()
		ev.Count = len(c.objects)
		if counted >= 0 {
			ev.Count = counted
		}
		if len(c.objects) == 0 {
			ev.Objects = []audit.Object{{Type: r.main.name, Fields: r.q.fields}}
		}
	}
	if len(c.resources) > 0 {
		d, err := r.cfg.Access.Check(r.ctx, access.Request{Action: access.Read, Resources: c.resources})
		if err == nil && !d.AllowAll(len(c.resources)) {
			err = &access.DeniedError{Action: access.Read, Resource: c.resources[0].Type, Code: firstDenial(d, len(c.resources)), Decision: d.ID}
		}
		ev.Decision = d.ID
		if err != nil {
			ev.Type, ev.Outcome, ev.Reason, ev.Code = audit.Denied, audit.Failure, audit.ReasonPolicy, codeOf(err)
			_, rerr := r.cfg.Audit.Record(r.ctx, ev)
			return errors.Join(err, rerr)
		}
		byGrant(&ev, d)
	}
	if _, err := r.cfg.Audit.Record(r.ctx, ev); err != nil {
		return errors.Join(errors.New("storage: query: nothing was read"), err)
	}
	return nil
}
