// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"strconv"
	"time"
)

// A line of a segment is one JSON object that starts and ends in a fixed way,
// so that it is found, chained and checked without a JSON decoder:
//
//	{"seq":7,"sync":true,"prev":"…","time":"…","batch":7,"part":1,"parts":2,"type":"reveal",…,"crc":"01234567"}
//
// seq counts lines from 0. sync means that all lines before this one were on
// the disk when it was written: it starts a group. prev is the RFC 6962 leaf
// hash of the line before, and the line's own leaf hash covers its exact
// bytes without the newline. batch is the first line's seq where an event
// takes several. mac, in front of crc, ends a group: an HMAC over the line before
// it, and so over all that the line chains to, by which Open knows its own last
// group; a checkpoint, which is signed, needs none. crc is CRC-32C of what stands before it: it finds a damaged
// last line, which no other line chains to yet; it is no protection against
// anybody.
const (
	timeLayout = "2006-01-02T15:04:05.000000Z"
	hashText   = 43 // of 32 bytes in base64url without padding

	crcKey     = `,"crc":"`
	crcTail    = len(crcKey) + 8 + len(`"}`)
	macKey     = `,"mac":"`
	macTail    = len(macKey) + hashText + len(`"`)
	lineFrame  = 320       // bounds what add and end put around a body
	maxLine    = 192 << 10 // bounds a line
	maxObjects = 1024      // objects of one line
	lineBudget = 120 << 10 // a line takes no more objects once it is so long
)

// The types of lines that are no events.
const (
	typeSegment    Type = "segment"
	typeCheckpoint Type = "checkpoint"
)

// A leaf is an RFC 6962 leaf hash.
type leaf [sha256.Size]byte

// A lineWriter chains lines. It is not safe for concurrent use.
type lineWriter struct {
	hash   hash.Hash
	crc    *crc32.Table
	strict *base64.Encoding // refuses a second reading of a hash
	sum    leaf             // scratch
}

func newLineWriter() *lineWriter {
	return &lineWriter{hash: sha256.New(), crc: crc32.MakeTable(crc32.Castagnoli), strict: base64.RawURLEncoding.Strict()}
}

// A batch places a line among those of one event.
type batch struct {
	first       uint64
	part, parts int
}

// append adds the line of body to dst and returns its leaf hash. body starts
// with `,"type":"`.
func (w *lineWriter) append(dst []byte, seq uint64, sync bool, prev *leaf, now []byte, b batch, body []byte) ([]byte, leaf) {
	start := len(dst)
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	if sync {
		dst = append(dst, `,"sync":true`...)
	}
	dst = append(dst, `,"prev":"`...)
	dst = base64.RawURLEncoding.AppendEncode(dst, prev[:])
	dst = append(dst, `","time":"`...)
	dst = append(dst, now...)
	dst = append(dst, '"')
	if b.parts > 1 {
		dst = append(dst, `,"batch":`...)
		dst = strconv.AppendUint(dst, b.first, 10)
		dst = append(dst, `,"part":`...)
		dst = strconv.AppendInt(dst, int64(b.part), 10)
		dst = append(dst, `,"parts":`...)
		dst = strconv.AppendInt(dst, int64(b.parts), 10)
	}
	return w.close(append(dst, body...), start)
}

// close adds the checksum to the line that starts at start, and returns its
// leaf hash.
func (w *lineWriter) close(dst []byte, start int) ([]byte, leaf) {
	sum := crc32.Checksum(dst[start:], w.crc)
	dst = append(dst, crcKey...)
	dst = hex.AppendEncode(dst, binary.BigEndian.AppendUint32(make([]byte, 0, 4), sum))
	dst = append(dst, `"}`...)
	l := w.leaf(dst[start:])
	return append(dst, '\n'), l
}

// end puts mac into the last line of buf, which starts at start, and returns its
// leaf hash.
func (w *lineWriter) end(buf []byte, start int, mac func(line []byte) ([]byte, error)) ([]byte, leaf, error) {
	open := buf[:len(buf)-crcTail-1]
	tag, err := mac(open[start:])
	if err != nil {
		return buf, leaf{}, err
	}
	buf = append(base64.RawURLEncoding.AppendEncode(append(open, macKey...), tag), '"')
	buf, l := w.close(buf, start)
	return buf, l, nil
}

