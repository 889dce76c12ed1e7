// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// Match finds records by a sealed field with a search option in its phi tag:
//
//	db.Where(storage.Match("Name", "smi ja")).Find(&patients)
//
// What is compared depends on the option. Both sides are brought to one form
// first, by the field's class: phone numbers to E.164, dates to ISO 8601, names
// without accents, and so on; case, spaces and punctuation never count.
//
//	search=exact   the whole value
//	search=name    records with a word that begins with each of the given ones,
//	               in any order, two letters or more (one of Chinese, Japanese
//	               or Korean); "Smith-Jones" is found as smith, jones and
//	               smithjones, "de la Cruz" as cruz and delacruz
//	search=words   records with each of the given words of a text
//	search=year    a query of four digits finds the dates of that year
//
// Several fields, separated by commas, are searched as one: each word may be in
// any of them, as in Match("Name, MaidenName", "jane roe"). Their options must
// be the same. A Sealed[[]string] is indexed with each of its strings.
//
// Match combines with other conditions, with other Matches, and under Or and
// Not. It needs the right to see its fields in full (else [ErrFilterOnHidden]),
// counts against Config.SearchLimits, and is recorded with the records that it
// found. Records that were soft-deleted keep their tokens and are not found
// until they are restored.
func Match(field, query string) clause.Expression { return match{field, query, false} }

// SoundsLike finds what [Match] finds by a field with search=name, and the
// records with words that sound like the given ones, such as Smyth for Smith.
// It compares whole words, by their Daitch-Mokotoff codes; words in other than
// Latin letters only as Match does.
func SoundsLike(field, query string) clause.Expression { return match{field, query, true} }

type match struct {
	field, query string
	sound        bool
}

// Build implements clause.Expression. It fails: storage resolves a Match
// before the statement is built.
func (m match) Build(b clause.Builder) {
	_, _ = b.WriteString("1 = 0")
	_ = b.AddError(&RefusedError{Op: "query", Why: "storage.Match on a statement that storage does not handle", Mend: "use it in Where on a model with PHI"})
}

// A resolved is a Match as SQL. It remembers what it was made of: a later
// statement of the same chain may have another principal.
type resolved struct {
	clause.Expr
	match
}

// Build implements clause.Expression.
func (r resolved) Build(b clause.Builder) { r.Expr.Build(b) }

// resolve replaces each Match in the statement's WHERE, and counts the search.
func (p *plugin) resolve(db *gorm.DB, m *model, q *search) error {
	c, ok := db.Statement.Clauses["WHERE"]
	if !ok {
		return nil
	}
	where, ok := c.Expression.(clause.Where)
	if !ok {
		return nil
	}
	exprs, err := p.resolveAll(db, m, q, where.Exprs)
	if err != nil {
		return err
	}
	q.narrow = narrow(exprs)
	c.Expression = clause.Where{Exprs: exprs}
	db.Statement.Clauses["WHERE"] = c
	if listingOf(db) != nil {
		return nil // counted once, for both of its statements
	}
	return p.limit(db.Statement.Context, m, q)
}

// narrow reports whether a Match is one of conditions that must all hold.
func narrow(exprs []clause.Expression) bool {
	found := false
	for _, e := range exprs {
		switch e := e.(type) {
		case resolved:
			found = true
		case brackets:
			found = found || narrow(e.where.Exprs)
		case clause.AndConditions:
			found = found || narrow(e.Exprs)
		case clause.OrConditions:
			return false
		}
	}
	return found
}

// reachBy is reach for a statement that may search. SQLite gathers no statistics
// by itself: it would rather read all rows of the tenant by their index than
// the few that the search, or a set of patients, has found. A plus before a
// column keeps it from that.
func (p *plugin) reachBy(m *model, f access.Filter, q *search) ([]clause.Expression, error) {
	out, err := p.reach(m, f, clause.CurrentTable, &q.own)
	if err != nil {
		return nil, err
	}
	few := q.narrow || !f.AllSubjects && !f.Nobody && len(f.Or) == 0
	if tenant, ok := out[0].(clause.Eq); ok && few && p.db.Name() == "sqlite" {
		out[0] = clause.Expr{SQL: "+? = ?", Vars: []any{tenant.Column, tenant.Value}}
	}
	return out, nil
}

