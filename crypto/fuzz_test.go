// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// FuzzParseHeader: no bytes make it panic, and what it accepts has the shape of
// a cell.
func FuzzParseHeader(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0xF9})
	f.Add(append([]byte{0xF9, 1, 0, 0, 0, 1}, make([]byte, 28)...))
	f.Add(append([]byte{0xFA, 1, 0, 0, 0, 1}, make([]byte, 28)...))
	f.Fuzz(func(t *testing.T, cell []byte) {
		h, err := crypto.ParseHeader(cell)
		if err != nil {
			if h != (crypto.Header{}) || !namedCellError(err) {
				t.Errorf("ParseHeader() = %+v, %v", h, err)
			}
			return
		}
		if len(cell) < crypto.CellOverhead || !bytes.HasPrefix(cell, []byte{crypto.CellVersion, crypto.CellAES256GCM}) || h.KeyVersion == 0 {
			t.Errorf("ParseHeader(%x) accepts what is no cell", cell)
		}
	})
}

// FuzzOpen: no bytes but the cell itself open, and none make it panic.
func FuzzOpen(f *testing.F) {
	k := newKey(f, rawKey, place, 1)
	cell, err := hex.DecodeString(fuzzCell)
	if err != nil {
		f.Fatal(err)
	}
	if p, err := k.Open(nil, cell, place); err != nil || string(p) != "plaintext" {
		f.Fatalf("the seed opens as %q, %v", p, err)
	}
	f.Add(cell, "t1", "patient.name", "r1", "p1")
	f.Add(cell[:len(cell)-1], "t1", "patient.name", "r1", "p1")
	f.Add(cell, "t1", "patient.name", "r2", "p1")
	f.Add([]byte(nil), "", "", "", "")
	f.Fuzz(func(t *testing.T, c []byte, tenant, field, record, subject string) {
		b := crypto.Binding{Tenant: tenant, Field: field, Record: record, Subject: subject}
		key, err := crypto.NewKey(rawKey, tenant, subject, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []*crypto.Key{k, key} {
			p, err := k.Open(nil, c, b)
			if (err == nil) != (bytes.Equal(c, cell) && b == place) {
				t.Errorf("Open(%x, %+v) = %q, %v", c, b, p, err)
			}
		}
	})
}

const fuzzCell = "f901000000017da8e8ae0942467323a2d859116c9bd9328007e477c5a6ae9135f075420963e7c3106b5979"

// FuzzUnwrap: no row of the key table makes a keyring panic, or gives a key.
func FuzzUnwrap(f *testing.F) {
	kek := cryptotest.NewKEK()
	valid, err := kek.EncryptWithContext(f.Context(), []byte("no keyset"), []byte("other data"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add(valid)
	f.Add(append([]byte{0x12, byte(len(valid))}, valid...)) // an EncryptedKeyset
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		for _, use := range []string{"wrap", "index"} {
			if _, err := crypto.UnwrapTenantKey(t.Context(), kek, "t1", use, wrapped); err == nil {
				t.Errorf("%x unwraps", wrapped)
			}
		}
	})
}

// FuzzLocalKEK: no file makes it panic, and no error quotes one.
func FuzzLocalKEK(f *testing.F) {
	path := filepath.Join(f.TempDir(), "kek.json")
	k, err := crypto.LocalKEK(path)
	if err != nil {
		f.Fatal(err)
	}
	if err := k.Generate(); err != nil {
		f.Fatal(err)
	}
	valid, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add(valid[:len(valid)/2])
	f.Add([]byte(nil))
	f.Add([]byte(`{"primaryKeyId":1,"key":[]}`))
	f.Add([]byte(`{"secretkeymaterial"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "kek.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := crypto.LocalKEK(path)
		if err == nil {
			return
		}
		text := strings.ReplaceAll(err.Error(), path, "")
		for i := 0; i+12 <= len(data); i++ {
			if s := string(data[i : i+12]); strings.Contains(text, s) && !strings.Contains("read key file: not a Tink keyset in JSON", s) {
				t.Errorf("the error quotes the file: %q", s)
			}
		}
	})
}
