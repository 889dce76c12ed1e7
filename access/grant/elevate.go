// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Request asks for a role for a time.
type Request struct {
	Role     string           // of one of Config.Elevations
	Reason   audit.Reason     // one of [Kind.Reasons] of JIT
	Ticket   string           // an opaque reference, as [access.CheckID] takes it; empty where the elevation needs none
	Patient  string           // limits it to one patient; empty where the elevation has no such limit
	Type     string           // with Record: limits it to one record of this type
	Record   string           //
	Purposes []access.Purpose // of the elevation's; empty means all of them
	TTL      time.Duration    // zero means the elevation's MaxTTL
	MaxUses  int              // zero means the elevation's
}

// Request asks for a role for the principal of ctx, and returns the request, or
// what the principal has of the same scope already: a live grant, or a request
// that waits. It is in force once others have approved it.
func (d *Desk) Request(ctx context.Context, r Request) (Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return Grant{}, err
	}
	e := d.cfg.elevation(r.Role)
	if e == nil {
		return Grant{}, fmt.Errorf("grant: %w: Role is none that Config.Elevations gives", ErrRequest)
	}
	now := d.now()
	g := Grant{
		Tenant: p.Tenant, Reason: r.Reason, Ticket: r.Ticket, TTL: r.TTL, MaxUses: r.MaxUses, Needs: e.Approvals,
		Scope: Scope{Kind: JIT, Holder: p.ID, Role: e.Role, Patient: r.Patient, Type: r.Type, Record: r.Record, Purposes: slices.Clone(r.Purposes)},
	}
	if err := e.fill(&g); err != nil {
		return Grant{}, fmt.Errorf("grant: %w: %w", ErrRequest, err)
	}
	if _, err := d.eligible(ctx, p, e.Requesters); err != nil {
		return Grant{}, d.refuse(ctx, &g, audit.GrantRequested, audit.ReasonPolicy, err)
	}
	live, err := d.cfg.Store.Live(ctx, p.Tenant, p.ID, now)
	if err != nil {
		return Grant{}, err
	}
	key := g.Key()
	for i := range live {
		same := live[i]
		same.Extends = ""
		if same.Key() == key {
			return d.cfg.Store.Grant(ctx, p.Tenant, live[i].ID)
		}
	}
	return d.ask(ctx, g, p, now)
}

// ask stores a request, unless there is one.
func (d *Desk) ask(ctx context.Context, g Grant, p access.Principal, now time.Time) (Grant, error) {
	if d.cfg.Duties != nil { // asked again, and for good, at the approval
		if err := d.exclusive(ctx, &g); err != nil {
			return Grant{}, d.refuse(ctx, &g, audit.GrantRequested, audit.ReasonDuty, err)
		}
	}
	id, err := newID()
	if err != nil {
		return Grant{}, err
	}
	g.ID, g.State, g.Created, g.Until = id, Requested, now, now.Add(d.cfg.RequestTTL)
	g.Steps = []Step{{Act: ActRequest, By: p, At: now, Reason: g.Reason, Owed: now}}
	g, _, err = d.cfg.Store.Create(ctx, g, func(old Grant) bool { return old.open(now) })
	if err != nil {
		return Grant{}, err
	}
	return d.finish(ctx, g.Tenant, g.ID)
}

