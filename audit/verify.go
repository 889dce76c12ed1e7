// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// unsignedFor is how long a journal may go on unsigned once it grows. A writer
// signs what it wrote within a minute (see Config.CheckpointEvery), and after a
// heartbeat where it wrote nothing; what is older and unsigned has nobody who
// vouches for it.
const unsignedFor = 2 * time.Minute

// VerifyConfig configures [Verify]. Its zero value takes the public key that
// lies in the folder.
type VerifyConfig struct {
	// Verifier is the journal's public key, as in its verifier.pub, from
	// somewhere that whoever can write to the folder cannot reach. Empty means
	// the key in the folder: the report then says so, for whoever replaces the
	// whole journal replaces its key too. Of several, a line each, those with
	// the journal's origin count; one that the journal was ever signed with is
	// enough, for each next one is vouched for by the one before.
	Verifier string

	// Anchors are the journal's length and root as witnesses saw them; see
	// package audit/witness. Those of other origins are left out by Verify;
	// [VerifyAll] reports them. Empty means that the journal is unwitnessed.
	Anchors []Anchor

	// Progress, where set, is called now and then with the bytes read and the
	// bytes to read, never twice at once.
	Progress func(done, total int64)
}

// A Report is what [Verify] found: its verdicts on integrity (Defects),
// authenticity (KeyFromFolder) and Completeness, and what it counted.
type Report struct {
	Dir           string
	Origin        string // names the journal in its checkpoints
	Verifier      string // the public key that the newest signature was checked with
	KeyFromFolder bool   // the keys were found in the folder, not given

	Segments     int
	Lines        uint64 // events, headers and checkpoints
	Events       uint64
	Checkpoints  uint64
	OpenAttempts uint64    // writes whose outcome is not recorded here: it may lie with another writer, or in storage.Check
	Unknown      uint64    // events of a newer release: checked as all others, though this one does not know what they say
	Unsigned     uint64    // lines after the last checkpoint, which are only chained
	GivenUp      int       // segments given up after a failed sync; nothing acknowledged was lost with them
	First, Last  time.Time // of the lines, by the writer's clock
	FirstSeq     uint64    // of the first line in the folder: over 0 where older segments were purged

	// Purged is what the journal itself removed, by the record that it signed;
	// nil where it has all its lines. That its oldest lines are gone otherwise
	// is a defect.
	Purged *PurgeRecord

	Completeness Completeness

	// Silences are the times in which the journal signed nothing though it was
	// not closed. Each has an innocent reason, such as a crash, and is no
	// defect; but a tail that was cut off looks the same. After the first
	// hundred no more are listed.
	Silences []Silence

	// Defects is empty where every line is the one that was written, in its
	// place, and signed for, and no two say of a write that it was committed and
	// that it was rolled back. After the first hundred no more are listed.
	Defects []Defect
}

// Witnessed reports whether somebody outside confirmed the journal's length.
// Without a witness a cut tail cannot be seen.
func (r *Report) Witnessed() bool { return r.Completeness.Length == Witnessed }

// Broken reports whether any verdict is a defect: of integrity, or a journal
// that is not the one that a witness saw.
func (r *Report) Broken() bool { return len(r.Defects) > 0 || !r.Completeness.holds() }

// A Defect is one place where a journal is not what was written.
type Defect struct {
	File    string `json:"file"`   // name in the folder
	Offset  int64  `json:"offset"` // in bytes
	Seq     uint64 `json:"sequence"`
	Problem string `json:"problem"`
}

func (d Defect) String() string {
	return fmt.Sprintf("%s: offset %d: sequence %d: %s", d.File, d.Offset, d.Seq, d.Problem)
}

const maxDefects = 100

// Verify checks the journal in dir without its keys: that every line is whole
// and chained to the one before, that the signed checkpoints cover exactly
// these lines, and that no segment is missing. It takes no lock: the journal
// may be in use. It reads raw bytes and decodes no event.
//
// What it finds wrong is in the report; an error means that it could not run.
func Verify(ctx context.Context, dir string, cfg VerifyConfig) (Report, error) {
	v, err := verify(ctx, dir, cfg)
	if err != nil {
		return Report{}, err
	}
	return v.finish(), nil
}

