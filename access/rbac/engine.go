// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/part164/part164/access"
)

// Config is a policy. Rules, Links and Policy add up; together they must allow
// something.
type Config struct {
	Model  string // Casbin model.conf; empty means DefaultModel
	Rules  []Rule // rows as Go values
	Links  []Link // role inheritance as Go values
	Policy string // rows as Casbin CSV: p and g lines

	// Assigned says that users have the roles that Assignments give them, and
	// no others. Where Principal.Roles names any, the principal acts in those of
	// them only. Without it, Principal.Roles are the roles, and Assignments is
	// empty.
	Assigned    bool
	Assignments []Assignment

	Revision uint64 // which version of the policy this is: access.Decision has it

	Now func() time.Time // the clock of Deviations; nil means time.Now
}

// An Engine decides by a policy that does not change while it is in force. It
// implements [access.Authorizer] and is safe for concurrent use. The zero
// Engine denies everything.
type Engine struct{ current atomic.Pointer[policy] }

// A policy is one version of the rules, immutable.
type policy struct {
	rows     []row
	roles    map[string]bool  // every role that the rows name
	purposes []access.Purpose // every purpose that a row may allow
	links    hierarchy
	casbin   decider
	loaded   time.Time
	assigned assigned // nil: principals bring their roles
	revision uint64
}

// New returns an engine, or an error naming the row, the line or the part of
// the model that it refuses.
func New(cfg Config) (*Engine, error) {
	e := new(Engine)
	if err := e.Replace(cfg); err != nil {
		return nil, err
	}
	return e, nil
}

// Replace puts another policy in force. A scope that has asked before keeps the
// policy that it asked, so that one request is decided by one policy. After an
// error the policy in force stays.
func (e *Engine) Replace(cfg Config) error {
	p, err := load(cfg)
	if err != nil {
		return fmt.Errorf("rbac: load policy: %w", err)
	}
	e.current.Store(p)
	return nil
}

func load(cfg Config) (*policy, error) {
	if cfg.Model == "" {
		cfg.Model = DefaultModel
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	text, err := readModel(cfg.Model)
	if err != nil {
		return nil, fmt.Errorf("Config.Model: %w", err)
	}
	l, err := admit(text)
	if err != nil {
		return nil, fmt.Errorf("Config.Model: %w", err)
	}
	rows, err := ruleRows(l, cfg.Rules, cfg.Links)
	if err != nil {
		return nil, err
	}
	more, err := csvRows(cfg.Policy)
	if err != nil {
		return nil, err
	}
	rows = distinct(append(rows, more...))
	if err := checkRows(l, rows); err != nil {
		return nil, err
	}
	p := &policy{rows: rows, roles: make(map[string]bool), loaded: cfg.Now(), revision: cfg.Revision}
	if p.assigned, err = newAssigned(cfg); err != nil {
		return nil, err
	}
	if p.links, err = newHierarchy(rows); err != nil {
		return nil, err
	}
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = r.fields
		p.roles[r.fields[1]] = true
	}
	p.purposes = purposes(rows)
	p.casbin, err = newDecider(text.casbin, lines)
	return p, err
}