// fill completes a request, or says what is wrong with it.
func (e *Elevation) fill(g *Grant) error {
	if len(g.Purposes) == 0 {
		g.Purposes = slices.Clone(e.Purposes)
	}
	if g.TTL == 0 {
		g.TTL = e.MaxTTL
	}
	if g.MaxUses == 0 {
		g.MaxUses = e.MaxUses
	}
	switch {
	case g.TTL < 0 || g.TTL > e.MaxTTL:
		return fmt.Errorf("TTL is not between 0 and %v", e.MaxTTL)
	case g.MaxUses < 0 || e.MaxUses > 0 && g.MaxUses > e.MaxUses:
		return fmt.Errorf("MaxUses is not between 0 and %d", e.MaxUses)
	case !slices.Contains(JIT.Reasons(), g.Reason):
		return fmt.Errorf("Reason is none of grant.JIT.Reasons()")
	case e.OnePatient && g.Patient == "":
		return fmt.Errorf("Patient is empty: the role is given for one patient")
	case e.OneRecord && g.Record == "":
		return fmt.Errorf("Record is empty: the role is given for one record")
	case (g.Record == "") != (g.Type == ""):
		return fmt.Errorf("Type and Record go together")
	case e.NeedTicket && g.Ticket == "":
		return fmt.Errorf("Ticket is empty: the role is given for a ticket")
	}
	for i, p := range g.Purposes {
		if !slices.Contains(e.Purposes, p) || slices.Contains(g.Purposes[:i], p) {
			return fmt.Errorf("Purposes has one that the elevation has not, or one twice")
		}
	}
	for _, id := range []struct{ name, value string }{{"Ticket", g.Ticket}, {"Patient", g.Patient}, {"Record", g.Record}} {
		if id.value == "" {
			continue
		}
		if err := access.CheckID(id.value); err != nil {
			return fmt.Errorf("%s %w", id.name, err)
		}
	}
	if g.Type != "" {
		if err := access.CheckName(g.Type); err != nil {
			return fmt.Errorf("Type %w", err)
		}
	}
	return nil
}

// exclusive asks Config.Duties about the holder's elevations, those in force and
// those that are about to be, and g's.
func (d *Desk) exclusive(ctx context.Context, g *Grant) error {
	roles, err := d.Elevated(ctx, g.Tenant, g.Holder)
	if err != nil {
		return err
	}
	if !slices.Contains(roles, g.Role) {
		roles = append(roles, g.Role)
	}
	return d.cfg.Duties(ctx, g.Tenant, g.Holder, roles)
}

// Extend asks for the same once more, for ttl from its own approval on. Only
// the holder can, while the grant is live, and it takes as many approvals as
// the first one. Zero means the elevation's MaxTTL. A broken glass is not
// extended but broken again.
func (d *Desk) Extend(ctx context.Context, id string, ttl time.Duration) (Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return Grant{}, err
	}
	old, err := d.cfg.Store.Grant(ctx, p.Tenant, id)
	if err != nil {
		return Grant{}, err
	}
	now := d.now()
	e := d.cfg.elevation(old.Role)
	switch {
	case old.Holder != p.ID:
		return Grant{}, ErrNotFound // of somebody else's it does not tell
	case old.Kind != JIT || e == nil || old.At(now) != Active:
		return Grant{}, fmt.Errorf("%w: only a live elevation is extended", ErrState)
	}
	g := Grant{Tenant: old.Tenant, Scope: old.Scope, Reason: old.Reason, Ticket: old.Ticket, Extends: old.ID, TTL: ttl, MaxUses: old.MaxUses, Needs: e.Approvals}
	if err := e.fill(&g); err != nil {
		return Grant{}, fmt.Errorf("grant: %w: %w", ErrRequest, err)
	}
	if _, err := d.eligible(ctx, p, e.Requesters); err != nil {
		return Grant{}, d.refuse(ctx, &g, audit.GrantRequested, audit.ReasonPolicy, err)
	}
	return d.ask(ctx, g, p, now)
}

// Approve approves a request. The last approval that it needs puts it in force,
// from now on. To approve twice counts once. What makes it be in force must hold
// then: an approval counts only if who gave it could give it still, as far as
// Config.Roles can say, and the request only if who made it could make it.
func (d *Desk) Approve(ctx context.Context, id string) (Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return Grant{}, err
	}
	return d.change(ctx, p.Tenant, id, func(g *Grant) (*Step, func(context.Context) error, error) {
		now := d.now()
		e, err := d.mayDecide(ctx, p, g, audit.GrantApproved, now)
		if err != nil || g.approvedBy(p.ID) {
			return nil, nil, err
		}
		step := &Step{Act: ActApprove, By: p, At: now, Reason: g.Reason, Owed: now}
		others, err := d.approvals(ctx, g, e)
		step.Approvals = others + 1
		if err != nil || step.Approvals < max(g.Needs, e.Approvals) {
			return step, nil, err
		}
		g.State, g.From, g.Until = Approved, now, now.Add(min(g.TTL, e.MaxTTL))
		if len(e.Reviewers) > 0 {
			g.ReviewBy = now.Add(e.ReviewWithin)
			g.AlertAt = g.ReviewBy
		}
		if d.cfg.Duties == nil {
			return step, nil, nil
		}
		return step, func(ctx context.Context) error {
			if err := d.exclusive(ctx, g); err != nil {
				return d.refuse(ctx, g, audit.GrantApproved, audit.ReasonDuty, err)
			}
			return nil
		}, nil
	})
}

