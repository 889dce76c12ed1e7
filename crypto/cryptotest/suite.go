// SPDX-License-Identifier: Apache-2.0

package cryptotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/crypto"
)

// DB is the database whose key tables [TestKeyRows] tests. [Store] is one.
type DB interface {
	// Rows returns the key tables outside any transaction.
	Rows() crypto.KeyRows

	// Begin begins a transaction.
	Begin(ctx context.Context) (Tx, error)

	// Shred deletes the subject's keys, leaves a tombstone and changes the
	// generation, in a transaction of its own.
	Shred(ctx context.Context, tenant, subject string) error
}

// Tx is the key tables inside one transaction.
type Tx interface {
	crypto.KeyRows
	Savepoint(name string) error
	RollbackTo(name string) error
	Commit() error
	Rollback() error
}

var _ DB = (*Store)(nil)

// TestKEK runs the contract of crypto.KEK against the KEKs that open returns,
// once a subtest. They may be the same key each time.
func TestKEK(t *testing.T, open func(t *testing.T) crypto.KEK) {
	plaintext, data := []byte("a key of 32 bytes, more or less."), []byte("tenant t1")

	t.Run("round trip", func(t *testing.T) {
		k := open(t)
		for _, p := range [][]byte{plaintext, {}, bytes.Repeat([]byte{7}, 5000)} {
			if got := mustDecrypt(t, k, mustEncrypt(t, k, p, data), data); !bytes.Equal(got, p) {
				t.Errorf("a plaintext of %d bytes came back as %d others", len(p), len(got))
			}
		}
		if got := mustDecrypt(t, k, mustEncrypt(t, k, plaintext, nil), nil); !bytes.Equal(got, plaintext) {
			t.Error("without associated data the plaintext came back as another")
		}
	})
	t.Run("each ciphertext is new", func(t *testing.T) {
		k := open(t)
		a, b := mustEncrypt(t, k, plaintext, data), mustEncrypt(t, k, plaintext, data)
		if bytes.Equal(a, b) {
			t.Error("one plaintext twice gives the same ciphertext")
		}
		if bytes.Contains(a, plaintext) {
			t.Error("the ciphertext holds the plaintext")
		}
	})
	t.Run("bound to the associated data", func(t *testing.T) {
		k := open(t)
		c := mustEncrypt(t, k, plaintext, data)
		for _, other := range [][]byte{nil, []byte("tenant t2"), append(slices.Clone(data), 0)} {
			if p, err := k.DecryptWithContext(t.Context(), c, other); err == nil || p != nil {
				t.Errorf("opens under associated data %q", other)
			}
		}
	})
	t.Run("altered bytes do not open", func(t *testing.T) {
		k := open(t)
		c := mustEncrypt(t, k, plaintext, data)
		// The ends hold what a format has: prefix, IV and tag. A remote KEK
		// would be slow to try every byte.
		for _, i := range []int{0, 1, len(c) / 2, len(c) - 1} {
			bad := slices.Clone(c)
			bad[i] ^= 1
			_, err := k.DecryptWithContext(t.Context(), bad, data)
			if err == nil {
				t.Errorf("opens with byte %d of %d changed", i, len(c))
			} else if bytes.Contains([]byte(err.Error()), plaintext) {
				t.Errorf("the error holds the plaintext")
			}
		}
		for _, n := range []int{0, 1, len(c) - 1} {
			if _, err := k.DecryptWithContext(t.Context(), c[:n], data); err == nil {
				t.Errorf("opens when cut to %d of %d bytes", n, len(c))
			}
		}
	})
	t.Run("a context that is done", func(t *testing.T) {
		k := open(t)
		c := mustEncrypt(t, k, plaintext, data)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := k.EncryptWithContext(ctx, plaintext, data); err == nil {
			t.Error("encrypts under a context that is done")
		}
		if _, err := k.DecryptWithContext(ctx, c, data); err == nil {
			t.Error("decrypts under a context that is done")
		}
	})
	t.Run("concurrent use", func(t *testing.T) {
		k := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				p := fmt.Append(nil, "plaintext ", i)
				c, err := k.EncryptWithContext(t.Context(), p, data)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := k.DecryptWithContext(t.Context(), c, data); err != nil || !bytes.Equal(got, p) {
					t.Errorf("DecryptWithContext = %q, %v; want %q", got, err, p)
				}
			})
		}
		wg.Wait()
	})
}

