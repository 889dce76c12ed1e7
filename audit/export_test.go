// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/rand"
	"golang.org/x/mod/sumdb/note"
	"testing"

	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
)

// All reads every event of the journal in dir, newest first, without its keys
// and without checking anything.
func All(dir string) ([]Stored, error) {
	data, err := os.ReadFile(filepath.Join(dir, keysFile))
	if err != nil {
		return nil, err
	}
	var w wrappedKeys
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	names, err := folder(dir).List()
	if err != nil {
		return nil, err
	}
	indexes, err := segments(names)
	if err != nil {
		return nil, err
	}
	slices.Reverse(indexes)
	j := &Journal{disk: folder(dir)}
	var out []Stored
	for i, index := range indexes {
		end := int64(-1)
		if i == 0 {
			end = maxSegment
		}
		data, err := j.readSegment(index, end)
		if err != nil {
			return nil, err
		}
		for text := range linesBackward(data) {
			f, err := newLineWriter().parse(text)
			if err != nil {
				return nil, err
			}
			if Type(f.typ) == typeSegment || Type(f.typ) == typeCheckpoint {
				continue
			}
			s, err := decode(w.Writer, text)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// Rechecksum makes line's checksum fit it.
func Rechecksum(line []byte) []byte {
	i := bytes.LastIndex(line, []byte(crcKey))
	sum := crc32.Checksum(line[:i], crc32.MakeTable(crc32.Castagnoli))
	return append(slices.Clone(line[:i]), fmt.Sprintf(`%s%08x"}`, crcKey, sum)...)
}

// Rechain does what somebody without the signing key can do: from line i on
// it makes every line chain to the one before.
func Rechain(lines [][]byte, i int) [][]byte {
	return rewrite(lines, i, false)
}

// Renumber is Rechain with new sequences.
func Renumber(lines [][]byte, i int) [][]byte {
	return rewrite(lines, i, true)
}

func rewrite(lines [][]byte, i int, number bool) [][]byte {
	w := newLineWriter()
	out := slices.Clone(lines)
	for ; i < len(out); i++ {
		f, err := w.parse(out[i])
		if err != nil {
			panic(err)
		}
		if number {
			f.seq = uint64(i)
		}
		prev := f.prev
		if i > 0 {
			prev = w.leaf(out[i-1])
		}
		body := append([]byte(`,"type":"`+string(f.typ)+`"`), f.rest...)
		text, _ := w.append(nil, f.seq, f.sync, &prev, f.time, f.batch, body)
		out[i] = text[:len(text)-1]
	}
	return out
}

// Resign forges the checkpoints of lines with a key of its own that has the
// journal's name. With claim it pretends to be the journal's key, whose hash
// a note names.
func Resign(t testing.TB, lines [][]byte, verifier string, claim bool) [][]byte {
	t.Helper()
	real, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	skey, _, err := note.GenerateKey(rand.Reader, real.Name())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if claim {
		signer = pretender{signer, real.KeyHash()}
	}
	w, k := newLineWriter(), &keys{signer: signer}
	tr, err := newTree(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	var prev leaf
	for _, text := range lines {
		f, err := w.parse(text)
		if err != nil {
			t.Fatal(err)
		}
		body := append([]byte(`,"type":"`+string(f.typ)+`"`), f.rest...)
		if Type(f.typ) == typeCheckpoint {
			if body, err = k.signCheckpoint(tr, f.time); err != nil {
				t.Fatal(err)
			}
		}
		line, l := w.append(nil, f.seq, f.sync, &prev, f.time, f.batch, body)
		out, prev = append(out, line[:len(line)-1]), l
		if err := tr.add(&l); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

type pretender struct {
	note.Signer
	hash uint32
}

func (p pretender) KeyHash() uint32 { return p.hash }

// LeafHash returns the RFC 6962 leaf hash of a line.
func LeafHash(line []byte) [32]byte { return newLineWriter().leaf(line) }
