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
	"testing"
	"time"

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

// closedSegment returns the first segment of a journal of a few groups, and what
// scans it.
func closedSegment(t *testing.T) (data []byte, rescan func(data []byte) (*scanned, error)) {
	t.Helper()
	dir := diskFolder(t)
	j, err := Open(dir, Config{Development: true, SegmentSize: minSegment, CheckpointEvery: time.Minute, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
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
	if data, err = os.ReadFile(filepath.Join(dir, segmentName(1))); err != nil {
		t.Fatal(err)
	}
	return data, func(data []byte) (*scanned, error) {
		return scan(segmentName(1), data, j.keys.writer, j.keys.ended, j.keys.verifiers()...)
	}
}

func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	data, rescan := closedSegment(t)
	end := bytes.IndexByte(data, 0)
	lines := bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	from := len(lines[0]) + 1 + len(lines[1]) + 1
	ends := groupEnds(t, data)
	for cut := from; cut <= end; cut++ {
		if !long() && cut%7 != 0 && !bytes.Contains(data[cut-2:cut+2], []byte("\n")) {
			continue
		}
		whole := 0 // the lines of the groups that are there to the end
		for _, e := range ends {
			if e <= cut {
				whole = bytes.Count(data[:e], []byte("\n"))
			}
		}
		zeroed := slices.Clone(data[:min(len(data), end+sector)])
		clear(zeroed[cut:])
		for what, torn := range map[string][]byte{"cut": data[:cut], "zeroed": zeroed} {
			s, err := rescan(torn)
			if err != nil {
				t.Fatalf("%s at %d: %v", what, cut, err)
			}
			if int(s.head.seq) != whole {
				t.Fatalf("%s at %d: %d lines are recovered, want %d", what, cut, s.head.seq, whole)
			}
		}
	}
}

// groupEnds returns where the groups of a segment end, and its first two lines.
func groupEnds(t *testing.T, data []byte) (ends []int) {
	t.Helper()
	w := newLineWriter()
	for at, n := 0, 0; ; n++ {
		text, rest := cutLine(data[at:])
		if text == nil {
			return append(ends, at)
		}
		f, err := w.parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if f.sync && n > 1 || n == 2 {
			ends = append(ends, at)
		}
		at = len(data) - len(rest)
	}
}

func TestHolesInTheLastGroupAreDroppedAndOthersRefused(t *testing.T) {
	t.Parallel()
	data, rescan := closedSegment(t)
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
		got, err := rescan(holed)
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
	data, rescan := closedSegment(t)
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
			_, err := rescan(bad)
			var c *CorruptError
			if !errors.As(err, &c) || c.Offset > int64(off) {
				t.Fatalf("byte %d ^ %#x: %v, want a CorruptError before it", off, mask, err)
			}
		}
	}
}

func TestOpenRefusesARechainedJournal(t *testing.T) {
	t.Parallel()
	data, rescan := closedSegment(t)
	end := bytes.IndexByte(data, 0)
	lines := bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	lines[2] = bytes.Replace(lines[2], []byte("success"), []byte("failure"), 1)
	forged := append(bytes.Join(Rechain(append(lines[:2:2], append([][]byte{Rechecksum(lines[2])}, lines[3:]...)...), 2), []byte("\n")), '\n')
	var c *CorruptError
	if _, err := rescan(forged); !errors.As(err, &c) {
		t.Errorf("scan = %v, want a CorruptError: a checkpoint covers the forged line", err)
	}
	// The last line but one, which no checkpoint covers yet.
	lines = bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	last := len(lines) - 2
	lines[last] = Rechecksum(bytes.Replace(lines[last], []byte("xxx"), []byte("yyy"), 1))
	forged = append(bytes.Join(lines, []byte("\n")), '\n')
	if _, err := rescan(forged); !errors.As(err, &c) || c.Seq != uint64(last+1) {
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
		s, err := scan(segmentName(1), data, "j1", func(*lineWriter, []byte) bool { return true })
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
				_ = checkCheckpoint(&fr, empty, "x")
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
