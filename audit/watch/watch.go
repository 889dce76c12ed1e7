// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Watcher applies the rules. It is safe for concurrent use; events of one
// writer come in their order, and one that comes again is passed over.
type Watcher struct {
	cfg Config

	mu      sync.Mutex
	actors  actors
	pending []emergency // oldest first
	writers map[string]writer
	told    told      // what the trail says was raised
	late    []Alert   // found, and not recorded yet
	dropped int       // of them, for want of room
	last    time.Time // of any event but alerts
	silent  bool      // and that was said
}

// A writer is how far its journal was observed.
type writer struct {
	seq  uint64
	time time.Time
}

// An emergency is emergency access that nobody has reviewed.
type emergency struct {
	alert    Alert
	patients []string // whose grants nobody has reviewed, at most maxPatients
	many     bool     // there are more
	reviewed bool
}

// New returns a Watcher, or says which field of cfg is bad.
func New(cfg Config) (*Watcher, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Watcher{cfg: cfg, actors: newActors(cfg.MaxActors), writers: map[string]writer{}}, nil
}

// Learn takes an event into account as Observe does, and alerts nobody: for the
// history before the first Observe. What the trail says was raised is not
// raised again, and emergency access that was not stays to be reviewed. Where
// the relations do not answer, the event is not learnt: pass it again.
func (w *Watcher) Learn(ctx context.Context, ev audit.Stored) error {
	_, err := w.take(ctx, &ev, true)
	return err
}

// Observe takes an event into account and returns the alerts that it raises,
// each of them recorded, and those that were explained. The scope of ctx is
// who records: a service, for [access.Compliance]. Where the relations do not
// answer, the error says so and nothing is taken into account: pass the event
// again. Where an alert cannot be recorded, it is returned without ID beside
// the error, kept, and comes again with the next call.
func (w *Watcher) Observe(ctx context.Context, ev audit.Stored) ([]Alert, error) {
	found, err := w.take(ctx, &ev, false)
	if err != nil {
		return nil, err
	}
	return w.raise(ctx, found)
}

// Tick raises what only time tells: emergency access that nobody reviewed, and
// a trail that fell silent. Call it every few minutes; a [Sink] does.
func (w *Watcher) Tick(ctx context.Context, now time.Time) ([]Alert, error) {
	w.mu.Lock()
	found := w.overdue(now)
	if !w.last.IsZero() && !w.silent && now.Sub(w.last) >= w.cfg.Silence {
		w.silent = true
		found = append(found, Alert{Rule: TrailGap, Time: w.last, Count: int(now.Sub(w.last) / time.Hour)})
	}
	w.mu.Unlock()
	return w.raise(ctx, found)
}

// take updates the state with an event and returns what the rules find.
func (w *Watcher) take(ctx context.Context, ev *audit.Stored, learning bool) ([]Alert, error) {
	related, strangers, err := w.related(ctx, ev)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.again(ev) {
		return nil, nil
	}
	found := w.count(ev)
	if !learning {
		found = append(found, w.overdue(ev.Time)...)
	}
	for _, a := range related {
		if a.Rule == NoRelation && !w.actors.of(a.Tenant, a.Actor.ID).estranged(ev.Time, strangers) {
			continue
		}
		if w.fresh(&a) {
			found = append(found, a)
		}
	}
	return found, nil
}

// again reports whether the event was observed before.
func (w *Watcher) again(ev *audit.Stored) bool {
	id, _, _ := strings.Cut(ev.ID, ".")
	last, known := w.writers[id]
	return known && ev.Seq <= last.seq
}

