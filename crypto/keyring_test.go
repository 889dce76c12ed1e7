// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

func TestNewKeyringNamesTheBadField(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	for field, cfg := range map[string]crypto.Config{
		"KEK":                {KEK: crypto.WithoutContext(nil)},
		"CacheSize":          {KEK: kek, CacheSize: -1},
		"TTL":                {KEK: kek, TTL: -1},
		"GenerationInterval": {KEK: kek, GenerationInterval: -1},
	} {
		if _, err := crypto.NewKeyring(cfg); err == nil || !strings.Contains(err.Error(), "Config."+field+" ") {
			t.Errorf("NewKeyring(bad %s) = %v", field, err)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	made := s.store(t, "t1", "p1", "p2", "p3", "")
	s.store(t, "t2", "p1")
	if err := s.db.Shred(t.Context(), "t1", "p3"); err != nil {
		t.Fatal(err)
	}
	found, err := s.ring.Lookup(t.Context(), s.db.Rows(), "t1", []crypto.KeyRef{
		{Subject: "p2", Version: 1}, {Subject: "p3", Version: 1}, {Subject: "", Version: 1}, {Subject: "p1", Version: 2},
		{Subject: "p1", Version: 1}, {Subject: "p4", Version: 1}, {Subject: "p2", Version: 1}, {Subject: "p1", Version: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		subject string
		err     error
	}{
		{"p2", nil}, {"p3", crypto.ErrShredded}, {"", nil}, {"p1", crypto.ErrNoKey},
		{"p1", nil}, {"p4", crypto.ErrNoKey}, {"p2", nil}, {"p1", crypto.ErrNoKey},
	} {
		f := found[i]
		switch {
		case want.err != nil:
			if f.Key != nil || !errors.Is(f.Err, want.err) {
				t.Errorf("found[%d] = %v, want %v", i, f, want.err)
			}
		case f.Err != nil:
			t.Errorf("found[%d] = %v, want the key of %q", i, f, want.subject)
		case !same(t, made[want.subject], f.Key, "t1", want.subject):
			t.Errorf("found[%d] is another key than sealed for %q", i, want.subject)
		}
	}
	if k, err := s.lookup(t, "t2", "p1"); err != nil || same(t, k, made["p1"], "t2", "p1") {
		t.Errorf("two tenants' keys of one subject are the same (%v)", err)
	}
	if _, err := s.lookup(t, "t3", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup(unknown tenant) = %v, want ErrNoKey", err)
	}
	if _, err := s.lookup(t, "", ""); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup(no tenant) = %v, want ErrNoKey", err)
	}
	if found, err := s.ring.Lookup(t.Context(), s.db.Rows(), "t1", nil); err != nil || len(found) != 0 {
		t.Errorf("Lookup(nothing) = %v, %v", found, err)
	}
}

func TestLookupAsksOnceForTheMisses(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	s.store(t, "t1", "p1", "p2", "p3")
	for _, tt := range []struct {
		subjects []string
		queries  int // of key rows and tenant keysets
	}{
		{[]string{"p1"}, 2},
		{[]string{"p1"}, 0},
		{[]string{"p1", "p2", "p3", "p2"}, 1},
		{[]string{"p3", "p2", "p1"}, 0},
	} {
		before := s.db.Queries()
		if _, err := s.ring.Lookup(t.Context(), s.db.Rows(), "t1", refs(tt.subjects...)); err != nil {
			t.Fatal(err)
		}
		if got := s.db.Queries() - before; got != tt.queries {
			t.Errorf("Lookup(%q) made %d queries, want %d", tt.subjects, got, tt.queries)
		}
	}
	if kek.Decrypts() != 1 {
		t.Errorf("the KEK was asked %d times, want once", kek.Decrypts())
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	s.store(t, "t1", "p1")
	for _, tt := range []struct {
		after time.Duration // since the key was unwrapped
		want  int
	}{{0, 1}, {4*time.Minute + 30*time.Second - 1, 1}, {5 * time.Minute, 2}, {9*time.Minute + 30*time.Second - 1, 2}, {10 * time.Minute, 3}} {
		start := s.now
		s.now = start.Add(tt.after)
		if _, err := s.lookup(t, "t1", "p1"); err != nil {
			t.Fatal(err)
		}
		if kek.Decrypts() != tt.want {
			t.Errorf("after %v the KEK was asked %d times, want %d", tt.after, kek.Decrypts(), tt.want)
		}
		s.now = start
	}
	// A revoked KEK is felt when the TTL is over, and not by failing open.
	s.advance(20 * time.Minute)
	down := errors.New("access denied by KMS")
	kek.Fail(down)
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, down) || !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("Lookup() with a revoked KEK = %v", err)
	}
	kek.Fail(nil)
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Errorf("Lookup() with the KEK back = %v: the failure was kept", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK(), func(c *crypto.Config) { c.CacheSize = 2 })
	s.store(t, "t1", "p1", "p2", "p3")
	for _, step := range []struct {
		subject string
		hit     bool
	}{{"p1", false}, {"p2", false}, {"p1", true}, {"p3", false}, {"p1", true}, {"p2", false}, {"p3", false}} {
		before := s.db.Queries()
		if _, err := s.lookup(t, "t1", step.subject); err != nil {
			t.Fatal(err)
		}
		if hit := s.db.Queries() == before; hit != step.hit {
			t.Errorf("%s: cached = %v, want %v (the least recently used goes first)", step.subject, hit, step.hit)
		}
	}
}

func TestShreddedKeyDiesWithinTheInterval(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1", "p2")
	if _, err := s.ring.Lookup(t.Context(), s.db.Rows(), "t1", refs("p1", "p2")); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Shred(t.Context(), "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	s.advance(5*time.Second - 1)
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Errorf("one tick before the interval ends: %v; the generation is read too often", err)
	}
	s.advance(1)
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("when the interval ends: %v, want ErrShredded", err)
	}
	if _, err := s.lookup(t, "t1", "p2"); err != nil {
		t.Errorf("another subject: %v", err)
	}
}

func TestRetiredKeyDiesWithinTheInterval(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Retire(t.Context(), "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	s.advance(5 * time.Second)
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Lookup() = %v, want ErrNoKey", err)
	}
}

func TestGenerationSparesTheKEK(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	s.store(t, "t1", "p1")
	for range 5 {
		if _, err := s.lookup(t, "t1", "p1"); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Shred(t.Context(), "t9", "somebody"); err != nil {
			t.Fatal(err)
		}
		s.advance(5 * time.Second)
	}
	if kek.Decrypts() != 1 {
		t.Errorf("5 shreds elsewhere made %d calls of the KEK, want 1", kek.Decrypts())
	}
}

func TestOpensStopWhenTheGenerationIsUnreadable(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	down := errors.New("connection refused")
	s.db.Fail(down)
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	s.advance(5 * time.Second)
	if k, err := s.lookup(t, "t1", "p1"); k != nil || !errors.Is(err, crypto.ErrGeneration) || !errors.Is(err, down) {
		t.Errorf("Lookup() past the bound = %v, want ErrGeneration and its cause", err)
	}
	if _, err := s.ring.IndexKeys(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrGeneration) {
		t.Errorf("IndexKeys() past the bound = %v, want ErrGeneration", err)
	}
	s.db.Fail(nil)
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Errorf("Lookup() with the tables back = %v", err)
	}
}

