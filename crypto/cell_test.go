// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/part164/part164/crypto"
)

var (
	rawKey = bytes.Repeat([]byte{0x5A, 0xA7}, 16)
	place  = crypto.Binding{Tenant: "t1", Field: "patient.name", Record: "r1", Subject: "p1"}
)

// newKey returns a key of the given bytes at a place.
func newKey(t testing.TB, raw []byte, b crypto.Binding, version uint32) *crypto.Key {
	t.Helper()
	k, err := crypto.NewKey(raw, b.Tenant, b.Subject, version)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seal(t testing.TB, k *crypto.Key, plaintext string, b crypto.Binding) []byte {
	t.Helper()
	cell, err := k.Seal(nil, []byte(plaintext), b)
	if err != nil {
		t.Fatalf("Seal() = %v", err)
	}
	return cell
}

func TestCellRoundTrip(t *testing.T) {
	t.Parallel()
	k := newKey(t, rawKey, place, 3)
	for _, n := range []int{0, 1, 11, 12, 16, 28, 32, 1000, 100_000} {
		want := bytes.Repeat([]byte{'x'}, n)
		cell, err := k.Seal(nil, want, place)
		if err != nil {
			t.Fatal(err)
		}
		if len(cell) != n+crypto.CellOverhead {
			t.Errorf("the cell of %d bytes has %d", n, len(cell))
		}
		got, err := k.Open(nil, cell, place)
		if err != nil || got == nil || !bytes.Equal(got, want) {
			t.Errorf("Open(cell of %d bytes) = %d bytes, %v", n, len(got), err)
		}
	}
}

func TestCellLayout(t *testing.T) {
	t.Parallel()
	k := newKey(t, rawKey, place, 0x01020304)
	cell := seal(t, k, "plaintext", place)
	if want := []byte{0xF9, 0x01, 1, 2, 3, 4}; !bytes.Equal(cell[:6], want) {
		t.Errorf("the header is %x, want %x", cell[:6], want)
	}
	h, err := crypto.ParseHeader(cell)
	if want := (crypto.Header{Version: crypto.CellVersion, Algorithm: crypto.CellAES256GCM, KeyVersion: 0x01020304}); err != nil || h != want {
		t.Errorf("ParseHeader() = %+v, %v; want %+v", h, err, want)
	}
	if utf8.Valid(cell) || utf8.Valid(cell[:1]) {
		t.Error("the cell could be text")
	}
	if other := seal(t, k, "plaintext", place); bytes.Equal(cell[6:18], other[6:18]) {
		t.Error("two cells have one IV")
	}
}

// Each of the four has one key's bytes at both places, so that nothing but the
// associated data tells the places apart.

func TestCellIsBoundToItsTenant(t *testing.T) {
	t.Parallel()
	other := place
	other.Tenant = "t2"
	testBound(t, other)
}

func TestCellIsBoundToItsField(t *testing.T) {
	t.Parallel()
	other := place
	other.Field = "patient.mrn"
	testBound(t, other)
}

func TestCellIsBoundToItsRecord(t *testing.T) {
	t.Parallel()
	other := place
	other.Record = "r2"
	testBound(t, other)
}

func TestCellIsBoundToItsSubject(t *testing.T) {
	t.Parallel()
	other := place
	other.Subject = "p2"
	testBound(t, other)
	other.Subject = ""
	testBound(t, other)
}

func testBound(t *testing.T, other crypto.Binding) {
	t.Helper()
	cell := seal(t, newKey(t, rawKey, place, 1), "plaintext", place)
	if p, err := newKey(t, rawKey, other, 1).Open(nil, cell, other); !errors.Is(err, crypto.ErrOpen) || p != nil {
		t.Errorf("the cell of %+v opens at %+v: %q, %v", place, other, p, err)
	}
}

func TestPlacesAreNotConfused(t *testing.T) {
	t.Parallel()
	// Joined without lengths each of these would be one string.
	for _, other := range []crypto.Binding{
		{Tenant: "t1p", Field: "atient.name", Record: "r1", Subject: "p1"},
		{Tenant: "t1", Field: "patient.namer", Record: "1", Subject: "p1"},
		{Tenant: "t1", Field: "patient.name", Record: "r1p", Subject: "1"},
		{Tenant: "t1", Field: "patient.name", Record: "r1p1", Subject: ""},
	} {
		testBound(t, other)
	}
}

func TestHeaderIsAuthenticated(t *testing.T) {
	t.Parallel()
	cell := seal(t, newKey(t, rawKey, place, 1), "plaintext", place)
	binary.BigEndian.PutUint32(cell[2:], 2)
	// The same bytes as version 2: only the header in the associated data is
	// in the way.
	if _, err := newKey(t, rawKey, place, 2).Open(nil, cell, place); !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("Open(key version changed) = %v, want ErrOpen", err)
	}
	if _, err := newKey(t, rawKey, place, 1).Open(nil, cell, place); !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("Open(cell of key 2, with key 1) = %v, want ErrOpen", err)
	}
}

