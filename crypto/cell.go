// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"slices"
)

// The layout of a cell:
//
//	version(1) algorithm(1) key version(4, big endian) iv(12) ciphertext tag(16)
//
// The highest bit of the key version marks what a test sealed.
//
// A database constraint that only a cell fits tests the first two bytes and
// the length: CellVersion, CellAES256GCM, and at least CellOverhead bytes.
const (
	// CellVersion is the first byte of every cell of format 1. No byte from
	// 0xF9 to 0xFF occurs anywhere in UTF-8 (RFC 3629 section 1), so a cell is
	// never text. Later formats take 0xFA and up.
	CellVersion byte = 0xF9

	// CellAES256GCM is the algorithm byte of AES-256-GCM with a random 96-bit
	// IV and a 128-bit tag (NIST SP 800-38D).
	CellAES256GCM byte = 0x01

	// CellOverhead is what a cell has more bytes than its plaintext: the length
	// of the cell of an empty plaintext.
	CellOverhead = headerSize + ivSize + tagSize

	headerSize = 6
	ivSize     = 12
	tagSize    = 16
)

// A Header is what a cell says about itself. It is not secret, and only to be
// believed once the cell has opened: all of it is authenticated.
type Header struct {
	Version    byte   // format: [CellVersion]
	Algorithm  byte   // [CellAES256GCM]
	KeyVersion uint32 // version of the subject's key, from 1
	Test       bool   // sealed under a test's KEK: see [ErrTestKey]
}

// ParseHeader reads the header of a cell, to find the key that opens it. The
// error wraps [ErrFormat] or [ErrVersion].
func ParseHeader(cell []byte) (Header, error) {
	if len(cell) == 0 || cell[0] < CellVersion {
		return Header{}, fmt.Errorf("crypto: parse cell: %w", ErrFormat)
	}
	if cell[0] != CellVersion {
		return Header{}, fmt.Errorf("crypto: parse cell: %w", ErrVersion)
	}
	if len(cell) < CellOverhead {
		return Header{}, fmt.Errorf("crypto: parse cell: %w", ErrFormat)
	}
	if cell[1] != CellAES256GCM {
		return Header{}, fmt.Errorf("crypto: parse cell: %w", ErrVersion)
	}
	version := binary.BigEndian.Uint32(cell[2:headerSize])
	h := Header{Version: cell[0], Algorithm: cell[1], KeyVersion: version &^ testVersion, Test: version&testVersion != 0}
	if h.KeyVersion == 0 {
		return Header{}, fmt.Errorf("crypto: parse cell: %w", ErrFormat)
	}
	return h, nil
}

// A Binding is the place that a cell belongs to. It is part of what is
// authenticated, so a cell copied to another place does not open there.
// Tenant, Field and Record must not be empty.
type Binding struct {
	Tenant  string
	Field   string // logical name, which outlives a rename of the column
	Record  string // made by the client side before the row is written
	Subject string // whose key seals it; empty for the tenant's own data key
}

func (b *Binding) valid() bool { return b.Tenant != "" && b.Field != "" && b.Record != "" }

// A Key is one unwrapped data key. It is safe for concurrent use and prints as
// nothing secret. The zero Key seals and opens nothing. Keys come from
// [KeyTx.SealingKeys] and [Keyring.Lookup].
//
// IVs are random, so one key must not seal more than 2^32 cells (NIST SP
// 800-38D section 8.3). A key that belongs to one patient stays far below.
type Key struct {
	aead    cipher.AEAD
	tenant  string
	subject string
	version uint32
	marks   marks
}

// newKey takes a 32-byte key and clears it.
func newKey(raw []byte, tenant, subject string, version uint32) (*Key, error) {
	aead, err := newGCM(raw)
	clear(raw)
	if err != nil {
		return nil, err
	}
	return &Key{aead: aead, tenant: tenant, subject: subject, version: version}, nil
}