func mustEncrypt(t *testing.T, k crypto.KEK, plaintext, data []byte) []byte {
	t.Helper()
	c, err := k.EncryptWithContext(t.Context(), plaintext, data)
	if err != nil {
		t.Fatalf("EncryptWithContext() = %v", err)
	}
	return c
}

func mustDecrypt(t *testing.T, k crypto.KEK, ciphertext, data []byte) []byte {
	t.Helper()
	p, err := k.DecryptWithContext(t.Context(), ciphertext, data)
	if err != nil {
		t.Fatalf("DecryptWithContext() = %v", err)
	}
	return p
}

// TestKeyRows runs the contract of crypto.KeyRows against the databases that
// open returns, once a subtest, with empty key tables.
func TestKeyRows(t *testing.T, open func(t *testing.T) DB) {
	row := func(tenant, subject string, version uint32, wrapped string) crypto.KeyRow {
		return crypto.KeyRow{Tenant: tenant, Subject: subject, Version: version, Wrapped: []byte(wrapped)}
	}

	t.Run("nothing there", func(t *testing.T) {
		r := open(t).Rows()
		if got := tenantKeyset(t, r, "t1", "wrap"); got != nil {
			t.Errorf("TenantKeyset() = %x, want nil", got)
		}
		if got := subjectKeys(t, r, "t1", "p1", ""); len(got) != 0 {
			t.Errorf("SubjectKeys() = %v, want none", got)
		}
		if got := subjectKeys(t, r, "t1"); len(got) != 0 {
			t.Errorf("SubjectKeys(of none) = %v, want none", got)
		}
		a, b := generation(t, r), generation(t, r)
		if a != b {
			t.Errorf("Generation() changed from %d to %d by itself", a, b)
		}
	})
	t.Run("tenant keysets", func(t *testing.T) {
		db := open(t)
		inTx(t, db, func(tx Tx) {
			insertTenant(t, tx, "t1", "wrap", "one")
			insertTenant(t, tx, "t1", "index", "two\x00\xff")
			insertTenant(t, tx, "t2", "wrap", "three")
			insertTenant(t, tx, "t1", "wrap", "another") // no-op
			if got := tenantKeyset(t, tx, "t1", "wrap"); string(got) != "one" {
				t.Errorf("inside the transaction TenantKeyset(t1, wrap) = %q, want one", got)
			}
		})
		inTx(t, db, func(tx Tx) { insertTenant(t, tx, "t2", "wrap", "another") })
		for id, want := range map[[2]string]string{
			{"t1", "wrap"}: "one", {"t1", "index"}: "two\x00\xff", {"t2", "wrap"}: "three", {"t2", "index"}: "",
		} {
			if got := tenantKeyset(t, db.Rows(), id[0], id[1]); string(got) != want {
				t.Errorf("TenantKeyset(%v) = %q, want %q", id, got, want)
			}
			inTx(t, db, func(tx Tx) {
				if got, err := tx.TenantKeyset(t.Context(), id[0], id[1], true); string(got) != want || err != nil {
					t.Errorf("TenantKeyset(%v, lock) = %q, %v, want %q", id, got, err, want)
				}
			})
		}
	})
	t.Run("subject keys", func(t *testing.T) {
		db := open(t)
		inTx(t, db, func(tx Tx) {
			for _, r := range []crypto.KeyRow{
				row("t1", "p1", 1, "a"), row("t1", "p1", 2, "b\x00\xff"), row("t1", "p1", 4_000_000_000, "z"),
				row("t1", "", 1, "c"), row("t1", "p2", 1, "d"), row("t2", "p1", 1, "e"),
				row("t1", "p2", 1, "another"), // no-op
			} {
				insertSubject(t, tx, r)
			}
		})
		inTx(t, db, func(tx Tx) { insertSubject(t, tx, row("t1", "p1", 1, "another")) })
		for _, tt := range []struct {
			tenant   string
			subjects []string
			want     string
		}{
			{"t1", []string{"p1"}, `p1/1="a" p1/2="b\x00\xff" p1/4000000000="z"`},
			{"t1", []string{""}, `/1="c"`},
			{"t1", []string{"p2", "p3", ""}, `/1="c" p2/1="d"`},
			{"t2", []string{"p1", "p2", ""}, `p1/1="e"`},
			{"t3", []string{"p1"}, ``},
		} {
			if got := describe(subjectKeys(t, db.Rows(), tt.tenant, tt.subjects...)); got != tt.want {
				t.Errorf("SubjectKeys(%s, %q) = %s, want %s", tt.tenant, tt.subjects, got, tt.want)
			}
			for _, r := range subjectKeys(t, db.Rows(), tt.tenant, tt.subjects...) {
				if r.Tenant != tt.tenant {
					t.Errorf("SubjectKeys(%s) gave a row of tenant %s", tt.tenant, r.Tenant)
				}
			}
		}
	})
	t.Run("many subjects at once", func(t *testing.T) {
		db := open(t)
		var subjects []string
		inTx(t, db, func(tx Tx) {
			for i := range 300 {
				s := fmt.Sprintf("0190f2d4-7c1e-7000-8000-%012d", i)
				subjects = append(subjects, s)
				insertSubject(t, tx, row("t1", s, 1, s))
			}
		})
		// More than the variables that one statement may have in SQLite
		// (32,766) or PostgreSQL (65,535): the subjects asked for are padded.
		for i := range 70_000 {
			subjects = append(subjects, fmt.Sprintf("absent-%d", i))
		}
		if got := subjectKeys(t, db.Rows(), "t1", subjects...); len(got) != 300 {
			t.Errorf("SubjectKeys(70,300 subjects) = %d rows, want 300", len(got))
		}
	})
	t.Run("shred", func(t *testing.T) {
		db := open(t)
		inTx(t, db, func(tx Tx) {
			insertSubject(t, tx, row("t1", "p1", 1, "a"))
			insertSubject(t, tx, row("t1", "p1", 2, "b"))
			insertSubject(t, tx, row("t1", "p2", 1, "c"))
			insertSubject(t, tx, row("t2", "p1", 1, "d"))
		})
		before := generation(t, db.Rows())
		shred(t, db, "t1", "p1")
		if got := generation(t, db.Rows()); got == before {
			t.Errorf("Generation() is still %d after a shred", got)
		}
		shred(t, db, "t1", "p3") // had no key
		inTx(t, db, func(tx Tx) {
			insertSubject(t, tx, row("t1", "p1", 1, "again"))
			insertSubject(t, tx, row("t1", "p1", 3, "again"))
			insertSubject(t, tx, row("t1", "p3", 1, "again"))
		})
		for _, s := range []string{"p1", "p3"} {
			tombstoned(t, db.Rows(), "t1", s)
		}
		if got := describe(subjectKeys(t, db.Rows(), "t1", "p2")); got != `p2/1="c"` {
			t.Errorf("the shred of p1 left p2 with %s", got)
		}
		if got := describe(subjectKeys(t, db.Rows(), "t2", "p1")); got != `p1/1="d"` {
			t.Errorf("the shred of t1's p1 left t2's p1 with %s", got)
		}
	})
	t.Run("rollback leaves nothing", func(t *testing.T) {
		db := open(t)
		tx := begin(t, db)
		insertTenant(t, tx, "t1", "wrap", "one")
		insertSubject(t, tx, row("t1", "p1", 1, "a"))
		if got := describe(subjectKeys(t, tx, "t1", "p1")); got != `p1/1="a"` {
			t.Errorf("the transaction sees %s of its own key", got)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if got := tenantKeyset(t, db.Rows(), "t1", "wrap"); got != nil {
			t.Errorf("TenantKeyset() after a rollback = %q", got)
		}
		if got := subjectKeys(t, db.Rows(), "t1", "p1"); len(got) != 0 {
			t.Errorf("SubjectKeys() after a rollback = %s", describe(got))
		}
	})
	t.Run("uncommitted keys are seen by nobody else", func(t *testing.T) {
		db := open(t)
		tx := begin(t, db)
		insertTenant(t, tx, "t1", "wrap", "one")
		insertSubject(t, tx, row("t1", "p1", 1, "a"))
		if got := tenantKeyset(t, db.Rows(), "t1", "wrap"); got != nil {
			t.Errorf("TenantKeyset() before the commit = %q", got)
		}
		if got := subjectKeys(t, db.Rows(), "t1", "p1"); len(got) != 0 {
			t.Errorf("SubjectKeys() before the commit = %s", describe(got))
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := describe(subjectKeys(t, db.Rows(), "t1", "p1")); got != `p1/1="a"` {
			t.Errorf("SubjectKeys() after the commit = %s", got)
		}
	})
	t.Run("savepoints", func(t *testing.T) {
		db := open(t)
		tx := begin(t, db)
		insertSubject(t, tx, row("t1", "p1", 1, "a"))
		if err := tx.Savepoint("sp1"); err != nil {
			t.Fatal(err)
		}
		insertSubject(t, tx, row("t1", "p2", 1, "b"))
		if err := tx.RollbackTo("sp1"); err != nil {
			t.Fatal(err)
		}
		insertSubject(t, tx, row("t1", "p3", 1, "c"))
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := describe(subjectKeys(t, db.Rows(), "t1", "p1", "p2", "p3")); got != `p1/1="a" p3/1="c"` {
			t.Errorf("SubjectKeys() = %s, want p1 and p3", got)
		}
	})
	t.Run("a locked read holds off a shred", func(t *testing.T) {
		for _, first := range []bool{false, true} {
			name := "of a key that was there"
			if first {
				name = "of a key made in the transaction"
			}
			t.Run(name, func(t *testing.T) {
				db := open(t)
				inTx(t, db, func(tx Tx) {
					insertTenant(t, tx, "t1", "wrap", "one")
					if !first {
						insertSubject(t, tx, row("t1", "p1", 1, "a"))
					}
				})
				tx := begin(t, db)
				lock := func() {
					if _, err := tx.SubjectKeys(t.Context(), "t1", []string{"p1"}, true); err != nil {
						t.Fatalf("SubjectKeys(lock) = %v", err)
					}
				}
				lock()
				if first {
					insertSubject(t, tx, row("t1", "p1", 1, "a"))
					lock()
				}
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				if err := db.Shred(ctx, "t1", "p1"); err == nil {
					t.Error("Shred() went through while a transaction held the subject's keys locked")
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				shred(t, db, "t1", "p1")
				tombstoned(t, db.Rows(), "t1", "p1")
			})
		}
	})
	t.Run("a context that is done", func(t *testing.T) {
		r := open(t).Rows()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err1 := r.TenantKeyset(ctx, "t1", "wrap", false)
		_, err2 := r.SubjectKeys(ctx, "t1", []string{"p1"}, false)
		_, err3 := r.Generation(ctx)
		err4 := r.InsertSubjectKey(ctx, row("t1", "p1", 1, "a"))
		err5 := r.InsertTenantKeyset(ctx, "t1", "wrap", []byte("a"))
		for i, err := range []error{err1, err2, err3, err4, err5} {
			if err == nil {
				t.Errorf("call %d succeeds under a context that is done", i+1)
			}
		}
	})
	t.Run("replacing and retiring", func(t *testing.T) {
		db := open(t)
		ctx := t.Context()
		inTx(t, db, func(tx Tx) {
			insertTenant(t, tx, "t1", "wrap", "one")
			insertTenant(t, tx, "t2", "wrap", "one")
			for _, r := range []crypto.KeyRow{row("t1", "p1", 1, "a1"), row("t1", "p1", 2, "b2"), row("t1", "p2", 1, "a3"), row("t2", "p1", 1, "c4")} {
				insertSubject(t, tx, r)
			}
		})
		shred(t, db, "t1", "p9")
		before := generation(t, db.Rows())
		inTx(t, db, func(tx Tx) {
			for _, use := range []string{"wrap", "index"} { // there is no index key to lock
				if err := tx.LockKeys(ctx, "t1", use); err != nil {
					t.Errorf("LockKeys(%s) = %v", use, err)
				}
			}
			if err := tx.ReplaceTenantKeyset(ctx, "t1", "wrap", []byte("one"), []byte("two")); err != nil {
				t.Errorf("ReplaceTenantKeyset() = %v", err)
			}
			if err := tx.ReplaceTenantKeyset(ctx, "t1", "wrap", []byte("one"), []byte("three")); !errors.Is(err, crypto.ErrKeyLost) {
				t.Errorf("ReplaceTenantKeyset(of what is not there) = %v, want ErrKeyLost", err)
			}
			if err := tx.ReplaceSubjectKey(ctx, row("t1", "p1", 2, "a5"), []byte("b2")); err != nil {
				t.Errorf("ReplaceSubjectKey() = %v", err)
			}
			if err := tx.ReplaceSubjectKey(ctx, row("t1", "p2", 1, "a6"), []byte("b2")); !errors.Is(err, crypto.ErrKeyLost) {
				t.Errorf("ReplaceSubjectKey(of what is not there) = %v, want ErrKeyLost", err)
			}
			for prefix, want := range map[string]int64{"a": 0, "b": 3, "a5": 2} {
				if n, err := tx.CountOthers(ctx, "t1", []byte(prefix)); n != want || err != nil {
					t.Errorf("CountOthers(%q) = %d, %v, want %d", prefix, n, err, want)
				}
			}
			if err := tx.DeleteSubjectKey(ctx, "t1", "p1", 1); err != nil {
				t.Errorf("DeleteSubjectKey() = %v", err)
			}
			if err := tx.DeleteSubjectKey(ctx, "t1", "p9", 0); err != nil {
				t.Errorf("DeleteSubjectKey(of a tombstone) = %v", err)
			}
			if err := tx.BumpGeneration(ctx); err != nil {
				t.Errorf("BumpGeneration() = %v", err)
			}
		})
		if got := generation(t, db.Rows()); got == before {
			t.Error("the generation is the same after a change of keys")
		}
		if got := tenantKeyset(t, db.Rows(), "t1", "wrap"); string(got) != "two" {
			t.Errorf("TenantKeyset() = %q, want two", got)
		}
		if got := describe(subjectKeys(t, db.Rows(), "t1", "p1", "p2")); got != `p1/2="a5" p2/1="a3"` {
			t.Errorf("SubjectKeys() = %s", got)
		}
		if got := describe(subjectKeys(t, db.Rows(), "t2", "p1")); got != `p1/1="c4"` {
			t.Errorf("SubjectKeys() of the other tenant = %s", got)
		}
		tombstoned(t, db.Rows(), "t1", "p9")
	})
	t.Run("a rotation waits for those who seal", func(t *testing.T) {
		db := open(t)
		inTx(t, db, func(tx Tx) { insertTenant(t, tx, "t1", "wrap", "one") })
		tx := begin(t, db)
		if _, err := tx.SubjectKeys(t.Context(), "t1", []string{"p1"}, true); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if other, err := db.Begin(ctx); err == nil {
			if err := other.LockKeys(ctx, "t1", "wrap"); err == nil {
				t.Error("LockKeys() went through while a transaction held the subject's keys locked")
			}
			_ = other.Rollback()
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		inTx(t, db, func(tx Tx) {
			if err := tx.LockKeys(t.Context(), "t1", "wrap"); err != nil {
				t.Errorf("LockKeys() afterwards = %v", err)
			}
		})
	})
	t.Run("with a keyring", func(t *testing.T) { testRing(t, open(t)) })
	t.Run("with a keyring that rotates", func(t *testing.T) { testRotation(t, open(t)) })
}

// testRotation turns every key over, one after the other: what was sealed
// before stays open throughout, for a keyring that knew the old keys and for
// one that begins.
func testRotation(t *testing.T, db DB) {
	ctx := t.Context()
	old, kek := NewKEK(), NewKEK()
	now := time.Now()
	ring := func(kek crypto.KEK) *crypto.Keyring {
		r, err := crypto.NewKeyring(crypto.Config{KEK: kek, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	warm := ring(crypto.RotatingKEK(kek, old))
	change := func(r *crypto.Keyring, f func(*crypto.KeyTx) error) {
		t.Helper()
		tx := begin(t, db)
		keys := r.Begin(tx)
		if err := f(keys); err != nil {
			t.Fatal(err)
		}
		if err := keys.Precommit(ctx); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		keys.Publish()
	}
	b := crypto.Binding{Tenant: "t1", Field: "patient.name", Record: "r1", Subject: "p1"}
	var cell []byte
	seal := func(k *crypto.KeyTx) error {
		keys, err := k.SealingKeys(ctx, "t1", []string{"p1", "p2"})
		if err == nil {
			cell, err = keys["p1"].Seal(nil, []byte("plaintext"), b)
		}
		if err == nil {
			_, err = k.IndexingKeys(ctx, "t1")
		}
		return err
	}
	opens := func(r *crypto.Keyring) error {
		h, err := crypto.ParseHeader(cell)
		if err != nil {
			return err
		}
		found, err := r.Lookup(ctx, db.Rows(), "t1", []crypto.KeyRef{{Subject: "p1", Version: h.KeyVersion}})
		if err == nil {
			err = found[0].Err
		}
		if err == nil {
			_, err = found[0].Key.Open(nil, cell, b)
		}
		return err
	}
	all := func(step string, rings ...*crypto.Keyring) {
		t.Helper()
		for i, r := range append(rings, warm) {
			if err := opens(r); err != nil {
				t.Errorf("%s: keyring %d: %v", step, i, err)
			}
		}
	}
	change(ring(old), seal)
	all("before", ring(old), ring(crypto.RotatingKEK(kek, old)))

	uses := []crypto.Use{crypto.UseWrap, crypto.UseIndex}
	for _, use := range uses {
		change(ring(crypto.RotatingKEK(kek, old)), func(k *crypto.KeyTx) error { return k.RewrapTenant(ctx, "t1", use) })
	}
	all("KEK", ring(kek))
	if err := opens(ring(old)); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("the old KEK still opens the tenant's key: %v", err)
	}

	step := func(name string, f func(k *crypto.KeyTx) error) {
		t.Helper()
		change(ring(kek), f)
		all(name, ring(kek))
		now = now.Add(warm.Bound())
		all(name+", later", ring(kek))
	}
	for _, use := range uses {
		step("add to "+string(use), func(k *crypto.KeyTx) error { return k.AddTenantKey(ctx, "t1", use) })
		step("promote "+string(use), func(k *crypto.KeyTx) error { return k.PromoteTenantKey(ctx, "t1", use) })
	}
	tx := begin(t, db)
	if err := ring(kek).Begin(tx).RetireTenantKeys(ctx, "t1", crypto.UseWrap); !errors.Is(err, crypto.ErrInUse) {
		t.Errorf("RetireTenantKeys() before the subjects are rewrapped = %v, want ErrInUse", err)
	}
	_ = tx.Rollback()
	step("rewrap", func(k *crypto.KeyTx) error {
		n, err := k.RewrapSubjects(ctx, "t1", []string{"p1", "p2", "p3"})
		if n != 2 {
			t.Errorf("RewrapSubjects() = %d, want 2", n)
		}
		return err
	})
	step("rewrap again", func(k *crypto.KeyTx) error {
		n, err := k.RewrapSubjects(ctx, "t1", []string{"p1", "p2", "p3"})
		if n != 0 {
			t.Errorf("RewrapSubjects() again = %d, want 0", n)
		}
		return err
	})
	for _, use := range uses {
		step("retire of "+string(use), func(k *crypto.KeyTx) error { return k.RetireTenantKeys(ctx, "t1", use) })
	}

	first := cell
	step("new subject key", func(k *crypto.KeyTx) error {
		n, err := k.RotateSubjects(ctx, "t1", []string{"p1", "p3"})
		if n != 1 {
			t.Errorf("RotateSubjects() = %d, want 1", n)
		}
		return err
	})
	change(ring(kek), seal)
	if bytes.Equal(first[:6], cell[:6]) {
		t.Error("a cell sealed after the rotation has the key version of before")
	}
	all("sealed under the new subject key", ring(kek))
	change(ring(kek), func(k *crypto.KeyTx) error {
		n, err := k.RetireSubjects(ctx, "t1", []string{"p1", "p2", "p3"})
		if n != 1 {
			t.Errorf("RetireSubjects() = %d, want 1", n)
		}
		return err
	})
	all("subject key retired", ring(kek))
	cell = first
	if err := opens(warm); err != nil {
		t.Errorf("within the bound a cached key opens: %v", err)
	}
	now = now.Add(warm.Bound())
	if err := opens(warm); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("past the bound a retired key = %v, want ErrNoKey", err)
	}
	shred(t, db, "t1", "p1")
	change(ring(kek), func(k *crypto.KeyTx) error {
		n, err := k.RotateSubjects(ctx, "t1", []string{"p1"})
		if n != 0 {
			t.Errorf("RotateSubjects() of a shredded subject = %d, want 0", n)
		}
		return err
	})
	tombstoned(t, db.Rows(), "t1", "p1")
}

// testRing runs a keyring on the tables: what it seals it opens, and a shred
// ends it.
func testRing(t *testing.T, db DB) {
	ctx := t.Context()
	now := time.Now()
	ring, err := crypto.NewKeyring(crypto.Config{KEK: NewKEK(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	tx := begin(t, db)
	keys := ring.Begin(tx)
	sealing, err := keys.SealingKeys(ctx, "t1", []string{"p1", ""})
	if err != nil {
		t.Fatalf("SealingKeys() = %v", err)
	}
	b := crypto.Binding{Tenant: "t1", Field: "patient.name", Record: "r1", Subject: "p1"}
	cell, err := sealing["p1"].Seal(nil, []byte("plaintext"), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Precommit(ctx); err != nil {
		t.Fatalf("Precommit() = %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	ref := []crypto.KeyRef{{Subject: "p1", Version: sealing["p1"].Version()}}
	found, err := ring.Lookup(ctx, db.Rows(), "t1", ref)
	if err != nil || found[0].Err != nil {
		t.Fatalf("Lookup() = %v, %v", found, err)
	}
	if p, err := found[0].Key.Open(nil, cell, b); err != nil || string(p) != "plaintext" {
		t.Errorf("Open() = %q, %v", p, err)
	}
	shred(t, db, "t1", "p1")
	now = now.Add(time.Minute)
	if found, err = ring.Lookup(ctx, db.Rows(), "t1", ref); err != nil || !errors.Is(found[0].Err, crypto.ErrShredded) {
		t.Errorf("Lookup() after a shred = %v, %v; want ErrShredded", found, err)
	}
	tx = begin(t, db)
	defer tx.Rollback()
	if _, err := ring.Begin(tx).SealingKeys(ctx, "t1", []string{"p1"}); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("SealingKeys() after a shred = %v, want ErrShredded", err)
	}
}

func begin(t *testing.T, db DB) Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatalf("Begin() = %v", err)
	}
	return tx
}

func inTx(t *testing.T, db DB, f func(Tx)) {
	t.Helper()
	tx := begin(t, db)
	f(tx)
	if err := tx.Commit(); err != nil {
		t.Fatalf("Commit() = %v", err)
	}
}

func shred(t *testing.T, db DB, tenant, subject string) {
	t.Helper()
	if err := db.Shred(t.Context(), tenant, subject); err != nil {
		t.Fatalf("Shred(%s, %s) = %v", tenant, subject, err)
	}
}

func tenantKeyset(t *testing.T, r crypto.KeyRows, tenant, use string) []byte {
	t.Helper()
	w, err := r.TenantKeyset(t.Context(), tenant, use, false)
	if err != nil {
		t.Fatalf("TenantKeyset(%s, %s) = %v", tenant, use, err)
	}
	return w
}

func insertTenant(t *testing.T, r crypto.KeyRows, tenant, use, wrapped string) {
	t.Helper()
	if err := r.InsertTenantKeyset(t.Context(), tenant, use, []byte(wrapped)); err != nil {
		t.Fatalf("InsertTenantKeyset(%s, %s) = %v", tenant, use, err)
	}
}

func subjectKeys(t *testing.T, r crypto.KeyRows, tenant string, subjects ...string) []crypto.KeyRow {
	t.Helper()
	rows, err := r.SubjectKeys(t.Context(), tenant, subjects, false)
	if err != nil {
		t.Fatalf("SubjectKeys(%s) = %v", tenant, err)
	}
	return rows
}

func insertSubject(t *testing.T, r crypto.KeyRows, row crypto.KeyRow) {
	t.Helper()
	if err := r.InsertSubjectKey(t.Context(), row); err != nil {
		t.Fatalf("InsertSubjectKey(%s, %s) = %v", row.Tenant, row.Subject, err)
	}
}

func generation(t *testing.T, r crypto.KeyRows) uint64 {
	t.Helper()
	g, err := r.Generation(t.Context())
	if err != nil {
		t.Fatalf("Generation() = %v", err)
	}
	return g
}

// tombstoned checks that the table says so, and holds no key of the subject.
func tombstoned(t *testing.T, r crypto.KeyRows, tenant, subject string) {
	t.Helper()
	rows := subjectKeys(t, r, tenant, subject)
	if !slices.ContainsFunc(rows, func(r crypto.KeyRow) bool { return r.Shredded }) {
		t.Errorf("SubjectKeys(%s, %s) has no tombstone: %s", tenant, subject, describe(rows))
	}
	for _, r := range rows {
		if len(r.Wrapped) > 0 {
			t.Errorf("a shredded subject still has a key: %s", describe(rows))
		}
	}
}

func describe(rows []crypto.KeyRow) string {
	slices.SortFunc(rows, func(a, b crypto.KeyRow) int {
		if a.Subject != b.Subject {
			return bytes.Compare([]byte(a.Subject), []byte(b.Subject))
		}
		return int(int64(a.Version) - int64(b.Version))
	})
	var b bytes.Buffer
	for i, r := range rows {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s/%d=%q", r.Subject, r.Version, r.Wrapped)
		if r.Shredded {
			b.WriteString(" shredded")
		}
	}
	return b.String()
}
