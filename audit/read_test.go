// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// readAll returns the lines behind from and the error that ended them.
func readAll(t testing.TB, dir string, from audit.Position) (out []audit.Line, err error) {
	t.Helper()
	for l, err := range audit.Read(t.Context(), dir, from) {
		if err != nil {
			return out, err
		}
		out = append(out, l)
	}
	return out, nil
}

// long journal: three segments and more.
func segmented(t testing.TB) string {
	t.Helper()
	j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
	many := audit.Event{Type: audit.Revealed, Outcome: audit.Success}
	for i := range 600 {
		many.Objects = append(many.Objects, audit.Object{Type: "patient", Record: fmt.Sprint("r-", i), Patient: fmt.Sprint("r-", i), Fields: []string{"name"}})
	}
	for range 12 {
		record(t, j, many, reveal("r-1"), reveal("r-2"))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*.jsonl")); len(names) < 3 {
		t.Fatalf("%d segments", len(names))
	}
	return dir
}

func TestReadYieldsEveryEventInOrder(t *testing.T) {
	t.Parallel()
	dir := segmented(t)
	lines, err := readAll(t, dir, audit.Position{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := audit.All(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(want)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for i, l := range lines {
		if l.ID != want[i].ID || l.Type != want[i].Type || len(l.Objects) != len(want[i].Objects) {
			t.Fatalf("line %d: %s %s, want %s %s", i, l.ID, l.Type, want[i].ID, want[i].Type)
		}
		if l.Leaf != audit.LeafHash(l.Raw) || l.Position.Seq != l.Seq || l.Position.Writer+"."+fmt.Sprint(l.Seq) != l.ID {
			t.Fatalf("line %d: %+v", i, l.Position)
		}
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%08d.jsonl", l.Position.Segment)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data[l.Position.Offset:], append(slices.Clone(l.Raw), '\n')) {
			t.Fatalf("line %d does not stand where it says", i)
		}
	}
}

func TestReadGoesOnFromEveryPosition(t *testing.T) {
	t.Parallel()
	dir := segmented(t)
	all, err := readAll(t, dir, audit.Position{})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		bare, wrong := audit.Position{Writer: l.Position.Writer, Seq: l.Position.Seq}, l.Position
		wrong.Offset += 7
		gone := l.Position
		gone.Segment = 99
		for _, from := range []audit.Position{l.Position, bare, wrong, gone} {
			rest, err := readAll(t, dir, from)
			if err != nil || len(rest) != len(all)-i-1 || len(rest) > 0 && rest[0].ID != all[i+1].ID {
				t.Fatalf("from %+v: %d lines, %v; want %d", from, len(rest), err, len(all)-i-1)
			}
		}
	}
	// A header's or checkpoint's own sequence is a position, too.
	if rest, err := readAll(t, dir, audit.Position{Writer: all[0].Position.Writer}); err != nil || len(rest) != len(all) {
		t.Errorf("from the header: %d lines, %v", len(rest), err)
	}
	stopped := 0
	for range audit.Read(t.Context(), dir, audit.Position{}) {
		if stopped++; stopped == 3 {
			break
		}
	}
	if stopped != 3 {
		t.Errorf("stopped after %d", stopped)
	}
}

func TestReadRefusesAPositionThatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := segmented(t)
	all, err := readAll(t, dir, audit.Position{})
	if err != nil {
		t.Fatal(err)
	}
	end := all[len(all)-1].Position
	ahead := end
	ahead.Seq += 100
	var corrupt *audit.CorruptError
	if _, err := readAll(t, dir, ahead); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "set back") {
		t.Errorf("ahead of the end: %v", err)
	}
	foreign := end
	foreign.Writer = "j00000000000000000000000000000000"
	if _, err := readAll(t, dir, foreign); err == nil || !strings.Contains(err.Error(), "another journal") {
		t.Errorf("of another journal: %v", err)
	}
	// The folder loses its oldest segment: a reader from the start takes what
	// is there, one that was in it learns of the loss.
	if err := os.Remove(filepath.Join(dir, "00000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	if rest, err := readAll(t, dir, audit.Position{}); err != nil || len(rest) == 0 || len(rest) >= len(all) {
		t.Errorf("from the start of what is left: %d lines, %v", len(rest), err)
	}
	if _, err := readAll(t, dir, all[0].Position); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "are gone") {
		t.Errorf("from a removed segment: %v", err)
	}
	if _, err := readAll(t, t.TempDir(), audit.Position{}); err == nil {
		t.Error("a folder without a journal is read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range audit.Read(ctx, dir, audit.Position{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

func TestReadFollowsALiveJournal(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{CheckpointEvery: 20 * time.Millisecond})
	const n = 400
	go func() {
		for i := range n {
			_, _ = j.Record(treat(t), reveal(fmt.Sprint("r-", i)))
		}
	}()
	// Read sees each event soon after its checkpoint, Journal.Read each that
	// Record returned for: both exactly once, in order.
	var outside, inside audit.Position
	seen, own := 0, 0
	for deadline := time.Now().Add(30 * time.Second); seen < n && time.Now().Before(deadline); {
		for l, err := range j.Read(t.Context(), inside) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Seq <= inside.Seq {
				t.Fatalf("sequence %d after %d", l.Seq, inside.Seq)
			}
			inside = l.Position
			if l.Type == audit.Revealed {
				own++
			}
		}
		for l, err := range audit.Read(t.Context(), dir, outside) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Seq <= outside.Seq {
				t.Fatalf("sequence %d after %d", l.Seq, outside.Seq)
			}
			outside = l.Position
			if l.Type == audit.Revealed {
				seen++
			}
		}
	}
	if seen != n {
		t.Errorf("Read saw %d of %d events", seen, n)
	}
	for l := range j.Read(t.Context(), inside) {
		if l.Type == audit.Revealed {
			own++
		}
	}
	if own != n {
		t.Errorf("Journal.Read saw %d of %d events", own, n)
	}
}

