// SPDX-License-Identifier: Apache-2.0

package auditstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
)

// Migrations holds the tables as migrations in the format of goose, in
// migrations/sqlite, migrations/postgres and migrations/mysql (MariaDB), for
// databases that are changed by reviewed SQL only. They are what [Migrate] runs.
//
//go:embed migrations
var Migrations embed.FS

// Migrate makes the tables, and the triggers that refuse every change of a row,
// where they are missing. It may be called at every start, by a user who may
// create them; the app itself needs the rights of [Grants] only.
func Migrate(ctx context.Context, db *gorm.DB) error {
	statements, err := statements(db)
	if err == nil {
		var conn gorm.ConnPool
		if conn, err = pool(db); err == nil {
			for _, sql := range statements {
				if _, err = conn.ExecContext(ctx, sql); err != nil {
					break
				}
			}
		}
	}
	if err != nil {
		return fmt.Errorf("auditstore: migrate: %w", err)
	}
	return nil
}

func pool(db *gorm.DB) (gorm.ConnPool, error) {
	if db == nil {
		return nil, errors.New("the database is nil")
	}
	return db.DB()
}

// statements reads the migration of the database's dialect.
func statements(db *gorm.DB) ([]string, error) {
	if db == nil {
		return nil, errors.New("the database is nil")
	}
	text, err := Migrations.ReadFile("migrations/" + db.Name() + "/0001_audit_events.sql")
	if err != nil {
		return nil, fmt.Errorf("there is no migration for %s: use SQLite, PostgreSQL or MariaDB", db.Name())
	}
	up, _, _ := strings.Cut(string(text), "-- +goose Down")
	_, up, _ = strings.Cut(up, "-- +goose Up\n")
	var out []string
	var whole strings.Builder
	inside := false
	for line := range strings.Lines(up) {
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "-- +goose StatementBegin":
			inside = true
		case trimmed == "-- +goose StatementEnd":
			inside = false
			out = append(out, whole.String())
			whole.Reset()
		case strings.HasPrefix(trimmed, "--") || trimmed == "":
		default:
			whole.WriteString(line)
			if !inside && strings.HasSuffix(trimmed, ";") {
				out = append(out, strings.TrimSuffix(strings.TrimSpace(whole.String()), ";"))
				whole.Reset()
			}
		}
	}
	return out, nil
}

// Grants returns the statements that let a database user add and read events
// and nothing else: run them as the owner of the tables, who is somebody else
// than the app. On MariaDB the user is 'user'@'host'. SQLite has no users.
func Grants(db *gorm.DB, user, host string) ([]string, error) {
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("auditstore: grants: %w", err) }
	if db == nil {
		return fail(errors.New("the database is nil"))
	}
	if err := access.CheckName(user); err != nil {
		return fail(fmt.Errorf("the user %w", err))
	}
	var out []string
	for _, table := range []string{eventTable, patientTable} {
		switch db.Name() {
		case "postgres":
			if host != "" {
				return fail(errors.New("PostgreSQL's roles have no host"))
			}
			out = append(out, fmt.Sprintf(`REVOKE ALL ON %q FROM PUBLIC, %q`, table, user), fmt.Sprintf(`GRANT SELECT, INSERT ON %q TO %q`, table, user))
		case "mysql":
			if strings.ContainsAny(host, `'"\`+"`\x00\n") || host == "" {
				return fail(errors.New("the host is empty or has a quote in it"))
			}
			out = append(out, fmt.Sprintf("GRANT SELECT, INSERT ON `%s` TO '%s'@'%s'", table, user, host))
		default:
			return fail(fmt.Errorf("%s has no users", db.Name()))
		}
	}
	return out, nil
}
