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
	"github.com/part164/part164/access/policy"
)

// Config is a policy. Rules, Links and Policy add up; together they must allow
// something.
type Config struct {
	Model  string // Casbin model.conf; empty means DefaultModel
	Rules  []Rule // rows as Go values
	Links  []Link // role inheritance as Go values
	Policy string // rows as Casbin CSV: p and g lines; with Assigned also those of users: g, u:u-17, r:nurse, clinic-7

	// Assigned says that users have the roles that Assignments give them, and
	// no others. Where Principal.Roles names any, the principal acts in those of
	// them only. Without it, Principal.Roles are the roles, and Assignments is
	// empty.
	Assigned    bool
	Assignments []Assignment

	Revision uint64 // which version of the policy this is: access.Decision has it

	// Shadow has one in so many checks decided by Casbin itself as well. 0
	// means none. Casbin takes milliseconds where a policy has thousands of
	// rows.
	Shadow int

	// Differs is told where Casbin and the compiled policy differ, and is
	// required with Shadow. What they differ about is denied. It is called on
	// the way to the answer, by several goroutines at once: it must not block.
	Differs func(context.Context, Difference)

	Now func() time.Time // the clock of Deviations; nil means time.Now
}

// An Engine decides by a policy that does not change while it is in force. It
// implements [access.Authorizer] and is safe for concurrent use. The zero
// Engine denies everything.
type Engine struct {
	current atomic.Pointer[version]
	checks  atomic.Uint64 // since Shadow was set
}

