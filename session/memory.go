// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/part164/part164/audit"
)

// Memory is a [Store] for tests and for trying things out: it keeps users and
// sessions in one process, and a restart forgets them. Make it with
// [NewMemory].
type Memory struct {
	mu       sync.Mutex
	accounts map[userKey]*Account
	logins   map[userKey]*Account
	pending  map[ID]*Pending
	sessions map[ID]*memSession
	lanes    map[ID]*memLane
}

type userKey struct{ tenant, name string }

type memSession struct {
	Session
	owed    time.Time // since when an event is owed; zero where none is
	settled bool
}

type memLane struct {
	full    time.Time // when the lane would be empty again: the TAT of the algorithm
	refusal Refusal
	window  time.Time // when a count was last handed out
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		accounts: make(map[userKey]*Account),
		logins:   make(map[userKey]*Account),
		pending:  make(map[ID]*Pending),
		sessions: make(map[ID]*memSession),
		lanes:    make(map[ID]*memLane),
	}
}

var _ Store = (*Memory)(nil)

// CreateAccount implements [Store].
func (m *Memory) CreateAccount(_ context.Context, a Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, login := userKey{a.Tenant, a.ID}, userKey{a.Tenant, a.Login}
	if m.accounts[id] != nil || m.logins[login] != nil {
		return ErrExists
	}
	a = a.clone()
	m.accounts[id], m.logins[login] = &a, &a
	return nil
}

// AccountByLogin implements [Store].
func (m *Memory) AccountByLogin(_ context.Context, tenant, login string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return found(m.logins[userKey{tenant, login}])
}

// Account implements [Store].
func (m *Memory) Account(_ context.Context, tenant, userID string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return found(m.accounts[userKey{tenant, userID}])
}

func found(a *Account) (Account, error) {
	if a == nil {
		return Account{}, ErrNotFound
	}
	return a.clone(), nil
}

func (a Account) clone() Account {
	a.Roles = slices.Clone(a.Roles)
	a.TOTP = bytes.Clone(a.TOTP)
	a.TOTPNext = bytes.Clone(a.TOTPNext)
	return a
}

// ChangeAccount implements [Store].
func (m *Memory) ChangeAccount(_ context.Context, tenant, userID string, ch Change, at time.Time) ([]Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[userKey{tenant, userID}]
	if a == nil {
		return nil, ErrNotFound
	}
	if ch.Password != nil {
		a.Password = *ch.Password
	}
	if ch.Roles != nil {
		a.Roles = slices.Clone(*ch.Roles)
	}
	if ch.Disabled != nil {
		a.Disabled = *ch.Disabled
	}
	a.Epoch++
	for id, p := range m.pending {
		if p.Tenant == tenant && p.UserID == userID {
			delete(m.pending, id)
		}
	}
	var ended []Session
	for _, s := range m.sessions {
		if s.Tenant == tenant && s.UserID == userID && s.end(at, audit.ReasonRevoked) {
			ended = append(ended, s.Session)
		}
	}
	return ended, nil
}

// OfferTOTP implements [Store].
func (m *Memory) OfferTOTP(_ context.Context, tenant, userID string, cell []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[userKey{tenant, userID}]
	if a == nil {
		return ErrNotFound
	}
	a.TOTPNext = bytes.Clone(cell)
	return nil
}

// ConfirmTOTP implements [Store].
func (m *Memory) ConfirmTOTP(_ context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[userKey{tenant, userID}]
	if a == nil || len(cell) == 0 || !bytes.Equal(a.TOTPNext, cell) {
		return false, nil
	}
	a.TOTP, a.TOTPNext, a.TOTPStep = a.TOTPNext, nil, step
	return true, nil
}

// UseTOTPStep implements [Store].
func (m *Memory) UseTOTPStep(_ context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[userKey{tenant, userID}]
	if a == nil || len(cell) == 0 || !bytes.Equal(a.TOTP, cell) || a.TOTPStep >= step {
		return false, nil
	}
	a.TOTPStep = step
	return true, nil
}

// CreatePending implements [Store].
func (m *Memory) CreatePending(_ context.Context, p Pending) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending[p.ID] = &p
	return nil
}

// TryPending implements [Store].
func (m *Memory) TryPending(_ context.Context, id ID, limit int, at time.Time) (Pending, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pending[id]
	if p == nil || !at.Before(p.Expires) || p.Tries >= limit {
		return Pending{}, ErrNotFound
	}
	p.Tries++
	return *p, nil
}

