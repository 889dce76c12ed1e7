// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// Migrations holds the SDK's own tables as migrations in the format of goose,
// in migrations/sqlite, migrations/postgres and migrations/mysql (MariaDB), for
// those whose databases are changed by reviewed SQL only. Run them on the
// *sql.DB, before what [MigrationSQL] printed; then [Migrate] is not needed.
// They make what Migrate makes. None has a way down: dropping these tables
// destroys every key.
//
//go:embed migrations
var Migrations embed.FS

// MigrationSQL returns a migration in the format of goose that makes the
// tables of the models in an empty database as [Migrate] does: with their
// indexes and foreign keys, a constraint on every sealed column that only a cell
// fits, and their names in phi_tables. The later changes of a model are yours
// to write; Migrate, run on a scratch database, shows what they should come to.
//
// d is opened and closed; on MariaDB it is asked for its version, and nothing
// is ever written. On SQLite give it the path of a scratch file.
func MigrationSQL(d gorm.Dialector, models ...any) (string, error) {
	if err := areModels("migration SQL", models...); err != nil {
		return "", err
	}
	return migrationSQL(d, "Tables with PHI, as storage.Migrate makes them.", models, false)
}

func migrationSQL(d gorm.Dialector, title string, models []any, own bool) (text string, err error) {
	db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return "", fmt.Errorf("storage: migration SQL: %w", err)
	}
	opened, err := db.DB()
	if err != nil {
		return "", fmt.Errorf("storage: migration SQL: %w", err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	script := &script{}
	p := &plugin{db: db, models: newModels()}
	p.pool = &pool{ConnPool: script, plugin: p}
	ctx := context.Background()
	given := make(map[string]*model) // by table
	for _, v := range models {
		stmt := &gorm.Statement{DB: db}
		if err := stmt.Parse(v); err != nil {
			return "", fmt.Errorf("storage: migration SQL: %w", err)
		}
		if own {
			given[stmt.Table], err = p.parse(stmt.Schema)
		} else {
			given[stmt.Table], err = p.modelOf(&gorm.DB{Config: db.Config, Statement: stmt})
		}
		if err != nil {
			return "", err
		}
	}
	mig := p.own(ctx, script).Migrator()
	if r, ok := mig.(interface{ ReorderModels([]any, bool) []any }); ok {
		models = r.ReorderModels(models, true) // what refers to another comes after it; with join tables
	}
	for _, v := range models {
		stmt := &gorm.Statement{DB: db}
		if err := stmt.Parse(v); err != nil {
			return "", fmt.Errorf("storage: migration SQL: %w", err)
		}
		if err := mig.CreateTable(v); err != nil {
			return "", fmt.Errorf("storage: migration SQL of %s: %w", stmt.Table, err)
		}
		m := given[stmt.Table]
		if m == nil {
			continue
		}
		for _, f := range m.sealed {
			checks, err := p.checkSQL(m, f.DBName, cellPrefix, p.isCell, takesCells)
			if err != nil {
				return "", err
			}
			script.statements = append(script.statements, checks...)
		}
		if own {
			continue
		}
		script.statements = append(script.statements, fmt.Sprintf("INSERT INTO %s (%s) VALUES ('%s')",
			p.quote(tableRow{}.TableName()), p.quote("name"), strings.ReplaceAll(m.bare(), "'", "''")))
	}
	return script.goose(title), nil
}

// A script is a connection that writes down what it is told to run.
type script struct{ statements []string }

var errScript = errors.New("storage: migration SQL: the dialect asks the database, which this never does")

func (s *script) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	if len(args) > 0 {
		return nil, errScript
	}
	s.statements = append(s.statements, query)
	return ran{}, nil
}

func (s *script) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, errScript
}

func (s *script) QueryRowContext(context.Context, string, ...any) *sql.Row { return nil }

func (s *script) PrepareContext(context.Context, string) (*sql.Stmt, error) { return nil, errScript }

type ran struct{}

func (ran) LastInsertId() (int64, error) { return 0, nil }
func (ran) RowsAffected() (int64, error) { return 0, nil }

// goose writes the statements as one migration.
func (s *script) goose(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- %s\n\n-- +goose Up\n", title)
	for _, q := range s.statements {
		if strings.Contains(q, ";") { // a trigger's body
			fmt.Fprintf(&b, "-- +goose StatementBegin\n%s;\n-- +goose StatementEnd\n", q)
		} else {
			fmt.Fprintf(&b, "%s;\n", q)
		}
	}
	b.WriteString("\n-- +goose Down\n-- Nothing: what is dropped here cannot be opened or made again.\n")
	return b.String()
}
