// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

func TestKeyIsNotPublishedBeforeCommit(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p0")
	if _, err := s.lookup(t, "t1", "p0"); err != nil { // the ring is warm
		t.Fatal(err)
	}
	keys, tx, dbtx := s.sealing(t, "t1", "p1")
	if k, err := lookupTx(t, tx, "t1", "p1"); err != nil || !same(t, k, keys["p1"], "t1", "p1") {
		t.Errorf("the transaction's own Lookup() = %v, want the key made in it", err)
	}
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup() before the commit = %v, want ErrNoKey", err)
	}
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup() after Precommit = %v, want ErrNoKey", err)
	}
	rollback(t, dbtx)
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup() after the rollback = %v, want ErrNoKey", err)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	s.store(t, "t0", "p0")
	if _, err := s.lookup(t, "t0", "p0"); err != nil {
		t.Fatal(err)
	}
	keys, tx, dbtx := s.sealing(t, "t1", "p1", "")
	index, err := tx.IndexingKeys(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, dbtx)
	tx.Publish()
	queries, decrypts := s.db.Queries(), kek.Decrypts()
	for _, p := range []string{"p1", ""} {
		if k, err := s.lookup(t, "t1", p); err != nil || !same(t, k, keys[p], "t1", p) {
			t.Errorf("Lookup(%q) = %v, want the key made", p, err)
		}
	}
	if k, err := s.ring.IndexKeys(t.Context(), s.db.Rows(), "t1"); err != nil || len(k) != 1 || k[0].Version() != index[0].Version() {
		t.Errorf("IndexKeys() = %v, %v; want the key made", k, err)
	}
	if s.db.Queries() != queries || kek.Decrypts() != decrypts {
		t.Error("published keys were read again")
	}
	// The transaction is over.
	tx.Publish()
	if _, err := tx.SealingKeys(t.Context(), "t1", []string{"p1"}); err == nil {
		t.Error("SealingKeys() works after Publish")
	}
	if _, err := tx.Lookup(t.Context(), "t1", refs("p1")); err == nil {
		t.Error("Lookup() works after Publish")
	}
	if _, err := tx.IndexingKeys(t.Context(), "t1"); err == nil {
		t.Error("IndexKeys() works after Publish")
	}
	if err := tx.Precommit(t.Context()); err == nil {
		t.Error("Precommit() works after Publish")
	}
}

func TestOnlyWhatPrecommitFoundIsPublished(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p0")
	if _, err := s.lookup(t, "t1", "p0"); err != nil {
		t.Fatal(err)
	}
	_, tx, dbtx := s.sealing(t, "t1", "p1")
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealingKeys(t, tx, "t1", "p2") // and no second Precommit
	rollback(t, dbtx)              // the database lost both
	tx.Publish()                   // the owner is wrong about the outcome
	if _, err := s.lookup(t, "t1", "p2"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup(key that was not checked) = %v, want ErrNoKey", err)
	}
}

func TestReleasePublishesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p0")
	if _, err := s.lookup(t, "t1", "p0"); err != nil {
		t.Fatal(err)
	}
	tx, dbtx := s.begin(t)
	savepoint(t, tx, dbtx, "sp1")
	sealingKeys(t, tx, "t1", "p1")
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx.Release("sp1")
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup() after RELEASE = %v, want ErrNoKey", err)
	}
	if _, err := lookupTx(t, tx, "t1", "p1"); err != nil {
		t.Errorf("the transaction's own Lookup() after RELEASE = %v", err)
	}
	rollback(t, dbtx)
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup() after the rollback = %v, want ErrNoKey", err)
	}
}

