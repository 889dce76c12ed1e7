// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/part164/part164/access"
)

// pinKey is the key of a scope's policy in [access.Scope.Pin].
type pinKey struct{}

// A pin holds what is fixed for one scope: the policy, and the views that the
// scope's roles have in it for its purpose.
type pin struct {
	policy atomic.Pointer[Policy]
	views  func() *views
}

// views are what one scope sees.
type views struct {
	of   [len(classes)]View // by index of class
	year int                // when that was asked first
}

// Pin fixes the policy of a scope at its first use, so that one request sees
// one version of the table, and returns the fixed one. A nil p fixes nothing.
func Pin(s *access.Scope, p *Policy) *Policy {
	at := pinOf(s)
	if p != nil {
		at.policy.CompareAndSwap(nil, p)
	}
	return at.policy.Load()
}

// PolicyOf returns the policy that is fixed for the scope in ctx. It reports
// false where there is no scope that may act, or nothing was pinned.
func PolicyOf(ctx context.Context) (*Policy, bool) {
	s, err := access.From(ctx)
	if err != nil {
		return nil, false
	}
	p := pinOf(s).policy.Load()
	return p, p != nil
}

// viewsOf returns the views of the scope in ctx with its policy. live is false
// where there is no scope that may act; p is nil where nothing was pinned.
func viewsOf(ctx context.Context) (vs *views, p *Policy, live bool) {
	s, err := access.From(ctx)
	if err != nil {
		return new(views), nil, false
	}
	at := pinOf(s)
	if p = at.policy.Load(); p == nil {
		return new(views), nil, true
	}
	return at.views(), p, true
}

func pinOf(s *access.Scope) *pin {
	return s.Pin(pinKey{}, func() any {
		at := new(pin)
		at.views = sync.OnceValue(func() *views {
			vs := &views{year: time.Now().UTC().Year()}
			rows := at.policy.Load().rows(s.Roles(), s.Purpose())
			for i := range vs.of {
				vs.of[i] = unite(rows, i).view
			}
			return vs
		})
		return at
	}).(*pin)
}
