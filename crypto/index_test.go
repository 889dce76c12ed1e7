// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// indexKey makes, stores and returns a tenant's index key.
func (s *stack) indexKey(t testing.TB, tenant string) *crypto.IndexKey {
	t.Helper()
	tx, dbtx := s.begin(t)
	k, err := tx.IndexingKeys(t.Context(), tenant)
	if err != nil || len(k) != 1 {
		t.Fatal(k, err)
	}
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, dbtx)
	return k[0]
}

func TestIndexKeys(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	if _, err := s.ring.IndexKeys(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("IndexKeys() of a new tenant = %v, want ErrNoKey", err)
	}
	made := s.indexKey(t, "t1")
	for range 3 {
		k, err := s.ring.IndexKeys(t.Context(), s.db.Rows(), "t1")
		if err != nil || len(k) != 1 {
			t.Fatal(k, err)
		}
		if k[0].Version() != made.Version() || !bytes.Equal(k[0].Token("f", "exact", "v"), made.Token("f", "exact", "v")) {
			t.Error("the key comes back as another")
		}
	}
	if kek.Decrypts() != 1 {
		t.Errorf("the KEK was asked %d times, want once", kek.Decrypts())
	}
}

func TestTokenDomains(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	k := s.indexKey(t, "t1")
	token := k.Token("patient.name", "exact", "roe")
	if len(token) != 32 {
		t.Errorf("a token has %d bytes, want 32", len(token))
	}
	if !bytes.Equal(token, k.Token("patient.name", "exact", "roe")) {
		t.Error("one value has two tokens")
	}
	for name, other := range map[string][]byte{
		"value":             k.Token("patient.name", "exact", "row"),
		"kind":              k.Token("patient.name", "prefix", "roe"),
		"field":             k.Token("patient.mrn", "exact", "roe"),
		"tenant":            s.indexKey(t, "t2").Token("patient.name", "exact", "roe"),
		"cut between parts": k.Token("patient.nam", "eexact", "roe"),
		"cut at the value":  k.Token("patient.name", "exactr", "oe"),
	} {
		if bytes.Equal(token, other) {
			t.Errorf("another %s gives the same token", name)
		}
	}
	for _, zero := range []*crypto.IndexKey{nil, new(crypto.IndexKey)} {
		if got := zero.Token("f", "exact", "v"); got != nil {
			t.Errorf("the zero IndexKey gives %x", got)
		}
	}
}

func TestTokenConcurrently(t *testing.T) {
	t.Parallel()
	k := newStack(t, cryptotest.NewKEK()).indexKey(t, "t1")
	want := k.Token("f", "exact", "value")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				k.Token("f", "exact", "something longer than the value")
				if !bytes.Equal(k.Token("f", "exact", "value"), want) {
					t.Error("another token")
					return
				}
			}
		})
	}
	wg.Wait()
}

// A transaction that searches makes no key, sees its own, and leaves it to
// itself until it is committed.
func TestIndexKeysInATransaction(t *testing.T) {
	t.Parallel()
	s := newStack(t, cryptotest.NewKEK())
	tx, dbtx := s.begin(t)
	if _, err := tx.IndexKeys(t.Context(), "t1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("IndexKeys() of a new tenant = %v, want ErrNoKey", err)
	}
	made, err := tx.IndexingKeys(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	seen, err := tx.IndexKeys(t.Context(), "t1")
	if err != nil || len(seen) != 1 || seen[0] != made[0] {
		t.Errorf("IndexKeys() = %v, %v; want the key just made", seen, err)
	}
	if err := dbtx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if k, err := s.ring.IndexKeys(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("IndexKeys() after the rollback = %v, %v; want ErrNoKey", k, err)
	}
}

// An indexKeyset gives a keyset for the tenant's own, and counts the locked reads.
type indexKeyset struct {
	crypto.KeyRows
	wrapped []byte
	locked  int
}

func (r *indexKeyset) TenantKeyset(ctx context.Context, tenant, use string, lock bool) ([]byte, error) {
	if use != "index" {
		return r.KeyRows.TenantKeyset(ctx, tenant, use, lock)
	}
	if lock {
		r.locked++
	}
	return r.wrapped, nil
}

// While a rotation is under way the keyset has two live keys, newest first; a
// disabled one answers no more.
func TestIndexKeysOfARotation(t *testing.T) {
	t.Parallel()
	kek := production{cryptotest.NewKEK()}
	s := newStack(t, kek)
	old := s.indexKey(t, "t1")
	aad := parts("part164/tenant-keyset", "t1", "index")
	h, err := keyset.ReadWithContext(t.Context(), keyset.NewBinaryReader(bytes.NewReader(mustKeyset(t, s.db.Rows(), "t1", "index"))), kek, aad)
	if err != nil {
		t.Fatal(err)
	}
	m := keyset.NewManagerFromHandle(h)
	add := func(params key.Parameters) uint32 {
		id, err := m.AddNewKeyFromParameters(params)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	write := func() []byte {
		t.Helper()
		if h, err = m.Handle(); err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := h.WriteWithContext(t.Context(), keyset.NewBinaryWriter(&buf), kek, aad); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	params, err := hmacprf.NewParameters(32, hmacprf.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	id := add(params)
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	rows := &indexKeyset{KeyRows: s.db.Rows(), wrapped: write()}
	versions := func(keys []*crypto.IndexKey, err error) (out []uint32) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			out = append(out, k.Version())
		}
		return out
	}
	both := []uint32{id, old.Version()}
	if got := versions(s.newRing(t).IndexKeys(t.Context(), rows, "t1")); !slices.Equal(got, both) {
		t.Errorf("IndexKeys() = %d, want %d", got, both)
	}
	tx := s.newRing(t).Begin(rows)
	if got := versions(tx.IndexKeys(t.Context(), "t1")); !slices.Equal(got, both) || rows.locked != 0 {
		t.Errorf("KeyTx.IndexKeys() = %d with %d locks, want %d and none", got, rows.locked, both)
	}
	for range 3 {
		if got := versions(tx.IndexingKeys(t.Context(), "t1")); !slices.Equal(got, both) || rows.locked != 1 {
			t.Errorf("IndexingKeys() = %d with %d locks, want %d and one", got, rows.locked, both)
		}
	}
	tx.RollbackTo("sp") // took the lock along
	if versions(tx.IndexingKeys(t.Context(), "t1")); rows.locked != 2 {
		t.Errorf("%d locks after a rollback to a savepoint, want another", rows.locked)
	}
	if err := m.Disable(old.Version()); err != nil {
		t.Fatal(err)
	}
	rows.wrapped = write()
	if got := versions(s.newRing(t).IndexKeys(t.Context(), rows, "t1")); !slices.Equal(got, both[:1]) {
		t.Errorf("IndexKeys() with the old key disabled = %d, want %d", got, both[:1])
	}
	sha512, err := hmacprf.NewParameters(64, hmacprf.SHA512)
	if err != nil {
		t.Fatal(err)
	}
	add(sha512) // not the primary
	rows.wrapped = write()
	if _, err := s.newRing(t).IndexKeys(t.Context(), rows, "t1"); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("IndexKeys() of a keyset with another PRF = %v, want ErrUnwrap", err)
	}
}
