// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/crypto"
)

// Migrate makes the SDK's own tables and the tables of the models, checks
// their tags, and puts a constraint on every sealed column that only a cell
// fits: plaintext written by mistake, from any client, is refused by the
// database. It may be called at every start.
//
// It never drops a column or a row. A sealed column that already holds
// something else is an error: seal existing plaintext into a new column.
func Migrate(ctx context.Context, db *gorm.DB, models ...any) error {
	p, err := pluginOf(db)
	if err != nil {
		return err
	}
	if err := p.tables(ctx, &metaRow{}, &tenantKey{}, &subjectKey{}, &outboxRow{}, &indexRow{}, &tableRow{}); err != nil {
		return fmt.Errorf("storage: migrate: own tables: %w", err)
	}
	meta := metaRow{ID: 1, DatabaseID: uuid.NewString(), Generation: 1}
	if err := p.own(ctx, inner(p.pool)).Clauses(clause.OnConflict{DoNothing: true}).Create(&meta).Error; err != nil {
		return fmt.Errorf("storage: migrate: phi_meta: %w", err)
	}
	if err := p.signMeta(ctx); err != nil {
		return fmt.Errorf("storage: migrate: %w", err)
	}
	parsed := make([]*model, len(models))
	for i, v := range models {
		stmt := &gorm.Statement{DB: db}
		if err := stmt.Parse(v); err != nil {
			return fmt.Errorf("storage: migrate: %w", err)
		}
		if parsed[i], err = p.modelOf(&gorm.DB{Config: db.Config, Statement: stmt}); err != nil {
			return err
		}
	}
	if err := p.tables(ctx, models...); err != nil {
		return fmt.Errorf("storage: migrate: %w", err)
	}
	for _, m := range parsed {
		if m == nil {
			continue
		}
		if err := p.own(ctx, inner(p.pool)).Clauses(clause.OnConflict{DoNothing: true}).Create(&tableRow{Name: m.bare()}).Error; err != nil {
			return fmt.Errorf("storage: migrate: phi_tables: %w", err)
		}
		for _, f := range m.sealed {
			if err := p.constrain(ctx, m, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// tables makes missing tables, columns and indexes. On SQLite AutoMigrate would
// do more: to change a column's type or to add a check it copies the table and
// drops the old one, which fires the cascades of its children and takes its
// triggers along.
func (p *plugin) tables(ctx context.Context, models ...any) error {
	if p.db.Name() != "sqlite" {
		return p.own(ctx, inner(p.pool)).AutoMigrate(models...)
	}
	m := p.own(ctx, inner(p.pool)).Migrator()
	if r, ok := m.(interface{ ReorderModels([]any, bool) []any }); ok {
		models = r.ReorderModels(models, true) // with join tables
	}
	for _, v := range models {
		if !m.HasTable(v) {
			if err := m.CreateTable(v); err != nil {
				return err
			}
			continue
		}
		stmt := &gorm.Statement{DB: p.db}
		if err := stmt.Parse(v); err != nil {
			return err
		}
		for _, name := range stmt.Schema.DBNames {
			if f := stmt.Schema.FieldsByDBName[name]; !f.IgnoreMigration && !m.HasColumn(v, name) {
				if err := m.AddColumn(v, name); err != nil {
					return err
				}
			}
		}
		for _, index := range stmt.Schema.ParseIndexes() {
			if !m.HasIndex(v, index.Name) {
				if err := m.CreateIndex(v, index.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// constrain puts the constraint on one sealed column.
func (p *plugin) constrain(ctx context.Context, m *model, f *field) error {
	quote := func(name string) string {
		var b strings.Builder
		p.db.QuoteTo(&b, name)
		return b.String()
	}
	run := func(sql string, args ...any) error {
		if _, err := inner(p.pool).ExecContext(ctx, sql, args...); err != nil {
			return fmt.Errorf("storage: migrate %s.%s: constraint: %w", m.table, f.DBName, err)
		}
		return nil
	}
	table, column, name := quote(m.table), quote(f.DBName), constraintName(m.table, f.DBName)
	var bad int64
	count := fmt.Sprintf("SELECT count(*) FROM %s WHERE NOT (%s)", table, p.isCell(column))
	if err := inner(p.pool).QueryRowContext(ctx, count).Scan(&bad); err != nil {
		return fmt.Errorf("storage: migrate %s.%s: look for plaintext: %w", m.table, f.DBName, err)
	}
	if bad > 0 {
		return fmt.Errorf("storage: migrate %s.%s: %d rows hold something that is no cell: give the sealed field a new column, and write the old values through it", m.table, f.DBName, bad)
	}
	switch p.db.Name() {
	case "sqlite":
		// Triggers, because adding a CHECK would rebuild the table, which
		// fires its children's cascades.
		for _, on := range []string{"INSERT", "UPDATE"} {
			in, bare := "", m.table
			if i := strings.LastIndexByte(bare, '.'); i >= 0 {
				in, bare = bare[:i+1], bare[i+1:]
			}
			trigger := quote(in + name + "_" + strings.ToLower(on[:1]))
			err := errors.Join(
				run("DROP TRIGGER IF EXISTS "+trigger),
				run(fmt.Sprintf("CREATE TRIGGER %s BEFORE %s ON %s WHEN NOT (%s) BEGIN SELECT RAISE(ABORT, '%s'); END",
					trigger, on, quote(bare), p.isCell("NEW."+column), "part164: "+m.table+"."+f.DBName+" takes sealed cells only")))
			if err != nil {
				return err
			}
		}
		return nil
	case "postgres":
		var n int64
		err := inner(p.pool).QueryRowContext(ctx, "SELECT count(*) FROM pg_constraint WHERE conname = $1 AND conrelid = $2::regclass", name, table).Scan(&n)
		if err != nil {
			return fmt.Errorf("storage: migrate %s.%s: look for the constraint: %w", m.table, f.DBName, err)
		}
		if n > 0 {
			return nil
		}
		if err := run(fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s) NOT VALID", table, quote(name), p.isCell(column))); err != nil {
			return err
		}
		return run(fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", table, quote(name)))
	case "mysql":
		var n int64
		err := inner(p.pool).QueryRowContext(ctx, "SELECT count(*) FROM information_schema.check_constraints WHERE constraint_schema = DATABASE() AND table_name = ? AND constraint_name = ?", m.table, name).Scan(&n)
		if err != nil {
			return fmt.Errorf("storage: migrate %s.%s: look for the constraint: %w", m.table, f.DBName, err)
		}
		if n > 0 {
			return nil
		}
		return run(fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s)", table, quote(name), p.isCell(column)))
	}
	return fmt.Errorf("storage: migrate: no constraint is known for %s: use SQLite, PostgreSQL or MariaDB", p.db.Name())
}

// isCell is the SQL condition that a column is NULL or looks like a cell.
func (p *plugin) isCell(column string) string {
	head := fmt.Sprintf("%02X%02X", crypto.CellVersion, crypto.CellAES256GCM)
	switch p.db.Name() {
	case "sqlite":
		return fmt.Sprintf("%[1]s IS NULL OR typeof(%[1]s) = 'blob' AND length(%[1]s) >= %[2]d AND substr(%[1]s, 1, 2) = x'%[3]s'", column, crypto.CellOverhead, head)
	case "postgres":
		return fmt.Sprintf(`%[1]s IS NULL OR octet_length(%[1]s) >= %[2]d AND substring(%[1]s from 1 for 2) = '\x%[3]s'::bytea`, column, crypto.CellOverhead, strings.ToLower(head))
	}
	return fmt.Sprintf("%[1]s IS NULL OR length(%[1]s) >= %[2]d AND hex(substr(%[1]s, 1, 2)) = '%[3]s'", column, crypto.CellOverhead, head)
}

// maxName is the longest identifier that every database takes, less a suffix.
const maxName = 60

// constraintName is phi_cell_table_column, shortened by a hash where it is too
// long.
func constraintName(table, column string) string {
	name := "phi_cell_" + strings.ReplaceAll(table, ".", "_") + "_" + column
	if len(name) > maxName-2 {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxName-2-9] + "_" + hex.EncodeToString(sum[:4])
	}
	return name
}
