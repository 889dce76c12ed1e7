// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// A storedRow is a row as its table holds it, softly deleted ones included.
// Nothing is opened, and nothing is said about whether it would open.
type storedRow struct {
	row
	cells [][]byte // one for each of model.sealed; nil is NULL
	extra []any    // one for each of selection.extra, as the driver gives it
}

// A selection says which stored rows of a model to read.
type selection struct {
	m       *model
	tenant  string
	subject string   // rows about this subject only; "" is every one
	records []string // these rows only; nil is every one
	after   string   // rows whose ID is greater
	limit   int      // 0 is no limit
	lock    bool     // FOR UPDATE; the connection must be a transaction's
	extra   []string // further columns to read
	held    []string // rows of which one of these columns is not NULL; nil is every one

	everyone  bool   // rows of every tenant
	movedFrom string // rows that a merge moved from this subject; "" is every one

	err error // what came between: nothing is read
}

// stored reads a page of rows in the order of their IDs. The ID of the last
// one is where the next page begins, so that a long walk holds no cursor and
// no transaction.
func (p *plugin) stored(ctx context.Context, conn gorm.ConnPool, s selection) ([]*storedRow, error) {
	if s.err != nil {
		return nil, s.err
	}
	m := s.m
	columns := []string{m.column("ID"), m.column("TenantID"), m.column("Version")}
	if m.subject != nil {
		columns = append(columns, m.subject.DBName)
	}
	fixed := len(columns)
	for _, f := range m.sealed {
		columns = append(columns, f.DBName)
	}
	columns = append(columns, s.extra...)
	db := p.rowsOf(ctx, conn, s).Select(columns).Order(clause.OrderByColumn{Column: clause.Column{Name: columns[0]}})
	if s.limit > 0 {
		db = db.Limit(s.limit)
	}
	if s.lock {
		db = db.Clauses(clause.Locking{Strength: "UPDATE"})
	}
	rows, err := db.Rows()
	if err != nil {
		return nil, fmt.Errorf("storage: read %s: %w", m.table, err)
	}
	defer func() { _ = rows.Close() }()
	var out []*storedRow
	for rows.Next() {
		var tenant, subject sql.NullString
		var version sql.NullInt64
		r := &storedRow{row: row{model: m}, cells: make([][]byte, len(m.sealed)), extra: make([]any, len(s.extra))}
		raw := make([]any, len(m.sealed))
		dest := []any{&r.record, &tenant, &version, &subject}[:fixed]
		for i := range raw {
			dest = append(dest, &raw[i])
		}
		for i := range r.extra {
			dest = append(dest, &r.extra[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("storage: read %s: a row holds another type than its model: call storage.Migrate", m.table) // the cause may quote values
		}
		for i, v := range raw {
			r.cells[i] = storedBytes(v)
		}
		r.tenant, r.version, r.subject = tenant.String, version.Int64, subject.String
		if m.own {
			r.subject = r.record
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("storage: read %s: %w", m.table, err)
	}
	return out, nil
}

// storedBytes are the bytes of a sealed column: whatever is not bytes or text
// is no cell, and stays none.
func storedBytes(v any) []byte {
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return fmt.Append(nil, v)
}

// countStored counts the rows of a selection.
func (p *plugin) countStored(ctx context.Context, conn gorm.ConnPool, s selection) (int64, error) {
	if s.err != nil {
		return 0, s.err
	}
	var n int64
	if err := p.rowsOf(ctx, conn, s).Count(&n).Error; err != nil {
		return 0, fmt.Errorf("storage: count %s: %w", s.m.table, err)
	}
	return n, nil
}

// rowsOf is the statement of a selection without columns and order.
func (p *plugin) rowsOf(ctx context.Context, conn gorm.ConnPool, s selection) *gorm.DB {
	col := func(name string) clause.Column { return clause.Column{Name: name} }
	m := s.m
	db := p.own(ctx, conn).Table(m.table)
	if !s.everyone {
		db = db.Where(clause.Eq{Column: col(m.column("TenantID")), Value: s.tenant})
	}
	if len(s.held) > 0 {
		var held []clause.Expression
		for _, name := range s.held {
			held = append(held, clause.Neq{Column: col(name), Value: nil})
		}
		db = db.Where(clause.Or(held...))
	}
	if s.movedFrom != "" {
		moved := p.own(ctx, conn).Model(&mergeRow{}).Select("record_id").Where("tenant_id = ? AND from_id = ? AND entity = ?", s.tenant, s.movedFrom, m.bare())
		db = db.Where("? IN (?)", col(m.column("ID")), moved)
	}
	if s.after != "" {
		db = db.Where(clause.Gt{Column: col(m.column("ID")), Value: s.after})
	}
	if s.records != nil {
		db = db.Where(clause.IN{Column: col(m.column("ID")), Values: anys(s.records)})
	}
	switch {
	case s.subject == "":
	case m.own:
		db = db.Where(clause.Eq{Column: col(m.column("ID")), Value: s.subject})
	case m.subject != nil:
		db = db.Where(clause.Eq{Column: col(m.subject.DBName), Value: s.subject})
	default: // about nobody
		db = db.Where("1 = 0")
	}
	return db
}

// column returns the column of one of the Record's fields.
func (m *model) column(name string) string { return m.schema.LookUpField(name).DBName }

func anys(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

// allModels returns the model of every table with PHI that the database knows,
// in the order of the tables' names. A job that left one out would leave its
// cells under a key that the job then retires: a table whose model this process
// has not met is an error that names it.
func (p *plugin) allModels(ctx context.Context) ([]*model, error) {
	if err := p.knownTables(ctx); err != nil {
		return nil, err
	}
	p.models.mu.RLock()
	m, known := p.models.tables[filesTable]
	p.models.mu.RUnlock()
	if known && m == nil { // another process has opened the files
		if _, err := p.fileModel(); err != nil {
			return nil, err
		}
	}
	p.models.mu.RLock()
	defer p.models.mu.RUnlock()
	var out []*model
	var unknown []string
	for name, m := range p.models.tables {
		switch {
		case m != nil:
			out = append(out, m)
		default:
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, &RefusedError{Op: "walk", Table: strings.Join(unknown, ", "), Why: "the database has a table with PHI whose model this process does not know",
			Mend: "pass every model to storage.Migrate first; if the table was dropped for good, delete its row from phi_tables"}
	}
	slices.SortFunc(out, func(a, b *model) int { return strings.Compare(a.table, b.table) })
	return out, nil
}
