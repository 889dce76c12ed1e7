// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
)

// A SetCondition is an [access.Set] that the database of the records can tell
// by itself, so that a statement reads the rows in reach and no others:
// storage/accessstore has those of relations and directives, [Members] makes
// one of a table of the app's own. A filter with another set is refused, and so
// is one with a set of another database.
//
// Condition and Has are one definition: the suite storagetest.TestSet holds
// them against each other. Implementations are safe for concurrent use.
type SetCondition interface {
	access.Set

	// Database returns the database that has the tables of the condition.
	Database() *gorm.DB

	// Condition returns the condition that the ID in column belongs to the
	// set of tenant. It names its own tables and column only, and compares IDs
	// byte by byte. Where column is NULL or empty storage does not ask it.
	Condition(tenant string, column clause.Column) (clause.Expression, error)
}

// Within returns the database to read with in answer to a question of storage:
// the open transaction of the statement that asks, so that an answer sees what
// the transaction has written and waits for no second connection, or else db.
// It serves a Has, a store of grants and whatever else an [access.Authorizer]
// reads in the database of the records.
func Within(ctx context.Context, db *gorm.DB) *gorm.DB {
	db = db.WithContext(ctx)
	t, ok := ctx.Value(txKey{}).(*txConn)
	if !ok || !sameDatabase(db, t.plugin.db) {
		return db
	}
	db = db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipDefaultTransaction: true})
	db.Statement.ConnPool = t
	return db.Session(&gorm.Session{})
}

// asking returns the context of a question about a statement on conn: see
// [Within].
func (p *plugin) asking(ctx context.Context, conn gorm.ConnPool) context.Context {
	if t, ok := unwrap(conn).(*txConn); ok {
		return context.WithValue(ctx, txKey{}, t)
	}
	return ctx
}

// sameDatabase reports whether two handles have one pool of connections.
func sameDatabase(a, b *gorm.DB) bool {
	if a == nil || b == nil {
		return false
	}
	x, err := a.DB()
	y, yerr := b.DB()
	return err == nil && yerr == nil && x == y
}

// A reacher turns a Filter into SQL.
type reacher struct {
	p       *plugin
	m       *model
	own     *ownTexts
	id      clause.Column
	subject *clause.Column // nil: the rows are about nobody
}

// reach is a Filter as SQL, of rows of m, in table: the tenant first.
func (p *plugin) reach(m *model, f access.Filter, table string, own *ownTexts) ([]clause.Expression, error) {
	if f.Tenant == "" {
		return []clause.Expression{never()}, nil
	}
	column := func(name string) clause.Column { return clause.Column{Table: table, Name: name} }
	r := &reacher{p: p, m: m, own: own, id: column(m.schema.PrioritizedPrimaryField.DBName)}
	if m.subject != nil {
		c := column(m.subject.DBName)
		r.subject = &c
	} else if m.own {
		r.subject = &r.id
	}
	parts := make([]clause.Expression, 0, 1+len(f.Or))
	for i, part := range append([]access.Filter{f}, f.Or...) {
		if i > 0 && (part.Tenant != f.Tenant || len(part.Or) > 0) {
			return nil, m.refuse("query", "a part of the authorizer's Filter has another tenant, or an Or of its own", "give each part of Or the Filter's own tenant, and no Or")
		}
		e, err := r.part(part)
		if err != nil {
			return nil, err
		}
		parts = append(parts, e)
	}
	out := []clause.Expression{clause.Eq{Column: column(m.column("TenantID")), Value: f.Tenant}}
	if e := anyOf(parts); e != always() {
		out = append(out, e)
	}
	return out, nil
}

// part is one Filter without its Or, as access.Filter.Match says it.
func (r *reacher) part(f access.Filter) (clause.Expression, error) {
	var about []clause.Expression
	if f.AllSubjects {
		about = append(about, always())
	}
	if f.Nobody {
		about = append(about, r.nobody())
	}
	about = append(about, r.among(r.subject, f.Subjects))
	for _, s := range f.In {
		e, err := r.member(r.subject, f.Tenant, s)
		if err != nil {
			return nil, err
		}
		about = append(about, e)
	}
	every := []clause.Expression{anyOf(about)}
	for _, c := range []struct {
		sets   []access.Set
		column *clause.Column
		not    bool
	}{{f.Only, r.subject, false}, {f.NotIn, r.subject, true}, {f.NotRecords, &r.id, true}} {
		for _, s := range c.sets {
			e, err := r.member(c.column, f.Tenant, s)
			if err != nil {
				return nil, err
			}
			if c.not {
				e = not(e)
			}
			every = append(every, e)
		}
	}
	return allOf(every), nil
}

