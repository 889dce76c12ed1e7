// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A segment can be read without those before it, for its header has the tree
// of all lines before. Verify therefore reads several at once, each by a
// segmentSum, and then joins them in order. A segmentSum is sound only where
// not one byte is out of place; any other segment is read again by a
// segmentPass, slowly, which says what is wrong and where.

// A segmentSum is what one reading of a sound segment found.
type segmentSum struct {
	sound bool

	writer string // of the header, as it says
	origin string
	key    int // which of the known keys signed its checkpoints
	start  chainStart
	at     Defect // where its last line stands
	seq    uint64 // after its last line
	last   leaf   // of its last line
	tree   tree   // of all lines before its last

	lines, events, checkpoints, unknown uint64
	givenUp                             bool

	first     time.Time
	firstTime lineTime
	lastTime  lineTime
	since     lineTime  // of the first line after its newest checkpoint
	signedAt  time.Time // of its newest checkpoint
	unsigned  uint64
	attempts  []uint64  // sequences
	settled   []outcome // of attempts of any writer
	firstSign time.Time // of its first checkpoint
	pulse     pulse
	silences  []Silence
	roots     map[uint64]leaf // of the trees whose sizes were asked for
}

// A chainStart is what a segment's header says of what came before.
type chainStart struct {
	seq  uint64
	prev leaf
	tree tree // of all lines before the header
}

