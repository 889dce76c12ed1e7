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
	"github.com/part164/part164/storage/internal/goose"
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
	err := errors.New("the database is nil")
	if db != nil {
		err = goose.Up(ctx, db, Migrations, "0001_audit_events.sql")
	}
	if err != nil {
		return fmt.Errorf("auditstore: migrate: %w", err)
	}
	return nil
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
