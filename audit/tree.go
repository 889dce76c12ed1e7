// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/sha256"
	"errors"
	"math"
	"math/bits"
	"slices"
)

// A tree is the RFC 6962 Merkle tree over all lines, as its compact range: the
// roots of its perfect subtrees, from the left. It allocates nothing as it
// grows: Verify spends half of its time here. Its zero value is no tree.
type tree struct{ r *compactRange }

type compactRange struct {
	lines uint64
	count int // of nodes: one for each bit of lines that is set
	nodes [64]leaf
	pair  [1 + 2*sha256.Size]byte // what a node is the hash of
}

// newTree returns the tree of size leaves with the given compact range.
func newTree(size uint64, hashes [][]byte) (tree, error) {
	r := &compactRange{lines: size, count: bits.OnesCount64(size)}
	r.pair[0] = 1
	if len(hashes) != r.count {
		return tree{}, errors.New("the compact range is not one of its size")
	}
	for i, h := range hashes {
		if len(h) != len(leaf{}) {
			return tree{}, errors.New("the compact range has an entry that is no hash")
		}
		r.nodes[i] = leaf(h)
	}
	return tree{r}, nil
}

func (t tree) size() uint64 { return t.r.lines }

func (t tree) hashes() [][]byte {
	out := make([][]byte, t.r.count)
	for i := range out {
		out[i] = append([]byte(nil), t.r.nodes[i][:]...)
	}
	return out
}

func (t tree) add(l *leaf) error {
	r := t.r
	if r.lines == math.MaxUint64 {
		return errors.New("the tree is full")
	}
	top := *l
	for range bits.TrailingZeros64(^r.lines) {
		r.count--
		r.join(&r.nodes[r.count], &top)
	}
	r.nodes[r.count] = top
	r.count++
	r.lines++
	return nil
}

// join makes right the parent of left and right.
func (r *compactRange) join(left, right *leaf) {
	copy(r.pair[1:], left[:])
	copy(r.pair[1+sha256.Size:], right[:])
	*right = sha256.Sum256(r.pair[:])
}

func (t tree) addAll(ls []leaf) error {
	for i := range ls {
		if err := t.add(&ls[i]); err != nil {
			return err
		}
	}
	return nil
}

// clone may change while t stays.
func (t tree) clone() (tree, error) {
	r := *t.r
	return tree{&r}, nil
}

func (t tree) root() ([]byte, error) {
	r := t.r
	if r.lines == 0 {
		empty := emptyRoot()
		return empty[:], nil
	}
	top := r.nodes[r.count-1]
	for i := r.count - 2; i >= 0; i-- {
		r.join(&r.nodes[i], &top)
	}
	return top[:], nil
}

// same reports whether a and b are trees of the same leaves.
func (t tree) same(b tree) bool {
	return t.r.lines == b.r.lines && slices.Equal(t.r.nodes[:t.r.count], b.r.nodes[:b.r.count])
}

// emptyRoot is the root of no lines.
func emptyRoot() leaf { return sha256.Sum256(nil) }
