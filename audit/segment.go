// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	segmentFormat = 1
	segmentSuffix = ".jsonl"
	nextFile      = "next" // the segment in the making

	// maxGroup bounds what one write to a segment holds, and so what a crash
	// can leave torn.
	maxGroup = 1 << 20

	// sector is the unit in which a disk writes: a hole in a torn group starts
	// and ends at its multiples.
	sector = 512
)

// segmentName names segment number index, from 1.
func segmentName(index int) string { return fmt.Sprintf("%08d"+segmentSuffix, index) }

// segmentIndex is the inverse of segmentName.
func segmentIndex(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	index, err := strconv.Atoi(digits)
	return index, err == nil && index > 0 && segmentName(index) == name
}

// segments returns the indexes of the segments among names, which must follow
// each other without a gap.
func segments(names []string) ([]int, error) {
	var out []int
	for _, name := range names {
		if index, ok := segmentIndex(name); ok {
			out = append(out, index)
		}
	}
	slices.Sort(out)
	for i, index := range out {
		if index != out[0]+i {
			return out, &CorruptError{File: segmentName(out[0] + i), Problem: "the segment is missing"}
		}
	}
	return out, nil
}

// A segmentHeader is the first line of a segment. Its second is a checkpoint,
// so that a segment can be opened without those before it.
type segmentHeader struct {
	Format  int      `json:"format"`
	Segment int      `json:"segment"`
	Size    int64    `json:"size"`
	Writer  string   `json:"writer"`
	Origin  string   `json:"origin"`
	Range   []string `json:"range"` // compact range of the tree of all lines before
	// Cut is set where the segment before was given up after a failed sync:
	// what stands there from this offset on was never acknowledged and is void.
	Cut int64 `json:"cut"`
}

func (h *segmentHeader) body() []byte {
	b := appendString(nil, "type", string(typeSegment))
	b = append(b, `,"format":`...)
	b = strconv.AppendInt(b, int64(h.Format), 10)
	b = append(b, `,"segment":`...)
	b = strconv.AppendInt(b, int64(h.Segment), 10)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, h.Size, 10)
	b = appendString(b, "writer", h.Writer)
	b = appendString(b, "origin", h.Origin)
	b = appendStrings(b, "range", h.Range)
	if h.Cut > 0 {
		b = append(b, `,"cut":`...)
		b = strconv.AppendInt(b, h.Cut, 10)
	}
	return b
}

// parseHeader reads the header out of the frame of a segment's first line.
func parseHeader(f *frame) (*segmentHeader, error) {
	if string(f.typ) != string(typeSegment) {
		return nil, errors.New("the segment does not start with its header")
	}
	h := new(segmentHeader)
	if err := json.Unmarshal(append([]byte(`{"type":"segment"`), append(slices.Clone(f.rest), '}')...), h); err != nil {
		return nil, errors.New("the header is not JSON")
	}
	switch {
	case h.Format > segmentFormat:
		return nil, fmt.Errorf("the segment's format is %d: %w", h.Format, ErrNewer)
	case h.Format != segmentFormat:
		return nil, fmt.Errorf("the segment's format %d was never one", h.Format)
	case h.Size < minSegment || h.Size > maxSegment || h.Segment < 1 || h.Cut < 0:
		return nil, errors.New("the header is malformed")
	case !bytes.Equal(h.body()[len(`,"type":"segment"`):], f.rest):
		return nil, errors.New("the header is malformed")
	}
	return h, nil
}

// tree returns the tree of the seq lines before the segment.
func (h *segmentHeader) tree(seq uint64) (tree, error) {
	hashes := make([][]byte, len(h.Range))
	for i, text := range h.Range {
		b, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || len(b) != len(leaf{}) {
			return tree{}, errors.New("the header is malformed")
		}
		hashes[i] = b
	}
	t, err := newTree(seq, hashes)
	if err != nil {
		return tree{}, errors.New("the header's tree is malformed")
	}
	return t, nil
}

func rangeText(t tree) []string {
	out := make([]string, len(t.hashes()))
	for i, h := range t.hashes() {
		out[i] = base64.RawURLEncoding.EncodeToString(h)
	}
	return out
}

// A scanned is what Open finds in the last segment, up to the last line that
// the journal's keys prove to be its own.
type scanned struct {
	header  *segmentHeader
	head    head      // after that line
	tree    tree      // of all lines
	dropped int       // bytes of a group that was being written, after head.off
	signed  int       // which of the verifiers signed the last checkpoint; of two, the later
	to      string    // what the last JournalKeyRotated rotated to; empty where there is none
	last    time.Time // of the last line
}