func TestEveryAlteredBitFails(t *testing.T) {
	t.Parallel()
	k := newKey(t, rawKey, place, 1)
	cell := seal(t, k, "plaintext", place)
	for i := range cell {
		for bit := range 8 {
			bad := slices.Clone(cell)
			bad[i] ^= 1 << bit
			p, err := k.Open(nil, bad, place)
			if p != nil || !namedCellError(err) && !errors.Is(err, crypto.ErrTestKey) {
				t.Errorf("byte %d, bit %d flipped: Open() = %q, %v", i, bit, p, err)
			}
		}
	}
	for n := range cell {
		if p, err := k.Open(nil, cell[:n], place); p != nil || !namedCellError(err) {
			t.Errorf("cut to %d bytes: Open() = %q, %v", n, p, err)
		}
	}
	if _, err := k.Open(nil, append(slices.Clone(cell), 0), place); !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("one byte more: Open() = %v, want ErrOpen", err)
	}
}

func namedCellError(err error) bool {
	return errors.Is(err, crypto.ErrFormat) || errors.Is(err, crypto.ErrVersion) || errors.Is(err, crypto.ErrOpen)
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	cell := seal(t, newKey(t, rawKey, place, 1), "plaintext", place)
	other := bytes.Repeat([]byte{1}, 32)
	if _, err := newKey(t, other, place, 1).Open(nil, cell, place); !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("Open(with another key) = %v, want ErrOpen", err)
	}
}

