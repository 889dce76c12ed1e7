// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

var nurse = access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}, Session: "s-9"}

func treat(t testing.TB) context.Context {
	return access.With(t.Context(), nurse, access.Treatment)
}

func reveal(patient string) audit.Event {
	return audit.Event{Type: audit.Revealed, Outcome: audit.Success, Action: access.Read, Objects: []audit.Object{
		{Type: "patient", Record: patient, Patient: patient, Fields: []string{"name", "mrn"}},
	}}
}

func attempt(patient string) audit.Event {
	return audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update, Objects: []audit.Object{
		{Type: "patient", Record: patient, Patient: patient, Version: 2, Fields: []string{"name"}, Digests: []string{"0011223344556677"}},
	}}
}

func record(t testing.TB, tr audit.Trail, evs ...audit.Event) {
	t.Helper()
	for _, ev := range evs {
		if _, err := tr.Record(treat(t), ev); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t testing.TB, dir string) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// small makes a closed journal of a few events and returns its folder.
func small(t testing.TB) string {
	t.Helper()
	j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
	record(t, j, reveal("r-1"), reveal("r-2"))
	ticket, err := j.Attempt(treat(t), attempt("r-1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Commit(t.Context(), []audit.Ticket{ticket}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Attempt(treat(t), attempt("r-2")); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestVerifySound(t *testing.T) {
	t.Parallel()
	dir := small(t)
	r := verify(t, dir)
	if len(r.Defects) != 0 {
		t.Fatalf("defects: %v", r.Defects)
	}
	// opened, two deviations, two reveals, attempt, committed, attempt, closed
	if r.Events != 9 || r.Lines != 13 || r.Checkpoints != 3 || r.Segments != 1 || r.OpenAttempts != 1 || r.Unsigned != 0 || !r.KeyFromFolder || r.Witnessed() {
		t.Errorf("report: %+v", r)
	}
	given, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: r.Verifier})
	if err != nil || given.KeyFromFolder || len(given.Defects) != 0 {
		t.Errorf("Verify(key given) = %+v, %v", given, err)
	}
	other := verify(t, small(t))
	foreign, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: other.Verifier})
	if err != nil || len(foreign.Defects) == 0 {
		t.Errorf("Verify(another journal's key) = %d defects, %v; want some", len(foreign.Defects), err)
	}
}

// journalFile is a journal of one segment, taken apart.
type journalFile struct {
	path  string
	whole []byte
	lines [][]byte // without newlines
}

