// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
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

// An indexRow is one search token of one record. Tokens are keyed hashes;
// equal values have equal tokens, so the table tells how often a value occurs.
type indexRow struct {
	TenantID    string `gorm:"primaryKey;size:64;uniqueIndex:phi_index_unique,priority:1;index:phi_index_record,priority:1"`
	Field       string `gorm:"primaryKey;size:60;uniqueIndex:phi_index_unique,priority:2"`
	Token       []byte `gorm:"primaryKey;size:32"`
	RecordID    string `gorm:"primaryKey;size:36;index:phi_index_record,priority:2"`
	SubjectID   string `gorm:"size:36;not null"`
	KeyVersion  uint32 `gorm:"not null"`
	UniqueToken []byte `gorm:"size:32;uniqueIndex:phi_index_unique,priority:3"` // of a unique field; NULL in all other rows
}

func (indexRow) TableName() string { return "phi_index" }

const (
	kindExact  = "exact"
	kindName   = "name"
	kindUnique = "unique"

	minPrefix = 2  // letters of a word that name search starts with
	maxPrefix = 16 // longer prefixes find nothing more
)

// padTo are the sizes that the tokens of a name are padded to, so that their
// number does not tell its length.
var padTo = [...]int{8, 16, 32, 64}

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
	key, err := p.indexKey(ctx, db, tenant)
	if errors.Is(err, crypto.ErrNoKey) { // the tenant has no record yet
		return clause.Expr{SQL: "1 = 0"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storage: query %s: %w", m.table, err)
	}
	tokens, err := queryTokens(key, f, e.query)
	if err != nil {
		return nil, m.refuse("query", err.Error(), "ask for more")
	}
	q.selects += len(tokens)
	var and []clause.Expression
	for _, t := range tokens {
		and = append(and, clause.Expr{
			SQL:  "? IN (SELECT record_id FROM phi_index WHERE tenant_id = ? AND field = ? AND token = ?)",
			Vars: []any{clause.Column{Table: clause.CurrentTable, Name: m.schema.PrioritizedPrimaryField.DBName}, tenant, f.logical, t},
		})
	}
	return resolved{clause.AndConditions{Exprs: and}, f.Name}, nil
}

// A resolved is a Match as SQL: one subselect a token.
type resolved struct {
	clause.AndConditions
	field string
}

func (p *plugin) indexKey(ctx context.Context, db *gorm.DB, tenant string) (*crypto.IndexKey, error) {
	if tx, ok := unwrap(db.Statement.ConnPool).(*txConn); ok {
		return p.keys.IndexKey(ctx, &keyRows{plugin: p, conn: tx.Tx}, tenant)
	}
	return p.keys.IndexKey(ctx, &keyRows{plugin: p, conn: inner(db.Statement.ConnPool)}, tenant)
}

// queryTokens are the tokens that a record must have, one a word.
func queryTokens(key *crypto.IndexKey, f *field, query string) ([][]byte, error) {
	if slices.Contains(f.tag.Search, kindName) {
		var out [][]byte
		for _, w := range nameWords(query) {
			if r := []rune(w); len(r) >= minPrefix {
				out = append(out, key.Token(f.logical, kindName, string(r[:min(len(r), maxPrefix)])))
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
	return [][]byte{key.Token(f.logical, kindExact, v)}, nil
}

// index makes the tokens of a field's new value.
func (o *op) index(r *row, f *field, plain []byte) error {
	if !f.indexed() {
		return nil
	}
	key, err := o.tx.keys.IndexKey(o.ctx, r.tenant)
	if err != nil {
		return fmt.Errorf("storage: index %s: %w", f.logical, err)
	}
	var tokens [][]byte
	exact := exactForm(f.tag.Class, string(plain))
	for _, kind := range f.tag.Search {
		switch kind {
		case kindExact:
			if exact != "" {
				tokens = append(tokens, key.Token(f.logical, kindExact, exact))
			}
		case kindName:
			for _, w := range nameWords(string(plain)) {
				runes := []rune(w)
				for n := minPrefix; n <= min(len(runes), maxPrefix); n++ {
					tokens = append(tokens, key.Token(f.logical, kindName, string(runes[:n])))
				}
			}
			tokens = pad(tokens)
		}
	}
	tokens = distinct(tokens)
	var uniqueToken []byte
	if f.tag.Unique && exact != "" {
		uniqueToken = key.Token(f.logical, kindUnique, exact)
		if len(tokens) == 0 {
			tokens = [][]byte{uniqueToken}
		}
	}
	mathrand.Shuffle(len(tokens), func(i, j int) { tokens[i], tokens[j] = tokens[j], tokens[i] })
	for i, t := range tokens {
		row := indexRow{TenantID: r.tenant, Field: f.logical, Token: t, RecordID: r.record, SubjectID: r.subject, KeyVersion: key.Version()}
		if i == 0 {
			row.UniqueToken = uniqueToken
		}
		o.tokens[r] = append(o.tokens[r], row)
	}
	return nil
}

// pad adds random tokens up to the next size, and cuts what is over the last.
func pad(tokens [][]byte) [][]byte {
	tokens = distinct(tokens)
	size := padTo[len(padTo)-1]
	for _, n := range padTo {
		if len(tokens) <= n {
			size = n
			break
		}
	}
	if len(tokens) > size {
		return tokens[:size]
	}
	for len(tokens) < size {
		t := make([]byte, 32)
		_, _ = rand.Read(t) // never fails: crypto/rand
		tokens = append(tokens, t)
	}
	return tokens
}

func distinct(tokens [][]byte) [][]byte {
	seen := make(map[string]bool, len(tokens))
	return slices.DeleteFunc(tokens, func(t []byte) bool {
		if seen[string(t)] {
			return true
		}
		seen[string(t)] = true
		return false
	})
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
