// SPDX-License-Identifier: Apache-2.0

// Package goose reads migrations in the format of goose, so that what a store's
// Migrate runs is what it gives to those who run migrations by themselves.
package goose

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"

	"gorm.io/gorm"
)

// Up runs the statements of migrations/DIALECT/name in files on db. They may
// have run before.
func Up(ctx context.Context, db *gorm.DB, files fs.FS, name string) error {
	statements, err := Statements(db, files, name)
	if err != nil {
		return err
	}
	var pool *sql.DB
	if pool, err = db.DB(); err != nil {
		return err
	}
	for _, text := range statements {
		if _, err := pool.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// Statements reads the statements of a migration for the database's dialect.
func Statements(db *gorm.DB, files fs.FS, name string) ([]string, error) {
	text, err := fs.ReadFile(files, "migrations/"+db.Name()+"/"+name)
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
