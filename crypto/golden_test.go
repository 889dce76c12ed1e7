// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/part164/part164/crypto"
)

var update = flag.Bool("update", false, "add golden vectors that are missing; those that are there are never written again")

// golden is testdata/golden.json: a chain from a key file to cells, as releases
// wrote it. Each release may add vectors; none may be changed, or data in the
// field would not open.
type golden struct {
	Note    string             `json:"note"`
	KEK     json.RawMessage    `json:"kek"` // the key file
	Tenants []goldenTenant     `json:"tenants"`
	Keys    []goldenKey        `json:"keys"`
	Cells   []goldenCell       `json:"cells"`
	Tokens  []goldenToken      `json:"tokens"`
	Secrets []goldenCell       `json:"secrets"` // of a Sealer
	Broken  []goldenBrokenCell `json:"broken"`
}

type goldenTenant struct{ Tenant, Use, Wrapped string }

type goldenKey struct {
	Tenant, Subject string
	Version         uint32
	Wrapped         string
}

type goldenCell struct {
	Name      string
	At        crypto.Binding
	Plaintext string // hex
	Cell      string // hex
}

type goldenBrokenCell struct {
	Name  string
	At    crypto.Binding
	Cell  string // hex
	Error string
}

type goldenToken struct{ Tenant, Field, Kind, Value, Token string }

const goldenFile = "testdata/golden.json"

