// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// An Attempt is a password on trial.
type Attempt struct {
	Tenant   string
	Login    string
	Password string
	Addr     netip.Addr // where it comes from
}

// A Step is what a sign-in needs next.
type Step string

// The steps.
const (
	StepTOTP Step = "totp" // ask for a code and call TOTP with the token
	StepDone Step = "done" // signed in: the token is the session's
)

// A SignIn is where a sign-in stands. The Token is a secret that belongs in a
// cookie; the HTTP methods of [Manager] see to that.
type SignIn struct {
	Next  Step
	Token string
}

// String hides the token.
func (s SignIn) String() string { return "[sign-in: " + string(s.Next) + "]" }

// GoString hides the token.
func (s SignIn) GoString() string { return s.String() }

// Password checks a password, the first step of a sign-in. An unknown login, a
// disabled user and a wrong password all give [ErrSignIn] after the same work;
// a spent throttle lane gives a [*LockedError] and a full queue [ErrBusy]
// before any. An error of the audit trail refuses, too.
func (m *Manager) Password(ctx context.Context, a Attempt) (SignIn, error) {
	now := m.now()
	stranger := access.Principal{Addr: a.Addr}
	t, err := m.reserve(ctx, stranger, now, m.addressLane(a.Addr))
	if err != nil {
		return SignIn{}, err
	}
	login, err := normalLogin(a.Login)
	if err != nil { // nobody has such a login, and it must not key a lane
		return SignIn{}, m.refuse(stranger, audit.ReasonPassword, ErrSignIn)
	}
	acc, err := m.store.AccountByLogin(ctx, a.Tenant, login)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return SignIn{}, fmt.Errorf("session: sign in: %w", err)
	}
	who := m.principal(acc.User, Session{Addr: a.Addr})
	t2, err := m.reserve(ctx, who, now, m.accountLane(a.Tenant, login))
	if err != nil {
		return SignIn{}, err
	}
	t.lanes = append(t.lanes, t2.lanes...)

	password := a.Password
	if len(password) > maxPassword {
		password = "" // nobody has such a password: the work is done, and it does not match
	}
	ok, err := m.hasher.verify(ctx, acc.Password, password)
	switch {
	case err != nil:
		return SignIn{}, errors.Join(err, t.refund(ctx))
	case !ok:
		m.warnFIPS(acc)
		return SignIn{}, m.refuse(who, audit.ReasonPassword, ErrSignIn)
	case acc.Disabled:
		return SignIn{}, m.refuse(who, audit.ReasonDisabled, ErrSignIn)
	}
	if err := t.refund(ctx); err != nil {
		return SignIn{}, err
	}
	switch {
	case len(acc.TOTP) > 0:
		token, id := newToken()
		p := Pending{ID: id, Tenant: acc.Tenant, UserID: acc.ID, Epoch: acc.Epoch, Expires: now.Add(m.pendingTTL)}
		if err := m.store.CreatePending(ctx, p); err != nil {
			return SignIn{}, fmt.Errorf("session: sign in: %w", err)
		}
		return SignIn{Next: StepTOTP, Token: token}, nil
	case !m.single:
		return SignIn{}, m.refuse(who, audit.ReasonTOTP, ErrNoFactor)
	}
	return m.open(ctx, acc.User, a.Addr, 1)
}

// warnFIPS tells the operator, not the user, why a password cannot be checked.
func (m *Manager) warnFIPS(a Account) {
	if p, err := parsePHC(a.Password); err == nil && m.hasher.fips && !p.pbkdf2 {
		m.log.Warn("password hash is argon2id, which a FIPS-only process cannot check: set a new password", zap.String("user", a.ID))
	}
}

