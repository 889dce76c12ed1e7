// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/access"
)

func long() bool { return os.Getenv("PART164_TEST_LONG") == "1" }

// diskFolder returns a folder on a disk: the temporary one may be in memory.
func diskFolder(t testing.TB) string {
	t.Helper()
	if _, kind, err := fileSystem(os.TempDir()); err == nil && kind != fsMemory {
		return filepath.Join(t.TempDir(), "audit")
	}
	dir, err := os.MkdirTemp(".", "journal-*.tmp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "audit")
}

func openMem(t testing.TB, dir string, d *memDisk, cfg Config) *Journal {
	t.Helper()
	cfg.Development, cfg.SegmentSize = true, minSegment
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second // a loaded machine is no fault
	}
	j, err := open(dir, cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func doctor(t testing.TB) context.Context {
	p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}
	return access.With(t.Context(), p, access.Treatment)
}

func search(n int) Event { return Event{Type: Searched, Outcome: Success, Count: n} }

// wide is an event of about size bytes, to fill segments with.
func wide(objects int) Event {
	ev := Event{Type: Revealed, Outcome: Success}
	for i := range objects {
		id := "r-" + strconv.Itoa(i)
		ev.Objects = append(ev.Objects, Object{Type: "patient", Record: id, Patient: id, Fields: []string{"name"}})
	}
	return ev
}

func sound(t testing.TB, d *memDisk, dir string) Report {
	t.Helper()
	r, err := Verify(t.Context(), d.dump(t, dir), VerifyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Defects {
		t.Errorf("verify: %v", d)
	}
	return r
}

// kept returns the IDs of the events that a reader of j sees.
func kept(t testing.TB, j *Journal) map[string]Stored {
	t.Helper()
	ids := make(map[string]Stored)
	for s, err := range j.Events(t.Context(), Query{Tenant: "t-1"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids[s.ID] = s
	}
	return ids
}

func TestAcknowledgedEventsSurviveAPowerCut(t *testing.T) {
	t.Parallel()
	journals := 1
	if long() {
		journals = 40
	}
	torn := 0
	for range journals {
		torn += powerCuts(t, 25)
	}
	if torn == 0 {
		t.Error("no crash left a torn tail: the test proves little")
	}
}

// powerCuts puts one journal through so many power cuts and returns how many
// torn bytes were dropped.
func powerCuts(t *testing.T, rounds int) (recovered int) {
	dir, d := diskFolder(t), newMemDisk()
	acked := make(map[string]bool)
	for round := range rounds {
		j := openMem(t, dir, d, Config{CheckpointEvery: time.Millisecond})
		have := kept(t, j)
		for id := range acked {
			if _, ok := have[id]; !ok {
				t.Fatalf("round %d: acknowledged event %s is lost", round, id)
			}
		}
		// The power goes while a sync is under way: what was written since the
		// last one is there in part, and not acknowledged.
		var next *memDisk
		syncs, keep := 1+rand.IntN(40), []float64{0, 0.5, 0.9, 1}[rand.IntN(4)]
		disk := d
		disk.setFault(func(op, name string) (int, error) {
			if op != "blocksync" {
				return 0, nil
			}
			disk.mu.Lock()
			defer disk.mu.Unlock()
			syncs--
			if f := disk.names[name]; next == nil && syncs <= 0 && (f != nil && len(f.dirty) > 4 || syncs < -20) {
				next, disk.dead = disk.crash(keep), true
			}
			return 0, nil
		})
		var mu sync.Mutex
		var wg sync.WaitGroup
		ctx := doctor(t)
		for w := range 8 {
			wg.Go(func() {
				for {
					ev := search(1)
					if w%2 == 0 {
						ev = wide(10 + 100*w)
					}
					receipt, err := j.Record(ctx, ev)
					if err != nil {
						return
					}
					mu.Lock()
					acked[receipt.ID] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		_ = j.Close()
		d = next
	}
	j := openMem(t, dir, d, Config{})
	for s, err := range j.eventsOf(t.Context(), Recovered) {
		if err != nil {
			t.Fatal(err)
		}
		recovered += s.Count
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r := sound(t, d, dir)
	t.Logf("%d rounds, %d acknowledged, %d segments, %d torn bytes dropped", rounds, len(acked), r.Segments, recovered)
	return recovered
}

// eventsOf yields the journal's own events of a type, which belong to no
// tenant.
func (j *Journal) eventsOf(ctx context.Context, typ Type) func(func(Stored, error) bool) {
	return func(yield func(Stored, error) bool) {
		for i := j.seg.index; i >= 1; i-- {
			end := int64(-1)
			if i == j.seg.index {
				end = j.durable.off
			}
			data, err := j.readSegment(i, end)
			if err != nil {
				yield(Stored{}, err)
				return
			}
			for text := range linesBackward(data) {
				if s, err := decode(j.keys.writer, text); err == nil && s.Type == typ && !yield(s, nil) {
					return
				}
			}
		}
	}
}

func TestFaultsAreRefusedAndForgotten(t *testing.T) {
	t.Parallel()
	journals := 1
	if long() {
		journals = 25
	}
	for range journals {
		faults(t, 60)
	}
}

// faults puts one journal through so many faults.
func faults(t *testing.T, rounds int) {
	dir, d := diskFolder(t), newMemDisk()
	j := openMem(t, dir, d, Config{CheckpointEvery: time.Millisecond})
	ctx := doctor(t)
	acked := make(map[string]bool)
	refused := 0
	for round := range rounds {
		op := []string{"write", "sync", "rename", "syncdir", "create"}[rand.IntN(5)]
		fault := []error{syscall.EIO, syscall.ENOSPC}[rand.IntN(2)]
		after, times, short := rand.IntN(4), 1+rand.IntN(3), rand.IntN(600)
		d.setFault(func(o, _ string) (int, error) {
			if o != op {
				return 0, nil
			}
			if after--; after >= 0 || times <= 0 {
				return 0, nil
			}
			times--
			return short, fault
		})
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for range 3 {
					ev := search(round)
					if w == 0 {
						ev = wide(700)
					}
					receipt, err := j.Record(ctx, ev)
					mu.Lock()
					switch {
					case err == nil:
						acked[receipt.ID] = true
					case !errors.Is(err, ErrUnavailable):
						t.Errorf("Record = %v, want ErrUnavailable", err)
					default:
						refused++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		d.setFault(nil)
		receipt, err := j.Record(ctx, search(1))
		if err != nil {
			if receipt, err = j.Record(ctx, search(1)); err != nil {
				t.Fatalf("round %d (%s %v): the journal does not go on: %v", round, op, fault, err)
			}
		}
		acked[receipt.ID] = true
	}
	have := kept(t, j)
	for id := range acked {
		if _, ok := have[id]; !ok {
			t.Errorf("acknowledged event %s is lost", id)
		}
	}
	d.mu.Lock()
	for name, f := range d.names {
		if f.again {
			t.Errorf("%s was synced again after a failed sync", name)
		}
	}
	d.mu.Unlock()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r := sound(t, d, dir)
	again := openMem(t, dir, d, Config{})
	if got := kept(t, again); len(got) != len(have) {
		t.Errorf("%d events after reopening, %d before", len(got), len(have))
	}
	t.Logf("%d acknowledged, %d refused, %d segments, %d given up", len(acked), refused, r.Segments, r.GivenUp)
	if refused == 0 || r.GivenUp == 0 {
		t.Error("the faults had no effect")
	}
}

func TestAFailedSyncGivesTheSegmentUp(t *testing.T) {
	t.Parallel()
	dir, d := diskFolder(t), newMemDisk()
	j := openMem(t, dir, d, Config{CheckpointEvery: time.Minute})
	ctx := doctor(t)
	first, err := j.Record(ctx, search(1))
	if err != nil {
		t.Fatal(err)
	}
	failed := false
	d.setFault(func(op, name string) (int, error) {
		if op == "sync" && name == segmentName(1) {
			failed = true
			return 0, syscall.EIO
		}
		return 0, nil
	})
	if _, err := j.Record(ctx, search(2)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) || !failed {
		t.Fatalf("Record(sync fails) = %v, want ErrUnavailable and EIO", err)
	}
	third, err := j.Record(ctx, search(3))
	if err != nil {
		t.Fatalf("Record after a failed sync = %v", err)
	}
	have := kept(t, j)
	if _, ok := have[first.ID]; !ok || len(have) != 2 || have[third.ID].Count != 3 {
		t.Errorf("kept %v", have)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if r := sound(t, d, dir); r.GivenUp != 1 || r.Segments != 2 {
		t.Errorf("report: %+v", r)
	}
}

func TestDiskFullRefusesAndResumes(t *testing.T) {
	t.Parallel()
	dir, d := diskFolder(t), newMemDisk()
	j := openMem(t, dir, d, Config{CheckpointEvery: 10 * time.Millisecond})
	d.setFree(1000)
	ctx := doctor(t)
	acked := 0
	var err error
	for err == nil {
		if _, err = j.Record(ctx, wide(700)); err == nil {
			acked++
		}
		if acked > 100 {
			t.Fatal("a full disk takes everything")
		}
	}
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Record(disk full) = %v, want ErrUnavailable and ENOSPC", err)
	}
	if acked == 0 {
		t.Error("nothing was taken though the segments were there")
	}
	d.setFree(1 << 40)
	if _, err := j.Record(ctx, search(1)); err != nil {
		t.Fatalf("Record(room again) = %v", err)
	}
	if got := len(kept(t, j)); got != acked+1 {
		t.Errorf("%d events are kept, want %d", got, acked+1)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	sound(t, d, dir)
}

func TestRecordIsBounded(t *testing.T) {
	t.Parallel()
	dir, d := diskFolder(t), newMemDisk()
	j := openMem(t, dir, d, Config{Timeout: 100 * time.Millisecond, CheckpointEvery: time.Minute})
	release := make(chan struct{})
	d.setFault(func(op, name string) (int, error) {
		if op == "blocksync" && name == segmentName(1) {
			<-release
		}
		return 0, nil
	})
	start := time.Now()
	_, err := j.Record(doctor(t), search(1))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Record(disk hangs) = %v, want ErrUnavailable", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("Record took %v", took)
	}
	close(release)
	d.setFault(nil)
	var last error
	for range 100 { // the hanging write ends when it ends
		if _, last = j.Record(doctor(t), search(2)); last == nil {
			break
		}
	}
	if last != nil {
		t.Errorf("Record(disk answers again) = %v", last)
	}
}

// closedSegment returns the first segment of a closed journal of a few
// groups, and its public key.
func closedSegment(t *testing.T) (data []byte, writer string, verifier note.Verifier) {
	t.Helper()
	dir, d := diskFolder(t), newMemDisk()
	j := openMem(t, dir, d, Config{CheckpointEvery: time.Minute})
	for i := range 5 {
		if _, err := j.Record(doctor(t), search(i)); err != nil {
			t.Fatal(err)
		}
	}
	// The last group: several lines, none of them the first but one.
	if _, _, err := j.submit(entry{bodies: [][]byte{[]byte(`,"type":"search"`), []byte(`,"type":"search"`), []byte(`,"type":"search"`)}},
		entry{bodies: [][]byte{bytes.Join([][]byte{[]byte(`,"type":"search","pad":"`), bytes.Repeat([]byte("x"), 3000), []byte(`"`)}, nil)}},
		entry{bodies: [][]byte{[]byte(`,"type":"search"`)}}); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	data = slices.Clone(d.names[segmentName(1)].data)
	d.mu.Unlock()
	verifier, err := note.NewVerifier(j.keys.verifier)
	if err != nil {
		t.Fatal(err)
	}
	return data, j.keys.writer, verifier
}

func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	data, writer, verifier := closedSegment(t)
	end := bytes.IndexByte(data, 0)
	lines := bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	from := len(lines[0]) + 1 + len(lines[1]) + 1
	for cut := from; cut <= end; cut++ {
		if !long() && cut%7 != 0 && !bytes.Contains(data[cut-2:cut+2], []byte("\n")) {
			continue
		}
		whole := bytes.Count(data[:cut], []byte("\n"))
		if cut < end && data[cut] == '\n' {
			whole++ // only the newline is missing: the line is there
		}
		zeroed := slices.Clone(data[:min(len(data), end+sector)])
		clear(zeroed[cut:])
		for what, torn := range map[string][]byte{"cut": data[:cut], "zeroed": zeroed} {
			s, err := scan(segmentName(1), torn, writer, verifier)
			if err != nil {
				t.Fatalf("%s at %d: %v", what, cut, err)
			}
			if int(s.head.seq) != whole {
				t.Fatalf("%s at %d: %d lines are recovered, want %d", what, cut, s.head.seq, whole)
			}
		}
	}
}

func TestHolesInTheLastGroupAreDroppedAndOthersRefused(t *testing.T) {
	t.Parallel()
	data, writer, verifier := closedSegment(t)
	end := bytes.IndexByte(data, 0)
	data = data[:end+sector]
	group := bytes.LastIndex(data, []byte(`,"sync":true`))
	group = bytes.LastIndexByte(data[:group], '\n') + 1
	good := bytes.Count(data[:group], []byte("\n"))
	second := bytes.IndexByte(data, '\n') + 1
	second += bytes.IndexByte(data[second:], '\n') + 1
	dropped, refused := 0, 0
	for s := 0; s*sector < end; s++ {
		holed := slices.Clone(data)
		clear(holed[s*sector : (s+1)*sector])
		got, err := scan(segmentName(1), holed, writer, verifier)
		switch {
		case s*sector >= group:
			if err != nil {
				t.Errorf("hole at %d, in the last group: %v", s*sector, err)
			} else if int(got.head.seq) < good || got.dropped == 0 {
				t.Errorf("hole at %d: %d lines, %d bytes dropped; the group starts at line %d", s*sector, got.head.seq, got.dropped, good)
			}
			dropped++
		case (s+1)*sector <= group:
			var c *CorruptError
			if !errors.As(err, &c) {
				t.Errorf("hole at %d, in a group that was acknowledged: %v, want a CorruptError", s*sector, err)
			} else if c.File != segmentName(1) || c.Offset > int64((s+1)*sector) {
				t.Errorf("hole at %d: %v", s*sector, c)
			}
			refused++
		}
	}
	if dropped < 3 || refused < 3 {
		t.Errorf("%d holes dropped, %d refused: the segment is too short for this test", dropped, refused)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	t.Parallel()
	data, writer, verifier := closedSegment(t)
	end := bytes.IndexByte(data, 0)
	data = data[:end+sector]
	for off := range end - 1 { // the last newline: TestCutAtEveryByte
		if !long() && off%9 != 0 {
			continue
		}
		for _, mask := range []byte{1, 0x80, data[off]} {
			if mask == data[off] && (off%sector == 0 || off%sector == sector-1) && rand.IntN(2) == 0 {
				continue
			}
			bad := slices.Clone(data)
			bad[off] ^= mask
			_, err := scan(segmentName(1), bad, writer, verifier)
			var c *CorruptError
			if !errors.As(err, &c) || c.Offset > int64(off) {
				t.Fatalf("byte %d ^ %#x: %v, want a CorruptError before it", off, mask, err)
			}
		}
	}
}

func TestOpenRefusesARechainedJournal(t *testing.T) {
	t.Parallel()
	data, writer, verifier := closedSegment(t)
	end := bytes.IndexByte(data, 0)
	lines := bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	lines[2] = bytes.Replace(lines[2], []byte("success"), []byte("failure"), 1)
	forged := append(bytes.Join(Rechain(append(lines[:2:2], append([][]byte{Rechecksum(lines[2])}, lines[3:]...)...), 2), []byte("\n")), '\n')
	var c *CorruptError
	if _, err := scan(segmentName(1), forged, writer, verifier); !errors.As(err, &c) {
		t.Errorf("scan = %v, want a CorruptError: a checkpoint covers the forged line", err)
	}
	// The last line but one, which no checkpoint covers yet.
	lines = bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	last := len(lines) - 2
	lines[last] = Rechecksum(bytes.Replace(lines[last], []byte("xxx"), []byte("yyy"), 1))
	forged = append(bytes.Join(lines, []byte("\n")), '\n')
	if _, err := scan(segmentName(1), forged, writer, verifier); !errors.As(err, &c) || c.Seq != uint64(last+1) {
		t.Errorf("scan = %v, want a CorruptError: the last line chains to another", err)
	}
}

func FuzzScan(f *testing.F) {
	w := newLineWriter()
	empty, err := newTree(0, nil)
	if err != nil {
		f.Fatal(err)
	}
	h := segmentHeader{Format: 1, Segment: 1, Size: minSegment, Writer: "j1", Origin: "part164/j1"}
	text, _ := w.append(nil, 0, true, new(leaf), []byte("2026-01-01T00:00:00.000000Z"), batch{}, h.body())
	f.Add(text)
	f.Add(append(text, text...))
	f.Add([]byte(`{"seq":0,"prev":"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := scan(segmentName(1), data, "j1", nil)
		if err == nil && s.head.off > int64(len(data))+1 {
			t.Errorf("scan reads %d bytes of %d", s.head.off, len(data))
		}
		for len(data) > 0 {
			line, rest := cutLine(data)
			if line == nil {
				break
			}
			if fr, err := w.parse(line); err == nil {
				again, _ := w.append(nil, fr.seq, fr.sync, &fr.prev, fr.time, fr.batch, append([]byte(`,"type":"`+string(fr.typ)+`"`), fr.rest...))
				if !bytes.Equal(again[:len(again)-1], line) {
					t.Errorf("a line has two readings:\n%s\n%s", line, again)
				}
				_, _ = decode("j1", line)
				_, _ = parseHeader(&fr)
				_ = checkCheckpoint(&fr, empty, "x", nil)
			}
			data = rest
		}
	})
}

func TestErrorsNameTheMend(t *testing.T) {
	t.Parallel()
	c := &CorruptError{File: "f", Offset: 7, Seq: 3, Problem: "p"}
	if text := fmt.Sprint(c); !strings.Contains(text, "auditctl verify") || !strings.Contains(text, "offset 7") {
		t.Error(text)
	}
}
