// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// A stack is a keyring on key tables in memory, with a clock to turn.
type stack struct {
	ring *crypto.Keyring
	db   *cryptotest.Store
	kek  crypto.KEK

	mu  sync.Mutex
	now time.Time
}

func newStack(t testing.TB, kek crypto.KEK, change ...func(*crypto.Config)) *stack {
	t.Helper()
	s := &stack{db: cryptotest.NewStore(), kek: kek, now: time.Now()}
	s.ring = s.newRing(t, change...)
	return s
}

// newRing returns another process's keyring on the same tables.
func (s *stack) newRing(t testing.TB, change ...func(*crypto.Config)) *crypto.Keyring {
	t.Helper()
	cfg := crypto.Config{KEK: s.kek, Now: func() time.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.now
	}}
	for _, f := range change {
		f(&cfg)
	}
	ring, err := crypto.NewKeyring(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func (s *stack) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// begin begins a transaction of the database and its keys.
func (s *stack) begin(t testing.TB) (*crypto.KeyTx, cryptotest.Tx) {
	t.Helper()
	dbtx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.ring.Begin(dbtx), dbtx
}

// sealing begins a transaction and takes the subjects' keys in it.
func (s *stack) sealing(t testing.TB, tenant string, subjects ...string) (map[string]*crypto.Key, *crypto.KeyTx, cryptotest.Tx) {
	t.Helper()
	tx, dbtx := s.begin(t)
	return sealingKeys(t, tx, tenant, subjects...), tx, dbtx
}

// store makes keys for the subjects in a transaction that commits. They are not
// published: the ring has not seen them.
func (s *stack) store(t testing.TB, tenant string, subjects ...string) map[string]*crypto.Key {
	t.Helper()
	keys, tx, dbtx := s.sealing(t, tenant, subjects...)
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, dbtx)
	return keys
}

func sealingKeys(t testing.TB, tx *crypto.KeyTx, tenant string, subjects ...string) map[string]*crypto.Key {
	t.Helper()
	keys, err := tx.SealingKeys(t.Context(), tenant, subjects)
	if err != nil {
		t.Fatalf("SealingKeys(%s, %q) = %v", tenant, subjects, err)
	}
	return keys
}

func commit(t testing.TB, dbtx cryptotest.Tx) {
	t.Helper()
	if err := dbtx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func rollback(t testing.TB, dbtx cryptotest.Tx) {
	t.Helper()
	if err := dbtx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func refs(subjects ...string) []crypto.KeyRef {
	var r []crypto.KeyRef
	for _, s := range subjects {
		r = append(r, crypto.KeyRef{Subject: s, Version: 1})
	}
	return r
}

// lookup is Lookup of one key.
func (s *stack) lookup(t testing.TB, tenant, subject string) (*crypto.Key, error) {
	t.Helper()
	return lookup(t, func(ctx context.Context, refs []crypto.KeyRef) ([]crypto.Found, error) {
		return s.ring.Lookup(ctx, s.db.Rows(), tenant, refs)
	}, subject)
}

func lookupTx(t testing.TB, tx *crypto.KeyTx, tenant, subject string) (*crypto.Key, error) {
	t.Helper()
	return lookup(t, func(ctx context.Context, refs []crypto.KeyRef) ([]crypto.Found, error) {
		return tx.Lookup(ctx, tenant, refs)
	}, subject)
}

func lookup(t testing.TB, f func(context.Context, []crypto.KeyRef) ([]crypto.Found, error), subject string) (*crypto.Key, error) {
	t.Helper()
	found, err := f(t.Context(), refs(subject))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || (found[0].Key == nil) == (found[0].Err == nil) {
		t.Fatalf("Lookup() = %v: not one key or one error", found)
	}
	return found[0].Key, found[0].Err
}

// same reports whether what a seals at a place b opens.
func same(t testing.TB, a, b *crypto.Key, tenant, subject string) bool {
	t.Helper()
	at := crypto.Binding{Tenant: tenant, Field: "f", Record: "r", Subject: subject}
	cell, err := a.Seal(nil, []byte("plaintext"), at)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Open(nil, cell, at)
	return err == nil
}

// hooked is key tables that run a function before or after a call.
type hooked struct {
	crypto.KeyRows
	beforeInsert       func(crypto.KeyRow)
	beforeInsertTenant func(use string)
	afterSubjectKeys   func()
	changeSubjectKeys  func([]crypto.KeyRow) []crypto.KeyRow
	generation         func(context.Context) (uint64, error)
}

func (h *hooked) InsertSubjectKey(ctx context.Context, row crypto.KeyRow) error {
	if h.beforeInsert != nil {
		h.beforeInsert(row)
	}
	return h.KeyRows.InsertSubjectKey(ctx, row)
}

func (h *hooked) InsertTenantKeyset(ctx context.Context, tenant, use string, wrapped []byte) error {
	if h.beforeInsertTenant != nil {
		h.beforeInsertTenant(use)
	}
	return h.KeyRows.InsertTenantKeyset(ctx, tenant, use, wrapped)
}

func (h *hooked) SubjectKeys(ctx context.Context, tenant string, subjects []string, lock bool) ([]crypto.KeyRow, error) {
	rows, err := h.KeyRows.SubjectKeys(ctx, tenant, subjects, lock)
	if h.afterSubjectKeys != nil {
		h.afterSubjectKeys()
	}
	if h.changeSubjectKeys != nil {
		rows = h.changeSubjectKeys(rows)
	}
	return rows, err
}

func (h *hooked) Generation(ctx context.Context) (uint64, error) {
	if h.generation != nil {
		return h.generation(ctx)
	}
	return h.KeyRows.Generation(ctx)
}