// TOTP checks a code, the second step. The token is that of [Manager.Password].
// A wrong or used code gives [ErrSignIn]; after the fifth, and whenever the
// pending sign-in is gone, it gives [ErrPending].
func (m *Manager) TOTP(ctx context.Context, token, code string, addr netip.Addr) (SignIn, error) {
	now := m.now()
	id, err := tokenID(token)
	if err != nil {
		return SignIn{}, ErrPending
	}
	t, err := m.reserve(ctx, access.Principal{Addr: addr}, now, m.addressLane(addr))
	if err != nil {
		return SignIn{}, err
	}
	p, err := m.store.TryPending(ctx, id, maxTries, now)
	if errors.Is(err, ErrNotFound) {
		return SignIn{}, ErrPending
	}
	if err != nil {
		return SignIn{}, fmt.Errorf("session: sign in: %w", err)
	}
	acc, err := m.store.Account(ctx, p.Tenant, p.UserID)
	if err != nil {
		return SignIn{}, fmt.Errorf("session: sign in: %w", err)
	}
	who := m.principal(acc.User, Session{Addr: addr})
	if acc.Disabled || acc.Epoch != p.Epoch {
		return SignIn{}, m.dead(ctx, id, m.refuse(who, audit.ReasonRevoked, ErrPending))
	}
	t2, err := m.reserve(ctx, who, now, m.codeLane(acc.User))
	if err != nil {
		return SignIn{}, err
	}
	t.lanes = append(t.lanes, t2.lanes...)

	ok, err := m.checkCode(ctx, acc, code)
	switch {
	case errors.Is(err, ErrFIPS):
		return SignIn{}, m.dead(ctx, id, m.refuse(who, audit.ReasonTOTP, err))
	case err != nil: // the secret does not open: a fault, not a wrong code
		return SignIn{}, m.dead(ctx, id, m.refuse(who, audit.ReasonCell, err))
	case !ok && p.Tries >= maxTries:
		return SignIn{}, m.dead(ctx, id, m.refuse(who, audit.ReasonTOTP, ErrPending))
	case !ok:
		return SignIn{}, m.refuse(who, audit.ReasonTOTP, ErrSignIn)
	}
	took, err := m.store.TakePending(ctx, id)
	if err != nil {
		return SignIn{}, fmt.Errorf("session: sign in: %w", err)
	}
	if !took {
		return SignIn{}, m.refuse(who, audit.ReasonExpired, ErrPending)
	}
	if err := t.refund(ctx); err != nil {
		return SignIn{}, err
	}
	return m.open(ctx, acc.User, addr, 2)
}

// dead removes a pending sign-in and returns err.
func (m *Manager) dead(ctx context.Context, id ID, err error) error {
	if _, terr := m.store.TakePending(context.WithoutCancel(ctx), id); terr != nil {
		return errors.Join(err, fmt.Errorf("session: sign in: %w", terr))
	}
	return err
}

// checkCode reports whether code is right and not used before, and uses it up.
func (m *Manager) checkCode(ctx context.Context, a Account, code string) (bool, error) {
	s, err := m.openTOTP(ctx, a.User, a.TOTP)
	if err != nil {
		return false, err
	}
	n, ok := s.match(code, a.TOTPStep, m.now())
	if !ok {
		return false, nil
	}
	return m.store.UseTOTPStep(ctx, a.Tenant, a.ID, a.TOTP, n)
}

// open begins a session, always with a new token.
func (m *Manager) open(ctx context.Context, u User, addr netip.Addr, assurance int) (SignIn, error) {
	now := m.now()
	token, id := newToken()
	s := Session{
		ID: id, Tenant: u.Tenant, UserID: u.ID, Kind: u.Kind, Epoch: u.Epoch, Assurance: assurance,
		AuthTime: now, Created: now, LastSeen: now, Idle: m.idle, Expires: now.Add(m.absolute), Addr: addr,
	}
	if err := m.store.CreateSession(ctx, s); err != nil {
		if errors.Is(err, ErrStale) {
			return SignIn{}, m.refuse(m.principal(u, Session{Addr: addr}), audit.ReasonRevoked, ErrPending)
		}
		return SignIn{}, fmt.Errorf("session: sign in: %w", err)
	}
	// Nobody has the token yet: a sign-in that cannot be recorded is taken
	// back as if it had not been.
	if err := m.recordSignIn(audit.Event{Type: audit.SignIn, Outcome: audit.Success, Actor: m.principal(u, s)}); err != nil {
		ctx := context.WithoutCancel(ctx)
		_, eerr := m.store.End(ctx, id, now, audit.ReasonRevoked)
		return SignIn{}, errors.Join(err, eerr, m.store.Settle(ctx, id))
	}
	return SignIn{Next: StepDone, Token: token}, nil
}