func TestGolden(t *testing.T) {
	if *update {
		updateGolden(t)
	}
	g := readGolden(t)
	kekPath := filepath.Join(t.TempDir(), "kek.json")
	if err := os.WriteFile(kekPath, g.KEK, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, localKEK(t, kekPath))
	rows := s.db.Rows()
	for _, k := range g.Tenants {
		if err := rows.InsertTenantKeyset(t.Context(), k.Tenant, k.Use, unhex(t, k.Wrapped)); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range g.Keys {
		row := crypto.KeyRow{Tenant: k.Tenant, Subject: k.Subject, Version: k.Version, Wrapped: unhex(t, k.Wrapped)}
		if err := rows.InsertSubjectKey(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	open := func(t *testing.T, at crypto.Binding, cell []byte) ([]byte, error) {
		h, err := crypto.ParseHeader(cell)
		if err != nil {
			return nil, err
		}
		found, err := s.ring.Lookup(t.Context(), rows, at.Tenant, []crypto.KeyRef{{Subject: at.Subject, Version: h.KeyVersion}})
		if err != nil {
			return nil, err
		}
		if found[0].Err != nil {
			return nil, found[0].Err
		}
		return found[0].Key.Open(nil, cell, at)
	}
	if len(g.Cells) < 5 || len(g.Broken) < 10 || len(g.Tokens) < 3 || len(g.Secrets) < 1 {
		t.Errorf("%d cells, %d broken ones, %d tokens, %d secrets: vectors are missing", len(g.Cells), len(g.Broken), len(g.Tokens), len(g.Secrets))
	}
	for _, c := range g.Cells {
		t.Run(c.Name, func(t *testing.T) {
			if p, err := open(t, c.At, unhex(t, c.Cell)); err != nil || !bytes.Equal(p, unhex(t, c.Plaintext)) {
				t.Errorf("Open() = %x, %v; want %s", p, err, c.Plaintext)
			}
		})
	}
	for _, c := range g.Secrets {
		t.Run(c.Name, func(t *testing.T) {
			if p, err := crypto.NewSealer(s.kek).Open(t.Context(), c.At, unhex(t, c.Cell)); err != nil || !bytes.Equal(p, unhex(t, c.Plaintext)) {
				t.Errorf("Open() = %x, %v; want %s", p, err, c.Plaintext)
			}
		})
	}
	for _, c := range g.Broken {
		t.Run(c.Name, func(t *testing.T) {
			if p, err := open(t, c.At, unhex(t, c.Cell)); p != nil || !errors.Is(err, goldenErrors[c.Error]) {
				t.Errorf("Open() = %x, %v; want %s", p, err, c.Error)
			}
		})
	}
	for _, c := range g.Tokens {
		k, err := s.ring.IndexKeys(t.Context(), rows, c.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(k[0].Token(c.Field, c.Kind, c.Value)); got != c.Token {
			t.Errorf("Token(%s, %s, %s) = %s, want %s", c.Field, c.Kind, c.Value, got, c.Token)
		}
	}
}

var goldenErrors = map[string]error{
	"ErrFormat": crypto.ErrFormat, "ErrVersion": crypto.ErrVersion, "ErrOpen": crypto.ErrOpen,
	"ErrNoKey": crypto.ErrNoKey, "ErrBinding": crypto.ErrBinding,
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// updateGolden makes the file where there is none. A release that has a new
// format adds its vectors here, beside the old ones.
func updateGolden(t *testing.T) {
	if _, err := os.Stat(goldenFile); err == nil {
		t.Log("the golden file is there: nothing in it is written again")
		return
	}
	g := golden{Note: "Test vectors: these keys protect nothing. Never change a line; see golden_test.go."}
	kek := localKEK(t, filepath.Join(t.TempDir(), "kek.json"))
	if err := kek.Generate(); err != nil {
		t.Fatal(err)
	}
	var err error
	if g.KEK, err = os.ReadFile(kek.Path()); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, kek)
	keys := s.store(t, "clinic-a", "0190f2d4-7c1e-7a54-9e2b-6a1f0c3d4e5f", "patient 2", "")
	s.store(t, "clinic-b", "patient 2", "")
	for _, tenant := range []string{"clinic-a", "clinic-b"} {
		index := s.indexKey(t, tenant)
		for _, use := range []string{"wrap", "index"} {
			g.Tenants = append(g.Tenants, goldenTenant{tenant, use, hex.EncodeToString(mustKeyset(t, s.db.Rows(), tenant, use))})
		}
		rows, err := s.db.Rows().SubjectKeys(t.Context(), tenant, []string{"0190f2d4-7c1e-7a54-9e2b-6a1f0c3d4e5f", "patient 2", ""}, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			g.Keys = append(g.Keys, goldenKey{r.Tenant, r.Subject, r.Version, hex.EncodeToString(r.Wrapped)})
		}
		for _, v := range [][3]string{{"patient.name", "exact", "roe"}, {"patient.name", "prefix", "ro"}, {"patient.mrn", "exact", ""}} {
			g.Tokens = append(g.Tokens, goldenToken{tenant, v[0], v[1], v[2], hex.EncodeToString(index.Token(v[0], v[1], v[2]))})
		}
	}
	at := crypto.Binding{Tenant: "clinic-a", Field: "patient.name", Record: "0190f2d4-7c1e-7a54-9e2b-000000000001", Subject: "0190f2d4-7c1e-7a54-9e2b-6a1f0c3d4e5f"}
	add := func(name string, at crypto.Binding, plaintext string) string {
		c := hex.EncodeToString(seal(t, keys[at.Subject], plaintext, at))
		g.Cells = append(g.Cells, goldenCell{"format 1: " + name, at, hex.EncodeToString([]byte(plaintext)), c})
		return c
	}
	cell := add("a name", at, "Jane Roe")
	add("empty", at, "")
	add("not UTF-8", at, "\x00\xff\xfe binary")
	add("long", at, string(bytes.Repeat([]byte("0123456789abcdef"), 40)))
	add("another subject", crypto.Binding{Tenant: "clinic-a", Field: "f", Record: "r", Subject: "patient 2"}, "42")
	add("the tenant's own key", crypto.Binding{Tenant: "clinic-a", Field: "note.text", Record: "n1"}, "about nobody")
	sealed, err := crypto.NewSealer(kek).Seal(t.Context(), at, []byte("JBSWY3DPEHPK3PXP"))
	if err != nil {
		t.Fatal(err)
	}
	g.Secrets = append(g.Secrets, goldenCell{"format 1: a Sealer's secret", at, hex.EncodeToString([]byte("JBSWY3DPEHPK3PXP")), hex.EncodeToString(sealed)})

	broken := func(name, err string, change func(b *crypto.Binding, c []byte) []byte) {
		b := at
		c := change(&b, unhex(t, cell))
		g.Broken = append(g.Broken, goldenBrokenCell{"broken: " + name, b, hex.EncodeToString(c), err})
	}
	keep := func(f func(b *crypto.Binding)) func(*crypto.Binding, []byte) []byte {
		return func(b *crypto.Binding, c []byte) []byte { f(b); return c }
	}
	flip := func(i int, x byte) func(*crypto.Binding, []byte) []byte {
		return func(_ *crypto.Binding, c []byte) []byte { c[i] ^= x; return c }
	}
	broken("another record", "ErrOpen", keep(func(b *crypto.Binding) { b.Record += "x" }))
	broken("another field", "ErrOpen", keep(func(b *crypto.Binding) { b.Field = "patient.mrn" }))
	broken("another subject", "ErrOpen", keep(func(b *crypto.Binding) { b.Subject = "patient 2" }))
	broken("no subject", "ErrOpen", keep(func(b *crypto.Binding) { b.Subject = "" }))
	broken("another tenant", "ErrNoKey", keep(func(b *crypto.Binding) { b.Tenant = "clinic-b" }))
	broken("another tenant's own key", "ErrOpen", keep(func(b *crypto.Binding) { b.Tenant, b.Subject = "clinic-b", "" }))
	broken("no record", "ErrBinding", keep(func(b *crypto.Binding) { b.Record = "" }))
	broken("version", "ErrVersion", flip(0, 0xF9^0xFA))
	broken("algorithm", "ErrVersion", flip(1, 3))
	broken("key version", "ErrNoKey", flip(5, 3))
	broken("key version 0", "ErrFormat", flip(5, 1))
	broken("iv", "ErrOpen", flip(6, 1))
	broken("ciphertext", "ErrOpen", flip(18, 1))
	broken("tag", "ErrOpen", flip(len(unhex(t, cell))-1, 0x80))
	broken("cut by one", "ErrOpen", func(_ *crypto.Binding, c []byte) []byte { return c[:len(c)-1] })
	broken("too short", "ErrFormat", func(_ *crypto.Binding, c []byte) []byte { return c[:33] })
	broken("empty", "ErrFormat", func(_ *crypto.Binding, c []byte) []byte { return nil })
	broken("one more", "ErrOpen", func(_ *crypto.Binding, c []byte) []byte { return append(c, 0) })
	broken("plaintext", "ErrFormat", func(*crypto.Binding, []byte) []byte { return []byte("Jane Roe, of Springfield, is 42 years old") })
	broken("a Sealer's secret", "ErrVersion", func(*crypto.Binding, []byte) []byte { return sealed })

	data, err := json.MarshalIndent(g, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(goldenFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