func (p *plugin) resolveAll(db *gorm.DB, m *model, q *search, exprs []clause.Expression) ([]clause.Expression, error) {
	out := slices.Clone(exprs)
	for i, e := range exprs {
		var err error
		switch e := e.(type) {
		case match:
			out[i], err = p.resolveOne(db, m, q, e)
		case resolved: // by an earlier finisher on the same chain, as Count before Find
			out[i], err = p.resolveOne(db, m, q, e.match)
		case brackets:
			e.where.Exprs, err = p.resolveAll(db, m, q, e.where.Exprs)
			out[i] = e
		case clause.Expr: // by itself too: GORM may put brackets around one
			if !words(e.SQL, func(string, int) {}) {
				err = m.refuse("query", "a condition has "+notPlain, "pass values as parameters")
				break
			}
			e.Vars, err = p.resolveVars(db, m, q, e.Vars)
			out[i] = e
		case clause.AndConditions:
			e.Exprs, err = p.resolveAll(db, m, q, e.Exprs)
			out[i] = e
		case clause.OrConditions:
			e.Exprs, err = p.resolveAll(db, m, q, e.Exprs)
			out[i] = e
		case clause.NotConditions:
			e.Exprs, err = p.resolveAll(db, m, q, e.Exprs)
			out[i] = e
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resolveVars replaces a Match among the parameters of a condition:
// Where("active OR ?", storage.Match(...)).
func (p *plugin) resolveVars(db *gorm.DB, m *model, q *search, vars []any) ([]any, error) {
	out := slices.Clone(vars)
	for i, v := range vars {
		var err error
		switch v := v.(type) {
		case match:
			out[i], err = p.resolveOne(db, m, q, v)
		case resolved:
			out[i], err = p.resolveOne(db, m, q, v.match)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// A search has at most so many bytes and, as SQL, subselects.
const (
	maxQuery = 1000
	maxTerms = 64
)

func (p *plugin) resolveOne(db *gorm.DB, m *model, q *search, e match) (clause.Expression, error) {
	ctx := db.Statement.Context
	fields, kind, err := m.searched(e)
	if err != nil {
		return nil, err
	}
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if p.view(ctx, f) != minimize.Reveal {
			return nil, m.filterOnHidden(ctx, f)
		}
		if !slices.Contains(q.fields, f.Name) {
			q.fields = append(q.fields, f.Name)
		}
	}
	if len(e.query) > maxQuery {
		return nil, m.refuse("query", fmt.Sprintf("a search for more than %d bytes", maxQuery), "ask for fewer words")
	}
	what, err := queryOf(fields[0], kind, e.query)
	if err != nil {
		return nil, m.refuse("query", err.Error(), "ask for more, or for something else")
	}
	q.matches++
	if q.terms += what.size(); q.terms > maxTerms {
		return nil, m.refuse("query", fmt.Sprintf("a search for more than %d things", maxTerms), "ask for fewer words")
	}
	tenant := scope.Principal().Tenant
	keys, err := p.indexKeys(ctx, db, tenant)
	if errors.Is(err, crypto.ErrNoKey) { // the tenant has no record yet
		return resolved{clause.Expr{SQL: "1 = 0"}, e}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storage: query %s: %w", m.table, err)
	}
	for _, f := range slices.Clone(fields) { // while a job renames it, a field has two names
		if f.former != nil {
			fields = append(fields, f.former)
		}
	}
	names := make([]any, len(fields))
	for i, f := range fields {
		names[i] = f.logical
	}
	id := clause.Column{Table: clause.CurrentTable, Name: m.schema.PrioritizedPrimaryField.DBName}
	var sql strings.Builder
	var vars []any
	what.build(&sql, func(terms []term) {
		var tokens []any
		for _, f := range fields {
			for _, key := range keys { // while keys rotate a record may have those of one only
				for _, t := range tokensOf(key, f, terms) {
					tokens = append(tokens, t)
				}
			}
		}
		q.selects++
		sql.WriteString("? IN (SELECT record_id FROM phi_index WHERE tenant_id = ? AND field IN ? AND token IN ?)")
		vars = append(vars, id, tenant, names, tokens)
	})
	return resolved{clause.Expr{SQL: "(" + sql.String() + ")", Vars: vars}, e}, nil
}

// searched returns the fields that a Match names and how they are searched.
func (m *model) searched(e match) (fields []*field, kind string, err error) {
	for name := range strings.SplitSeq(e.field, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(m.sealed, func(f *field) bool { return f.Name == name || f.DBName == name })
		if i < 0 || len(m.sealed[i].tag.Search) == 0 {
			return nil, "", m.refuse("query", "storage.Match on a field without search", "add search=exact or search=name to its phi tag, and rebuild the index")
		}
		f := m.sealed[i]
		k := f.kind(e)
		switch {
		case k == "":
			return nil, "", m.refuse("query", "storage.SoundsLike on the field "+f.Name+", which has no search=name", "use storage.Match")
		case kind != "" && k != kind:
			return nil, "", m.refuse("query", "storage.Match on several fields of different search options", "use one Match for each, with Or")
		}
		kind, fields = k, append(fields, f)
	}
	return fields, kind, nil
}

// kind is the index of the field that answers a question, "" where none does.
func (f *field) kind(e match) string {
	has := func(kind string) bool { return slices.Contains(f.tag.Search, kind) }
	switch {
	case has(minimize.SearchName) && e.sound:
		return kindSound
	case e.sound:
		return ""
	case has(minimize.SearchYear) && isYear(strings.TrimSpace(e.query)):
		return minimize.SearchYear
	case has(minimize.SearchName):
		return minimize.SearchName
	case has(minimize.SearchWords):
		return minimize.SearchWords
	case has(minimize.SearchExact):
		return minimize.SearchExact
	}
	return minimize.SearchYear // which then says what it wants
}

func (p *plugin) indexKeys(ctx context.Context, db *gorm.DB, tenant string) ([]*crypto.IndexKey, error) {
	if tx, ok := unwrap(db.Statement.ConnPool).(*txConn); ok {
		return tx.keys.IndexKeys(ctx, tenant)
	}
	return p.keys.IndexKeys(ctx, &keyRows{plugin: p, conn: inner(db.Statement.ConnPool)}, tenant)
}

// A node is what a search asks for: any of some terms, or all or any of other
// nodes.
type node struct {
	terms    []term
	all, any []node
}

func (n node) size() int {
	size := min(len(n.terms), 1)
	for _, k := range slices.Concat(n.all, n.any) {
		size += k.size()
	}
	return size
}

// build writes the node in brackets; leaf writes what asks for any of terms.
func (n node) build(b *strings.Builder, leaf func(terms []term)) {
	if len(n.terms) > 0 {
		leaf(n.terms)
		return
	}
	kids, op := n.all, " AND "
	if len(n.any) > 0 {
		kids, op = n.any, " OR "
	}
	b.WriteByte('(')
	for i, k := range kids {
		if i > 0 {
			b.WriteString(op)
		}
		k.build(b, leaf)
	}
	b.WriteByte(')')
}

// queryOf says what the records must have in their index.
func queryOf(f *field, kind, query string) (node, error) {
	switch kind {
	case minimize.SearchName, kindSound:
		if n := nameQuery(query, kind == kindSound); len(n.all) > 0 {
			return n, nil
		}
		return node{}, errors.New("a search by name needs a word of two letters")
	case minimize.SearchWords:
		var n node
		for _, w := range textWords(query) {
			n.all = append(n.all, node{terms: []term{{kind, w}}})
		}
		if len(n.all) == 0 {
			return node{}, errors.New("a search by words needs a word of two letters")
		}
		return n, nil
	case minimize.SearchYear:
		if y := strings.TrimSpace(query); isYear(y) {
			return node{terms: []term{{kind, y}}}, nil
		}
		return node{}, errors.New("a search by year needs four digits")
	}
	v := f.normal(query)
	if v == "" {
		return node{}, errors.New("the value to search for is empty")
	}
	return node{terms: []term{{kind, v}}}, nil
}