// approvals is how many of those who have approved a request could do so now.
func (d *Desk) approvals(ctx context.Context, g *Grant, e *Elevation) (n int, err error) {
	for i := range g.Steps {
		s := &g.Steps[i]
		var roles []string
		switch s.Act {
		case ActApprove:
			roles = e.Approvers
		case ActRequest:
			roles = e.Requesters
		default:
			continue
		}
		_, err := d.eligible(ctx, s.By, roles)
		switch {
		case err == nil && s.Act == ActApprove:
			n++
		case s.Act == ActRequest && errors.Is(err, ErrEligible):
			return 0, d.refuse(ctx, g, audit.GrantApproved, audit.ReasonPolicy, fmt.Errorf("%w: who asked for it could not ask now", ErrState))
		case s.Act == ActRequest && err != nil:
			return 0, err
		case err != nil && !errors.Is(err, ErrEligible): // does not count, and holds up nobody else
			d.cfg.Log.Warn("grant: an earlier approval does not count", zap.String("grant", g.ID), zap.Error(err))
		}
	}
	return n, nil
}

// mayDecide says why p may not decide about a request.
func (d *Desk) mayDecide(ctx context.Context, p access.Principal, g *Grant, t audit.Type, now time.Time) (*Elevation, error) {
	e := d.cfg.elevation(g.Role)
	switch {
	case g.Kind != JIT || e == nil:
		return nil, fmt.Errorf("%w: the role is none that Config.Elevations gives", ErrState)
	case g.Holder == p.ID:
		return nil, d.refuse(ctx, g, t, audit.ReasonPolicy, ErrOwn)
	}
	if _, err := d.eligible(ctx, p, e.Approvers); err != nil {
		return nil, d.refuse(ctx, g, t, audit.ReasonPolicy, err)
	}
	if g.At(now) != Requested && !g.approvedBy(p.ID) {
		return nil, fmt.Errorf("%w: it is %s", ErrState, g.At(now))
	}
	return e, nil
}

// Refuse turns a request down, for good.
func (d *Desk) Refuse(ctx context.Context, id string) (Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return Grant{}, err
	}
	return d.change(ctx, p.Tenant, id, func(g *Grant) (*Step, func(context.Context) error, error) {
		now := d.now()
		if _, err := d.mayDecide(ctx, p, g, audit.GrantRefused, now); err != nil {
			return nil, nil, err
		}
		if g.At(now) != Requested {
			return nil, nil, fmt.Errorf("%w: it is %s: revoke it", ErrState, g.At(now))
		}
		g.State, g.Ended = Refused, now
		return &Step{Act: ActRefuse, By: p, At: now, Owed: now}, nil, nil
	})
}

// Pending returns the requests that the principal of ctx may approve, oldest
// first.
func (d *Desk) Pending(ctx context.Context) ([]Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	own, err := d.own(ctx, p)
	if err != nil {
		return nil, err
	}
	all, err := d.cfg.Store.List(ctx, Query{Tenant: p.Tenant, Kind: JIT, States: []State{Requested}})
	if err != nil {
		return nil, err
	}
	now := d.now()
	all = slices.DeleteFunc(all, func(g Grant) bool {
		e := d.cfg.elevation(g.Role)
		return e == nil || g.Holder == p.ID || g.At(now) != Requested || g.approvedBy(p.ID) || !overlap(e.Approvers, own)
	})
	slices.Reverse(all)
	return all, nil
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
