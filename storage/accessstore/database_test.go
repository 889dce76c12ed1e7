// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/storagetest"
)

// onEach runs a test on an empty database of every kind that is there. What is
// not is skipped by name.
func onEach(t *testing.T, f func(t *testing.T, open func(t *testing.T) gorm.Dialector)) {
	t.Helper()
	for name, open := range map[string]func(*testing.T) gorm.Dialector{"SQLite": openSQLite, "PostgreSQL": openPostgres, "MariaDB": openMariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open)
		})
	}
}

func openSQLite(t *testing.T) gorm.Dialector {
	t.Helper()
	return sqlite.Open("file:" + filepath.Join(t.TempDir(), "test.db") +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_txlock=immediate")
}

// openPostgres returns an empty schema, which is dropped at the end of the test.
func openPostgres(t *testing.T) gorm.Dialector {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	schema := "t_" + strings.ToLower(rand.Text())
	around(t, postgres.Open(dsn), "CREATE SCHEMA "+schema, "DROP SCHEMA "+schema+" CASCADE")
	return postgres.Open(dsn + " search_path=" + schema)
}

// openMariaDB returns an empty database, which is dropped at the end of the test.
func openMariaDB(t *testing.T) gorm.Dialector {
	t.Helper()
	dsn := os.Getenv("PART164_TEST_MARIADB")
	if dsn == "" {
		t.Skip("no MariaDB: PART164_TEST_MARIADB is empty")
	}
	name := "t_" + strings.ToLower(rand.Text())
	around(t, mysql.Open(dsn), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4", "DROP DATABASE "+name)
	head, tail, _ := strings.Cut(dsn, "/")
	_, params, _ := strings.Cut(tail, "?")
	return mysql.Open(head + "/" + name + "?" + params)
}

// around runs a statement now, and another at the end of the test.
func around(t *testing.T, d gorm.Dialector, before, after string) {
	t.Helper()
	db := plain(t, d)
	for _, sql := range []string{before, after} {
		run := func() {
			if err := db.Exec(sql).Error; err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
		if sql == before {
			run()
		} else {
			t.Cleanup(run)
		}
	}
}

// plain opens a database without storage.
func plain(t *testing.T, d gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	c.SetMaxIdleConns(8)
	t.Cleanup(func() { _ = c.Close() })
	return db
}

// guarded opens a database that storage guards, whose trail it returns.
func guarded(t *testing.T, d gorm.Dialector) *storagetest.DB {
	t.Helper()
	return storagetest.Open(t, d, nil)
}

// emptied returns a function that empties the tables of one database, and returns
// its store and what makes its trail fail: to make a database takes longer than
// the tests.
func emptied[S any](t *testing.T, d gorm.Dialector, store func(*accessstore.Store) S) func(t *testing.T) (S, func(error)) {
	t.Helper()
	db := guarded(t, d)
	s := store(migrated(t, db.DB))
	return func(t *testing.T) (S, func(error)) {
		t.Helper()
		for _, table := range []string{"phi_relations", "phi_directives", "phi_directive_terms", "phi_grants", "phi_grant_steps", "phi_grant_locks"} {
			if err := db.Exec("DELETE FROM " + table).Error; err != nil {
				t.Fatal(err)
			}
		}
		return s, db.Trail.Fail
	}
}

// migrated returns the store of a database, whose tables it makes.
func migrated(t *testing.T, db *gorm.DB) *accessstore.Store {
	t.Helper()
	for range 2 { // the second time changes nothing
		if err := accessstore.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	return accessstore.New(db)
}
