// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// A Checkpoint is a journal's signed statement of its length and root: a C2SP
// tlog-checkpoint.
type Checkpoint struct {
	Origin string
	Size   uint64 // lines
	Root   [32]byte
	Time   time.Time // when it was signed, by the writer's clock
	Note   []byte    // the signed note, with whatever cosignatures it has
}

// ParseCheckpoint reads a signed note and checks the signature of the journal
// whose public key verifier is, or of one of whose public keys, a line each, it
// has: a journal's key may have been rotated. Other signatures in it are neither checked nor
// in the way.
func ParseCheckpoint(signed []byte, verifier string) (Checkpoint, error) {
	var list []note.Verifier
	for _, key := range strings.Fields(verifier) {
		v, err := note.NewVerifier(key)
		if err != nil {
			return Checkpoint{}, errors.New("audit: read checkpoint: the public key is not a C2SP note verifier key")
		}
		list = append(list, v)
	}
	n, err := note.Open(signed, note.VerifierList(list...))
	var other *note.UnverifiedNoteError
	if errors.As(err, &other) {
		return Checkpoint{}, fmt.Errorf("audit: read checkpoint: %w", signerError(other.Note, list))
	}
	if err != nil {
		return Checkpoint{}, errors.New("audit: read checkpoint: the journal's signature does not verify")
	}
	var cp log.Checkpoint
	rest, err := cp.Unmarshal([]byte(n.Text))
	if err != nil || len(cp.Hash) != len(leaf{}) || slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name != cp.Origin }) {
		return Checkpoint{}, errors.New("audit: read checkpoint: it is not one of this journal")
	}
	c := Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: leaf(cp.Hash), Note: bytes.Clone(signed)}
	text, ok := strings.CutPrefix(string(rest), "time ")
	if c.Time, err = time.Parse(timeLayout, strings.TrimSuffix(text, "\n")); err != nil || !ok {
		return Checkpoint{}, errors.New("audit: read checkpoint: its time is malformed")
	}
	return c, nil
}

// LastCheckpoint returns the newest checkpoint of the journal in dir. It needs
// no key but the public one in the folder, and takes no lock. It reads the
// last segment.
func LastCheckpoint(ctx context.Context, dir string) (Checkpoint, error) {
	return lastCheckpoint(ctx, dir, nil)
}

// LastCheckpoint returns the newest checkpoint of the journal that is durable.
func (j *Journal) LastCheckpoint(ctx context.Context) (Checkpoint, error) {
	j.mu.Lock()
	bound, closed := j.durable.seq, j.closed
	j.mu.Unlock()
	if closed {
		return Checkpoint{}, ErrClosed
	}
	return lastCheckpoint(ctx, j.dir, &bound)
}

