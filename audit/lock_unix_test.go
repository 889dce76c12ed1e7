// SPDX-License-Identifier: Apache-2.0

//go:build unix

package audit_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/part164/part164/audit"
)

// Whoever only looks whether a journal is open, such as auditctl, shares its
// folder's lock for an instant, and keeps nobody from opening it; another
// journal does.
func TestALookKeepsNobodyFromOpening(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{})
	if _, err := audit.Open(dir, audit.Config{Development: true}); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("a second Open = %v, want ErrLocked", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fd := int(d.Fd())
	if err := unix.Flock(fd, unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = unix.Flock(fd, unix.LOCK_UN) })
	if j, err = audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
