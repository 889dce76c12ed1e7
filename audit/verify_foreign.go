// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What is in a folder may be no segment of its journal: one of another journal
// or of a newer release, or one that somebody unpacked, copied as text or
// edited with a tool for JSON. Verify names it once, and not line by line.

// foreign looks at the first line of a segment, and says whether the segment is
// to be read no further. The error is ErrNewer: a newer release wrote it, and
// nothing before it was wrong.
func (s *segmentPass) foreign(at Defect, text []byte) (stop bool, err error) {
	f, err := s.lines.parse(text)
	if err != nil {
		return false, nil
	}
	h, err := parseHeader(&f)
	switch {
	case errors.Is(err, ErrNewer):
		if s.changed(&f, text) {
			return false, nil
		}
		if len(s.report.Defects) == 0 {
			return true, fmt.Errorf("%s: %w", s.name, err)
		}
		at.Problem = err.Error()
	case err != nil:
		return false, nil
	case h.Writer != s.writer && s.covered(h, &f, text):
		at.Problem = fmt.Sprintf("it is segment %d of another journal, %s", h.Segment, clipped(h.Origin))
	case h.Segment != s.index() && s.covered(h, &f, text):
		at.Problem = fmt.Sprintf("it is a copy of segment %d", h.Segment)
	default:
		return false, nil
	}
	s.defect(at)
	s.chain = s.chain.gone()
	return true, nil
}

// changed reports whether the header f, whose line is text, is known not to be
// the one that was signed: the checkpoint behind it is over another. A header
// that says it is of a newer release is then no reason to stop.
func (s *segmentPass) changed(f *frame, text []byte) bool {
	c := &s.chain
	var t tree
	var err error
	switch {
	case f.seq == 0:
		t, err = newTree(0, nil)
	case c.tree.r != nil && c.known && c.tree.size()+1 == f.seq:
		if t, err = c.tree.clone(); err == nil {
			err = t.add(&c.prev)
		}
	default:
		return false
	}
	return err == nil && errors.Is(s.checkBehind(t, text, s.origin), errRoot)
}

// covered reports whether the checkpoint behind the header h is over it, by
// whomever it was signed.
func (s *segmentPass) covered(h *segmentHeader, f *frame, text []byte) bool {
	t, err := h.tree(f.seq)
	return err == nil && s.checkBehind(t, text, h.Origin) == nil
}

// checkBehind checks the line behind the header, whose line is text and which
// follows the lines of t, as the checkpoint over both.
func (s *segmentPass) checkBehind(t tree, text []byte, origin string) error {
	w := newLineWriter()
	l := w.leaf(text)
	if err := t.add(&l); err != nil {
		return err
	}
	next, _ := cutLine(readAt(s.r.f, s.r.offset(), maxLine+1))
	f, err := w.parse(next)
	if err != nil {
		return err
	}
	if Type(f.typ) != typeCheckpoint {
		return errFrame
	}
	return checkCheckpoint(&f, t, origin)
}

// gone is the state behind lines that were not read.
func (c chainState) gone() chainState {
	return chainState{seq: c.seq, at: c.at, pulse: pulse{unknown: true}, signedAt: c.signedAt, lastTime: c.lastTime}
}

// packed says that a file which starts with head was packed or re-encoded as a
// whole; empty where it was not.
func packed(head []byte) string {
	for _, p := range [...]struct{ magic, problem string }{
		{"\x1f\x8b", "it is packed with gzip: unpack it"},
		{"\x28\xb5\x2f\xfd", "it is packed with zstd: unpack it"},
		{"\xfd7zXZ\x00", "it is packed with xz: unpack it"},
		{"BZh", "it is packed with bzip2: unpack it"},
		{"PK\x03\x04", "it is packed with zip: unpack it"},
		{"\xff\xfe", "it was written anew as UTF-16: take the original"},
		{"\xfe\xff", "it was written anew as UTF-16: take the original"},
		{"{\x00", "it was written anew as UTF-16: take the original"},
		{"\x00{", "it was written anew as UTF-16: take the original"},
	} {
		if bytes.HasPrefix(head, []byte(p.magic)) {
			return p.problem
		}
	}
	return ""
}

// reencoded says what was done to a line that does not parse.
func reencoded(text []byte, err error) string {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return "a byte order mark was put before it: take the original"
	case bytes.HasSuffix(text, []byte("\r")):
		return "its line end was changed to CR LF: the file was copied as text: take the original"
	case errors.Is(err, errFrame) && json.Valid(text):
		return "it is JSON, and not the bytes that were written: a tool wrote the file anew: take the original"
	}
	return err.Error()
}

// insteadOf says what of a missing segment is there.
func insteadOf(name string, names []string) string {
	if i := slices.IndexFunc(names, func(n string) bool { return len(n) > len(name) && strings.HasPrefix(n, name) }); i >= 0 {
		return ": the folder has " + clipped(names[i]) + " instead"
	}
	return ""
}

// clipped quotes what somebody else wrote.
func clipped(s string) string { return fmt.Sprintf("%.100q", s) }
