// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
)

// A view is a version of the rules as one scope sees it. It is pinned to the
// scope, so that the principal's roles are looked up once for each version.
type view struct {
	*version
	tenant string
	kind   access.Kind
	roles  []held
}

// A held role is one that the rows name.
type held struct {
	name    string // with r:
	subject policy.Subject
}

// A question is what is asked for a view's principal, in the own tenant.
type question struct {
	action  access.Action
	typ     string
	purpose access.Purpose
}

// A pinned view is what a scope sees now; nil where there was no policy.
type pinned struct{ view atomic.Pointer[view] }

// pinFor is how long a scope sees a policy that was replaced: longer than a
// request, and shorter than anybody waits for a right to end. Ours.
const pinFor = 5 * time.Second

// pin returns the view of the scope.
func (e *Engine) pin(s *access.Scope) (*view, error) {
	if e == nil {
		return nil, errNoPolicy
	}
	at := s.Pin(e, func() any {
		at := new(pinned)
		at.view.Store(newScopeView(e.current.Load(), s))
		return at
	}).(*pinned)
	v := at.view.Load()
	if v == nil {
		return nil, errNoPolicy
	}
	if now := e.current.Load(); now != v.version && v.outlived() {
		renewed := v.renew(now, s.Principal())
		if !at.view.CompareAndSwap(v, renewed) {
			renewed = at.view.Load() // somebody else was faster
		}
		return renewed, nil
	}
	return v, nil
}

// outlived reports whether a version was replaced long ago.
func (v *version) outlived() bool {
	at := v.superseded.Load()
	return at != nil && time.Since(*at) >= pinFor
}

// renew returns what who sees by a newer version. Who has lost a role sees
// nothing any more, by whatever policy comes then.
func (v *view) renew(now *version, who access.Principal) *view {
	for _, role := range v.acts(who) {
		if !slices.Contains(now.acts(who), role) {
			return &view{version: &version{revision: now.revision, assigned: assigned{}}, tenant: who.Tenant, kind: who.Kind}
		}
	}
	return newView(now, who)
}

// acts returns the roles in which who acts, with those that they include.
func (v *version) acts(who access.Principal) []string {
	who.Roles = slices.Clone(who.Roles) // active changes them
	return v.withIncluded(who.Tenant, v.assigned.active(who).Roles)
}

// newScopeView returns the view of the scope's principal, and tells the scope
// the roles in which it acts, with those that they include.
func newScopeView(v *version, s *access.Scope) *view {
	if v != nil {
		s.Activate(v.acts(s.Principal()))
	}
	return newView(v, s.Principal())
}

func newView(v *version, who access.Principal) *view {
	if v == nil {
		return nil
	}
	out := &view{version: v, tenant: who.Tenant, kind: who.Kind}
	for _, role := range v.assigned.active(who).Roles {
		out.add(role)
	}
	return out
}

// add gives a view another role.
func (v *view) add(role string) {
	name := "r:" + role
	if !v.version.roles[name] || slices.ContainsFunc(v.roles, func(h held) bool { return h.name == name }) {
		return
	}
	subject, err := v.compiled.Subject(name, v.tenant)
	if err != nil {
		return // no admitted model's request has fewer fields
	}
	v.roles = append(v.roles, held{name, subject})
}

// as returns the view that who has, of the version that principal sees by v.
func (v *view) as(principal, who access.Principal) *view {
	if !same(who, principal) {
		who.Roles = slices.Clone(who.Roles)
		return newView(v.version, who)
	}
	out := v
	for _, role := range who.Roles {
		if slices.Contains(principal.Roles, role) {
			continue
		}
		if out == v {
			more := *v
			more.roles = slices.Clone(v.roles)
			out = &more
		}
		out.add(role)
	}
	return out
}

// same reports whether two principals are one, whatever roles it acts in.
func same(a, b access.Principal) bool {
	return a.ID == b.ID && a.Tenant == b.Tenant && a.Kind == b.Kind
}

// decide answers q. It allocates nothing unless a denial has a nearest miss.
func (v *view) decide(q question) (access.Verdict, error) {
	if access.CheckName(string(q.action)) != nil || access.CheckName(q.typ) != nil {
		return access.Verdict{Code: access.DenyInvalid}, nil
	}
	out, err := v.ask(q, byIndex)
	if err != nil || out.Code != access.DenyNoRule {
		return out, err
	}
	near := q
	for _, near.purpose = range v.purposes {
		if near.purpose == q.purpose {
			continue
		}
		if o, err := v.ask(near, byIndex); err != nil {
			return access.Verdict{}, err
		} else if o.Allow {
			out.Code = access.DenyPurpose
			out.Near = "for " + string(near.purpose) + ", by " + o.Rule
			break
		}
	}
	return out, nil
}

// An asker puts a question for one role.
type asker func(v *view, role int, q question) (policy.Decision, error)

func byIndex(v *view, role int, q question) (policy.Decision, error) {
	return v.roles[role].subject.Decide(q.typ, string(q.action), string(q.purpose))
}

func byCasbin(v *view, role int, q question) (policy.Decision, error) {
	return v.casbin(v.roles[role].name, v.tenant, q.typ, string(q.action), string(q.purpose))
}

// ask puts q for each role: a denying row of any role wins, else the first
// allowing one. A rule for a purpose is one for its kinds too, but for those of
// emergency access, which a rule has to name, or to say * for every purpose.
func (v *view) ask(q question, by asker) (access.Verdict, error) {
	out := access.Verdict{Code: access.DenyNoRule}
	for emergency := q.purpose.Emergency(); q.purpose != ""; q.purpose = q.purpose.Parent() {
		for i := range v.roles {
			d, err := by(v, i, q)
			if err != nil {
				return access.Verdict{}, err
			}
			if d.Rule == nil || d.Allow && out.Allow {
				continue // no row decided, or an earlier role is allowed already
			}
			out = access.Verdict{
				Allow: d.Allow,
				Code:  access.AllowRule,
				Rule:  d.Rule.String(),
				Path:  v.path(v.tenant, v.roles[i].name, d.Rule.Fields[1]),
			}
			if !d.Allow {
				out.Code = access.DenyRule
				return out, nil
			}
			if !v.denies {
				return out, nil
			}
		}
		if emergency {
			break
		}
	}
	return out, nil
}

// A Difference is a question that Casbin and the compiled policy answer in two
// ways. That is a fault of this SDK: report it. It names no patient.
type Difference struct {
	Decision string // the ID of the decision, in which it is denied; empty from Rule
	Roles    []string
	Tenant   string
	Action   access.Action
	Type     string
	Purpose  access.Purpose
	Compiled access.Verdict
	Casbin   access.Verdict
	Err      error // what Casbin failed with; nil where it answered
}

// compare asks Casbin too. Where it answers in another way, nobody is told more
// than a denial.
func (v *view) compare(ctx context.Context, decision string, q question, got access.Verdict) access.Verdict {
	if got.Code == access.DenyInvalid {
		return got // no row was asked
	}
	want, err := v.ask(q, byCasbin)
	if err == nil && got.Allow == want.Allow && got.Rule == want.Rule {
		return got
	}
	d := Difference{Decision: decision, Tenant: v.tenant, Action: q.action, Type: q.typ, Purpose: q.purpose, Compiled: got, Casbin: want, Err: err}
	for _, h := range v.roles {
		d.Roles = append(d.Roles, h.name[2:])
	}
	v.differs(ctx, d)
	return access.Verdict{Code: access.DenyInvalid}
}
