// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"context"
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// An asker is who asks, what for, and when.
type asker struct {
	*Point
	ctx     context.Context
	who     access.Principal
	purpose access.Purpose
	now     time.Time

	grants []Grant // live ones; asked for once
	asked  bool
}

// A branch is one way to reach records of a type: by a rule for the caller's own
// roles, or by a grant. Its parts are kept apart to say which one denied.
type branch struct {
	verdict access.Verdict // what is reached by it is allowed with this

	related  access.Filter // whom the caller has to do with; a tenant alone where nobody asks
	not      access.Set    // who restricts it
	needed   bool          // an authorization
	only     access.Set    // who gave it
	conflict access.Set    // records that another person must deal with
}

// filter is the branch as one.
func (b branch) filter() access.Filter {
	f := b.related
	if b.not != nil {
		f.NotIn = []access.Set{b.not}
	}
	if b.needed {
		f.Only = []access.Set{b.only}
	}
	if b.conflict != nil {
		f.NotRecords = []access.Set{b.conflict}
	}
	return f
}

// branches returns the ways to records of a type, or the verdict that there is
// none.
func (a *asker) branches(action access.Action, resourceType string) ([]branch, access.Verdict, error) {
	if code := a.admitted(); code != "" {
		return nil, access.Verdict{Code: code}, nil
	}
	own, err := a.cfg.Policy.Rule(a.ctx, a.who, action, resourceType, a.purpose)
	if err != nil {
		return nil, access.Verdict{}, err
	}
	if final(own) {
		return nil, own, nil // no grant is a way round it
	}
	var out []branch
	if own.Allow && !a.purpose.Emergency() {
		b := branch{verdict: own, related: a.related()}
		b.verdict.Code = access.AllowRule
		out = append(out, b)
	}
	grants, err := a.live()
	if err != nil {
		return nil, access.Verdict{}, err
	}
	for _, g := range grants {
		if !g.serves(a.purpose, a.now) {
			continue
		}
		b, ok, err := a.granted(g, own, action, resourceType)
		if err != nil {
			return nil, access.Verdict{}, err
		}
		if ok {
			out = append(out, b)
		}
	}
	if len(out) == 0 {
		if own.Allow { // an emergency
			own = access.Verdict{Code: access.DenyGrant, Near: "with a live grant of emergency access for this patient"}
		}
		return nil, own, nil
	}
	if err := a.conditions(out, action, resourceType); err != nil {
		return nil, access.Verdict{}, err
	}
	return out, access.Verdict{}, nil
}

// final reports whether a denial by the policy is one that no grant lifts: all
// but that no rule allows it.
func final(v access.Verdict) bool {
	return !v.Allow && v.Code != access.DenyNoRule && v.Code != access.DenyPurpose
}

// related is whom the caller's own roles reach.
func (a *asker) related() access.Filter {
	f := access.Filter{Tenant: a.who.Tenant}
	switch {
	case a.who.Kind == access.Patient:
		f.Subjects = []string{a.who.ID}
	case a.who.Kind == access.Proxy:
		f.Subjects = []string{a.who.OnBehalf}
	case a.cfg.Relations == nil || slices.ContainsFunc(a.cfg.TenantWide, a.purpose.IsA):
		f.AllSubjects = true
	default:
		f.Nobody = true
		if s := a.cfg.Relations.Related(a.who, a.purpose, a.now); s != nil {
			f.In = []access.Set{s}
		}
	}
	return f
}

// granted is what a live grant reaches; ok is false where the policy allows
// nothing by it. own is what the policy says without it.
func (a *asker) granted(g Grant, own access.Verdict, action access.Action, resourceType string) (b branch, ok bool, err error) {
	if a.who.Kind == access.Patient || a.who.Kind == access.Proxy {
		return b, false, nil
	}
	v := own
	if g.Role != "" {
		with := a.who
		if !slices.Contains(with.Roles, g.Role) {
			with.Roles = append(slices.Clone(with.Roles), g.Role)
		}
		if v, err = a.cfg.Policy.Rule(a.ctx, with, action, resourceType, a.purpose); err != nil {
			return b, false, err
		}
	}
	if !v.Allow {
		return b, false, nil
	}
	b.verdict = v
	b.verdict.Grant = g.ID
	b.verdict.Code = access.AllowGrant
	if g.BreakGlass {
		b.verdict.Code = access.AllowBreakGlass
	}
	if b.related = a.related(); g.Patient != "" {
		b.related = access.Filter{Tenant: a.who.Tenant, Subjects: []string{g.Patient}}
	}
	return b, true, nil
}

// conditions adds to the branches what patients and separation of duties say.
func (a *asker) conditions(branches []branch, action access.Action, resourceType string) error {
	var not, only, conflict access.Set
	needed := false
	if a.cfg.Directives != nil {
		not = a.cfg.Directives.Restricted(a.who, a.purpose, resourceType, a.now)
		needed, only = a.cfg.Directives.Authorized(a.who, a.purpose, resourceType, a.now)
	}
	if a.cfg.Duties != nil {
		var err error
		if conflict, err = a.cfg.Duties.Conflicting(a.who, action, resourceType, a.now); err != nil {
			return err
		}
	}
	for i := range branches {
		b := &branches[i]
		// What is needed to treat an emergency may be used in spite of a
		// restriction, 45 CFR 164.522(a)(1)(iii).
		if b.verdict.Code != access.AllowBreakGlass {
			b.not = not
		}
		b.needed, b.only, b.conflict = needed, only, conflict
	}
	return nil
}

// admitted says why the caller may ask nothing at all, whatever the policy; empty
// where nothing stands against it.
func (a *asker) admitted() access.Code {
	if a.who.Kind != access.Service && a.who.Assurance < a.cfg.Assurance {
		return access.DenyAssurance
	}
	for _, r := range a.cfg.Addresses {
		if r.about(a.who) && !r.met(a.who.Addr) {
			return access.DenyAddress
		}
	}
	if a.cfg.Posture != nil && a.cfg.Posture(a.ctx, a.who) != nil {
		return access.DenyDevice
	}
	return ""
}

// live asks for the caller's live grants, once.
func (a *asker) live() ([]Grant, error) {
	if a.asked || a.cfg.Grants == nil {
		return a.grants, nil
	}
	grants, err := a.cfg.Grants.Live(a.ctx, a.who, a.now)
	if err != nil {
		return nil, err
	}
	a.grants, a.asked = grants, true
	return grants, nil
}
