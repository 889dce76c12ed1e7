// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// indexKey makes, stores and returns a tenant's index key.
func (s *stack) indexKey(t testing.TB, tenant string) *crypto.IndexKey {
	t.Helper()
	tx, dbtx := s.begin(t)
	k, err := tx.IndexKey(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, dbtx)
	return k
}

func TestIndexKey(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	s := newStack(t, kek)
	if _, err := s.ring.IndexKey(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("IndexKey() of a new tenant = %v, want ErrNoKey", err)
	}
	made := s.indexKey(t, "t1")
	for range 3 {
		k, err := s.ring.IndexKey(t.Context(), s.db.Rows(), "t1")
		if err != nil {
			t.Fatal(err)
		}
		if k.Version() != made.Version() || !bytes.Equal(k.Token("f", "exact", "v"), made.Token("f", "exact", "v")) {
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
