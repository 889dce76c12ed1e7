// SPDX-License-Identifier: Apache-2.0

package audittest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
)

// A Leak says where a needle was found.
type Leak struct {
	Needle   string
	Encoding string // such as "utf-8", "hex" or "base64 (alignment 1)"
	Offset   int
}

func (l Leak) String() string {
	return fmt.Sprintf("%q as %s at byte %d", l.Needle, l.Encoding, l.Offset)
}

// A Searcher finds many needles in one pass, each as UTF-8, UTF-16 in both
// byte orders, hex in both cases, and base64 (both alphabets) in its three
// alignments. It is safe for concurrent use.
type Searcher struct {
	forms  []form
	byHead map[uint32][]int // first 4 bytes -> forms
	heads  [1 << 16]bool    // a hash of the first 4 bytes, to skip most positions
	short  []int            // forms of less than 4 bytes
}

type form struct {
	needle   string
	encoding string
	bytes    []byte
}

// NewSearcher returns a Searcher for needles. Empty ones are left out; one of
// less than 4 bytes may well be found by chance.
func NewSearcher(needles ...string) *Searcher {
	s := &Searcher{byHead: make(map[uint32][]int)}
	for _, n := range needles {
		if n != "" {
			s.add(n)
		}
	}
	return s
}

func (s *Searcher) add(needle string) {
	put := func(encoding string, b []byte) {
		if len(b) == 0 {
			return
		}
		i := len(s.forms)
		s.forms = append(s.forms, form{needle, encoding, b})
		if len(b) < 4 {
			s.short = append(s.short, i)
			return
		}
		head := binary.LittleEndian.Uint32(b)
		s.byHead[head] = append(s.byHead[head], i)
		s.heads[slot(head)] = true
	}
	raw := []byte(needle)
	put("utf-8", raw)
	var le, be []byte
	for _, u := range utf16.Encode([]rune(needle)) {
		le = binary.LittleEndian.AppendUint16(le, u)
		be = binary.BigEndian.AppendUint16(be, u)
	}
	put("utf-16 little-endian", le)
	put("utf-16 big-endian", be)
	lower := hex.EncodeToString(raw)
	put("hex", []byte(lower))
	if upper := strings.ToUpper(lower); upper != lower {
		put("upper-case hex", []byte(upper))
	}
	for align := range 3 {
		std := base64Core(base64.RawStdEncoding, raw, align)
		put(fmt.Sprintf("base64 (alignment %d)", align), std)
		if url := base64Core(base64.RawURLEncoding, raw, align); !bytes.Equal(url, std) {
			put(fmt.Sprintf("base64url (alignment %d)", align), url)
		}
	}
}

// base64Core returns the characters of the encoding of raw, placed align
// bytes into a group of three, that no neighbouring byte can change.
func base64Core(enc *base64.Encoding, raw []byte, align int) []byte {
	text := []byte(enc.EncodeToString(append(make([]byte, align), raw...)))
	return text[(8*align+5)/6 : 8*(align+len(raw))/6]
}

// Search returns the first place of each needle in each encoding.
func (s *Searcher) Search(data []byte) []Leak {
	var leaks []Leak
	found := make(map[int]bool)
	for _, i := range s.short {
		if at := bytes.Index(data, s.forms[i].bytes); at >= 0 {
			leaks = append(leaks, Leak{s.forms[i].needle, s.forms[i].encoding, at})
		}
	}
	for at := 0; at+4 <= len(data); at++ {
		head := binary.LittleEndian.Uint32(data[at:])
		if !s.heads[slot(head)] {
			continue
		}
		for _, i := range s.byHead[head] {
			if !found[i] && bytes.HasPrefix(data[at:], s.forms[i].bytes) {
				found[i] = true
				leaks = append(leaks, Leak{s.forms[i].needle, s.forms[i].encoding, at})
			}
		}
	}
	return leaks
}

func slot(head uint32) uint16 { return uint16(head * 0x9e3779b1 >> 16) }

// NoPHI fails the test if out, a string or []byte, holds any of needles in
// any encoding that a [Searcher] knows, and says where.
func NoPHI[T string | []byte](t testing.TB, out T, needles ...string) {
	t.Helper()
	for _, leak := range NewSearcher(needles...).Search([]byte(out)) {
		t.Errorf("PHI in output: found %v", leak)
	}
}
