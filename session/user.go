// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/secure/precis"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// NewUser says whom [Manager.CreateUser] creates.
type NewUser struct {
	ID       string      // empty makes a UUIDv7
	Tenant   string      // required
	Kind     access.Kind // empty means human
	Login    string      // required: a name or an e-mail address, unique in the tenant; case does not matter
	Roles    []string
	Password string // required; see [Manager.CreateUser]
}

// Password lengths, in Unicode code points: NIST SP 800-63B-4 section 3.1.1.2
// (as quoted by others; its text was not at hand here) requires at least 15
// where the password is the only factor and at least 8 where it is one of two,
// and says that at least 64 should be accepted. It forbids composition rules
// and periodic change, and there are none here.
const (
	minSingle   = 15
	minTwo      = 8
	maxPassword = 1024 // bytes: a bound on what is hashed, not a rule for users
)

const maxLogin = 254 // bytes; the longest e-mail address of RFC 5321

// CreateUser creates a user who can sign in. The password must have 8
// characters, or 15 with Config.SingleFactor; up to 1,024 bytes are taken as
// they are, without normalisation (OWASP ASVS 5.0, 6.2.8). It is not compared
// with a list of common passwords yet: until it is, let users take generated
// ones. A password that breaks a rule gives [ErrPassword], an ID or login that
// is or was in use [ErrExists].
func (m *Manager) CreateUser(ctx context.Context, n NewUser) (User, error) {
	if n.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return User{}, fmt.Errorf("session: create user: %w", err)
		}
		n.ID = id.String()
	}
	if n.Kind == "" {
		n.Kind = access.Human
	}
	login, err := normalLogin(n.Login)
	if err != nil {
		return User{}, fmt.Errorf("session: create user: %w", err)
	}
	u := User{ID: n.ID, Tenant: n.Tenant, Kind: n.Kind, Login: login, Roles: slices.Clone(n.Roles), Epoch: 1, Created: m.now()}
	who := m.principal(u, Session{})
	if err := who.Validate(); err != nil {
		return User{}, fmt.Errorf("session: create user: %w", err)
	}
	if n.Kind == access.Service {
		return User{}, errors.New("session: create user: a service does not sign in: use access.Job")
	}
	if err := m.checkPassword(n.Password); err != nil {
		return User{}, err
	}
	hash, err := m.hasher.hash(ctx, n.Password)
	if err != nil {
		return User{}, fmt.Errorf("session: create user: %w", err)
	}
	if _, err := m.store.AccountByLogin(ctx, u.Tenant, login); err == nil {
		return User{}, ErrExists
	}
	// As with writes of patient data, the record comes first: a user who is
	// not on record must not exist. A second event says if it came to nothing.
	ev := m.userEvent(audit.UserChanged, audit.ReasonCreated, who)
	if err := m.record(ctx, ev); err != nil {
		return User{}, err
	}
	if err := m.store.CreateAccount(ctx, Account{User: u, Password: hash}); err != nil {
		return User{}, m.failed(ctx, ev, fmt.Errorf("session: create user: %w", err))
	}
	return u, nil
}

// normalLogin maps what a user types to one form: case, width and Unicode
// composition do not matter (RFC 8265, UsernameCaseMapped).
func normalLogin(s string) (string, error) {
	n, err := precis.UsernameCaseMapped.String(s)
	if err != nil || n == "" || len(n) > maxLogin || !plainText(n) {
		return "", fmt.Errorf("login is empty, longer than %d bytes, or has a space, a colon or another character that RFC 8265 does not allow", maxLogin)
	}
	return n, nil
}

func (m *Manager) checkPassword(p string) error {
	least, why := minTwo, "beside a second factor"
	if m.single {
		least, why = minSingle, "as the only factor"
	}
	switch {
	case utf8.RuneCountInString(p) < least:
		return fmt.Errorf("%w: fewer than %d characters %s", ErrPassword, least, why)
	case len(p) > maxPassword:
		return fmt.Errorf("%w: longer than %d bytes", ErrPassword, maxPassword)
	}
	return nil
}

