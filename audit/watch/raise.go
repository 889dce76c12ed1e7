// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// raise explains or records each alert, first those of earlier calls that
// could not be recorded.
func (w *Watcher) raise(ctx context.Context, found []Alert) ([]Alert, error) {
	w.mu.Lock()
	found = append(w.late, found...)
	w.late = nil
	w.mu.Unlock()
	var errs []error
	out := found[:0]
	for _, a := range found {
		if slices.Contains(w.cfg.Off, a.Rule) {
			continue
		}
		why, err := w.explain(ctx, &a)
		if err != nil { // the alert stands: nothing explains it
			errs = append(errs, err)
		}
		if a.Explained = why; why == Unexplained {
			if err := w.record(ctx, &a); err != nil {
				errs = append(errs, err)
			}
		}
		out = append(out, a)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped > 0 {
		errs = append(errs, fmt.Errorf("watch: %d alerts were given up: more than Config.MaxPending could not be recorded", w.dropped))
		w.dropped = 0
	}
	return out, errors.Join(errs...)
}

// explain asks for a reason, where a rule may have one.
func (w *Watcher) explain(ctx context.Context, a *Alert) (Explanation, error) {
	if w.cfg.Explain == nil || a.Rule == Honey || a.Rule == TrailGap || a.Rule == ClockOff {
		return Unexplained, nil
	}
	why, err := w.cfg.Explain.Explain(ctx, *a)
	if err != nil {
		return Unexplained, fmt.Errorf("watch: explain: %w", err)
	}
	if !slices.Contains([]Explanation{Appointment, Order, Message, SameUnit}, why) {
		return Unexplained, nil
	}
	return why, nil
}

// record records an alert, or keeps it for the next call.
func (w *Watcher) record(ctx context.Context, a *Alert) error {
	ev := audit.Event{Type: audit.Alerted, Outcome: audit.Success, Rule: string(a.Rule), About: a.Event, Count: a.Count}
	if a.Actor.Kind == access.Human || a.Actor.Kind == access.Service { // a patient's ID is a pseudonym here: the event has it
		ev.User, ev.UserKind = a.Actor.ID, a.Actor.Kind
	}
	receipt, err := w.cfg.Audit.Record(ctx, ev)
	if err != nil {
		w.mu.Lock()
		w.keep(*a)
		w.mu.Unlock()
		return fmt.Errorf("watch: record alert: %w", err)
	}
	a.ID = receipt.ID
	return nil
}

// keep keeps an alert for the next call.
func (w *Watcher) keep(a Alert) {
	if len(w.late) >= w.cfg.MaxPending {
		w.dropped++
		return
	}
	w.late = append(w.late, a)
}

// heard notes an alert that the trail says was raised, perhaps by this process
// before it was started again.
func (w *Watcher) heard(ev *audit.Stored) {
	a := Alert{Rule: Rule(ev.Rule), Event: ev.About}
	if a.Event == "" {
		w.silent = w.silent || a.Rule == TrailGap
		return
	}
	w.told.add(&a)
	same := func(k *Alert) bool { return k.Rule == a.Rule && k.Event == a.Event }
	w.pending = slices.DeleteFunc(w.pending, func(p emergency) bool { return same(&p.alert) })
	w.late = slices.DeleteFunc(w.late, func(k Alert) bool { return same(&k) })
}

// told is which events were alerts raised about, and by which rule: the last
// ones, as hashes.
type told struct {
	ring [1024]uint64
	at   int
}

func (t *told) add(a *Alert) {
	t.ring[t.at] = hash(string(a.Rule) + "\x00" + a.Event)
	t.at = (t.at + 1) % len(t.ring)
}

func (t *told) has(a *Alert) bool {
	return a.Event != "" && slices.Contains(t.ring[:], hash(string(a.Rule)+"\x00"+a.Event))
}
