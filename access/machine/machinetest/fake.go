// SPDX-License-Identifier: Apache-2.0

package machinetest

import (
	"context"
	"time"

	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/internal/fault"
)

// A Store is a [machine.Store] in memory that fails and is slow as told. Make it
// with [NewStore]; it is safe for concurrent use.
type Store struct {
	mem    *machine.Memory
	faults fault.Faults
}

var _ machine.Store = (*Store)(nil)

// NewStore returns an empty Store.
func NewStore() *Store { return &Store{mem: machine.NewMemory()} }

// Fail makes every later call fail with err, until Fail(nil).
func (s *Store) Fail(err error) { s.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (s *Store) FailAfter(n int, err error) { s.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (s *Store) Delay(d time.Duration) { s.faults.Delay(d) }

func ask[T any](s *Store, ctx context.Context, f func() (T, error)) (T, error) {
	if err := s.faults.Call(ctx); err != nil {
		var zero T
		return zero, err
	}
	return f()
}

func (s *Store) do(ctx context.Context, f func() error) error {
	if err := s.faults.Call(ctx); err != nil {
		return err
	}
	return f()
}

// CreateKey implements [machine.Store].
func (s *Store) CreateKey(ctx context.Context, k machine.Key) error {
	return s.do(ctx, func() error { return s.mem.CreateKey(ctx, k) })
}

// Key implements [machine.Store].
func (s *Store) Key(ctx context.Context, id string) (machine.Key, error) {
	return ask(s, ctx, func() (machine.Key, error) { return s.mem.Key(ctx, id) })
}

// Keys implements [machine.Store].
func (s *Store) Keys(ctx context.Context, tenant string) ([]machine.Key, error) {
	return ask(s, ctx, func() ([]machine.Key, error) { return s.mem.Keys(ctx, tenant) })
}

// RotateKey implements [machine.Store].
func (s *Store) RotateKey(ctx context.Context, tenant, id string, next machine.Key, until, at time.Time) error {
	return s.do(ctx, func() error { return s.mem.RotateKey(ctx, tenant, id, next, until, at) })
}

// RevokeKey implements [machine.Store].
func (s *Store) RevokeKey(ctx context.Context, tenant, id string, at time.Time) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.RevokeKey(ctx, tenant, id, at) })
}

// RevokeService implements [machine.Store].
func (s *Store) RevokeService(ctx context.Context, tenant, service string, at time.Time) (int, error) {
	return ask(s, ctx, func() (int, error) { return s.mem.RevokeService(ctx, tenant, service, at) })
}

// TouchKey implements [machine.Store].
func (s *Store) TouchKey(ctx context.Context, id string, at time.Time) error {
	return s.do(ctx, func() error { return s.mem.TouchKey(ctx, id, at) })
}

// RevokeCertificate implements [machine.Store].
func (s *Store) RevokeCertificate(ctx context.Context, id machine.CertificateID, at time.Time) error {
	return s.do(ctx, func() error { return s.mem.RevokeCertificate(ctx, id, at) })
}

// CertificateRevoked implements [machine.Store].
func (s *Store) CertificateRevoked(ctx context.Context, ids ...machine.CertificateID) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.CertificateRevoked(ctx, ids...) })
}
