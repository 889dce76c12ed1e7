// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// forms returns the ways in which secret would show in a text.
func forms(secret []byte) []string {
	all := []string{
		string(secret),
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		strings.Trim(fmt.Sprint(secret), "[]"),           // 1 2 3
		strings.Trim(fmt.Sprintf("%#v", secret), "}"),    // []byte{0x1, 0x2
		fmt.Sprintf("% x", secret),                       // 01 02
		strings.ReplaceAll(fmt.Sprint(secret), " ", ","), // as JSON numbers
		strings.Trim(fmt.Sprintf("%q", secret), `"`),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // the ends share characters with their neighbours
			e := enc.EncodeToString(append(make([]byte, shift), secret...))
			all = append(all, e[(shift*8+5)/6:len(e)-1])
		}
	}
	return all
}

func wantNone(t *testing.T, what, text string, secrets ...[]byte) {
	t.Helper()
	for _, s := range secrets {
		for _, f := range forms(s) {
			if strings.Contains(text, f) {
				t.Errorf("%s shows a secret", what)
			}
		}
	}
}

// keyBytes returns the raw key in the file of a FileKEK.
func keyBytes(t *testing.T, k *crypto.FileKEK) []byte {
	t.Helper()
	data, err := os.ReadFile(k.Path())
	if err != nil {
		t.Fatal(err)
	}
	var ks struct {
		Key []struct{ KeyData struct{ Value []byte } }
	}
	if err := json.Unmarshal(data, &ks); err != nil {
		t.Fatal(err)
	}
	v := ks.Key[0].KeyData.Value // the proto of an AES-GCM key ends in its bytes
	return v[len(v)-32:]
}

func TestNothingPrintsAKey(t *testing.T) {
	t.Parallel()
	file, err := crypto.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Generate(); err != nil {
		t.Fatal(err)
	}
	s := newStack(t, file)
	key := newKey(t, rawKey, place, 1)
	keys, tx, dbtx := s.sealing(t, "t1", "p1", "")
	index, err := tx.IndexingKeys(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Precommit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := dbtx.Commit(); err != nil {
		t.Fatal(err)
	}
	tx.Publish()
	found, err := s.ring.Lookup(t.Context(), s.db.Rows(), "t1", refs("p1"))
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Key   *crypto.Key
		Value crypto.Key
		inner *crypto.Key
		plain crypto.Key
		KEK   crypto.KEK
	}
	for name, v := range map[string]any{
		"Key": key, "Key value": *key, "keys": keys, "IndexKey": index[0], "IndexKey value": *index[0], "IndexKeys": index,
		"FileKEK": file, "Keyring": s.ring, "KeyTx": tx, "Found": found,
		"holder": holder{key, *key, key, *key, file}, "Config": crypto.Config{KEK: file},
		"Sealer": crypto.NewSealer(file), "fake KEK": cryptotest.NewKEK(),
	} {
		secrets := [][]byte{rawKey, keyBytes(t, file)}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%b", "%o", "%c", "%U", "%t"} {
			wantNone(t, name+" by "+verb, fmt.Sprintf(verb, v), secrets...)
			wantNone(t, "a pointer to "+name+" by "+verb, fmt.Sprintf(verb, &v), secrets...)
		}
		b, _ := json.Marshal(v)
		wantNone(t, name+" by JSON", string(b), secrets...)
		var buf bytes.Buffer
		slog.New(slog.NewTextHandler(&buf, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&buf, nil)).Info("x", "v", v)
		wantNone(t, name+" by slog", buf.String(), secrets...)
	}
	for v, want := range map[any]string{
		key: "[crypto.Key version 1]", s.ring: "[crypto.Keyring]", tx: "[crypto.KeyTx]",
		file: "[crypto.FileKEK " + file.Path() + "]",
	} {
		if got := fmt.Sprint(v); got != want {
			t.Errorf("prints as %q, want %q", got, want)
		}
	}
}

// TestNeedlesAreFound keeps the search above honest: it finds what is there.
func TestNeedlesAreFound(t *testing.T) {
	t.Parallel()
	for _, leak := range []string{
		fmt.Sprint(rawKey), fmt.Sprintf("%#v", rawKey), fmt.Sprintf("%x", rawKey), fmt.Sprintf("%X", rawKey),
		fmt.Sprintf("%q", rawKey), string(rawKey), base64.StdEncoding.EncodeToString(rawKey),
		fmt.Sprintf("%+v", struct{ raw []byte }{rawKey}),
		base64.StdEncoding.EncodeToString(append([]byte{0x1A, 0x20}, rawKey...)),
		base64.StdEncoding.EncodeToString(append(append([]byte{0x1A}, rawKey...), 7)),
	} {
		hit := false
		for _, f := range forms(rawKey) {
			hit = hit || strings.Contains(leak, f)
		}
		if !hit {
			t.Errorf("a leak is not found: %q", leak)
		}
	}
}

