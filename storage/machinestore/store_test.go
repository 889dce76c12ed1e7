// SPDX-License-Identifier: Apache-2.0

package machinestore_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/access/machine/machinetest"
	"github.com/part164/part164/storage/machinestore"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

func TestStoreOnSQLite(t *testing.T) {
	t.Parallel()
	machinetest.TestStore(t, func(t *testing.T) machine.Store { return migrated(t, openSQLite(t)) })
}

// TestStoreBesidePatients runs the contract in a database that storage guards.
func TestStoreBesidePatients(t *testing.T) {
	t.Parallel()
	machinetest.TestStore(t, func(t *testing.T) machine.Store { return migrated(t, storagetest.NewDB(t).DB) })
}

func TestStoreOnPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := service(t, "PART164_TEST_POSTGRES", "PostgreSQL")
	machinetest.TestStore(t, func(t *testing.T) machine.Store {
		schema := randomName()
		admin := connect(t, postgres.Open(dsn))
		exec(t, admin, "CREATE SCHEMA "+schema)
		t.Cleanup(func() { exec(t, admin, "DROP SCHEMA "+schema+" CASCADE") })
		own := dsn + " search_path=" + schema
		if strings.Contains(dsn, "://") {
			sep := "?"
			if strings.Contains(dsn, "?") {
				sep = "&"
			}
			own = dsn + sep + "search_path=" + schema
		}
		return migrated(t, connect(t, postgres.Open(own)))
	})
}

func TestStoreOnMariaDB(t *testing.T) {
	t.Parallel()
	dsn := service(t, "PART164_TEST_MARIADB", "MariaDB")
	database := regexp.MustCompile(`/[^/?]*(\?|$)`)
	machinetest.TestStore(t, func(t *testing.T) machine.Store {
		name := randomName()
		admin := connect(t, mysql.Open(dsn))
		exec(t, admin, "CREATE DATABASE "+name)
		t.Cleanup(func() { exec(t, admin, "DROP DATABASE "+name) })
		at := database.FindAllStringIndex(dsn, -1)
		if len(at) == 0 {
			t.Fatal("PART164_TEST_MARIADB has no database part")
		}
		cut := at[len(at)-1]
		return migrated(t, connect(t, mysql.Open(dsn[:cut[0]]+database.ReplaceAllString(dsn[cut[0]:], "/"+name+"$1"))))
	})
}

// TestTerminate ends the keys of one service of one tenant, with the transaction.
func TestTerminate(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	st := migrated(t, db).(*machinestore.Store)
	var _ policystore.Holder = st
	for id, of := range map[string][2]string{"a": {"t-1", "svc-1"}, "b": {"t-1", "svc-1"}, "c": {"t-1", "svc-2"}, "d": {"t-2", "svc-1"}} {
		k := machine.Key{ID: id, Tenant: of[0], Service: of[1], Hash: [32]byte{1}, Purposes: []access.Purpose{access.Treatment}, Created: time.Unix(1, 0), Expires: time.Unix(99, 0)}
		if err := st.CreateKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	undone := errors.New("undone")
	for _, end := range []error{undone, nil} {
		err := db.Transaction(func(tx *gorm.DB) error {
			if n, err := st.Terminate(t.Context(), tx, "t-1", "svc-1", time.Unix(7, 0)); err != nil || n != 2 {
				t.Errorf("Terminate = %d, %v, want 2", n, err)
			}
			if n, err := st.Terminate(t.Context(), tx, "t-1", "svc-1", time.Unix(8, 0)); err != nil || n != 0 {
				t.Errorf("the second Terminate = %d, %v", n, err)
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		for id, ends := range map[string]bool{"a": true, "b": true, "c": false, "d": false} {
			k, err := st.Key(t.Context(), id)
			if want := ends && end == nil; err != nil || k.Revoked.IsZero() == want || want && !k.Revoked.Equal(time.Unix(7, 0)) {
				t.Errorf("with %v: key %s is revoked at %v, %v", end, id, k.Revoked, err)
			}
		}
	}
}

// TestStoredKeysThatAreDamaged do not come back as keys that may do more.
func TestStoredKeysThatAreDamaged(t *testing.T) {
	t.Parallel()
	for _, column := range []string{"hash = x'00'", "purposes = ''", "networks = '10.0.0.0/8 everywhere'"} {
		db := openSQLite(t)
		st := migrated(t, db)
		k := machine.Key{ID: "a", Tenant: "t-1", Service: "svc-1", Purposes: []access.Purpose{access.Treatment}, Created: time.Unix(1, 0), Expires: time.Unix(2, 0)}
		if err := st.CreateKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		exec(t, db, "UPDATE access_keys SET "+column)
		if got, err := st.Key(t.Context(), "a"); err == nil || got.ID != "" || strings.Contains(err.Error(), "everywhere") {
			t.Errorf("%s: %+v, %v", column, got, err)
		}
		if list, err := st.Keys(t.Context(), "t-1"); err == nil {
			t.Errorf("%s: %+v", column, list)
		}
	}
}

func service(t *testing.T, env, name string) string {
	t.Helper()
	dsn := os.Getenv(env)
	if dsn == "" {
		t.Skipf("needs %s: set %s", name, env)
	}
	return dsn
}

func migrated(t *testing.T, db *gorm.DB) machine.Store {
	t.Helper()
	for range 2 { // the second time changes nothing
		if err := machinestore.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	return machinestore.New(db)
}

func openSQLite(t *testing.T) *gorm.DB {
	t.Helper()
	return connect(t, sqlite.Open(filepath.Join(t.TempDir(), "app.db")))
}

func connect(t *testing.T, d gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(d, &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sqlDB, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	sqlDB.SetMaxOpenConns(10)
	t.Cleanup(func() { sqlDB.Close() })
	return db
}

func exec(t *testing.T, db *gorm.DB, sql string) {
	t.Helper()
	if err := db.Exec(sql).Error; err != nil {
		t.Fatal(fmt.Errorf("%s: %w", sql, err))
	}
}

func randomName() string {
	b := make([]byte, 6)
	rand.Read(b)
	return "machine_" + hex.EncodeToString(b)
}