func TestRollbackToDropsTheKeysMadeSince(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	ctx := t.Context()
	tx, dbtx := s.begin(t)
	kept := sealingKeys(t, tx, "t1", "p1")["p1"]
	savepoint(t, tx, dbtx, "sp1")
	lost := sealingKeys(t, tx, "t1", "p1", "p2")
	if !same(t, kept, lost["p1"], "t1", "p1") {
		t.Error("one transaction gives p1 two keys")
	}
	rollbackTo(t, tx, dbtx, "sp1")
	if _, err := lookupTx(t, tx, "t1", "p2"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup(p2) after ROLLBACK TO = %v, want ErrNoKey", err)
	}
	if k, err := lookupTx(t, tx, "t1", "p1"); err != nil || !same(t, k, kept, "t1", "p1") {
		t.Errorf("Lookup(p1) after ROLLBACK TO = %v, want the key made before the savepoint", err)
	}
	again := sealingKeys(t, tx, "t1", "p2", "p1")
	if same(t, again["p2"], lost["p2"], "t1", "p2") {
		t.Error("p2 got the lost key back")
	}
	if !same(t, again["p1"], kept, "t1", "p1") {
		t.Error("p1 lost its key")
	}
	rollbackTo(t, tx, dbtx, "sp1") // the savepoint is still set
	if err := tx.Precommit(ctx); err != nil {
		t.Fatalf("Precommit() = %v", err)
	}
	commit(t, dbtx)
	tx.Publish()
	if _, err := s.lookup(t, "t1", "p2"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup(p2) = %v, want ErrNoKey", err)
	}
	if k, err := s.lookup(t, "t1", "p1"); err != nil || !same(t, k, kept, "t1", "p1") {
		t.Errorf("Lookup(p1) = %v", err)
	}
}

// TestRollbackToDropsTenantKeys: so with the tenant's own.
func TestRollbackToDropsTenantKeys(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	tx, dbtx := s.begin(t)
	savepoint(t, tx, dbtx, "sp1")
	lost := sealingKeys(t, tx, "t1", "p1")["p1"]
	index, err := tx.IndexingKeys(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	rollbackTo(t, tx, dbtx, "sp1")
	kept := sealingKeys(t, tx, "t1", "p1")["p1"]
	if same(t, lost, kept, "t1", "p1") {
		t.Error("p1 got the lost key back")
	}
	again, err := tx.IndexingKeys(t.Context(), "t1")
	if err != nil || string(again[0].Token("f", "exact", "v")) == string(index[0].Token("f", "exact", "v")) {
		t.Errorf("the lost index key came back (%v)", err)
	}
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, dbtx)
	tx.Publish()
	// Another process, which has the tables only, opens what was sealed.
	s.ring = s.newRing(t)
	if k, err := s.lookup(t, "t1", "p1"); err != nil || !same(t, kept, k, "t1", "p1") {
		t.Errorf("another process's Lookup() = %v", err)
	}
}

func TestSavepointNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, tx *crypto.KeyTx, dbtx cryptotest.Tx)
		kept []string
	}{
		{"a name twice means the newer", func(t *testing.T, tx *crypto.KeyTx, dbtx cryptotest.Tx) {
			savepoint(t, tx, dbtx, "a")
			sealingKeys(t, tx, "t1", "p1")
			savepoint(t, tx, dbtx, "a")
			sealingKeys(t, tx, "t1", "p2")
			rollbackTo(t, tx, dbtx, "a")
		}, []string{"p0", "p1"}},
		{"released, it means the older", func(t *testing.T, tx *crypto.KeyTx, dbtx cryptotest.Tx) {
			savepoint(t, tx, dbtx, "a")
			sealingKeys(t, tx, "t1", "p1")
			tx.Savepoint("a")
			sealingKeys(t, tx, "t1", "p2")
			tx.Release("a")
			rollbackTo(t, tx, dbtx, "a")
		}, []string{"p0"}},
		{"an outer one takes the inner along", func(t *testing.T, tx *crypto.KeyTx, dbtx cryptotest.Tx) {
			savepoint(t, tx, dbtx, "a")
			sealingKeys(t, tx, "t1", "p1")
			savepoint(t, tx, dbtx, "b")
			sealingKeys(t, tx, "t1", "p2")
			rollbackTo(t, tx, dbtx, "a")
			tx.RollbackTo("b") // unknown by now: drops all, which is safe
		}, nil},
		{"an unknown one drops every key", func(t *testing.T, tx *crypto.KeyTx, dbtx cryptotest.Tx) {
			sealingKeys(t, tx, "t1", "p1")
			tx.RollbackTo("nobody set it")
		}, nil},
		{"an unknown one is not released", func(t *testing.T, tx *crypto.KeyTx, dbtx cryptotest.Tx) {
			savepoint(t, tx, dbtx, "a")
			sealingKeys(t, tx, "t1", "p1")
			tx.Release("nobody set it")
			rollbackTo(t, tx, dbtx, "a")
		}, []string{"p0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, cryptotest.NewKEK())
			s.store(t, "t9", "p9")
			if _, err := s.lookup(t, "t9", "p9"); err != nil {
				t.Fatal(err)
			}
			_, tx, dbtx := s.sealing(t, "t1", "p0")
			tt.do(t, tx, dbtx)
			if err := tx.Precommit(t.Context()); err != nil {
				t.Fatalf("Precommit() = %v", err)
			}
			commit(t, dbtx)
			tx.Publish()
			for _, p := range []string{"p0", "p1", "p2"} {
				before := s.db.Queries()
				_, err := s.lookup(t, "t1", p)
				published := err == nil && s.db.Queries() == before
				want := false
				for _, k := range tt.kept {
					want = want || k == p
				}
				if published != want {
					t.Errorf("%s is published: %v (%v), want %v", p, published, err, want)
				}
			}
		})
	}
}

