// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// anchors returns what a witness would have seen of the journal in dir at each
// of its checkpoints.
func anchors(t testing.TB, dir string) []audit.Anchor {
	t.Helper()
	out, err := audit.AnchorsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 3 {
		t.Fatalf("%d checkpoints", len(out))
	}
	return out
}

func verifyWith(t testing.TB, dir string, as ...audit.Anchor) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Anchors: as})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyHoldsTheJournalAgainstItsAnchors(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{small(t), segmented(t)} {
		all := anchors(t, dir)
		r := verifyWith(t, dir, all...)
		last := all[len(all)-1]
		if r.Broken() || !r.Witnessed() || r.Completeness.Anchor != last || r.Completeness.Tail != r.Lines-last.Size {
			t.Errorf("all: %v %v", r.Completeness, r.Defects)
		}
		for _, a := range all {
			r := verifyWith(t, dir, a)
			if r.Broken() || r.Completeness.Anchor != a || r.Completeness.Tail != r.Lines-a.Size || !strings.Contains(r.Completeness.String(), "UNWITNESSED tail of") {
				t.Errorf("at %d: %v", a.Size, r.Completeness)
			}
		}
		if r := verifyWith(t, dir); r.Broken() || r.Witnessed() || !strings.HasPrefix(r.Completeness.String(), "UNWITNESSED") {
			t.Errorf("none: %v", r.Completeness)
		}
		other := last
		other.Origin += "x"
		if r := verifyWith(t, dir, other); r.Broken() || r.Witnessed() {
			t.Errorf("of another journal: %v", r.Completeness)
		}
		forked := last
		forked.Root[7] ^= 1
		r = verifyWith(t, dir, all[0], forked)
		if !r.Broken() || r.Witnessed() || r.Completeness.Length != audit.Forked || r.Completeness.Agrees != all[0] || len(r.Defects) != 0 {
			t.Errorf("fork: %v", r.Completeness)
		}
		longer := last
		longer.Size = r.Lines + 7
		r = verifyWith(t, dir, longer, all[1])
		if !r.Broken() || r.Completeness.Length != audit.Truncated || r.Completeness.Missing != 7 || r.Completeness.Agrees != all[1] {
			t.Errorf("longer: %v", r.Completeness)
		}
		// A witness may have seen a checkpoint whose own line did not survive.
		exact := last
		exact.Size, exact.Root = r.Lines, audit.RootOf(t, dir)
		if r := verifyWith(t, dir, exact); !r.Witnessed() || r.Completeness.Tail != 0 || !strings.Contains(r.Completeness.String(), "no line since") {
			t.Errorf("of every line: %v", r.Completeness)
		}
	}
}

// A cut at the end of a line is sound by itself: only the anchor tells.
func TestVerifySeesACutTailWithAnAnchor(t *testing.T) {
	t.Parallel()
	dir := small(t)
	all := anchors(t, dir)
	newest := all[len(all)-1]
	f := takeApart(t, dir)
	for keep := 6; keep < len(f.lines); keep++ {
		f.write(t, f.lines[:keep])
		if r := verify(t, dir); len(r.Defects) != 0 {
			t.Fatalf("cut after %d lines: %v", keep, r.Defects)
		}
		r := verifyWith(t, dir, all...)
		want, missing := audit.Truncated, newest.Size-uint64(keep)
		if missing == 0 {
			want = audit.Witnessed
		}
		if r.Completeness.Length != want || want == audit.Truncated && r.Completeness.Missing != missing {
			t.Errorf("cut after %d lines: %v", keep, r.Completeness)
		}
	}
}