// count updates the state with an event and returns what the rules that need
// no relation find.
func (w *Watcher) count(ev *audit.Stored) (found []Alert) {
	alert := func(r Rule, count int) {
		a := Alert{Rule: r, Event: ev.ID, Time: ev.Time, Tenant: ev.Actor.Tenant, Actor: ev.Actor, Count: count}
		if w.fresh(&a) {
			found = append(found, a)
		}
	}
	id, _, _ := strings.Cut(ev.ID, ".")
	last, known := w.writers[id]
	if back := last.time.Sub(ev.Time); known && back > w.cfg.Backwards {
		alert(ClockOff, int(back/time.Second))
	}
	if len(w.writers) >= maxWriters && !known {
		clear(w.writers)
	}
	w.writers[id] = writer{ev.Seq, ev.Time}
	if ev.Type == audit.Alerted {
		w.heard(ev)
		return found
	}
	if ev.Time.After(w.last) {
		w.last, w.silent = ev.Time, false
	}
	switch ev.Type {
	case audit.ClockOff:
		alert(ClockOff, ev.Count)
	case audit.Gap, audit.OutboxRefused:
		alert(TrailGap, ev.Count)
	case audit.Recovered:
		if ev.Count > 0 {
			alert(TrailGap, ev.Count)
		}
	case audit.Disposed, audit.Reviewed, audit.GrantReviewed:
		w.review(ev)
	}
	if ev.Actor.ID == "" || ev.Actor.Kind != access.Human {
		return found
	}
	a := w.actors.of(ev.Actor.Tenant, ev.Actor.ID)
	if days := a.dormant(ev.Time, w.cfg.Dormant); days > 0 && ev.Type != audit.SignInFailed && ev.Type != audit.SignInLocked {
		alert(Dormant, days)
	}
	switch ev.Type {
	case audit.SignInFailed:
		a.fail(ev.Time, max(ev.Count, 1), w.cfg.FailWithin)
		return found
	case audit.SignInLocked:
		return found
	case audit.SignIn:
		if n := a.failed(ev.Time, w.cfg.FailWithin); n >= w.cfg.Failures && ev.Outcome == audit.Success {
			alert(SignIn, n)
		}
		a.tries = 0
	}
	a.seen = later(a.seen, ev.Time)
	if !touches(ev) {
		return found
	}
	if a.off(ev.Time, w.cfg.History, w.cfg.OffShare) {
		alert(OffHours, 1)
	}
	a.hours.add(ev.Time)
	a.roll(ev.Time)
	a.dawn(ev.Time)
	for _, o := range ev.Objects {
		if o.Patient != "" && !o.Denied {
			a.patients.add(o.Patient)
		}
	}
	if n := a.patients.count(); n > a.limit(w.cfg.Bulk, w.cfg.BulkFactor) {
		alert(Bulk, n)
	}
	if n := a.records(ev); n >= w.cfg.Export {
		alert(Export, n)
	}
	glass := Alert{Rule: BreakGlass, Event: ev.ID, Time: ev.Time, Tenant: ev.Actor.Tenant, Actor: ev.Actor, Count: 1}
	if ev.Purpose.Emergency() && ev.Part <= 1 && !w.told.has(&glass) {
		e := emergency{alert: glass, many: ev.Parts > 1}
		for _, o := range ev.Objects {
			switch {
			case o.Patient == "" || o.Denied || slices.Contains(e.patients, o.Patient):
			case len(e.patients) == maxPatients:
				e.many = true
			default:
				e.patients = append(e.patients, o.Patient)
			}
		}
		w.pending = append(w.pending, e)
		if len(w.pending) > w.cfg.MaxPending {
			w.keep(w.pending[0].alert)
			w.pending = slices.Delete(w.pending, 0, 1)
		}
	}
	return found
}

// maxWriters bounds the clocks that are kept: more writers than any clinic has.
const maxWriters = 4096

// touches reports whether an event showed or changed somebody's PHI.
func touches(ev *audit.Stored) bool {
	switch ev.Type {
	case audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Disclosed:
		return ev.Outcome != audit.Failure
	}
	return false
}

// review takes emergency accesses off that somebody else has looked at: that
// one, by its event, or all in a period that was signed off, or all under a
// grant, by its holder, patient and time.
func (w *Watcher) review(ev *audit.Stored) {
	for i := range w.pending {
		p := &w.pending[i]
		by := ev.Actor.Tenant == p.alert.Tenant && ev.Actor.ID != "" && ev.Actor.ID != p.alert.Actor.ID
		one := ev.About == p.alert.Event
		all := ev.Type == audit.Reviewed && !ev.Until.IsZero() && !p.alert.Time.Before(ev.Since) && p.alert.Time.Before(ev.Until)
		p.reviewed = p.reviewed || by && (one || all) || by && p.granted(ev)
	}
	w.pending = slices.DeleteFunc(w.pending, func(p emergency) bool { return p.reviewed })
}

// granted takes the patients off whose grants ev is the review of, and reports
// whether none is left.
func (p *emergency) granted(ev *audit.Stored) bool {
	if ev.Type != audit.GrantReviewed || ev.Outcome != audit.Success || ev.Reason == audit.ReasonEscalated || ev.User != p.alert.Actor.ID ||
		p.alert.Time.Before(ev.Since) || p.alert.Time.After(ev.Until) || len(p.patients) == 0 {
		return false
	}
	p.patients = slices.DeleteFunc(p.patients, func(patient string) bool {
		return slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Patient == patient })
	})
	return len(p.patients) == 0 && !p.many
}