// nobody is that a row is about no patient.
func (r *reacher) nobody() clause.Expression {
	switch {
	case r.subject == nil:
		return always()
	case r.m.own:
		return never()
	}
	return clause.Expr{SQL: "(? IS NULL OR ? = '')", Vars: []any{*r.subject, *r.subject}}
}

// among is that the ID in a column is one of some; nil is a column that rows do
// not have. MariaDB would find them in other cases too, and with spaces behind
// them.
func (r *reacher) among(column *clause.Column, some []string) clause.Expression {
	var ids []any
	for _, s := range some {
		if s != "" {
			ids = append(ids, s)
		}
	}
	if column == nil || len(ids) == 0 {
		return never()
	}
	in := clause.IN{Column: *column, Values: ids}
	if r.p.db.Name() != "mysql" {
		return in
	}
	return allOf([]clause.Expression{in, clause.Expr{SQL: "CAST(? AS BINARY) IN ?", Vars: []any{*column, ids}}})
}

// member is that the ID in a column belongs to a set; column is nil where rows
// have no such ID.
func (r *reacher) member(column *clause.Column, tenant string, s access.Set) (clause.Expression, error) {
	if u, ok := s.(access.Union); ok {
		parts := make([]clause.Expression, len(u))
		for i, s := range u {
			var err error
			if parts[i], err = r.member(column, tenant, s); err != nil {
				return nil, err
			}
		}
		return anyOf(parts), nil
	}
	if but, ok := s.(access.AllBut); ok {
		if column == nil {
			return never(), nil
		}
		return allOf([]clause.Expression{r.somebody(*column), not(r.among(column, but))}), nil
	}
	set, ok := s.(SetCondition)
	switch {
	case !ok:
		return nil, r.m.refuse("query", fmt.Sprintf("the authorizer's Filter has a %T, which cannot be told in SQL", s), "take a set of storage/accessstore or of storage.Members, or implement storage.SetCondition")
	case !sameDatabase(set.Database(), r.p.db):
		return nil, r.m.refuse("query", fmt.Sprintf("the authorizer's Filter has a %T of another database than the records'", s),
			"open the database with gorm.Open, make the store with it, and then install storage by db.Use(storage.New(...))")
	case column == nil:
		return never(), nil
	}
	e, err := set.Condition(tenant, *column)
	if err != nil {
		return nil, fmt.Errorf("storage: query %s: %w", r.m.table, err)
	}
	if e == nil {
		return nil, r.m.refuse("query", fmt.Sprintf("the authorizer's Filter has a %T without a condition", s), "return one from Condition, such as 1 = 0 for the empty set")
	}
	return allOf([]clause.Expression{r.somebody(*column), setTerm{e, r.own}}), nil
}

// somebody is that a column holds an ID: that of a record, and so of a patient's
// own, always does.
func (r *reacher) somebody(column clause.Column) clause.Expression {
	if column == r.id {
		return always()
	}
	return clause.Expr{SQL: "? IS NOT NULL AND ? <> ''", Vars: []any{column, column}}
}

// A constant is a condition that holds of every row or of none.
type constant string

func always() clause.Expression { return constant("1 = 1") }
func never() clause.Expression  { return constant("1 = 0") }

// Build implements clause.Expression.
func (c constant) Build(b clause.Builder) { _, _ = b.WriteString(string(c)) }

// A junction is several conditions in parentheses.
type junction struct {
	op    string
	exprs []clause.Expression
}

// Build implements clause.Expression.
func (j *junction) Build(b clause.Builder) {
	_ = b.WriteByte('(')
	for i, e := range j.exprs {
		if i > 0 {
			_, _ = b.WriteString(j.op)
		}
		e.Build(b)
	}
	_ = b.WriteByte(')')
}

// anyOf is that one of the conditions holds: none of none.
func anyOf(exprs []clause.Expression) clause.Expression {
	return join(" OR ", never(), always(), exprs)
}