// scan reads the last segment of a journal, which a crash may have left with
// a torn tail. It drops only what was never acknowledged: the one group that
// was being written, which has no end yet. Anything else is a CorruptError.
// ended reports whether a line ends a group of the journal's.
func scan(name string, data []byte, writer string, ended func(w *lineWriter, line []byte) bool, verifiers ...note.Verifier) (*scanned, error) {
	w := newLineWriter()
	s := new(scanned)
	corrupt := func(format string, args ...any) error {
		return &CorruptError{File: name, Offset: s.head.off, Seq: s.head.seq, Problem: fmt.Sprintf(format, args...)}
	}
	type mark struct {
		frame frame
		tree  tree
	}
	var last mark       // the last checkpoint
	var proven scanned  // s after the last line that is proven
	groupEnded := false // by that line; a checkpoint may stand in the middle of one
	prove := func() error {
		t, err := s.tree.clone()
		proven = *s
		proven.tree = t
		return err
	}
	var err error
	for n := 0; ; n++ {
		text, _ := cutLine(data[min(s.head.off, int64(len(data))):])
		if text == nil {
			break
		}
		var f frame
		if f, err = w.parse(text); err != nil {
			return nil, corrupt("%v", err)
		}
		if n == 0 {
			if s.header, err = parseHeader(&f); err != nil {
				return nil, unreadable(name, 0, f.seq, err)
			}
			if index, _ := segmentIndex(name); s.header.Segment != index || s.header.Writer != writer {
				return nil, corrupt("the segment is not number %d of this journal", index)
			}
			s.head.seq, s.head.prev = f.seq, f.prev
			if s.tree, err = s.header.tree(f.seq); err != nil {
				return nil, corrupt("%v", err)
			}
		}
		if f.seq != s.head.seq {
			return nil, corrupt("the line has sequence %d", f.seq)
		}
		if f.prev != s.head.prev {
			return nil, corrupt("the line does not follow the one before it")
		}
		checkpoint := string(f.typ) == string(typeCheckpoint)
		if n == 1 && !checkpoint {
			return nil, corrupt("the segment's header has no checkpoint")
		}
		if checkpoint {
			// The signature is checked of the first, which the header needs,
			// and of the last, which covers the rest.
			if n == 1 {
				if s.signed, err = signedByOne(&f, s.tree, s.header.Origin, verifiers); err != nil {
					return nil, corrupt("%v", err)
				}
			} else {
				t, err := s.tree.clone()
				if err != nil {
					return nil, err
				}
				last = mark{f, t}
				if err := checkCheckpoint(&f, s.tree, s.header.Origin); errors.Is(err, errRoot) {
					return nil, corrupt("%v", err)
				}
			}
		}
		if string(f.typ) == string(JournalKeyRotated) {
			r, err := rotationOf(&f)
			if err != nil {
				return nil, corrupt("%v", err)
			}
			s.to = r.To
		}
		if s.last, err = time.Parse(timeLayout, string(f.time)); err != nil {
			return nil, corrupt("the line's time is malformed")
		}
		l := w.leaf(text)
		if err := s.tree.add(&l); err != nil {
			return nil, err
		}
		s.head = head{seq: f.seq + 1, prev: l, off: s.head.off + int64(len(text)) + 1}
		if end := !checkpoint && ended(w, text); checkpoint || end {
			groupEnded = end
			if err := prove(); err != nil {
				return nil, err
			}
		}
	}
	if proven.header == nil {
		return nil, corrupt("the segment does not start with its header and checkpoint")
	}
	if last.tree.r != nil {
		if proven.signed, err = signedByOne(&last.frame, last.tree, s.header.Origin, verifiers); err != nil {
			s.head.seq = last.frame.seq
			return nil, corrupt("%v", err)
		}
	}
	s = &proven
	if text, _ := cutLine(data[s.head.off:]); text != nil && groupEnded {
		if f, err := w.parse(text); err == nil && !f.sync {
			return nil, corrupt("a line stands here that begins no group, and that the journal's keys did not write")
		}
	}
	dropped, problem := tornTail(w, data[s.head.off:], s.head.off)
	if problem != "" {
		return nil, corrupt("%s", problem)
	}
	s.dropped = dropped
	return s, nil
}

// cutLine returns the line that data starts with, without its newline. Where
// data does not start with a whole line it returns nil and data.
func cutLine(data []byte) (text, rest []byte) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 || bytes.IndexByte(data[:end], 0) >= 0 {
		return nil, data
	}
	return data[:end], data[end+1:]
}

// tornTail decides what stands after a line, from offset off to the end of the
// file: zeros, or the remains of one group whose write did not finish, of which
// it returns the length; or damage, which it describes.
//
// A group is one write into zeros. What a crash leaves of it is therefore a
// beginning, or whole sectors with zeroed sectors between them; and no later
// group can have been written.
func tornTail(w *lineWriter, rest []byte, off int64) (dropped int, problem string) {
	end := len(bytes.TrimRight(rest, "\x00"))
	if end == 0 {
		return 0, ""
	}
	if end > maxGroup+maxLine {
		return 0, "more than one unfinished write stands here"
	}
	for at := 0; at < end; {
		i := bytes.IndexByte(rest[at:end], 0)
		if i < 0 {
			break
		}
		from := at + i
		for at = from; rest[at] == 0; at++ {
		}
		// The group itself may start inside a sector.
		if from > 0 && (off+int64(from))%sector != 0 || (off+int64(at))%sector != 0 {
			return 0, "a byte of the line was overwritten"
		}
	}
	for _, text := range bytes.Split(rest[:end], []byte{'\n'}) {
		text = bytes.TrimLeft(text, "\x00")
		if f, err := w.parse(text); err == nil && f.sync && &text[0] != &rest[0] {
			return 0, "more than one group stands behind the last that can be read, or that the journal's keys prove: lines were changed, or put there"
		}
	}
	return end, ""
}
