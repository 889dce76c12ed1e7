// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// Match finds records by a sealed field tagged search=exact or search=name:
//
//	db.Where(storage.Match("Name", "smi ja")).Find(&patients)
//
// An exact search ignores case, spaces and punctuation; a name search finds
// the records with a word that starts with each of the given ones (two letters
// or more). It needs the right to see the field in full, and is recorded.
func Match(field, query string) clause.Expression { return match{field, query} }

type match struct{ field, query string }

// Build implements clause.Expression. It fails: storage resolves a Match
// before the statement is built.
func (m match) Build(b clause.Builder) {
	_, _ = b.WriteString("1 = 0")
	_ = b.AddError(&RefusedError{Op: "query", Why: "storage.Match on a statement that storage does not handle", Mend: "use it in Where on a model with PHI"})
}

// resolve replaces each Match in the statement's WHERE.
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
	c.Expression = clause.Where{Exprs: exprs}
	db.Statement.Clauses["WHERE"] = c
	return nil
}

func (p *plugin) resolveAll(db *gorm.DB, m *model, q *search, exprs []clause.Expression) ([]clause.Expression, error) {
	out := slices.Clone(exprs)
	for i, e := range exprs {
		var err error
		switch e := e.(type) {
		case match:
			out[i], err = p.resolveOne(db, m, q, e)
		case resolved: // by an earlier finisher on the same chain, as Count before Find
			q.fields = append(q.fields, e.field)
			q.selects += len(e.Exprs)
		case brackets:
			e.where.Exprs, err = p.resolveAll(db, m, q, e.where.Exprs)
			out[i] = e
		case clause.Expr: // by itself too: GORM may put brackets around one
			if !words(e.SQL, func(string, int) {}) {
				err = m.refuse("query", "a condition has "+notPlain, "pass values as parameters")
			}
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

func (p *plugin) resolveOne(db *gorm.DB, m *model, q *search, e match) (clause.Expression, error) {
	ctx := db.Statement.Context
	i := slices.IndexFunc(m.sealed, func(f *field) bool { return f.Name == e.field || f.DBName == e.field })
	if i < 0 || len(m.sealed[i].tag.Search) == 0 {
		return nil, m.refuse("query", "storage.Match on a field without search", "add search=exact or search=name to its phi tag, and rebuild the index")
	}
	f := m.sealed[i]
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	if p.view(ctx, f) != minimize.Reveal {
		return nil, m.filterOnHidden(ctx, f)
	}
	q.fields = append(q.fields, f.Name)
	tenant := scope.Principal().Tenant
	keys, err := p.indexKeys(ctx, db, tenant)
	if errors.Is(err, crypto.ErrNoKey) { // the tenant has no record yet
		return clause.Expr{SQL: "1 = 0"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storage: query %s: %w", m.table, err)
	}
	terms, err := queryTerms(f, e.query)
	if err != nil {
		return nil, m.refuse("query", err.Error(), "ask for more")
	}
	q.selects += len(terms)
	var and []clause.Expression
	for _, t := range terms {
		tokens := make([]any, len(keys)) // while keys rotate a record may have those of one only
		for i, key := range keys {
			tokens[i] = key.Token(f.logical, t.kind, t.value)
		}
		and = append(and, clause.Expr{
			SQL:  "? IN (SELECT record_id FROM phi_index WHERE tenant_id = ? AND field = ? AND token IN ?)",
			Vars: []any{clause.Column{Table: clause.CurrentTable, Name: m.schema.PrioritizedPrimaryField.DBName}, tenant, f.logical, tokens},
		})
	}
	return resolved{clause.AndConditions{Exprs: and}, f.Name}, nil
}

// A resolved is a Match as SQL: one subselect a token.
type resolved struct {
	clause.AndConditions
	field string
}

func (p *plugin) indexKeys(ctx context.Context, db *gorm.DB, tenant string) ([]*crypto.IndexKey, error) {
	if tx, ok := unwrap(db.Statement.ConnPool).(*txConn); ok {
		return tx.keys.IndexKeys(ctx, tenant)
	}
	return p.keys.IndexKeys(ctx, &keyRows{plugin: p, conn: inner(db.Statement.ConnPool)}, tenant)
}

// queryTerms are the terms that a record must have, one a word.
func queryTerms(f *field, query string) ([]term, error) {
	if slices.Contains(f.tag.Search, kindName) {
		var out []term
		for _, w := range nameWords(query) {
			if r := []rune(w); len(r) >= minPrefix {
				out = append(out, term{kindName, string(r[:min(len(r), maxPrefix)])})
			}
		}
		if len(out) == 0 {
			return nil, errors.New("a name search needs a word of two letters")
		}
		return out, nil
	}
	v := exactForm(f.tag.Class, query)
	if v == "" {
		return nil, errors.New("the value to search for is empty")
	}
	return []term{{kindExact, v}}, nil
}

// exactForm is what an exact search compares: NFKC, lower case; of everything
// but e-mail addresses and URLs only the letters and digits.
func exactForm(class minimize.Class, s string) string {
	s = strings.ToLower(norm.NFKC.String(strings.TrimSpace(s)))
	if class == minimize.Email || class == minimize.URL {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			return r
		}
		return -1
	}, s)
}

// nameWords splits a name into words, folded: lower case, without accents.
func nameWords(s string) []string {
	folded := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsMark(r), r == '\'', r == '’':
			return -1
		case unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return ' '
	}, norm.NFKD.String(s))
	return strings.Fields(folded)
}