// ended returns the part of a line that its mac is over, and the mac; nil where
// it has none.
func (w *lineWriter) ended(line []byte) (open, mac []byte) {
	at := len(line) - crcTail - macTail
	if at < 0 || !bytes.HasPrefix(line[at:], []byte(macKey)) || line[at+macTail-1] != '"' {
		return nil, nil
	}
	mac, err := w.strict.AppendDecode(nil, line[at+len(macKey):at+macTail-1])
	if err != nil {
		return nil, nil
	}
	return line[:at], mac
}

// leaf returns the RFC 6962 leaf hash of line.
func (w *lineWriter) leaf(line []byte) leaf {
	w.hash.Reset()
	w.sum[0] = 0
	w.hash.Write(w.sum[:1])
	w.hash.Write(line)
	w.hash.Sum(w.sum[:0])
	return w.sum
}

// appendTime adds t in the journal's layout.
func appendTime(dst []byte, t time.Time) []byte { return t.UTC().AppendFormat(dst, timeLayout) }

// A frame is what is read of a line without decoding it. Its slices point
// into the line.
type frame struct {
	seq   uint64
	sync  bool
	prev  leaf
	time  []byte
	batch batch
	typ   []byte
	rest  []byte // from after the type's closing quote to before crc
}

var (
	errCRC   = errors.New("its checksum does not match: a byte of it was changed")
	errFrame = errors.New("it is not a line of a journal")
)

// parse reads the frame of line, which has no newline.
func (w *lineWriter) parse(line []byte) (f frame, err error) {
	if len(line) < crcTail || len(line) > maxLine || !bytes.HasPrefix(line[len(line)-crcTail:], []byte(crcKey)) {
		return f, errFrame
	}
	body := line[:len(line)-crcTail]
	tail := line[len(body)+len(crcKey):]
	sum := crc32.Checksum(body, w.crc)
	for _, c := range tail[:8] {
		if c != "0123456789abcdef"[sum>>28] {
			return f, errCRC
		}
		sum <<= 4
	}
	if string(tail[8:]) != `"}` {
		return f, errFrame
	}
	c := cursor{body, w.strict}
	ok := c.skip(`{"seq":`) && c.number(&f.seq)
	f.sync = ok && c.skip(`,"sync":true`)
	ok = ok && c.skip(`,"prev":"`) && c.hash(&f.prev) && c.skip(`","time":"`) && c.take(len(timeLayout), &f.time) && c.skip(`"`)
	if ok && c.skip(`,"batch":`) {
		var part, parts uint64
		ok = c.number(&f.batch.first) && c.skip(`,"part":`) && c.number(&part) && c.skip(`,"parts":`) && c.number(&parts) &&
			part >= 1 && part <= parts && parts >= 2 && parts <= 1<<20
		f.batch.part, f.batch.parts = int(part), int(parts)
	}
	ok = ok && c.skip(`,"type":"`) && c.word(&f.typ)
	f.rest = c.b
	if !ok {
		return f, errFrame
	}
	return f, nil
}

// A cursor reads the fixed parts of a line.
type cursor struct {
	b      []byte
	strict *base64.Encoding
}

func (c *cursor) skip(s string) bool {
	if len(c.b) < len(s) || string(c.b[:len(s)]) != s {
		return false
	}
	c.b = c.b[len(s):]
	return true
}

func (c *cursor) take(n int, dst *[]byte) bool {
	if len(c.b) < n {
		return false
	}
	*dst, c.b = c.b[:n], c.b[n:]
	return true
}

// number reads a decimal without sign or leading zeros.
func (c *cursor) number(dst *uint64) bool {
	var n uint64
	i := 0
	for ; i < len(c.b) && i < 19 && c.b[i] >= '0' && c.b[i] <= '9'; i++ {
		n = n*10 + uint64(c.b[i]-'0')
	}
	if i == 0 || i > 1 && c.b[0] == '0' {
		return false
	}
	*dst, c.b = n, c.b[i:]
	return true
}

func (c *cursor) hash(dst *leaf) bool {
	var text []byte
	if !c.take(hashText, &text) {
		return false
	}
	n, err := c.strict.Decode(dst[:], text)
	return err == nil && n == len(dst)
}

// word reads up to the closing quote, which it drops.
func (c *cursor) word(dst *[]byte) bool {
	i := bytes.IndexByte(c.b, '"')
	if i <= 0 || i > maxName {
		return false
	}
	*dst, c.b = c.b[:i], c.b[i+1:]
	return true
}