func savepoint(t testing.TB, tx *crypto.KeyTx, dbtx cryptotest.Tx, name string) {
	t.Helper()
	if err := dbtx.Savepoint(name); err != nil {
		t.Fatal(err)
	}
	tx.Savepoint(name)
}

func rollbackTo(t testing.TB, tx *crypto.KeyTx, dbtx cryptotest.Tx, name string) {
	t.Helper()
	if err := dbtx.RollbackTo(name); err != nil {
		t.Fatal(err)
	}
	tx.RollbackTo(name)
}

func TestShreddedSubjectGetsNoNewKey(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1", "p2")
	if _, err := s.lookup(t, "t1", "p1"); err != nil { // cached, and still fresh
		t.Fatal(err)
	}
	for _, p := range []string{"p1", "p3"} { // p3 never had a key
		if err := s.db.Shred(t.Context(), "t1", p); err != nil {
			t.Fatal(err)
		}
	}
	dbtx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer dbtx.Rollback()
	inserts := 0
	tx := s.ring.Begin(&hooked{KeyRows: dbtx, beforeInsert: func(crypto.KeyRow) { inserts++ }})
	for _, p := range []string{"p1", "p3"} {
		keys, err := tx.SealingKeys(t.Context(), "t1", []string{"p2", p, "p4"})
		var which *crypto.SubjectError
		if keys != nil || !errors.Is(err, crypto.ErrShredded) || !errors.As(err, &which) || which.Subject != p {
			t.Errorf("SealingKeys(shredded %s) = %v, %v; want a SubjectError of ErrShredded", p, keys, err)
		}
	}
	if inserts != 0 {
		t.Errorf("%d keys were made all the same", inserts)
	}
	if keys := sealingKeys(t, tx, "t1", "p2"); keys["p2"] == nil {
		t.Error("p2 has no key")
	}
}

// TestShredBeforeTheSecondRead: a tombstone that appears between the two
// locked reads counts.
func TestShredBeforeTheSecondRead(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	rows := &hooked{KeyRows: s.db.Rows(), beforeInsert: func(crypto.KeyRow) {
		if err := s.db.Shred(t.Context(), "t1", "p1"); err != nil {
			t.Error(err)
		}
	}}
	if _, err := s.ring.Begin(rows).SealingKeys(t.Context(), "t1", []string{"p1"}); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("SealingKeys() = %v, want ErrShredded", err)
	}
}

