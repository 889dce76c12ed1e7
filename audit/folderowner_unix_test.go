// SPDX-License-Identifier: Apache-2.0

//go:build unix

package audit_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/part164/part164/audit"
)

// TestNoLinkIsWrittenThrough puts links where a journal makes its files: what
// they lead to stays as it is.
func TestNoLinkIsWrittenThrough(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	record(t, j, reveal("r-1"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(filepath.Dir(dir), "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o640), os.Chmod(victim, 0o640)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	for _, name := range []string{"owner.tmp", "keys.json.tmp", "verifier.pub.tmp", "purged.tmp", "next"} {
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	j, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	record(t, j, reveal("r-2"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(victim)
	info, serr := os.Stat(victim)
	if err != nil || serr != nil || string(text) != "precious" || info.Mode() != 0o640 {
		t.Errorf("the file that links lead to has %q, mode %v", text, info.Mode())
	}
}

// TestRootLeavesAFolderToItsOwner: what root does with auditctl must not keep
// the application's user from opening its journal.
func TestRootLeavesAFolderToItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files for another user")
	}
	t.Parallel()
	const app = 4242
	j, dir := open(t, audit.Config{})
	record(t, j, reveal("r-1"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, app, app)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if j, err = audit.Open(dir, audit.Config{Development: true}); err != nil {
		t.Fatal(err)
	}
	if err := j.RotateKeys(officer(t)); err != nil {
		t.Fatal(err)
	}
	if err := j.Roll(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 5 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		of := info.Sys().(*syscall.Stat_t)
		if of.Uid != app || of.Gid != app || info.Mode().Perm()&0o077 != 0 && !strings.HasSuffix(e.Name(), ".pub") {
			t.Errorf("%s: owner %d:%d, mode %v", e.Name(), of.Uid, of.Gid, info.Mode())
		}
	}
}

// A folder that everybody may write to is named in the log, and only that.
func TestAnOpenFolderIsNamed(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]int{0o700: 0, 0o777: 1} {
		core, logs := observer.New(zap.WarnLevel)
		j, dir := open(t, audit.Config{Log: zap.New(core)})
		if err := errors.Join(j.Close(), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		if err := reopen(t, dir, audit.Config{Log: zap.New(core)}).Close(); err != nil {
			t.Fatal(err)
		}
		if n := logs.FilterMessageSnippet("chmod o-w").Len(); n != want {
			t.Errorf("mode %v: %d warnings, want %d", mode, n, want)
		}
	}
}
