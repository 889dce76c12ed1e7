// SPDX-License-Identifier: Apache-2.0

package grpcaccess

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Rule is what a method needs. The zero Rule denies.
type Rule struct {
	Action   access.Action
	Resource string           // the type
	Purposes []access.Purpose // of these the first that the caller is allowed

	// Public serves everybody, signed in or not: health checks. Never PHI. The
	// other fields are then empty.
	Public bool
}

// Config configures a [Guard]. Authorizer and Audit are required.
type Config struct {
	Authorizer access.Authorizer // decides
	Audit      audit.Recorder    // records refusals before they are answered
	Methods    map[string]Rule   // by full name, such as "/clinic.v1.Charts/Get"

	// Authenticate returns who calls; [ErrNobody], or any error, means that
	// nobody does. Nil takes the principal that an earlier interceptor has put
	// into the context with access.With, and a stream is then not
	// authenticated anew.
	Authenticate func(ctx context.Context) (access.Principal, error)

	// Recheck is the least time between two checks of one stream. 0 checks before
	// every message.
	Recheck time.Duration

	Log *zap.Logger      // gets the reasons of refusals, never a message; nil is silent
	Now func() time.Time // nil means time.Now
}

// ErrNobody means that a call has no credentials.
var ErrNobody = errors.New("grpcaccess: nobody is signed in")

// A Guard stands before handlers. It is safe for concurrent use.
type Guard struct{ cfg Config }

// New returns a Guard, or an error naming the first bad field of cfg.
func New(cfg Config) (*Guard, error) {
	switch {
	case cfg.Authorizer == nil:
		return nil, errors.New("grpcaccess: Config.Authorizer is nil: take rbac.Starter() to begin with")
	case cfg.Audit == nil:
		return nil, errors.New("grpcaccess: Config.Audit is nil: give the journal of audit.Open")
	case cfg.Recheck < 0:
		return nil, errors.New("grpcaccess: Config.Recheck is negative")
	}
	cfg.Methods = maps.Clone(cfg.Methods)
	for name, r := range cfg.Methods {
		if !isMethod(name) {
			return nil, fmt.Errorf("grpcaccess: Config.Methods[%q]: the name is not of the form /package.Service/Method", name)
		}
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("grpcaccess: Config.Methods[%q].%w", name, err)
		}
		r.Purposes = slices.Clone(r.Purposes)
		cfg.Methods[name] = r
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Guard{cfg}, nil
}

// isMethod reports whether name is a full method name of gRPC.
func isMethod(name string) bool {
	rest, ok := strings.CutPrefix(name, "/")
	service, method, two := strings.Cut(rest, "/")
	return ok && two && service != "" && method != "" && !strings.Contains(method, "/")
}

func (r *Rule) validate() error {
	if r.Public {
		if r.Action != "" || r.Resource != "" || len(r.Purposes) > 0 {
			return errors.New("Public is set beside a rule")
		}
		return nil
	}
	if err := access.CheckName(string(r.Action)); err != nil {
		return fmt.Errorf("Action %w", err)
	}
	if err := access.CheckName(r.Resource); err != nil {
		return fmt.Errorf("Resource %w", err)
	}
	if len(r.Purposes) == 0 {
		return errors.New("Purposes is empty: say what the method is for")
	}
	for i, p := range r.Purposes {
		if !p.Valid() {
			return fmt.Errorf("Purposes[%d] is not a purpose of use", i)
		}
	}
	return nil
}

// Unary returns the interceptor of unary methods.
func (g *Guard) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		var c *call
		defer func() { c.leave() }()
		defer func() { resp, err = g.after(c, info.FullMethod, recover(), resp, err) }()
		if c, err = g.enter(ctx, info.FullMethod); err != nil {
			return nil, err
		}
		return handler(c.ctx, req)
	}
}

// Stream returns the interceptor of streaming methods.
func (g *Guard) Stream() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		var c *call
		defer func() { c.leave() }()
		defer func() { _, err = g.after(c, info.FullMethod, recover(), nil, err) }()
		if c, err = g.enter(ss.Context(), info.FullMethod); err != nil {
			return err
		}
		s := &stream{ServerStream: ss, call: c, checked: g.cfg.Now()}
		if err = handler(srv, s); s.ended.Load() != nil {
			return *s.ended.Load()
		}
		return err
	}
}