func verify(ctx context.Context, dir string, cfg VerifyConfig) (*verification, error) {
	for try := 1; ; try++ {
		v := newVerification(ctx, dir, cfg)
		err := v.run()
		if errors.Is(err, errMoved) && try < 10 { // a purge went on meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("audit: verify %s: %w", dir, err)
		}
		return v, nil
	}
}

// errMoved means that a segment went while the folder was read.
var errMoved = errors.New("the folder's files change while they are read: verify again when nobody moves them")

func newVerification(ctx context.Context, dir string, cfg VerifyConfig) *verification {
	return &verification{
		ctx: ctx, dir: dir, cfg: cfg, lines: newLineWriter(), buf: make([]byte, 0, 1<<20),
		open: make(map[uint64]struct{}), undone: make(map[uint64]struct{}), foreign: make(map[string]outcome), roots: make(map[uint64]leaf),
		report: Report{Dir: dir},
	}
}

// ParseVerifier reads a public key as it stands in a journal's verifier.pub,
// or several, a line each.
func ParseVerifier(text []byte) (string, error) {
	keys := strings.Fields(string(text))
	for _, key := range keys {
		if _, err := note.NewVerifier(key); err != nil {
			keys = nil
			break
		}
	}
	if len(keys) == 0 {
		return "", errors.New("audit: read public key: it is not a C2SP note verifier key: take the journal's verifier.pub")
	}
	return strings.Join(keys, "\n"), nil
}

type verification struct {
	ctx      context.Context
	dir      string
	cfg      VerifyConfig
	lines    *lineWriter
	origin   string
	known    *keyring
	keys     keyChain
	verifier note.Verifier // the key in use where the chain stands
	head     missingHead
	writer   string
	report   Report
	open     map[uint64]struct{} // attempts without an outcome
	undone   map[uint64]struct{} // attempts that were rolled back
	foreign  map[string]outcome  // attempts of other writers that have theirs here
	lost     bool                // there are other defects than outcomes: an attempt may be one of them

	anchors []Anchor        // of this journal
	sizes   map[uint64]bool // of the anchors: their roots are wanted
	roots   map[uint64]leaf // those that are known

	buf     []byte // for reading, 1 MiB
	careful bool   // read every segment as one that is unsound

	telling     sync.Mutex // held while Progress is called
	done, total int64

	chain chainState
}

// A lineTime is the time of a line, as it stands there.
type lineTime [len(timeLayout)]byte

// A chainState is where the chain stands while it is followed. Its tree is
// built from what each line says of the one before it: a changed line is then
// one defect, and the next checkpoint still tells whether all else is as it
// was signed.
type chainState struct {
	started bool
	seq     uint64 // of the line to come
	prev    leaf   // of the line before it, as computed
	known   bool   // prev is known: the line before could be read
	at      Defect // where the line before it stands
	tree    tree   // of the lines before the line before; r is nil where unknown

	signedAt time.Time // of the newest good checkpoint
	pulse    pulse
	unsigned uint64
	since    lineTime // of the first unsigned line
	lastTime lineTime // of the newest line
}

func (v *verification) run() error {
	names, err := folder(v.dir).List()
	if err != nil {
		return err
	}
	if err := v.key(); err != nil {
		return err
	}
	v.writer = strings.TrimPrefix(v.origin, originPrefix)
	var indexes []int
	for _, name := range names {
		if index, ok := segmentIndex(name); ok {
			indexes = append(indexes, index)
			if info, err := os.Stat(filepath.Join(v.dir, name)); err == nil {
				v.total += info.Size()
			}
		}
	}
	if len(indexes) == 0 {
		return errors.New("there is no journal: no segment is in the folder" + insteadOf(segmentName(1), names))
	}
	want := 1              // ReadDir sorts
	if indexes[0] > want { // purged, or lost: which is seen at the end
		want, v.head.index = indexes[0], indexes[0]
	}
	err = v.sums(indexes, func(index int, last bool, s segmentSum) error {
		if index != want {
			v.defect(Defect{File: segmentName(want), Seq: v.chain.seq, Problem: "the segment is missing" + insteadOf(segmentName(want), names)})
			v.chain = v.chain.gone()
		}
		want = index + 1
		if !v.careful && v.join(&s) {
			return nil
		}
		return v.segment(index, last)
	})
	if err != nil {
		return err
	}
	v.checkKeys()
	if err := v.checkHead(); err != nil {
		return err
	}
	r := &v.report
	r.Unsigned = v.chain.unsigned
	d := v.chain.at
	if v.chain.lastTime == (lineTime{}) {
		return nil // no line could be read
	}
	if r.Last, err = time.Parse(timeLayout, string(v.chain.lastTime[:])); err != nil {
		d.Problem = "the line's time is malformed"
		v.defect(d)
	}
	if r.Unsigned > 0 {
		since, err := time.Parse(timeLayout, string(v.chain.since[:]))
		if err != nil || r.Last.Sub(since) > unsignedFor || since.Sub(v.chain.signedAt) > heartbeat+unsignedFor {
			d.Problem = fmt.Sprintf("the last %d lines go on for longer than a journal does without a checkpoint: nobody signed for them", r.Unsigned)
			v.defect(d)
		}
	}
	c := &v.chain
	if c.tree.r != nil && c.known && c.tree.size()+1 == c.seq && v.wants(c.seq) {
		if err := c.tree.add(&c.prev); err != nil {
			return err
		}
		v.root(c.seq)
	}
	return nil
}

