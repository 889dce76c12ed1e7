// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Confirm checks the password of somebody who is signed in once more, before
// what a session alone should not do: it is grant.Config.Confirm. The answers
// are those of [Manager.Password], the tries come out of the same lanes of the
// throttle, and a wrong password is recorded as a refused factor. It opens
// nothing, and makes no session longer.
func (m *Manager) Confirm(ctx context.Context, p access.Principal, password string) error {
	if err := p.Validate(); err != nil || p.Session == "" {
		return errors.Join(ErrNoSession, err)
	}
	now := m.now()
	acc, err := m.store.Account(ctx, p.Tenant, p.ID)
	if errors.Is(err, ErrNotFound) {
		return m.refuse(p, audit.ReasonPassword, ErrSignIn)
	}
	if err != nil {
		return fmt.Errorf("session: confirm: %w", err)
	}
	t, err := m.reserve(ctx, p, now, m.addressLane(p.Addr), m.accountLane(acc.Tenant, acc.Login))
	if err != nil {
		return err
	}
	if len(password) > maxPassword {
		password = ""
	}
	ok, err := m.hasher.verify(ctx, acc.Password, password)
	switch {
	case err != nil:
		return errors.Join(err, t.refund(ctx))
	case !ok:
		m.warnFIPS(acc)
		return m.refuse(p, audit.ReasonPassword, ErrSignIn)
	case acc.Disabled:
		return m.refuse(p, audit.ReasonDisabled, ErrSignIn)
	}
	return t.refund(ctx)
}