// A call is one that may go on.
type call struct {
	guard  *Guard
	ctx    context.Context // of the handler
	rule   Rule
	method string
	who    access.Principal
}

type ruleKey struct{}

// enter returns the call of a method, or the status that refuses it.
func (g *Guard) enter(ctx context.Context, method string) (*call, error) {
	ctx = access.WithRequestID(ctx, newID())
	r, mapped := g.cfg.Methods[method]
	if mapped && r.Public {
		return &call{guard: g, ctx: ctx, rule: r, method: method}, nil
	}
	who, err := g.authenticate(ctx)
	if err != nil {
		g.cfg.Log.Info("grpcaccess: nobody", zap.Error(err))
		return nil, g.unauthenticated(err)
	}
	if g.cfg.Authenticate != nil {
		ctx = access.With(ctx, who, "")
	}
	if !mapped {
		return nil, g.refuse(ctx, method, &refusal{code: access.DenyNoRule})
	}
	scoped, no := g.decide(ctx, r)
	if no != nil {
		defer end(scoped)
		return nil, g.refuse(scoped, method, no)
	}
	return &call{g, context.WithValue(scoped, ruleKey{}, r), r, method, who}, nil
}

// authenticate returns who calls.
func (g *Guard) authenticate(ctx context.Context) (access.Principal, error) {
	already, ok := access.PrincipalFrom(ctx)
	switch {
	case g.cfg.Authenticate == nil && ok:
		return already, nil
	case g.cfg.Authenticate == nil:
		return access.Principal{}, ErrNobody
	case ok:
		return access.Principal{}, errors.New("somebody is signed in beside the credentials of the call")
	}
	p, err := g.cfg.Authenticate(ctx)
	if err == nil {
		err = p.Validate()
	}
	return p, err
}

// decide returns the context of the first purpose that is allowed, or why none is
// and the context to record that with, whose scope the caller ends.
func (g *Guard) decide(ctx context.Context, r Rule) (context.Context, *refusal) {
	var first *refusal
	firstCtx := ctx
	for _, p := range r.Purposes {
		scoped := access.ForPurpose(ctx, p)
		no := g.ask(scoped, r)
		if no == nil {
			return scoped, nil
		}
		failed := no.err != nil && !errors.Is(no.err, access.ErrPurpose)
		if first == nil || failed {
			first, firstCtx = no, scoped
		} else {
			end(scoped)
		}
		if failed {
			break // another purpose is no way round a failure
		}
	}
	if first == nil {
		first = &refusal{rule: r, code: access.DenyInvalid}
	}
	return firstCtx, first
}

// ask puts the resource type as a whole to the authorizer.
func (g *Guard) ask(ctx context.Context, r Rule) *refusal {
	s, err := access.From(ctx)
	switch {
	case errors.Is(err, access.ErrPurpose):
		return &refusal{rule: r, code: access.DenyPurpose, err: err}
	case err != nil:
		return &refusal{rule: r, code: access.DenyInvalid, err: err}
	}
	d, err := g.cfg.Authorizer.Check(ctx, access.Request{
		Action:    r.Action,
		Resources: []access.Resource{{Type: r.Resource, Tenant: s.Principal().Tenant}},
	})
	switch {
	case err != nil:
		return &refusal{rule: r, code: access.DenyInvalid, decision: d.ID, err: err}
	case d.AllowAll(1):
		return nil
	case len(d.Verdicts) == 0:
		return &refusal{rule: r, code: access.DenyInvalid, decision: d.ID}
	}
	return &refusal{rule: r, code: d.Verdicts[0].Code, decision: d.ID}
}

// leave ends the scope of the handler: nothing revealed outlives it.
func (c *call) leave() {
	if c != nil && !c.rule.Public {
		end(c.ctx)
	}
}

func end(ctx context.Context) {
	if s, err := access.From(ctx); err == nil {
		s.End()
	}
}
