// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	streaming "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// Streams are Tink's streaming AEAD, with 256-bit keys, HKDF-SHA256 and
// segments of 64 KiB:
//
//	header: its length(1) salt(32) nonce prefix(7)
//	then segments, the first shorter by the header, each with its tag
//
// A segment's nonce holds its number and whether it is the last, so that
// segments cannot be cut off, moved or repeated. Tink writes the streams; what
// reads them here reads the same bytes, because Tink's own reader of Go cannot
// start in the middle. A test holds the two equal.
const (
	streamGCM  byte = 0x01 // AES-GCM-HKDF
	streamHMAC byte = 0x02 // AES-CTR-HMAC, with HMAC-SHA256 of 32 bytes: all of it runs in a FIPS-only process

	streamSegment = 64 << 10 // of ciphertext
	streamPrefix  = 7        // random bytes at the head of each nonce
	streamHeader  = 1 + keySize + streamPrefix
)

// A StreamKey seals one file of any size. It is safe for concurrent use and
// prints as nothing secret. The zero StreamKey seals and opens nothing. Each
// file has a key of its own, which is itself kept in a cell.
type StreamKey struct {
	algorithm byte
	raw       []byte
}

// NewStreamKey makes a key: for AES-GCM-HKDF, or for AES-CTR-HMAC in a process
// that allows FIPS 140-3 algorithms only. Each process opens both.
func NewStreamKey() (*StreamKey, error) {
	k := &StreamKey{algorithm: streamGCM, raw: make([]byte, keySize)}
	if fips140.Enforced() {
		k.algorithm = streamHMAC
	}
	if _, err := rand.Read(k.raw); err != nil {
		return nil, fmt.Errorf("crypto: make stream key: %w", err)
	}
	return k, nil
}

// ParseStreamKey reads what [StreamKey.Bytes] gave. The error wraps [ErrFormat]
// or [ErrVersion].
func ParseStreamKey(b []byte) (*StreamKey, error) {
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("crypto: parse stream key: %w", ErrFormat)
	case b[0] != streamGCM && b[0] != streamHMAC:
		return nil, fmt.Errorf("crypto: parse stream key: %w", ErrVersion)
	case len(b) != StreamKeySize:
		return nil, fmt.Errorf("crypto: parse stream key: %w", ErrFormat)
	}
	return &StreamKey{algorithm: b[0], raw: slices.Clone(b[1:])}, nil
}

// StreamKeySize is how many bytes [StreamKey.Bytes] has: the algorithm and the
// key.
const StreamKeySize = 1 + keySize

// Bytes returns the key, to be sealed in a cell and nothing else.
func (k *StreamKey) Bytes() []byte { return append([]byte{k.algorithm}, k.raw...) }