func TestConcurrentCreatorsKeyWins(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	other := s.newRing(t)
	var theirs map[string]*crypto.Key
	var theirIndex []*crypto.IndexKey
	compete := func() {
		var err error
		tx := other.Begin(s.db.Rows()) // each call commits by itself
		if theirs, err = tx.SealingKeys(t.Context(), "t1", []string{"p1"}); err != nil {
			t.Error(err)
		}
		if theirIndex, err = tx.IndexingKeys(t.Context(), "t1"); err != nil {
			t.Error(err)
		}
	}
	t.Run("of the tenant's keysets", func(t *testing.T) {
		done := make(map[string]bool)
		rows := &hooked{KeyRows: s.db.Rows(), beforeInsertTenant: func(use string) {
			if !done[use] {
				done[use] = true
				compete()
			}
		}}
		tx := s.ring.Begin(rows)
		mine := sealingKeys(t, tx, "t1", "p2")
		index, err := tx.IndexingKeys(t.Context(), "t1")
		if err != nil || string(index[0].Token("f", "k", "v")) != string(theirIndex[0].Token("f", "k", "v")) {
			t.Errorf("IndexKeys() = %v: not the other's key", err)
		}
		if err := tx.Precommit(t.Context()); err != nil {
			t.Fatal(err)
		}
		tx.Publish()
		s.ring = s.newRing(t)
		if k, err := s.lookup(t, "t1", "p2"); err != nil || !same(t, mine["p2"], k, "t1", "p2") {
			t.Errorf("the key made under the other's keyset: Lookup() = %v", err)
		}
	})
	t.Run("of the subject's key", func(t *testing.T) {
		s.db, theirs = cryptotest.NewStore(), nil
		s.ring, other = s.newRing(t), s.newRing(t)
		rows := &hooked{KeyRows: s.db.Rows(), beforeInsert: func(crypto.KeyRow) {
			if theirs == nil {
				compete()
			}
		}}
		tx := s.ring.Begin(rows)
		mine := sealingKeys(t, tx, "t1", "p1")
		if !same(t, mine["p1"], theirs["p1"], "t1", "p1") {
			t.Error("SealingKeys() gives a key that is not in the table")
		}
		if err := tx.Precommit(t.Context()); err != nil {
			t.Errorf("Precommit() = %v", err)
		}
	})
}

func TestPrecommitMissesALostKey(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, s *stack){
		"missing":  func(t *testing.T, s *stack) { s.db.Retire(t.Context(), "t1", "p1") },
		"shredded": func(t *testing.T, s *stack) { s.db.Shred(t.Context(), "t1", "p1") },
		"exchanged": func(t *testing.T, s *stack) {
			s.db.Retire(t.Context(), "t1", "p1")
			s.newRing(t).Begin(s.db.Rows()).SealingKeys(t.Context(), "t1", []string{"p1"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, cryptotest.NewKEK())
			tx := s.ring.Begin(s.db.Rows()) // each call commits by itself, so others may interfere
			sealingKeys(t, tx, "t1", "p1", "p2")
			if err := tx.Precommit(t.Context()); err != nil {
				t.Fatalf("Precommit() = %v", err)
			}
			lose(t, s)
			err := tx.Precommit(t.Context())
			var which *crypto.SubjectError
			if !errors.Is(err, crypto.ErrKeyLost) || !errors.As(err, &which) || which.Subject != "p1" {
				t.Errorf("Precommit() = %v, want a SubjectError of ErrKeyLost", err)
			}
		})
	}
	t.Run("tenant's", func(t *testing.T) {
		t.Parallel()
		for _, use := range []string{"wrap", "index"} {
			s := newStack(t, cryptotest.NewKEK())
			gone := &noTenant{KeyRows: s.db.Rows()}
			tx := s.ring.Begin(gone)
			sealingKeys(t, tx, "t1", "p1")
			if _, err := tx.IndexingKeys(t.Context(), "t1"); err != nil {
				t.Fatal(err)
			}
			gone.use = use
			if err := tx.Precommit(t.Context()); !errors.Is(err, crypto.ErrKeyLost) {
				t.Errorf("Precommit() without the %s keyset = %v, want ErrKeyLost", use, err)
			}
		}
	})
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, cryptotest.NewKEK())
		tx := s.ring.Begin(s.db.Rows())
		sealingKeys(t, tx, "t1", "p1")
		down := errors.New("connection lost")
		s.db.Fail(down)
		if err := tx.Precommit(t.Context()); !errors.Is(err, down) {
			t.Errorf("Precommit() = %v, want the table's error", err)
		}
	})
}

// noTenant is key tables that have lost the keyset of one use.
type noTenant struct {
	crypto.KeyRows
	use string
}

