// SPDX-License-Identifier: Apache-2.0

package grpcaccess

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A refusal is a call that was denied.
type refusal struct {
	rule     Rule
	code     access.Code
	decision string
	err      error // why the authorizer could not decide
}

// Refuse returns the status that the guard itself refuses with, for a handler to
// return. Call it where storage denied (err is then its [*access.DeniedError],
// which it has recorded) and where the record does not exist (any other err, nil
// included, which Refuse records): the caller cannot tell which it was. An err that
// wraps [audit.ErrUnavailable] or [audit.ErrClosed] gives Unavailable, as where
// Refuse cannot record.
func (g *Guard) Refuse(ctx context.Context, err error) error {
	if errors.Is(err, audit.ErrUnavailable) || errors.Is(err, audit.ErrClosed) {
		return g.unavailable(err)
	}
	r, _ := ctx.Value(ruleKey{}).(Rule)
	var denied *access.DeniedError
	if errors.As(err, &denied) && access.CheckDecisionID(denied.Decision) == nil {
		g.cfg.Log.Info("grpcaccess: refused", zap.String("code", string(denied.Code)), zap.String("decision", denied.Decision))
		return g.denied(ctx, r, denied.Decision)
	}
	if err != nil {
		err = fmt.Errorf("the handler's %T", err) // whose text may quote what it was given
	}
	return g.refuse(ctx, "", &refusal{rule: r, err: err})
}

// refuse records a refusal and returns its status.
func (g *Guard) refuse(ctx context.Context, method string, no *refusal) error {
	if access.CheckDecisionID(no.decision) != nil {
		no.decision = newID()
	}
	_, mapped := g.cfg.Methods[method]
	if !mapped {
		method = "" // it is the caller's text
	}
	g.cfg.Log.Info("grpcaccess: refused", zap.String("method", method), zap.String("code", string(no.code)),
		zap.String("decision", no.decision), zap.Error(no.err))
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Decision: no.decision, Action: no.rule.Action}
	if no.code.Known() {
		ev.Code = no.code
	}
	if no.rule.Resource != "" {
		ev.Objects = []audit.Object{{Type: no.rule.Resource}}
	}
	if _, err := g.cfg.Audit.Record(ctx, ev); err != nil {
		return g.unavailable(err)
	}
	return g.denied(ctx, no.rule, no.decision)
}

// denied is the one status of every refusal, but for its decision ID and what the
// caller may try, which depends on the method's rule only.
func (g *Guard) denied(ctx context.Context, r Rule, decision string) error {
	info := &errdetails.ErrorInfo{Reason: "DENIED", Domain: "part164", Metadata: map[string]string{"decision": decision}}
	if o, ok := g.cfg.Authorizer.(access.Offerer); ok && r.Resource != "" {
		if offer := o.Offer(ctx, r.Action, r.Resource); offer != access.OfferNone {
			info.Metadata["offer"] = string(offer)
		}
	}
	return with(codes.PermissionDenied, "denied", info)
}

// unauthenticated is for callers whom nobody vouches for, and for those about whom
// nobody can tell.
func (g *Guard) unauthenticated(err error) error {
	if errors.Is(err, audit.ErrUnavailable) || errors.Is(err, audit.ErrClosed) {
		return g.unavailable(err)
	}
	return with(codes.Unauthenticated, "sign in first", &errdetails.ErrorInfo{Reason: "SIGNIN", Domain: "part164"})
}

func (g *Guard) unavailable(err error) error {
	g.cfg.Log.Error("grpcaccess: a refusal was not recorded", zap.Error(err))
	return with(codes.Unavailable, "this cannot be done at the moment", &errdetails.ErrorInfo{Reason: "UNAVAILABLE", Domain: "part164"})
}

// after makes what a handler ends with fit for the caller: a status is its own
// word, and everything else may quote PHI.
func (g *Guard) after(c *call, method string, panicked, resp any, err error) (any, error) {
	if c == nil && panicked == nil {
		return resp, err // the guard's own
	}
	if _, mapped := g.cfg.Methods[method]; !mapped {
		method = ""
	}
	var denied *access.DeniedError
	switch _, isStatus := status.FromError(err); {
	case panicked != nil:
		g.cfg.Log.Error("grpcaccess: a handler panicked", zap.String("method", method), zap.String("type", fmt.Sprintf("%T", panicked)), zap.Stack("stack"))
		return nil, internal()
	case err == nil:
		return resp, nil
	case errors.As(err, &denied), errors.Is(err, audit.ErrUnavailable), errors.Is(err, audit.ErrClosed):
		return nil, g.Refuse(c.ctx, err)
	case isStatus && isOwn(err):
		return nil, err
	case errors.Is(err, context.Canceled):
		return nil, status.Error(codes.Canceled, "canceled")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, status.Error(codes.DeadlineExceeded, "deadline exceeded")
	}
	g.cfg.Log.Error("grpcaccess: a handler failed", zap.String("method", method), zap.String("type", fmt.Sprintf("%T", err)))
	return nil, internal()
}

// isOwn reports whether err is a status itself: of one that is wrapped, FromError
// takes the whole text.
func isOwn(err error) bool {
	_, ok := err.(interface{ GRPCStatus() *status.Status })
	return ok
}

func internal() error { return status.Error(codes.Internal, "internal error") }

func with(code codes.Code, text string, info *errdetails.ErrorInfo) error {
	s := status.New(code, text)
	if d, err := s.WithDetails(info); err == nil {
		s = d
	}
	return s.Err()
}

// newID names a call, or a refusal that no authorizer decided.
func newID() string {
	for {
		var b [16]byte
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); access.CheckID(id) == nil {
			return id
		}
	}
}
