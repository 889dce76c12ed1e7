// SPDX-License-Identifier: Apache-2.0

package audit

import "fmt"

// ParseLine returns the event of a line whose exact bytes somebody has kept:
// a sink, or a table. It checks that they are whole and stand at at.Seq; that
// they are those of the journal, only a comparison or a proof tells.
func ParseLine(at Position, raw []byte) (Line, error) {
	w := newLineWriter()
	f, err := w.parse(raw)
	if err != nil {
		return Line{}, fmt.Errorf("audit: parse line: %w", err)
	}
	if f.seq != at.Seq {
		return Line{}, fmt.Errorf("audit: parse line: it has sequence %d, not %d", f.seq, at.Seq)
	}
	if t := Type(f.typ); t == typeSegment || t == typeCheckpoint {
		return Line{}, fmt.Errorf("audit: parse line: it is no event but a %s", t)
	}
	s, err := decode(at.Writer, raw)
	if err != nil {
		return Line{}, fmt.Errorf("audit: parse line: %w", err)
	}
	return Line{Stored: s, Raw: raw, Leaf: w.leaf(raw), Position: at}, nil
}

// Dir is the journal's folder.
func (j *Journal) Dir() string { return j.dir }
