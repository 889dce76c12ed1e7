// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/audit"
)

// A wall is a clock that is set.
type wall struct{ by atomic.Int64 }

func (w *wall) now() time.Time          { return time.Now().Add(time.Duration(w.by.Load())) }
func (w *wall) set(ahead time.Duration) { w.by.Store(int64(ahead)) }

func TestClocksAreCompared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var database wall
		var down atomic.Bool
		j, dir := open(t, audit.Config{Timeout: 10 * time.Second, Clocks: []audit.Clock{{Name: "database", Now: func(ctx context.Context) (time.Time, error) {
			if down.Load() {
				<-ctx.Done()
				return time.Time{}, ctx.Err()
			}
			time.Sleep(500 * time.Millisecond) // the way there
			at := database.now()
			time.Sleep(500 * time.Millisecond) // and back is no difference
			return at, nil
		}}}})
		steps := []struct {
			ahead  time.Duration // of the database
			ready  bool
			events int
		}{
			{0, true, 0},
			{1500 * time.Millisecond, true, 0},
			{4 * time.Second, true, 1},
			{5 * time.Second, true, 1}, // told already
			{40 * time.Second, false, 2},
			{-40 * time.Second, false, 2},
			{0, true, 3}, // and when it is over
		}
		for _, s := range steps {
			database.set(s.ahead)
			time.Sleep(2 * time.Minute)
			err := j.Ready()
			if s.ready != (err == nil) || err != nil && !(errors.Is(err, audit.ErrClock) && strings.Contains(err.Error(), "database")) {
				t.Errorf("database %v ahead: Ready = %v", s.ahead, err)
			}
			if got := ofType(t, dir, audit.ClockOff); len(got) != s.events {
				t.Errorf("database %v ahead: %d events, want %d", s.ahead, len(got), s.events)
			}
		}
		database.set(4 * time.Second)
		time.Sleep(time.Hour)
		got := ofType(t, dir, audit.ClockOff)
		if n := len(got); n < 6 || n > 9 {
			t.Errorf("%d events after an hour off, want one each quarter", n)
		}
		if s := got[0]; s.Node != "database" || s.Reason != audit.ReasonBehind || s.Count < 2900 || s.Count > 4000 || s.Outcome != audit.Failure {
			t.Errorf("event: %+v", s)
		}
		if s := got[2]; s.Outcome != audit.Success {
			t.Errorf("event of the end: %+v", s)
		}
		down.Store(true)
		time.Sleep(3 * time.Minute)
		if err := j.Ready(); err != nil {
			t.Errorf("Ready(database does not answer) = %v", err)
		}
	})
}

func TestAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	var clock wall
	cfg := audit.Config{Now: clock.now, CheckpointEvery: time.Minute}
	j, dir := open(t, cfg)
	ctx := doctor(t)
	record := func() {
		t.Helper()
		if _, err := j.Record(ctx, search(1)); err != nil {
			t.Fatal(err)
		}
	}
	record()
	clock.set(-time.Second) // a small step is waited out
	record()
	record()
	clock.set(-2 * time.Hour)
	record()
	clock.set(-3 * time.Hour) // while the journal is closed
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	clock.set(-5 * time.Hour)
	j = reopen(t, dir, cfg)
	record()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	steps := ofType(t, dir, audit.ClockOff)
	if len(steps) != 3 || steps[0].Reason != audit.ReasonSetBack || steps[0].Count < 7_190_000 || steps[0].Count > 7_300_000 {
		t.Errorf("steps: %+v, want those of 2, 1 and 2 hours", steps)
	}
	var last time.Time
	searches := ofType(t, dir, audit.Searched)
	for i, s := range searches[:3] {
		if s.Time.Before(last) {
			t.Errorf("event %d is older than the one before it", i)
		}
		last = s.Time
	}
	if back := last.Sub(searches[3].Time); back < time.Hour {
		t.Errorf("the event after the step is %v back: the journal does not follow its clock", back)
	}
	sound(t, dir) // times that go back at a step are in order
}

func TestAClockThatIsSetForward(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var clock wall
		j, dir := open(t, audit.Config{Now: clock.now})
		time.Sleep(10 * time.Second)
		clock.set(time.Hour)
		time.Sleep(10 * time.Second)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		got := ofType(t, dir, audit.ClockOff)
		if len(got) != 1 || got[0].Reason != audit.ReasonSetForward || got[0].Count != 3_600_000 {
			t.Errorf("events: %+v, want one of an hour", got)
		}
		sound(t, dir)
	})
}

// A clock set back is no way to put lines before a checkpoint's time: without
// the step's own line an older time is a defect.
func TestVerifyBoundsTimesByTheLinesBefore(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	old := audit.Rechecksum([]byte(strings.Replace(string(f.lines[7]), `"time":"2`, `"time":"1`, 1)))
	lines := append(append(f.lines[:7:7], old), f.lines[8:]...)
	f.write(t, audit.Rechain(lines, 8))
	r := verify(t, dir)
	if len(r.Defects) == 0 || r.Defects[0].Seq != 7 || !strings.Contains(r.Defects[0].Problem, "older than the one before it") {
		t.Errorf("defects: %v, want the older line named", r.Defects)
	}
}
