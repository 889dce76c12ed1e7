// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"context"
	"sync/atomic"

	"github.com/part164/part164/access"
)

// pinKey is the key of a scope's policy in [access.Scope.Pin].
type pinKey struct{}

// Pin fixes the policy of a scope at its first use, so that one request sees
// one version of the table, and returns the fixed one. A nil p fixes nothing.
func Pin(s *access.Scope, p *Policy) *Policy {
	slot := pinned(s)
	if p != nil {
		slot.CompareAndSwap(nil, p)
	}
	return slot.Load()
}

// PolicyOf returns the policy that is fixed for the scope in ctx. It reports
// false where there is no scope that may act, or nothing was pinned.
func PolicyOf(ctx context.Context) (*Policy, bool) {
	s, err := access.From(ctx)
	if err != nil {
		return nil, false
	}
	p := pinned(s).Load()
	return p, p != nil
}

func pinned(s *access.Scope) *atomic.Pointer[Policy] {
	return s.Pin(pinKey{}, func() any { return new(atomic.Pointer[Policy]) }).(*atomic.Pointer[Policy])
}