// Somebody with the KEK sets the folder back and goes on: every signature is
// good.
func TestVerifySeesARollBackWithAnAnchor(t *testing.T) {
	t.Parallel()
	j, dir := open(t, audit.Config{CheckpointEvery: time.Minute})
	record(t, j, reveal("r-1"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	early := anchors(t, dir)
	copied := filepath.Join(audittest.Dir(t), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	kek, err := os.ReadFile(dir + ".kek")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied+".kek", kek, 0o600); err != nil {
		t.Fatal(err)
	}
	for folder, patient := range map[string]string{dir: "r-2", copied: "r-3"} {
		j := reopen(t, folder, audit.Config{CheckpointEvery: time.Minute})
		record(t, j, reveal(patient), reveal(patient), reveal(patient))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	seen := anchors(t, dir)
	r := verifyWith(t, copied, seen...)
	if len(r.Defects) != 0 || r.Completeness.Length != audit.Forked || r.Completeness.Agrees.Size != early[len(early)-1].Size {
		t.Errorf("%v %v", r.Completeness, r.Defects)
	}
	if text := r.Completeness.String(); !strings.Contains(text, "ROLLED BACK") {
		t.Error(text)
	}
	if r := verifyWith(t, dir, seen...); !r.Witnessed() {
		t.Errorf("the one that the witness saw: %v", r.Completeness)
	}
}

func TestVerifyDecidesNothingFromDamagedLines(t *testing.T) {
	t.Parallel()
	dir := segmented(t)
	all := anchors(t, dir)
	if err := os.Remove(filepath.Join(dir, "00000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	r := verifyWith(t, dir, all[0])
	if r.Completeness.Length != audit.Undecided || !r.Broken() {
		t.Errorf("%v", r.Completeness)
	}
	if r := verifyWith(t, dir, all...); r.Completeness.Length != audit.Witnessed || !r.Broken() || len(r.Defects) == 0 {
		t.Errorf("the newest anchor is behind the loss: %v, %v", r.Completeness, r.Defects)
	}
}

// The outcome of a write may stand with another writer; a journal that is not
// presented is absent.
func TestVerifyAllTakesSeveralFolders(t *testing.T) {
	t.Parallel()
	a, dirA := open(t, audit.Config{})
	b, dirB := open(t, audit.Config{})
	ticket, err := a.Attempt(treat(t), attempt("r-1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Attempt(treat(t), attempt("r-2")); err != nil {
		t.Fatal(err)
	}
	if err := audit.SettleFor(b, ticket); err != nil { // as a writer that adopted the row
		t.Fatal(err)
	}
	for _, j := range []*audit.Journal{a, b} {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r := verify(t, dirA); r.OpenAttempts != 2 {
		t.Errorf("one folder: %d open attempts, want 2", r.OpenAttempts)
	}
	roster := slices.Concat(anchors(t, dirA), anchors(t, dirB))
	keys := ""
	for _, dir := range []string{dirB, dirA} {
		key, err := os.ReadFile(filepath.Join(dir, "verifier.pub"))
		if err != nil {
			t.Fatal(err)
		}
		keys += string(key)
	}
	s, err := audit.VerifyAll(t.Context(), []string{dirA, dirB}, audit.VerifyConfig{Anchors: roster, Verifier: keys})
	if err != nil || s.Broken() || !s.Witnessed() || len(s.Reports) != 2 || s.Reports[0].OpenAttempts != 1 || s.Reports[0].KeyFromFolder || s.Reports[1].KeyFromFolder {
		t.Fatalf("%+v, %v", s, err)
	}
	s, err = audit.VerifyAll(t.Context(), []string{dirA}, audit.VerifyConfig{Anchors: roster})
	newest := roster[len(roster)-1]
	if err != nil || !s.Broken() || len(s.Absent) != 1 || s.Absent[0] != newest {
		t.Errorf("a folder less: %+v, %v; want %+v absent", s.Absent, err, newest)
	}
	if _, err := audit.VerifyAll(t.Context(), []string{dirA, dirA}, audit.VerifyConfig{}); err == nil {
		t.Error("one folder twice passes")
	}
	if _, err := audit.VerifyAll(t.Context(), []string{dirA, t.TempDir()}, audit.VerifyConfig{}); err == nil {
		t.Error("a folder without a journal passes")
	}
}

// A sound journal is read once, in parallel; the same report comes out of the
// careful reading.
func TestVerifyReadsTheSameBothWays(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{small(t), segmented(t)} {
		fast, slow, err := audit.VerifyBothWays(t.Context(), dir, anchors(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if !sameReport(fast, slow) {
			t.Errorf("\n%+v\n%+v", fast, slow)
		}
	}
}

func sameReport(a, b audit.Report) bool {
	if !slices.Equal(a.Defects, b.Defects) {
		return false
	}
	a.Defects, b.Defects = nil, nil
	return a.Dir == b.Dir && a.Origin == b.Origin && a.Verifier == b.Verifier && a.KeyFromFolder == b.KeyFromFolder && a.Segments == b.Segments &&
		a.Lines == b.Lines && a.Events == b.Events && a.Checkpoints == b.Checkpoints && a.OpenAttempts == b.OpenAttempts &&
		a.Unsigned == b.Unsigned && a.GivenUp == b.GivenUp && a.First.Equal(b.First) && a.Last.Equal(b.Last) && a.FirstSeq == b.FirstSeq &&
		a.Completeness == b.Completeness
}

// The first signature of a segment is good, the last is not, and the checksum
// was made to fit.
func TestVerifyChecksTheLastSignature(t *testing.T) {
	t.Parallel()
	dir := small(t)
	f := takeApart(t, dir)
	last := slices.Clone(f.lines[len(f.lines)-1])
	at := bytes.LastIndex(last, []byte(" ")) + 40 // inside the base64 of the signature
	last[at] = map[bool]byte{true: 'B', false: 'A'}[last[at] == 'A']
	f.write(t, append(slices.Clone(f.lines[:len(f.lines)-1]), audit.Rechecksum(last)))
	if r := verify(t, dir); len(r.Defects) != 1 || !strings.Contains(r.Defects[0].Problem, "signature") {
		t.Errorf("defects: %v", r.Defects)
	}
}
