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
	if ctx == nil {
		return &RefusedError{Op: "migrate", Why: "the context is nil", Mend: "pass context.Background() at least"}
	}
	if err := areModels("migrate", models...); err != nil {
		return err
	}
	if err := p.tables(ctx, ownModels()...); err != nil {
		return fmt.Errorf("storage: migrate: own tables: %w", err)
	}
	if err := p.makeMeta(ctx); err != nil {
		return fmt.Errorf("storage: migrate: %w", err)
	}
	if err := p.constrainFiles(ctx); err != nil {
		return err
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
	if err := p.openOldTables(ctx, parsed); err != nil {
		return err
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

// adoptMeta gives a database its identity whose tables were made by
// [Migrations]. It does so only where no key was ever made: a database with keys
// and without its identity has lost it.
func (p *plugin) adoptMeta(ctx context.Context) error {
	own := func() *gorm.DB { return p.own(ctx, inner(p.pool)) }
	if !own().Migrator().HasTable(&metaRow{}) || !own().Migrator().HasTable(&tenantKey{}) {
		return nil
	}
	for _, m := range []any{&metaRow{}, &tenantKey{}} {
		var n int64
		if err := own().Model(m).Count(&n).Error; err != nil || n > 0 {
			return err
		}
	}
	return p.makeMeta(ctx)
}

// makeMeta gives a new database its identity.
func (p *plugin) makeMeta(ctx context.Context) error {
	meta := metaRow{ID: 1, DatabaseID: uuid.NewString(), Generation: 1}
	if err := p.own(ctx, inner(p.pool)).Clauses(clause.OnConflict{DoNothing: true}).Create(&meta).Error; err != nil {
		return fmt.Errorf("phi_meta: %w", err)
	}
	return p.signMeta(ctx)
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
	table, column := p.quote(m.table), p.quote(f.DBName)
	var bad int64
	count := fmt.Sprintf("SELECT count(*) FROM %s WHERE NOT (%s)", table, p.isCell(column))
	if err := inner(p.pool).QueryRowContext(ctx, count).Scan(&bad); err != nil {
		return fmt.Errorf("storage: migrate %s.%s: look for plaintext: %w", m.table, f.DBName, err)
	}
	if bad > 0 {
		return fmt.Errorf("storage: migrate %s.%s: %d rows hold something that is no cell: give the sealed field a new column with from=%s in its phi tag, and run the job SealColumns", m.table, f.DBName, bad, f.DBName)
	}
	return p.addCheck(ctx, m, f.DBName, cellPrefix, p.isCell, takesCells)
}

// addCheck puts a constraint on one column, if it is not there.
func (p *plugin) addCheck(ctx context.Context, m *model, columnName, prefix string, condition func(column string) string, message string) error {
	statements, err := p.checkSQL(m, columnName, prefix, condition, message)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return fmt.Errorf("storage: migrate %s.%s: constraint: %w", m.table, columnName, err)
	}
	if p.db.Name() != "sqlite" {
		if there, err := p.hasCheck(ctx, m, constraintName(prefix, m.table, columnName)); err != nil || there {
			return err
		}
		for _, sql := range statements {
			if _, err := inner(p.pool).ExecContext(ctx, sql); err != nil {
				return fail(err)
			}
		}
		return nil
	}
	// The triggers anew, in one transaction, because other processes may write,
	// or start too.
	err = p.transaction(ctx, func(tx *txConn) error {
		if err := p.dropCheckOn(ctx, tx.Tx, m, columnName, prefix); err != nil {
			return err
		}
		for _, sql := range statements {
			if _, err := tx.Tx.ExecContext(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// checkSQL is the statements that put a constraint on one column.
func (p *plugin) checkSQL(m *model, columnName, prefix string, condition func(column string) string, message string) (statements []string, err error) {
	table, column, name := p.quote(m.table), p.quote(columnName), constraintName(prefix, m.table, columnName)
	switch p.db.Name() {
	case "sqlite":
		// Triggers, because adding a CHECK would rebuild the table, which
		// fires its children's cascades.
		for _, on := range []string{"INSERT", "UPDATE"} {
			trigger, bare := p.triggerName(m, name, on)
			statements = append(statements, fmt.Sprintf("CREATE TRIGGER %s BEFORE %s ON %s WHEN NOT (%s) BEGIN SELECT RAISE(ABORT, '%s'); END",
				trigger, on, p.quote(bare), condition("NEW."+column), "part164: "+m.table+"."+columnName+" "+message))
		}
		return statements, nil
	case "postgres":
		return []string{
			fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s) NOT VALID", table, p.quote(name), condition(column)),
			fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", table, p.quote(name)),
		}, nil
	case "mysql":
		return []string{fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s)", table, p.quote(name), condition(column))}, nil
	}
	return nil, fmt.Errorf("storage: migrate: no constraint is known for %s: use SQLite, PostgreSQL or MariaDB", p.db.Name())
}

// dropCheck takes away what addCheck has put there.
func (p *plugin) dropCheck(ctx context.Context, m *model, columnName, prefix string) error {
	return p.dropCheckOn(ctx, inner(p.pool), m, columnName, prefix)
}

func (p *plugin) dropCheckOn(ctx context.Context, conn gorm.ConnPool, m *model, columnName, prefix string) error {
	name := constraintName(prefix, m.table, columnName)
	drop := func(sql string) error {
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("storage: %s.%s: drop constraint: %w", m.table, columnName, err)
		}
		return nil
	}
	if p.db.Name() == "sqlite" {
		in, _ := p.triggerName(m, name, "INSERT")
		up, _ := p.triggerName(m, name, "UPDATE")
		return errors.Join(drop("DROP TRIGGER IF EXISTS "+in), drop("DROP TRIGGER IF EXISTS "+up))
	}
	there, err := p.hasCheck(ctx, m, name)
	if err != nil || !there {
		return err
	}
	return drop("ALTER TABLE " + p.quote(m.table) + " DROP CONSTRAINT " + p.quote(name))
}

// triggerName returns the quoted name of a constraint's trigger, in the schema
// of its table, and the table's name without it.
func (p *plugin) triggerName(m *model, name, on string) (trigger, table string) {
	in, bare := "", m.table
	if i := strings.LastIndexByte(bare, '.'); i >= 0 {
		in, bare = bare[:i+1], bare[i+1:]
	}
	return p.quote(in + name + "_" + strings.ToLower(on[:1])), bare
}

// hasCheck reports whether the table has a constraint of that name.
func (p *plugin) hasCheck(ctx context.Context, m *model, name string) (bool, error) {
	query, args := "SELECT count(*) FROM pg_constraint WHERE conname = $1 AND conrelid = $2::regclass", []any{name, p.quote(m.table)}
	if p.db.Name() == "mysql" {
		query, args = "SELECT count(*) FROM information_schema.check_constraints WHERE constraint_schema = DATABASE() AND table_name = ? AND constraint_name = ?", []any{m.table, name}
	}
	var n int64
	if err := inner(p.pool).QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return false, fmt.Errorf("storage: migrate %s: look for the constraint %s: %w", m.table, name, err)
	}
	return n > 0, nil
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

const (
	cellPrefix = "phi_cell_"
	takesCells = "takes sealed cells only"
)

// constraintName is the prefix, then table_column, shortened by a hash where it
// is too long.
func constraintName(prefix, table, column string) string {
	name := prefix + strings.ReplaceAll(table, ".", "_") + "_" + column
	if len(name) > maxName-2 {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxName-2-9] + "_" + hex.EncodeToString(sum[:4])
	}
	return name
}
