// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
)

// errZero is what the zero Point answers.
var errZero = errors.New("the point has no policy: make it with pdp.New")

// ask begins a decision for the scope of ctx.
func (p *Point) ask(ctx context.Context) (*asker, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, nil // the caller has access.From for the reason
	}
	if p == nil || p.cfg.Policy == nil {
		return nil, errZero
	}
	a := &asker{Point: p, ctx: ctx, who: scope.Principal(), purpose: scope.Purpose(), now: p.cfg.Now()}
	a.acting, err = a.inRoles(a.who)
	return a, err
}

// Check implements [access.Authorizer]. A resource without ID and patient asks
// about its type as a whole: it is allowed where some record may be in reach.
func (p *Point) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	d := access.Decision{ID: decisionID(), Verdicts: make([]access.Verdict, len(req.Resources))}
	for i := range d.Verdicts {
		d.Verdicts[i].Code = access.DenyInvalid
	}
	a, err := p.ask(ctx)
	if err != nil {
		return d, fmt.Errorf("pdp: check: %w", err)
	}
	if a == nil {
		return d, nil
	}
	if a.recipient = req.Recipient; a.recipient != "" && access.CheckID(a.recipient) != nil {
		return d, nil
	}
	d.Revision = p.cfg.Policy.Revision(ctx)
	byType := make(map[string][]int)
	var types []string
	for i, r := range req.Resources {
		switch {
		case r.Tenant == "" || access.CheckName(string(req.Action)) != nil || access.CheckName(r.Type) != nil:
		case r.Tenant != a.who.Tenant:
			d.Verdicts[i].Code = access.DenyTenant
		default:
			if byType[r.Type] == nil {
				types = append(types, r.Type)
			}
			byType[r.Type] = append(byType[r.Type], i)
		}
	}
	for _, t := range types {
		if err := a.decide(req, t, byType[t], d.Verdicts); err != nil {
			for i := range d.Verdicts {
				d.Verdicts[i] = access.Verdict{Code: access.DenyInvalid}
			}
			return d, fmt.Errorf("pdp: check: %w", err)
		}
	}
	return d, nil
}

// decide sets the verdicts on the resources of one type, which stand at the
// indexes at. Grants are asked for where the caller's own roles do not reach all.
func (a *asker) decide(req access.Request, resourceType string, at []int, out []access.Verdict) error {
	ways, none, open, err := a.own(req.Action, resourceType)
	if err != nil {
		return err
	}
	for _, i := range at {
		out[i] = none
	}
	left, err := a.match(ways, req, at, out)
	if err != nil || len(left) == 0 || !open {
		return err
	}
	if ways, err = a.granted(req.Action, resourceType); err != nil {
		return err
	}
	_, err = a.match(ways, req, left, out)
	return err
}

// match allows what one of the ways reaches, and returns what is left: that has
// the code of the first denial.
func (a *asker) match(ways []branch, req access.Request, at []int, out []access.Verdict) (left []int, err error) {
	left = at
	for _, b := range ways {
		rows := make([]access.Resource, len(left))
		for k, i := range left {
			rows[k] = req.Resources[i]
		}
		in, err := b.filter().Match(a.ctx, rows...)
		if err != nil {
			return nil, err
		}
		var next []int
		for k, i := range left {
			switch r := rows[k]; {
			case (in[k] || r.ID == "" && r.Patient == "") && a.spend(b):
				out[i] = b.verdict
				continue
			case vague(out[i].Code):
				if out[i], err = a.why(b, r); err != nil {
					return nil, err
				}
			}
			next = append(next, i)
		}
		left = next
	}
	return left, nil
}

// vague reports whether a denial says less than that of a way that exists.
func vague(c access.Code) bool {
	return c == "" || c == access.DenyNoRule || c == access.DenyPurpose || c == access.DenyGrant
}

// why names the stage of a branch that denies a record.
func (a *asker) why(b branch, r access.Resource) (access.Verdict, error) {
	everybody := access.Filter{Tenant: a.who.Tenant, AllSubjects: true}
	restricted, authorized, duty := everybody, everybody, everybody
	if b.not != nil {
		restricted.NotIn = []access.Set{b.not}
	}
	if b.sealed != nil {
		restricted.NotRecords = []access.Set{b.sealed}
	}
	if b.needed {
		authorized = branch{related: everybody, needed: true, only: b.only, foreign: b.foreign}.filter()
	}
	if b.conflict != nil {
		duty.NotRecords = []access.Set{b.conflict}
	}
	related, reached := access.DenySubject, b.related
	if b.others != nil {
		reached.NotRecords = []access.Set{b.others}
	}
	if b.verdict.Code == access.AllowBreakGlass || b.others != nil {
		related = access.DenyGrant
	}
	for _, stage := range []struct {
		filter access.Filter
		code   access.Code
		near   string
	}{
		{reached, related, "with a relation to the patient"},
		{restricted, access.DenyRestriction, "without the patient's restriction"},
		{authorized, access.DenyConsent, "with the patient's authorization"},
		{duty, access.DenyDuty, "by somebody else"},
	} {
		in, err := stage.filter.Match(a.ctx, r)
		if err != nil {
			return access.Verdict{}, err
		}
		if !in[0] {
			return access.Verdict{Code: stage.code, Rule: b.verdict.Rule, Path: b.verdict.Path, Near: stage.near}, nil
		}
	}
	if b.use != nil {
		return access.Verdict{Code: access.DenyGrant, Rule: b.verdict.Rule, Path: b.verdict.Path, Near: "with a use of the grant left"}, nil
	}
	return access.Verdict{Code: access.DenySubject}, nil // it came within reach meanwhile: the next call sees it
}