// purposes returns those that rows name, or all where a row has a pattern.
func purposes(rows []row) []access.Purpose {
	var out []access.Purpose
	for _, r := range rows {
		if r.fields[0] != "p" {
			continue
		}
		p := access.Purpose(r.fields[5])
		if !p.Valid() {
			return access.Purposes()
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// distinct drops repeated rows, as Casbin does.
func distinct(rows []row) []row {
	seen := make(map[string]bool)
	out := rows[:0:0]
	for _, r := range rows {
		if s := r.String(); !seen[s] {
			seen[s] = true
			out = append(out, r)
		}
	}
	return out
}

// errNoPolicy is what the zero Engine answers.
var errNoPolicy = errors.New("rbac: the engine has no policy: make it with rbac.New or rbac.Starter")

// pin returns the policy of the scope.
func (e *Engine) pin(s *access.Scope) (*policy, error) {
	if e == nil {
		return nil, errNoPolicy
	}
	if p, _ := s.Pin(e, func() any { return e.current.Load() }).(*policy); p != nil {
		return p, nil
	}
	return nil, errNoPolicy
}

// Check decides a batch. Casbin is asked once for each distinct resource type,
// role and purpose, however long the batch is.
func (e *Engine) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return invalid(req), nil // the caller has access.From for the reason
	}
	p, err := e.pin(scope)
	if err != nil {
		return invalid(req), err
	}
	d := access.Decision{ID: decisionID(), Verdicts: make([]access.Verdict, len(req.Resources)), Revision: p.revision}
	who, byType := p.assigned.active(scope.Principal()), make(map[string]access.Verdict)
	for i, r := range req.Resources {
		switch {
		case r.Tenant == "":
			d.Verdicts[i].Code = access.DenyInvalid
		case r.Tenant != who.Tenant:
			d.Verdicts[i].Code = access.DenyTenant
		default:
			v, ok := byType[r.Type]
			if !ok {
				if v, err = p.decide(who, req.Action, r.Type, scope.Purpose()); err != nil {
					return invalid(req), err
				}
				byType[r.Type] = v
			}
			d.Verdicts[i] = v
		}
	}
	return d, nil
}

// invalid denies the whole of req.
func invalid(req access.Request) access.Decision {
	d := access.Decision{ID: decisionID(), Verdicts: make([]access.Verdict, len(req.Resources))}
	for i := range d.Verdicts {
		d.Verdicts[i].Code = access.DenyInvalid
	}
	return d
}

// Filter returns the rows in reach: every patient of the principal's tenant
// where a rule allows action on the type, else the zero Filter and an
// [access.DeniedError].
func (e *Engine) Filter(ctx context.Context, action access.Action, resourceType string) (access.Filter, error) {
	req := access.Request{Action: action, Resources: []access.Resource{{Type: resourceType}}}
	if s, err := access.From(ctx); err == nil {
		req.Resources[0].Tenant = s.Principal().Tenant
	}
	d, err := e.Check(ctx, req)
	if err != nil {
		return access.Filter{}, err
	}
	if !d.AllowAll(1) {
		return access.Filter{}, &access.DeniedError{Action: action, Resource: resourceType, Code: d.Verdicts[0].Code, Decision: d.ID}
	}
	return access.Filter{Tenant: req.Resources[0].Tenant, AllSubjects: true}, nil
}

// decide answers for one resource type of the principal's own tenant.
func (p *policy) decide(who access.Principal, act access.Action, obj string, pur access.Purpose) (access.Verdict, error) {
	if access.CheckName(string(act)) != nil || access.CheckName(obj) != nil {
		return access.Verdict{Code: access.DenyInvalid}, nil
	}
	if who.Kind == access.Patient || who.Kind == access.Proxy {
		return access.Verdict{Code: access.DenySubject}, nil // only a relation could tell whose record is theirs
	}
	v, err := p.ask(who, act, obj, pur)
	if err != nil || v.Code != access.DenyNoRule {
		return v, err
	}
	for _, other := range p.purposes {
		if other == pur {
			continue
		}
		if o, err := p.ask(who, act, obj, other); err != nil {
			return access.Verdict{}, err
		} else if o.Allow {
			v.Code = access.DenyPurpose
			break
		}
	}
	return v, nil
}

// ask puts each role to Casbin: a denying row of any role wins, else the first
// allowing one.
func (p *policy) ask(who access.Principal, act access.Action, obj string, pur access.Purpose) (access.Verdict, error) {
	v := access.Verdict{Code: access.DenyNoRule}
	for _, name := range who.Roles {
		role := "r:" + name
		if !p.roles[role] {
			continue // no row names it
		}
		allow, fields, err := p.casbin(role, who.Tenant, obj, string(act), string(pur))
		if err != nil {
			return access.Verdict{}, err
		}
		if fields == nil || allow && v.Allow {
			continue // no row decided, or an earlier role is allowed already
		}
		v = access.Verdict{
			Allow: allow,
			Code:  access.AllowRule,
			Rule:  row{fields: append([]string{"p"}, fields...)}.String(),
			Path:  p.links.path(who.Tenant, role, fields[0]),
		}
		if !allow {
			v.Code = access.DenyRule
			return v, nil
		}
	}
	return v, nil
}

// Deviations says what the engine does not do that the SDK's design asks for.
// storage records them at Open. The review is due a year after the policy was
// loaded: no regulation sets that number (164.308(a)(8) says periodic).
func (e *Engine) Deviations() []access.Deviation {
	if e == nil {
		return nil
	}
	p := e.current.Load()
	if p == nil {
		return nil
	}
	return []access.Deviation{{
		Citation:    "164.308(a)(4)",
		Reason:      "tenant-wide access, no care-team relation: a rule reaches every patient of the tenant",
		Alternative: "role, tenant and purpose of use are checked, and every access is recorded",
		Owner:       "security official (45 CFR 164.308(a)(2))",
		ReviewBy:    p.loaded.AddDate(1, 0, 0),
	}}
}

// decisionID returns 128 random bits in hex.
func decisionID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}