// TakePending implements [Store].
func (m *Memory) TakePending(_ context.Context, id ID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.pending[id]
	delete(m.pending, id)
	return ok, nil
}

// CreateSession implements [Store].
func (m *Memory) CreateSession(_ context.Context, s Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[userKey{s.Tenant, s.UserID}]
	if a == nil || a.Disabled || a.Epoch != s.Epoch {
		return ErrStale
	}
	m.sessions[s.ID] = &memSession{Session: s}
	return nil
}

// Session implements [Store].
func (m *Memory) Session(_ context.Context, id ID) (Session, User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	if s == nil {
		return Session{}, User{}, ErrNotFound
	}
	a := m.accounts[userKey{s.Tenant, s.UserID}]
	if a == nil {
		return Session{}, User{}, ErrNotFound
	}
	return s.Session, a.clone().User, nil
}

// Touch implements [Store].
func (m *Memory) Touch(_ context.Context, id ID, at time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	if s == nil || !s.Ended.IsZero() || !at.Before(s.Expires) || at.Sub(s.LastSeen) >= s.Idle {
		return false, nil
	}
	if at.After(s.LastSeen) {
		s.LastSeen = at
	}
	return true, nil
}

// End implements [Store].
func (m *Memory) End(_ context.Context, id ID, at time.Time, reason audit.Reason) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	return s != nil && s.end(at, reason), nil
}

func (s *memSession) end(at time.Time, reason audit.Reason) bool {
	if !s.Ended.IsZero() {
		return false
	}
	s.Ended, s.Reason, s.owed = at, reason, at
	return true
}

// Settle implements [Store].
func (m *Memory) Settle(_ context.Context, id ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil && !s.Ended.IsZero() {
		s.settled = true
	}
	return nil
}

// Reserve implements [Store].
func (m *Memory) Reserve(_ context.Context, lane ID, r Rate, at time.Time) (time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lanes[lane]
	if l == nil {
		l = &memLane{}
		m.lanes[lane] = l
	}
	room := at.Add(time.Duration(r.Burst-1) * r.Every)
	if l.full.After(room) {
		return l.full.Sub(room), nil
	}
	if l.full.Before(at) {
		l.full = at
	}
	l.full = l.full.Add(r.Every)
	return 0, nil
}

// Refund implements [Store].
func (m *Memory) Refund(_ context.Context, lane ID, r Rate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.lanes[lane]; l != nil {
		l.full = l.full.Add(-r.Every)
	}
	return nil
}

// refusalWindow is how long refusals of one lane are summed up.
const refusalWindow = time.Minute

// Refuse implements [Store].
func (m *Memory) Refuse(_ context.Context, lane ID, who Refusal, at time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lanes[lane]
	if l == nil {
		l = &memLane{}
		m.lanes[lane] = l
	}
	who.Count = l.refusal.Count + 1
	l.refusal = who
	if at.Sub(l.window) < refusalWindow {
		return 0, nil
	}
	l.window, l.refusal.Count = at, 0
	return who.Count, nil
}

// Sweep implements [Store].
func (m *Memory) Sweep(_ context.Context, at time.Time, limit int) (Due, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due Due
	for id, s := range m.sessions {
		if len(due.Sessions) >= limit {
			break
		}
		reason, over := s.over(User{Epoch: s.Epoch}, at)
		switch {
		case !over:
		case s.end(at, reason):
			due.Sessions = append(due.Sessions, s.Session)
		case s.settled && at.Sub(s.Ended) > keepEnded:
			delete(m.sessions, id)
		case !s.settled && at.Sub(s.owed) >= owedAgain:
			s.owed = at
			due.Sessions = append(due.Sessions, s.Session)
		}
	}
	for id, p := range m.pending {
		if len(due.Pending) >= limit {
			break
		}
		if !at.Before(p.Expires) {
			delete(m.pending, id)
			due.Pending = append(due.Pending, *p)
		}
	}
	for id, l := range m.lanes {
		if len(due.Refusals) >= limit {
			break
		}
		switch {
		case at.Sub(l.window) < refusalWindow:
		case l.refusal.Count > 0:
			due.Refusals = append(due.Refusals, l.refusal)
			l.window, l.refusal.Count = at, 0
		case !l.full.After(at):
			delete(m.lanes, id)
		}
	}
	return due, nil
}

const (
	owedAgain = time.Minute    // after which an unsettled end is handed out again
	keepEnded = 24 * time.Hour // for which a settled session is kept
)
