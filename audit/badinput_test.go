// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/part164/part164/audit"
)

// rolled makes a closed journal of five small segments.
func rolled(t testing.TB) string {
	t.Helper()
	j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
	for i := range 4 {
		record(t, j, reveal(fmt.Sprint("r-", i)), reveal("r-9"))
		if err := j.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	record(t, j, reveal("r-4"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func segmentFile(dir string, index int) string {
	return filepath.Join(dir, fmt.Sprintf("%08d.jsonl", index))
}

// read returns a segment without the zeros behind its lines.
func readSegment(t testing.TB, dir string, index int) []byte {
	t.Helper()
	data, err := os.ReadFile(segmentFile(dir, index))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimRight(data, "\x00")
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// copied returns a copy of a folder.
func copied(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestVerifyNamesWhatIsNoSegmentOfTheJournal(t *testing.T) {
	t.Parallel()
	whole, other := rolled(t), rolled(t)
	anchors, err := audit.AnchorsOf(whole)
	if err != nil {
		t.Fatal(err)
	}
	from := func(dir string, index int) func(testing.TB, string) []byte {
		return func(t testing.TB, _ string) []byte { return readSegment(t, dir, index) }
	}
	edit := func(index int, f func(data []byte) []byte) func(testing.TB, string) []byte {
		return func(t testing.TB, dir string) []byte { return f(readSegment(t, dir, index)) }
	}
	lines := func(index int, f func(line []byte) []byte) func(testing.TB, string) []byte {
		return edit(index, func(data []byte) []byte {
			all := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
			for i := range all {
				all[i] = f(all[i])
			}
			return append(bytes.Join(all, []byte("\n")), '\n')
		})
	}
	wide := func(order func(uint16) [2]byte) func(data []byte) []byte {
		return func(data []byte) (out []byte) {
			for _, u := range utf16.Encode([]rune(string(data))) {
				b := order(u)
				out = append(out, b[:]...)
			}
			return out
		}
	}
	little := func(u uint16) [2]byte { return [2]byte{byte(u), byte(u >> 8)} }
	big := func(u uint16) [2]byte { return [2]byte{byte(u >> 8), byte(u)} }
	reencode := func(indent string) func(line []byte) []byte {
		return func(line []byte) []byte {
			var members map[string]any // sorts the keys
			if err := json.Unmarshal(line, &members); err != nil {
				t.Fatal(err)
			}
			out, err := json.Marshal(members)
			if indent != "" {
				out = bytes.ReplaceAll(out, []byte(`":`), []byte(`":`+indent))
			}
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	cases := map[string]struct {
		index   int // of the segment that is put
		data    func(t testing.TB, dir string) []byte
		file    int // of the first defect
		problem string
	}{
		"of another journal, for one in the middle": {2, from(other, 2), 2, "of another journal"},
		"of another journal, for the first":         {1, from(other, 1), 1, "of another journal"},
		"of another journal, for the last":          {5, from(other, 5), 5, "of another journal"},
		"of another journal, in another place":      {3, from(other, 1), 3, "of another journal"},
		"of another journal, beside them":           {6, from(other, 1), 6, "of another journal"},
		"of another journal, far behind them":       {99, from(other, 1), 6, "the segment is missing"},
		"repeated at the end":                       {6, from(whole, 5), 6, "a copy of segment 5"},
		"repeated in the place of another":          {3, from(whole, 2), 3, "a copy of segment 2"},
		"empty, the first":                          {1, edit(1, func([]byte) []byte { return nil }), 1, "has no line"},
		"empty, in the middle":                      {3, edit(3, func([]byte) []byte { return nil }), 3, "has no line"},
		"zeros only":                                {3, edit(3, func(b []byte) []byte { return make([]byte, len(b)) }), 3, "has no line"},
		"packed with gzip":                          {2, edit(2, zip), 2, "packed with gzip: unpack it"},
		"packed with gzip, the last":                {5, edit(5, zip), 5, "packed with gzip: unpack it"},
		"UTF-16, little endian":                     {2, edit(2, wide(little)), 2, "UTF-16"},
		"UTF-16, big endian":                        {2, edit(2, wide(big)), 2, "UTF-16"},
		"UTF-16 with its mark":                      {2, edit(2, func(b []byte) []byte { return append([]byte("\xff\xfe"), wide(little)(b)...) }), 2, "UTF-16"},
		"a byte order mark":                         {2, edit(2, func(b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) }), 2, "a byte order mark"},
		"CR LF":                                     {2, edit(2, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }), 2, "CR LF"},
		"CR":                                        {2, edit(2, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r")) }), 2, "has no end"},
		"keys in another order":                     {2, lines(2, reencode("")), 2, "a tool wrote the file anew"},
		"keys in another order, and spaces":         {2, lines(2, reencode(" ")), 2, "a tool wrote the file anew"},
		"a space behind each comma":                 {2, lines(2, func(l []byte) []byte { return bytes.ReplaceAll(l, []byte(`,"`), []byte(`, "`)) }), 2, "a tool wrote the file anew"},
		"escapes":                                   {2, lines(2, func(l []byte) []byte { return bytes.ReplaceAll(l, []byte(`"r`), []byte(`"\u0072`)) }), 2, "checksum"},
		"escapes, checksums made to fit": {2, lines(2, func(l []byte) []byte {
			return audit.Rechecksum(bytes.Replace(l, []byte(`"type":"reveal","`), []byte(`"type":"reveal","k\u0065y":2,"`), 1))
		}), 2, "not chained"},
		"an empty line between all": {2, edit(2, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\n\n")) }), 2, "not a line of a journal"},
		"an array around all":       {2, edit(2, func(b []byte) []byte { return append(append([]byte("[\n"), b...), "]\n"...) }), 2, "not a line of a journal"},
		"a file of something else":  {2, edit(2, func([]byte) []byte { return bytes.Repeat([]byte("all work and no play\n"), 1e4) }), 2, "not a line of a journal"},
		"a line without end":        {2, edit(2, func([]byte) []byte { return bytes.Repeat([]byte("x"), 3<<20) }), 2, "has no end"},
		"format 9 said in place of 1": {2, edit(2, func(b []byte) []byte {
			l, rest, _ := bytes.Cut(b, []byte("\n"))
			return append(append(audit.Rechecksum(bytes.Replace(l, []byte(`"format":1`), []byte(`"format":9`), 1)), '\n'), rest...)
		}), 2, "the header was changed"},
		"format 0": {2, edit(2, func(b []byte) []byte {
			l, rest, _ := bytes.Cut(b, []byte("\n"))
			return append(append(audit.Rechecksum(bytes.Replace(l, []byte(`"format":1`), []byte(`"format":0`), 1)), '\n'), rest...)
		}), 2, "was never one"},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copied(t, whole)
			put(t, segmentFile(dir, c.index), c.data(t, dir))
			r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Anchors: anchors})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Broken() || len(r.Defects) == 0 {
				t.Fatalf("not found: %+v", r)
			}
			if d := r.Defects[0]; d.File != filepath.Base(segmentFile(dir, c.file)) || !strings.Contains(d.Problem, c.problem) {
				t.Errorf("first of %d defects: %v; want %d and %q", len(r.Defects), d, c.file, c.problem)
			}
			for _, d := range r.Defects { // a segment behind it that follows nothing is checked all the same
				if i := slices.IndexFunc([]int{1, 2, 3, 4, 5, 6, 99}, func(i int) bool { return d.File == filepath.Base(segmentFile(dir, i)) }); i < 0 {
					t.Errorf("defect in %s", d.File)
				} else if c.index <= 5 && i+1 > c.index+1 {
					t.Errorf("defect in a sound segment: %v", d)
				}
			}
			// Nobody is shown what the segment says.
			seen := map[string]bool{}
			for l, err := range audit.Read(t.Context(), whole, audit.Position{}) {
				if err != nil {
					t.Fatal(err)
				}
				seen[string(l.Raw)] = true
			}
			n := 0
			for l, err := range audit.Read(t.Context(), dir, audit.Position{}) {
				if err != nil {
					n = -1
					break
				}
				if n++; !seen[string(l.Raw)] {
					t.Fatalf("Read yields %s", l.Raw)
				}
			}
			if n >= 0 {
				t.Errorf("Read ends without an error after %d events", n)
			}
		})
	}
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// A segment cut anywhere: the end of the last one at a line's end is what only
// a witness sees, and is nowhere called whole.
func TestVerifyFindsEveryCutSegment(t *testing.T) {
	t.Parallel()
	whole := rolled(t)
	anchors, err := audit.AnchorsOf(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, index := range []int{1, 3, 5} {
		data := readSegment(t, whole, index)
		var ends []int // of lines, without the newline
		for i, b := range data {
			if b == '\n' {
				ends = append(ends, i)
			}
		}
		cuts := map[string][]int{
			"the whole":           {0},
			"in the header":       {1, 20, ends[0] / 2, ends[0] - 1},
			"the header's end":    {ends[0], ends[0] + 1},
			"in its checkpoint":   {ends[0] + 2, ends[1] - 20, ends[1]},
			"behind it":           {ends[1] + 1},
			"in an event":         {ends[1] + 30, ends[2] - 1},
			"a line's end":        {ends[2], ends[2] + 1, ends[len(ends)-2] + 1},
			"the last checkpoint": {ends[len(ends)-2] + 40, len(data) - 20, len(data) - 2, len(data) - 1},
		}
		for name, at := range cuts {
			for _, n := range at {
				dir := copied(t, whole)
				put(t, segmentFile(dir, index), data[:n])
				r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Anchors: anchors})
				if err != nil {
					t.Fatalf("segment %d, %s (%d): %v", index, name, n, err)
				}
				if index == 5 && n > ends[len(ends)-2] && n < len(data)-20 && len(r.Defects) == 0 && r.Unsigned > 0 {
					continue // nothing but the last checkpoint is gone, and nothing is signed in its place
				}
				if !r.Broken() {
					t.Errorf("segment %d, %s (%d): not found: %+v", index, name, n, r)
				}
				if index < 5 && (len(r.Defects) == 0 || r.Defects[0].File > filepath.Base(segmentFile(dir, index+1)) || r.Defects[0].File < filepath.Base(segmentFile(dir, index))) {
					t.Errorf("segment %d, %s (%d): %v", index, name, n, r.Defects)
				}
				if bare := verify(t, dir); index < 5 && len(bare.Defects) == 0 {
					t.Errorf("segment %d, %s (%d), no witness: %+v", index, name, n, bare)
				}
			}
		}
		// Zeros behind the last line that are cut off, or more of them, say nothing.
		dir := copied(t, whole)
		for _, tail := range [][]byte{nil, make([]byte, 5000)} {
			put(t, segmentFile(dir, index), append(slices.Clone(data), tail...))
			if r := verify(t, dir); len(r.Defects) > 0 {
				t.Errorf("segment %d, %d zeros: %v", index, len(tail), r.Defects)
			}
		}
	}
}

// What a newer release wrote is neither sound nor broken here.
func TestVerifyCannotReadANewerRelease(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	anew := func(old, with string) {
		t.Helper()
		changed := 0
		lines, vkey := audit.Anew(t, f.lines, strings.TrimSpace(string(key)), func(_ int, _ *[]byte, body []byte) []byte {
			if bytes.Contains(body, []byte(old)) {
				changed++
			}
			return bytes.Replace(body, []byte(old), []byte(with), 1)
		})
		if changed == 0 {
			t.Fatalf("no line has %s", old)
		}
		f.write(t, lines)
		put(t, filepath.Join(dir, "verifier.pub"), []byte(vkey+"\n"))
	}
	events := func() (out []audit.Line, err error) { return readAll(t, dir, audit.Position{}) }

	anew(`"format":1`, `"format":2`)
	if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); !errors.Is(err, audit.ErrNewer) || !strings.Contains(err.Error(), "00000001.jsonl: the segment's format is 2") {
		t.Errorf("Verify(newer format) = %v", err)
	}
	if got, err := events(); !errors.Is(err, audit.ErrNewer) || len(got) != 0 {
		t.Errorf("Read(newer format) = %d events, %v", len(got), err)
	}
	anew(`"format":1`, `"format":2,"more":[1,2]`) // and with members that nobody knows yet
	if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); !errors.Is(err, audit.ErrNewer) {
		t.Errorf("Verify(newer format, more members) = %v", err)
	}

	// Events that this release does not know stand in the chain as all others.
	for old, with := range map[string]string{
		`"type":"reveal"`:                     `"type":"reveal.whole"`,
		`"outcome":"success","action":"read"`: `"outcome":"success","extent":"whole","action":"read"`,
	} {
		anew(old, with)
		want := uint64(0)
		if strings.Contains(old, "type") {
			want = 2
		}
		if r := verify(t, dir); r.Broken() || r.Unknown != want {
			t.Errorf("Verify(%s): %d unknown, %v", with, r.Unknown, r.Defects)
		}
		got, err := events()
		var corrupt *audit.CorruptError
		if !errors.Is(err, audit.ErrNewer) || errors.As(err, &corrupt) || !strings.Contains(err.Error(), "00000001.jsonl: offset ") || !strings.Contains(err.Error(), "sequence 6: ") {
			t.Errorf("Read(%s) = %d events, %v", with, len(got), err)
		}
	}

	// Behind a defect the segment is one more.
	long := rolled(t)
	g := journalFile{path: segmentFile(long, 3)}
	g.whole = readSegment(t, long, 3)
	header, rest, _ := bytes.Cut(g.whole, []byte("\n"))
	_, rest, _ = bytes.Cut(rest, []byte("\n")) // the checkpoint, which would tell
	header = audit.Rechecksum(bytes.Replace(header, []byte(`"format":1`), []byte(`"format":2`), 1))
	put(t, g.path, append(append(header, '\n'), rest...))
	if _, err := audit.Verify(t.Context(), long, audit.VerifyConfig{}); !errors.Is(err, audit.ErrNewer) {
		t.Errorf("Verify(a header that could be a newer one) = %v, want no verdict", err)
	}
	put(t, segmentFile(long, 1), nil)
	if r := verify(t, long); !slices.ContainsFunc(r.Defects, func(d audit.Defect) bool {
		return d.File == "00000003.jsonl" && strings.Contains(d.Problem, "newer release")
	}) {
		t.Errorf("Verify(broken, and a newer segment): %v", r.Defects)
	}
}

func TestOpenRefusesANewerRelease(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	lines := slices.Clone(f.lines)
	lines[0] = audit.Rechecksum(bytes.Replace(lines[0], []byte(`"format":1`), []byte(`"format":2`), 1))
	f.write(t, lines)
	before := readSegment(t, dir, 1)
	var corrupt *audit.CorruptError
	if _, err := audit.Open(dir, audit.Config{Development: true}); !errors.Is(err, audit.ErrNewer) || errors.As(err, &corrupt) || !bytes.Equal(before, readSegment(t, dir, 1)) {
		t.Errorf("Open(newer segment) = %v", err)
	}
	f.write(t, f.lines)
	keys, err := os.ReadFile(filepath.Join(dir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	newer := regexp.MustCompile(`"format": *2`).ReplaceAll(keys, []byte(`"format":3,"more":true`))
	put(t, filepath.Join(dir, "keys.json"), newer)
	if _, err := audit.Open(dir, audit.Config{Development: true}); !errors.Is(err, audit.ErrNewer) || errors.As(err, &corrupt) {
		t.Errorf("Open(newer keys) = %v", err)
	}
}

// A signed line may be older than the one before it where the journal says
// that its clock was set back, and nowhere else: on both ways of reading.
func TestVerifyFindsTimesThatGoBack(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for _, back := range []bool{false, true} {
		lines, vkey := audit.Anew(t, f.lines, strings.TrimSpace(string(key)), func(i int, at *[]byte, body []byte) []byte {
			if back && i == 7 {
				earlier, err := time.Parse("2006-01-02T15:04:05.000000Z", string(*at))
				if err != nil {
					t.Fatal(err)
				}
				*at = []byte(earlier.Add(-time.Hour).Format("2006-01-02T15:04:05.000000Z"))
			}
			return body
		})
		f.write(t, lines)
		put(t, filepath.Join(dir, "verifier.pub"), []byte(vkey+"\n"))
		r := verify(t, dir)
		if found := len(r.Defects) > 0; found != back || back && (r.Defects[0].Seq != 7 || !strings.Contains(r.Defects[0].Problem, "older than the one before it")) {
			t.Errorf("back %v: %v", back, r.Defects)
		}
	}
}

func TestVerifyTakesNoOtherKindOfFile(t *testing.T) {
	t.Parallel()
	whole := rolled(t)
	for _, index := range []int{1, 3, 5} {
		for kind, make := range irregular(t) {
			dir := copied(t, whole)
			path := segmentFile(dir, index)
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			if err := make(path, path+".away"); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := audit.Verify(ctx, dir, audit.VerifyConfig{})
			if err != nil || len(r.Defects) == 0 {
				t.Fatalf("segment %d is a %s: %v, %+v", index, kind, err, r)
			}
			if d := r.Defects[0]; d.File != filepath.Base(path) || !strings.Contains(d.Problem, "no regular file but a "+kind) {
				t.Errorf("segment %d is a %s: %v", index, kind, r.Defects)
			}
			var corrupt *audit.CorruptError
			if _, err := readAll(t, dir, audit.Position{}); !errors.As(err, &corrupt) {
				t.Errorf("Read, segment %d is a %s: %v", index, kind, err)
			}
			if index == 5 {
				if j, err := audit.Open(dir, audit.Config{Development: true}); err == nil {
					t.Errorf("Open, segment %d is a %s: opened", index, kind)
					_ = j.Close()
				}
			}
		}
	}
	for _, name := range []string{"verifier.pub", "purged"} {
		for kind, make := range irregular(t) {
			dir := copied(t, whole)
			path := filepath.Join(dir, name)
			_ = os.Rename(path, path+".away")
			if name == "purged" {
				if err := os.Remove(segmentFile(dir, 1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := make(path, path+".away"); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if r, err := audit.Verify(ctx, dir, audit.VerifyConfig{}); err == nil && !r.Broken() {
				t.Errorf("%s is a %s: sound", name, kind)
			}
		}
	}
	dir := copied(t, whole)
	if err := os.Truncate(filepath.Join(dir, "verifier.pub"), 1<<40); err != nil {
		t.Skipf("no file system with holes: %v", err)
	}
	if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); err == nil {
		t.Error("a public key of a terabyte is read")
	}
}

// A segment of a terabyte takes no more time or memory than the largest that
// there can be.
func TestVerifyReadsNoEndlessSegment(t *testing.T) {
	t.Parallel()
	dir := rolled(t)
	if err := os.Chmod(segmentFile(dir, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(segmentFile(dir, 2), 1<<40); err != nil {
		t.Skipf("no file system with holes: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := audit.Verify(ctx, dir, audit.VerifyConfig{})
	if err != nil || len(r.Defects) != 1 || r.Defects[0].File != "00000002.jsonl" || !strings.Contains(r.Defects[0].Problem, "more than any segment") {
		t.Errorf("Verify = %v, %v", r.Defects, err)
	}
	if _, err := readAll(t, dir, audit.Position{}); err == nil {
		t.Error("Read takes it")
	}
}

// What Verify keeps does not grow with the journal.
func TestVerifyTakesConstantMemory(t *testing.T) { // not parallel: it looks at the heap
	live := func(events int) (most uint64) {
		j, dir := open(t, audit.Config{CheckpointEvery: 5 * time.Millisecond, SegmentSize: 512 << 10, Timeout: 30 * time.Second})
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				ctx := treat(t)
				for range events / 64 / 2 {
					ticket, err := j.Attempt(ctx, attempt("r-1"))
					if err == nil {
						_, err = j.Commit(ctx, []audit.Ticket{ticket})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		before := m.HeapAlloc
		r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Progress: func(int64, int64) {
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > before {
				most = max(most, m.HeapAlloc-before)
			}
		}})
		if err != nil || r.Broken() || r.OpenAttempts > 0 || r.Events < uint64(events)*9/10 {
			t.Fatalf("Verify = %+v, %v", r, err)
		}
		return most
	}
	few, many := live(4_000), live(40_000)
	t.Logf("live heap: %d KiB for 4,000 events, %d KiB for 40,000", few>>10, many>>10)
	if many > few+1<<20 {
		t.Errorf("Verify of 40,000 events holds %d bytes, of 4,000 %d", many, few)
	}
}

// A purge that goes on meanwhile is no loss.
func TestVerifyWhileAPurgeRuns(t *testing.T) {
	t.Parallel()
	var before atomic.Int64
	for range 3 {
		j, dir, _, _ := aged(t)
		for r := verify(t, dir); r.Unsigned > 0; r = verify(t, dir) { // the clock was set on by years: until that is signed, nobody has signed for it
			if t.Context().Err() != nil {
				return
			}
			runtime.Gosched()
		}
		var purged audit.PurgeRecord
		var err error
		var once sync.Once
		done := make(chan struct{})
		for i := 0; ; i++ {
			r, verr := audit.Verify(t.Context(), dir, audit.VerifyConfig{Progress: func(int64, int64) {
				once.Do(func() {
					go func() {
						defer close(done)
						purged, err = j.Purge(officer(t), audit.Purge{ClockChecked: true})
					}()
				})
			}})
			if verr != nil || len(r.Defects) > 0 {
				t.Fatalf("Verify %d = %v, %v", i, verr, r.Defects)
			}
			if r.Purged != nil {
				break
			}
			before.Add(1)
			select {
			case <-done:
				if err != nil {
					t.Fatal(err)
				}
			default:
			}
		}
		<-done
		if err != nil || purged.Segments != 4 {
			t.Errorf("Purge = %+v, %v", purged, err)
		}
	}
}
