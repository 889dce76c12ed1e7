// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"crypto/rand"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	glebarez "github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// openSQLite returns an empty database in the test's folder.
func openSQLite(t *testing.T) gorm.Dialector {
	t.Helper()
	return sqlite.Open(filepath.Join(t.TempDir(), "test.db"))
}

// openPostgres returns an empty schema of the PostgreSQL in
// PART164_TEST_POSTGRES, which is dropped at the end of the test.
func openPostgres(t *testing.T) gorm.Dialector {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	admin := admin(t, postgres.Open(dsn))
	schema := "t_" + strings.ToLower(rand.Text())
	exec(t, admin, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { exec(t, admin, "DROP SCHEMA "+schema+" CASCADE") })
	return postgres.Open(dsn + " search_path=" + schema)
}

// openMariaDB returns an empty database of the MariaDB in
// PART164_TEST_MARIADB, which is dropped at the end of the test.
func openMariaDB(t *testing.T) gorm.Dialector {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_MARIADB")
	if dsn == "" {
		t.Skip("no MariaDB: PART164_TEST_MARIADB is empty")
	}
	admin := admin(t, mysql.Open(dsn))
	name := "t_" + strings.ToLower(rand.Text())
	exec(t, admin, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4")
	t.Cleanup(func() { exec(t, admin, "DROP DATABASE "+name) })
	head, tail, _ := strings.Cut(dsn, "/")
	_, params, _ := strings.Cut(tail, "?")
	return mysql.Open(head + "/" + name + "?" + params)
}

// admin returns a connection that knows nothing of storage.
func admin(t *testing.T, d gorm.Dialector) *sql.DB {
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

func exec(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Errorf("%s: %v", query, err)
	}
}

// onEach runs a test on every database that is there. What is not is skipped
// by name.
func onEach(t *testing.T, f func(t *testing.T, d gorm.Dialector)) {
	t.Helper()
	for name, open := range map[string]func(*testing.T) gorm.Dialector{"SQLite": openSQLite, "PostgreSQL": openPostgres, "MariaDB": openMariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t))
		})
	}
}

// databases are those of the suites, each with a second connection that knows
// neither GORM nor storage.
func databases() []storagetest.Database {
	return []storagetest.Database{
		{Name: "SQLite", Open: func(t *testing.T) (gorm.Dialector, *sql.DB) {
			// Without what storage/sqlite does to survive a power cut: the
			// suites' thousands of transactions would wait for the disk.
			dsn := "file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_txlock=immediate"
			return glebarez.Open(dsn), pastGORM(t, "sqlite", dsn)
		}},
		{Name: "PostgreSQL", Open: func(t *testing.T) (gorm.Dialector, *sql.DB) {
			d := openPostgres(t)
			return d, pastGORM(t, "pgx", d.(*postgres.Dialector).DSN)
		}},
		{Name: "MariaDB", Open: func(t *testing.T) (gorm.Dialector, *sql.DB) {
			d := openMariaDB(t)
			return d, pastGORM(t, "mysql", d.(*mysql.Dialector).DSN)
		}},
	}
}

func pastGORM(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestEveryPathOnSQLite is for the inner loop and the mutants.
func TestEveryPathOnSQLite(t *testing.T) {
	if haveServices() {
		t.Skip("TestEveryPath runs it beside the others")
	}
	t.Parallel()
	storagetest.TestDialect(t, databases()[0])
}

// TestEveryPath is the whole matrix. SQLite stands in it too: the columns are
// there to be compared.
func TestEveryPath(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: nothing in it is concurrent, and it runs without -short")
	}
	if !haveServices() {
		t.Skip("no PostgreSQL and no MariaDB: PART164_TEST_POSTGRES and PART164_TEST_MARIADB are empty; TestEveryPathOnSQLite runs the third")
	}
	t.Parallel()
	storagetest.TestDialect(t, databases()...)
}

func haveServices() bool {
	return os.Getenv("PART164_TEST_POSTGRES") != "" || os.Getenv("PART164_TEST_MARIADB") != ""
}