// finish makes the report, once it is known what other journals settle.
func (v *verification) finish() Report {
	v.report.OpenAttempts = uint64(len(v.open))
	v.report.Completeness = completeness(v.anchors, v.chain.seq, v.roots)
	return v.report
}

// wants reports whether the root of the first size lines is asked for.
func (v *verification) wants(size uint64) bool { return len(v.sizes) > 0 && v.sizes[size] }

// root keeps the root of the chain's tree, which is of size lines.
func (v *verification) root(size uint64) {
	t := v.chain.tree
	if t.r == nil || t.size() != size {
		return
	}
	if root, err := t.root(); err == nil {
		v.roots[size] = leaf(root)
	}
}

// advance tells how far the reading is.
func (v *verification) advance(n int64) {
	if v.cfg.Progress == nil {
		return
	}
	v.telling.Lock()
	defer v.telling.Unlock()
	v.done += n
	v.cfg.Progress(min(v.done, v.total), v.total)
}

// key finds the public key.
func (v *verification) key() error {
	r := &v.report
	data, err := readSmall(v.dir, verifierFile)
	found := strings.Fields(string(data)) // oldest first
	var trusted []string
	if v.cfg.Verifier == "" {
		if err != nil {
			return fmt.Errorf("there is no public key: %w: give one", err)
		}
		r.KeyFromFolder = true
	} else {
		given := strings.Fields(v.cfg.Verifier)
		if len(given) == 0 {
			return errors.New("the public key that was given is empty")
		}
		if len(found) > 0 {
			name, _, _ := strings.Cut(found[0], "+")
			for _, key := range given {
				if strings.HasPrefix(key, name+"+") {
					trusted = append(trusted, key)
				}
			}
		}
		if len(trusted) == 0 {
			trusted = given[:1]
		}
		if err == nil && !overlap(found, trusted) {
			v.defect(Defect{File: verifierFile, Problem: "the public key in the folder is not the one that was given"})
		}
	}
	if v.known, err = newKeyring(found, trusted); err != nil && len(trusted) > 0 {
		v.defect(Defect{File: verifierFile, Problem: "it has something else than the public keys of this journal"})
		v.known, err = newKeyring(nil, trusted)
	}
	if err != nil {
		return fmt.Errorf("the public key is not a C2SP note verifier key (%s)", verifierFile)
	}
	v.verifier = v.known.verifiers[0]
	r.Verifier, r.Origin = v.known.texts[0], v.verifier.Name()
	v.origin = r.Origin
	v.anchors = anchorsOf(v.cfg.Anchors, r.Origin)
	v.roots[0] = emptyRoot()
	v.sizes = make(map[uint64]bool)
	for _, a := range v.anchors {
		v.sizes[a.Size] = true
	}
	return nil
}

func (v *verification) defect(d Defect) {
	v.lost = true
	if len(v.report.Defects) < maxDefects {
		v.report.Defects = append(v.report.Defects, d)
	}
}