// A version is one state of the rules, immutable.
type version struct {
	model    string
	rows     []policy.Row
	compiled *policy.Policy
	roles    map[string]bool  // every role that the rows name
	purposes []access.Purpose // every purpose that a row may allow
	paths    map[reach][]string
	includes map[reach][]string // the roles that paths lead to, by tenant and from
	denies   bool               // a row does
	loaded   time.Time
	assigned assigned // nil: principals bring their roles
	revision uint64

	superseded atomic.Pointer[time.Time] // when it was last replaced

	shadow  uint64
	differs func(context.Context, Difference)
	casbin  func(request ...string) (policy.Decision, error)
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
// policy that it asked for another 5 seconds, so that one request is decided by
// one policy; one that lives longer, of a stream or a job, is decided by the new
// one from then on. If its principal has lost a role by then, it is denied
// everything: what it has shown is measured by that role. After an error the
// policy in force stays.
func (e *Engine) Replace(cfg Config) error {
	v, err := load(cfg)
	if err != nil {
		return fmt.Errorf("rbac: load policy: %w", err)
	}
	e.put(v)
	return nil
}

// put puts a version in force.
func (e *Engine) put(v *version) {
	if old := e.current.Swap(v); old != nil && old != v {
		now := time.Now() // with the monotonic clock
		old.superseded.Store(&now)
	}
}

// inForce returns the version that new scopes see; nil where there is none.
func (e *Engine) inForce() *version {
	if e == nil {
		return nil
	}
	return e.current.Load()
}

func load(cfg Config) (*version, error) {
	switch {
	case cfg.Shadow < 0:
		return nil, errors.New("Config.Shadow is negative")
	case cfg.Shadow > 0 && cfg.Differs == nil:
		return nil, errors.New("Config.Differs is nil: with Shadow somebody must be told")
	}
	if cfg.Model == "" {
		cfg.Model = DefaultModel
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l, rows, err := read(&cfg)
	if err != nil {
		return nil, err
	}
	compiled, err := policy.Compile(policy.Config{Model: cfg.Model, Rows: rows, AskedByRole: true})
	if err != nil {
		return nil, err
	}
	if err := checkRows(l, rows); err != nil {
		return nil, err
	}
	v := &version{model: cfg.Model, rows: rows, compiled: compiled, roles: make(map[string]bool), purposes: purposes(rows), paths: paths(rows), loaded: cfg.Now(), revision: cfg.Revision,
		shadow: uint64(cfg.Shadow), differs: cfg.Differs, casbin: compiled.Casbin}
	v.includes = includes(v.paths)
	if v.assigned, err = newAssigned(cfg); err != nil {
		return nil, err
	}
	for _, r := range rows {
		v.roles[r.Fields[1]] = true
		v.denies = v.denies || l.hasEffect && r.Fields[0] == "p" && r.Fields[len(r.Fields)-1] == "deny"
	}
	if v.shadow > 0 { // loads the rows into Casbin now, not for the first that asks
		if _, err := v.casbin("r:nobody", "nowhere", "nothing", "none", "TREAT"); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// read returns the rows of cfg, of which repeated ones count once, in
// policy.Compile, and adds those of users to its Assignments.
func read(cfg *Config) (language, []policy.Row, error) {
	m, err := policy.ReadModel(cfg.Model)
	if err != nil {
		return language{}, nil, fmt.Errorf("Config.Model: %w", err)
	}
	l, err := admit(m)
	if err != nil {
		return l, nil, fmt.Errorf("Config.Model: %w", err)
	}
	rows, err := ruleRows(l, cfg.Rules, cfg.Links)
	if err != nil {
		return l, nil, err
	}
	more, err := cfg.takeCSV()
	if err != nil {
		return l, nil, err
	}
	rows = append(rows, more...)
	if !l.allows(rows) {
		return l, nil, errors.New("the policy has no row that allows anything: give Config.Rules or Config.Policy, such as rbac.StarterRules()")
	}
	return l, rows, nil
}

// purposes returns those that rows name, or all where a row has a pattern.
func purposes(rows []policy.Row) []access.Purpose {
	var out []access.Purpose
	for _, r := range rows {
		if r.Fields[0] != "p" {
			continue
		}
		p := access.Purpose(r.Fields[5])
		if !p.Valid() {
			return access.Purposes()
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// errNoPolicy is what the zero Engine answers.
var errNoPolicy = errors.New("rbac: the engine has no policy: make it with rbac.New or rbac.Starter")

// Rule says what the policy says of action on records of resourceType for who
// and purpose, in the tenant of who. The policy is that of the scope of ctx.
// Roles of who that the scope's principal does not have are taken for given:
// a grant brings them.
func (e *Engine) Rule(ctx context.Context, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (access.Verdict, error) {
	scope, err := access.From(ctx)
	if err != nil || who.Validate() != nil || !purpose.Valid() {
		return access.Verdict{Code: access.DenyInvalid}, nil
	}
	v, err := e.pin(scope)
	if err != nil {
		return access.Verdict{Code: access.DenyInvalid}, err
	}
	v = v.as(scope.Principal(), who)
	ask := question{action, resourceType, purpose}
	out, err := v.decide(ask)
	if err != nil {
		return access.Verdict{Code: access.DenyInvalid}, err
	}
	if e.shadows(v.version) {
		out = v.compare(ctx, "", ask, out)
	}
	return out, nil
}

// shadows reports whether Casbin is asked too this time.
func (e *Engine) shadows(v *version) bool { return v.shadow > 0 && e.checks.Add(1)%v.shadow == 0 }

// Check decides a batch. The policy is asked once for each resource type,
// however long the batch is.
func (e *Engine) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return invalid(req), nil // the caller has access.From for the reason
	}
	v, err := e.pin(scope)
	if err != nil {
		return invalid(req), err
	}
	d := access.Decision{ID: decisionID(), Verdicts: make([]access.Verdict, len(req.Resources)), Revision: v.revision}
	shadow := e.shadows(v.version)
	var asked [8]int // the resources whose types were asked about, as many as fit
	types := 0
next:
	for i, r := range req.Resources {
		switch {
		case r.Tenant == "":
			d.Verdicts[i].Code = access.DenyInvalid
			continue
		case r.Tenant != v.tenant:
			d.Verdicts[i].Code = access.DenyTenant
			continue
		}
		for _, first := range asked[:types] {
			if req.Resources[first].Type == r.Type {
				d.Verdicts[i] = d.Verdicts[first]
				continue next
			}
		}
		ask := question{req.Action, r.Type, scope.Purpose()}
		if d.Verdicts[i], err = v.decide(ask); err != nil {
			return invalid(req), err
		}
		if shadow {
			d.Verdicts[i] = v.compare(ctx, d.ID, ask, d.Verdicts[i])
		}
		if (v.kind == access.Patient || v.kind == access.Proxy) && d.Verdicts[i].Code != access.DenyInvalid {
			d.Verdicts[i] = access.Verdict{Code: access.DenySubject} // only a relation could tell whose record is theirs: package pdp
		}
		if d.Verdicts[i].Allow && scope.Purpose() == access.BreakGlass {
			d.Verdicts[i] = access.Verdict{Code: access.DenyGrant} // package pdp knows who broke the glass
		}
		if types < len(asked) {
			asked[types] = i
			types++
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

// Deviations says what the engine does not do that the SDK's design asks for.
// storage records them at Open. The review is due a year after the policy was
// loaded: no regulation sets that number (164.308(a)(8) says periodic).
func (e *Engine) Deviations() []access.Deviation {
	v := e.inForce()
	if v == nil {
		return nil
	}
	return []access.Deviation{{
		Citation:    "164.308(a)(4)",
		Reason:      "tenant-wide access, no care-team relation: a rule reaches every patient of the tenant",
		Alternative: "role, tenant and purpose of use are checked, and every access is recorded",
		Owner:       "security official (45 CFR 164.308(a)(2))",
		ReviewBy:    v.loaded.AddDate(1, 0, 0),
	}}
}

// decisionID returns 128 random bits in hex.
func decisionID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}
