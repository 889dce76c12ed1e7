// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Revoke ends a grant, or a request, before its time: the holder can, and
// whoever may approve or review it. To revoke what is over does nothing.
func (d *Desk) Revoke(ctx context.Context, id string) (Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return Grant{}, err
	}
	return d.change(ctx, p.Tenant, id, func(g *Grant) (*Step, func(context.Context) error, error) {
		if g.Holder != p.ID {
			approvers, reviewers := d.deciders(g)
			if _, err := d.eligible(ctx, p, slices.Concat(approvers, reviewers)); err != nil {
				return nil, nil, d.refuse(ctx, g, audit.GrantEnded, audit.ReasonPolicy, err)
			}
		}
		return revoke(g, p, d.now()), nil, nil
	})
}

// RevokeAll ends every grant and request of a holder: for who leaves, or is
// suspected. It asks nobody's role: that is the caller's. It goes on where one
// cannot be ended, and returns how many are.
func (d *Desk) RevokeAll(ctx context.Context, tenant, holder string) (n int, err error) {
	by, _ := access.PrincipalFrom(ctx)
	open, err := d.cfg.Store.List(ctx, Query{Tenant: tenant, Holder: holder, States: []State{Requested, Approved, Active}})
	if err != nil {
		return 0, err
	}
	var errs []error
	for i := range open {
		g, err := d.change(ctx, tenant, open[i].ID, func(g *Grant) (*Step, func(context.Context) error, error) {
			return revoke(g, by, d.now()), nil, nil
		})
		if err != nil {
			errs = append(errs, err)
		}
		if g.State == Revoked {
			n++
		}
	}
	return n, errors.Join(errs...)
}

// revoke makes the step; nil where the grant is over.
func revoke(g *Grant, by access.Principal, now time.Time) *Step {
	if !g.open(now) {
		return nil
	}
	g.State, g.Ended = Revoked, now
	return &Step{Act: ActEnd, By: by, At: now, Reason: audit.ReasonRevoked, Owed: now}
}

// deciders returns who may approve a grant, and who may review it.
func (d *Desk) deciders(g *Grant) (approvers, reviewers []string) {
	if g.Kind == BreakGlass && d.cfg.Emergency != nil {
		return nil, d.cfg.Emergency.Reviewers
	}
	if e := d.cfg.elevation(g.Role); g.Kind == JIT && e != nil {
		return e.Approvers, e.Reviewers
	}
	return nil, nil
}

// Findings are what a [Desk.Review] can come to: it was in order, or it was not;
// or somebody else decides, and then it stays to be reviewed.
func Findings() []audit.Reason {
	return []audit.Reason{audit.ReasonExplained, audit.ReasonViolation, audit.ReasonEscalated}
}

// Review says what somebody found who looked at what was done under a grant
// (45 CFR 164.308(a)(1)(ii)(D)): not the holder, nor who approved it, and only
// once it is over, so that nothing is done after the look.
func (d *Desk) Review(ctx context.Context, id string, finding audit.Reason) (Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return Grant{}, err
	}
	if !slices.Contains(Findings(), finding) {
		return Grant{}, fmt.Errorf("grant: %w: the finding is none of grant.Findings()", ErrRequest)
	}
	return d.change(ctx, p.Tenant, id, func(g *Grant) (*Step, func(context.Context) error, error) {
		now := d.now()
		if g.Holder == p.ID || g.approvedBy(p.ID) {
			return nil, nil, d.refuse(ctx, g, audit.GrantReviewed, audit.ReasonPolicy, ErrOwn)
		}
		_, reviewers := d.deciders(g)
		if _, err := d.eligible(ctx, p, reviewers); err != nil {
			return nil, nil, d.refuse(ctx, g, audit.GrantReviewed, audit.ReasonPolicy, err)
		}
		switch {
		case g.ReviewBy.IsZero():
			return nil, nil, fmt.Errorf("%w: nobody has to review it", ErrState)
		case !g.Reviewed.IsZero():
			return nil, nil, fmt.Errorf("%w: it was reviewed", ErrState)
		case g.open(now):
			return nil, nil, fmt.Errorf("%w: it is in force until %s: revoke it, or wait", ErrState, g.Until.Format(time.RFC3339))
		}
		if finding != audit.ReasonEscalated {
			g.Reviewed, g.Finding, g.AlertAt = now, finding, time.Time{}
		}
		return &Step{Act: ActReview, By: p, At: now, Reason: finding, Owed: now}, nil, nil
	})
}

// Queue returns the grants that somebody must review and nobody has, those that
// are due first in front: for whoever may review one of them. See
// [Grant.Overdue] for those that are late, and [Grant.At] for those still in
// force.
func (d *Desk) Queue(ctx context.Context) ([]Grant, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	own, err := d.own(ctx, p)
	if err != nil {
		return nil, err
	}
	all, err := d.cfg.Store.List(ctx, Query{Tenant: p.Tenant, ToReview: true})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(g Grant) bool {
		_, reviewers := d.deciders(&g)
		return !overlap(reviewers, own)
	})
	return all, nil
}
