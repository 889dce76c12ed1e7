// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
)

// An end is where a reading from the newest line backward begins: a head that
// is known to be the journal's, of which the chain then proves all the rest.
type end struct {
	index int // of the segment
	head
}

// newest is the end of what is durable now.
func (j *Journal) newest() (end, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return end{}, ErrClosed
	}
	return end{j.seg.index, j.durable}, nil
}

// backward calls fn with the lines of each segment and where they end, the
// newest first, until it returns false or an error. What it gets is exactly what
// was chained before e: a line that was changed, added or lost is a
// [CorruptError], before fn sees any line of its segment.
func (j *Journal) backward(ctx context.Context, e end, fn func(index int, data []byte, to head) (more bool, err error)) error {
	size := e.off
	for index := e.index; index >= 1; index, size = index-1, -1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := j.readSegment(index, size)
		if errors.Is(err, fs.ErrNotExist) && j.purged(index, e.head) {
			return nil
		}
		if err != nil {
			return err
		}
		from, err := follow(segmentName(index), data, e.head)
		if err != nil {
			return err
		}
		if more, err := fn(index, data, e.head); err != nil || !more {
			return err
		}
		e.head = from
	}
	return nil
}

// purged reports whether segment index, the last before a line that follows h,
// is gone since the journal purged it.
func (j *Journal) purged(index int, h head) bool {
	r, err := readPurge(j.dir, j.keys.origin, j.keys.verifiers())
	return err == nil && (index < r.Segments || index == r.Segments && r.Size == h.seq)
}

// readSegment returns what a segment holds: its first size bytes, or, where
// size is negative, all that counts of it.
func (j *Journal) readSegment(index int, size int64) ([]byte, error) {
	f, err := j.disk.Open(segmentName(index))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	have, err := f.Size()
	if err != nil {
		return nil, err
	}
	sealed := size < 0
	if sealed {
		h, _, err := headerAt(j.disk, index+1)
		if err != nil {
			return nil, err
		}
		if size = have; h.Cut > 0 {
			size = h.Cut
		}
	}
	data := make([]byte, min(size, have, maxSegment))
	if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if sealed { // a crash may have kept the zeros behind its last line
		data = bytes.TrimRight(data, "\x00")
	}
	return data, nil
}

// follow checks that data is whole lines, chained, which end where to says. It
// returns the head before the first.
func follow(name string, data []byte, to head) (from head, err error) {
	w := newLineWriter()
	at := head{}
	corrupt := func(problem string) error {
		return &CorruptError{File: name, Offset: at.off, Seq: at.seq, Problem: problem}
	}
	for rest := data; len(rest) > 0; {
		text, left := cutLine(rest)
		if text == nil {
			return head{}, corrupt("the line cannot be read: bytes of it were overwritten, or are missing")
		}
		f, err := w.parse(text)
		if err != nil {
			return head{}, corrupt(err.Error())
		}
		if at.off == 0 {
			at.seq, at.prev = f.seq, f.prev
			from = head{seq: f.seq, prev: f.prev}
		}
		if f.seq != at.seq || f.prev != at.prev {
			return head{}, corrupt("the line does not follow the one before it")
		}
		at = head{seq: f.seq + 1, prev: w.leaf(text), off: at.off + int64(len(text)) + 1}
		rest = left
	}
	if at.off == 0 || at.seq != to.seq || at.prev != to.prev {
		return head{}, corrupt("its lines are not those that the next one follows: some were changed, or are missing")
	}
	return from, nil
}
