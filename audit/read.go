// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
)

// A Line is one event as it stands in a journal's segment.
type Line struct {
	Stored

	Raw      []byte            // the exact bytes, without the newline
	Leaf     [sha256.Size]byte // RFC 6962 leaf hash of Raw
	Position Position          // where it stands; a later [Read] goes on behind it
}

// A Position is the place of one line. Its zero value stands before the first.
// Writer and Seq name the line; Segment and Offset only save looking for it,
// and may be left zero.
type Position struct {
	Writer  string `json:"writer"`
	Seq     uint64 `json:"seq"`
	Segment int    `json:"segment,omitempty"`
	Offset  int64  `json:"offset,omitempty"`
}

// Read yields the events of the journal in dir behind from, oldest first. It
// needs no key and takes no lock: the journal may be in use. It then stops at
// what is known to be durable, which is all but the last group that was
// written; a journal that grows signs a checkpoint, and with it ends a group,
// every Config.CheckpointEvery. To go on, call it again with the Position of
// the last line.
//
// Every line is checked against its checksum and the chain; headers and
// checkpoints are followed and left out, signatures are for [Verify]. It ends
// after the first error: a [CorruptError] where the folder is damaged or ends
// before from. A torn group at the end of a journal that crashed was never
// acknowledged, and is left out.
//
// It does not record that the trail was read: the caller does, with a
// [Reported] event, before it shows anything.
func Read(ctx context.Context, dir string, from Position) iter.Seq2[Line, error] {
	return read(ctx, dir, from, nil)
}

// Read is the function [Read] for this journal, up to what is durable now.
// It fails with [ErrClosed] after Close.
func (j *Journal) Read(ctx context.Context, from Position) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		j.mu.Lock()
		bound, closed := j.durable.seq, j.closed
		j.mu.Unlock()
		if closed {
			yield(Line{}, ErrClosed)
			return
		}
		read(ctx, j.dir, from, &bound)(yield)
	}
}

// read yields the lines behind from, below bound where there is one.
func read(ctx context.Context, dir string, from Position, bound *uint64) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reading{ctx: ctx, dir: dir, from: from, bound: bound, yield: yield, lines: newLineWriter()}
		if err := r.run(); err != nil && !errors.Is(err, errStop) {
			yield(Line{}, fmt.Errorf("audit: read %s: %w", dir, err))
		}
	}
}

// errStop ends a reading early: the caller has enough, or the bound is reached.
var errStop = errors.New("stop")

// A reading is one run of Read.
type reading struct {
	ctx   context.Context
	dir   string
	from  Position
	bound *uint64 // the first sequence that is not durable; nil where only the folder tells
	yield func(Line, error) bool
	lines *lineWriter

	// each, where set, gets every line instead of yield, from the start of the
	// segment that holds the line since; begin gets that segment's header.
	since uint64
	begin func(h *segmentHeader, seq uint64) error
	each  func(f *frame, text []byte, l leaf) error

	writer string // of the journal
	known  bool   // seq and prev are known
	seq    uint64 // of the line to come
	prev   leaf   // of the line before it
	held   []Line // of the last group, which may not be durable
	ended  bool   // the last line ends its group
}

func (r *reading) run() error {
	names, err := folder(r.dir).List()
	if err != nil {
		return err
	}
	indexes, err := segments(names)
	if err != nil {
		return err
	}
	if len(indexes) == 0 {
		return errors.New("there is no journal: no segment is in the folder")
	}
	last := indexes[len(indexes)-1]
	if r.bound != nil && r.from.Writer != "" && r.from.Seq >= *r.bound {
		r.seq = *r.bound
		return r.setBack(last)
	}
	index, off, err := r.start(indexes)
	if err != nil {
		return err
	}
	free := r.bound == nil && !folderInUse(r.dir)
	for ; index <= last; index, off = index+1, 0 {
		if err := r.segment(index, off, index == last); err != nil {
			return err
		}
	}
	switch {
	case r.bound != nil && r.seq < *r.bound:
		return r.corrupt(last, 0, "lines that were acknowledged are gone")
	case r.from.Writer != "" && r.seq <= r.from.Seq:
		return r.setBack(last)
	}
	if free && r.ended && !folderInUse(r.dir) {
		return r.release()
	}
	return nil
}

func (r *reading) corrupt(index int, off int64, format string, args ...any) error {
	return &CorruptError{File: segmentName(index), Offset: off, Seq: r.seq, Problem: fmt.Sprintf(format, args...)}
}

