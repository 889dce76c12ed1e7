// SPDX-License-Identifier: Apache-2.0

// Package storagetest tests apps that keep PHI with package storage, and
// implementations of its parts.
//
// [NewDB] gives a test the whole stack, wired: a database of its own, a fake
// KEK, the starter policies and a trail in memory.
//
//	db := storagetest.NewDB(t, &Patient{})
//	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
//	err := db.WithContext(ctx).Create(&Patient{Name: storage.Seal("Jane Roe")}).Error
//	audittest.Want(t, db.Trail, audit.Event{Type: audit.WriteAttempt})
package storagetest

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/glebarez/sqlite"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// A DB is a database of storage with its parts within reach.
type DB struct {
	*gorm.DB
	Trail *audittest.Trail // what was recorded

	cfg storage.Config
}

// Reopen opens the database once more, as another process would: with the same
// configuration, and nothing in its caches. change may be nil. The caller
// closes it; storage.Migrate tells it the models.
func (db *DB) Reopen(d gorm.Dialector, change func(*storage.Config)) (*gorm.DB, error) {
	cfg := db.cfg
	if change != nil {
		change(&cfg)
	}
	return storage.Open(d, cfg)
}

// NewDB returns a migrated SQLite database in the test's temporary folder,
// which is closed at the end of the test. Record IDs are UUIDs from a seeded
// generator, the same in each run. It is safe in parallel tests.
func NewDB(t testing.TB, models ...any) *DB {
	t.Helper()
	return NewDBWith(t, nil, models...)
}

// NewDBWith is NewDB with a chance to change the configuration: another
// policy, clock or authorizer.
func NewDBWith(t testing.TB, change func(*storage.Config), models ...any) *DB {
	t.Helper()
	return Open(t, unsynced(filepath.Join(t.TempDir(), "test.db")), change, models...)
}

// unsynced is storage/sqlite without what it does to survive a power cut: a
// test does not, and would wait for the disk.
func unsynced(path string) gorm.Dialector {
	return sqlite.Open("file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&_txlock=immediate")
}

// Open is NewDBWith on another database, such as a PostgreSQL that the test
// started. The tables must be the test's own.
func Open(t testing.TB, d gorm.Dialector, change func(*storage.Config), models ...any) *DB {
	t.Helper()
	trail := audittest.New(t)
	cfg := storage.Config{
		KEK:      cryptotest.NewKEK(),
		Audit:    trail,
		Access:   rbac.Starter(),
		Minimize: minimize.Starter(),
		NewID:    SeededIDs(164),
	}
	if change != nil {
		change(&cfg)
	}
	db, err := storage.Open(d, cfg)
	if err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	t.Cleanup(func() {
		if err := storage.Close(db); err != nil {
			t.Errorf("storagetest: close: %v", err)
		}
	})
	if err := storage.Migrate(t.Context(), db, models...); err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	return &DB{DB: db, Trail: trail, cfg: cfg}
}

// SeededIDs returns a generator of UUIDs (version 4 in form) that gives the
// same IDs for the same seed. It is safe for concurrent use.
func SeededIDs(seed uint64) func() string {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 164))
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[:8], rng.Uint64())
		binary.BigEndian.PutUint64(id[8:], rng.Uint64())
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		return id.String()
	}
}

// RawColumn returns the stored bytes of one column of one record, read past
// storage; nil is NULL. Table and column are named as in the database, without
// quotes; the record's ID is in its column id.
func RawColumn(t testing.TB, db *gorm.DB, table, column, id string) []byte {
	t.Helper()
	sqlDB, err := db.DB()
	if err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	mark := "?"
	if db.Name() == "postgres" {
		mark = "$1"
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s = %s", quote(db, column), quote(db, table), quote(db, "id"), mark)
	var raw []byte
	switch err := sqlDB.QueryRowContext(t.Context(), query, id).Scan(&raw); {
	case errors.Is(err, sql.ErrNoRows):
		t.Fatalf("storagetest: %s has no record %s", table, id)
	case err != nil:
		t.Fatalf("storagetest: read %s.%s: %v", table, column, err)
	}
	return raw
}

// quote writes a name as the database wants it: a dot is between a schema and
// its table.
func quote(db *gorm.DB, name string) string {
	var b strings.Builder
	db.QuoteTo(&b, name)
	return b.String()
}
