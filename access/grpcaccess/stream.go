// SPDX-License-Identifier: Apache-2.0

package grpcaccess

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/part164/part164/access"
)

// A stream checks its caller before each message. Once refused it stays so,
// whatever the handler makes of the error.
type stream struct {
	grpc.ServerStream
	call *call

	mu      sync.Mutex // one goroutine sends while another receives
	checked time.Time
	ended   atomic.Pointer[error]
}

// Context returns the context of the call, with its scope.
func (s *stream) Context() context.Context { return s.call.ctx }

// SendMsg sends m to a caller who may have it still.
func (s *stream) SendMsg(m any) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg receives from a caller who may send it still: who calls is looked at when
// the message is there, because it may have been long in coming.
func (s *stream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.check()
}

// check authenticates and decides anew.
func (s *stream) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ended.Load(); err != nil {
		return *err
	}
	g, c := s.call.guard, s.call
	now := g.cfg.Now()
	age := now.Sub(s.checked) // below zero where the clock was set back
	if c.rule.Public || age >= 0 && age < g.cfg.Recheck {
		return nil
	}
	err := s.again()
	if err != nil {
		s.ended.Store(&err)
		c.leave()
		return err
	}
	s.checked = now
	return nil
}

func (s *stream) again() error {
	g, c := s.call.guard, s.call
	scope, err := access.From(c.ctx)
	if err != nil {
		return g.refuse(c.ctx, c.method, &refusal{rule: c.rule, code: access.DenyInvalid, err: err})
	}
	// What the caller may do now, in a scope that is for this check only: that of
	// the handler goes on seeing the policy with which it began.
	ctx := access.ForPurpose(s.ServerStream.Context(), scope.Purpose())
	if g.cfg.Authenticate != nil {
		who, err := g.cfg.Authenticate(s.ServerStream.Context())
		if err == nil && (who.ID != c.who.ID || who.Tenant != c.who.Tenant) {
			err = errors.New("it is somebody else now")
		}
		if err != nil {
			return g.unauthenticated(err)
		}
		ctx = access.With(c.ctx, who, scope.Purpose())
	}
	defer end(ctx)
	if no := g.ask(ctx, c.rule); no != nil {
		return g.refuse(ctx, c.method, no)
	}
	return nil
}