// segment verifies one segment. Of a sound one it checks the first and the
// last signature, whose trees cover the other checkpoints; where anything is
// wrong it starts over and checks them all, to say where.
func (v *verification) segment(index int, last bool) error {
	before, report, keys, verifier := v.chain, v.report, v.keys, v.verifier
	defects, silences := len(report.Defects), len(report.Silences)
	opened, undone, foreign, lost := maps.Clone(v.open), maps.Clone(v.undone), maps.Clone(v.foreign), v.lost
	if before.tree.r != nil {
		t, err := before.tree.clone()
		if err != nil {
			return err
		}
		before.tree = t
	}
	if err := v.pass(index, last, false); err != nil || len(v.report.Defects) == defects {
		return err
	}
	report.Defects, report.Silences = report.Defects[:defects:defects], report.Silences[:silences:silences]
	v.chain, v.report, v.keys, v.verifier = before, report, keys, verifier
	v.open, v.undone, v.foreign, v.lost = opened, undone, foreign, lost
	return v.pass(index, last, true)
}

// pass reads one segment.
func (v *verification) pass(index int, last, every bool) error {
	name := segmentName(index)
	f, info, err := openRegular(v.dir, name)
	if errors.Is(err, errIrregular) {
		v.defect(Defect{File: name, Seq: v.chain.seq, Problem: err.Error()})
		v.chain = v.chain.gone()
		v.report.Segments++
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone", errMoved, name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	end := info.Size()
	if end > maxSegment {
		v.defect(Defect{File: name, Offset: maxSegment, Seq: v.chain.seq, Problem: fmt.Sprintf("it has %d bytes, more than any segment: what stands behind is not looked at", end)})
		end = maxSegment
	}
	if !last {
		if cut := headerCut(v.dir, index+1); cut > 0 {
			v.report.GivenUp++
			end = min(end, cut)
		}
	}
	v.report.Segments++
	s := segmentPass{verification: v, name: name, last: last, every: every, r: newLineReader(f, end, v.buf[:0])}
	return s.run()
}

// A segmentPass is one reading of one segment.
type segmentPass struct {
	*verification
	name  string
	last  bool // the journal's last segment: somebody may be writing it
	every bool // check every signature
	r     *lineReader

	header *segmentHeader
	n      int      // lines read
	sealed bool     // the last line is a checkpoint
	mark   struct { // the newest checkpoint whose signature was not checked
		at    Defect
		frame frame
		tree  tree
	}
}

func (s *segmentPass) run() error {
	for {
		if s.n%4096 == 0 {
			if err := s.ctx.Err(); err != nil {
				return err
			}
		}
		at := Defect{File: s.name, Offset: s.r.offset(), Seq: s.chain.seq}
		text, state, err := s.next()
		if err != nil {
			return err
		}
		if state == atEnd {
			break
		}
		if s.n == 0 {
			at.Problem = packed(s.r.head())
			stop := at.Problem != ""
			if stop {
				s.defect(at)
				s.chain = s.chain.gone()
			} else if state == atLine {
				if stop, err = s.foreign(at, text); err != nil {
					return err
				}
			}
			if stop {
				return nil
			}
			at.Problem = ""
		}
		if state == atRemains {
			more, err := s.r.skip()
			if err != nil {
				return err
			}
			at.Problem = "the line cannot be read: bytes of it were overwritten"
			if !more && !s.last {
				at.Problem = "the line has no end: the segment was cut off, or damaged"
			} else if !more {
				at.Problem = "the last line is unfinished: a crash cut it off, or it was damaged: opening the journal tells, and records journal.recovered"
			}
			s.unreadable(at)
			if !more {
				break
			}
			continue
		}
		s.line(at, text)
		s.n++
	}
	s.checkMark()
	if s.r.offset() == 0 {
		s.defect(Defect{File: s.name, Seq: s.chain.seq, Problem: noLine})
		s.chain = s.chain.gone()
		return nil
	}
	if s.n == 1 {
		s.defect(Defect{File: s.name, Offset: s.r.offset(), Seq: s.chain.seq, Problem: noCheckpoint})
	}
	if s.last && s.completed() {
		if _, err := os.Stat(filepath.Join(s.dir, segmentName(s.index()+1))); err != nil { // nobody went on in the meantime
			s.defect(Defect{File: segmentName(s.index() + 1), Seq: s.chain.seq, Problem: "the segment is missing: the one before it was completed"})
		}
	}
	// A segment that was given up ends at its cut, without a checkpoint: the
	// next header, which is signed, says so.
	if !s.last && !s.sealed && headerCut(s.dir, s.index()+1) == 0 {
		d := s.chain.at
		d.Problem = "the segment does not end with a checkpoint"
		s.defect(d)
	}
	return nil
}

// completed reports whether nothing can follow in the segment: it ends with its
// checkpoint, short of the size that its header has, for a journal that goes on
// in the next one trims it. One that was closed goes on in the same, and zeros
// that a copy lost say nothing. File modes are not asked: each copy has its own.
func (s *segmentPass) completed() bool {
	return s.sealed && !s.chain.pulse.closed && s.header != nil && s.r.trimmed(s.header)
}

func (s *segmentPass) index() int { i, _ := segmentIndex(s.name); return i }

// next returns the next line. What is unfinished at the end of a journal in
// use is looked at again: it may be a write in the making, which ends with a
// newline.
func (s *segmentPass) next() (text []byte, state readState, err error) {
	const pause = 50 * time.Millisecond
	tries := 1
	for try := 0; ; try++ {
		text, state, err = s.r.next()
		if try == 0 && state == atRemains && s.last && folderInUse(s.dir) {
			tries = 20
		}
		if err != nil || state != atRemains || !s.last || s.every || try == tries || try > 0 && s.r.hasNewline() {
			return text, state, err
		}
		if try > 0 {
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
				return nil, state, s.ctx.Err()
			}
		}
		s.r.reread()
	}
}

