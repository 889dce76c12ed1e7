// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/sqlite"
)

// The models of a user, with what GORM makes: a foreign key, a join table, an
// index, a default, a polymorphic child, and names that want quotes.
type (
	migrateClinic struct {
		ID   string `gorm:"primaryKey;size:36"`
		Name string `gorm:"not null;default:'a; b';index"`
	}
	migratePatient struct {
		PatientRecord
		ClinicID string         `gorm:"size:36" phi:"-"`
		Clinic   migrateClinic  `phi:"-"`
		Name     Sealed[string] `phi:"name,search=name"`
		MRN      Sealed[string] `phi:"mrn,search=exact,unique"`
		Visits   []migrateVisit `gorm:"foreignKey:PatientID" phi:"-"`
		Tags     []migrateTag   `gorm:"many2many:migrate_patient_tags" phi:"-"`
	}
	migrateVisit struct {
		Record
		PatientID string            `gorm:"size:36;not null;index" phi:"subject"`
		At        time.Time         `phi:"date,clear" gorm:"index:visit_at,sort:desc"`
		Note      Sealed[string]    `gorm:"column:Note_Of_Visit" phi:"clinical"`
		Weight    Sealed[float64]   `phi:"clinical"`
		Codes     Sealed[[]string]  `phi:"problem"`
		Seen      Sealed[time.Time] `phi:"date"`
	}
	migrateTag struct {
		ID   string `gorm:"primaryKey;size:36"`
		Text string `gorm:"uniqueIndex;size:40"`
	}
)

func (migrateVisit) TableName() string { return "Visits_Of_Patients" }

var userModels = []any{&migrateVisit{}, &migratePatient{}}

