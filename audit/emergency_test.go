// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// diskGone makes every write of d fail.
func diskGone(d *audittest.Disk) {
	d.Fail(func(op audittest.Op, _ string) (int, error) {
		if op == audittest.DiskWrite || op == audittest.DiskCreate {
			return 0, syscall.EIO
		}
		return 0, nil
	})
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func TestEmergencyOpen(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	var stderr buffer
	var alarms atomic.Int64
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: 5 * time.Millisecond, Timeout: 5 * time.Second,
		EmergencyOpen: &audit.Emergency{Events: 10, Alarm: func(n int) { alarms.Store(int64(n)) }, Stderr: &stderr}})
	p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}
	glass := access.With(t.Context(), p, access.BreakGlass)
	nobody := access.With(t.Context(), access.Principal{}, access.BreakGlass)
	reveal := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{
		{Type: "patient", Record: "patient-zebra", Patient: "patient-zebra", Fields: []string{"name"}}}}
	attempt := reveal
	attempt.Type = audit.WriteAttempt

	if r, err := j.Record(glass, reveal); err != nil || r.ID == "" {
		t.Fatalf("Record(break-glass) = %v, %v", r, err)
	}
	diskGone(d)
	begin := time.Now()
	if _, err := j.Record(doctor(t), reveal); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record(treatment, disk gone) = %v, want ErrUnavailable", err)
	}
	for i := range 10 {
		if r, err := j.Record(glass, reveal); err != nil || r.ID != "" {
			t.Fatalf("Record(break-glass %d, disk gone) = %v, %v; want no ID and no error", i, r, err)
		}
	}
	if _, err := j.Record(glass, reveal); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record(one more than are kept) = %v, want ErrUnavailable", err)
	}
	if _, err := j.Record(nobody, reveal); err == nil {
		t.Error("Record(break-glass by nobody) succeeds")
	}
	if _, err := j.Attempt(glass, attempt); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Attempt(break-glass, disk gone) = %v, want ErrUnavailable: a write needs its line", err)
	}
	if err := j.Ready(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Ready = %v, want ErrUnavailable", err)
	}
	if n := alarms.Load(); n != 10 {
		t.Errorf("the alarm says %d, want 10", n)
	}
	stderr.mu.Lock()
	text := stderr.b.String()
	stderr.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 10 || strings.Contains(text, "zebra") || !strings.Contains(text, j.Pseudonym("t-1", "patient-zebra")) {
		t.Errorf("stderr has %d lines, want 10 with pseudonyms only:\n%s", len(lines), text)
	}
	for _, line := range lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil || v["type"] != "reveal" || v["time"] == nil {
			t.Errorf("stderr: %s: %v", line, err)
		}
	}

	d.Fail(nil)
	waitFor(t, func() bool { return len(ofType(t, dir, audit.Gap)) > 0 })
	if _, err := j.Record(doctor(t), search(1)); err != nil {
		t.Errorf("Record(disk again) = %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	gaps, reveals := ofType(t, dir, audit.Gap), ofType(t, dir, audit.Revealed)
	if len(gaps) != 1 || gaps[0].Count != 10 || gaps[0].Since.Before(begin.Add(-time.Millisecond)) || gaps[0].Until.Before(gaps[0].Since) {
		t.Errorf("gaps: %+v", gaps)
	}
	if len(reveals) != 11 {
		t.Fatalf("%d reveals are kept, want 11", len(reveals))
	}
	for i, s := range reveals[1:] {
		if s.Seq != gaps[0].Seq+uint64(i)+1 || s.Since.IsZero() || s.Since.After(s.Time) || s.Purpose != access.BreakGlass ||
			s.Objects[0].Patient != j.Pseudonym("t-1", "patient-zebra") {
			t.Errorf("event %d of the gap: %+v", i, s)
		}
	}
	if r := sound(t, dir); r.Unsigned != 0 {
		t.Errorf("%d lines are not signed", r.Unsigned)
	}
}

// It is off unless it is asked for.
func TestEmergencyIsOffByDefault(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{Timeout: time.Second})
	diskGone(d)
	glass := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.BreakGlass)
	if _, err := j.Record(glass, search(1)); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record(break-glass, disk gone) = %v, want ErrUnavailable", err)
	}
	if _, err := audit.Open(audittest.Dir(t)+"/x", audit.Config{Development: true, EmergencyOpen: &audit.Emergency{}}); err == nil || !strings.Contains(err.Error(), "Alarm") {
		t.Errorf("Open(EmergencyOpen without an alarm) = %v", err)
	}
}

// What is kept when the journal closes is recorded by Close.
func TestEmergencyIsRecordedAtClose(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Minute, EmergencyOpen: &audit.Emergency{Alarm: func(int) {}, Stderr: new(buffer)}})
	glass := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.BreakGlass)
	diskGone(d)
	for range 3 {
		if _, err := j.Record(glass, search(5)); err != nil {
			t.Fatal(err)
		}
	}
	d.Fail(nil)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if gaps, events := ofType(t, dir, audit.Gap), ofType(t, dir, audit.Searched); len(gaps) != 1 || gaps[0].Count != 3 || len(events) != 3 {
		t.Errorf("gaps %+v, %d events", gaps, len(events))
	}
	sound(t, dir)
}

// A sync that takes longer than Timeout is no gap: the event is recorded once.
func TestEmergencyOfASlowDiskIsRecordedOnce(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: 5 * time.Millisecond, Timeout: time.Second,
		EmergencyOpen: &audit.Emergency{Alarm: func(int) {}, Stderr: new(buffer)}})
	glass := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.BreakGlass)
	var slow atomic.Bool
	slow.Store(true)
	held := make(chan struct{})
	d.Fail(func(op audittest.Op, _ string) (int, error) {
		if op == audittest.DiskSync && slow.Load() {
			<-held
		}
		return 0, nil
	})
	for range 3 { // the first is in the group that hangs, the others in the next
		if r, err := j.Record(glass, reveal("r-1")); err != nil || r.ID != "" {
			t.Fatalf("Record(break-glass, slow disk) = %v, %v; want no ID and no error", r, err)
		}
	}
	slow.Store(false)
	close(held)
	d.Fail(nil)
	waitFor(t, func() bool { _, err := j.Record(glass, search(1)); return err == nil })
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if gaps, reveals := ofType(t, dir, audit.Gap), ofType(t, dir, audit.Revealed); len(gaps) != 0 || len(reveals) != 3 {
		t.Errorf("%d gaps and %d reveals are recorded, want none and 3", len(gaps), len(reveals))
	}
	sound(t, dir)
}

type hung chan struct{}

func (h hung) Write(p []byte) (int, error) { <-h; return len(p), nil }

// A Stderr that blocks holds nobody up.
func TestEmergencyDoesNotWaitForStderr(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	h := make(hung)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: 5 * time.Millisecond, Timeout: time.Second,
		EmergencyOpen: &audit.Emergency{Alarm: func(int) {}, Stderr: h}})
	glass := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.BreakGlass)
	diskGone(d)
	done := make(chan error, 3)
	go func() {
		for range 3 {
			_, err := j.Record(glass, reveal("r-1"))
			done <- err
		}
	}()
	for range 3 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("Record waits for Stderr")
		}
	}
	d.Fail(nil)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	close(h)
	if gaps, reveals := ofType(t, dir, audit.Gap), ofType(t, dir, audit.Revealed); len(gaps) != 1 || gaps[0].Count != 3 || len(reveals) != 3 {
		t.Errorf("gaps %+v, %d reveals", gaps, len(reveals))
	}
}