func (n *noTenant) TenantKeyset(ctx context.Context, tenant, use string, lock bool) ([]byte, error) {
	if use == n.use {
		return nil, nil
	}
	return n.KeyRows.TenantKeyset(ctx, tenant, use, lock)
}

// TestLostTenantKeyIsNotReplaced: where subjects have keys, a new keyset of the
// tenant would open none of them and stand in the way of the old one.
func TestLostTenantKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	rows := &noTenant{KeyRows: &hooked{KeyRows: s.db.Rows(), beforeInsertTenant: func(string) {
		t.Error("a keyset was inserted")
	}}, use: "wrap"}
	if _, err := s.ring.Begin(rows).SealingKeys(t.Context(), "t1", []string{"p1", "p2"}); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("SealingKeys() = %v, want ErrNoKey", err)
	}
	found, err := s.ring.Lookup(t.Context(), rows, "t1", refs("p1"))
	if err != nil || !errors.Is(found[0].Err, crypto.ErrNoKey) {
		t.Errorf("Lookup() = %v, %v; want ErrNoKey", found, err)
	}
}

func TestInsertThatIsNotSeen(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	blind := &hooked{KeyRows: s.db.Rows(), changeSubjectKeys: func([]crypto.KeyRow) []crypto.KeyRow { return nil }}
	if _, err := s.ring.Begin(blind).SealingKeys(t.Context(), "t1", []string{"p1"}); !errors.Is(err, crypto.ErrKeyLost) {
		t.Errorf("SealingKeys() = %v, want ErrKeyLost", err)
	}
	if _, err := s.ring.Begin(&noTenant{s.db.Rows(), "index"}).IndexingKeys(t.Context(), "t1"); !errors.Is(err, crypto.ErrKeyLost) {
		t.Errorf("IndexKeys() = %v, want ErrKeyLost", err)
	}
}

// TestSealingReadsTheRows: whatever is cached, a sealing statement reads the
// rows, locked.
func TestSealingReadsTheRows(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	rows := &locks{KeyRows: s.db.Rows()}
	tx := s.ring.Begin(rows)
	for i := range 3 {
		sealingKeys(t, tx, "t1", "p1")
		if rows.locked != i+1 || rows.unlocked != 0 {
			t.Errorf("after %d statements there were %d locked and %d unlocked reads", i+1, rows.locked, rows.unlocked)
		}
	}
	sealingKeys(t, tx, "t1", "p2")
	if rows.locked != 5 {
		t.Errorf("a new key took %d locked reads, want 2", rows.locked-3)
	}
	if _, err := s.ring.Begin(rows).SealingKeys(t.Context(), "", []string{"p1"}); !errors.Is(err, crypto.ErrBinding) {
		t.Errorf("SealingKeys(no tenant) = %v, want ErrBinding", err)
	}
	if _, err := s.ring.Begin(rows).IndexingKeys(t.Context(), ""); !errors.Is(err, crypto.ErrBinding) {
		t.Errorf("IndexingKeys(no tenant) = %v, want ErrBinding", err)
	}
}

type locks struct {
	crypto.KeyRows
	locked, unlocked int
}

func (l *locks) SubjectKeys(ctx context.Context, tenant string, subjects []string, lock bool) ([]crypto.KeyRow, error) {
	if lock {
		l.locked++
	} else {
		l.unlocked++
	}
	return l.KeyRows.SubjectKeys(ctx, tenant, subjects, lock)
}

// TestNewestKeySeals: versions make room for rotation.
func TestNewestKeySeals(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	row := crypto.KeyRow{Tenant: "t1", Subject: "p1", Version: 7, Wrapped: []byte("does not unwrap")}
	if err := s.db.Rows().InsertSubjectKey(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	tx, dbtx := s.begin(t)
	defer dbtx.Rollback()
	if _, err := tx.SealingKeys(t.Context(), "t1", []string{"p1"}); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("SealingKeys() = %v, want that of version 7: ErrUnwrap", err)
	}
	if k, err := s.lookup(t, "t1", "p1"); err != nil || k.Version() != 1 {
		t.Errorf("Lookup(version 1) = %v, %v", k, err)
	}
}

