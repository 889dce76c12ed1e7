// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// An Alert is what Config.Alert tells people.
type Alert struct {
	Grant   Grant // with its steps
	Overdue bool  // its review is; else the glass was broken
}

const (
	owedAgain  = time.Minute // after which a step that nobody recorded is recorded by somebody else, and a failed alert is tried again
	sweepEvery = 5 * time.Second
	sweepLimit = 100
	alertWait  = 30 * time.Second // for one call of Config.Alert
)

// Run records what other processes left behind, ends grants whose time is over,
// and delivers alerts, every few seconds until ctx is done, whose error it
// returns. Any number of nodes may run it.
func (d *Desk) Run(ctx context.Context) error {
	go func() {
		for tick := time.NewTicker(sweepEvery); ; {
			if _, err := d.alerts(ctx); err != nil && ctx.Err() == nil {
				d.cfg.Log.Error("grant: alert", zap.Error(err))
			}
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-d.wake:
			case <-tick.C:
			}
		}
	}()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if _, err := d.settleAll(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("grant: sweep", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Sweep does once what [Desk.Run] does, and returns how many steps and alerts
// it was about.
func (d *Desk) Sweep(ctx context.Context) (int, error) {
	n, err := d.settleAll(ctx)
	a, aerr := d.alerts(ctx)
	return n + a, errors.Join(err, aerr)
}

// settleAll ends what is over, and records what is owed.
func (d *Desk) settleAll(ctx context.Context) (n int, err error) {
	var errs []error
	now := d.now()
	owed, err := d.cfg.Store.Owed(ctx, now.Add(-owedAgain), now, sweepLimit)
	if err != nil {
		errs = append(errs, err)
	}
	for i := range owed {
		n++
		if err := d.settle(ctx, &owed[i]); err != nil {
			errs = append(errs, err)
		}
	}
	over, err := d.cfg.Store.Over(ctx, now, sweepLimit)
	if err != nil {
		errs = append(errs, err)
	}
	for i := range over {
		n++
		if _, err := d.change(ctx, over[i].Tenant, over[i].ID, func(g *Grant) (*Step, func(context.Context) error, error) { return end(g, d.now()), nil, nil }); err != nil {
			errs = append(errs, err)
		}
	}
	return n, errors.Join(errs...)
}

// end makes the step by which a grant's time, or its uses, are over; nil where
// they are not. Once it is stored, no clock that is set back revives the grant.
func end(g *Grant, now time.Time) *Step {
	s := g.At(now)
	if s == g.State || s != Expired && s != UsedUp {
		return nil
	}
	reason := audit.ReasonExpired
	if s == UsedUp {
		reason = audit.ReasonLimit
	}
	g.State, g.Ended = s, now
	return &Step{Act: ActEnd, By: access.Principal{}, At: now, Reason: reason, Owed: now}
}

// alerts delivers the alerts that are due. One that fails is due again after a
// while.
func (d *Desk) alerts(ctx context.Context) (n int, err error) {
	if d.cfg.Alert == nil {
		return 0, nil
	}
	now := d.now()
	again := now.Add(owedAgain)
	due, err := d.cfg.Store.Alerts(ctx, now, again, sweepLimit)
	errs := []error{err}
	for i := range due {
		g := &due[i]
		n++
		actx, cancel := context.WithTimeout(ctx, alertWait)
		err := d.cfg.Alert(actx, Alert{Grant: *g, Overdue: g.Overdue(now)})
		cancel()
		if err == nil {
			next := now.Add(d.cfg.Remind)
			if now.Before(g.ReviewBy) {
				next = g.ReviewBy
			}
			err = d.cfg.Store.Alerted(ctx, g.Tenant, g.ID, again, next)
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}
