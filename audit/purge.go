// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/note"

	"github.com/part164/part164/access"
)

// retentionYears is how long events are kept: six years from the date of their
// creation. 45 CFR 164.316(b)(2)(i) says so of the documentation that the
// Security Rule requires, and does not name the audit trail; 164.528(a) lets an
// individual ask for the disclosures of six years, and 164.530(j)(2) keeps the
// Privacy Rule's documentation as long. State law may ask for more: purge later
// then.
const retentionYears = 6

// purgedFile holds the signed record of what was purged.
const purgedFile = "purged"

// retainedUntil is when the retention period of s ends. A series of disclosures
// counts from its last.
func retainedUntil(s *Stored) time.Time {
	t := s.Time
	if s.Until.After(t) {
		t = s.Until
	}
	return t.AddDate(retentionYears, 0, 0)
}

// A Purge says what may go. Its zero value removes what is older than six
// years.
type Purge struct {
	// Before is the time before which every event of a segment must have
	// happened. Zero means six years ago; later than that is refused with
	// [ErrRetention].
	Before time.Time

	// Required are further sinks that every purged line must have passed.
	// Those of package audit/sink need not be named: their cursors lie in the
	// folder ([Cursors]).
	Required []Passer
}

// A Passer is a sink that says how far it is.
type Passer interface {
	// Passed returns the place of the last line that the sink has taken or set
	// aside; the zero Position where it has none.
	Passed() Position
}

// A PurgeRecord says which lines a journal no longer has. The root is that of
// the RFC 6962 tree over all of them, and of those purged before.
type PurgeRecord struct {
	Segments int    // the last segment that was purged; 0 where none was
	From     uint64 // the first of the lines that went
	Size     uint64 // the sequence of the first line that is left
	Root     []byte // 32 bytes
}

// Purge removes the oldest whole segments that p allows, up to the first that
// it does not: one that is not complete, holds a younger line, was not passed
// by a required sink, or holds a line under a legal hold. The sealed details of
// its events go with them. The principal of ctx is required.
//
// A [Purged] event says what goes, before it goes; so does a note in the
// folder, signed by the journal. The head of what is left has the tree of what
// went, so that everything later verifies as before, and [Verify] tells a purge
// from a loss. Where nothing may go the record is zero, and nothing is
// recorded.
//
// What a database is held against (storage.Check) goes too: take the last
// digests of records older than that from a copy.
func (j *Journal) Purge(ctx context.Context, p Purge) (PurgeRecord, error) {
	r, err := j.purge(ctx, p)
	if err != nil {
		return PurgeRecord{}, fmt.Errorf("audit: purge %s: %w", j.dir, err)
	}
	return r, nil
}

func (j *Journal) purge(ctx context.Context, p Purge) (PurgeRecord, error) {
	s, err := Stamp(ctx, Event{Type: Purged, Outcome: Success, Reason: ReasonRetention})
	if err != nil {
		return PurgeRecord{}, err
	}
	if s.Actor.ID == "" {
		return PurgeRecord{}, access.ErrNoPrincipal
	}
	latest := j.cfg.Now().AddDate(-retentionYears, 0, 0)
	if p.Before.IsZero() {
		p.Before = latest
	}
	if p.Before.After(latest) {
		return PurgeRecord{}, fmt.Errorf("%w: Purge.Before is less than %d years ago", ErrRetention, retentionYears)
	}
	j.retaining.Lock()
	defer j.retaining.Unlock()
	hs, err := j.holds(ctx)
	if err != nil {
		return PurgeRecord{}, err
	}
	r, commitments, err := j.purgeable(ctx, p, hs)
	if err != nil || r.Segments == 0 {
		return PurgeRecord{}, err
	}
	s.Purge = &r
	if _, _, err := j.record(&s, nil); err != nil {
		return PurgeRecord{}, err
	}
	signed, err := j.keys.signPurge(&r, j.cfg.Now())
	if err != nil {
		return PurgeRecord{}, err
	}
	if err := writeFile(j.dir, purgedFile, signed, 0o600); err != nil {
		return PurgeRecord{}, err
	}
	for _, c := range commitments {
		if err := destroyFile(filepath.Join(j.dir, detailFolder), c); err != nil {
			return PurgeRecord{}, fmt.Errorf("remove a sealed detail: %w", err)
		}
	}
	names, err := j.disk.List()
	if err != nil {
		return PurgeRecord{}, err
	}
	have, err := segments(names)
	if err != nil {
		return PurgeRecord{}, err
	}
	_, err = removePurged(j.disk, have, r.Segments)
	return r, err
}