// The files make what Migrate makes of the SDK's own tables, and MigrationSQL
// prints what it makes of the user's.
func TestMigrationsAreWhatMigrateMakes(t *testing.T) {
	for name, fresh := range freshDatabases() {
		t.Run(name, func(t *testing.T) {
			folder := map[string]string{"SQLite": "sqlite", "PostgreSQL": "postgres", "MariaDB": "mysql"}[name]
			if *update {
				text, err := migrationSQL(fresh(t), "The tables of part164 itself.", ownModels(), true)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join("migrations", folder, "0001_part164.sql"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			d := fresh(t)
			cfg := Config{KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter()}
			db, err := Open(d, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := Migrate(t.Context(), db, userModels...); err != nil {
				t.Fatal(err)
			}
			if err := Close(db); err != nil {
				t.Fatal(err)
			}
			want := catalogue(t, d)

			e := fresh(t)
			files, err := fs.Glob(Migrations, "migrations/"+folder+"/*.sql")
			if err != nil || len(files) == 0 {
				t.Fatalf("no migrations: %v", err)
			}
			for _, f := range slices.Sorted(slices.Values(files)) {
				text, err := Migrations.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				apply(t, e, string(text))
			}
			text, err := MigrationSQL(fresh(t), userModels...)
			if err != nil {
				t.Fatal(err)
			}
			apply(t, e, text)
			if got := catalogue(t, e); got != want {
				t.Errorf("the migrations make\n%s\nand Migrate makes\n%s\ndifferent lines:\n%s\nif the tables changed before a release: go test -run TestMigrationsAreWhatMigrateMakes -update, on all three databases", got, want, difference(got, want))
			}
			if n := strings.Count(want, "\n"); n < 60 {
				t.Errorf("the catalogue has %d lines: it does not look at everything", n)
			}

			// A database that was made by them opens, gets its identity, and
			// Migrate finds nothing to do.
			if db, err = Open(e, cfg); err != nil {
				t.Fatal(err)
			}
			var meta metaRow
			p, _ := pluginOf(db)
			if err := p.own(t.Context(), inner(p.pool)).Take(&meta, 1).Error; err != nil || meta.MAC == nil || meta.DatabaseID == "" {
				t.Errorf("phi_meta after Open: %+v, %v", meta, err)
			}
			if err := Migrate(t.Context(), db, userModels...); err != nil {
				t.Error(err)
			}
			if err := Close(db); err != nil {
				t.Error(err)
			}
			if got := catalogue(t, e); got != want {
				t.Errorf("Migrate after the migrations changed\n%s", difference(got, want))
			}
		})
	}
}

// A database that has keys and has lost its identity gets no new one.
func TestALostIdentityIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	d := sqlite.Open(filepath.Join(t.TempDir(), "test.db"))
	cfg := Config{KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter()}
	db, err := Open(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	p, _ := pluginOf(db)
	if err := p.own(t.Context(), inner(p.pool)).Exec("DELETE FROM phi_meta").Error; err != nil {
		t.Fatal(err)
	}
	if err := Close(db); err != nil {
		t.Fatal(err)
	}
	db, err = Open(d, cfg)
	if err != nil {
		return // refused: as good
	}
	defer Close(db)
	p, _ = pluginOf(db)
	var n int64
	if err := p.own(t.Context(), inner(p.pool)).Model(&metaRow{}).Count(&n).Error; err != nil || n != 0 {
		t.Errorf("%d identities, %v", n, err)
	}
}

func freshDatabases() map[string]func(*testing.T) gorm.Dialector {
	return map[string]func(*testing.T) gorm.Dialector{
		"SQLite": func(t *testing.T) gorm.Dialector {
			t.Helper()
			return sqlite.Open(filepath.Join(t.TempDir(), "test.db"))
		},
		"PostgreSQL": func(t *testing.T) gorm.Dialector {
			t.Helper()
			dsn := os.Getenv("PART164_TEST_POSTGRES")
			if dsn == "" {
				t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
			}
			schema := "t_" + strings.ToLower(rand.Text())
			scratch(t, postgres.Open(dsn), "CREATE SCHEMA "+schema, "DROP SCHEMA "+schema+" CASCADE")
			return postgres.Open(dsn + " search_path=" + schema)
		},
		"MariaDB": func(t *testing.T) gorm.Dialector {
			t.Helper()
			dsn := os.Getenv("PART164_TEST_MARIADB")
			if dsn == "" {
				t.Skip("no MariaDB: PART164_TEST_MARIADB is empty")
			}
			name := "t_" + strings.ToLower(rand.Text())
			scratch(t, mysql.Open(dsn), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4", "DROP DATABASE "+name)
			head, tail, _ := strings.Cut(dsn, "/")
			_, params, _ := strings.Cut(tail, "?")
			return mysql.Open(head + "/" + name + "?" + params)
		},
	}
}

// scratch makes a place for a test, and takes it away again.
func scratch(t *testing.T, d gorm.Dialector, create, drop string) {
	t.Helper()
	c := plainly(t, d)
	if _, err := c.Exec(create); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := plainly(t, d)
		defer c.Close()
		if _, err := c.Exec(drop); err != nil {
			t.Error(err)
		}
	})
}

// plainly opens a database without the plugin.
func plainly(t *testing.T, d gorm.Dialector) *sql.DB {
	t.Helper()
	db, err := gorm.Open(d, &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// apply runs the Up part of a migration, statement by statement.
func apply(t *testing.T, d gorm.Dialector, text string) {
	t.Helper()
	c := plainly(t, d)
	up, _, ok := strings.Cut(text, "-- +goose Down")
	if !ok {
		t.Fatal("no way down is written")
	}
	var b strings.Builder
	whole := false
	for line := range strings.Lines(up) {
		switch {
		case strings.HasPrefix(line, "-- +goose StatementBegin"):
			whole = true
		case strings.HasPrefix(line, "-- +goose StatementEnd"):
			whole = false
		case strings.HasPrefix(line, "--"):
			continue
		default:
			b.WriteString(line)
		}
		if q := strings.TrimSpace(b.String()); q != "" && !whole && strings.HasSuffix(q, ";") {
			if _, err := c.Exec(strings.TrimSuffix(q, ";")); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			b.Reset()
		}
	}
	if rest := strings.TrimSpace(b.String()); rest != "" {
		t.Fatalf("left over: %s", rest)
	}
}

// catalogue is everything that the database knows of its tables: columns,
// types, nulls, defaults, keys, indexes, constraints and triggers; and phi_tables.
func catalogue(t *testing.T, d gorm.Dialector) string {
	t.Helper()
	c := plainly(t, d)
	queries := map[string][]string{
		"sqlite": {"SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"},
		"postgres": {
			`SELECT 'column', table_name, column_name, ordinal_position, data_type, coalesce(character_maximum_length, 0), is_nullable, coalesce(column_default, '') FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 2, 4`,
			`SELECT 'index', tablename, indexname, replace(indexdef, current_schema() || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 2, 3`,
			`SELECT 'constraint', conrelid::regclass::text, conname, contype::text, convalidated, replace(pg_get_constraintdef(oid), current_schema() || '.', '') FROM pg_constraint WHERE connamespace = current_schema()::regnamespace ORDER BY 2, 3`,
			`SELECT 'trigger', tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace) ORDER BY 2, 3`,
		},
		"mysql": {
			`SELECT 'trigger', trigger_name, event_object_table, action_statement FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY 2`,
		},
	}[d.Name()]
	queries = append(queries, "SELECT 'phi table', name FROM phi_tables ORDER BY 2")
	var b strings.Builder
	if d.Name() == "mysql" {
		for _, row := range all(t, c, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1") {
			b.WriteString(all(t, c, "SHOW CREATE TABLE `"+strings.TrimSpace(row)+"`")[0] + "\n")
		}
	}
	for _, q := range queries {
		for _, row := range all(t, c, q) {
			if d.Name() == "sqlite" { // GORM writes the foreign keys of one table in any order
				parts := strings.Split(strings.TrimRight(row, ")"), ",")
				for i := range parts {
					parts[i] = strings.TrimRight(parts[i], ")")
				}
				slices.Sort(parts[1:])
				row = strings.Join(parts, ",\n  ")
			}
			b.WriteString(row + "\n")
		}
	}
	return b.String()
}

func all(t *testing.T, c *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := c.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			values[i] = new(sql.NullString)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, v := range values {
			row = append(row, v.(*sql.NullString).String)
		}
		out = append(out, strings.Join(row, " | "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func difference(a, b string) string {
	var out strings.Builder
	in := func(list []string, x string) bool { return slices.Contains(list, x) }
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, x := range la {
		if !in(lb, x) {
			fmt.Fprintln(&out, "+", x)
		}
	}
	for _, x := range lb {
		if !in(la, x) {
			fmt.Fprintln(&out, "-", x)
		}
	}
	return out.String()
}