// allOf is that each of the conditions holds.
func allOf(exprs []clause.Expression) clause.Expression {
	return join(" AND ", always(), never(), exprs)
}

// join leaves out what does not count, and is what alone decides.
func join(op string, neutral, decisive clause.Expression, exprs []clause.Expression) clause.Expression {
	var left []clause.Expression
	for _, e := range exprs {
		if c, ok := e.(constant); ok && c == decisive {
			return decisive
		} else if !ok {
			left = append(left, e)
		}
	}
	switch len(left) {
	case 0:
		return neutral
	case 1:
		return left[0]
	}
	return &junction{op, left}
}

// A negation is that a condition does not hold. Of one that is unknown neither
// it nor its negation does.
type negation struct{ of clause.Expression }

func not(e clause.Expression) clause.Expression {
	switch e {
	case always():
		return never()
	case never():
		return always()
	}
	return &negation{e}
}

// Build implements clause.Expression.
func (n *negation) Build(b clause.Builder) {
	_, _ = b.WriteString("NOT (")
	n.of.Build(b)
	_ = b.WriteByte(')')
}

// A setTerm is the condition of a set, in parentheses that it cannot leave. Its
// text is noted, so that the look at the finished statement leaves it out: it
// names tables that an app's condition may not.
type setTerm struct {
	clause.Expression
	own *ownTexts
}

// Build implements clause.Expression.
func (t setTerm) Build(b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		_ = b.AddError(errors.New("storage: query: unknown clause builder"))
		return
	}
	from := stmt.SQL.Len()
	stmt.WriteByte('(')
	t.Expression.Build(stmt)
	stmt.WriteByte(')')
	text := stmt.SQL.String()[from:]
	if inside := text[1 : len(text)-1]; strings.TrimSpace(inside) == "" || !words(inside, func(string, int) {}) {
		_ = stmt.AddError(&RefusedError{Op: "query", Table: stmt.Table, Why: "the condition of a set is empty, or has " + notPlain, Mend: "pass values as parameters"})
	}
	if t.own != nil {
		t.own.add(text)
	}
}

// ownTexts are the texts of the sets in a statement.
type ownTexts struct {
	texts map[string]bool
	older []*ownTexts // of an earlier finisher on the same chain, whose WHERE the statement still has
}

func (o *ownTexts) add(text string) {
	if o.texts == nil {
		o.texts = map[string]bool{}
	}
	o.texts[anonymous(text)] = true
}

// collectFrom finds what an earlier finisher has left in a statement's WHERE.
func (o *ownTexts) collectFrom(stmt *gorm.Statement) {
	if where, ok := stmt.Clauses["WHERE"].Expression.(clause.Where); ok {
		o.collect(where.Exprs)
	}
}

func (o *ownTexts) collect(exprs []clause.Expression) {
	for _, e := range exprs {
		switch e := e.(type) {
		case setTerm:
			if e.own != nil && e.own != o {
				o.older = append(o.older, e.own)
			}
		case brackets:
			o.collect(e.where.Exprs)
		case *junction:
			o.collect(e.exprs)
		case *negation:
			o.collect([]clause.Expression{e.of})
		}
	}
}

// without returns the text of a statement without those of its sets.
func (o *ownTexts) without(query string) string {
	if o == nil {
		return query
	}
	for _, older := range o.older {
		query = older.without(query)
	}
	if len(o.texts) == 0 {
		return query
	}
	query = anonymous(query)
	longest := func(a, b string) int { return len(b) - len(a) }
	for _, text := range slices.SortedFunc(maps.Keys(o.texts), longest) {
		query = strings.ReplaceAll(query, text, "(1)")
	}
	return query
}

// anonymous returns a text in which parameters have no numbers: GORM gives them
// others as a condition becomes part of a join.
func anonymous(sql string) string {
	if !strings.Contains(sql, "$") {
		return sql
	}
	var b strings.Builder
	for i := 0; i < len(sql); i++ {
		if c := sql[i]; c != '$' || i+1 == len(sql) || sql[i+1] < '0' || sql[i+1] > '9' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('?')
		for i+1 < len(sql) && sql[i+1] >= '0' && sql[i+1] <= '9' {
			i++
		}
	}
	return b.String()
}