// line follows the chain over one line.
func (s *segmentPass) line(at Defect, text []byte) {
	c := &s.chain
	f, err := s.lines.parse(text)
	if err != nil {
		at.Problem = reencoded(text, err)
		s.unreadable(at)
		return
	}
	if s.n == 0 {
		s.begin(at, &f)
	}
	switch {
	case !c.started: // the header was unreadable: start from here
		*c = chainState{started: true, seq: f.seq, prev: f.prev, known: true, at: at}
	case f.seq < c.seq:
		at.Seq = f.seq
		at.Problem = fmt.Sprintf("the line is out of place: sequence %d was expected: it was inserted, moved or repeated", c.seq)
		s.defect(at)
		return
	case f.seq > c.seq:
		d := at
		d.Problem = fmt.Sprintf("%d lines are missing before sequence %d", f.seq-c.seq, f.seq)
		if f.seq == c.seq+1 {
			d.Problem = fmt.Sprintf("a line is missing before sequence %d", f.seq)
		}
		s.defect(d)
		s.gap(f.seq)
	}
	at.Seq = f.seq
	if c.known && f.prev != c.prev {
		d := c.at
		d.Problem = fmt.Sprintf("the line, or sequence %d after it, was changed: they are not chained", f.seq)
		s.defect(d)
	}
	// What this line says of the one before is what was signed for.
	if c.tree.r != nil && c.tree.size()+1 == f.seq {
		if err := c.tree.add(&f.prev); err != nil {
			c.tree = tree{}
		}
	}
	if s.wants(f.seq) {
		s.root(f.seq)
	}
	own := s.lines.leaf(text)
	s.count(at, &f)
	s.step(at, own, true)
}

// unreadable goes on behind a line that says nothing.
func (s *segmentPass) unreadable(at Defect) {
	s.defect(at)
	s.sealed, s.chain.pulse.unknown = false, true
	s.assume(s.chain.seq)
	s.step(at, leaf{}, false)
}

// assume adds the line before sequence seq to the tree by its computed leaf,
// where the line at seq does not name it.
func (s *segmentPass) assume(seq uint64) {
	c := &s.chain
	if c.tree.r == nil || !c.known || c.tree.size()+1 != seq || c.tree.add(&c.prev) != nil {
		c.tree = tree{}
	}
}

// begin reads the header of the segment.
func (s *segmentPass) begin(at Defect, f *frame) {
	h, err := parseHeader(f)
	if err == nil && (h.Segment != s.index() || h.Writer != s.writer || h.Origin != s.origin) {
		err = errors.New("the header is that of another segment or journal")
	}
	var t tree
	if err == nil {
		t, err = h.tree(f.seq)
	}
	if errors.Is(err, ErrNewer) {
		err = errors.New("the header was changed: the checkpoint behind it is over another")
	}
	if err != nil {
		at.Problem = err.Error()
		s.defect(at)
		return
	}
	s.header = h
	c := &s.chain
	if !c.started { // the first segment, or one behind a missing one
		if f.seq == 0 && f.prev != (leaf{}) {
			at.Problem = "the first line follows another"
			s.defect(at)
		}
		s.head.met(h.Segment, f.seq, t)
		*c = chainState{started: true, seq: f.seq, prev: f.prev, known: true, at: at, tree: t, signedAt: c.signedAt, lastTime: c.lastTime}
		return
	}
	// The tree so far lacks the last line of the segment before: the header
	// names it by prev.
	if c.tree.r != nil && c.tree.size()+1 == f.seq {
		have, err := c.tree.clone()
		if err == nil {
			err = have.add(&f.prev)
		}
		if err == nil && strings.Join(rangeText(have), " ") != strings.Join(h.Range, " ") {
			at.Problem = "the header's tree is not that of the segments before it"
			s.defect(at)
		}
	}
	if f.seq == c.seq {
		c.tree = t // with the line before: add nothing more for it
	}
}

