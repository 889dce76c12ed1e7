// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/internal/fault"
	"github.com/part164/part164/session"
)

// A Store is a [session.Store] in memory that fails and is slow as told. It is
// safe for concurrent use; make one with [NewStore]. A call that fails has
// changed nothing.
type Store struct {
	mem    *session.Memory // not embedded: a method that is forgotten here must not compile
	faults fault.Faults
}

var _ session.Store = (*Store)(nil)

// NewStore returns an empty Store.
func NewStore() *Store { return &Store{mem: session.NewMemory()} }

// Fail makes every later call fail with err, until Fail(nil).
func (s *Store) Fail(err error) { s.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (s *Store) FailAfter(n int, err error) { s.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (s *Store) Delay(d time.Duration) { s.faults.Delay(d) }

// ask makes one call as it was told to.
func ask[T any](s *Store, ctx context.Context, call func() (T, error)) (T, error) {
	if err := s.faults.Call(ctx); err != nil {
		var zero T
		return zero, err
	}
	return call()
}

// do is ask for a call that gives only an error.
func (s *Store) do(ctx context.Context, call func() error) error {
	_, err := ask(s, ctx, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// CreateAccount implements [session.Store].
func (s *Store) CreateAccount(ctx context.Context, a session.Account) error {
	return s.do(ctx, func() error { return s.mem.CreateAccount(ctx, a) })
}

// AccountByLogin implements [session.Store].
func (s *Store) AccountByLogin(ctx context.Context, tenant, login string) (session.Account, error) {
	return ask(s, ctx, func() (session.Account, error) { return s.mem.AccountByLogin(ctx, tenant, login) })
}

// Account implements [session.Store].
func (s *Store) Account(ctx context.Context, tenant, userID string) (session.Account, error) {
	return ask(s, ctx, func() (session.Account, error) { return s.mem.Account(ctx, tenant, userID) })
}

// ChangeAccount implements [session.Store].
func (s *Store) ChangeAccount(ctx context.Context, tenant, userID string, ch session.Change, at time.Time) ([]session.Session, error) {
	return ask(s, ctx, func() ([]session.Session, error) { return s.mem.ChangeAccount(ctx, tenant, userID, ch, at) })
}

// OfferTOTP implements [session.Store].
func (s *Store) OfferTOTP(ctx context.Context, tenant, userID string, cell []byte) error {
	return s.do(ctx, func() error { return s.mem.OfferTOTP(ctx, tenant, userID, cell) })
}

// ConfirmTOTP implements [session.Store].
func (s *Store) ConfirmTOTP(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.ConfirmTOTP(ctx, tenant, userID, cell, step) })
}

// UseTOTPStep implements [session.Store].
func (s *Store) UseTOTPStep(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.UseTOTPStep(ctx, tenant, userID, cell, step) })
}

// CreatePending implements [session.Store].
func (s *Store) CreatePending(ctx context.Context, p session.Pending) error {
	return s.do(ctx, func() error { return s.mem.CreatePending(ctx, p) })
}

// TryPending implements [session.Store].
func (s *Store) TryPending(ctx context.Context, id session.ID, limit int, at time.Time) (session.Pending, error) {
	return ask(s, ctx, func() (session.Pending, error) { return s.mem.TryPending(ctx, id, limit, at) })
}

// TakePending implements [session.Store].
func (s *Store) TakePending(ctx context.Context, id session.ID) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.TakePending(ctx, id) })
}

// CreateSession implements [session.Store].
func (s *Store) CreateSession(ctx context.Context, ses session.Session) error {
	return s.do(ctx, func() error { return s.mem.CreateSession(ctx, ses) })
}

// Session implements [session.Store].
func (s *Store) Session(ctx context.Context, id session.ID) (session.Session, session.User, error) {
	var u session.User
	ses, err := ask(s, ctx, func() (ses session.Session, err error) { ses, u, err = s.mem.Session(ctx, id); return ses, err })
	return ses, u, err
}

// Touch implements [session.Store].
func (s *Store) Touch(ctx context.Context, id session.ID, at time.Time) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.Touch(ctx, id, at) })
}

// End implements [session.Store].
func (s *Store) End(ctx context.Context, id session.ID, at time.Time, reason audit.Reason) (bool, error) {
	return ask(s, ctx, func() (bool, error) { return s.mem.End(ctx, id, at, reason) })
}

// Settle implements [session.Store].
func (s *Store) Settle(ctx context.Context, id session.ID) error {
	return s.do(ctx, func() error { return s.mem.Settle(ctx, id) })
}

// Reserve implements [session.Store].
func (s *Store) Reserve(ctx context.Context, lane session.ID, r session.Rate, at time.Time) (time.Duration, error) {
	return ask(s, ctx, func() (time.Duration, error) { return s.mem.Reserve(ctx, lane, r, at) })
}

// Refund implements [session.Store].
func (s *Store) Refund(ctx context.Context, lane session.ID, r session.Rate) error {
	return s.do(ctx, func() error { return s.mem.Refund(ctx, lane, r) })
}

// Refuse implements [session.Store].
func (s *Store) Refuse(ctx context.Context, lane session.ID, who session.Refusal, at time.Time) (int, error) {
	return ask(s, ctx, func() (int, error) { return s.mem.Refuse(ctx, lane, who, at) })
}

// Sweep implements [session.Store].
func (s *Store) Sweep(ctx context.Context, at time.Time, limit int) (session.Due, error) {
	return ask(s, ctx, func() (session.Due, error) { return s.mem.Sweep(ctx, at, limit) })
}
