// SPDX-License-Identifier: Apache-2.0

package sessionstore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
	"github.com/part164/part164/storage/sessionstore"
)

func TestStoreOnSQLite(t *testing.T) {
	t.Parallel()
	sessiontest.TestStore(t, func(t *testing.T) session.Store { return migrated(t, openSQLite(t)) })
}

func TestStoreOnPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := service(t, "PART164_TEST_POSTGRES", "PostgreSQL")
	sessiontest.TestStore(t, func(t *testing.T) session.Store { return migrated(t, openPostgres(t, dsn)) })
}

func TestStoreOnMariaDB(t *testing.T) {
	t.Parallel()
	dsn := service(t, "PART164_TEST_MARIADB", "MariaDB")
	sessiontest.TestStore(t, func(t *testing.T) session.Store { return migrated(t, openMariaDB(t, dsn)) })
}

func service(t *testing.T, env, name string) string {
	t.Helper()
	dsn := os.Getenv(env)
	if dsn == "" {
		t.Skipf("needs %s: set %s", name, env)
	}
	return dsn
}

func migrated(t *testing.T, db *gorm.DB) session.Store {
	t.Helper()
	for range 2 { // the second time changes nothing
		if err := sessionstore.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	return sessionstore.New(db)
}

func openSQLite(t *testing.T) *gorm.DB {
	t.Helper()
	return connect(t, sqlite.Open("file:"+filepath.Join(t.TempDir(), "app.db")+
		"?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"))
}

func openPostgres(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	schema := randomName()
	admin := connect(t, postgres.Open(dsn))
	exec(t, admin, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { exec(t, admin, "DROP SCHEMA "+schema+" CASCADE") })
	if strings.Contains(dsn, "://") {
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		dsn += sep + "search_path=" + schema
	} else {
		dsn += " search_path=" + schema
	}
	return connect(t, postgres.Open(dsn))
}

var databaseName = regexp.MustCompile(`/[^/?]*(\?|$)`)

func openMariaDB(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	name := randomName()
	admin := connect(t, mysql.Open(dsn))
	exec(t, admin, "CREATE DATABASE "+name)
	t.Cleanup(func() { exec(t, admin, "DROP DATABASE "+name) })
	at := databaseName.FindAllStringIndex(dsn, -1)
	if len(at) == 0 {
		t.Fatal("PART164_TEST_MARIADB has no database part")
	}
	cut := at[len(at)-1]
	return connect(t, mysql.Open(dsn[:cut[0]]+databaseName.ReplaceAllString(dsn[cut[0]:], "/"+name+"$1")))
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
	sqlDB.SetMaxOpenConns(20)
	sqlDB.SetMaxIdleConns(20)
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
	return "session_" + hex.EncodeToString(b)
}

// TestOneCodeSignsInOnce replays one code through 200 sign-ins at once, on
// each database.
func TestOneCodeSignsInOnce(t *testing.T) {
	t.Parallel()
	for _, db := range []struct {
		name string
		open func(t *testing.T) *gorm.DB
	}{
		{"SQLite", openSQLite},
		{"PostgreSQL", func(t *testing.T) *gorm.DB { return openPostgres(t, service(t, "PART164_TEST_POSTGRES", "PostgreSQL")) }},
		{"MariaDB", func(t *testing.T) *gorm.DB { return openMariaDB(t, service(t, "PART164_TEST_MARIADB", "MariaDB")) }},
	} {
		t.Run(db.name, func(t *testing.T) {
			t.Parallel()
			const n = 200
			cfg, rec, clock := sessiontest.Config(t)
			cfg.Store = migrated(t, db.open(t))
			cfg.AddressRate = session.Rate{Burst: 10 * n, Every: time.Second}
			cfg.CodeRate = cfg.AddressRate
			m, err := session.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			u, phone := sessiontest.NewUser(t, m, clock, "clinic", "nora")
			var pending []string
			for range n {
				in, err := m.Password(t.Context(), session.Attempt{Tenant: "clinic", Login: "nora", Password: sessiontest.Password, Addr: sessiontest.Addr()})
				if err != nil {
					t.Fatal(err)
				}
				pending = append(pending, in.Token)
			}
			code := sessiontest.Code(t, phone, clock.Now())
			tokens := make(chan string, n)
			var wg sync.WaitGroup
			for _, p := range pending {
				wg.Go(func() {
					in, err := m.TOTP(context.Background(), p, code, sessiontest.Addr())
					if err == nil {
						tokens <- in.Token
					} else if !errors.Is(err, session.ErrSignIn) {
						t.Errorf("TOTP: %v", err)
					}
				})
			}
			wg.Wait()
			if len(tokens) != 1 {
				t.Fatalf("%d replays of one code signed in %d times, want 1", n, len(tokens))
			}
			token := <-tokens
			p, err := m.Authenticate(t.Context(), token, sessiontest.Addr())
			if err != nil || p.ID != u.ID {
				t.Errorf("Authenticate = %+v, %v", p, err)
			}
			if err := m.Logout(t.Context(), token); err != nil {
				t.Error(err)
			}
			if _, err := m.Authenticate(t.Context(), token, sessiontest.Addr()); !errors.Is(err, session.ErrNoSession) {
				t.Errorf("after logout: %v", err)
			}
			if in, out := rec.Count(audit.SignIn, ""), rec.Count(audit.SessionEnded, audit.ReasonLogout); in != 1 || out != 1 {
				t.Errorf("%d sign-ins and %d logouts recorded, want 1 and 1", in, out)
			}
		})
	}
}