func lastCheckpoint(ctx context.Context, dir string, bound *uint64) (Checkpoint, error) {
	fail := func(err error) (Checkpoint, error) {
		return Checkpoint{}, fmt.Errorf("audit: last checkpoint of %s: %w", dir, err)
	}
	verifier, err := readSmall(dir, verifierFile)
	if err != nil {
		return fail(err)
	}
	// Of a journal in use the checkpoints of the last group may not be durable;
	// a segment's first was, before the segment had its name.
	var last, newer []byte
	n := 0
	free := bound == nil && !folderInUse(dir)
	err = lines(ctx, dir, math.MaxUint64, bound, func(*segmentHeader, uint64) error { return nil }, func(f *frame, _ []byte, _ leaf) error {
		if f.sync && newer != nil {
			last, newer = newer, nil
		}
		if Type(f.typ) == typeCheckpoint {
			newer = bytes.Clone(f.rest)
		}
		if n++; n == 2 || bound != nil && newer != nil {
			last, newer = newer, nil
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	if newer != nil && free && !folderInUse(dir) {
		last = newer
	}
	signed, err := noteOf(last)
	if err != nil {
		return fail(err)
	}
	cp, err := ParseCheckpoint(signed, string(verifier))
	if err != nil {
		return fail(err)
	}
	return cp, nil
}

// noteOf returns the signed note in the rest of a checkpoint line's frame.
func noteOf(rest []byte) ([]byte, error) {
	var l struct {
		Note string `json:"note"`
	}
	if err := json.Unmarshal(append([]byte(`{"type":"checkpoint"`), append(bytes.Clone(rest), '}')...), &l); err != nil {
		return nil, errors.New("the checkpoint is not JSON")
	}
	return []byte(l.Note), nil
}

// lines calls each with every line from the start of the segment that holds
// since on, checked against the chain.
func lines(ctx context.Context, dir string, since uint64, bound *uint64, begin func(*segmentHeader, uint64) error, each func(*frame, []byte, leaf) error) error {
	r := reading{ctx: ctx, dir: dir, bound: bound, lines: newLineWriter(), since: since, begin: begin, each: each}
	if err := r.run(); err != nil && !errors.Is(err, errStop) {
		return err
	}
	return nil
}

// Consistency returns the RFC 6962 proof that the journal of to lines in dir
// goes on from that of from lines. It reads the segments from the one that
// holds line from on, and keeps the proof in memory only.
func Consistency(ctx context.Context, dir string, from, to uint64) ([][]byte, error) {
	if from > to {
		return nil, fmt.Errorf("audit: prove consistency of %s: from %d to %d lines is backwards", dir, from, to)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	want, err := proof.Consistency(from, to)
	if err != nil {
		return nil, fmt.Errorf("audit: prove consistency of %s: %w", dir, err)
	}
	hashes, err := nodes(ctx, dir, want, from-1, to, nil)
	if err != nil {
		return nil, fmt.Errorf("audit: prove consistency of %s: %w", dir, err)
	}
	return hashes, nil
}

// Consistency is the function [Consistency] for this journal.
func (j *Journal) Consistency(ctx context.Context, from, to uint64) ([][]byte, error) {
	return Consistency(ctx, j.dir, from, to)
}

// nodes returns the hashes of a proof in a tree of size lines, of which each
// lies left of line since or is made of lines from it on. line, where set,
// gets every line that is read.
func nodes(ctx context.Context, dir string, want proof.Nodes, since, size uint64, line func(f *frame, text []byte)) ([][]byte, error) {
	found := make(map[compact.NodeID][]byte, len(want.IDs))
	for _, id := range want.IDs {
		found[id] = nil
	}
	see := func(id compact.NodeID, hash []byte) {
		if _, wanted := found[id]; wanted {
			found[id] = bytes.Clone(hash)
		}
	}
	factory := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	var all *compact.Range
	err := lines(ctx, dir, since, nil, func(h *segmentHeader, seq uint64) error {
		t, err := h.tree(seq)
		if err != nil {
			return err
		}
		hashes := t.hashes()
		for i, id := range compact.RangeNodes(0, seq, nil) {
			see(id, hashes[i])
		}
		all, err = factory.NewRange(0, seq, hashes)
		return err
	}, func(f *frame, text []byte, l leaf) error {
		if all.End() == size {
			return errStop
		}
		if line != nil {
			line(f, text)
		}
		return all.Append(bytes.Clone(l[:]), see)
	})
	if err != nil {
		return nil, err
	}
	if all.End() != size {
		return nil, fmt.Errorf("the journal has %d lines, not %d", all.End(), size)
	}
	hashes := make([][]byte, len(want.IDs))
	for i, id := range want.IDs {
		if hashes[i] = found[id]; hashes[i] == nil {
			return nil, errors.New("a node of the tree was not found")
		}
	}
	return want.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
}

// A Proof shows that one line stands in a journal, to somebody who has nothing
// but the journal's public key. It is made by [Prove] and checked by
// [VerifyProof]; its JSON is one object.
type Proof struct {
	Format     int      `json:"format"` // 1
	Event      string   `json:"event"`  // event ID
	Line       string   `json:"line"`   // the exact bytes
	Size       uint64   `json:"size"`   // lines of the tree that the proof is in
	Inclusion  [][]byte `json:"inclusion"`
	Checkpoint string   `json:"checkpoint"` // the signed note over that tree, with its cosignatures

	// Rotations prove the rotations of the journal's key that lead to the one
	// that signed, oldest first: whoever has an older key checks the proof too.
	Rotations []Proof `json:"rotations,omitempty"`
}

// Prove returns the proof that the line of eventID stands in the journal in
// dir, under the checkpoint note signed, such as a cosigned one of a witness.
// Where signed is nil, it is the newest one of the folder. Of an event with
// several lines each has an ID, and is proved, by itself.
//
// It reads the journal from the line's segment to the checkpoint.
func Prove(ctx context.Context, dir, eventID string, signed []byte) (Proof, error) {
	p, err := prove(ctx, dir, eventID, signed)
	if err == nil {
		p.Rotations, err = rotations(ctx, dir, []byte(p.Checkpoint))
	}
	if err != nil {
		return Proof{}, fmt.Errorf("audit: prove: %w", err)
	}
	return p, nil
}

func prove(ctx context.Context, dir, eventID string, signed []byte) (Proof, error) {
	verifier, err := readSmall(dir, verifierFile)
	if err != nil {
		return Proof{}, err
	}
	var cp Checkpoint
	if signed == nil {
		cp, err = LastCheckpoint(ctx, dir)
	} else {
		cp, err = ParseCheckpoint(signed, string(verifier))
	}
	if err != nil {
		return Proof{}, err
	}
	seq, ok := attemptSeq(eventID, strings.TrimPrefix(cp.Origin, originPrefix))
	if !ok {
		return Proof{}, fmt.Errorf("the event is not one of %s", cp.Origin)
	}
	if seq >= cp.Size {
		return Proof{}, fmt.Errorf("the event is newer than the checkpoint over %d lines: wait for the next one", cp.Size)
	}
	want, err := proof.Inclusion(seq, cp.Size)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Format: 1, Event: eventID, Size: cp.Size, Checkpoint: string(cp.Note)}
	var typ Type
	p.Inclusion, err = nodes(ctx, dir, want, seq, cp.Size, func(f *frame, text []byte) {
		if f.seq == seq {
			p.Line, typ = string(text), Type(f.typ)
		}
	})
	if err != nil {
		return Proof{}, err
	}
	if typ == typeSegment || typ == typeCheckpoint {
		return Proof{}, fmt.Errorf("the line is no event but a %s", typ)
	}
	return p, p.check(cp)
}

// check reports what is wrong with p, given its checkpoint.
func (p *Proof) check(cp Checkpoint) error {
	w := newLineWriter()
	f, err := w.parse([]byte(p.Line))
	if err != nil {
		return fmt.Errorf("the line is none of a journal: %w", err)
	}
	if p.Size != cp.Size {
		return errors.New("the proof is for another size than the checkpoint's")
	}
	if p.Event != strings.TrimPrefix(cp.Origin, originPrefix)+"."+strconv.FormatUint(f.seq, 10) {
		return errors.New("the line is not that of the event")
	}
	l := w.leaf([]byte(p.Line))
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, f.seq, cp.Size, l[:], p.Inclusion, cp.Root[:]); err != nil {
		return errors.New("the line does not stand in the tree that was signed")
	}
	return nil
}

// originPrefix is what an origin has before the writer.
const originPrefix = "part164/"

// VerifyProof checks a [Proof] in its JSON form against the journal's public
// key, offline, and returns the event and the checkpoint that it stands under.
// Where the key was rotated since, verifier may be one from before: the proof
// has the rotations in it. The checkpoint's note may have cosignatures, which
// package audit/witness checks. An error means that it proves nothing; a
// [SignerError], that it takes another key to say.
func VerifyProof(data []byte, verifier string) (Stored, Checkpoint, error) {
	fail := func(err error) (Stored, Checkpoint, error) {
		return Stored{}, Checkpoint{}, fmt.Errorf("audit: verify proof: %w", err)
	}
	var p Proof
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil && p.Format < 2 {
		return fail(errors.New("it is not the JSON of a proof"))
	}
	if p.Format > 1 {
		return fail(fmt.Errorf("its format is %d: %w", p.Format, ErrNewer))
	}
	if rest := bytes.TrimSpace(data[dec.InputOffset():]); len(rest) > 0 {
		return fail(errors.New("something stands behind the proof"))
	}
	if p.Format != 1 {
		return fail(fmt.Errorf("its format %d was never one", p.Format))
	}
	cp, err := ParseCheckpoint([]byte(p.Checkpoint), p.follow(verifier))
	if err != nil {
		return fail(err)
	}
	if err := p.check(cp); err != nil {
		return fail(err)
	}
	s, err := decode(strings.TrimPrefix(cp.Origin, originPrefix), []byte(p.Line))
	if err != nil {
		return fail(err)
	}
	return s, cp, nil
}
