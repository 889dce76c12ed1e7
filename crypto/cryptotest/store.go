// SPDX-License-Identifier: Apache-2.0

package cryptotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/internal/fault"
)

// Store is the key tables in memory. Its transactions run one at a time, as
// SQLite's immediate ones do; reads outside them see what is committed. It is
// safe for concurrent use; make one with [NewStore].
type Store struct {
	writer chan struct{} // holds one token: who writes
	faults fault.Faults

	mu        sync.Mutex
	committed state
	queries   int
}

type state struct {
	tenants    map[tenantUse][]byte
	subjects   map[subjectVersion]crypto.KeyRow
	generation uint64
}

type tenantUse struct{ tenant, use string }

type subjectVersion struct {
	tenant, subject string
	version         uint32 // 0 in a tombstone
}

func (s state) clone() state {
	return state{maps.Clone(s.tenants), maps.Clone(s.subjects), s.generation}
}

// NewStore returns a Store without keys.
func NewStore() *Store {
	return &Store{
		writer:    make(chan struct{}, 1),
		committed: state{make(map[tenantUse][]byte), make(map[subjectVersion]crypto.KeyRow), 1},
	}
}

// Fail makes every later call of any KeyRows of the store fail with err, until
// Fail(nil).
func (s *Store) Fail(err error) { s.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (s *Store) FailAfter(n int, err error) { s.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (s *Store) Delay(d time.Duration) { s.faults.Delay(d) }

// Queries returns how many calls of SubjectKeys and TenantKeyset there were.
func (s *Store) Queries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries
}

// Rows returns the key tables outside any transaction: each call commits by
// itself.
func (s *Store) Rows() crypto.KeyRows { return autocommit{s} }

// Begin begins a transaction, when no other is open.
func (s *Store) Begin(ctx context.Context) (Tx, error) { return s.begin(ctx) }

// Shred deletes the subject's keys, leaves a tombstone and changes the
// generation, in a transaction of its own.
func (s *Store) Shred(ctx context.Context, tenant, subject string) error {
	return s.update(ctx, func(tx *storeTx) error { return tx.remove(tenant, subject, true) })
}

// Retire deletes the subject's keys and changes the generation, in a
// transaction of its own. There is no tombstone.
func (s *Store) Retire(ctx context.Context, tenant, subject string) error {
	return s.update(ctx, func(tx *storeTx) error { return tx.remove(tenant, subject, false) })
}

func (s *Store) begin(ctx context.Context) (*storeTx, error) {
	select {
	case s.writer <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("cryptotest: begin: another transaction is open: %w", ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &storeTx{store: s, now: s.committed.clone()}, nil
}

func (s *Store) update(ctx context.Context, f func(*storeTx) error) error {
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *Store) check(ctx context.Context, query bool) error {
	s.mu.Lock()
	if query {
		s.queries++
	}
	s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.faults.Call(ctx)
}

func (s *Store) snapshot() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed // its maps are never written to: Commit puts others in place
}

// autocommit is the store outside a transaction.
type autocommit struct{ *Store }

func (a autocommit) read() *storeTx { return &storeTx{store: a.Store, now: a.snapshot()} }

func (a autocommit) TenantKeyset(ctx context.Context, tenant, use string, lock bool) ([]byte, error) {
	return a.read().TenantKeyset(ctx, tenant, use, lock)
}

func (a autocommit) SubjectKeys(ctx context.Context, tenant string, subjects []string, lock bool) ([]crypto.KeyRow, error) {
	return a.read().SubjectKeys(ctx, tenant, subjects, lock)
}

func (a autocommit) Generation(ctx context.Context) (uint64, error) { return a.read().Generation(ctx) }

func (a autocommit) InsertTenantKeyset(ctx context.Context, tenant, use string, wrapped []byte) error {
	return a.update(ctx, func(tx *storeTx) error { return tx.InsertTenantKeyset(ctx, tenant, use, wrapped) })
}

func (a autocommit) InsertSubjectKey(ctx context.Context, row crypto.KeyRow) error {
	return a.update(ctx, func(tx *storeTx) error { return tx.InsertSubjectKey(ctx, row) })
}

func (a autocommit) LockKeys(context.Context, string, string) error { return errOutside }

func (a autocommit) ReplaceTenantKeyset(ctx context.Context, tenant, use string, old, wrapped []byte) error {
	return a.update(ctx, func(tx *storeTx) error { return tx.ReplaceTenantKeyset(ctx, tenant, use, old, wrapped) })
}

func (a autocommit) ReplaceSubjectKey(ctx context.Context, row crypto.KeyRow, old []byte) error {
	return a.update(ctx, func(tx *storeTx) error { return tx.ReplaceSubjectKey(ctx, row, old) })
}

func (a autocommit) DeleteSubjectKey(ctx context.Context, tenant, subject string, version uint32) error {
	return a.update(ctx, func(tx *storeTx) error { return tx.DeleteSubjectKey(ctx, tenant, subject, version) })
}

func (a autocommit) CountOthers(ctx context.Context, tenant string, prefix []byte) (int64, error) {
	return a.read().CountOthers(ctx, tenant, prefix)
}

func (a autocommit) BumpGeneration(ctx context.Context) error {
	return a.update(ctx, func(tx *storeTx) error { return tx.BumpGeneration(ctx) })
}

var errOutside = errors.New("cryptotest: a lock outside a transaction")

// storeTx is a transaction: a copy of the tables that Commit puts in place.
type storeTx struct {
	store *Store

	mu    sync.Mutex
	now   state
	saved []savepoint
	ended bool
}

type savepoint struct {
	name string
	state
}

var errEnded = errors.New("cryptotest: the transaction has ended")

func (tx *storeTx) enter(ctx context.Context, query bool) error {
	if err := tx.store.check(ctx, query); err != nil {
		return err
	}
	tx.mu.Lock()
	if tx.ended {
		tx.mu.Unlock()
		return errEnded
	}
	return nil
}

func (tx *storeTx) TenantKeyset(ctx context.Context, tenant, use string, _ bool) ([]byte, error) {
	if err := tx.enter(ctx, true); err != nil {
		return nil, err
	}
	defer tx.mu.Unlock()
	return bytes.Clone(tx.now.tenants[tenantUse{tenant, use}]), nil
}

func (tx *storeTx) InsertTenantKeyset(ctx context.Context, tenant, use string, wrapped []byte) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	defer tx.mu.Unlock()
	if id := (tenantUse{tenant, use}); tx.now.tenants[id] == nil {
		tx.now.tenants[id] = bytes.Clone(wrapped)
	}
	return nil
}

func (tx *storeTx) SubjectKeys(ctx context.Context, tenant string, subjects []string, _ bool) ([]crypto.KeyRow, error) {
	if err := tx.enter(ctx, true); err != nil {
		return nil, err
	}
	defer tx.mu.Unlock()
	var rows []crypto.KeyRow
	for id, row := range tx.now.subjects {
		if id.tenant == tenant && slices.Contains(subjects, id.subject) {
			row.Wrapped = bytes.Clone(row.Wrapped)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (tx *storeTx) InsertSubjectKey(ctx context.Context, row crypto.KeyRow) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	defer tx.mu.Unlock()
	_, shredded := tx.now.subjects[subjectVersion{row.Tenant, row.Subject, 0}]
	id := subjectVersion{row.Tenant, row.Subject, row.Version}
	if _, ok := tx.now.subjects[id]; !ok && !shredded {
		row.Wrapped = bytes.Clone(row.Wrapped)
		tx.now.subjects[id] = row
	}
	return nil
}

// LockKeys does nothing: transactions run one at a time.
func (tx *storeTx) LockKeys(ctx context.Context, _, _ string) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	tx.mu.Unlock()
	return nil
}

func (tx *storeTx) ReplaceTenantKeyset(ctx context.Context, tenant, use string, old, wrapped []byte) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	defer tx.mu.Unlock()
	id := tenantUse{tenant, use}
	if now := tx.now.tenants[id]; now == nil || !bytes.Equal(now, old) {
		return fmt.Errorf("cryptotest: replace tenant key: %w", crypto.ErrKeyLost)
	}
	tx.now.tenants[id] = bytes.Clone(wrapped)
	return nil
}

func (tx *storeTx) ReplaceSubjectKey(ctx context.Context, row crypto.KeyRow, old []byte) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	defer tx.mu.Unlock()
	id := subjectVersion{row.Tenant, row.Subject, row.Version}
	now, ok := tx.now.subjects[id]
	if !ok || !bytes.Equal(now.Wrapped, old) {
		return fmt.Errorf("cryptotest: replace subject key: %w", crypto.ErrKeyLost)
	}
	now.Wrapped = bytes.Clone(row.Wrapped)
	tx.now.subjects[id] = now
	return nil
}

