// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/part164/part164/audit"
)

// A wall is a clock that is set.
type wall struct{ by atomic.Int64 }

func (w *wall) now() time.Time          { return time.Now().Add(time.Duration(w.by.Load())) }
func (w *wall) set(ahead time.Duration) { w.by.Store(int64(ahead)) }

func TestClocksAreCompared(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
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
			{-40 * time.Second, false, 3}, // as far, the other way
			{0, true, 4},                  // and when it is over
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
		if n := len(got); n < 7 || n > 10 {
			t.Errorf("%d events after an hour off, want one each quarter", n)
		}
		if s := got[0]; s.Node != "database" || s.Reason != audit.ReasonBehind || s.Count < 2900 || s.Count > 4000 || s.Outcome != audit.Failure {
			t.Errorf("event: %+v", s)
		}
		if s := got[2]; s.Reason != audit.ReasonAhead || s.Outcome != audit.Failure {
			t.Errorf("event of the turn: %+v", s)
		}
		if s := got[3]; s.Outcome != audit.Success {
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
	bubble(t, func(t *testing.T) {
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
// the step's own line an older time is a defect. All else of these journals is
// as it should be: chained, and signed wherever the journal signs.
func TestVerifyBoundsTimesByTheLinesBefore(t *testing.T) {
	t.Parallel()
	anew := func(dir string, back int, by time.Duration) {
		t.Helper()
		segments, lines := 0, [][]byte(nil)
		var counts []int
		for ; ; segments++ {
			if _, err := os.Stat(segmentFile(dir, segments+1)); err != nil {
				break
			}
			more := bytes.Split(bytes.TrimSuffix(readSegment(t, dir, segments+1), []byte("\n")), []byte("\n"))
			lines, counts = append(lines, more...), append(counts, len(more))
		}
		key := filepath.Join(dir, "verifier.pub")
		text, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		lines, vkey := audit.Anew(t, lines, strings.TrimSpace(string(text)), func(i int, at *[]byte, body []byte) []byte {
			if i == back {
				was, err := time.Parse("2006-01-02T15:04:05.000000Z", string(*at))
				if err != nil {
					t.Fatal(err)
				}
				*at = []byte(was.Add(-by).Format("2006-01-02T15:04:05.000000Z"))
			}
			return body
		})
		for i, n := range counts {
			put(t, segmentFile(dir, i+1), append(bytes.Join(lines[:n], []byte("\n")), '\n'))
			lines = lines[n:]
		}
		put(t, key, []byte(vkey+"\n"))
	}
	cut := abandoned(t)
	tail := takeApart(t, cut)
	n := len(tail.lines)
	old := bytes.Replace(tail.lines[n-2], []byte(`"time":"2`), []byte(`"time":"1`), 1)
	tail.write(t, audit.Renumber(append(tail.lines, audit.Rechecksum(old)), n))
	one, many := small(t), rolled(t)
	// Lines of one: 0 header, 1 checkpoint, 2 opened, 3 4 deviations, 5
	// checkpoint, 6 7 reveals, ... 12 checkpoint; segment 2 of many begins with 9.
	for name, tt := range map[string]struct {
		dir  string
		line int
	}{
		"an event":                   {one, 7},
		"a checkpoint in the middle": {one, 5},
		"the last checkpoint":        {one, 12},
		"the header of a segment":    {many, 9},
		"an unsigned event":          {cut, n},
	} {
		dir := copied(t, tt.dir)
		if tt.dir != cut {
			anew(dir, tt.line, 0)
			if r := verify(t, dir); r.Broken() {
				t.Fatalf("%s, nothing older: %v", name, r.Defects)
			}
			anew(dir, tt.line, 7*365*24*time.Hour)
		}
		fast, slow, err := audit.VerifyBothWays(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []audit.Report{fast, slow} {
			d := r.Defects
			if tt.dir == cut && len(d) == 2 && strings.Contains(d[1].Problem, "nobody signed") { // as old as it says
				d = d[:1]
			}
			if len(d) != 1 || d[0].Seq != uint64(tt.line) || !strings.Contains(d[0].Problem, "older than the one before it") {
				t.Errorf("%s: %v, want the older line named", name, r.Defects)
			}
		}
	}
}
