// SPDX-License-Identifier: Apache-2.0

package crypto

import "slices"

// A testKEK is a KEK for tests, as cryptotest has and as a fake of your own
// becomes by a method ForTestsOnly. Every tenant key that is wrapped under it,
// and every cell that is sealed under it, carries a mark that no other KEK's
// keyring opens: data of a test that comes into a production database, or a
// test's KEK that comes into production, is found at once and by name.
type testKEK interface{ ForTestsOnly() }

// marks says what a KEK means for the mark of tests.
type marks struct {
	seals bool // what is sealed carries it
	opens bool // what carries it opens
}

func marksOf(k KEK) marks {
	return marks{seals: forTests(currentOf(k)), opens: forTests(k)}
}

func forTests(k KEK) bool {
	if _, ok := k.(testKEK); ok {
		return true
	}
	w, ok := k.(interface{ KEKs() []KEK })
	return ok && slices.ContainsFunc(w.KEKs(), forTests)
}

// testKeyset leads a wrapped tenant keyset of tests. No Tink keyset begins so:
// as protobuf it would be the end of a group that never began.
const testKeyset = "test key of part164\n"

// testVersion is the bit of a cell's key version that marks a cell of tests.
// Versions end below it.
const (
	testVersion   uint32 = 1 << 31
	maxKeyVersion uint32 = testVersion - 1
)