// gap goes on behind missing lines.
func (s *segmentPass) gap(seq uint64) {
	c := &s.chain
	if seq == c.seq+1 { // this line names the missing one's leaf
		s.assume(c.seq)
	} else {
		c.tree = tree{}
	}
	c.seq, c.known, c.pulse.unknown = seq, false, true
}

// step goes on to the next line.
func (s *segmentPass) step(at Defect, own leaf, known bool) {
	c := &s.chain
	c.seq, c.prev, c.known, c.at = c.seq+1, own, known, at
	s.report.Lines++
}

// count takes note of what the line is.
func (s *segmentPass) count(at Defect, f *frame) {
	c := &s.chain
	if s.report.First.IsZero() {
		s.report.First, s.report.FirstSeq = s.time(at, f), f.seq
	}
	if bytes.Compare(f.time, c.lastTime[:]) < 0 && !f.isStep() {
		d := at
		d.Problem = "the line is older than the one before it, and no change of the clock is recorded"
		s.defect(d)
	}
	copy(c.lastTime[:], f.time)
	if c.unsigned++; c.unsigned == 1 {
		c.since = c.lastTime
	}
	s.sealed = Type(f.typ) == typeCheckpoint
	c.pulse.line(f)
	switch Type(f.typ) {
	case typeSegment:
		if s.n != 0 {
			at.Problem = "a header stands inside the segment"
			s.defect(at)
		}
		return
	case typeCheckpoint:
		s.checkpoint(at, f, s.time(at, f))
		return
	}
	if s.n == 1 {
		at.Problem = "the header has no checkpoint"
		s.defect(at)
	}
	if f.batch.part > 1 {
		return
	}
	s.report.Events++
	switch Type(f.typ) {
	case JournalKeyRotated:
		if err := s.keys.announce(f, s.verifier); err != nil {
			at.Problem = err.Error()
			s.defect(at)
		}
	case WriteAttempt, PolicyChanged, RelationChanged, DirectiveChanged:
		s.open[f.seq] = struct{}{}
	case Committed, RolledBack:
		if o, ok := outcomeOf(at, f); ok {
			s.settle(o)
		}
	default:
		if !Type(f.typ).known() {
			s.report.Unknown++
		}
	}
}

// time reads the time of a line.
func (s *segmentPass) time(at Defect, f *frame) time.Time {
	t, err := time.Parse(timeLayout, string(f.time))
	if err != nil {
		at.Problem = "the line's time is malformed"
		s.defect(at)
	}
	return t
}

// checkpoint checks a checkpoint against the lines before it.
func (s *segmentPass) checkpoint(at Defect, f *frame, now time.Time) {
	s.report.Checkpoints++
	c := &s.chain
	if c.tree.r == nil || c.tree.size() != f.seq {
		return // the reason is a defect already
	}
	sign := s.every || s.n == 1 || s.keys.next != nil
	var signers []note.Verifier
	if sign {
		if len(s.keys.met) == 0 {
			s.start(s.known.signer(f, c.tree))
		}
		signers = s.keys.signers(s.verifier)
	}
	signedAt := c.signedAt
	c.unsigned, c.signedAt = 0, now
	s.beat(at, &c.pulse, now)
	if err := checkCheckpoint(f, c.tree, s.origin, signers...); err != nil {
		at.Problem = err.Error()
		if errors.Is(err, errRoot) {
			at.Problem = fmt.Sprintf("the lines before the checkpoint are not those that were signed: something after %s was changed and chained anew",
				sinceText(signedAt))
			c.tree = tree{}
		}
		s.defect(at)
		return
	}
	if sign {
		s.verifier = s.keys.follow(s.verifier)
		s.mark.tree = tree{}
		return
	}
	if t, err := c.tree.clone(); err == nil {
		s.mark.at, s.mark.tree, s.mark.frame = at, t, f.clone()
	}
}