// sums reads the segments with several goroutines and yields what they found,
// in order. It stops them before it returns.
func (v *verification) sums(indexes []int, yield func(index int, last bool, s segmentSum) error) error {
	ctx, cancel := context.WithCancel(v.ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	workers := min(runtime.GOMAXPROCS(0), len(indexes))
	results := make([]chan segmentSum, len(indexes))
	for i := range results {
		results[i] = make(chan segmentSum, 1)
	}
	ahead := make(chan struct{}, 2*workers) // segments read and not joined yet
	next := make(chan int)
	running.Go(func() {
		defer close(next)
		for i := range indexes {
			select {
			case ahead <- struct{}{}:
			case <-ctx.Done():
				return
			}
			select {
			case next <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	for range workers {
		running.Go(func() {
			buf := make([]byte, 0, 1<<20)
			for i := range next {
				results[i] <- v.sum(ctx, indexes[i], i == len(indexes)-1, buf)
			}
		})
	}
	for i, index := range indexes {
		var s segmentSum
		select {
		case s = <-results[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := yield(index, i == len(indexes)-1, s); err != nil {
			return err
		}
		<-ahead
	}
	return nil
}

// sum reads segment index. Whatever is unusual makes it unsound, also an error
// of the disk: the second reading meets it again.
func (v *verification) sum(ctx context.Context, index int, last bool, buf []byte) (s segmentSum) {
	name := segmentName(index)
	f, info, err := openRegular(v.dir, name)
	if err != nil {
		return s
	}
	defer f.Close()
	if info.Size() > maxSegment {
		return s
	}
	end := info.Size()
	cut := int64(0)
	if !last {
		if cut = headerCut(v.dir, index+1); cut > 0 {
			s.givenUp = true
			end = min(end, cut)
		}
	}
	w, r := newLineWriter(), newLineReader(f, end, buf)
	var expect leaf
	var key note.Verifier
	var header *segmentHeader
	var mark struct {
		frame frame
		tree  tree
	}
	told := int64(0)
	for n := 0; ; n++ {
		if n%4096 == 0 {
			if ctx.Err() != nil {
				return s
			}
			v.advance(r.offset() - told)
			told = r.offset()
		}
		off := r.offset()
		text, state, err := r.next()
		if err != nil || state == atRemains {
			return s
		}
		if state == atEnd {
			break
		}
		f, err := w.parse(text)
		if err != nil {
			return s
		}
		if n == 0 {
			h, err := parseHeader(&f)
			if err != nil || h.Segment != index {
				return s
			}
			header = h
			s.start.seq, s.start.prev = f.seq, f.prev
			if s.start.tree, err = h.tree(f.seq); err != nil {
				return s
			}
			if s.tree, err = s.start.tree.clone(); err != nil {
				return s
			}
			if s.first, err = time.Parse(timeLayout, string(f.time)); err != nil {
				return s
			}
			copy(s.firstTime[:], f.time)
			s.writer, s.origin = h.Writer, h.Origin
			s.seq, expect = f.seq, f.prev
		} else if s.tree.add(&expect) != nil {
			return s
		}
		if f.seq != s.seq || f.prev != expect {
			return s
		}
		if v.wants(f.seq) && !s.keepRoot(f.seq, s.tree) {
			return s
		}
		typ := Type(f.typ)
		s.lines++
		if bytes.Compare(f.time, s.lastTime[:]) < 0 && !f.isStep() {
			return s
		}
		copy(s.lastTime[:], f.time)
		if s.unsigned++; s.unsigned == 1 {
			s.since = s.lastTime
		}
		s.pulse.line(&f)
		switch {
		case typ == typeSegment && n == 0:
		case typ == typeSegment || n == 1 && typ != typeCheckpoint:
			return s
		case typ == JournalKeyRotated: // followed line by line
			return s
		case typ == typeCheckpoint:
			s.checkpoints++
			s.unsigned = 0
			if s.signedAt, err = time.Parse(timeLayout, string(f.time)); err != nil {
				return s
			}
			if n == 1 {
				if s.key = v.known.signer(&f, s.tree); s.key < 0 {
					return s
				}
				key = v.known.verifiers[s.key]
				s.firstSign = s.signedAt
				s.pulse.at = s.signedAt
			} else {
				if quiet, ok := s.pulse.beat(name, f.seq, s.signedAt); ok {
					s.silences = append(s.silences, quiet)
				}
				if checkCheckpoint(&f, s.tree, v.origin) != nil {
					return s
				}
				if mark.tree, err = s.tree.clone(); err != nil {
					return s
				}
				mark.frame = f.clone()
			}
		case f.batch.part <= 1:
			s.events++
			s.settle(Defect{File: name, Offset: off, Seq: f.seq}, &f)
		}
		s.at = Defect{File: name, Offset: off, Seq: f.seq}
		s.seq, s.last = f.seq+1, w.leaf(text)
		expect = s.last
	}
	v.advance(end - told)
	switch {
	case s.lines < 2, s.writer != v.writer, s.origin != v.origin:
		return s
	case mark.tree.r != nil && checkCheckpoint(&mark.frame, mark.tree, v.origin, key) != nil:
		return s
	case !last && cut == 0 && s.unsigned > 0: // it does not end with a checkpoint
		return s
	case last && s.unsigned == 0 && !s.pulse.closed && r.trimmed(header): // it seems completed
		return s
	}
	s.sound = true
	return s
}

// settle takes note of attempts and of what settles them.
func (s *segmentSum) settle(at Defect, f *frame) {
	switch Type(f.typ) {
	case WriteAttempt, PolicyChanged, RelationChanged, DirectiveChanged:
		s.attempts = append(s.attempts, f.seq)
	case Committed, RolledBack:
		if o, ok := outcomeOf(at, f); ok {
			s.settled = append(s.settled, o)
		}
	default:
		if !Type(f.typ).known() {
			s.unknown++
		}
	}
}

// keepRoot keeps the root of t, which has size lines.
func (s *segmentSum) keepRoot(size uint64, t tree) bool {
	root, err := t.root()
	if err != nil || t.size() != size {
		return false
	}
	if s.roots == nil {
		s.roots = make(map[uint64]leaf)
	}
	s.roots[size] = leaf(root)
	return true
}

// join goes on behind a sound segment, where it follows what came before it.
func (v *verification) join(s *segmentSum) bool {
	c := &v.chain
	if !s.sound {
		return false
	}
	if len(v.keys.met) == 0 {
		v.start(s.key)
	}
	if v.keys.next != nil || v.known.texts[s.key] != v.keys.met[len(v.keys.met)-1] {
		return false // another key than the one that the journal goes on with
	}
	if !c.started {
		if s.start.seq == 0 && s.start.prev != (leaf{}) {
			return false
		}
	} else {
		if bytes.Compare(s.firstTime[:], c.lastTime[:]) < 0 {
			return false
		}
		if c.seq != s.start.seq || !c.known || c.prev != s.start.prev || c.tree.r == nil {
			return false
		}
		have, err := c.tree.clone()
		if err != nil || have.add(&c.prev) != nil || !have.same(s.start.tree) {
			return false
		}
	}
	if index, ok := segmentIndex(s.at.File); ok {
		v.head.met(index, s.start.seq, s.start.tree)
	}
	r := &v.report
	v.beat(Defect{File: s.at.File, Seq: s.start.seq + 1}, &c.pulse, s.firstSign)
	for _, quiet := range s.silences {
		v.silence(quiet)
	}
	*c = chainState{
		started: true, seq: s.seq, prev: s.last, known: true, at: s.at, tree: s.tree,
		signedAt: s.signedAt, pulse: s.pulse, unsigned: s.unsigned, since: s.since, lastTime: s.lastTime,
	}
	if r.First.IsZero() {
		r.First = s.first
		r.FirstSeq = s.start.seq
	}
	r.Segments++
	r.Lines += s.lines
	r.Events += s.events
	r.Checkpoints += s.checkpoints
	r.Unknown += s.unknown
	if s.givenUp {
		r.GivenUp++
	}
	for _, seq := range s.attempts {
		v.open[seq] = struct{}{}
	}
	for _, o := range s.settled {
		v.settle(o)
	}
	for size, root := range s.roots {
		v.roots[size] = root
	}
	return true
}

// headerCut returns where segment index says that the one before it was given
// up; 0 where it was not, or cannot be read.
func headerCut(dir string, index int) int64 {
	f, _, err := openRegular(dir, segmentName(index))
	if err != nil {
		return 0
	}
	defer f.Close()
	data := make([]byte, maxLine)
	n, _ := io.ReadFull(f, data)
	text, _ := cutLine(data[:n])
	fr, err := newLineWriter().parse(text)
	if err != nil {
		return 0
	}
	h, err := parseHeader(&fr)
	if err != nil {
		return 0
	}
	return h.Cut
}
