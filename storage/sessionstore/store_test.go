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
	"sync/atomic"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
	"github.com/part164/part164/storage/sessionstore"
	"github.com/part164/part164/storage/storagetest"
)

func TestStoreOnSQLite(t *testing.T) {
	t.Parallel()
	sessiontest.TestStore(t, func(t *testing.T) session.Store { return migrated(t, openSQLite(t)) })
}

// TestStoreBesidePatients runs the contract in a database that storage guards.
func TestStoreBesidePatients(t *testing.T) {
	t.Parallel()
	sessiontest.TestStore(t, func(t *testing.T) session.Store {
		return migrated(t, storagetest.NewDB(t).DB)
	})
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

// gate holds up the use of a step until n sign-ins have found it unused.
type gate struct {
	session.Store
	arrived sync.WaitGroup
}

func (g *gate) UseTOTPStep(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	g.arrived.Done()
	g.arrived.Wait()
	return g.Store.UseTOTPStep(ctx, tenant, userID, cell, step)
}

// TestSweepsThatReadTheSameRows: two sweeps have both read a session that is
// over before either ends it; one of them hands it out.
func TestSweepsThatReadTheSameRows(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	st := migrated(t, db)
	ctx := t.Context()
	at := sessiontest.Start()
	a := session.Account{User: session.User{ID: "u-1", Tenant: "clinic", Kind: access.Human, Login: "nora", Epoch: 1, Created: at}}
	if err := st.CreateAccount(ctx, a); err != nil {
		t.Fatal(err)
	}
	ses := session.Session{ID: session.ID{1}, Tenant: "clinic", UserID: "u-1", Kind: access.Human, Epoch: 1,
		AuthTime: at, Created: at, LastSeen: at, Idle: time.Minute, Expires: at.Add(time.Hour)}
	if err := st.CreateSession(ctx, ses); err != nil {
		t.Fatal(err)
	}
	const n = 4
	var read sync.WaitGroup
	read.Add(n)
	var waits atomic.Int64
	if err := db.Callback().Query().After("gorm:query").Register("gate", func(tx *gorm.DB) {
		if tx.Statement.Table == "session_sessions" && waits.Add(1) <= n {
			read.Done()
			read.Wait()
		}
	}); err != nil {
		t.Fatal(err)
	}
	var handed atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			due, err := st.Sweep(context.Background(), at.Add(time.Minute), 10)
			if err != nil {
				t.Error(err)
			}
			handed.Add(int64(len(due.Sessions)))
		})
	}
	wg.Wait()
	if handed.Load() != 1 {
		t.Errorf("%d sweeps handed the session out %d times, want 1", n, handed.Load())
	}
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
			g := &gate{Store: migrated(t, db.open(t))}
			g.arrived.Add(n)
			cfg.Store = g
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
