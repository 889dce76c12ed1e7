// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A lane limits the tries of one account or one address.
type lane struct {
	id   ID
	rate Rate
	addr bool // an address lane: its refusals name no user
}

// laneID keys a lane by a hash, so that a store of lanes names nobody who
// merely mistyped something.
func laneID(kind string, parts ...string) ID {
	h := sha256.New()
	for _, p := range append([]string{kind}, parts...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return ID(h.Sum(nil))
}

func (m *Manager) accountLane(tenant, login string) lane {
	return lane{id: laneID("account", tenant, login), rate: m.account}
}

func (m *Manager) codeLane(u User) lane {
	return lane{id: laneID("code", u.Tenant, u.ID), rate: m.code}
}

// addressLane groups what one subscriber can choose freely: an IPv6 /64.
func (m *Manager) addressLane(addr netip.Addr) lane {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero Addr gives the zero Prefix
	return lane{id: laneID("address", p.String()), rate: m.address, addr: true}
}

// A ticket is a number of reserved tries.
type ticket struct {
	m     *Manager
	lanes []lane
}

// refund gives the tries back, after a factor that was right or was not
// looked at.
func (t *ticket) refund(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	for _, l := range t.lanes {
		if err := t.m.store.Refund(ctx, l.id, l.rate); err != nil {
			return fmt.Errorf("session: throttle: %w", err)
		}
	}
	t.lanes = nil
	return nil
}

// reserve takes one try from each lane, before anything is verified, so that
// guesses in parallel cannot slip by. It gives a *LockedError where one is
// spent; who is for the event.
func (m *Manager) reserve(ctx context.Context, who access.Principal, at time.Time, lanes ...lane) (*ticket, error) {
	t := &ticket{m: m}
	for _, l := range lanes {
		wait, err := m.store.Reserve(ctx, l.id, l.rate, at)
		if err != nil {
			return nil, fmt.Errorf("session: throttle: %w", err)
		}
		if wait == 0 {
			t.lanes = append(t.lanes, l)
			continue
		}
		r := Refusal{Addr: who.Addr}
		if !l.addr {
			r.Tenant, r.UserID, r.Kind = who.Tenant, who.ID, who.Kind
		}
		if r.Count, err = m.store.Refuse(ctx, l.id, r, at); err != nil {
			return nil, fmt.Errorf("session: throttle: %w", err)
		}
		if r.Count > 0 {
			if err := m.recordRefusal(r); err != nil {
				return nil, err
			}
		}
		return nil, &LockedError{RetryAfter: wait}
	}
	return t, nil
}

func (m *Manager) recordRefusal(r Refusal) error {
	return m.recordSignIn(audit.Event{
		Type: audit.SignInLocked, Outcome: audit.Failure, Reason: audit.ReasonThrottled, Count: r.Count,
		Actor: access.Principal{ID: r.UserID, Tenant: r.Tenant, Kind: r.Kind, Addr: r.Addr},
	})
}

// Sweep ends sessions that are over, forgets sign-ins that expired, and
// records what is to be recorded. It returns how many sessions it ended or
// recorded. [Manager.Run] calls it; any number of nodes may.
func (m *Manager) Sweep(ctx context.Context) (int, error) {
	due, err := m.store.Sweep(ctx, m.now(), sweepLimit)
	if err != nil {
		err = fmt.Errorf("session: sweep: %w", err)
	}
	// What the store handed over is recorded in any case: it is not handed
	// over twice.
	errs := []error{err}
	for _, s := range due.Sessions {
		m.recordEnd(ctx, s)
	}
	for _, p := range due.Pending {
		a, err := m.store.Account(ctx, p.Tenant, p.UserID)
		if err == nil {
			err = m.refuse(m.principal(a.User, Session{}), audit.ReasonExpired, nil)
		}
		errs = append(errs, err)
	}
	for _, r := range due.Refusals {
		errs = append(errs, m.recordRefusal(r))
	}
	return len(due.Sessions), errors.Join(errs...)
}

const (
	sweepLimit = 1000
	sweepEvery = 15 * time.Second
)

// Run sweeps each 15 seconds until ctx is done, and then returns its error.
// Without it sessions are over just as soon, but the end of one that nobody
// uses again is not recorded.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if _, err := m.Sweep(ctx); err != nil && ctx.Err() == nil {
				m.log.Error("session sweep failed", zap.Error(err))
			}
		}
	}
}
