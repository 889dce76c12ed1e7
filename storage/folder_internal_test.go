// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// OpenFolder is the store of FilesConfig.Folder, for the suite that each store
// passes.
var OpenFolder = openFolder

func TestAFolderStaysInItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := openFolder(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a", "ab", "ab/", "/ab", "../ab", "ab/..", "ab/../../x1", "ab/cd/ef", "AB/cd", "ab/c d", "ab/" + strings.Repeat("a", 101), "ab/.part", "ab\\cd/ef", "ab/c\x00d"} {
		if err := s.Put(t.Context(), name, strings.NewReader("x")); err == nil {
			t.Errorf("Put(%q) works", name)
		}
		if _, err := s.Get(t.Context(), name, 0); err == nil {
			t.Errorf("Get(%q) works", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("Delete(%q) works", name)
		}
	}
	if err := s.Put(t.Context(), "db/blob", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "db/blob", strings.NewReader("y")); err == nil {
		t.Error("a name is used twice")
	}
	for path, want := range map[string]os.FileMode{"files": 0o700, "files/db/ob": 0o700, "files/db/ob/blob": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
	// What a kill has left while writing is listed, and can be deleted.
	if err := os.WriteFile(filepath.Join(dir, "files/db/ob/glob.part"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = s.List(t.Context(), "db/", func(name string, _ time.Time) error {
		n++
		return s.Delete(t.Context(), name)
	})
	if err != nil || n != 2 {
		t.Errorf("%d names, %v", n, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "files/db/ob/*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}
