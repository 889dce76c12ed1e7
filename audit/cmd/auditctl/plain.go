// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// A plain passes on text for people. What a terminal would obey, and what turns
// the direction of text, it makes visible: a journal, a key file or a name that
// somebody else made is printed, and can say nothing but itself. Newlines and
// tabs pass: no value of an event has one.
type plain struct {
	w    io.Writer
	part []byte // of a character that goes on in the next Write
}

func (p *plain) Write(text []byte) (int, error) {
	n := len(text)
	text = append(p.part, text...)
	out := make([]byte, 0, len(text))
	for len(text) > 0 && utf8.FullRune(text) {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case r == '\n', r == '\t', unicode.IsGraphic(r) && !unicode.Is(unicode.Zl, r) && !unicode.Is(unicode.Zp, r):
			out = append(out, text[:size]...)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	p.part = append(p.part[:0], text...)
	if _, err := p.w.Write(out); err != nil {
		return 0, err
	}
	return n, nil
}