// TestErrorsHoldNoSecret makes every kind of error, with a plaintext, a key and
// a file that are easily found, and looks for them in its text.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plaintext := []byte("Jane Roe 078-05-1120")
	path := filepath.Join(t.TempDir(), "kek.json")
	file := localKEK(t, path)
	if err := file.Generate(); err != nil {
		t.Fatal(err)
	}
	place := crypto.Binding{Tenant: "t1", Field: "patient.name", Record: "record-number-1", Subject: "medical-record-4711"}
	secrets := [][]byte{rawKey, plaintext, []byte(place.Record), []byte(place.Subject), keyBytes(t, file)}
	seen := make(map[error]bool)
	check := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("no error to look at")
			return
		}
		wantNone(t, fmt.Sprintf("the error %T", err), fmt.Sprintf("%v %+v %#v", err, err, err.Error()), secrets...)
		for _, s := range sentinels {
			if errors.Is(err, s) {
				seen[s] = true
			}
		}
	}
	one := func(f []crypto.Found, err error) {
		t.Helper()
		if err == nil && len(f) == 1 {
			err = f[0].Err
		}
		check(err)
	}
	k := newKey(t, rawKey, place, 1)
	cell := seal(t, k, string(plaintext), place)
	elsewhere := place
	elsewhere.Record = "record-number-2"
	for _, c := range [][]byte{plaintext, append([]byte{0xF9, 1}, plaintext...), append([]byte{0xFA}, plaintext...), nil} {
		_, err := k.Open(nil, c, place)
		check(err)
	}
	_, err := k.Open(nil, cell, elsewhere)
	check(err)
	_, err = k.Seal(nil, plaintext, crypto.Binding{})
	check(err)
	_, err = new(crypto.Key).Seal(nil, plaintext, place)
	check(err)

	s := newStack(t, file)
	s.store(t, "t1", place.Subject)
	found, err := s.ring.Lookup(ctx, s.db.Rows(), "t1", []crypto.KeyRef{{Subject: place.Subject, Version: 2}})
	one(found, err)
	bad := &hooked{KeyRows: s.db.Rows(), changeSubjectKeys: func(rows []crypto.KeyRow) []crypto.KeyRow {
		rows[0].Wrapped = rawKey
		return rows
	}}
	found, err = s.ring.Lookup(ctx, bad, "t1", refs(place.Subject))
	one(found, err)
	_, err = s.ring.Begin(bad).SealingKeys(ctx, "t1", []string{place.Subject})
	check(err)
	none := &hooked{KeyRows: s.db.Rows(), changeSubjectKeys: func([]crypto.KeyRow) []crypto.KeyRow { return nil }}
	_, err = s.ring.Begin(none).SealingKeys(ctx, "t1", []string{place.Subject, "new"})
	check(err)
	if err := s.db.Rows().InsertTenantKeyset(ctx, "t2", "wrap", append([]byte{0x12, 32}, rawKey...)); err != nil {
		t.Fatal(err)
	}
	_, err = s.ring.Begin(s.db.Rows()).SealingKeys(ctx, "t2", []string{place.Subject})
	check(err)
	if err := s.db.Shred(ctx, "t1", place.Subject); err != nil {
		t.Fatal(err)
	}
	_, err = s.ring.Begin(s.db.Rows()).SealingKeys(ctx, "t1", []string{place.Subject})
	check(err)
	s.db.Fail(errors.New("down"))
	s.advance(time.Minute)
	found, err = s.ring.Lookup(ctx, s.db.Rows(), "t1", refs(place.Subject))
	one(found, err)

	_, err = crypto.NewSealer(file).Open(ctx, elsewhere, append([]byte{0xF9, 0x40}, plaintext...))
	check(err)
	_, err = localKEK(t, filepath.Join(t.TempDir(), "none")).EncryptWithContext(ctx, plaintext, nil)
	check(err)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = crypto.LocalKEK(path)
	check(err)

	for _, want := range sentinels {
		if !seen[want] {
			t.Errorf("no error that wraps %q was looked at", want)
		}
	}
}

var sentinels = []error{
	crypto.ErrFormat, crypto.ErrVersion, crypto.ErrOpen, crypto.ErrBinding, crypto.ErrShredded, crypto.ErrNoKey,
	crypto.ErrNoKeyFile, crypto.ErrUnwrap, crypto.ErrKeyLost, crypto.ErrGeneration,
}