// TestTransactionsReadsAreNotCached: what a transaction reads may be older than
// a shred, or never be committed.
func TestTransactionsReadsAreNotCached(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	s.store(t, "t1", "p1")
	if _, err := s.lookup(t, "t9", "p9"); !errors.Is(err, crypto.ErrNoKey) { // the ring is fresh
		t.Fatal(err)
	}
	tx, dbtx := s.begin(t)
	if _, err := lookupTx(t, tx, "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	tx.Publish()
	rollback(t, dbtx)
	before := s.db.Queries()
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	if s.db.Queries() == before {
		t.Error("a key read in a transaction was cached")
	}
	if kek.Decrypts() != 1 {
		t.Errorf("the KEK was asked %d times, want once: the unwrapped keyset may be kept", kek.Decrypts())
	}
	// And a transaction uses what is cached.
	tx, dbtx = s.begin(t)
	defer dbtx.Rollback()
	before = s.db.Queries()
	if _, err := lookupTx(t, tx, "t1", "p1"); err != nil || s.db.Queries() != before {
		t.Errorf("Lookup() of a cached key in a transaction = %v, with %d queries", err, s.db.Queries()-before)
	}
	s.advance(5 * time.Second) // the generation is old: the rows decide
	if _, err := lookupTx(t, tx, "t1", "p1"); err != nil || s.db.Queries() == before {
		t.Errorf("Lookup() in a transaction, generation old = %v, with %d queries", err, s.db.Queries()-before)
	}
}

// TestPublishAfterShredIsNotCached: between COMMIT and Publish the key was
// shredded, and the ring has noticed.
func TestPublishAfterShredIsNotCached(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p0")
	if _, err := s.lookup(t, "t1", "p0"); err != nil {
		t.Fatal(err)
	}
	_, tx, dbtx := s.sealing(t, "t1", "p1")
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, dbtx)
	if err := s.db.Shred(t.Context(), "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	s.advance(5 * time.Second)
	if _, err := s.lookup(t, "t1", "p0"); err != nil {
		t.Fatal(err)
	}
	tx.Publish()
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("Lookup() = %v, want ErrShredded: a shredded key was published", err)
	}
}

func TestKEKFailsWhileAKeyIsMade(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	down := errors.New("KMS is down")
	kek.Fail(down)
	tx, dbtx := s.begin(t)
	if keys, err := tx.SealingKeys(t.Context(), "t1", []string{"p1"}); keys != nil || !errors.Is(err, down) {
		t.Errorf("SealingKeys() = %v, %v; want the KEK's error", keys, err)
	}
	if _, err := tx.IndexingKeys(t.Context(), "t1"); !errors.Is(err, down) {
		t.Errorf("IndexKeys() = %v, want the KEK's error", err)
	}
	kek.Fail(nil)
	sealingKeys(t, tx, "t1", "p1")
	if err := tx.Precommit(t.Context()); err != nil {
		t.Error(err)
	}
	commit(t, dbtx)
}

func TestTablesFailWhileAKeyIsMade(t *testing.T) {
	t.Parallel()
	down := errors.New("connection lost")
	for name, hook := range map[string]func(*cryptotest.Store) *hooked{
		"at the tenant's insert": func(db *cryptotest.Store) *hooked {
			return &hooked{beforeInsertTenant: func(string) { db.Fail(down) }}
		},
		"at the subject's insert": func(db *cryptotest.Store) *hooked {
			return &hooked{beforeInsert: func(crypto.KeyRow) { db.Fail(down) }}
		},
		"at the next read": func(db *cryptotest.Store) *hooked {
			return &hooked{afterSubjectKeys: func() { db.Fail(down) }}
		},
	} {
		s := newStack(t, cryptotest.NewKEK())
		rows := hook(s.db)
		rows.KeyRows = s.db.Rows()
		if keys, err := s.ring.Begin(rows).SealingKeys(t.Context(), "t1", []string{"p1"}); keys != nil || !errors.Is(err, down) {
			t.Errorf("%s: SealingKeys() = %v, %v; want the table's error", name, keys, err)
		}
	}
}