func TestParseHeaderErrors(t *testing.T) {
	t.Parallel()
	rest := strings.Repeat("x", 28)
	for _, tt := range []struct {
		name, cell string
		want       error
	}{
		{"empty", "", crypto.ErrFormat},
		{"text", "Jane Roe, who lives in Springfield and is 42", crypto.ErrFormat},
		{"JSON", `{"name":"Jane Roe","city":"Springfield","age":42}`, crypto.ErrFormat},
		{"UTF-8 with a lead byte of three", "\xe1\x88\xb4" + rest + rest, crypto.ErrFormat},
		{"Tink prefix", "\x01\x00\x00\x00\x01" + rest + rest, crypto.ErrFormat},
		{"version alone", "\xf9", crypto.ErrFormat},
		{"one byte short", "\xf9\x01\x00\x00\x00\x01" + rest[1:], crypto.ErrFormat},
		{"shortest", "\xf9\x01\x00\x00\x00\x01" + rest, nil},
		{"key version 0", "\xf9\x01\x00\x00\x00\x00" + rest, crypto.ErrFormat},
		{"algorithm 0", "\xf9\x00\x00\x00\x00\x01" + rest, crypto.ErrVersion},
		{"algorithm 2", "\xf9\x02\x00\x00\x00\x01" + rest, crypto.ErrVersion},
		{"next version", "\xfa\x01\x00\x00\x00\x01" + rest, crypto.ErrVersion},
		{"last version", "\xff", crypto.ErrVersion},
		{"version before", "\xf8\x01\x00\x00\x00\x01" + rest, crypto.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := crypto.ParseHeader([]byte(tt.cell))
			if !errors.Is(err, tt.want) {
				t.Errorf("ParseHeader() = %v, want %v", err, tt.want)
			}
			if tt.want == nil {
				return
			}
			if _, err := newKey(t, rawKey, place, 1).Open(nil, []byte(tt.cell), place); !errors.Is(err, tt.want) {
				t.Errorf("Open() = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestBindingIsChecked(t *testing.T) {
	t.Parallel()
	k := newKey(t, rawKey, place, 1)
	cell := seal(t, k, "plaintext", place)
	for name, b := range map[string]crypto.Binding{
		"zero":      {},
		"no tenant": {Field: "f", Record: "r1", Subject: "p1"},
		"no field":  {Tenant: "t1", Record: "r1", Subject: "p1"},
		"no record": {Tenant: "t1", Field: "f", Subject: "p1"},
	} {
		if _, err := k.Seal(nil, []byte("x"), b); !errors.Is(err, crypto.ErrBinding) {
			t.Errorf("%s: Seal() = %v, want ErrBinding", name, err)
		}
		if _, err := k.Open(nil, cell, b); !errors.Is(err, crypto.ErrBinding) {
			t.Errorf("%s: Open() = %v, want ErrBinding", name, err)
		}
	}
	// Sealing with the wrong patient's key must fail at once, not at the read.
	for name, b := range map[string]crypto.Binding{
		"tenant":     {Tenant: "t2", Field: "f", Record: "r1", Subject: "p1"},
		"subject":    {Tenant: "t1", Field: "f", Record: "r1", Subject: "p2"},
		"no subject": {Tenant: "t1", Field: "f", Record: "r1"},
	} {
		if _, err := k.Seal(nil, []byte("x"), b); !errors.Is(err, crypto.ErrBinding) {
			t.Errorf("other %s than the key's: Seal() = %v, want ErrBinding", name, err)
		}
		if _, err := k.Open(nil, cell, b); !errors.Is(err, crypto.ErrOpen) {
			t.Errorf("other %s than the key's: Open() = %v, want ErrOpen", name, err)
		}
	}
}

func TestZeroKeyDoesNothing(t *testing.T) {
	t.Parallel()
	cell := seal(t, newKey(t, rawKey, place, 1), "plaintext", place)
	for _, k := range []*crypto.Key{nil, new(crypto.Key)} {
		if c, err := k.Seal(nil, []byte("x"), place); !errors.Is(err, crypto.ErrNoKey) || c != nil {
			t.Errorf("Seal() = %x, %v; want ErrNoKey", c, err)
		}
		if p, err := k.Open(nil, cell, place); !errors.Is(err, crypto.ErrNoKey) || p != nil {
			t.Errorf("Open() = %q, %v; want ErrNoKey", p, err)
		}
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := crypto.NewKey(make([]byte, n), "t1", "p1", 1); err == nil {
			t.Errorf("a key of %d bytes is taken", n)
		}
	}
}

func TestSealAndOpenAppend(t *testing.T) {
	t.Parallel()
	k := newKey(t, rawKey, place, 1)
	for _, spare := range []int{0, 1, 40, 4000} {
		dst := append(make([]byte, 0, 4+spare), "head"...)
		both, err := k.Seal(dst, []byte("plaintext"), place)
		if err != nil || string(both[:4]) != "head" {
			t.Fatalf("spare %d: Seal() = %q, %v", spare, both, err)
		}
		dst = append(make([]byte, 0, 4+spare), "head"...)
		got, err := k.Open(dst, both[4:], place)
		if err != nil || string(got) != "headplaintext" {
			t.Errorf("spare %d: Open() = %q, %v", spare, got, err)
		}
	}
	// One buffer through many cells, as a row is opened.
	var buf []byte
	for _, s := range []string{"a", "much longer than the one before", "", "b"} {
		cell := seal(t, k, s, place)
		var err error
		if buf, err = k.Open(buf[:0], cell, place); err != nil || string(buf) != s {
			t.Errorf("Open(reused buffer) = %q, %v; want %q", buf, err, s)
		}
	}
}

func TestSealAndOpenAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates on its own")
	}
	k := newKey(t, rawKey, place, 1)
	plaintext := bytes.Repeat([]byte{'x'}, 32)
	cell := seal(t, k, string(plaintext), place)
	buf := make([]byte, 0, 512)
	for name, tt := range map[string]struct {
		max float64
		f   func()
	}{
		"Seal":                 {1, func() { k.Seal(nil, plaintext, place) }},
		"Seal into a buffer":   {0, func() { k.Seal(buf, plaintext, place) }},
		"Open":                 {1, func() { k.Open(nil, cell, place) }},
		"Open into a buffer":   {0, func() { k.Open(buf, cell, place) }},
		"ParseHeader":          {0, func() { crypto.ParseHeader(cell) }},
		"Open, not of the key": {3, func() { k.Open(nil, cell, crypto.Binding{}) }},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got > tt.max {
			t.Errorf("%s allocates %v times, want %v at most", name, got, tt.max)
		}
	}
}
