// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
)

// An IndexKey makes the tokens of one tenant's search index. It is never a
// subject's key, or a search would have to try every patient's. It is safe for
// concurrent use and prints as nothing secret.
type IndexKey struct {
	tenant  string
	version uint32
	macs    *sync.Pool // of *indexMAC
}

type indexMAC struct {
	hash hash.Hash
	buf  []byte
}

// newIndexKeys returns the enabled keys of a keyset: the primary, which is the
// newest, first.
func newIndexKeys(h *keyset.Handle, tenant string) ([]*IndexKey, error) {
	if _, err := h.Primary(); err != nil {
		return nil, err
	}
	var keys []*IndexKey
	for i := range h.Len() {
		e, err := h.Entry(i)
		if err != nil {
			return nil, err
		}
		if e.KeyStatus() != keyset.Enabled {
			continue
		}
		k, err := newIndexKey(e, tenant)
		if err != nil {
			return nil, err
		}
		if e.IsPrimary() {
			keys = slices.Insert(keys, 0, k)
		} else {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func newIndexKey(e *keyset.Entry, tenant string) (*IndexKey, error) {
	k, ok := e.Key().(*hmacprf.Key)
	if !ok {
		return nil, errors.New("a key of the keyset is not an HMAC PRF key")
	}
	if p, ok := k.Parameters().(*hmacprf.Parameters); !ok || p.HashType() != hmacprf.SHA256 {
		return nil, errors.New("a key of the keyset is not HMAC-SHA256")
	}
	raw := k.KeyBytes()
	return &IndexKey{tenant: tenant, version: e.KeyID(), macs: &sync.Pool{New: func() any {
		b := raw.Data(insecuresecretdataaccess.Token{})
		defer clear(b)
		return &indexMAC{hash: hmac.New(sha256.New, b)}
	}}}, nil
}

// Version identifies the key among the tenant's index keys: a Tink key ID, any
// 32-bit number, so a column for it needs 64 bits where integers are signed.
func (k *IndexKey) Version() uint32 { return k.version }

// Token returns the 32-byte token of value: HMAC-SHA256, what Tink's PRF of
// the same keyset computes, over tenant, field, kind and value, each
// length-prefixed. Equal values have equal tokens only within one tenant,
// field and kind. The zero IndexKey returns nil.
func (k *IndexKey) Token(field, kind, value string) []byte {
	if k == nil || k.macs == nil {
		return nil
	}
	m := k.macs.Get().(*indexMAC)
	m.buf = appendPart(m.buf[:0], "part164/index")
	m.buf = appendPart(m.buf, k.tenant)
	m.buf = appendPart(m.buf, field)
	m.buf = appendPart(m.buf, kind)
	m.buf = appendPart(m.buf, value)
	m.hash.Reset()
	m.hash.Write(m.buf)
	token := m.hash.Sum(make([]byte, 0, sha256.Size))
	clear(m.buf) // it held the value
	k.macs.Put(m)
	return token
}

// Format prints what the key is, for every verb, and nothing of it.
func (k IndexKey) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[crypto.IndexKey version %d]", k.version)
}
