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

// maxLeap is the longest time between two lines that a purge believes. It is
// this project's choice: an open journal writes one each 15 minutes, and a
// month is longer than a journal in use stays closed.
const maxLeap = 31 * 24 * time.Hour

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

	// ClockChecked says that somebody has looked at the clock. Without it a
	// purge is refused with [ErrClock] where two lines of the last six years, or
	// the newest and now, are more than 31 days apart: a clock that is years
	// ahead would let everything go, and leaves such a gap. Where one of
	// Config.Clocks differs it is always refused.
	ClockChecked bool
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

	// Carried is the SHA-256 of what the purge carried forward for
	// [Journal.Replay]; nil where that is nothing.
	Carried []byte
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
// What [Journal.Replay] is for stays: the purge first carries forward the
// newest digests of records that live on, who was shredded, and what was merged,
// without actor or purpose, in a file whose hash is in the signed record. The
// digests between a record's first and its newest go, and so does what was
// deleted: storage.Check may then call a cell that was put back unrecorded
// instead of old, and a row that was, extra.
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
	if err := j.clocksAgree(); err != nil {
		return PurgeRecord{}, err
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
	if err := j.endPurge(); err != nil {
		return PurgeRecord{}, err
	}
	hs, err := j.holds(ctx)
	if err != nil {
		return PurgeRecord{}, err
	}
	old, err := j.purgeable(ctx, p, hs)
	r := old.record
	switch {
	case err != nil || r.Segments == 0:
		return PurgeRecord{}, err
	case old.leapt && !p.ClockChecked:
		return PurgeRecord{}, fmt.Errorf("%w, or nothing was recorded for more than %d days: check it, and set Purge.ClockChecked", ErrClock, int(maxLeap.Hours()/24))
	}
	if err := j.carry(ctx, &r); err != nil {
		return PurgeRecord{}, fmt.Errorf("carry forward what outlasts it: %w", err)
	}
	s.Purge = &r
	if _, _, err := j.record(&s, nil); err != nil {
		return PurgeRecord{}, err
	}
	// The details first: a purge that fails here goes on with the next, and a
	// hold is not too late for any line.
	for _, c := range old.details {
		if err := destroyFile(filepath.Join(j.dir, detailFolder), c); err != nil {
			return PurgeRecord{}, fmt.Errorf("remove a sealed detail: %w", err)
		}
	}
	signed, err := j.keys.signPurge(&r, j.cfg.Now())
	if err != nil {
		return PurgeRecord{}, err
	}
	if err := writeFile(j.dir, purgedFile, signed, 0o600); err != nil {
		return PurgeRecord{}, err
	}
	return r, j.endPurge()
}

// endPurge removes the segments that the record in the folder says are gone.
func (j *Journal) endPurge() error {
	r, err := readPurge(j.dir, j.keys.origin, j.keys.verifiers())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &CorruptError{File: purgedFile, Problem: err.Error()}
	}
	names, err := j.disk.List()
	if err != nil {
		return err
	}
	have, err := segments(names)
	if err != nil {
		return err
	}
	if _, err = removePurged(j.disk, have, r.Segments); err != nil {
		return err
	}
	return dropCarried(j.dir, r.Segments)
}

// clocksAgree refuses a clock that one of Config.Clocks contradicts.
func (j *Journal) clocksAgree() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.compared {
		if c.level == clockFar {
			return c.err()
		}
	}
	return nil
}

// A timeline finds leaps of the clock in lines that are read backward, segment
// by segment.
type timeline struct {
	since time.Time // what is older is not looked at
	next  time.Time // of the line behind those that are read
	leapt bool
}

func (l *timeline) read(data []byte) error {
	w := newLineWriter()
	next := l.next
	var last time.Time
	for len(data) > 0 {
		var text []byte
		text, data = cutLine(data)
		f, err := w.parse(text)
		if err != nil {
			return err
		}
		at, err := time.Parse(timeLayout, string(f.time))
		if err != nil {
			return err
		}
		if last.IsZero() {
			l.next = at
		}
		l.step(last, at)
		last = at
	}
	l.step(last, next)
	return nil
}

func (l *timeline) step(from, to time.Time) {
	l.leapt = l.leapt || !from.IsZero() && to.After(l.since) && to.Sub(from) > maxLeap
}

// A purgeable is what may go.
type purgeable struct {
	record  PurgeRecord
	details []string // commitments
	leapt   bool     // the clock may be ahead
}

// purgeable returns which of the oldest segments may go, and the details that
// go with them.
func (j *Journal) purgeable(ctx context.Context, p Purge, hs *holds) (settled purgeable, err error) {
	// Every line is proven from the newest backward before any may go: one that
	// was changed could say that it is old.
	var have []int
	ends := make(map[int]head)
	now := j.cfg.Now()
	times := timeline{since: now.AddDate(-retentionYears, 0, 0), next: now}
	e, err := j.newest()
	if err == nil {
		err = j.backward(ctx, e, func(index int, data []byte, to head) (bool, error) {
			have, ends[index] = append(have, index), to
			return true, times.read(data)
		})
	}
	if err != nil {
		return settled, err
	}
	slices.Reverse(have)
	passed, err := Cursors(j.dir)
	if err != nil {
		return settled, err
	}
	// An event may go on in the next segment, where a hold may hold it: what
	// goes is settled once every event that begins in it has ended.
	r := purgeable{leapt: times.leapt}
	begun := make(map[uint64]bool) // first sequences of events that have not ended
	for i := 0; i < len(have) && have[i] < e.index; i++ {
		if err := ctx.Err(); err != nil {
			return settled, err
		}
		s, err := j.oldSegment(have[i], ends[have[i]], p, hs, begun)
		if err != nil {
			return settled, err
		}
		if s.holdsBegun {
			return settled, nil
		}
		if r.record.Size == 0 {
			r.record.From = s.from
		}
		if s.kept || !j.everyonePassed(passed, p.Required, s.last) {
			if len(begun) == 0 { // else an event ends in a segment behind this one
				settled = r
			}
			return settled, nil
		}
		h, seq, err := headerAt(j.disk, have[i]+1)
		if err != nil {
			return settled, err
		}
		t, err := h.tree(seq)
		if err != nil {
			return settled, err
		}
		if r.record.Root, err = t.root(); err != nil {
			return settled, err
		}
		r.record.Segments, r.record.Size = have[i], seq
		r.details = append(r.details, s.details...)
		for first := range s.begun {
			begun[first] = true
		}
		if len(begun) == 0 {
			settled = r
		}
	}
	return settled, nil
}

