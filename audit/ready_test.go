// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

func TestReadySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Millisecond, Timeout: 5 * time.Second})
	if err := j.Ready(); err != nil {
		t.Fatalf("Ready = %v", err)
	}
	d.Fail(func(op audittest.Op, name string) (int, error) {
		if op == audittest.DiskWrite {
			return 0, syscall.EIO
		}
		return 0, nil
	})
	if _, err := j.Record(doctor(t), search(1)); err == nil {
		t.Fatal("Record succeeds")
	}
	if err := j.Ready(); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Ready(writes fail) = %v, want ErrUnavailable and EIO", err)
	}
	d.Fail(nil)
	waitFor(t, func() bool { return j.Ready() == nil }) // a checkpoint finds out: no request is needed

	lag := errors.New("the sink lags")
	stop := j.Require("sink table", func() error { return lag })
	other := j.Require("witness", func() error { return nil })
	if err := j.Ready(); !errors.Is(err, lag) || !strings.Contains(err.Error(), "sink table") {
		t.Errorf("Ready(sink lags) = %v", err)
	}
	stop()
	other()
	if err := j.Ready(); err != nil {
		t.Errorf("Ready = %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Ready(); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Ready(closed) = %v, want ErrClosed", err)
	}
}

// A full disk is told of a whole segment before it refuses anything, and is
// forgotten without a restart.
func TestReadySeesAFullDiskOneSegmentEarly(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Millisecond})
	ctx := doctor(t)
	has := func(name string) bool {
		names, err := d.List()
		return err == nil && slices.Contains(names, name) && d.Unsynced(name) == 0
	}
	waitFor(t, func() bool { return has("next") }) // made ahead
	d.SetFree(1000)
	record := func() error { _, err := j.Record(ctx, wide(100)); return err }
	for !has("00000002.jsonl") {
		if err := record(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return errors.Is(j.Ready(), audit.ErrDiskFull) })
	early := 0
	err := record()
	for ; err == nil && early < 100; early++ {
		err = record()
	}
	if !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Record(disk full) = %v, want ErrUnavailable and ENOSPC", err)
	}
	if size := early * 7000; size < minSegment*2/3 {
		t.Errorf("Ready told of it %d events, %d bytes, before the end", early, size)
	}
	d.SetFree(1 << 40)
	waitFor(t, func() bool { return j.Ready() == nil })
	if _, err := j.Record(ctx, search(1)); err != nil {
		t.Errorf("Record(room again) = %v", err)
	}
}
