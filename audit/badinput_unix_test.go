// SPDX-License-Identifier: Apache-2.0

//go:build unix

package audit_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/part164/part164/audit"
)

// irregular makes what is no file of its own: by the way to it, and to a
// segment that is one.
func irregular(testing.TB) map[string]func(path, file string) error {
	return map[string]func(path, file string) error{
		"folder": func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"pipe":   func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"socket": func(path, _ string) error {
			// Its path may be longer than a socket's address.
			wd := filepath.Base(path)
			l, err := net.Listen("unix", filepath.Join(os.TempDir(), "p164-"+wd+filepath.Base(filepath.Dir(filepath.Dir(path)))))
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			defer l.Close()
			return os.Rename(l.Addr().String(), path)
		},
		"symbolic link": func(path, file string) error { return os.Symlink(file, path) },
	}
}

const asNobody = "PART164_TEST_VERIFY_AS_NOBODY"

// A segment that may not be read is no verdict.
func TestVerifyCannotReadASegment(t *testing.T) {
	if dir := os.Getenv(asNobody); dir != "" {
		if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); err == nil || !strings.Contains(err.Error(), "00000002.jsonl: permission denied") {
			t.Errorf("Verify = %v", err)
		}
		return
	}
	t.Parallel()
	dir := copied(t, rolled(t))
	if err := os.Chmod(segmentFile(dir, 2), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); err == nil || !strings.Contains(err.Error(), "00000002.jsonl: permission denied") {
			t.Errorf("Verify = %v", err)
		}
		return
	}
	// The administrator may read all: somebody else looks.
	const nobody = 65534
	if err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}); err != nil {
		t.Skipf("no other user: %v", err)
	}
	for up := filepath.Dir(dir); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(filepath.Dir(dir), "verify.test")
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	defer self.Close()
	out, err := os.OpenFile(program, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, self); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Chmod(0o755), out.Close()); err != nil { // whatever the umask
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestVerifyCannotReadASegment$", "-test.v")
	cmd.Dir, cmd.Env = "/", []string{asNobody + "=" + dir, "TMPDIR=" + os.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if text, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(text), "--- PASS") {
		t.Errorf("as nobody: %v: %s", err, text)
	}
}