// checkMark checks the signature of the segment's last checkpoint.
func (s *segmentPass) checkMark() {
	if s.mark.tree.r == nil {
		return
	}
	if err := checkCheckpoint(&s.mark.frame, s.mark.tree, s.origin, s.verifier); err != nil {
		s.mark.at.Problem = err.Error()
		s.defect(s.mark.at)
	}
}

func sinceText(t time.Time) string {
	if t.IsZero() {
		return "the beginning"
	}
	return t.Format(time.RFC3339)
}

func (f *frame) clone() frame {
	out := *f
	out.time, out.typ, out.rest = bytes.Clone(f.time), bytes.Clone(f.typ), bytes.Clone(f.rest)
	return out
}

// A readState says what a lineReader stands at.
type readState int

const (
	atLine    readState = iota
	atEnd               // zeros, or nothing
	atRemains           // neither a line nor the end
)

// A lineReader reads the lines of a segment of which size bytes count.
type lineReader struct {
	f    io.ReaderAt
	size int64
	buf  []byte
	from int   // of what is not read yet in buf
	base int64 // offset of buf[0]
}

func newLineReader(f io.ReaderAt, size int64, buf []byte) *lineReader {
	return &lineReader{f: f, size: size, buf: buf}
}

// trimmed reports whether the segment of the header ends here, short of its size.
func (r *lineReader) trimmed(h *segmentHeader) bool {
	return r.offset() == r.size && r.size < h.Size
}

// offset is that of the next line.
func (r *lineReader) offset() int64 { return r.base + int64(r.from) }

// head returns what the segment starts with.
func (r *lineReader) head() []byte { return readAt(r.f, 0, 8) }

// reread forgets what was read ahead.
func (r *lineReader) reread() { r.base, r.buf, r.from = r.offset(), r.buf[:0], 0 }

// hasNewline reports whether a newline follows in what was read.
func (r *lineReader) hasNewline() bool { return bytes.IndexByte(r.buf[r.from:], '\n') >= 0 }

// fill reads more behind what is not read yet and reports whether there was
// any.
func (r *lineReader) fill() (bool, error) {
	r.base += int64(r.from)
	r.buf = r.buf[:copy(r.buf[:cap(r.buf)], r.buf[r.from:])]
	r.from = 0
	have := len(r.buf)
	free := r.buf[have:cap(r.buf)]
	free = free[:min(int64(len(free)), max(0, r.size-r.base-int64(have)))]
	n, err := r.f.ReadAt(free, r.base+int64(have))
	if err == io.EOF {
		err = nil
	}
	r.buf = r.buf[:have+n]
	return n > 0, err
}

// next returns the next line without its newline; it is good until the call
// after.
func (r *lineReader) next() ([]byte, readState, error) {
	for {
		rest := r.buf[r.from:]
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			if bytes.IndexByte(rest[:i], 0) >= 0 {
				return nil, atRemains, nil
			}
			r.from += i + 1
			return rest[:i], atLine, nil
		}
		if len(rest) > 0 && rest[0] == 0 {
			zero, err := r.restIsZero()
			if err != nil || !zero {
				return nil, atRemains, err
			}
			return nil, atEnd, nil
		}
		more := len(rest) <= maxLine
		if more {
			var err error
			if more, err = r.fill(); err != nil {
				return nil, atEnd, err
			}
		}
		if !more && len(rest) == 0 {
			return nil, atEnd, nil
		}
		if !more {
			return nil, atRemains, nil
		}
	}
}

// skip moves behind the next newline and reports whether there was one.
func (r *lineReader) skip() (bool, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.from:], '\n'); i >= 0 {
			r.from += i + 1
			return true, nil
		}
		r.from = len(r.buf)
		if more, err := r.fill(); err != nil || !more {
			return false, err
		}
	}
}

func (r *lineReader) restIsZero() (bool, error) {
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := r.offset(); at < r.size; {
		n, err := r.f.ReadAt(buf[:min(int64(len(buf)), r.size-at)], at)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			return false, nil
		}
		at += int64(n)
		if err == io.EOF || n == 0 {
			break
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
