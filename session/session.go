// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// touchEvery is the least time between two writes of LastSeen.
func touchEvery(idle time.Duration) time.Duration { return min(time.Minute, idle/15) }

// Authenticate returns the principal of a session token, and notes that the
// session was used. A token without a live session gives [ErrNoSession], any
// other error means that it cannot be told: refuse in both cases.
//
// LastSeen is written at most once in min(1 minute, Idle/15), so a session is
// over between Idle less that and Idle after its last use: never later. The
// write is conditional: a session that has ended in the meantime stays ended.
func (m *Manager) Authenticate(ctx context.Context, token string, addr netip.Addr) (access.Principal, error) {
	s, u, err := m.live(ctx, token)
	if err != nil {
		return access.Principal{}, err
	}
	if now := m.now(); now.Sub(s.LastSeen) >= touchEvery(s.Idle) {
		ok, err := m.store.Touch(ctx, s.ID, now)
		if err != nil {
			return access.Principal{}, fmt.Errorf("session: touch: %w", err)
		}
		if !ok {
			return access.Principal{}, ErrNoSession
		}
	}
	s.Addr = addr
	return m.principal(u, s), nil
}

// Peek returns a live session without touching it: asking how long is left
// does not make it longer.
func (m *Manager) Peek(ctx context.Context, token string) (Session, error) {
	s, _, err := m.live(ctx, token)
	return s, err
}

// live loads a session and ends it where it is over.
func (m *Manager) live(ctx context.Context, token string) (Session, User, error) {
	id, err := tokenID(token)
	if err != nil {
		return Session{}, User{}, ErrNoSession
	}
	s, u, err := m.store.Session(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return Session{}, User{}, ErrNoSession
	}
	if err != nil {
		return Session{}, User{}, fmt.Errorf("session: load: %w", err)
	}
	if reason, over := s.over(u, m.now()); over {
		if err := m.end(ctx, s, reason); err != nil {
			return Session{}, User{}, err
		}
		return Session{}, User{}, ErrNoSession
	}
	return s, u, nil
}

// Logout ends the session of a token. It is no error when there is none.
func (m *Manager) Logout(ctx context.Context, token string) error {
	s, _, err := m.live(ctx, token)
	if errors.Is(err, ErrNoSession) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.end(ctx, s, audit.ReasonLogout)
}

// end ends a session and records it, if nobody else did.
func (m *Manager) end(ctx context.Context, s Session, reason audit.Reason) error {
	if !s.Ended.IsZero() {
		return nil
	}
	now := m.now()
	won, err := m.store.End(context.WithoutCancel(ctx), s.ID, now, reason)
	if err != nil {
		return fmt.Errorf("session: end: %w", err)
	}
	if won {
		s.Ended, s.Reason = now, reason
		m.recordEnd(ctx, s)
	}
	return nil
}

// recordEnd records the end of a session that the caller ended. Where that
// fails, the store still says that an event is owed, and a sweep records it:
// an end is never undone for want of a record.
func (m *Manager) recordEnd(ctx context.Context, s Session) {
	ctx = context.WithoutCancel(ctx)
	err := m.record(ctx, audit.Event{
		Type: audit.SessionEnded, Outcome: audit.Success, Reason: s.Reason,
		Actor: m.principal(User{ID: s.UserID, Tenant: s.Tenant, Kind: s.Kind}, s),
		Objects: []audit.Object{
			{Type: "session", Tenant: s.Tenant, Record: s.ID.Ref()},
			{Type: "user", Tenant: s.Tenant, Record: s.UserID},
		},
	})
	if err == nil {
		err = m.store.Settle(ctx, s.ID)
	}
	if err != nil {
		m.log.Error("end of a session not recorded yet", zap.String("session", s.ID.Ref()), zap.Error(err))
	}
}