// everyonePassed reports whether each sink has passed the line seq.
func (j *Journal) everyonePassed(cursors map[string]Position, required []Passer, seq uint64) bool {
	for name, pos := range cursors {
		if pos.Writer != j.keys.writer || pos.Seq < seq {
			j.log.Warn("audit: a purge waits for a sink", zap.String("sink", name))
			return false
		}
	}
	return !slices.ContainsFunc(required, func(sink Passer) bool {
		pos := sink.Passed()
		return pos.Writer != j.keys.writer || pos.Seq < seq
	})
}

// An oldSegment is what Purge wants to know of a segment.
type oldSegment struct {
	from, last uint64 // sequences of the first line and of the last event
	kept       bool   // a line of it has to stay
	holdsBegun bool   // one of an event that began before it
	details    []string
	begun      map[uint64]bool // events that go on in the next
}

// oldSegment reads a segment, which ends at to, and takes out of begun what ends
// in it.
func (j *Journal) oldSegment(index int, to head, p Purge, hs *holds, begun map[uint64]bool) (s oldSegment, err error) {
	data, err := j.readSegment(index, -1)
	if err != nil {
		return s, err
	}
	if _, err := follow(segmentName(index), data, to); err != nil {
		return s, err
	}
	s.begun = make(map[uint64]bool)
	w := newLineWriter()
	for n := 0; len(data) > 0; n++ {
		var text []byte
		text, data = cutLine(data)
		f, err := w.parse(text)
		if err != nil {
			return s, &CorruptError{File: segmentName(index), Problem: err.Error()}
		}
		if n == 0 {
			s.from = f.seq
		}
		if typ := Type(f.typ); typ != typeSegment && typ != typeCheckpoint {
			s.last = f.seq
		}
		keep, commitment, err := j.kept(&f, text, p, hs)
		if err != nil {
			return s, unreadable(segmentName(index), 0, f.seq, err)
		}
		s.kept = s.kept || keep
		if commitment != "" {
			s.details = append(s.details, commitment)
		}
		if f.batch.parts < 2 {
			continue
		}
		ended := f.batch.part == f.batch.parts
		switch first := f.batch.first; {
		case begun[first]:
			s.holdsBegun = s.holdsBegun || keep
			if ended {
				delete(begun, first)
			}
		case ended:
			delete(s.begun, first)
		default:
			s.begun[first] = true
		}
	}
	return s, nil
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
	if have, err = removePurged(d, have, r.Segments); err != nil {
		return nil, err
	}
	return have, dropCarried(dir, r.Segments)
}

// signPurge returns the record as a C2SP signed note: a tlog-checkpoint over
// the lines that are gone, with two extension lines, and a third where
// something was carried forward.
func (k *keys) signPurge(r *PurgeRecord, now time.Time) ([]byte, error) {
	text := string(log.Checkpoint{Origin: k.origin, Size: r.Size, Hash: r.Root}.Marshal()) +
		"time " + string(appendTime(nil, now)) + "\npurged " + strconv.Itoa(r.Segments) + " " + strconv.FormatUint(r.From, 10) + "\n"
	if r.Carried != nil {
		text += "carried " + base64.StdEncoding.EncodeToString(r.Carried) + "\n"
	}
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
	r := &PurgeRecord{Size: cp.Size, Root: cp.Hash}
	if len(lines) == 4 {
		text, ok := strings.CutPrefix(lines[2], "carried ")
		if r.Carried, err = base64.StdEncoding.Strict().DecodeString(text); !ok || err != nil || len(r.Carried) != len(leaf{}) {
			return nil, bad
		}
		lines = slices.Delete(lines, 2, 3)
	}
	if len(lines) != 3 || lines[2] != "" || !strings.HasPrefix(lines[0], "time ") {
		return nil, bad
	}
	fields := strings.Split(lines[1], " ")
	if len(fields) != 3 || fields[0] != "purged" {
		return nil, bad
	}
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
	if r.Carried != nil {
		b = append(b, `","carried":"`...)
		b = base64.RawURLEncoding.AppendEncode(b, r.Carried)
	}
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
	r := &PurgeRecord{Segments: l.Segments, From: l.From, Size: l.Size, Root: slices.Clone(root)}
	if l.Carried != "" {
		if r.Carried, err = base64.RawURLEncoding.Strict().DecodeString(l.Carried); err != nil || len(r.Carried) != len(leaf{}) {
			return nil, errors.New("its record of what was purged is malformed")
		}
	}
	return r, nil
}

// linePurge is a PurgeRecord in a line.
type linePurge struct {
	Segments int    `json:"segments"`
	From     uint64 `json:"from"`
	Size     uint64 `json:"size"`
	Root     string `json:"root"`
	Carried  string `json:"carried"`
}