// TestAnyOrderOfTransactions runs random transactions with savepoints, shreds
// and lookups, and asks after each step whether the ring knows a key that the
// committed tables do not hold, or another one: what it would seal or open
// then, nobody else ever could.
func TestAnyOrderOfTransactions(t *testing.T) {
	t.Parallel()
	runs, steps := 15, 120
	if os.Getenv("PART164_TEST_LONG") != "" {
		runs, steps = 400, 250
	}
	for run := range runs {
		seed := rand.Uint64()
		if t.Failed() {
			return
		}
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			s := newStack(t, cryptotest.NewKEK())
			subjects := []string{"", "p1", "p2", "p3"}
			some := func() string { return subjects[r.IntN(len(subjects))] }
			var tx *crypto.KeyTx
			var dbtx cryptotest.Tx
			var names []string
			var trace []string
			defer func() {
				if t.Failed() {
					t.Logf("seed %d: %v", seed, trace)
				}
				if dbtx != nil {
					dbtx.Rollback()
				}
			}()
			for range steps {
				act := r.IntN(10)
				trace = append(trace, fmt.Sprint(act))
				if tx == nil {
					if act < 8 {
						tx, dbtx = s.begin(t)
						names = nil
					} else if err := s.db.Shred(t.Context(), "t1", some()); err != nil {
						t.Fatal(err)
					} else if r.IntN(2) == 0 { // else shredding would soon end everything
						s.db = cryptotest.NewStore()
						s.ring = s.newRing(t)
					}
				} else {
					switch act {
					case 0, 1, 2:
						_, err := tx.SealingKeys(t.Context(), "t1", []string{some(), some()})
						if err != nil && !errors.Is(err, crypto.ErrShredded) {
							t.Fatalf("SealingKeys() = %v", err)
						}
					case 3:
						name := fmt.Sprint("sp", r.IntN(3))
						savepoint(t, tx, dbtx, name)
						names = append(names, name)
					case 4, 5:
						if len(names) > 0 {
							i := r.IntN(len(names))
							for j := range names { // the newest of that name
								if names[j] == names[i] && j > i {
									i = j
								}
							}
							rollbackTo(t, tx, dbtx, names[i])
							names = names[:i+1]
						}
					case 6:
						p := some()
						if _, err := lookupTx(t, tx, "t1", p); err != nil && !errors.Is(err, crypto.ErrNoKey) && !errors.Is(err, crypto.ErrShredded) {
							t.Fatalf("Lookup() in the transaction = %v", err)
						}
					case 7:
						if _, err := tx.IndexingKeys(t.Context(), "t1"); err != nil {
							t.Fatal(err)
						}
					case 8:
						if err := tx.Precommit(t.Context()); err != nil {
							t.Fatalf("Precommit() = %v", err)
						}
						commit(t, dbtx)
						if r.IntN(4) > 0 { // else the outcome was unknown
							tx.Publish()
						}
						tx, dbtx = nil, nil
					case 9:
						rollback(t, dbtx)
						tx, dbtx = nil, nil
					}
				}
				s.advance(time.Duration(r.IntN(8)) * time.Second)
				if r.IntN(3) == 0 {
					continue // or the ring would always be freshly read
				}
				oracle := s.newRing(t)
				for _, p := range subjects {
					got, err := s.lookup(t, "t1", p)
					found, oerr := oracle.Lookup(t.Context(), s.db.Rows(), "t1", refs(p))
					if oerr != nil {
						t.Fatal(oerr)
					}
					want := found[0]
					switch {
					case err == nil && want.Err == nil:
						if !same(t, got, want.Key, "t1", p) {
							t.Fatalf("the ring holds another key of %q than the tables", p)
						}
					case err == nil && errors.Is(want.Err, crypto.ErrShredded): // within the interval
						s.advance(5 * time.Second)
						if _, err := s.lookup(t, "t1", p); !errors.Is(err, crypto.ErrShredded) {
							t.Fatalf("the ring opens %q, which is shredded: %v", p, err)
						}
					case err == nil:
						t.Fatalf("the ring holds a key of %q that the tables do not: %v", p, want.Err)
					case want.Err == nil:
						t.Fatalf("the ring has no key of %q: %v", p, err)
					}
				}
			}
		})
	}
}
