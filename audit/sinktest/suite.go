// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/sink"
)

// A Target is a receiver under test, with its sink. A function that is nil is
// something that this receiver, or its protocol, cannot be made to do; its part
// of the suite is left out.
type Target struct {
	// Open makes the sink, as the app does at each start. Required.
	Open func(t testing.TB) sink.Sink

	// Received returns what the receiver has now, in the order in which it came,
	// repetitions too. Required.
	Received func(t testing.TB) []sink.Copy

	Down   func(t testing.TB, down bool)                 // takes the receiver down and up; it keeps what it accepted
	Slow   func(t testing.TB, d time.Duration)           // makes each delivery take at least d
	Poison func(t testing.TB, id string)                 // makes the receiver refuse that event; with "" none any more
	Lose   func(t testing.TB, n int)                     // makes it accept the next n events and forget them
	Tamper func(t testing.TB, writer string, seq uint64) // changes what it has of one event

	// Once says that the receiver shows each event once, however often it came.
	Once bool
}

// TestSink is the conformance suite of sinks: nothing is lost, order is kept,
// lag is visible, and a purge is held back, through outage, slowness,
// repetition, poison and restarts. make returns a new Target with an empty
// receiver; dir a new folder on a disk for a journal.
func TestSink(t *testing.T, dir func(testing.TB) string, make func(testing.TB) *Target) {
	type suite func(t *testing.T, b *bench)
	for _, part := range []struct {
		name string
		can  func(*Target) bool
		run  suite
	}{
		{"EverythingInOrder", nil, everything},
		{"ARestartGoesOnWhereItWas", nil, restarts},
		{"RepetitionsAreKnownByTheirID", nil, repetitions},
		{"AnOutageLosesNothing", func(x *Target) bool { return x.Down != nil }, outage},
		{"ASlowReceiverStopsNobody", func(x *Target) bool { return x.Slow != nil }, slow},
		{"PoisonIsParkedAndKept", func(x *Target) bool { return x.Poison != nil }, poison},
		{"WhatWasAcceptedAndLostIsFound", func(x *Target) bool { return x.Lose != nil }, lose},
		{"WhatWasChangedIsFound", func(x *Target) bool { return x.Tamper != nil }, tamper},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			target := make(t)
			if part.can != nil && !part.can(target) {
				t.Skip("the receiver cannot be made to do this")
			}
			part.run(t, newBench(t, filepath.Join(dir(t), "audit"), target))
		})
	}
}

// A bench is one journal with one sink.
type bench struct {
	*Target
	dir     string
	journal *audit.Journal
	pipe    *sink.Pipe
	name    string // the sink's

	alarms chan sink.Alarm
}

func newBench(t testing.TB, dir string, target *Target) *bench {
	t.Helper()
	b := &bench{Target: target, dir: dir, alarms: make(chan sink.Alarm, 1000)}
	b.openJournal(t)
	t.Cleanup(func() { b.close(t) })
	return b
}

