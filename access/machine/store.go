// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of a [Store].
var (
	ErrNotFound = errors.New("machine: no such key")
	ErrExists   = errors.New("machine: the key's ID is taken")
)

// A Store keeps keys and revocations. Each method is one atomic step, so that any
// number of nodes may share a Store. Times are those of the caller, kept to the
// nanosecond. Implementations are safe for concurrent use; the conformance suite
// is machinetest.TestStore.
type Store interface {
	// CreateKey inserts k, or gives ErrExists.
	CreateKey(ctx context.Context, k Key) error

	// Key returns a key, live or not, or ErrNotFound.
	Key(ctx context.Context, id string) (Key, error)

	// Keys returns all keys of a tenant, the oldest first.
	Keys(ctx context.Context, tenant string) ([]Key, error)

	// RotateKey inserts next as the successor of a key, and lets that expire at
	// until at the latest, if it is of the tenant, is live at at, and has no
	// successor; else it gives ErrNotFound. Of concurrent callers one succeeds.
	RotateKey(ctx context.Context, tenant, id string, next Key, until, at time.Time) error

	// RevokeKey revokes a key of the tenant that is not revoked. Exactly one
	// caller gets true.
	RevokeKey(ctx context.Context, tenant, id string, at time.Time) (bool, error)

	// RevokeService revokes all keys of a service, those included that a rotation
	// at the same time makes, and returns how many.
	RevokeService(ctx context.Context, tenant, service string, at time.Time) (int, error)

	// TouchKey moves LastUsed forward to at.
	TouchKey(ctx context.Context, id string, at time.Time) error

	// RevokeCertificate revokes a certificate. It is no error to do so twice: the
	// first time stays.
	RevokeCertificate(ctx context.Context, id CertificateID, at time.Time) error

	// CertificateRevoked reports whether one of the certificates is revoked.
	CertificateRevoked(ctx context.Context, ids ...CertificateID) (bool, error)
}

// Memory is a [Store] in one process, which a restart forgets. Make it with
// [NewMemory].
type Memory struct {
	mu    sync.Mutex
	keys  map[string]*Key
	certs map[CertificateID]time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{keys: make(map[string]*Key), certs: make(map[CertificateID]time.Time)}
}

func (k Key) clone() Key {
	k.Roles, k.Purposes, k.Networks = slices.Clone(k.Roles), slices.Clone(k.Purposes), slices.Clone(k.Networks)
	return k
}

// CreateKey implements [Store].
func (m *Memory) CreateKey(_ context.Context, k Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[k.ID] != nil {
		return ErrExists
	}
	k = k.clone()
	m.keys[k.ID] = &k
	return nil
}

// Key implements [Store].
func (m *Memory) Key(_ context.Context, id string) (Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keys[id]
	if k == nil {
		return Key{}, ErrNotFound
	}
	return k.clone(), nil
}

// Keys implements [Store].
func (m *Memory) Keys(_ context.Context, tenant string) ([]Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Key
	for _, k := range m.keys {
		if k.Tenant == tenant {
			out = append(out, k.clone())
		}
	}
	slices.SortFunc(out, func(a, b Key) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

// RotateKey implements [Store].
func (m *Memory) RotateKey(_ context.Context, tenant, id string, next Key, until, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keys[id]
	if k == nil || k.Tenant != tenant || !k.Live(at) || k.Next != "" {
		return ErrNotFound
	}
	if m.keys[next.ID] != nil {
		return ErrExists
	}
	k.Next = next.ID
	if until.Before(k.Expires) {
		k.Expires = until
	}
	next = next.clone()
	m.keys[next.ID] = &next
	return nil
}

// RevokeKey implements [Store].
func (m *Memory) RevokeKey(_ context.Context, tenant, id string, at time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keys[id]
	if k == nil || k.Tenant != tenant || !k.Revoked.IsZero() {
		return false, nil
	}
	k.Revoked = at
	return true, nil
}

// RevokeService implements [Store].
func (m *Memory) RevokeService(_ context.Context, tenant, service string, at time.Time) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		if k.Tenant == tenant && k.Service == service && k.Revoked.IsZero() {
			k.Revoked = at
			n++
		}
	}
	return n, nil
}

// TouchKey implements [Store].
func (m *Memory) TouchKey(_ context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.keys[id]; k != nil && k.LastUsed.Before(at) {
		k.LastUsed = at
	}
	return nil
}

// RevokeCertificate implements [Store].
func (m *Memory) RevokeCertificate(_ context.Context, id CertificateID, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.certs[id]; !ok {
		m.certs[id] = at
	}
	return nil
}

// CertificateRevoked implements [Store].
func (m *Memory) CertificateRevoked(_ context.Context, ids ...CertificateID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(ids, func(id CertificateID) bool { _, ok := m.certs[id]; return ok }), nil
}