// purgeable returns which of the oldest segments may go, and the details that
// go with them.
func (j *Journal) purgeable(ctx context.Context, p Purge, hs *holds) (r PurgeRecord, commitments []string, err error) {
	names, err := j.disk.List()
	if err != nil {
		return r, nil, err
	}
	have, err := segments(names)
	if err != nil {
		return r, nil, err
	}
	passed, err := Cursors(j.dir)
	if err != nil {
		return r, nil, err
	}
	j.mu.Lock()
	current := j.seg.index
	j.mu.Unlock()
	w := newLineWriter()
	for i, index := range have {
		if index >= current {
			break
		}
		if err := ctx.Err(); err != nil {
			return r, nil, err
		}
		data, err := j.readSegment(index, -1)
		if err != nil {
			return r, nil, err
		}
		var details []string
		var last uint64 // of the events
		n := 0
		for ; ; n++ {
			text, rest := cutLine(data)
			if text == nil {
				break
			}
			data = rest
			f, err := w.parse(text)
			if err != nil {
				return r, nil, &CorruptError{File: segmentName(index), Problem: err.Error()}
			}
			if i == 0 && n == 0 {
				r.From = f.seq
			}
			if typ := Type(f.typ); typ != typeSegment && typ != typeCheckpoint {
				last = f.seq
			}
			if keep, commitment, err := j.kept(&f, text, p, hs); err != nil {
				return r, nil, unreadable(segmentName(index), 0, f.seq, err)
			} else if keep {
				return r, commitments, nil
			} else if commitment != "" {
				details = append(details, commitment)
			}
		}
		for name, pos := range passed {
			if pos.Writer != j.keys.writer || pos.Seq < last {
				j.log.Warn("audit: a purge waits for a sink", zap.String("sink", name))
				return r, commitments, nil
			}
		}
		for _, sink := range p.Required {
			if pos := sink.Passed(); pos.Writer != j.keys.writer || pos.Seq < last {
				return r, commitments, nil
			}
		}
		h, seq, err := headerAt(j.disk, index+1)
		if err != nil {
			return r, nil, err
		}
		t, err := h.tree(seq)
		if err != nil {
			return r, nil, err
		}
		if r.Root, err = t.root(); err != nil {
			return r, nil, err
		}
		r.Segments, r.Size = index, seq
		commitments = append(commitments, details...)
	}
	return r, commitments, nil
}

// kept reports whether a line keeps its segment, and the detail that goes with
// it otherwise.
func (j *Journal) kept(f *frame, text []byte, p Purge, hs *holds) (keep bool, commitment string, err error) {
	at, err := time.Parse(timeLayout, string(f.time))
	if err != nil {
		return false, "", errors.New("the line's time is malformed")
	}
	if !at.Before(p.Before) {
		return true, "", nil
	}
	if typ := Type(f.typ); typ == typeSegment || typ == typeCheckpoint {
		return false, "", nil
	}
	s, err := j.decoded(text)
	if err != nil {
		return false, "", err
	}
	if s.Detail != "" && s.Until.After(s.Time) && !s.Until.Before(p.Before) {
		return true, "", nil // a series of disclosures that ended later
	}
	if hs.of(s) != "" {
		return true, "", nil
	}
	if s.Part > 1 {
		return false, "", nil
	}
	return false, s.Detail, nil
}

// headerAt reads the header of a segment, and its sequence.
func headerAt(d Disk, index int) (*segmentHeader, uint64, error) {
	name := segmentName(index)
	f, err := d.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	data := make([]byte, maxLine)
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	text, _ := cutLine(data[:n])
	fr, err := newLineWriter().parse(text)
	if err != nil {
		return nil, 0, &CorruptError{File: name, Problem: err.Error()}
	}
	h, err := parseHeader(&fr)
	if err != nil {
		return nil, 0, unreadable(name, 0, fr.seq, err)
	}
	return h, fr.seq, nil
}

// removePurged removes the segments up to number last, oldest first, and
// returns those that are left.
func removePurged(d Disk, have []int, last int) ([]int, error) {
	removed := false
	for len(have) > 0 && have[0] <= last {
		if err := d.Remove(segmentName(have[0])); err != nil {
			return nil, err
		}
		have, removed = have[1:], true
	}
	if !removed {
		return have, nil
	}
	return have, d.Sync()
}

// finishPurge ends a purge that a crash cut short, and refuses a journal that
// lacks its oldest segments without having purged them.
func finishPurge(dir string, d Disk, have []int, k *keys) ([]int, error) {
	if len(have) == 0 {
		return have, nil
	}
	r, err := readPurge(dir, k.origin, k.verifiers())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = new(PurgeRecord)
	case err != nil:
		return nil, &CorruptError{File: purgedFile, Problem: err.Error()}
	}
	if have[0] > r.Segments+1 {
		return nil, &CorruptError{File: segmentName(have[0] - 1), Problem: "the segment is missing, and it was not purged"}
	}
	if r.Segments >= have[len(have)-1] {
		return nil, &CorruptError{File: segmentName(r.Segments + 1), Problem: "all segments of the journal that were not purged are gone"}
	}
	return removePurged(d, have, r.Segments)
}