// overdue returns the emergency accesses that nobody has reviewed in time.
func (w *Watcher) overdue(now time.Time) (found []Alert) {
	n := 0
	for n < len(w.pending) && now.Sub(w.pending[n].alert.Time) >= w.cfg.ReviewWithin {
		found = append(found, w.pending[n].alert)
		n++
	}
	w.pending = slices.Delete(w.pending, 0, n)
	return found
}

// related applies the rules about actor and patient. strangers are those of
// NoRelation, all of them.
func (w *Watcher) related(ctx context.Context, ev *audit.Stored) (out []Alert, strangers []string, err error) {
	if ev.Actor.ID == "" {
		return nil, nil, nil
	}
	byTenant := map[string][]string{}
	for _, o := range ev.Objects {
		if o.Patient != "" && !slices.Contains(byTenant[o.Tenant], o.Patient) {
			byTenant[o.Tenant] = append(byTenant[o.Tenant], o.Patient)
		}
	}
	denied := func(patient string) bool {
		return !touches(ev) || !slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Patient == patient && !o.Denied })
	}
	listed := 0
	for _, patients := range byTenant {
		listed += len(patients)
	}
	found := map[Rule]*Alert{}
	for tenant, patients := range byTenant {
		relations, err := w.cfg.Relations.Relate(ctx, tenant, ev.Actor.ID, patients)
		if err != nil {
			return nil, nil, fmt.Errorf("watch: relations: %w", err)
		}
		if len(relations) != len(patients) {
			return nil, nil, fmt.Errorf("watch: relations: %d answers about %d patients", len(relations), len(patients))
		}
		for i, p := range patients {
			rule := ruleOf(&relations[i], ev)
			if rule == "" || rule != Honey && (listed >= w.cfg.List || ev.Parts > 1 || denied(p) || ev.Actor.Kind != access.Human) {
				continue
			}
			a := found[rule]
			if a == nil {
				a = &Alert{Rule: rule, Event: ev.ID, Time: ev.Time, Tenant: ev.Actor.Tenant, Actor: ev.Actor}
				found[rule] = a
			}
			a.Count++
			if rule == NoRelation {
				strangers = append(strangers, p)
			}
			a.Patients = append(a.Patients, p)
		}
	}
	for _, r := range rules() {
		if a := found[r]; a != nil {
			out = append(out, *a)
		}
	}
	return out, strangers, nil
}

// maxPatients bounds the patients that an alert names; its event names all.
const maxPatients = 16

// ruleOf returns the most telling rule for a patient; empty where none applies.
func ruleOf(r *Relation, ev *audit.Stored) Rule {
	switch treats := ev.Purpose == access.Treatment || ev.Purpose == access.EmergencyTreatment || ev.Purpose == access.CareManagement; {
	case r.Honey:
		return Honey
	case r.Self:
		return Self
	case r.SameHousehold:
		return Household
	case r.Care:
		return ""
	case r.VIP:
		return VIP
	case r.Staff:
		return Coworker
	case r.SameSurname:
		return Surname
	case treats && !r.Unit:
		return NoRelation
	}
	return ""
}

// fresh reports whether an alert of the rule, about the actor and, where it has
// any, one of the patients, was not raised lately, and whether the rule applies
// at all; it leaves the patients that are new. The trail and the clock are always
// said.
func (w *Watcher) fresh(a *Alert) bool {
	within := w.cfg.Repeat
	switch {
	case slices.Contains(w.cfg.Off, a.Rule) || w.told.has(a):
		return false
	case a.Rule == TrailGap || a.Rule == ClockOff || a.Actor.ID == "":
		return true
	case a.Rule == Honey:
		within = min(within, oneLook)
	}
	actor := w.actors.of(a.Tenant, a.Actor.ID)
	if len(a.Patients) == 0 {
		return actor.fresh(a.Rule, "", a.Time, within)
	}
	a.Patients = slices.DeleteFunc(a.Patients, func(p string) bool { return !actor.fresh(a.Rule, p, a.Time, within) })
	n := len(a.Patients)
	a.Patients = a.Patients[:min(n, maxPatients)]
	return n > 0
}

// oneLook is how long one look at a chart takes, which is many events: a honey
// record is said again after that, whatever Config.Repeat is.
const oneLook = 10 * time.Minute

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