func takeApart(t testing.TB, dir string) journalFile {
	t.Helper()
	path := filepath.Join(dir, "00000001.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.IndexByte(whole, 0)
	return journalFile{path, whole, bytes.Split(bytes.TrimSuffix(whole[:end], []byte("\n")), []byte("\n"))}
}

func (f journalFile) write(t testing.TB, lines [][]byte) {
	t.Helper()
	data := make([]byte, len(f.whole))
	n := 0
	for _, l := range lines {
		n += copy(data[n:], l)
		data[n] = '\n'
		n++
	}
	if err := os.WriteFile(f.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// offset returns where line i starts.
func (f journalFile) offset(i int) int64 {
	n := 0
	for _, l := range f.lines[:i] {
		n += len(l) + 1
	}
	return int64(n)
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	end := f.offset(len(f.lines))
	if err := os.Truncate(f.path, end+512); err != nil { // fewer zeros to read each time
		t.Fatal(err)
	}
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	masks := []byte{1}
	if long() {
		masks = []byte{1, 2, 4, 8, 16, 32, 64, 128, 255}
	}
	line := 0
	for off := int64(0); off < end; off++ {
		if line+1 < len(f.lines) && off >= f.offset(line+1) {
			line++
		}
		if in := off - f.offset(line); !long() && in > 24 && in < int64(len(f.lines[line]))-24 && off%5 != 0 {
			continue
		}
		flips := masks
		if (long() || off%8 == 0) && off < f.offset(len(f.lines)-1) {
			flips = append(flips, f.whole[off]) // makes it NUL; for the last line see TestVerifyUnfinishedTail
		}
		for _, mask := range flips {
			if _, err := file.WriteAt([]byte{f.whole[off] ^ mask}, off); err != nil {
				t.Fatal(err)
			}
			r := verify(t, dir)
			if len(r.Defects) == 0 {
				t.Fatalf("byte %d ^ %#x: not found", off, mask)
			}
			if d := r.Defects[0]; d.File != "00000001.jsonl" || d.Offset != f.offset(line) || d.Seq != uint64(line) {
				t.Fatalf("byte %d ^ %#x: %v; want offset %d, sequence %d", off, mask, d, f.offset(line), line)
			}
		}
		if _, err := file.WriteAt(f.whole[off:off+1], off); err != nil {
			t.Fatal(err)
		}
	}
	if r := verify(t, dir); len(r.Defects) != 0 {
		t.Fatalf("restored, and yet %v", r.Defects)
	}
}

func TestVerifyFindsBytesBehindTheEnd(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	data := slices.Clone(f.whole)
	data[len(data)-1] = 'x'
	if err := os.WriteFile(f.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Defects) == 0 {
		t.Error("not found")
	}
}

func TestVerifyUnfinishedTail(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	last := len(f.lines) - 1
	data := slices.Clone(f.whole)
	data[f.offset(last+1)-1] = 0
	if err := os.WriteFile(f.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Defects) != 1 || r.Defects[0].Seq != uint64(last) || !strings.Contains(r.Defects[0].Problem, "unfinished") {
		t.Errorf("report: %v", r.Defects)
	}
}

func TestVerifyFindsChangedLines(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	n := len(f.lines)
	// Lines: 0 header, 1 checkpoint, 2 opened, 3 4 deviations, 5 checkpoint,
	// 6 7 reveals, 8 attempt, 9 committed, 10 attempt, 11 closed, 12 checkpoint.
	edit := func(i int, from, to string) []byte {
		if !bytes.Contains(f.lines[i], []byte(from)) {
			t.Fatalf("line %d has no %s: %s", i, from, f.lines[i])
		}
		return audit.Rechecksum(bytes.Replace(f.lines[i], []byte(from), []byte(to), 1))
	}
	with := func(i int, line []byte) [][]byte {
		out := slices.Clone(f.lines)
		out[i] = line
		return out
	}
	cases := map[string]struct {
		lines [][]byte
		seq   uint64 // of the first defect
	}{
		"edited, checksum made to fit":     {with(6, edit(6, `"u-17"`, `"u-18"`)), 6},
		"edited time":                      {with(7, edit(7, `"time":"2`, `"time":"1`)), 7},
		"edited last event":                {with(11, edit(11, "success", "failure")), 11},
		"edited, and all after it anew":    {audit.Rechain(with(6, edit(6, `"u-17"`, `"u-18"`)), 6), 12},
		"edited before a signed part":      {audit.Rechain(with(2, edit(2, "success", "failure")), 2), 5},
		"removed":                          {slices.Delete(slices.Clone(f.lines), 7, 8), 7},
		"removed, two":                     {slices.Delete(slices.Clone(f.lines), 7, 9), 7},
		"removed, and all after it anew":   {audit.Renumber(slices.Delete(slices.Clone(f.lines), 7, 8), 7), 11},
		"repeated":                         {slices.Insert(slices.Clone(f.lines), 8, f.lines[7]), 7},
		"inserted, and all after it anew":  {audit.Renumber(slices.Insert(slices.Clone(f.lines), 8, f.lines[7]), 8), 13},
		"swapped":                          {swap(f.lines, 6, 7), 6},
		"swapped, and all after anew":      {audit.Renumber(swap(f.lines, 6, 7), 6), 7},
		"moved to the end":                 {append(slices.Delete(slices.Clone(f.lines), 6, 7), f.lines[6]), 6},
		"a checkpoint edited":              {with(5, edit(5, "time 2", "time 1")), 5},
		"a checkpoint's text beside it":    {with(12, edit(12, `","crc"`, `","more":"x","crc"`)), 12},
		"the last checkpoint's own time":   {with(12, edit(12, `"time":"2`, `"time":"1`)), 12},
		"the header edited":                {with(0, edit(0, `"segment":1`, `"segment":2`)), 0},
		"the header removed":               {f.lines[1:], 0},
		"the first checkpoint removed":     {slices.Delete(slices.Clone(f.lines), 1, 2), 1},
		"a second header":                  {audit.Renumber(slices.Insert(slices.Clone(f.lines[:11]), 8, f.lines[0]), 8), 8},
		"an event for the last checkpoint": {with(12, audit.Renumber(append(slices.Clone(f.lines[:12]), f.lines[6]), 12)[12]), 12},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		f.write(t, c.lines)
		r := verify(t, dir)
		if name == "an event for the last checkpoint" {
			// The end was cut and something put in its place within the time
			// that a journal may go on unsigned: only a witness sees it.
			if r.Unsigned == 0 {
				t.Errorf("%s: nothing is reported as unsigned", name)
			}
			continue
		}
		if len(r.Defects) == 0 {
			t.Errorf("%s: not found", name)
			continue
		}
		if d := r.Defects[0]; d.Seq != c.seq || d.File != "00000001.jsonl" {
			t.Errorf("%s: %v; want sequence %d", name, r.Defects, c.seq)
		}
	}
	f.write(t, f.lines)
	if r := verify(t, dir); len(r.Defects) != 0 || r.Lines != uint64(n) {
		t.Fatalf("restored, and yet %v", r.Defects)
	}
}

func swap(lines [][]byte, i, k int) [][]byte {
	out := slices.Clone(lines)
	out[i], out[k] = out[k], out[i]
	return out
}

func TestVerifyFindsAForgedSignature(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	lines := slices.Clone(f.lines)
	lines[6] = audit.Rechecksum(bytes.Replace(lines[6], []byte(`"u-17"`), []byte(`"u-18"`), 1))
	key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
	if err != nil {
		t.Fatal(err)
	}
	// A forger signs everything anew: with a key of the same name, and with
	// one that claims to be the journal's.
	for _, claim := range []bool{false, true} {
		f.write(t, audit.Resign(t, lines, strings.TrimSpace(string(key)), claim))
		if r := verify(t, dir); len(r.Defects) == 0 {
			t.Errorf("claim %v: not found", claim)
		}
	}
}

func TestVerifyFindsLinesThatNobodySigned(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	// The end was cut, and something was put in its place: an hour of it.
	lines := slices.Clone(f.lines[:11])
	late := slices.Clone(f.lines[6])
	at := bytes.Index(late, []byte(`"time":"2`)) + len(`"time":"`)
	hour := time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05.000000Z")
	copy(late[at:], hour)
	f.write(t, audit.Renumber(append(lines, audit.Rechecksum(late)), 11))
	r := verify(t, dir)
	if len(r.Defects) != 1 || !strings.Contains(r.Defects[0].Problem, "nobody signed") || r.Defects[0].Seq != 11 {
		t.Errorf("report: %+v", r)
	}
}

func TestVerifySegments(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{CheckpointEvery: 20 * time.Millisecond})
	var many []audit.Object
	for i := range 900 {
		id := "r-" + strconv.Itoa(i)
		many = append(many, audit.Object{Type: "patient", Record: id, Patient: id, Fields: []string{"name"}})
	}
	for range 12 {
		record(t, j, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: many})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r := verify(t, dir)
	// The end may have been recorded in a segment that it filled: the one behind
	// it is not missed then, as nothing is that follows the end of a journal.
	for range 5 {
		before, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%08d.jsonl", r.Segments-1)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(before, []byte(`"type":"journal.closed"`)) {
			break
		}
		j = reopen(t, dir, audit.Config{})
		for range 6 {
			record(t, j, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: many})
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		r = verify(t, dir)
	}
	if len(r.Defects) != 0 || r.Segments < 3 {
		t.Fatalf("report: %+v", r)
	}
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%08d.jsonl", i)) }
	moved := func(i int) {
		t.Helper()
		if err := os.Rename(name(i), name(i)+".away"); err != nil {
			t.Fatal(err)
		}
	}
	back := func(i int) {
		t.Helper()
		if err := os.Rename(name(i)+".away", name(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{1, 2, r.Segments} {
		moved(i)
		got := verify(t, dir)
		if len(got.Defects) == 0 || got.Defects[0].File != filepath.Base(name(i)) {
			t.Errorf("segment %d of %d is missing: %v", i, r.Segments, got.Defects)
		}
		back(i)
	}
	// Two segments exchanged.
	moved(1)
	if err := os.Rename(name(2), name(1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name(1)+".away", name(2)); err != nil {
		t.Fatal(err)
	}
	if got := verify(t, dir); len(got.Defects) == 0 || got.Defects[0].File != "00000001.jsonl" {
		t.Errorf("exchanged segments: %v", got.Defects)
	}
}

func TestVerifyOfAJournalInUse(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{CheckpointEvery: 5 * time.Millisecond, SegmentSize: 512 << 10})
	stop := make(chan struct{})
	done := make(chan struct{})
	ctx := treat(t)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := j.Record(ctx, reveal("r-"+strconv.Itoa(i))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 30 {
		if r := verify(t, dir); len(r.Defects) != 0 {
			t.Errorf("defects: %v", r.Defects)
		}
	}
	close(stop)
	<-done
}

func TestVerifyCannotRun(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	if _, err := audit.Verify(t.Context(), empty, audit.VerifyConfig{}); err == nil {
		t.Error("Verify(empty folder) = nil error")
	}
	if _, err := audit.Verify(t.Context(), filepath.Join(empty, "none"), audit.VerifyConfig{}); err == nil {
		t.Error("Verify(no folder) = nil error")
	}
	dir := small(t)
	if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Verifier: "nonsense"}); err == nil {
		t.Error("Verify(bad key) = nil error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Verify(ctx, dir, audit.VerifyConfig{}); err == nil {
		t.Error("Verify(cancelled) = nil error")
	}
	if err := os.Remove(filepath.Join(dir, "verifier.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{}); err == nil {
		t.Error("Verify(no key) = nil error")
	}
}

// long reports whether the full counts were asked for.
func long() bool { return os.Getenv("PART164_TEST_LONG") == "1" }