func TestClockMovedBack(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	s.advance(-time.Hour)
	if err := s.db.Shred(t.Context(), "t1", "p1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("Lookup() = %v, want ErrShredded", err)
	}
	s.advance(time.Hour) // as if it had never moved
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("Lookup() with the clock right again = %v, want ErrShredded", err)
	}
}

// TestShredDuringLookupIsNotCached: a key that is shredded, and whose shred the
// ring has noticed, between a reader's query and its put, stays out.
func TestShredDuringLookupIsNotCached(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1", "p2")
	rows := &hooked{KeyRows: s.db.Rows()}
	rows.afterSubjectKeys = func() {
		rows.afterSubjectKeys = nil
		if err := s.db.Shred(t.Context(), "t1", "p1"); err != nil {
			t.Error(err)
		}
		s.advance(5 * time.Second)
		if _, err := s.lookup(t, "t1", "p2"); err != nil { // reads the generation
			t.Error(err)
		}
	}
	if _, err := s.ring.Lookup(t.Context(), rows, "t1", refs("p1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("Lookup() = %v, want ErrShredded: a stale key was cached", err)
	}
}

// TestLateGenerationReading: a reading that began earlier than one that is in
// already does not turn the ring back.
func TestLateGenerationReading(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	rows := &hooked{KeyRows: s.db.Rows()}
	rows.generation = func(ctx context.Context) (uint64, error) {
		g, err := s.db.Rows().Generation(ctx)
		if err := s.db.Shred(ctx, "t1", "p1"); err != nil {
			t.Error(err)
		}
		if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
			t.Errorf("Lookup() = %v, want ErrShredded", err)
		}
		return g, err
	}
	if _, err := s.ring.Lookup(t.Context(), rows, "t1", refs("p1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrShredded) {
		t.Errorf("Lookup() = %v, want ErrShredded", err)
	}
}

func TestWrongKEK(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1")
	if err := s.ring.Check(t.Context(), s.db.Rows(), "t1"); err != nil {
		t.Errorf("Check() with the right KEK = %v", err)
	}
	s.kek = cryptotest.NewKEK()
	s.ring = s.newRing(t)
	if err := s.ring.Check(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("Check() = %v, want ErrUnwrap", err)
	}
	if err := s.ring.Check(t.Context(), s.db.Rows(), "t2"); err != nil {
		t.Errorf("Check() of a tenant without keys = %v", err)
	}
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("Lookup() = %v, want ErrUnwrap", err)
	}
	if _, err := s.ring.IndexKeys(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("IndexKeys() of a tenant without one = %v, want ErrNoKey", err)
	}
	tx, dbtx := s.begin(t)
	defer dbtx.Rollback()
	if _, err := tx.SealingKeys(t.Context(), "t1", []string{"p1", "p2"}); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("SealingKeys() = %v, want ErrUnwrap", err)
	}
}