func (r *reading) setBack(last int) error {
	return r.corrupt(last, 0, "the journal ends before sequence %d, which was read before: its tail was cut off, or it was set back to a copy", r.from.Seq)
}

// start returns where to begin: at the line r.from, or at the start of the
// segment that holds it.
func (r *reading) start(indexes []int) (index int, off int64, err error) {
	if r.each != nil {
		for _, index := range slices.Backward(indexes) {
			head, err := r.headerOf(index)
			if err != nil {
				return 0, 0, unreadable(segmentName(index), 0, 0, err)
			}
			if head.seq <= r.since {
				return index, 0, r.begin(head.header, head.seq)
			}
		}
		return 0, 0, fmt.Errorf("sequence %d was purged: the journal starts behind it", r.since)
	}
	if r.from.Writer == "" {
		if key, err := readSmall(r.dir, verifierFile); err == nil { // whose journal this is
			origin, _, _ := strings.Cut(string(key), "+")
			r.writer = strings.TrimPrefix(origin, originPrefix)
		}
		return indexes[0], 0, nil
	}
	if slices.Contains(indexes, r.from.Segment) && r.standsAt(r.from.Segment, r.from.Offset) {
		r.seq, r.writer = r.from.Seq, r.from.Writer
		return r.from.Segment, r.from.Offset, nil
	}
	var first uint64
	for _, index := range slices.Backward(indexes) {
		head, err := r.headerOf(index)
		switch {
		case err != nil:
			return 0, 0, unreadable(segmentName(index), 0, 0, err)
		case head.header.Writer != r.from.Writer:
			return 0, 0, fmt.Errorf("the position is of another journal: this is that of writer %s", head.header.Writer)
		case head.seq <= r.from.Seq:
			return index, 0, nil
		}
		first = head.seq
	}
	if first == r.from.Seq+1 {
		return indexes[0], 0, nil
	}
	return 0, 0, r.corrupt(indexes[0], 0, "the lines between sequence %d, which was read before, and %d are gone", r.from.Seq, first)
}

// standsAt reports whether the line r.from begins at off in segment index.
func (r *reading) standsAt(index int, off int64) bool {
	f, _, err := openRegular(r.dir, segmentName(index))
	if err != nil {
		return false
	}
	defer f.Close()
	head, err := r.header(f)
	if err != nil || head.header.Segment != index || head.header.Writer != r.from.Writer || off < 0 {
		return false
	}
	text, _ := cutLine(readAt(f, off, maxLine+1))
	fr, err := r.lines.parse(text)
	return err == nil && fr.seq == r.from.Seq
}

// cannotOpen is the error of a segment that is there and does not open.
func (r *reading) cannotOpen(index int, err error) error {
	if errors.Is(err, errIrregular) {
		return r.corrupt(index, 0, "%v", err)
	}
	return err
}

func (r *reading) headerOf(index int) (headerLine, error) {
	f, _, err := openRegular(r.dir, segmentName(index))
	if err != nil {
		return headerLine{}, err
	}
	defer f.Close()
	return r.header(f)
}

// A headerLine is a segment's first line.
type headerLine struct {
	seq    uint64
	header *segmentHeader
}

func (r *reading) header(f io.ReaderAt) (headerLine, error) {
	text, _ := cutLine(readAt(f, 0, maxLine+1))
	fr, err := r.lines.parse(text)
	if err != nil {
		return headerLine{}, err
	}
	h, err := parseHeader(&fr)
	return headerLine{fr.seq, h}, err
}

// readAt returns up to n bytes of f at off, fewer where it cannot.
func readAt(f io.ReaderAt, off int64, n int) []byte {
	data := make([]byte, n)
	n, _ = f.ReadAt(data, off)
	return data[:n]
}

