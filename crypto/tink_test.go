// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"crypto/fips140"
	"os"
	"path/filepath"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// These tests hold the promise that files, keysets and wrapped keys are
// Tink's, so that its tools and other languages can read them. Tink's own
// AES-GCM does not run in a FIPS-only process, so nor do they.

func skipWithoutTinkGCM(t *testing.T) {
	t.Helper()
	if fips140.Enforced() {
		t.Skip("Tink's own AES-GCM does not run in a FIPS-only process")
	}
}

// tinkAEAD is Tink's primitive over the file of a FileKEK.
func tinkAEAD(t *testing.T, path string) (tink.AEAD, *keyset.Handle) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	return a, h
}

func TestKeyFileIsTinks(t *testing.T) {
	t.Parallel()
	skipWithoutTinkGCM(t)
	k := localKEK(t, filepath.Join(t.TempDir(), "kek.json"))
	if err := k.Generate(); err != nil {
		t.Fatal(err)
	}
	theirs, _ := tinkAEAD(t, k.Path())
	c, err := k.EncryptWithContext(t.Context(), []byte("plaintext"), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := theirs.Decrypt(c, []byte("data")); err != nil || string(p) != "plaintext" {
		t.Errorf("Tink opens ours as %q, %v", p, err)
	}
	if c, err = theirs.Encrypt([]byte("plaintext"), []byte("data")); err != nil {
		t.Fatal(err)
	}
	if p, err := k.DecryptWithContext(t.Context(), c, []byte("data")); err != nil || string(p) != "plaintext" {
		t.Errorf("we open Tink's as %q, %v", p, err)
	}
}

// TestRotatedKeyFile: what the old key wrapped still opens, and the new one
// wraps.
func TestRotatedKeyFile(t *testing.T) {
	t.Parallel()
	skipWithoutTinkGCM(t)
	k := localKEK(t, filepath.Join(t.TempDir(), "kek.json"))
	if err := k.Generate(); err != nil {
		t.Fatal(err)
	}
	old, err := k.EncryptWithContext(t.Context(), []byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, h := tinkAEAD(t, k.Path())
	m := keyset.NewManagerFromHandle(h)
	if _, err := m.Add(aead.AES256GCMNoPrefixKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	if h, err = m.Handle(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rotated.json")
	writeKeyset(t, path, h)
	rotated := localKEK(t, path)
	if p, err := rotated.DecryptWithContext(t.Context(), old, nil); err != nil || string(p) != "old" {
		t.Errorf("the rotated file opens the old ciphertext as %q, %v", p, err)
	}
	c, err := rotated.EncryptWithContext(t.Context(), []byte("new"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.DecryptWithContext(t.Context(), c, nil); err == nil {
		t.Error("the old file opens what the new key wrapped")
	}
	theirs, _ := tinkAEAD(t, path)
	if p, err := theirs.Decrypt(c, nil); err != nil || string(p) != "new" {
		t.Errorf("Tink opens ours as %q, %v", p, err)
	}
}

func writeKeyset(t *testing.T, path string, h *keyset.Handle) {
	t.Helper()
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&buf)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFileOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	aes128, err := keyset.NewHandle(aead.AES128GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	mac, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*keyset.Handle{"AES-128": aes128, "HMAC": mac} {
		path := filepath.Join(t.TempDir(), "kek.json")
		writeKeyset(t, path, h)
		if _, err := crypto.LocalKEK(path); err == nil {
			t.Errorf("LocalKEK() takes a keyset of %s", name)
		}
	}
}

func TestTinkAEADIsAKEK(t *testing.T) {
	t.Parallel()
	skipWithoutTinkGCM(t)
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	cryptotest.TestKEK(t, func(*testing.T) crypto.KEK { return crypto.WithoutContext(a) })
}

// TestTenantKeysetsAreTinks: Tink reads a tenant's keysets under the KEK, opens
// with one what wraps the subjects' keys, and computes with the other the same
// tokens.
func TestTenantKeysetsAreTinks(t *testing.T) {
	t.Parallel()
	kek := production{cryptotest.NewKEK()}
	s := newStack(t, kek)
	s.store(t, "t1", "p1")
	index := s.indexKey(t, "t1")
	read := func(use string) *keyset.Handle {
		aad := parts("part164/tenant-keyset", "t1", use)
		wrapped := mustKeyset(t, s.db.Rows(), "t1", use)
		h, err := keyset.ReadWithContext(t.Context(), keyset.NewBinaryReader(bytes.NewReader(wrapped)), kek, aad)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	set, err := prf.NewPRFSet(read("index"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := set.ComputePrimaryPRF(parts("part164/index", "t1", "patient.name", "exact", "roe"), 32)
	if err != nil {
		t.Fatal(err)
	}
	if got := index.Token("patient.name", "exact", "roe"); !bytes.Equal(got, want) {
		t.Errorf("Token() = %x, Tink's PRF gives %x", got, want)
	}
	if set.PrimaryID != index.Version() {
		t.Errorf("Version() = %d, Tink's primary is %d", index.Version(), set.PrimaryID)
	}

	skipWithoutTinkGCM(t)
	a, err := aead.New(read("wrap"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.db.Rows().SubjectKeys(t.Context(), "t1", []string{"p1"}, false)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	raw, err := a.Decrypt(rows[0].Wrapped, append(parts("part164/subject-key", "t1", "p1"), 0, 0, 0, 1))
	if err != nil || len(raw) != 32 {
		t.Fatalf("Tink unwraps the subject's key as %d bytes, %v", len(raw), err)
	}
	k, err := s.lookup(t, "t1", "p1")
	if err != nil || !same(t, k, newKey(t, raw, crypto.Binding{Tenant: "t1", Subject: "p1"}, 1), "t1", "p1") {
		t.Errorf("Tink unwraps another key (%v)", err)
	}
}

// parts is the documented encoding, written again: four bytes of length before
// each part.
func parts(all ...string) []byte {
	var b []byte
	for _, p := range all {
		b = append(b, byte(len(p)>>24), byte(len(p)>>16), byte(len(p)>>8), byte(len(p)))
		b = append(b, p...)
	}
	return b
}
