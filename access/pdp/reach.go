// SPDX-License-Identifier: Apache-2.0

package pdp

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// An asker is who asks, what for, and when.
type asker struct {
	*Point
	ctx     context.Context
	who     access.Principal
	acting  access.Principal // who, in all the roles that it has by the policy
	purpose access.Purpose
	now     time.Time

	recipient string // of a disclosure; empty: a use inside

	grants []Grant // live ones; asked for once
	asked  bool
}

// A branch is one way to reach records of a type: by a rule for the caller's own
// roles, or by a grant. Its parts are kept apart to say which one denied.
type branch struct {
	who     access.Principal // in all its roles, with those of the grant
	verdict access.Verdict   // what is reached by it is allowed with this

	related  access.Filter // whom the caller has to do with
	not      access.Set    // who restricts it
	sealed   access.Set    // records that are restricted
	needed   bool          // an authorization
	only     []access.Set  // who gave it: in each
	foreign  access.Set    // records that need it; nil: every one
	conflict access.Set    // records that another person must deal with
	others   access.Set    // records that the grant is not for

	use func(ctx context.Context) error // counts a use of the grant
}

// filters are the branch's, each of which is a way.
func (b branch) filters() []access.Filter {
	f := b.related
	if b.not != nil {
		f.NotIn = []access.Set{b.not}
	}
	for _, s := range []access.Set{b.sealed, b.conflict, b.others} {
		if s != nil {
			f.NotRecords = append(f.NotRecords, s)
		}
	}
	if !b.needed {
		return []access.Filter{f}
	}
	out := []access.Filter{{Tenant: f.Tenant}} // nobody gave it
	if len(b.only) > 0 {
		out[0] = f
		out[0].Only = slices.Concat(f.Only, b.only)
	}
	if b.foreign != nil {
		f.NotRecords = slices.Concat(f.NotRecords, []access.Set{b.foreign})
		out = append(out, f)
	}
	return out
}

// filter is the branch as one.
func (b branch) filter() access.Filter { return either(b.filters()) }

// either is what any of the filters reaches.
func either(ways []access.Filter) access.Filter {
	f := ways[0]
	f.Or = ways[1:]
	return f
}

// own returns the way of the caller's own roles, or the verdict that they have
// none. open says whether a grant may be another.
func (a *asker) own(action access.Action, resourceType string) (ways []branch, none access.Verdict, open bool, err error) {
	if code := a.admitted(a.acting); code != "" {
		return nil, access.Verdict{Code: code}, false, nil
	}
	v, err := a.cfg.Policy.Rule(a.ctx, a.who, action, resourceType, a.purpose)
	switch {
	case err != nil:
		return nil, v, false, err
	case final(v):
		return nil, v, false, nil
	case !v.Allow:
		return nil, v, true, nil
	case a.purpose.Emergency():
		return nil, access.Verdict{Code: access.DenyGrant, Near: "with a live grant of emergency access for this patient"}, true, nil
	}
	b := branch{who: a.acting, verdict: v, related: a.related()}
	b.verdict.Code = access.AllowRule
	ok, err := a.conditions(&b, action, resourceType)
	if err != nil || !ok {
		return nil, access.Verdict{Code: access.DenyDuty, Rule: v.Rule, Path: v.Path}, false, err
	}
	return []branch{b}, access.Verdict{}, true, nil
}

// granted returns the ways of the caller's live grants.
func (a *asker) granted(action access.Action, resourceType string) (ways []branch, err error) {
	if a.cfg.Grants == nil || a.who.Kind == access.Patient || a.who.Kind == access.Proxy {
		return nil, nil
	}
	if !a.asked {
		if a.grants, err = a.cfg.Grants.Live(a.ctx, a.who, a.now); err != nil {
			return nil, err
		}
		a.asked = true
	}
	for _, g := range a.grants {
		if !g.serves(a.purpose, a.now) || g.Type != "" && g.Type != resourceType {
			continue
		}
		b, with := branch{who: a.acting}, a.who
		if g.Role != "" {
			with.Roles = slices.Concat(with.Roles, []string{g.Role})
			if b.who, err = a.inRoles(with); err != nil {
				return nil, err
			}
			if a.admitted(b.who) != "" {
				continue
			}
		}
		if b.verdict, err = a.cfg.Policy.Rule(a.ctx, with, action, resourceType, a.purpose); err != nil {
			return nil, err
		}
		if !b.verdict.Allow {
			continue
		}
		b.verdict.Grant, b.verdict.Role, b.verdict.Code = g.ID, g.Role, access.AllowGrant
		if g.BreakGlass {
			b.verdict.Code = access.AllowBreakGlass
		}
		b.related = a.related()
		g.limit(&b)
		ok, err := a.conditions(&b, action, resourceType)
		if err != nil {
			return nil, err
		}
		if ok {
			ways = append(ways, b)
		}
	}
	return ways, nil
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
	case a.who.Kind == access.Proxy: // 45 CFR 164.502(g)
		if a.cfg.Relations == nil {
			f.Subjects = []string{a.who.OnBehalf}
		} else if s := a.cfg.Relations.Related(a.who, a.purpose, a.now); s != nil { // it may have ended since the sign-in
			f.Subjects, f.Only = []string{a.who.OnBehalf}, []access.Set{s}
		}
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

// conditions adds to a branch what patients and separation of duties say; ok is
// false where that forbids all of it.
func (a *asker) conditions(b *branch, action access.Action, resourceType string) (ok bool, err error) {
	if d := a.cfg.Directives; d != nil {
		// What is needed to treat an emergency may be used in spite of a
		// restriction, 45 CFR 164.522(a)(1)(iii).
		if b.verdict.Code != access.AllowBreakGlass {
			b.not, b.sealed = a.restricted(d, b.who, resourceType)
		}
		if a.recipient == "" {
			b.needed, b.only, b.foreign = d.Authorized(b.who, a.purpose, resourceType, a.now)
		} else {
			b.needed, b.only = d.AuthorizedTo(a.recipient, b.who, a.purpose, resourceType, a.now)
		}
	}
	if a.cfg.Duties == nil {
		return true, nil
	}
	all, records, err := a.cfg.Duties.Conflicting(a.ctx, b.who, action, resourceType, a.now)
	b.conflict = records
	return err == nil && !all, err
}

// restricted asks about a use inside, or a disclosure.
func (a *asker) restricted(d Directives, who access.Principal, resourceType string) (patients, records access.Set) {
	if a.recipient == "" {
		return d.Restricted(who, a.purpose, resourceType, a.now)
	}
	return d.RestrictedTo(a.recipient, who, a.purpose, resourceType, a.now)
}

// inRoles returns who in all the roles that it has by the policy, if anything is
// asked by them.
func (a *asker) inRoles(who access.Principal) (_ access.Principal, err error) {
	if a.byRole {
		if who.Roles, err = a.cfg.Policy.Roles(a.ctx, who); err != nil {
			err = fmt.Errorf("roles: %w", err)
		}
	}
	return who, err
}

// admitted says why who may ask nothing at all, whatever the rules; empty where
// nothing stands against it.
func (a *asker) admitted(who access.Principal) access.Code {
	if who.Kind != access.Service && who.Assurance < a.cfg.Assurance {
		return access.DenyAssurance
	}
	for _, r := range a.cfg.Addresses {
		if r.about(who) && !r.met(who.Addr) {
			return access.DenyAddress
		}
	}
	if a.cfg.Posture != nil && a.cfg.Posture(a.ctx, who) != nil {
		return access.DenyDevice
	}
	return ""
}
