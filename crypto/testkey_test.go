// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// production is the same key without the mark of tests, as a production KEK.
type production struct{ k *cryptotest.KEK }

func (p production) EncryptWithContext(ctx context.Context, b, data []byte) ([]byte, error) {
	return p.k.EncryptWithContext(ctx, b, data)
}
func (p production) DecryptWithContext(ctx context.Context, b, data []byte) ([]byte, error) {
	return p.k.DecryptWithContext(ctx, b, data)
}

// What a test sealed opens in tests and nowhere else, even under the same key.
func TestKeysOfTestsAreRefused(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	at := crypto.Binding{Tenant: "t1", Field: "patients.name", Record: "r1", Subject: "p1"}
	sealed := func(k crypto.KEK) (*stack, []byte, crypto.KeyRef) {
		t.Helper()
		s := newStack(t, k)
		key := s.store(t, "t1", "p1")["p1"]
		cell, err := key.Seal(nil, []byte("Jane Roe"), at)
		if err != nil {
			t.Fatal(err)
		}
		h, err := crypto.ParseHeader(cell)
		if err != nil || h.KeyVersion != 1 {
			t.Fatalf("ParseHeader() = %+v, %v", h, err)
		}
		return s, cell, crypto.KeyRef{Subject: "p1", Version: h.KeyVersion, Test: h.Test}
	}
	open := func(s *stack, k crypto.KEK, cell []byte, ref crypto.KeyRef) error {
		t.Helper()
		s.kek = k
		s.ring = s.newRing(t)
		found, err := s.ring.Lookup(t.Context(), s.db.Rows(), "t1", []crypto.KeyRef{ref})
		if err == nil {
			err = found[0].Err
		}
		if err == nil {
			_, err = found[0].Key.Open(nil, cell, at)
		}
		return err
	}

	s, cell, ref := sealed(kek)
	if !ref.Test || cell[2]&0x80 == 0 || !bytes.Equal(cell[:2], []byte{crypto.CellVersion, crypto.CellAES256GCM}) {
		t.Errorf("a test's cell is not marked, or fits no constraint: % x", cell[:6])
	}
	if err := open(s, kek, cell, ref); err != nil {
		t.Errorf("a test's cell in a test: %v", err)
	}
	if err := open(s, production{kek}, cell, ref); !errors.Is(err, crypto.ErrTestKey) {
		t.Errorf("a test's tenant key in production: %v, want ErrTestKey", err)
	}
	if err := s.ring.Check(t.Context(), s.db.Rows(), "t1"); !errors.Is(err, crypto.ErrTestKey) {
		t.Errorf("Check() = %v, want ErrTestKey", err)
	}
	for _, k := range []crypto.KEK{crypto.RotatingKEK(kek), crypto.RotatingKEK(production{kek}, kek), crypto.WithOutages(kek, nil)} {
		if err := open(s, k, cell, ref); err != nil {
			t.Errorf("under a KEK that holds a test's: %v", err)
		}
	}

	// A test's cell in a production database, whose keys are its own.
	s, real, plain := sealed(production{kek})
	if plain.Test || binary.BigEndian.Uint32(real[2:]) != 1 {
		t.Errorf("a production cell is marked: % x", real[:6])
	}
	if err := open(s, production{kek}, real, plain); err != nil {
		t.Errorf("a production cell in production: %v", err)
	}
	if err := open(s, production{kek}, cell, ref); !errors.Is(err, crypto.ErrTestKey) {
		t.Errorf("Lookup() for a test's cell in production: %v, want ErrTestKey", err)
	}
	if err := open(s, production{kek}, cell, plain); !errors.Is(err, crypto.ErrTestKey) {
		t.Errorf("Open() of a test's cell in production: %v, want ErrTestKey", err)
	}
	if err := open(s, kek, real, plain); err != nil {
		t.Errorf("a production cell in a test that has its KEK: %v", err)
	}
	// What a production KEK seals while a test's is its predecessor must open once that is gone.
	if _, cell, ref := sealed(crypto.RotatingKEK(production{kek}, kek)); ref.Test || cell[2]&0x80 != 0 {
		t.Error("a production cell is marked because an older KEK was a test's")
	}

	// The mark cannot be taken off: it is authenticated.
	unmarked := bytes.Clone(cell)
	unmarked[2] &^= 0x80
	s, _, _ = sealed(kek)
	if err := open(s, kek, unmarked, plain); !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("without its mark: %v, want ErrOpen", err)
	}

	secret, err := crypto.NewSealer(kek).Seal(t.Context(), at, []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := crypto.NewSealer(kek).Open(t.Context(), at, secret); err != nil || string(p) != "seed" {
		t.Errorf("a test's secret in a test: %q, %v", p, err)
	}
	if _, err := crypto.NewSealer(production{kek}).Open(t.Context(), at, secret); !errors.Is(err, crypto.ErrTestKey) {
		t.Errorf("a test's secret in production: %v, want ErrTestKey", err)
	}
}
