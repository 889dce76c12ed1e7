// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/pdp"
)

var _ pdp.Grants = (*Desk)(nil)

// Live implements [pdp.Grants]: what who has in force, as the Store has it now,
// in one look-up in an index. So a broken glass is in force on every node at
// once, and what is revoked is not from the next decision on.
func (d *Desk) Live(ctx context.Context, who access.Principal, now time.Time) ([]pdp.Grant, error) {
	if who.Kind != access.Human || who.OnBehalf != "" { // a grant is for a person, by their own account
		return nil, nil
	}
	now = now.UTC().Round(0)
	grants, err := d.cfg.Store.Live(ctx, who.Tenant, who.ID, now)
	if err != nil {
		return nil, err
	}
	used := d.usesOf(ctx, who)
	if grants, err = d.withUsedUp(ctx, who, now, grants, used); err != nil {
		return nil, err
	}
	var live []pdp.Grant
	for i := range grants {
		g := &grants[i]
		at := g.At(now)
		if at != Active && (at != UsedUp || !used.has(g.ID)) || g.From.After(now.Add(skew)) { // a clock was set back to before it began
			continue
		}
		if g.Kind == BreakGlass && who.Assurance < 2 { // by a session with the second factor, as it was broken
			continue
		}
		l := pdp.Grant{ID: g.ID, Patient: g.Patient, Type: g.Type, Record: g.Record, Purposes: g.Purposes, Until: g.Until}
		if l.BreakGlass = g.Kind == BreakGlass; !l.BreakGlass { // the caller's own roles do in an emergency
			l.Role = g.Role
		}
		if g.MaxUses > 0 {
			l.Use = func(ctx context.Context) error { return d.use(ctx, g.ID) }
		}
		live = append(live, l)
	}
	return live, nil
}

// withUsedUp adds to the grants in force those of which the scope itself has used
// up the last use: what it does further is that use.
func (d *Desk) withUsedUp(ctx context.Context, who access.Principal, now time.Time, grants []Grant, used *uses) ([]Grant, error) {
	for _, id := range used.ids() {
		if slices.ContainsFunc(grants, func(g Grant) bool { return g.ID == id }) {
			continue
		}
		g, err := d.cfg.Store.Grant(ctx, who.Tenant, id)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, err
		case g.Holder == who.ID && g.At(now) == UsedUp && now.Before(g.Until):
			grants = append(grants, g)
		}
	}
	return grants, nil
}

// Requestable implements [pdp.Grants].
func (d *Desk) Requestable(ctx context.Context, who access.Principal) []string {
	if who.Kind != access.Human || who.OnBehalf != "" || len(d.cfg.Elevations) == 0 {
		return nil
	}
	own, err := d.cfg.Roles(ctx, who)
	if err != nil {
		return nil
	}
	var out []string
	for i := range d.cfg.Elevations {
		if e := &d.cfg.Elevations[i]; overlap(e.Requesters, own) && !slices.Contains(own, e.Role) {
			out = append(out, e.Role)
		}
	}
	return out
}

type usesKey struct{ desk *Desk }

// uses are the grants that a scope has used. The nil uses has none.
type uses struct {
	mu   sync.Mutex
	used map[string]bool
}

// usesOf returns those of the scope of ctx, where that is who's; nil elsewhere.
func (d *Desk) usesOf(ctx context.Context, who access.Principal) *uses {
	s, err := access.From(ctx)
	if err != nil || s.Principal().ID != who.ID || s.Principal().Tenant != who.Tenant {
		return nil
	}
	return s.Pin(usesKey{d}, func() any { return &uses{used: make(map[string]bool)} }).(*uses)
}

func (u *uses) has(id string) bool { return slices.Contains(u.ids(), id) }

func (u *uses) ids() []string {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.used))
}

// use counts one use of a grant, for the scope of ctx: what one request does for
// one purpose is one use, however many records it touches.
func (d *Desk) use(ctx context.Context, id string) error {
	s, err := access.From(ctx)
	if err != nil {
		return err
	}
	u := d.usesOf(ctx, s.Principal())
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.used[id] {
		return nil
	}
	ok, err := d.cfg.Store.Use(ctx, s.Principal().Tenant, id, d.now())
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: no use is left", ErrState)
	}
	u.used[id] = true
	return nil
}

// Elevated returns the roles that a principal has by elevations in force, or that
// are approved and about to be: for separation of duties (duty.Config), and for
// the recurring review of who holds what.
func (d *Desk) Elevated(ctx context.Context, tenant, principal string) ([]string, error) {
	held, err := d.cfg.Store.List(ctx, Query{Tenant: tenant, Holder: principal, Kind: JIT, States: []State{Approved, Active}})
	if err != nil {
		return nil, err
	}
	var roles []string
	now := d.now()
	for i := range held {
		if held[i].open(now) && !slices.Contains(roles, held[i].Role) {
			roles = append(roles, held[i].Role)
		}
	}
	return roles, nil
}
