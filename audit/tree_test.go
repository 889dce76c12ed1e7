// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// The tree is that of the reference implementation, at each size, however it
// came about.
func TestTreeIsThatOfTheReference(t *testing.T) {
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	want := f.NewEmptyRange(0)
	have, err := newTree(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for size := range uint64(600) {
		root, err := have.root()
		if err != nil {
			t.Fatal(err)
		}
		wantRoot, err := want.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			wantRoot = rfc6962.DefaultHasher.EmptyRoot()
		}
		if !bytes.Equal(root, wantRoot) || have.size() != size {
			t.Fatalf("size %d: another root", size)
		}
		again, err := newTree(size, want.Hashes())
		if err != nil || !again.same(have) {
			t.Fatalf("size %d: another tree from its compact range, %v", size, err)
		}
		if size%7 == 0 {
			if have, err = have.clone(); err != nil {
				t.Fatal(err)
			}
		}
		var l leaf
		for i := range l {
			l[i] = byte(rng.Uint32())
		}
		if err := have.add(&l); err != nil {
			t.Fatal(err)
		}
		if err := want.Append(bytes.Clone(l[:]), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range [][][]byte{nil, {make([]byte, 32)}, {make([]byte, 32), make([]byte, 31)}} {
		if _, err := newTree(3, bad); err == nil {
			t.Errorf("a compact range of %d hashes passes for 3 lines", len(bad))
		}
	}
	l := leaf{1}
	if n := testing.AllocsPerRun(1000, func() { _ = have.add(&l) }); n != 0 {
		t.Errorf("%v allocations a leaf", n)
	}
}