// Filter implements [access.Authorizer].
func (p *Point) Filter(ctx context.Context, action access.Action, resourceType string) (access.Filter, error) {
	denied := &access.DeniedError{Action: action, Resource: resourceType, Code: access.DenyInvalid, Decision: decisionID()}
	a, err := p.ask(ctx)
	if err != nil {
		return access.Filter{}, fmt.Errorf("pdp: filter: %w", err)
	}
	if a == nil || access.CheckName(string(action)) != nil || access.CheckName(resourceType) != nil {
		return access.Filter{}, denied
	}
	ways, none, open, err := a.own(action, resourceType)
	if err == nil && open {
		var more []branch
		more, err = a.granted(action, resourceType)
		for _, b := range more {
			if a.spend(b) {
				ways = append(ways, b)
			}
		}
	}
	if err != nil {
		return access.Filter{}, fmt.Errorf("pdp: filter: %w", err)
	}
	if len(ways) == 0 {
		denied.Code = none.Code
		return access.Filter{}, denied
	}
	var all []access.Filter
	for _, b := range ways {
		all = append(all, b.filters()...)
	}
	return either(all), nil
}

// Offer implements [access.Offerer]: emergency access where a rule for it would
// allow the action, another purpose where a rule for that would, and a grant
// where one that the caller may request would. A policy that is too old to decide
// by offers emergency access all the same.
func (p *Point) Offer(ctx context.Context, action access.Action, resourceType string) access.Offer {
	a, err := p.ask(ctx)
	if err != nil || a == nil || a.who.Kind != access.Human || a.purpose.Emergency() || a.admitted(a.acting) != "" {
		return access.OfferNone
	}
	rule := func(purpose access.Purpose, granted ...string) access.Verdict {
		with := a.who
		with.Roles = slices.Concat(with.Roles, granted)
		v, err := p.cfg.Policy.Rule(ctx, with, action, resourceType, purpose)
		if err != nil {
			return access.Verdict{Code: access.DenyInvalid}
		}
		return v
	}
	own := rule(a.purpose)
	switch {
	case final(own) && own.Code != access.DenyStale:
		return access.OfferNone
	case p.cfg.Grants != nil && rule(access.BreakGlass).Allow:
		return access.OfferBreakGlass
	case own.Code == access.DenyPurpose:
		return access.OfferPurpose
	case p.cfg.Grants == nil || own.Allow:
		return access.OfferNone
	}
	for _, role := range p.cfg.Grants.Requestable(ctx, a.who) {
		if rule(a.purpose, role).Allow {
			return access.OfferGrant
		}
	}
	return access.OfferNone
}

// Deviations says what the point does not ask that the SDK's design asks for.
// storage records them at Open. The review is due a year from now: no
// regulation sets that number (164.308(a)(8) says periodic).
func (p *Point) Deviations() []access.Deviation {
	if p == nil || p.cfg.Policy == nil {
		return nil
	}
	var out []access.Deviation
	without := func(missing bool, citation, reason, alternative string) {
		if missing {
			out = append(out, access.Deviation{Citation: citation, Reason: reason, Alternative: alternative,
				Owner: "security official (45 CFR 164.308(a)(2))", ReviewBy: p.cfg.Now().AddDate(1, 0, 0)})
		}
	}
	without(p.cfg.Relations == nil, "164.308(a)(4)", "tenant-wide access, no care-team relation: a rule reaches every patient of the tenant",
		"role, tenant and purpose of use are checked, and every access is recorded")
	without(p.cfg.Directives == nil, "164.522(a)(1)(iii)", "no directives: a restriction that was agreed to binds no request",
		"none here: restrictions are kept by the workforce, outside of the program")
	without(p.cfg.Grants == nil, "164.312(a)(2)(ii)", "no grants: no emergency access to what the rules do not allow",
		"none here: the emergency access procedure is outside of the program")
	return out
}

// decisionID returns 128 random bits in hex.
func decisionID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}