// User returns a user by ID, or [ErrNotFound].
func (m *Manager) User(ctx context.Context, tenant, userID string) (User, error) {
	a, err := m.store.Account(ctx, tenant, userID)
	if err != nil {
		return User{}, fmt.Errorf("session: read user: %w", err)
	}
	return a.User, nil
}

// UserByLogin returns a user by what they type to sign in, or [ErrNotFound].
func (m *Manager) UserByLogin(ctx context.Context, tenant, login string) (User, error) {
	login, err := normalLogin(login)
	if err != nil {
		return User{}, fmt.Errorf("session: read user: %w", ErrNotFound)
	}
	a, err := m.store.AccountByLogin(ctx, tenant, login)
	if err != nil {
		return User{}, fmt.Errorf("session: read user: %w", err)
	}
	return a.User, nil
}

// SetPassword gives a user a new password under the rules of
// [Manager.CreateUser]. All sessions and pending sign-ins of the user end; the
// second factor stays.
func (m *Manager) SetPassword(ctx context.Context, tenant, userID, password string) error {
	if err := m.checkPassword(password); err != nil {
		return err
	}
	hash, err := m.hasher.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("session: set password: %w", err)
	}
	return m.change(ctx, tenant, userID, audit.FactorChanged, audit.ReasonPassword, Change{Password: &hash})
}

// SetRoles gives a user other roles. All sessions and pending sign-ins of the
// user end.
func (m *Manager) SetRoles(ctx context.Context, tenant, userID string, roles []string) error {
	for _, r := range roles {
		if err := access.CheckID(r); err != nil {
			return fmt.Errorf("session: set roles: a role %w", err)
		}
	}
	roles = slices.Clone(roles)
	return m.change(ctx, tenant, userID, audit.UserChanged, audit.ReasonNone, Change{Roles: &roles})
}

// Disable ends all sessions and pending sign-ins of a user and refuses new
// ones (termination procedures, 45 CFR 164.308(a)(3)(ii)(C)).
func (m *Manager) Disable(ctx context.Context, tenant, userID string) error {
	yes := true
	return m.change(ctx, tenant, userID, audit.UserChanged, audit.ReasonDisabled, Change{Disabled: &yes})
}

// Enable lets a disabled user sign in again.
func (m *Manager) Enable(ctx context.Context, tenant, userID string) error {
	no := false
	return m.change(ctx, tenant, userID, audit.UserChanged, audit.ReasonNone, Change{Disabled: &no})
}

// Invalidate ends every session and pending sign-in of a user, as
// [access.Invalidator] asks. The user may sign in again.
func (m *Manager) Invalidate(ctx context.Context, tenant, userID string) error {
	return m.change(ctx, tenant, userID, audit.UserChanged, audit.ReasonRevoked, Change{})
}

// change records and makes a change, and records the sessions that it ended.
func (m *Manager) change(ctx context.Context, tenant, userID string, t audit.Type, reason audit.Reason, ch Change) error {
	a, err := m.store.Account(ctx, tenant, userID)
	if err != nil {
		return fmt.Errorf("session: change user: %w", err)
	}
	ev := m.userEvent(t, reason, m.principal(a.User, Session{}))
	if err := m.record(ctx, ev); err != nil {
		// What takes rights away is done all the same, and the caller told.
		takes := ch.Disabled != nil && *ch.Disabled || ch == Change{}
		if !takes {
			return err
		}
		_, cerr := m.store.ChangeAccount(ctx, tenant, userID, ch, m.now())
		return errors.Join(err, cerr)
	}
	ended, err := m.store.ChangeAccount(ctx, tenant, userID, ch, m.now())
	if err != nil {
		return m.failed(ctx, ev, fmt.Errorf("session: change user: %w", err))
	}
	for _, s := range ended {
		m.recordEnd(ctx, s)
	}
	return nil
}