// segment reads the lines of one segment from off on. What follows the last
// segment, somebody may be writing.
func (r *reading) segment(index int, off int64, last bool) error {
	f, info, err := openRegular(r.dir, segmentName(index))
	if err != nil {
		return r.cannotOpen(index, err)
	}
	defer f.Close()
	end := info.Size()
	if end > maxSegment {
		return r.corrupt(index, 0, "it is larger than any segment")
	}
	if !last {
		head, err := r.headerOf(index + 1)
		if err != nil {
			return unreadable(segmentName(index+1), 0, 0, err)
		}
		if cut := head.header.Cut; cut > 0 {
			end = min(end, cut)
		}
	}
	lines := newLineReader(f, end, make([]byte, 0, 1<<20))
	lines.base = off
	for n := 0; ; n++ {
		if n%1024 == 0 {
			if err := r.ctx.Err(); err != nil {
				return err
			}
		}
		if r.bound != nil && r.known && r.seq >= *r.bound {
			return errStop
		}
		at := lines.offset()
		text, state, err := lines.next()
		switch {
		case err != nil:
			return err
		case state == atEnd && at == 0:
			return r.corrupt(index, 0, "%s", noLine)
		case state == atEnd && off == 0 && n == 1:
			return r.corrupt(index, at, "%s", noCheckpoint)
		case state == atEnd:
			return nil
		case state == atRemains && (!last || off == 0 && n < 2):
			return r.corrupt(index, at, "the line cannot be read: bytes of it were overwritten")
		case state == atRemains:
			again, err := r.tail(index, lines)
			if err != nil || !again {
				return err
			}
			continue
		}
		if err := r.line(index, at, text); err != nil {
			return err
		}
	}
}

// A segment gets its name once its first two lines are on the disk: no crash
// leaves one without them.
const (
	noLine       = "the segment has no line: it was emptied, or overwritten with zeros"
	noCheckpoint = "the header has no checkpoint: what followed it was cut off, or overwritten with zeros"
)

// tail decides what stands at lines, behind the last whole line of the last
// segment: a write in the making, or the remains of one, ends the reading;
// again means that a whole line stands there by now.
func (r *reading) tail(index int, lines *lineReader) (again bool, err error) {
	const tries, pause = 20, 50 * time.Millisecond
	off := lines.offset()
	for try := 0; ; try++ {
		rest := readAt(lines.f, off, int(max(0, lines.size-off)))
		if text, _ := cutLine(rest); text != nil {
			lines.reread()
			return true, nil
		}
		_, problem := tornTail(r.lines, rest, off)
		if problem == "" {
			return false, nil
		}
		if try == tries {
			return false, r.corrupt(index, off, "%s", problem)
		}
		select {
		case <-time.After(pause):
		case <-r.ctx.Done():
			return false, r.ctx.Err()
		}
	}
}

// line follows the chain over one line, and yields it.
func (r *reading) line(index int, off int64, text []byte) error {
	f, err := r.lines.parse(text)
	if err != nil {
		return r.corrupt(index, off, "%v", err)
	}
	if off == 0 {
		h, err := parseHeader(&f)
		switch {
		case err != nil:
			return unreadable(segmentName(index), off, f.seq, err)
		case h.Segment != index || r.writer != "" && h.Writer != r.writer:
			return r.corrupt(index, off, "the header is that of another segment or journal")
		}
		r.writer = h.Writer
		if !r.known {
			r.seq, r.prev, r.known = f.seq, f.prev, true
		}
	} else if !r.known { // the line r.from, whose sequence was compared
		r.prev, r.known = f.prev, true
	}
	switch {
	case f.seq != r.seq:
		return r.corrupt(index, off, "the line has sequence %d", f.seq)
	case f.prev != r.prev:
		return r.corrupt(index, off, "the line does not follow the one before it")
	}
	r.seq, r.prev = r.seq+1, r.lines.leaf(text)
	if r.each != nil {
		return r.each(&f, text, r.prev)
	}
	if f.sync {
		if err := r.release(); err != nil {
			return err
		}
	}
	typ := Type(f.typ)
	r.ended = typ == typeCheckpoint || seemsEnded(r.lines, text)
	if typ == typeSegment || typ == typeCheckpoint || r.from.Writer != "" && f.seq <= r.from.Seq {
		return nil
	}
	s, err := decode(r.writer, text)
	if err != nil {
		return unreadable(segmentName(index), off, f.seq, err)
	}
	r.held = append(r.held, Line{
		Stored: s, Raw: slices.Clone(text), Leaf: r.prev,
		Position: Position{Writer: r.writer, Seq: f.seq, Segment: index, Offset: off},
	})
	if r.bound != nil {
		return r.release()
	}
	return nil
}

// release yields the lines held back.
func (r *reading) release() error {
	for _, l := range r.held {
		if !r.yield(l, nil) {
			return errStop
		}
	}
	clear(r.held)
	r.held = r.held[:0]
	return nil
}

// seemsEnded is keys.ended of somebody who lacks the keys.
func seemsEnded(w *lineWriter, line []byte) bool {
	open, _ := w.ended(line)
	return open != nil
}
