// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Errors of [Desk]. Those of the Store and of the trail come as they are.
var (
	// ErrEligible means that the principal may not do this: not a person, no
	// role for it, or only by a grant, or acting for somebody else.
	ErrEligible = errors.New("grant: not eligible")

	// ErrOwn means that somebody tried to approve or review their own grant.
	ErrOwn = errors.New("grant: it is your own: somebody else has to do this")

	// ErrState means that the grant is past the point where this could be done,
	// or not there yet.
	ErrState = errors.New("grant: it does not stand where this can be done")

	// ErrRequest is wrapped by the errors that say what is wrong with a request.
	ErrRequest = errors.New("bad request")

	// ErrFactor means that the second factor is missing, or not fresh enough, or
	// was not confirmed: sign in with both factors, and confirm.
	ErrFactor = errors.New("grant: prove who you are: sign in with a second factor, and confirm with your password")
)

// A Desk gives and takes back grants, for the principal of the context. Make it
// with [New]; it is safe for concurrent use, and any number of nodes may have
// one on the same Store. [Desk.Run] must run on one of them at least.
type Desk struct {
	cfg  Config
	wake chan struct{} // an alert is due
}

// New returns a Desk, or says which field of cfg is bad.
func New(cfg Config) (*Desk, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Desk{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// now has no monotonic reading: what it is compared with comes from other
// nodes.
func (d *Desk) now() time.Time { return d.cfg.Now().UTC().Round(0) }

// person returns who acts: a member of the workforce, by their own account and
// for themselves.
func person(ctx context.Context) (access.Principal, error) {
	p, ok := access.PrincipalFrom(ctx)
	switch {
	case !ok:
		return p, access.ErrNoPrincipal
	case p.Kind != access.Human || p.OnBehalf != "":
		return p, fmt.Errorf("%w: only a member of the workforce can, by their own account and for themselves", ErrEligible)
	}
	return p, nil
}

// eligible returns the first of the roles that p holds by the policy.
func (d *Desk) eligible(ctx context.Context, p access.Principal, roles []string) (string, error) {
	own, err := d.own(ctx, p)
	if err != nil {
		return "", err
	}
	return oneOf(roles, own)
}

// oneOf returns the first of roles that is among own.
func oneOf(roles, own []string) (string, error) {
	for _, r := range roles {
		if slices.Contains(own, r) {
			return r, nil
		}
	}
	return "", fmt.Errorf("%w: it takes another role, and one that is not held by a grant", ErrEligible)
}

func (d *Desk) own(ctx context.Context, p access.Principal) ([]string, error) {
	roles, err := d.cfg.Roles(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("grant: roles: %w", err)
	}
	return roles, nil
}

// change makes one step, again where another was faster. f says what becomes of
// the grant, and returns nil where nothing does.
func (d *Desk) change(ctx context.Context, tenant, id string, f func(g *Grant) (*Step, func(context.Context) error, error)) (Grant, error) {
	for {
		g, err := d.cfg.Store.Grant(ctx, tenant, id)
		if err != nil {
			return Grant{}, err
		}
		step, check, err := f(&g)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return g, err
		}
		if step == nil {
			return d.finish(ctx, tenant, id)
		}
		ok, err := d.cfg.Store.Change(ctx, g, step, check)
		if err != nil {
			return g, err
		}
		if ok {
			return d.finish(ctx, tenant, id)
		}
	}
}

// finish records what is owed of a grant, and returns how it stands then. An
// error means that the trail has not got it yet: the step stands, and Run
// records it.
func (d *Desk) finish(ctx context.Context, tenant, id string) (Grant, error) {
	g, err := d.cfg.Store.Grant(ctx, tenant, id)
	if err != nil {
		return g, err
	}
	if !g.owed() {
		return g, nil
	}
	if err := d.settle(ctx, &g); err != nil {
		return g, err
	}
	return d.cfg.Store.Grant(ctx, tenant, id)
}

// settle records the steps that are owed.
func (d *Desk) settle(ctx context.Context, g *Grant) error {
	for n := range g.Steps {
		if g.Steps[n].Owed.IsZero() {
			continue
		}
		if err := d.record(ctx, g, n); err != nil {
			return err
		}
		if err := d.cfg.Store.Settle(ctx, g.Tenant, g.ID, n); err != nil {
			return err
		}
	}
	return nil
}

// record puts a step on record, by whoever did it, also when somebody else
// records it.
func (d *Desk) record(ctx context.Context, g *Grant, n int) error {
	s := &g.Steps[n]
	if p, ok := access.PrincipalFrom(ctx); !ok || p.ID != s.By.ID || p.Tenant != s.By.Tenant {
		ctx = context.WithoutCancel(nobody{ctx})
	}
	if g.Kind == BreakGlass && s.Act == ActBreak && s.By.ID != "" {
		ctx = access.ForPurpose(ctx, g.Purposes[0]) // so that the journal knows an emergency
	}
	ev := d.event(g, s.Act.Event(), audit.Success, s.Reason)
	if ev.Actor = s.By; ev.Actor.ID == "" {
		ev.Actor.Tenant = g.Tenant
	}
	for i := range n + 1 {
		if g.Steps[i].Act == ActApprove {
			ev.Count = g.Steps[i].Approvals
		}
	}
	switch s.Act {
	case ActApprove, ActBreak, ActReview:
		if !g.From.IsZero() {
			ev.Since, ev.Until = g.From, g.Until
			if !g.Ended.IsZero() && g.Ended.After(g.From) && g.Ended.Before(g.Until) {
				ev.Until = g.Ended
			}
		}
	}
	_, err := d.cfg.Audit.Record(ctx, ev)
	return err
}

// nobody hides the principal of a context.
type nobody struct{ context.Context }

func (c nobody) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		if _, scope := v.(*access.Scope); scope {
			return nil
		}
		return v
	}
	return nil
}

// refuse records that somebody tried what they may not, and returns err. The
// refusal stands where it cannot be recorded.
func (d *Desk) refuse(ctx context.Context, g *Grant, t audit.Type, reason audit.Reason, err error) error {
	_, rerr := d.cfg.Audit.Record(ctx, d.event(g, t, audit.Failure, reason))
	return errors.Join(err, rerr)
}

func (d *Desk) event(g *Grant, t audit.Type, o audit.Outcome, reason audit.Reason) audit.Event {
	ev := audit.Event{Type: t, Outcome: o, Reason: reason, Grant: g.ID, Role: g.Role, User: g.Holder, UserKind: access.Human}
	if o == audit.Success {
		ev.Code = map[Kind]access.Code{JIT: access.AllowGrant, BreakGlass: access.AllowBreakGlass}[g.Kind]
	}
	switch {
	case g.Record != "":
		ev.Objects = []audit.Object{{Type: g.Type, Tenant: g.Tenant, Record: g.Record, Patient: g.Patient}}
	case g.Patient != "":
		ev.Objects = []audit.Object{{Type: "patient", Tenant: g.Tenant, Record: g.Patient, Patient: g.Patient}}
	}
	return ev
}

// newID returns a name for a grant.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("grant: %w", err)
	}
	return id.String(), nil
}