// newGCM returns AES-256-GCM in the one form that a FIPS-only process allows:
// the IV is chosen inside and leads the ciphertext.
func newGCM(raw []byte) (cipher.AEAD, error) {
	if len(raw) != keySize {
		return nil, fmt.Errorf("crypto: a data key has %d bytes, not %d", len(raw), keySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

const keySize = 32

// Version returns the version of the key, from 1.
func (k *Key) Version() uint32 { return k.version }

// Seal appends the cell of plaintext at b to dst. plaintext must not overlap
// dst's spare capacity, all of which may be written to. The error wraps
// [ErrBinding] or, for the zero Key, [ErrNoKey].
func (k *Key) Seal(dst, plaintext []byte, b Binding) ([]byte, error) {
	if k == nil || k.aead == nil {
		return nil, fmt.Errorf("crypto: seal cell: %w", ErrNoKey)
	}
	if !b.valid() || b.Tenant != k.tenant || b.Subject != k.subject {
		return nil, fmt.Errorf("crypto: seal cell: %w", ErrBinding)
	}
	// One allocation at most: the associated data is built in dst, behind the
	// cell, because what goes through the cipher.AEAD interface cannot stay on
	// the stack.
	start, size := len(dst), CellOverhead+len(plaintext)
	dst = slices.Grow(dst, size+cellDataSize(&b))
	dst = append(dst, CellVersion, CellAES256GCM)
	version := k.version
	if k.marks.seals {
		version |= testVersion
	}
	dst = binary.BigEndian.AppendUint32(dst, version)
	aad := appendCellData(dst[start+size:start+size], dst[start:], &b)
	return k.aead.Seal(dst, nil, plaintext, aad), nil
}

// Open appends the plaintext of cell, which must belong at b, to dst. cell
// must not overlap dst's spare capacity, all of which may be written to. The
// error wraps [ErrFormat], [ErrVersion], [ErrOpen], [ErrBinding], [ErrTestKey]
// or, for the zero Key, [ErrNoKey]; then there is no plaintext.
func (k *Key) Open(dst, cell []byte, b Binding) ([]byte, error) {
	if k == nil || k.aead == nil {
		return nil, fmt.Errorf("crypto: open cell: %w", ErrNoKey)
	}
	h, err := ParseHeader(cell)
	if err != nil {
		return nil, err
	}
	if !b.valid() {
		return nil, fmt.Errorf("crypto: open cell: %w", ErrBinding)
	}
	if h.KeyVersion != k.version || b.Tenant != k.tenant || b.Subject != k.subject {
		return nil, fmt.Errorf("crypto: open cell: %w", ErrOpen)
	}
	if h.Test && !k.marks.opens {
		return nil, fmt.Errorf("crypto: open cell: %w", ErrTestKey)
	}
	size := len(cell) - CellOverhead
	dst = slices.Grow(dst, size+cellDataSize(&b))
	aad := appendCellData(dst[len(dst)+size:len(dst)+size], cell[:headerSize], &b)
	dst, err = k.aead.Open(dst, nil, cell[headerSize:], aad)
	if err != nil {
		return nil, fmt.Errorf("crypto: open cell: %w", ErrOpen)
	}
	return dst, nil
}

// Format prints what the key is, for every verb, and nothing of it.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[crypto.Key version %d]", k.version) }

// appendCellData appends the associated data of a cell: what it is, its whole
// header, and its place. Everything of variable length is length-prefixed, so
// no two places give the same bytes.
func appendCellData(dst, header []byte, b *Binding) []byte {
	dst = appendPart(dst, cellLabel)
	dst = append(dst, header...)
	dst = appendPart(dst, b.Tenant)
	dst = appendPart(dst, b.Field)
	dst = appendPart(dst, b.Record)
	return appendPart(dst, b.Subject)
}

const cellLabel = "part164/cell"

func cellDataSize(b *Binding) int {
	return 5*4 + len(cellLabel) + headerSize + len(b.Tenant) + len(b.Field) + len(b.Record) + len(b.Subject)
}

// appendPart appends s behind its length in four bytes, big endian.
func appendPart(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// joinParts joins parts into the associated data of a wrapped key or an index
// domain. The first part is a label that no other use has.
func joinParts(label string, parts ...string) []byte {
	size := 4 + len(label)
	for _, p := range parts {
		size += 4 + len(p)
	}
	dst := appendPart(make([]byte, 0, size+4), label) // 4 for a version behind
	for _, p := range parts {
		dst = appendPart(dst, p)
	}
	return dst
}