// TestRowsAreBound: a wrapped key that stands in another row does not unwrap.
func TestRowsAreBound(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	s.store(t, "t1", "p1", "p2")
	s.store(t, "t2", "p1")
	ctx, r := t.Context(), s.db.Rows()
	row := func(tenant, subject string) crypto.KeyRow {
		rows, err := r.SubjectKeys(ctx, tenant, []string{subject}, false)
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		return rows[0]
	}
	for name, change := range map[string]func(*crypto.KeyRow){
		"another subject's": func(k *crypto.KeyRow) { k.Wrapped = row("t1", "p2").Wrapped },
		"another tenant's":  func(k *crypto.KeyRow) { k.Wrapped = row("t2", "p1").Wrapped },
		"another version's": func(k *crypto.KeyRow) { k.Version = 2 },
		"changed":           func(k *crypto.KeyRow) { k.Wrapped[20] ^= 1 },
		"cut":               func(k *crypto.KeyRow) { k.Wrapped = k.Wrapped[:30] },
		"empty":             func(k *crypto.KeyRow) { k.Wrapped = nil },
	} {
		bad := row("t1", "p1")
		change(&bad)
		rows := &hooked{KeyRows: r, changeSubjectKeys: func([]crypto.KeyRow) []crypto.KeyRow { return []crypto.KeyRow{bad} }}
		found, err := s.newRing(t).Lookup(ctx, rows, "t1", []crypto.KeyRef{{Subject: "p1", Version: bad.Version}})
		if err != nil || !errors.Is(found[0].Err, crypto.ErrUnwrap) {
			t.Errorf("Lookup(%s key) = %v, %v; want ErrUnwrap", name, found, err)
		}
		dbtx := &hooked{KeyRows: r, changeSubjectKeys: rows.changeSubjectKeys}
		if _, err := s.newRing(t).Begin(dbtx).SealingKeys(ctx, "t1", []string{"p1"}); !errors.Is(err, crypto.ErrUnwrap) {
			t.Errorf("SealingKeys(%s key) = %v, want ErrUnwrap", name, err)
		}
	}
	// One good key beside a bad one still opens.
	rows := &hooked{KeyRows: r, changeSubjectKeys: func(rows []crypto.KeyRow) []crypto.KeyRow {
		for i := range rows {
			if rows[i].Subject == "p2" {
				rows[i].Wrapped[20] ^= 1
			}
		}
		return rows
	}}
	found, err := s.newRing(t).Lookup(ctx, rows, "t1", refs("p1", "p2"))
	if err != nil || found[0].Err != nil || !errors.Is(found[1].Err, crypto.ErrUnwrap) {
		t.Errorf("Lookup(good, bad) = %v, %v", found, err)
	}
	// A key table that answers for another tenant is not believed at all.
	rows.changeSubjectKeys = func([]crypto.KeyRow) []crypto.KeyRow { return []crypto.KeyRow{row("t2", "p1")} }
	if _, err := s.newRing(t).Lookup(ctx, rows, "t1", refs("p1")); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("Lookup(row of another tenant) = %v, want ErrUnwrap", err)
	}
	// A tenant's keyset serves neither another tenant nor another use.
	if err := r.InsertTenantKeyset(ctx, "t3", "wrap", mustKeyset(t, r, "t1", "wrap")); err != nil {
		t.Fatal(err)
	}
	if err := r.InsertTenantKeyset(ctx, "t1", "index", mustKeyset(t, r, "t1", "wrap")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ring.Begin(r).SealingKeys(ctx, "t3", []string{"p1"}); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("SealingKeys(another tenant's keyset) = %v, want ErrUnwrap", err)
	}
	if _, err := s.ring.IndexKeys(ctx, r, "t1"); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("IndexKeys(keyset of the other use) = %v, want ErrUnwrap", err)
	}
}

