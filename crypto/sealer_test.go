// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

func TestSealer(t *testing.T) {
	t.Parallel()
	ctx, kek := t.Context(), cryptotest.NewKEK()
	s := crypto.NewSealer(kek)
	b := crypto.Binding{Tenant: "t1", Field: "totp", Record: "u1", Subject: "u1"}
	for _, want := range [][]byte{[]byte("seed of 20 bytes...."), {}} {
		sealed, err := s.Seal(ctx, b, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Open(ctx, b, sealed)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("Open() = %q, %v; want %q", got, err, want)
		}
	}
	if kek.Encrypts() != 2 || kek.Decrypts() != 2 {
		t.Errorf("2 secrets took %d and %d calls of the KEK", kek.Encrypts(), kek.Decrypts())
	}
}

func TestSealerErrors(t *testing.T) {
	t.Parallel()
	ctx, kek := t.Context(), cryptotest.NewKEK()
	s := crypto.NewSealer(kek)
	b := crypto.Binding{Tenant: "t1", Field: "totp", Record: "u1", Subject: "u1"}
	sealed, err := s.Seal(ctx, b, []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]crypto.Binding{
		"tenant":  {Tenant: "t2", Field: "totp", Record: "u1", Subject: "u1"},
		"field":   {Tenant: "t1", Field: "code", Record: "u1", Subject: "u1"},
		"record":  {Tenant: "t1", Field: "totp", Record: "u2", Subject: "u1"},
		"subject": {Tenant: "t1", Field: "totp", Record: "u1", Subject: "u2"},
	} {
		if p, err := s.Open(ctx, other, sealed); !errors.Is(err, crypto.ErrOpen) || p != nil {
			t.Errorf("Open(another %s) = %q, %v; want ErrOpen", name, p, err)
		}
	}
	for name, tt := range map[string]struct {
		bytes []byte
		want  error
	}{
		"empty":        {nil, crypto.ErrFormat},
		"text":         {[]byte("JBSWY3DPEHPK3PXP"), crypto.ErrFormat},
		"header alone": {sealed[:2], crypto.ErrOpen},
		"cut":          {sealed[:len(sealed)-1], crypto.ErrOpen},
		"a data cell":  {seal(t, newKey(t, rawKey, place, 1), "seed", place), crypto.ErrVersion},
		"next version": {append([]byte{0xFA}, sealed[1:]...), crypto.ErrVersion},
	} {
		if p, err := s.Open(ctx, b, tt.bytes); !errors.Is(err, tt.want) || p != nil {
			t.Errorf("Open(%s) = %q, %v; want %v", name, p, err, tt.want)
		}
	}
	if _, err := crypto.ParseHeader(append(sealed, make([]byte, 40)...)); !errors.Is(err, crypto.ErrVersion) {
		t.Errorf("ParseHeader(sealed secret) = %v, want ErrVersion", err)
	}
	if _, err := s.Seal(ctx, crypto.Binding{}, []byte("seed")); !errors.Is(err, crypto.ErrBinding) {
		t.Errorf("Seal(nowhere) = %v, want ErrBinding", err)
	}
	if _, err := s.Open(ctx, crypto.Binding{}, sealed); !errors.Is(err, crypto.ErrBinding) {
		t.Errorf("Open(nowhere) = %v, want ErrBinding", err)
	}
	down := errors.New("KMS is down")
	kek.Fail(down)
	if _, err := s.Seal(ctx, b, []byte("seed")); !errors.Is(err, down) {
		t.Errorf("Seal(KEK down) = %v, want its error", err)
	}
	if _, err := s.Open(ctx, b, sealed); !errors.Is(err, down) || !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("Open(KEK down) = %v, want ErrOpen and its error", err)
	}
	none := crypto.NewSealer(nil)
	if _, err := none.Seal(ctx, b, []byte("seed")); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Seal(no KEK) = %v, want ErrNoKey", err)
	}
	if _, err := none.Open(ctx, b, sealed); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("Open(no KEK) = %v, want ErrNoKey", err)
	}
}
