// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A RefusedError says why nothing was sent. Its text holds nothing of the request
// but the ID of a registered recipient. It is [access.ErrDenied].
type RefusedError struct {
	Recipient string // ID; empty where none that is registered was named
	Code      access.Code
	Decision  string // the ID of the refusal in the trail
	cause     error
}

func (e *RefusedError) Error() string {
	to := ""
	if e.Recipient != "" {
		to = " to recipient " + e.Recipient
	}
	return fmt.Sprintf("egress: send%s: refused: %v (%s, decision %s)", to, e.cause, e.Code, e.Decision)
}

// Is makes errors.Is(err, access.ErrDenied) true for every RefusedError.
func (e *RefusedError) Is(target error) bool { return target == access.ErrDenied }

// Unwrap returns the cause, such as [access.ErrNoPurpose] or
// [audit.ErrUnavailable] where the refusal could not be recorded.
func (e *RefusedError) Unwrap() error { return e.cause }

// refuse records a refusal, also where nobody is in the context, and returns its
// error.
func (t *Transport) refuse(ctx context.Context, p *passage, no *refused, decision string) error {
	e := &RefusedError{Code: no.code, Decision: decision, cause: no.cause}
	if access.CheckDecisionID(decision) != nil {
		e.Decision = newID()
	}
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Disclose, Decision: e.Decision}
	if no.code.Known() {
		ev.Code = no.code
	}
	if p != nil {
		e.Recipient = p.entry.ID
		if _, _, ok := access.Who(ctx); ok {
			ev.Objects = p.said.Objects
		}
	}
	if bad := ev.Validate(); bad != nil { // what was said of the objects cannot be recorded: the refusal still is
		ev.Objects = nil
	}
	t.cfg.Log.Info("egress: refused", zap.String("recipient", e.Recipient), zap.String("code", string(e.Code)),
		zap.String("decision", e.Decision), zap.Error(no.cause))
	if _, err := t.cfg.Audit.Record(ctx, ev); err != nil {
		e.cause = errors.Join(e.cause, fmt.Errorf("and the refusal was not recorded: %w", err))
	}
	return e
}

// unquoted returns an error of an exchange, without what the other side wrote: a
// parser's error quotes it.
func unquoted(err error) error {
	var network net.Error
	var alert tls.AlertError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.As(err, &network):
		return network
	case errors.As(err, &alert):
		return alert
	}
	return fmt.Errorf("the exchange failed (%T)", err)
}

// newID names a refusal that no authorizer decided.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
