// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
)

// TestMergeKeepsEachJournalsOrder: three journals, one of whose clocks is set
// back, are one stream; no event is lost, and no journal's order changes.
func TestMergeKeepsEachJournalsOrder(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var dirs []string
	want := 0
	for n := range 3 {
		dir := filepath.Join(audittest.Dir(t), "audit")
		dirs = append(dirs, dir)
		tick := 0
		now := func() time.Time {
			tick++
			at := start.Add(time.Duration(tick*3+n) * time.Second)
			if n == 1 && tick > 10 {
				at = at.Add(-20 * time.Second)
			}
			return at
		}
		j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10, Now: now, CheckpointEvery: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
		for range 20 {
			if _, err := j.Record(ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success}); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		for range audit.Read(t.Context(), dir, audit.Position{}) {
			want++
		}
	}
	last := make(map[string]audit.Line)
	var before audit.Line
	got, switches := 0, 0
	for l, err := range audit.Merge(t.Context(), dirs...) {
		if err != nil {
			t.Fatal(err)
		}
		got++
		w := l.Position.Writer
		if p, ok := last[w]; ok && l.Seq <= p.Seq {
			t.Fatalf("%s comes after sequence %d of its journal", l.ID, p.Seq)
		}
		last[w] = l
		if before.ID != "" && before.Position.Writer != w {
			switches++
		}
		before = l
	}
	if got != want || len(last) != 3 || switches < 20 {
		t.Errorf("%d events of %d journals, in %d runs; want %d of 3", got, len(last), switches, want)
	}
	for _, err := range audit.Merge(t.Context(), dirs[0], t.TempDir()) {
		if err != nil {
			return
		}
	}
	t.Error("a folder without a journal is passed over")
}

func TestParseLine(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(audittest.Dir(t), "audit")
	j, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if j.Dir() != dir {
		t.Errorf("Dir = %s", j.Dir())
	}
	for l, err := range j.Read(t.Context(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		got, err := audit.ParseLine(l.Position, l.Raw)
		if err != nil || got.Leaf != l.Leaf || got.ID != l.ID || got.Type != l.Type {
			t.Fatalf("%s: %+v, %v", l.ID, got, err)
		}
		at := l.Position
		at.Seq++
		if _, err := audit.ParseLine(at, l.Raw); err == nil {
			t.Error("a line of another sequence passes")
		}
		changed := append([]byte(nil), l.Raw...)
		changed[len(changed)/2] ^= 1
		if _, err := audit.ParseLine(l.Position, changed); err == nil {
			t.Error("a changed line passes")
		}
	}
}

// TestAdoptRefusesTheLiving: a journal in use, one that was just written to, a
// damaged one, and what is none.
func TestAdoptRefusesTheLiving(t *testing.T) {
	t.Parallel()
	kek := cryptotest.NewKEK()
	open := func() (*audit.Journal, string) {
		t.Helper()
		dir := filepath.Join(audittest.Dir(t), "audit")
		j, err := audit.Open(dir, audit.Config{Development: true, KEK: kek, SegmentSize: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		return j, dir
	}
	mine, own := open()
	other, dir := open()
	writer := other.Writer()
	if _, err := mine.Adopt(own, time.Nanosecond); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("its own folder: %v", err)
	}
	if _, err := mine.Adopt(dir, time.Nanosecond); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("a journal in use: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Adopt(dir, 0); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("a journal that was just written to: %v", err)
	}
	if _, err := mine.Adopt(dir, -1); err == nil {
		t.Error("a negative lease passes")
	}
	if _, err := mine.Adopt(t.TempDir(), time.Nanosecond); err == nil {
		t.Error("a folder without a journal is adopted")
	}
	o, err := mine.Adopt(dir, time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	if o.Writer() != writer || o.Dir() != dir {
		t.Errorf("writer %s, folder %s", o.Writer(), o.Dir())
	}
	var last audit.Line
	for l, err := range o.Read(t.Context(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		last = l
	}
	if last.Type != audit.Closed {
		t.Errorf("the last event is %s", last.Type)
	}
	if _, err := audit.Open(dir, audit.Config{Development: true, KEK: kek, SegmentSize: 256 << 10}); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("its writer comes back while it is adopted: %v", err)
	}
	if err := o.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := audit.Open(dir, audit.Config{Development: true, KEK: kek, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{})
	if err != nil || len(report.Defects) > 0 {
		t.Errorf("after it was adopted, and opened again: %v, %v", report.Defects, err)
	}
	n := 0
	for l, err := range mine.Read(t.Context(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Type == audit.Adopted {
			n++
			if l.About[:len(writer)] != writer || len(l.Root) != 43 {
				t.Errorf("Adopted about %s, root %s", l.About, l.Root)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d adoptions were recorded", n)
	}
}
