// SPDX-License-Identifier: Apache-2.0

package accesstest

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/internal/fault"
)

// A Rule allows one role one action on one resource type for one purpose.
// "*" in a field stands for any; an empty field for none.
type Rule struct {
	Role    string
	Action  access.Action
	Type    string
	Purpose access.Purpose
}

// A Fake is an [access.Authorizer] that decides by a list and fails as told.
// Beside an error it still returns what it decided, so that a caller who
// overlooks the error is found out. The zero Fake denies everything. Set Rules
// before the first call; its methods are safe for concurrent use.
type Fake struct {
	Rules []Rule // what is allowed, in the principal's own tenant

	faults fault.Faults
	mu     sync.Mutex
	calls  []access.Request
}

// Fail makes every later call fail with err, until Fail(nil).
func (f *Fake) Fail(err error) { f.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (f *Fake) FailAfter(n int, err error) { f.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (f *Fake) Delay(d time.Duration) { f.faults.Delay(d) }

// Allow returns a Fake that allows every valid request in the principal's own
// tenant.
func Allow() *Fake {
	return &Fake{Rules: []Rule{{Role: "*", Action: "*", Type: "*", Purpose: "*"}}}
}

// Deny returns a Fake that denies everything.
func Deny() *Fake { return &Fake{} }

// Calls returns the requests so far, in order. A Filter is one with a single
// resource that has a type only.
func (f *Fake) Calls() []access.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Check decides a batch.
func (f *Fake) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	id, err := f.call(ctx, req)
	return f.decide(ctx, req, id), err
}

// Filter returns the principal's own tenant or an [access.DeniedError].
func (f *Fake) Filter(ctx context.Context, action access.Action, resourceType string) (access.Filter, error) {
	tenant := ""
	if s, err := access.From(ctx); err == nil {
		tenant = s.Principal().Tenant
	}
	id, fail := f.call(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: resourceType}}})
	d := f.decide(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: resourceType, Tenant: tenant}}}, id)
	if d.AllowAll(1) {
		return access.Filter{Tenant: tenant, AllSubjects: true}, fail
	}
	if fail != nil {
		return access.Filter{}, fail
	}
	return access.Filter{}, &access.DeniedError{Action: action, Resource: resourceType, Code: d.Verdicts[0].Code, Decision: id}
}

// call notes the call, waits and fails as told. Decision IDs are the same in
// every run.
func (f *Fake) call(ctx context.Context, req access.Request) (id string, err error) {
	req.Resources = slices.Clone(req.Resources)
	f.mu.Lock()
	f.calls = append(f.calls, req)
	n := len(f.calls)
	f.mu.Unlock()

	h := fnv.New128a()
	fmt.Fprintf(h, "decision %d", n)
	id = hex.EncodeToString(h.Sum(nil))
	return id, f.faults.Call(ctx)
}

func (f *Fake) decide(ctx context.Context, req access.Request, id string) access.Decision {
	d := access.Decision{ID: id, Verdicts: make([]access.Verdict, len(req.Resources))}
	s, err := access.From(ctx)
	for i, r := range req.Resources {
		v := &d.Verdicts[i]
		switch {
		case err != nil || access.CheckName(string(req.Action)) != nil || access.CheckName(r.Type) != nil || r.Tenant == "":
			v.Code = access.DenyInvalid
		case r.Tenant != s.Principal().Tenant:
			v.Code = access.DenyTenant
		default:
			*v = f.rule(s, req.Action, r.Type)
		}
	}
	return d
}

func (f *Fake) rule(s *access.Scope, action access.Action, typ string) access.Verdict {
	v := access.Verdict{Code: access.DenyNoRule}
	for _, r := range f.Rules {
		for _, role := range s.Principal().Roles {
			if !match(r.Role, role) || !match(r.Action, action) || !match(r.Type, typ) {
				continue
			}
			if match(r.Purpose, s.Purpose()) {
				return access.Verdict{Allow: true, Code: access.AllowRule, Rule: fmt.Sprint(r), Path: []string{role}}
			}
			v.Code = access.DenyPurpose
		}
	}
	return v
}

func match[S ~string](pattern, s S) bool { return pattern == "*" || pattern != "" && pattern == s }