// purgedThrough is the last segment that was purged, by the record in the
// folder, whose signature Open and Verify check.
func purgedThrough(d Disk) int {
	f, err := d.Open(purgedFile)
	if err != nil {
		return 0
	}
	defer f.Close()
	data := make([]byte, maxPurged)
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return 0
	}
	text, _, _ := bytes.Cut(data[:n], []byte("\n\n"))
	r, err := parsePurge(string(text)+"\n", "")
	if err != nil {
		return 0
	}
	return r.Segments
}

const maxPurged = 8 << 10

// signPurge returns the record as a C2SP signed note: a tlog-checkpoint over
// the lines that are gone, with two extension lines.
func (k *keys) signPurge(r *PurgeRecord, now time.Time) ([]byte, error) {
	text := string(log.Checkpoint{Origin: k.origin, Size: r.Size, Hash: r.Root}.Marshal()) +
		"time " + string(appendTime(nil, now)) + "\npurged " + strconv.Itoa(r.Segments) + " " + strconv.FormatUint(r.From, 10) + "\n"
	return note.Sign(&note.Note{Text: text}, k.now.Load().signer())
}

// readPurge returns the record in dir, signed by one of verifiers.
func readPurge(dir, origin string, verifiers []note.Verifier) (*PurgeRecord, error) {
	data, err := readSmall(dir, purgedFile)
	if err != nil {
		return nil, err
	}
	n, err := note.Open(data, note.VerifierList(verifiers...))
	if err != nil {
		return nil, errors.New("the record of what was purged is not signed by the journal")
	}
	return parsePurge(n.Text, origin)
}

// parsePurge reads the text of a record; an empty origin takes any.
func parsePurge(text, origin string) (*PurgeRecord, error) {
	bad := errors.New("the record of what was purged is malformed")
	var cp log.Checkpoint
	rest, err := cp.Unmarshal([]byte(text))
	if err != nil || origin != "" && cp.Origin != origin {
		return nil, bad
	}
	lines := strings.Split(string(rest), "\n")
	if len(lines) != 3 || lines[2] != "" || !strings.HasPrefix(lines[0], "time ") {
		return nil, bad
	}
	fields := strings.Split(lines[1], " ")
	if len(fields) != 3 || fields[0] != "purged" {
		return nil, bad
	}
	r := &PurgeRecord{Size: cp.Size, Root: cp.Hash}
	if r.Segments, err = strconv.Atoi(fields[1]); err != nil || r.Segments < 1 {
		return nil, bad
	}
	if r.From, err = strconv.ParseUint(fields[2], 10, 64); err != nil || r.From >= r.Size {
		return nil, bad
	}
	return r, nil
}

// A missingHead is what Verify knows of a journal that does not begin with its
// first segment.
type missingHead struct {
	index int    // of the first segment that is there; 0 where it is the first of all
	seq   uint64 // of its first line
	root  []byte // of the tree before it, as its header says; nil where it could not be read
}

// met notes the first line of the first segment that is there.
func (m *missingHead) met(index int, seq uint64, before tree) {
	if index != m.index {
		return
	}
	m.seq, m.root = seq, nil
	if root, err := before.root(); err == nil {
		m.root = root
	}
}

// explain says what is wrong with a head that is missing: nothing where the
// journal itself has purged it.
func (m *missingHead) explain(dir, origin string, verifiers []note.Verifier) (*PurgeRecord, string) {
	r, err := readPurge(dir, origin, verifiers)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "the segment is missing"
	case err != nil:
		return nil, "the segment is missing: " + err.Error()
	case m.index > r.Segments+1:
		return nil, fmt.Sprintf("the segment is missing: only those up to %s were purged", segmentName(r.Segments))
	case m.index == r.Segments+1 && (m.seq != r.Size || !bytes.Equal(m.root, r.Root)):
		return nil, "the segment is missing: what follows it is not what the record of what was purged names"
	}
	return r, ""
}

// purgeBody adds the record to the body of a line.
func appendPurge(b []byte, r *PurgeRecord) []byte {
	b = append(b, `,"purge":{"segments":`...)
	b = strconv.AppendInt(b, int64(r.Segments), 10)
	b = append(b, `,"from":`...)
	b = strconv.AppendUint(b, r.From, 10)
	b = append(b, `,"size":`...)
	b = strconv.AppendUint(b, r.Size, 10)
	b = append(b, `,"root":"`...)
	b = base64.RawURLEncoding.AppendEncode(b, r.Root)
	return append(b, `"}`...)
}

// purge returns the record of a line; nil where there is none.
func (l *linePurge) record() (*PurgeRecord, error) {
	if l == nil {
		return nil, nil
	}
	root, err := base64.RawURLEncoding.Strict().DecodeString(l.Root)
	if err != nil || len(root) != len(leaf{}) {
		return nil, errors.New("its record of what was purged is malformed")
	}
	return &PurgeRecord{Segments: l.Segments, From: l.From, Size: l.Size, Root: slices.Clone(root)}, nil
}

// linePurge is a PurgeRecord in a line.
type linePurge struct {
	Segments int    `json:"segments"`
	From     uint64 `json:"from"`
	Size     uint64 `json:"size"`
	Root     string `json:"root"`
}
