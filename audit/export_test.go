// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"golang.org/x/mod/sumdb/note"
	"strings"
	"testing"
	"time"

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
	signer, _ := impostor(t, verifier)
	if claim {
		real, err := note.NewVerifier(verifier)
		if err != nil {
			t.Fatal(err)
		}
		signer = pretender{signer, real.KeyHash()}
	}
	return rechain(t, lines, signer, func(_ int, _ *frame, body []byte) ([]byte, bool) { return body, true })
}

// impostor makes a key that has the name of verifier's.
func impostor(t testing.TB, verifier string) (note.Signer, string) {
	t.Helper()
	real, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, real.Name())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

// rechain chains lines anew: with the bodies that change makes of theirs, and
// with checkpoints by signer where change says so.
func rechain(t testing.TB, lines [][]byte, signer note.Signer, change func(i int, f *frame, body []byte) (_ []byte, sign bool)) (out [][]byte) {
	t.Helper()
	w := newLineWriter()
	tr, err := newTree(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var prev leaf
	for i, text := range lines {
		f, err := w.parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if Type(f.typ) == typeSegment && i > 0 {
			h, err := parseHeader(&f)
			if err != nil {
				t.Fatal(err)
			}
			h.Range = rangeText(tr)
			f.rest = h.body()[len(`,"type":"segment"`):]
		}
		body, sign := change(i, &f, append([]byte(`,"type":"`+string(f.typ)+`"`), f.rest...))
		if sign && Type(f.typ) == typeCheckpoint {
			if body, err = signCheckpoint(tr, f.time, signer.Name(), signer); err != nil {
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

// AnchorsOf returns the checkpoints of the journal in dir as a witness saw
// them.
func AnchorsOf(dir string) (out []Anchor, err error) {
	err = eachLine(dir, func(t tree, f *frame) error {
		if Type(f.typ) != typeCheckpoint {
			return nil
		}
		a, err := anchorAt(t)
		a.Time, _ = time.Parse(timeLayout, string(f.time))
		out = append(out, a)
		return err
	})
	key, kerr := os.ReadFile(filepath.Join(dir, verifierFile))
	origin, _, _ := strings.Cut(string(key), "+")
	for i := range out {
		out[i].Origin, out[i].By = origin, "witness.test"
	}
	return out, errors.Join(err, kerr)
}

// RootOf returns the root over every line of the journal in dir.
func RootOf(t testing.TB, dir string) [32]byte {
	t.Helper()
	var all tree
	if err := eachLine(dir, func(t tree, _ *frame) error { all = t; return nil }); err != nil {
		t.Fatal(err)
	}
	a, err := anchorAt(all)
	if err != nil {
		t.Fatal(err)
	}
	return a.Root
}

func anchorAt(t tree) (a Anchor, err error) {
	root, err := t.root()
	if err == nil {
		a.Size, a.Root = t.size(), leaf(root)
	}
	return a, err
}

// eachLine calls fn with each line and the tree of those before it, and with
// an empty frame and the whole tree at the end.
func eachLine(dir string, fn func(t tree, f *frame) error) error {
	t, err := newTree(0, nil)
	if err != nil {
		return err
	}
	names, err := folder(dir).List()
	if err != nil {
		return err
	}
	indexes, err := segments(names)
	if err != nil {
		return err
	}
	w := newLineWriter()
	for _, index := range indexes {
		data, err := os.ReadFile(filepath.Join(dir, segmentName(index)))
		if err != nil {
			return err
		}
		for text, rest := cutLine(data); text != nil; text, rest = cutLine(rest) {
			f, err := w.parse(text)
			if err != nil {
				return err
			}
			if err := fn(t, &f); err != nil {
				return err
			}
			l := w.leaf(text)
			if err := t.add(&l); err != nil {
				return err
			}
		}
	}
	return fn(t, &frame{})
}

// SettleFor records that the attempt of t, of another writer, was committed.
func SettleFor(j *Journal, t Ticket) error {
	entries, err := j.enter(nil, Stored{Type: Committed, Outcome: Success, Attempt: t.Attempt})
	if err != nil {
		return err
	}
	_, _, err = j.submit(entries...)
	return err
}

// VerifyBothWays returns the report of Verify, and that of its careful
// reading of every segment.
func VerifyBothWays(ctx context.Context, dir string, as []Anchor) (fast, slow Report, err error) {
	if fast, err = Verify(ctx, dir, VerifyConfig{Anchors: as}); err != nil {
		return fast, slow, err
	}
	v := newVerification(ctx, dir, VerifyConfig{Anchors: as})
	v.careful = true
	err = v.run()
	return fast, v.finish(), err
}

// SealOnly seals a detail of s and records nothing, as a crash between the two
// does.
func SealOnly(j *Journal, s *Stored, d *Detail) (commitment string, err error) {
	err = j.sealDetail(s, d)
	return s.Detail, err
}

// Roll goes on in a new segment.
func (j *Journal) Roll() error {
	j.mu.Lock()
	if j.roll == nil {
		j.roll = &roll{done: make(chan struct{})}
	}
	r := j.roll
	j.mu.Unlock()
	j.wake()
	<-r.done
	return r.err
}

// ForgeRotation does what somebody without the journal's keys can do: from the
// rotation at line i on it goes on with a key of its own, which it returns with
// the lines.
func ForgeRotation(t testing.TB, lines [][]byte, i int, verifier string) ([][]byte, string) {
	t.Helper()
	signer, vkey := impostor(t, verifier)
	return rechain(t, lines, signer, func(n int, f *frame, body []byte) ([]byte, bool) {
		if n == i {
			r, err := rotationOf(f)
			if err != nil {
				t.Fatal(err)
			}
			body = bytes.Replace(body, []byte(r.To), []byte(vkey), 1)
		}
		return body, n > i
	}), vkey
}

// Anew writes the lines as somebody with the journal's keys could: chained and
// signed with a key of its own, which it returns. change may set each frame's
// time, and returns the body.
func Anew(t testing.TB, lines [][]byte, verifier string, change func(i int, at *[]byte, body []byte) []byte) ([][]byte, string) {
	t.Helper()
	signer, vkey := impostor(t, verifier)
	return rechain(t, lines, signer, func(i int, f *frame, body []byte) ([]byte, bool) {
		return change(i, &f.time, body), true
	}), vkey
}