func mustKeyset(t *testing.T, r crypto.KeyRows, tenant, use string) []byte {
	t.Helper()
	w, err := r.TenantKeyset(t.Context(), tenant, use, false)
	if err != nil || w == nil {
		t.Fatal(w, err)
	}
	return w
}

func TestManyWaitForOneCallOfTheKEK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := cryptotest.NewKEK()
		s := newStack(t, kek)
		s.store(t, "t1", "p1")
		gate := make(chan struct{})
		kek.Before(func(context.Context) { <-gate })
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := s.lookup(t, "t1", "p1"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if kek.Decrypts() != 1 {
			t.Errorf("50 at once made %d calls of the KEK, want 1", kek.Decrypts())
		}
	})
}

func TestCancelledLeaderDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := cryptotest.NewKEK()
		s := newStack(t, kek)
		s.store(t, "t1", "p1")
		kek.Delay(5 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.ring.Lookup(ctx, s.db.Rows(), "t1", refs("p1")); !errors.Is(err, context.Canceled) {
				t.Errorf("the leader's Lookup() = %v, want Canceled", err)
			}
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if _, err := s.lookup(t, "t1", "p1"); err != nil {
					t.Errorf("a waiter's Lookup() = %v", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if kek.Decrypts() != 1 {
			t.Errorf("the KEK was asked %d times, want once: the call is everybody's", kek.Decrypts())
		}
	})
}

func TestPanickingKEKLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	s.store(t, "t1", "p1")
	kek.Before(func(context.Context) { panic("driver bug") })
	if _, err := s.lookup(t, "t1", "p1"); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("Lookup() = %v, want ErrUnwrap", err)
	}
	kek.Before(nil)
	if _, err := s.lookup(t, "t1", "p1"); err != nil {
		t.Errorf("Lookup() after a panic = %v", err)
	}
}

func TestConcurrentLookupAndShred(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		s := newStack(t, cryptotest.NewKEK(), func(c *crypto.Config) { c.CacheSize = 8 })
		var subjects []string
		for i := range 16 {
			subjects = append(subjects, fmt.Sprint("p", i))
		}
		s.store(t, "t1", subjects...)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					p := subjects[rand.IntN(len(subjects))]
					if _, err := s.lookup(t, "t1", p); err != nil && !errors.Is(err, crypto.ErrShredded) {
						t.Errorf("Lookup() = %v", err)
					}
				}
			})
		}
		wg.Go(func() {
			for i := range 8 {
				tx, dbtx := s.begin(t)
				_, err := tx.SealingKeys(t.Context(), "t1", []string{subjects[i], fmt.Sprint("new", i)})
				if err == nil {
					err = tx.Precommit(t.Context())
				}
				if err == nil {
					commit(t, dbtx)
					tx.Publish()
					continue
				}
				rollback(t, dbtx)
				if !errors.Is(err, crypto.ErrShredded) {
					t.Errorf("SealingKeys() = %v", err)
				}
			}
		})
		wg.Go(func() {
			for i := range 8 {
				if err := s.db.Shred(t.Context(), "t1", subjects[i]); err != nil {
					t.Error(err)
				}
				s.advance(5 * time.Second)
				if _, err := s.lookup(t, "t1", subjects[i]); !errors.Is(err, crypto.ErrShredded) {
					t.Errorf("Lookup() after a shred and the interval = %v, want ErrShredded", err)
				}
			}
		})
		wg.Wait()
		s.advance(5 * time.Second)
		for i, p := range subjects {
			if _, err := s.lookup(t, "t1", p); errors.Is(err, crypto.ErrShredded) != (i < 8) {
				t.Errorf("at the end Lookup(%s) = %v", p, err)
			}
		}
	}
}