// Format prints what the key is, for every verb, and nothing of it.
func (k StreamKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[crypto.StreamKey]") }

// Encrypt returns a writer that seals what is written to it into w, in constant
// memory. Close writes the end; without it the stream does not open. The
// associated data says what the file is, and must be given again to open it.
// A key seals one stream only.
func (k *StreamKey) Encrypt(w io.Writer, associatedData []byte) (io.WriteCloser, error) {
	var out io.WriteCloser
	var err error
	switch {
	case k == nil || len(k.raw) != keySize:
		return nil, fmt.Errorf("crypto: seal stream: %w", ErrNoKey)
	case k.algorithm == streamHMAC:
		var s *streaming.AESCTRHMAC
		if s, err = streaming.NewAESCTRHMAC(k.raw, "SHA256", keySize, "SHA256", sha256.Size, streamSegment, 0); err == nil {
			out, err = s.NewEncryptingWriter(w, associatedData)
		}
	default:
		var s *streaming.AESGCMHKDF
		if s, err = streaming.NewAESGCMHKDF(k.raw, "SHA256", keySize, streamSegment, 0); err == nil {
			out, err = s.NewEncryptingWriter(w, associatedData)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("crypto: seal stream: %w", err)
	}
	return out, nil
}

// Decrypt returns a reader of the plaintext of a stream. size is that of the
// plaintext, and from opens the sealed stream at an offset in bytes. The end of
// the stream is opened first: one that was cut, or is longer than it should be,
// does not get as far as to a reader. Each segment is authenticated before a
// byte of it is given out.
//
// The error wraps [ErrOpen], or is that of from.
func (k *StreamKey) Decrypt(from func(offset int64) (io.ReadCloser, error), size int64, associatedData []byte) (*StreamReader, error) {
	switch {
	case k == nil || len(k.raw) != keySize:
		return nil, fmt.Errorf("crypto: open stream: %w", ErrNoKey)
	case size < 0:
		return nil, fmt.Errorf("crypto: open stream: %w", ErrOpen)
	}
	r := &StreamReader{from: from, size: size, segment: -1}
	header := make([]byte, streamHeader)
	if err := r.read(0, header); err != nil {
		return nil, err
	}
	if header[0] != streamHeader {
		return nil, fmt.Errorf("crypto: open stream: %w", ErrOpen)
	}
	salt, prefix := header[1:1+keySize], header[1+keySize:]
	var err error
	if k.algorithm == streamHMAC {
		r.tag = sha256.Size
		r.decrypt, err = k.openHMAC(salt, prefix, associatedData)
	} else {
		r.tag = tagSize
		r.decrypt, err = k.openGCM(salt, prefix, associatedData)
	}
	if err != nil {
		return nil, fmt.Errorf("crypto: open stream: %w", err)
	}
	r.last, _ = r.locate(max(size-1, 0))
	if r.last >= 1<<32-1 {
		return nil, fmt.Errorf("crypto: open stream: %w", ErrOpen)
	}
	if err := r.load(r.last); err != nil {
		r.closeSource()
		return nil, err
	}
	// Nothing may follow.
	var more [1]byte
	n, err := io.ReadFull(r.source, more[:])
	r.closeSource()
	switch {
	case n > 0:
		return nil, fmt.Errorf("crypto: open stream: bytes were appended: %w", ErrOpen)
	case err != io.EOF:
		return nil, fmt.Errorf("crypto: read stream: %w", err)
	}
	return r, nil
}

// A segmentFunc appends the plaintext of a sealed segment to dst.
type segmentFunc func(dst, sealed []byte, number uint32, last bool) ([]byte, error)

// openGCM reads segments of AES-GCM-HKDF. The standard library takes the nonce
// ahead of the ciphertext here, which a FIPS-only process allows for opening.
func (k *StreamKey) openGCM(salt, prefix, associatedData []byte) (segmentFunc, error) {
	key, err := hkdf.Key(sha256.New, k.raw, salt, string(associatedData), keySize)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(key)
	clear(key)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, ivSize+streamSegment)
	return func(dst, sealed []byte, number uint32, last bool) ([]byte, error) {
		buf = append(appendNonce(buf[:0], prefix, number, last), sealed...)
		return aead.Open(dst, nil, buf, nil)
	}, nil
}

// openHMAC reads segments of AES-CTR-HMAC.
func (k *StreamKey) openHMAC(salt, prefix, associatedData []byte) (segmentFunc, error) {
	keys, err := hkdf.Key(sha256.New, k.raw, salt, string(associatedData), 2*keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(keys[:keySize])
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, keys[keySize:])
	clear(keys)
	return func(dst, sealed []byte, number uint32, last bool) ([]byte, error) {
		if len(sealed) < sha256.Size {
			return nil, ErrOpen
		}
		nonce := append(appendNonce(make([]byte, 0, aes.BlockSize), prefix, number, last), 0, 0, 0, 0)
		body, tag := sealed[:len(sealed)-sha256.Size], sealed[len(sealed)-sha256.Size:]
		mac.Reset()
		mac.Write(nonce)
		mac.Write(body)
		if !hmac.Equal(mac.Sum(nil), tag) {
			return nil, ErrOpen
		}
		at := len(dst)
		dst = append(dst, body...)
		cipher.NewCTR(block, nonce).XORKeyStream(dst[at:], dst[at:])
		return dst, nil
	}, nil
}

// appendNonce appends what both algorithms begin a segment's nonce with.
func appendNonce(dst, prefix []byte, number uint32, last bool) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, prefix...), number)
	if last {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// A StreamReader reads the plaintext of a stream, from any place in it: it
// opens only the segments that it reads, and holds one. It is not safe for
// concurrent use. Close it.
type StreamReader struct {
	from    func(offset int64) (io.ReadCloser, error)
	decrypt segmentFunc
	size    int64 // of the plaintext
	tag     int   // size of a segment's
	last    int64 // number of the last segment

	at      int64 // where the next Read begins
	segment int64 // the one in plain; -1 is none
	plain   []byte
	sealed  []byte

	source io.ReadCloser // nil: closed
	next   int64         // the segment that source stands before
}

// Size returns the size of the plaintext in bytes.
func (r *StreamReader) Size() int64 { return r.size }

// Read implements io.Reader. The error wraps [ErrOpen] where the stream was
// changed.
func (r *StreamReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.at >= r.size {
		return 0, io.EOF
	}
	segment, offset := r.locate(r.at)
	if segment != r.segment {
		if err := r.load(segment); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.plain[offset:])
	r.at += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (r *StreamReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, errors.New("crypto: seek stream: unknown whence")
	}
	if offset < 0 {
		return 0, errors.New("crypto: seek stream: before its beginning")
	}
	r.at = offset
	return offset, nil
}

// Close implements io.Closer, and clears the plaintext that is held.
func (r *StreamReader) Close() error {
	clear(r.plain[:cap(r.plain)])
	r.segment = -1
	return r.closeSource()
}

func (r *StreamReader) closeSource() error {
	if r.source == nil {
		return nil
	}
	err := r.source.Close()
	r.source = nil
	return err
}

// Format prints no plaintext.
func (r *StreamReader) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[crypto.StreamReader]") }

// locate returns the segment of a byte of the plaintext, and its place there.
func (r *StreamReader) locate(at int64) (segment int64, offset int) {
	each := int64(streamSegment - r.tag)
	at += streamHeader // which shortens the first
	if at < each {
		return 0, int(at - streamHeader)
	}
	return at / each, int(at % each)
}

// bounds returns where a segment's ciphertext begins, and its length.
func (r *StreamReader) bounds(segment int64) (begin int64, length int) {
	begin, end := segment*streamSegment, (segment+1)*streamSegment
	if segment == 0 {
		begin = streamHeader
	}
	if segment == r.last {
		end = streamHeader + r.size + (r.last+1)*int64(r.tag)
	}
	return begin, int(end - begin)
}

// load opens one segment.
func (r *StreamReader) load(segment int64) error {
	begin, length := r.bounds(segment)
	r.segment = -1
	if r.source == nil || r.next != segment {
		if err := r.closeSource(); err != nil {
			return fmt.Errorf("crypto: read stream: %w", err)
		}
		src, err := r.from(begin)
		if err != nil {
			return fmt.Errorf("crypto: read stream: %w", err)
		}
		r.source = src
	}
	r.sealed = slices.Grow(r.sealed[:0], length)[:length]
	if err := readAll(r.source, r.sealed); err != nil {
		_ = r.closeSource()
		return err
	}
	r.next = segment + 1
	plain, err := r.decrypt(slices.Grow(r.plain[:0], length), r.sealed, uint32(segment), segment == r.last)
	if err != nil {
		return fmt.Errorf("crypto: open stream: %w", ErrOpen)
	}
	r.plain, r.segment = plain, segment
	return nil
}

// read fills b from an offset of the sealed stream.
func (r *StreamReader) read(offset int64, b []byte) error {
	src, err := r.from(offset)
	if err != nil {
		return fmt.Errorf("crypto: read stream: %w", err)
	}
	err = readAll(src, b)
	return errors.Join(err, src.Close())
}

// readAll fills b. A stream that ends early was cut.
func readAll(src io.Reader, b []byte) error {
	_, err := io.ReadFull(src, b)
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return fmt.Errorf("crypto: open stream: it is cut: %w", ErrOpen)
	case err != nil:
		return fmt.Errorf("crypto: read stream: %w", err)
	}
	return nil
}

// StreamData is the associated data of a file: its tenant and its own ID. It
// does not name the patient, so that a file whose patient records are merged
// keeps its bytes: the cell of its key is bound to the patient.
func StreamData(tenant, file string) []byte { return joinParts("part164/stream", tenant, file) }
