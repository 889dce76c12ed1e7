// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// Members returns a set that a table of the app's own tells: the IDs which the
// field holds in those of a tenant's rows of the model of which where is true,
// soft-deleted ones left out. It serves relations that an app keeps already,
// such as the patients of somebody's encounters:
//
//	storage.Members(db, &Encounter{}, "PatientID", "practitioner_id = ? AND begun <= ? AND ended > ?", who.ID, at, at)
//
// The model has the tenant in a column tenant_id, as [Record] does. where names
// columns of the model only, none of them sealed, and compares as the database
// does: MariaDB, without a binary collation, takes "u-1" and "U-1" for one.
//
// It is about what the app keeps and nobody checks who writes that: whoever can
// book an encounter can reach the patient. What is wrong with it is the error
// of Has and Condition.
func Members(db *gorm.DB, model any, field, where string, args ...any) SetCondition {
	return &members{db: db, model: model, field: field, where: where, args: args}
}

type members struct {
	db           *gorm.DB
	model        any
	field, where string
	args         []any
}

// membersChunk is how many IDs one statement of Has asks about.
const membersChunk = 1000

// Database implements [SetCondition].
func (s *members) Database() *gorm.DB { return s.db }

// parse checks the set, and returns its table.
func (s *members) parse() (p *plugin, sch *schema.Schema, column string, err error) {
	if p, err = pluginOf(s.db); err != nil {
		return nil, nil, "", err
	}
	if err := areModels("members", s.model); err != nil {
		return nil, nil, "", err
	}
	stmt := &gorm.Statement{DB: p.db}
	if err := stmt.Parse(s.model); err != nil {
		return nil, nil, "", fmt.Errorf("storage: members: %w", err)
	}
	refuse := func(why, mend string) (*plugin, *schema.Schema, string, error) {
		return nil, nil, "", &RefusedError{Op: "members", Table: stmt.Table, Why: why, Mend: mend}
	}
	m, err := p.modelFor(stmt.Schema)
	if err != nil {
		return nil, nil, "", err
	}
	sealed := func(f *schema.Field) bool { return m != nil && m.phi(f) != nil && m.phi(f).sealed }
	f := stmt.Schema.LookUpField(s.field)
	switch {
	case f == nil || f.DBName == "" || sealed(f):
		return refuse("the model has no field in clear called "+s.field, "name the one that holds the ID")
	case stmt.Schema.LookUpField("tenant_id") == nil:
		return refuse("the model has no column tenant_id", "embed storage.Record, or give it one")
	case strings.TrimSpace(s.where) == "":
		return refuse("where is empty, so that every row would count", "say which rows count")
	}
	for _, c := range stmt.Schema.QueryClauses {
		if _, ok := c.(gorm.SoftDeleteQueryClause); !ok {
			return refuse(fmt.Sprintf("the model has a %T, whose rows would not be left out", c), "use gorm.DeletedAt")
		}
	}
	var bad string
	plain := scan(s.where, func(w string, _, end int) {
		f := stmt.Schema.LookUpField(w)
		switch {
		case bad != "" || f != nil && f.DBName == w && !sealed(f):
		case called(s.where[end:]) && !mayCall(w), !mayStand(w):
			bad = w
		}
	})
	if bad != "" {
		return refuse("where has the word "+bad+", which is no column in clear of the model", "name columns as the database does, and pass values as parameters")
	}
	if !plain {
		return refuse("where has "+notPlain, "pass values as parameters")
	}
	return p, stmt.Schema, f.DBName, nil
}

// mayStand reports whether a word may stand in a condition without being a
// column.
func mayStand(word string) bool {
	switch word {
	case "and", "or", "not", "in", "is", "null", "like", "between", "true", "false", "case", "when", "then", "else", "end":
		return true
	case "select", "from", "where", "exists", "any", "all", "on", "by", "having", "limit", "offset":
		return false
	}
	return strings.Trim(word, "0123456789") == "" || mayCall(word)
}

// rows is the SELECT of a column of the rows that count, as its text and its
// parameters.
func (s *members) rows(p *plugin, sch *schema.Schema, column, tenant string) (string, []any) {
	quoted, own := p.quote(column), p.quote(sch.LookUpField("tenant_id").DBName)
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE %s = ? AND ", quoted, p.quote(sch.Table), own)
	vars := []any{tenant}
	if p.db.Name() == "mysql" {
		sql += fmt.Sprintf("CAST(%s AS BINARY) = ? AND ", own)
		vars = append(vars, tenant)
	}
	for _, c := range sch.QueryClauses { // parse has seen that each is one
		if c, ok := c.(gorm.SoftDeleteQueryClause); ok && c.ZeroValue.Valid {
			sql += p.quote(c.Field.DBName) + " = ? AND "
			vars = append(vars, c.ZeroValue.String)
		} else if ok {
			sql += p.quote(c.Field.DBName) + " IS NULL AND "
		}
	}
	return sql + quoted + " IS NOT NULL AND (" + s.where + ")", append(vars, s.args...)
}

// Condition implements [SetCondition].
func (s *members) Condition(tenant string, column clause.Column) (clause.Expression, error) {
	p, sch, name, err := s.parse()
	if err != nil {
		return nil, err
	}
	sql, vars := s.rows(p, sch, name, tenant)
	in := clause.Expr{SQL: "? IN (" + sql + ")", Vars: append([]any{column}, vars...)}
	if p.db.Name() != "mysql" {
		return in, nil
	}
	// The first finds the rows by their index, in any case and with spaces
	// behind them; the second leaves out those of another spelling.
	quoted := p.quote(name)
	exact := strings.Replace(sql, "SELECT "+quoted, "SELECT CAST("+quoted+" AS BINARY)", 1)
	return allOf([]clause.Expression{in, clause.Expr{SQL: "CAST(? AS BINARY) IN (" + exact + ")", Vars: append([]any{column}, vars...)}}), nil
}

// Has implements [access.Set].
func (s *members) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	p, sch, name, err := s.parse()
	if err != nil {
		return nil, err
	}
	conn := inner(p.pool)
	if t, ok := ctx.Value(txKey{}).(*txConn); ok && t.plugin == p {
		conn = t.Tx
	}
	sql, vars := s.rows(p, sch, name, tenant)
	there := map[string]bool{}
	for from := 0; from < len(ids); from += membersChunk {
		chunk := ids[from:min(from+membersChunk, len(ids))]
		var found []string
		err := p.own(ctx, conn).Raw(sql+" AND "+p.quote(name)+" IN ?", append(vars[:len(vars):len(vars)], chunk)...).Scan(&found).Error
		if err != nil {
			return nil, p.clean("members", sch.Table, err)
		}
		for _, id := range found {
			there[id] = true
		}
	}
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = id != "" && there[id]
	}
	return out, nil
}
