// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/part164/part164/crypto"
)

func localKEK(t testing.TB, path string) *crypto.FileKEK {
	t.Helper()
	k, err := crypto.LocalKEK(path)
	if err != nil {
		t.Fatalf("LocalKEK() = %v", err)
	}
	return k
}

func TestFileKEK(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "keys", "kek.json")
	k := localKEK(t, path)
	if k.Exists() || k.Path() != path {
		t.Errorf("Exists() = %v, Path() = %s", k.Exists(), k.Path())
	}
	if _, err := k.EncryptWithContext(ctx, []byte("p"), nil); !errors.Is(err, crypto.ErrNoKeyFile) {
		t.Errorf("EncryptWithContext() = %v, want ErrNoKeyFile", err)
	}
	_, err := k.DecryptWithContext(ctx, []byte("c"), nil)
	if !errors.Is(err, crypto.ErrNoKeyFile) || !strings.Contains(err.Error(), "Development") || !strings.Contains(err.Error(), path) {
		t.Errorf("DecryptWithContext() = %v, want ErrNoKeyFile, the path and the mend", err)
	}
	early := localKEK(t, path) // names the file before it is there
	if err := k.Generate(); err != nil {
		t.Fatal(err)
	}
	if !k.Exists() {
		t.Error("Exists() = false after Generate")
	}
	c, err := k.EncryptWithContext(ctx, []byte("plaintext"), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*crypto.FileKEK{"the same": k, "one that reads it": localKEK(t, path), "one that was early": early} {
		if p, err := k.DecryptWithContext(ctx, c, []byte("data")); err != nil || string(p) != "plaintext" {
			t.Errorf("%s: DecryptWithContext() = %q, %v", name, p, err)
		}
	}
	other := localKEK(t, filepath.Join(t.TempDir(), "kek.json"))
	if err := other.Generate(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.DecryptWithContext(ctx, c, []byte("data")); !errors.Is(err, crypto.ErrUnwrap) {
		t.Errorf("another file's DecryptWithContext() = %v, want ErrUnwrap", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", filepath.Base(p), info.Mode(), err, want)
		}
	}
}

func TestGenerateReplacesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek.json")
	first, second := localKEK(t, path), localKEK(t, path)
	if err := first.Generate(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*crypto.FileKEK{first, second} {
		if err := k.Generate(); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Generate() over a file = %v, want fs.ErrExist", err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
	c, err := first.EncryptWithContext(t.Context(), []byte("p"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.DecryptWithContext(t.Context(), c, nil); err != nil {
		t.Errorf("the one that came second does not use the first one's key: %v", err)
	}
	// A file that is there and empty is not taken for none.
	path = filepath.Join(t.TempDir(), "kek.json")
	k := localKEK(t, path)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Generate(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Generate() over an empty file = %v, want fs.ErrExist", err)
	}
}

func TestGenerateOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "kek.json")
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 16 {
		wg.Go(func() {
			switch err := localKEKQuiet(path).Generate(); {
			case err == nil:
				mu.Lock()
				made++
				mu.Unlock()
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("Generate() = %v", err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d of 16 made the file, want 1", made)
	}
	localKEK(t, path)
}

// localKEKQuiet takes a file that another is just writing for none.
func localKEKQuiet(path string) *crypto.FileKEK {
	for {
		if k, err := crypto.LocalKEK(path); err == nil {
			return k
		}
	}
}

func TestLocalKEKRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	if err := localKEK(t, good).Generate(); err != nil {
		t.Fatal(err)
	}
	valid, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	raw := keyBytes(t, localKEK(t, good))
	write := func(name string, data []byte, mode fs.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	prf := bytes.ReplaceAll(valid, []byte("AesGcmKey"), []byte("HmacPrfKey"))
	disabled := bytes.ReplaceAll(valid, []byte("ENABLED"), []byte("DISABLED"))
	tests := map[string]struct{ path, mend string }{
		"empty":            {write("empty", nil, 0o600), "not a Tink keyset"},
		"cut":              {write("cut", valid[:len(valid)-10], 0o600), "not a Tink keyset"},
		"raw bytes":        {write("raw", raw, 0o600), "not a Tink keyset"},
		"another key type": {write("prf", prf, 0o600), "keyset"},
		"no enabled key":   {write("disabled", disabled, 0o600), "keyset"},
		"too large":        {write("large", bytes.Repeat([]byte{' '}, 2<<20), 0o600), "larger"},
		"a folder":         {dir, "not a regular file"},
		"no path":          {"", "empty"},
	}
	if runtime.GOOS != "windows" {
		for name, mode := range map[string]fs.FileMode{"group reads": 0o640, "all read": 0o604, "group writes": 0o620, "all": 0o666} {
			tests[name] = struct{ path, mend string }{write(name, valid, mode), "chmod 600"}
		}
		tests["a device"] = struct{ path, mend string }{os.DevNull, "not a regular file"}
	}
	for name, tt := range tests {
		_, err := crypto.LocalKEK(tt.path)
		if err == nil || !strings.Contains(err.Error(), tt.mend) || errors.Is(err, crypto.ErrNoKeyFile) {
			t.Errorf("LocalKEK(%s) = %v, want an error with %q", name, err, tt.mend)
			continue
		}
		wantNone(t, "the error of "+name, err.Error(), raw)
	}
	if runtime.GOOS != "windows" {
		link := filepath.Join(dir, "link")
		if err := os.Symlink(good, link); err != nil {
			t.Fatal(err)
		}
		localKEK(t, link) // secret stores mount files as links
	}
}

func TestFileBecomesBad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek.json")
	k := localKEK(t, path)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.EncryptWithContext(t.Context(), []byte("p"), nil); err == nil || errors.Is(err, crypto.ErrNoKeyFile) {
		t.Errorf("EncryptWithContext() = %v, want what is wrong with the file", err)
	}
	if !k.Exists() {
		t.Error("Exists() = false: Generate would be called over a file")
	}
}

func TestGenerateWhereNobodyMayWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := crypto.LocalKEK(filepath.Join(file, "kek.json"))
	if err != nil {
		return // not a folder: said at once
	}
	if err := k.Generate(); err == nil {
		t.Error("Generate() under a file succeeds")
	}
}

func TestFileKEKAndContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var none *crypto.FileKEK
	if _, err := none.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, crypto.ErrNoKeyFile) {
		t.Errorf("a nil FileKEK: %v, want ErrNoKeyFile", err)
	}
	if _, err := none.DecryptWithContext(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a done context: %v, want Canceled", err)
	}
}

func TestEnsureMakesNoKeyBesideWhatWasWrapped(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek.json")
	for _, tt := range []struct{ inUse, development, made bool }{
		{inUse: true, development: true},
		{inUse: true},
		{},
		{development: true, made: true},
		{inUse: true, made: true}, // it is there by now
	} {
		err := localKEK(t, path).Ensure(tt.inUse, tt.development)
		if made := localKEK(t, path).Exists(); made != tt.made || (err == nil) != tt.made {
			t.Fatalf("Ensure(%v, %v) = %v, made %v", tt.inUse, tt.development, err, made)
		}
		if err != nil && (!errors.Is(err, crypto.ErrNoKeyFile) || tt.inUse != strings.Contains(err.Error(), "put it back")) {
			t.Errorf("Ensure(%v, %v) = %v, want ErrNoKeyFile and the mend", tt.inUse, tt.development, err)
		}
	}
}