func (tx *storeTx) DeleteSubjectKey(ctx context.Context, tenant, subject string, version uint32) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	defer tx.mu.Unlock()
	if version > 0 { // 0 is the tombstone
		delete(tx.now.subjects, subjectVersion{tenant, subject, version})
	}
	return nil
}

func (tx *storeTx) CountOthers(ctx context.Context, tenant string, prefix []byte) (n int64, err error) {
	if err := tx.enter(ctx, false); err != nil {
		return 0, err
	}
	defer tx.mu.Unlock()
	for id, row := range tx.now.subjects {
		if id.tenant == tenant && !row.Shredded && !bytes.HasPrefix(row.Wrapped, prefix) {
			n++
		}
	}
	return n, nil
}

func (tx *storeTx) BumpGeneration(ctx context.Context) error {
	if err := tx.enter(ctx, false); err != nil {
		return err
	}
	defer tx.mu.Unlock()
	tx.now.generation++
	return nil
}

func (tx *storeTx) Generation(ctx context.Context) (uint64, error) {
	if err := tx.enter(ctx, false); err != nil {
		return 0, err
	}
	defer tx.mu.Unlock()
	return tx.now.generation, nil
}

func (tx *storeTx) remove(tenant, subject string, shred bool) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	maps.DeleteFunc(tx.now.subjects, func(id subjectVersion, _ crypto.KeyRow) bool {
		return id.tenant == tenant && id.subject == subject && id.version > 0
	})
	if shred {
		tx.now.subjects[subjectVersion{tenant, subject, 0}] = crypto.KeyRow{Tenant: tenant, Subject: subject, Shredded: true}
	}
	tx.now.generation++
	return nil
}

func (tx *storeTx) Savepoint(name string) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.saved = append(tx.saved, savepoint{name, tx.now.clone()})
	return nil
}

func (tx *storeTx) RollbackTo(name string) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	for i := len(tx.saved) - 1; i >= 0; i-- {
		if tx.saved[i].name == name {
			tx.now = tx.saved[i].clone()
			tx.saved = tx.saved[:i+1]
			return nil
		}
	}
	return fmt.Errorf("cryptotest: no savepoint %q", name)
}

func (tx *storeTx) Commit() error {
	return tx.end(func() { tx.store.committed = tx.now })
}

func (tx *storeTx) Rollback() error { return tx.end(func() {}) }

func (tx *storeTx) end(f func()) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return errEnded
	}
	tx.ended = true
	tx.store.mu.Lock()
	f()
	tx.store.mu.Unlock()
	<-tx.store.writer
	return nil
}
