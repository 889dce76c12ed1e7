// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Errors of [From]. Each means that nothing may be seen or done.
var (
	ErrNoPrincipal = errors.New("access: no principal in the context: sign in, or call access.With")
	ErrNoPurpose   = errors.New("access: no purpose of use in the context: map the route with httpaccess.Require, or call access.ForPurpose")
	ErrPurpose     = errors.New("access: the principal may not act for this purpose: see Principal.Purposes")
	ErrScopeEnded  = errors.New("access: the scope has ended: call access.With or access.ForPurpose for the next request")
)

// A Scope is one principal acting for one purpose, for the length of one
// request or job. It is made by [With], [ForPurpose] or [Job] and compared by
// pointer: what was revealed under one scope is closed to every other.
//
// A Scope is safe for concurrent use. It ends when the context that it was
// made from is done, when the scope that [ForPurpose] took its principal from
// ends, or at End.
type Scope struct {
	principal Principal
	purpose   Purpose
	err       error
	parent    *Scope // of ForPurpose; nil otherwise
	done      <-chan struct{}
	ended     atomic.Bool
	active    atomic.Pointer[[]string] // of Activate

	mu   sync.Mutex
	pins map[any]any
}

type scopeKey struct{}

// With returns a context in which p acts for purpose, in a new scope. An
// empty purpose leaves it to the route ([ForPurpose]); until then everything
// is denied with [ErrNoPurpose]. A bad principal or an unknown purpose gives a
// context in which everything is denied with that reason.
func With(ctx context.Context, p Principal, purpose Purpose) context.Context {
	p.Roles, p.Purposes = append([]string(nil), p.Roles...), append([]Purpose(nil), p.Purposes...)
	s := &Scope{principal: p, purpose: purpose, done: ctx.Done(), err: p.Validate()}
	if s.err == nil {
		s.err = checkPurpose(purpose)
	}
	if s.err == nil && !p.MayActFor(purpose) {
		s.err = ErrPurpose
	}
	return context.WithValue(ctx, scopeKey{}, s)
}

// ForPurpose returns a context in which the principal of ctx acts for purpose,
// in a new scope that ends with the old one at the latest. Without a good
// principal in ctx everything stays denied.
func ForPurpose(ctx context.Context, purpose Purpose) context.Context {
	old, ok := ctx.Value(scopeKey{}).(*Scope)
	if !ok || old.Ended() || errors.Is(old.err, ErrPrincipal) {
		return ctx
	}
	ctx = With(ctx, old.principal, purpose)
	ctx.Value(scopeKey{}).(*Scope).parent = old
	return ctx
}

// Job returns a context in which the service p acts for purpose, and the
// function that ends its scope; call it when the job is done. A principal of
// another kind gives a context in which everything is denied.
func Job(ctx context.Context, p Principal, purpose Purpose) (context.Context, func()) {
	ctx = With(ctx, p, purpose)
	s := ctx.Value(scopeKey{}).(*Scope)
	if s.err == nil && p.Kind != Service {
		s.err = fmt.Errorf("access: %w: Kind of a job's principal is not service", ErrPrincipal)
	}
	return ctx, s.End
}

// From returns the scope in ctx, or why there is none that may act:
// [ErrNoPrincipal], [ErrNoPurpose], [ErrPurpose], [ErrScopeEnded], or what is wrong with
// the principal or purpose. A nil ctx has no principal.
func From(ctx context.Context) (*Scope, error) {
	if ctx == nil {
		return nil, ErrNoPrincipal
	}
	s, ok := ctx.Value(scopeKey{}).(*Scope)
	switch {
	case !ok:
		return nil, ErrNoPrincipal
	case s.err != nil:
		return nil, s.err
	case s.Ended():
		return nil, ErrScopeEnded
	}
	return s, nil
}

// PrincipalFrom returns the valid principal in ctx, with or without a purpose.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	if ctx == nil {
		return Principal{}, false
	}
	s, ok := ctx.Value(scopeKey{}).(*Scope)
	if !ok || s.Ended() || errors.Is(s.err, ErrPrincipal) {
		return Principal{}, false
	}
	return s.Principal(), true
}

// Principal returns who acts. Its Roles and Purposes are the caller's to keep.
func (s *Scope) Principal() Principal {
	p := s.principal
	p.Roles, p.Purposes = append([]string(nil), p.Roles...), append([]Purpose(nil), p.Purposes...)
	return p
}

// Roles returns the roles in which the principal acts, the caller's to keep:
// those of [Scope.Activate], and until then Principal.Roles. The minimum
// necessary is measured by them.
func (s *Scope) Roles() []string {
	if roles := s.active.Load(); roles != nil {
		return slices.Clone(*roles)
	}
	return slices.Clone(s.principal.Roles)
}

// Activate says in which roles the principal acts, where a policy and not the
// session says it: the active roles of INCITS 359. An [Authorizer] calls it at
// the first question of a scope; only the first call counts, so that one scope
// sees one version of a policy.
func (s *Scope) Activate(roles []string) {
	roles = slices.Clone(roles)
	s.active.CompareAndSwap(nil, &roles)
}

// Purpose returns what for.
func (s *Scope) Purpose() Purpose { return s.purpose }

// End ends the scope: nothing revealed under it can be read any more. It may
// be called more than once.
func (s *Scope) End() { s.ended.Store(true) }

// Ended reports whether the scope has ended.
func (s *Scope) Ended() bool {
	if s.ended.Load() {
		return true
	}
	if s.parent != nil && s.parent.Ended() {
		return true
	}
	select {
	case <-s.done:
		s.ended.Store(true)
		return true
	default:
		return false
	}
}

// Pin returns the value kept in the scope under key, making it with load at
// the first call. Engines use it so that one scope sees one version of a
// policy. key must be comparable; load must not call Pin.
func (s *Scope) Pin(key any, load func() any) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.pins[key]; ok {
		return v
	}
	if s.pins == nil {
		s.pins = make(map[any]any)
	}
	v := load()
	s.pins[key] = v
	return v
}

func checkPurpose(p Purpose) error {
	switch {
	case p == "":
		return ErrNoPurpose
	case !p.Valid():
		return errors.New("access: unknown purpose of use: take one of the constants in package access")
	}
	return nil
}
