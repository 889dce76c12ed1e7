// SPDX-License-Identifier: Apache-2.0

package review

import (
	"context"
	"errors"
	"fmt"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// Dispose records what came of an alert ([audit.Alerted]), by its event ID: one
// of ReasonExplained, ReasonFalseAlarm, ReasonEscalated and ReasonViolation.
// The authorizer is asked for [access.Review] of "audit". Nobody disposes of an
// alert about themselves: the error wraps [ErrOwnReview]. It wraps [ErrNoAlert]
// where there is none of that ID. An alert may be disposed of again; the newest
// stands.
func Dispose(ctx context.Context, r *report.Reporter, alert string, reason audit.Reason) error {
	if err := dispose(ctx, r, alert, reason); err != nil {
		return fmt.Errorf("review: dispose of alert: %w", err)
	}
	return nil
}

func dispose(ctx context.Context, r *report.Reporter, alert string, reason audit.Reason) error {
	switch reason {
	case audit.ReasonExplained, audit.ReasonFalseAlarm, audit.ReasonEscalated, audit.ReasonViolation:
	default:
		return errors.New("the reason is not explained, false, escalated or violation")
	}
	trail, err := r.Open(ctx, report.Reading{Citation: citation, Action: access.Review})
	if err != nil {
		return err
	}
	for ev, err := range trail.Events(ctx, audit.Query{Types: []audit.Type{audit.Alerted}}) {
		if err != nil {
			return err
		}
		if ev.ID != alert {
			continue
		}
		if ev.User == trail.Reader().ID {
			return ErrOwnReview
		}
		return trail.Record(ctx, audit.Event{Type: audit.Disposed, Outcome: audit.Success, Reason: reason, About: alert, Rule: ev.Rule, User: ev.User, UserKind: ev.UserKind})
	}
	return ErrNoAlert
}