// The last group may be written and not synced. Whoever is outside cannot
// know; once nobody writes any more, what stands there counts.
func TestReadHoldsBackTheLastGroupOfALiveJournal(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
	record(t, j, reveal("r-1"))
	record(t, j, reveal("r-2"))
	of := func(lines []audit.Line) (n int) {
		for _, l := range lines {
			if l.Type == audit.Revealed {
				n++
			}
		}
		return n
	}
	live, err := readAll(t, dir, audit.Position{})
	if err != nil || of(live) != 1 {
		t.Errorf("live: %d events, %v; want the one before the last group", of(live), err)
	}
	own := 0
	for l := range j.Read(t.Context(), audit.Position{}) {
		if l.Type == audit.Revealed {
			own++
		}
	}
	if own != 2 {
		t.Errorf("Journal.Read: %d events, want both", own)
	}
	copied := filepath.Join(audittest.Dir(t), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if rest, err := readAll(t, copied, audit.Position{}); err != nil || of(rest) != 2 {
		t.Errorf("copy: %d events, %v", of(rest), err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := readAll(t, dir, live[len(live)-1].Position)
	if err != nil || of(rest) != 1 || rest[len(rest)-1].Type != audit.Closed {
		t.Errorf("closed: %d events, %v", of(rest), err)
	}
	for _, err := range j.Read(t.Context(), audit.Position{}) {
		if !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Journal.Read after Close: %v", err)
		}
	}
}

// A checkpoint that is written together with events does not end their group:
// another follows.
func TestReadSeesTheLastGroupSoon(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		j, dir := open(t, audit.Config{CheckpointEvery: time.Second})
		time.Sleep(2500 * time.Millisecond)
		lines, err := readAll(t, dir, audit.Position{})
		if err != nil || len(lines) == 0 || lines[0].Type != audit.Opened {
			t.Errorf("%d events, %v; want journal.opened, which was written with a checkpoint", len(lines), err)
		}
		before := verify(t, dir).Checkpoints
		time.Sleep(time.Minute)
		if r := verify(t, dir); r.Checkpoints != before {
			t.Errorf("an idle journal signs: %d checkpoints after %d", r.Checkpoints, before)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// An event after a quiet quarter of an hour is not yet signed, and no reason to
// be alarmed.
func TestVerifyOfAJournalThatWasIdle(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		j, dir := open(t, audit.Config{CheckpointEvery: time.Second})
		time.Sleep(14*time.Minute + 300*time.Millisecond)
		record(t, j, reveal("r-1"))
		if r := verify(t, dir); r.Unsigned != 1 || r.Broken() {
			t.Errorf("Verify: %d unsigned, %v", r.Unsigned, r.Defects)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReadStopsAtDamage(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	n := len(f.lines)
	edited := audit.Rechecksum(bytes.Replace(f.lines[6], []byte(`"u-17"`), []byte(`"u-18"`), 1))
	respelled := audit.Rechecksum(bytes.Replace(f.lines[6], []byte(`"u-17"`), []byte(`"\u0075-17"`), 1))
	flipped := slices.Clone(f.lines[6])
	flipped[len(flipped)/2] ^= 1
	future := audit.Rechain(append([][]byte{audit.Rechecksum(bytes.Replace(f.lines[0], []byte(`"format":1`), []byte(`"format":9`), 1))}, f.lines[1:]...), 1)
	with := func(i int, line []byte) [][]byte {
		out := slices.Clone(f.lines)
		out[i] = line
		return out
	}
	for name, lines := range map[string][][]byte{
		"flipped":               with(6, flipped),
		"edited":                with(6, edited),
		"other JSON, same text": with(6, respelled),
		"removed":               slices.Delete(slices.Clone(f.lines), 7, 8),
		"repeated":              slices.Insert(slices.Clone(f.lines), 7, f.lines[7]),
		"swapped":               slices.Concat(f.lines[:6], [][]byte{f.lines[7], f.lines[6]}, f.lines[8:]),
		"future format":         future,
		"no header":             f.lines[1:],
		"a hole before the end": with(n-2, bytes.Repeat([]byte{0}, len(f.lines[n-2]))),
	} {
		f.write(t, lines)
		var corrupt *audit.CorruptError
		got, err := readAll(t, dir, audit.Position{})
		newer := name == "future format" && errors.Is(err, audit.ErrNewer) && strings.Contains(err.Error(), "00000001.jsonl")
		if !newer && (!errors.As(err, &corrupt) || corrupt.File != "00000001.jsonl") {
			t.Errorf("%s: %d lines, %v", name, len(got), err)
		}
		for _, l := range got {
			if l.Actor.ID == "u-18" {
				t.Errorf("%s: yielded what was never written", name)
			}
		}
	}
	// A torn group at the end was never acknowledged: the end, and its checkpoint.
	f.write(t, append(slices.Clone(f.lines[:n-1]), nil))
	data, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	copy(data[f.offset(n-1):], f.lines[n-1][:100])
	data[f.offset(n-1)+100] = 0
	if err := os.WriteFile(f.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t, dir, audit.Position{}); err != nil || got[len(got)-1].Type == audit.Closed {
		t.Errorf("torn tail: %d lines, %v", len(got), err)
	}
}

func ExampleRead() {
	dir, remove := folder()
	defer remove()
	journal, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		log.Fatal(err)
	}
	for line, err := range audit.Read(context.Background(), dir, audit.Position{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(line.Seq, line.Type)
	}
	// Output:
	// 2 journal.opened
	// 3 deviation
	// 4 deviation
	// 6 journal.closed
}

// FuzzRead: a segment of any bytes is read to an end or an error.
func FuzzRead(f *testing.F) {
	dir := small(f)
	file := takeApart(f, dir)
	end := file.offset(len(file.lines))
	f.Add(file.whole[:end])
	f.Add(file.whole[:end-10])
	f.Add(append(bytes.Repeat([]byte{0}, 600), file.whole[:300]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000001.jsonl"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // no wait for a writer
		defer cancel()
		last := uint64(0)
		for l, err := range audit.Read(ctx, dir, audit.Position{}) {
			if err != nil {
				break
			}
			if l.Seq <= last || l.Leaf != audit.LeafHash(l.Raw) || !bytes.Contains(data, l.Raw) {
				t.Fatalf("line %+v", l.Position)
			}
			last = l.Seq
		}
	})
}