func (b *bench) openJournal(t testing.TB) {
	t.Helper()
	j, err := audit.Open(b.dir, audit.Config{Development: true, SegmentSize: 256 << 10, CheckpointEvery: 50 * time.Millisecond, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	b.journal = j
}

func (b *bench) openPipe(t testing.TB) {
	t.Helper()
	p, err := sink.Open(b.journal, b.Open(t), sink.Config{
		Batch: 40, Timeout: 10 * time.Second, Retry: 10 * time.Millisecond, MaxRetry: 100 * time.Millisecond,
		Alarm: func(a sink.Alarm) {
			select {
			case b.alarms <- a:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.pipe, b.name = p, p.Name()
}

func (b *bench) closePipe(t testing.TB) {
	t.Helper()
	if b.pipe != nil {
		if err := b.pipe.Close(); err != nil {
			t.Error(err)
		}
		b.pipe = nil
	}
}

func (b *bench) close(t testing.TB) {
	t.Helper()
	b.closePipe(t)
	if err := b.journal.Close(); err != nil {
		t.Error(err)
	}
}

// record records n events, every seventh with many patients.
func (b *bench) record(t testing.TB, n int) {
	t.Helper()
	p := access.Principal{ID: "s-suite", Tenant: "t-1", Kind: access.Service, Roles: []string{"job"}}
	ctx, end := access.Job(context.Background(), p, access.Operations)
	defer end()
	for i := range n {
		ev := audit.Event{Type: audit.Revealed, Outcome: audit.Success}
		objects := 1
		if i%7 == 3 {
			objects = 200
		}
		for k := range objects {
			id := fmt.Sprintf("p-%d-%d", i, k)
			ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: id, Patient: id, Fields: []string{"name", "dob"}})
		}
		if _, err := b.journal.Record(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
}

// want returns the copies that the receiver should have: every event that is
// in the journal.
func (b *bench) want(t testing.TB) []sink.Copy {
	t.Helper()
	var out []sink.Copy
	for l, err := range b.journal.Read(context.Background(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sink.Copy{Writer: l.Position.Writer, Seq: l.Position.Seq, Leaf: l.Leaf})
	}
	return out
}

func (b *bench) flush(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := b.pipe.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// wantAll waits until the receiver has every event of the journal but those
// named, in the journal's order, and compares. What a protocol without
// acknowledgement has accepted may still be on its way.
func (b *bench) wantAll(t testing.TB, but ...string) {
	t.Helper()
	want := slices.DeleteFunc(b.want(t), func(c sink.Copy) bool { return slices.Contains(but, id(c)) })
	var got []sink.Copy
	deadline := time.Now().Add(20 * time.Second)
	for {
		got = first(b.Received(t))
		if slices.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the receiver has %s, want %s", list(got), list(want))
		}
		time.Sleep(20 * time.Millisecond)
	}
	if all := b.Received(t); b.Once && len(all) != len(want) {
		t.Errorf("the receiver shows %d events for %d", len(all), len(want))
	}
}

// first keeps the first copy of each event.
func first(all []sink.Copy) []sink.Copy {
	seen := make(map[string]bool)
	var out []sink.Copy
	for _, c := range all {
		if !seen[id(c)] {
			seen[id(c)] = true
			out = append(out, c)
		}
	}
	return out
}

func id(c sink.Copy) string { return c.Writer + "." + strconv.FormatUint(c.Seq, 10) }

func list(all []sink.Copy) string {
	s := fmt.Sprintf("%d events:", len(all))
	for _, c := range all {
		s += " " + strconv.FormatUint(c.Seq, 10)
	}
	return s
}

// compare holds the receiver against the journal.
func (b *bench) compare(t testing.TB) sink.Comparison {
	t.Helper()
	cursors, err := audit.Cursors(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	cmp, err := sink.Compare(context.Background(), b.dir, cursors[b.name], func(yield func(sink.Copy, error) bool) {
		for _, c := range b.Received(t) {
			if !yield(c, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return cmp
}

func everything(t *testing.T, b *bench) {
	b.record(t, 100)
	b.openPipe(t)
	b.record(t, 100)
	b.flush(t)
	b.wantAll(t)
	if cmp := b.compare(t); !cmp.OK() || cmp.Journal < 200 || cmp.Pending != 0 {
		t.Errorf("Compare = %+v", cmp)
	}
	lag, err := b.pipe.Lag(context.Background())
	if err != nil || lag.Events != 0 || lag.Age != 0 {
		t.Errorf("Lag = %+v, %v, want none", lag, err)
	}
}

func restarts(t *testing.T, b *bench) {
	for range 4 {
		b.openPipe(t)
		b.record(t, 30)
		b.closePipe(t) // in mid-stream
		b.record(t, 10)
	}
	// The whole app restarts, too.
	b.close(t)
	b.openJournal(t)
	b.openPipe(t)
	b.flush(t)
	b.wantAll(t)
}

// A crash after the receiver has accepted, and before the cursor was written,
// brings the same events again.
func repetitions(t *testing.T, b *bench) {
	b.openPipe(t)
	b.record(t, 20)
	b.flush(t)
	b.closePipe(t)
	setBack(t, b.dir, b.name)
	b.openPipe(t)
	b.record(t, 5)
	b.flush(t)
	b.wantAll(t)
	cmp := b.compare(t)
	if !cmp.OK() {
		t.Errorf("Compare = %+v", cmp)
	}
	if b.Once && len(cmp.Differences) > 0 {
		t.Errorf("repetitions are shown: %+v", cmp.Differences[0])
	}
}

func outage(t *testing.T, b *bench) {
	b.openPipe(t)
	b.record(t, 20)
	b.flush(t)
	b.wantAll(t)
	before := b.pipe.Passed()

	b.Down(t, true)
	b.record(t, 60)
	b.alarm(t, sink.AlarmBroken)
	lag, err := b.pipe.Lag(context.Background())
	if err != nil || lag.Events == 0 || lag.Age == 0 || lag.Err == nil {
		t.Errorf("while the receiver is down: Lag = %+v, %v", lag, err)
	}
	cursors, err := audit.Cursors(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := cursors[b.pipe.Name()]
	last := b.want(t)
	if !ok || at.Seq < before.Seq || at.Seq >= last[len(last)-1].Seq {
		t.Errorf("while the receiver is down a purge may remove what lies before %+v; it had %+v", at, before)
	}
	b.Down(t, false)
	b.record(t, 5)
	b.alarm(t, sink.AlarmRecovered)
	b.flush(t)
	b.wantAll(t)
	if lag, err := b.pipe.Lag(context.Background()); err != nil || lag.Events != 0 || lag.Err != nil {
		t.Errorf("afterwards: Lag = %+v, %v", lag, err)
	}
}

func (b *bench) alarm(t testing.TB, kind sink.AlarmKind) sink.Alarm {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case a := <-b.alarms:
			if a.Kind == kind {
				return a
			}
		case <-deadline:
			t.Fatalf("no alarm says %s", kind)
		}
	}
}

func slow(t *testing.T, b *bench) {
	b.Slow(t, 200*time.Millisecond) // each event, where the sink delivers them one by one
	b.openPipe(t)
	start := time.Now()
	b.record(t, 15)
	took := time.Since(start)
	lag, err := b.pipe.Lag(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if lag.Events == 0 && took < 150*time.Millisecond {
		t.Error("a slow receiver has everything at once")
	}
	b.flush(t)
	b.wantAll(t)
	b.Slow(t, 0)
}

func poison(t *testing.T, b *bench) {
	b.record(t, 30)
	all := b.want(t)
	bad := id(all[10])
	b.Poison(t, bad)
	b.openPipe(t)
	b.record(t, 10)
	b.flush(t)
	if a := b.alarm(t, sink.AlarmParked); a.Event != bad {
		t.Errorf("the alarm names %s, want %s", a.Event, bad)
	}
	b.flush(t) // the record of it
	b.wantAll(t, bad)
	n := 0
	for l, err := range b.journal.Read(context.Background(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Type == audit.Parked {
			n++
			if l.About != bad || l.Rule != b.pipe.Name() {
				t.Errorf("the record of it is about %q of sink %q", l.About, l.Rule)
			}
		}
	}
	if n != 1 {
		t.Errorf("it was recorded %d times", n)
	}
	// It is kept through a restart, and offered again when asked.
	b.closePipe(t)
	b.openPipe(t)
	if accepted, left, err := b.pipe.Retry(context.Background()); err != nil || accepted != 0 || left != 1 {
		t.Errorf("Retry = %d, %d, %v, want one left", accepted, left, err)
	}
	cmp := b.compare(t)
	if want := []sink.Difference{{Finding: sink.Missing, Event: bad}}; !slices.Equal(real(cmp), want) {
		t.Errorf("Compare names %v, want %v", cmp.Differences, want)
	}
	// Once the receiver is mended it arrives, late, and stays one.
	b.Poison(t, "")
	if accepted, left, err := b.pipe.Retry(context.Background()); err != nil || accepted != 1 || left != 0 {
		t.Errorf("Retry = %d, %d, %v, want it accepted", accepted, left, err)
	}
	b.closePipe(t)
	setBack(t, b.dir, b.name)
	b.openPipe(t)
	b.flush(t)
	b.closePipe(t)
	if cmp := b.compare(t); !cmp.OK() || b.Once && len(cmp.Differences) > 0 {
		t.Errorf("once the receiver takes it Compare names %v", cmp.Differences)
	}
}

// real leaves out repetitions, which are no loss.
func real(cmp sink.Comparison) []sink.Difference {
	return slices.DeleteFunc(slices.Clone(cmp.Differences), func(d sink.Difference) bool { return d.Finding == sink.Repeated })
}

func lose(t *testing.T, b *bench) {
	b.openPipe(t)
	b.record(t, 20)
	b.flush(t)
	b.wantAll(t)
	b.Lose(t, 3)
	b.record(t, 10)
	b.flush(t)
	b.record(t, 3)
	b.flush(t)
	b.closePipe(t) // a protocol without answers may have some on their way
	cmp := b.compare(t)
	missing := real(cmp)
	if cmp.OK() || len(missing) != 3 {
		t.Fatalf("Compare names %v, want the three that were lost", cmp.Differences)
	}
	for _, d := range missing {
		if d.Finding != sink.Missing {
			t.Errorf("Compare says %v", d)
		}
	}
}

func tamper(t *testing.T, b *bench) {
	b.openPipe(t)
	b.record(t, 20)
	b.flush(t)
	b.wantAll(t)
	victim := b.want(t)[7]
	b.Tamper(t, victim.Writer, victim.Seq)
	cmp := b.compare(t)
	if want := []sink.Difference{{Finding: sink.Different, Event: id(victim)}}; !slices.Equal(real(cmp), want) {
		t.Errorf("Compare names %v, want %v", cmp.Differences, want)
	}
}

var errDown = errors.New("the receiver is down")

// Of returns the Target of a Fake.
func Of(f *Fake) *Target {
	return &Target{
		Open: func(testing.TB) sink.Sink { return f },
		Received: func(testing.TB) []sink.Copy {
			var out []sink.Copy
			for _, l := range f.Received() {
				out = append(out, sink.Copy{Writer: l.Position.Writer, Seq: l.Position.Seq, Leaf: l.Leaf})
			}
			return out
		},
		Down: func(_ testing.TB, down bool) {
			if down {
				f.Fail(errDown)
			} else {
				f.Fail(nil)
			}
		},
		Slow:   func(_ testing.TB, d time.Duration) { f.Delay(d) },
		Poison: func(_ testing.TB, id string) { f.refuse(id) },
		Lose:   func(_ testing.TB, n int) { f.Lose(n) },
		Tamper: func(_ testing.TB, writer string, seq uint64) { f.tamper(writer, seq) },
	}
}
