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

// Reasons are the reasons that a grant of this kind can have.
func (k Kind) Reasons() []audit.Reason {
	switch k {
	case BreakGlass:
		return []audit.Reason{audit.ReasonEmergency, audit.ReasonIncapacity, audit.ReasonCovering, audit.ReasonConsult,
			audit.ReasonTransfer, audit.ReasonUnassigned, audit.ReasonDisaster}
	case JIT:
		return []audit.Reason{audit.ReasonCovering, audit.ReasonConsult, audit.ReasonIncident, audit.ReasonRepair, audit.ReasonMigration,
			audit.ReasonIndividual, audit.ReasonRegulator, audit.ReasonCourt, audit.ReasonLitigation}
	}
	return nil
}

// A Glass is what somebody breaks: the access to one patient.
type Glass struct {
	Patient string         // record ID
	Reason  audit.Reason   // one of [Kind.Reasons] of BreakGlass
	Purpose access.Purpose // BreakGlass or EmergencyTreatment; empty means BreakGlass
	TTL     time.Duration  // zero means Config.Emergency.TTL, which is also the longest
}

// skew is how far the clocks of two nodes may be apart. A second factor, or the
// beginning of a grant, that lies further ahead is not believed.
const skew = time.Minute

// rolesWait is how long an emergency waits for Config.Roles.
const rolesWait = 2 * time.Second

// BreakGlass gives the principal of ctx emergency access to one patient, at
// once: by their own account and role, with a second factor of this session
// that is fresh enough, and with secret, what Config.Confirm asks for. Nobody
// has to approve it; Config.Alert tells the reviewers. It is in force on every
// node when it returns.
//
// An emergency does not wait for a directory of users: where Config.Roles fails,
// or does not answer within 2 s, the roles that the session names decide.
//
// Of a live one for the same patient that has half of its time left it returns
// that one.
func (d *Desk) BreakGlass(ctx context.Context, b Glass, secret string) (Grant, error) {
	e := d.cfg.Emergency
	if e == nil {
		return Grant{}, fmt.Errorf("%w: Config.Emergency says of nobody that they can break the glass", ErrEligible)
	}
	p, ok := access.PrincipalFrom(ctx)
	if !ok {
		return Grant{}, access.ErrNoPrincipal
	}
	if b.Purpose == "" {
		b.Purpose = access.BreakGlass
	}
	if b.TTL == 0 {
		b.TTL = e.TTL
	}
	now := d.now()
	g := Grant{
		Tenant: p.Tenant, Reason: b.Reason, TTL: b.TTL, State: Approved, Created: now, From: now, Until: now.Add(b.TTL),
		ReviewBy: now.Add(e.ReviewWithin), AlertAt: now,
		Scope: Scope{Kind: BreakGlass, Holder: p.ID, Patient: b.Patient, Purposes: []access.Purpose{b.Purpose}},
	}
	if err := b.check(e); err != nil {
		return Grant{}, fmt.Errorf("grant: %w: %w", ErrRequest, err)
	}
	if err := d.mayBreak(ctx, p, &g, secret); err != nil {
		return Grant{}, err
	}
	var err error
	if g.ID, err = newID(); err != nil {
		return Grant{}, err
	}
	g.Steps = []Step{{Act: ActBreak, By: p, At: now, Reason: b.Reason, Owed: now}}
	g, _, err = d.cfg.Store.Create(ctx, g, func(old Grant) bool {
		return old.open(now) && !old.From.After(now.Add(skew)) && old.Until.Sub(now) >= b.TTL/2
	})
	if err != nil {
		return Grant{}, err
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return d.finish(ctx, g.Tenant, g.ID)
}

func (b *Glass) check(e *Emergency) error {
	if err := access.CheckID(b.Patient); err != nil {
		return fmt.Errorf("Patient %w", err)
	}
	switch {
	case !slices.Contains(BreakGlass.Reasons(), b.Reason):
		return errors.New("Reason is none of grant.BreakGlass.Reasons()")
	case !b.Purpose.Emergency():
		return errors.New("Purpose is no emergency")
	case b.TTL < 0 || b.TTL > e.TTL:
		return fmt.Errorf("TTL is not between 0 and %v", e.TTL)
	}
	return nil
}

// mayBreak says why p may not break the glass, and puts that on record; else it
// sets the role.
func (d *Desk) mayBreak(ctx context.Context, p access.Principal, g *Grant, secret string) error {
	e := d.cfg.Emergency
	refuse := func(reason audit.Reason, err error) error {
		ev := d.event(g, audit.GlassBroken, audit.Failure, reason)
		ev.UserKind = p.Kind
		_, rerr := d.cfg.Audit.Record(ctx, ev)
		return errors.Join(err, rerr)
	}
	if p.Kind != access.Human || p.OnBehalf != "" {
		return refuse(audit.ReasonPolicy, fmt.Errorf("%w: only a member of the workforce can, by their own account and for themselves", ErrEligible))
	}
	role, err := d.inEmergency(ctx, p, e.Roles)
	if err != nil {
		return refuse(audit.ReasonPolicy, err)
	}
	now := d.now()
	age := now.Sub(p.AuthTime)
	if p.Session == "" || p.Assurance < 2 || age > e.FactorWithin || age < -skew {
		return refuse(audit.ReasonTOTP, ErrFactor)
	}
	if err := d.cfg.Confirm(ctx, p, secret); err != nil {
		return refuse(audit.ReasonPassword, fmt.Errorf("%w: %w", ErrFactor, err))
	}
	g.Role = role
	return nil
}

// inEmergency returns the first of roles that p holds by the policy, or, where
// nobody can say what that gives, by the session.
func (d *Desk) inEmergency(ctx context.Context, p access.Principal, roles []string) (string, error) {
	within, cancel := context.WithTimeout(ctx, rolesWait)
	defer cancel()
	role, err := d.eligible(within, p, roles)
	if err == nil || errors.Is(err, ErrEligible) {
		return role, err
	}
	d.cfg.Log.Error("grant: break-glass goes by the roles of the session", zap.Error(err))
	return oneOf(roles, p.Roles)
}
