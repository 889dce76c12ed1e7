// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Rule says why an access wants a look.
type Rule string

// The rules.
const (
	Honey      Rule = "honey"       // a record of nobody, which nobody has a reason to touch: any event about it
	Self       Rule = "self"        // the actor's own record
	Household  Rule = "household"   // somebody of the actor's household
	VIP        Rule = "vip"         // a person of public interest, without a care relation
	Coworker   Rule = "coworker"    // a member of the workforce, without a care relation
	Surname    Rule = "surname"     // somebody of the actor's surname, without a care relation
	NoRelation Rule = "no_relation" // a patient without a care relation, for treatment
	Bulk       Rule = "bulk"        // more patients in an hour than max(Config.Bulk, Config.BulkFactor × the actor's own 95th percentile)
	Export     Rule = "export"      // Config.Export records or more in one event
	OffHours   Rule = "off_hours"   // an hour of the week in which the actor hardly ever works
	BreakGlass Rule = "break_glass" // emergency access that nobody else has reviewed within Config.ReviewWithin
	SignIn     Rule = "sign_in"     // Config.Failures failed sign-ins, and then one that succeeds
	Dormant    Rule = "dormant"     // an account that was not used for Config.Dormant
	TrailGap   Rule = "trail_gap"   // the trail lost something, refused something forged, or fell silent
	ClockOff   Rule = "clock_off"   // a clock is wrong, or went back
)

// rules are all of them, in the order in which an event's alerts come.
func rules() []Rule {
	return []Rule{Honey, Self, Household, VIP, Coworker, Surname, NoRelation, Bulk, Export, OffHours, BreakGlass, SignIn, Dormant, TrailGap, ClockOff}
}

// A Relation is what an application knows of a patient with regard to an
// actor. The zero Relation knows nothing: [NoRelation].
type Relation struct {
	Care          bool // a care relation: on the care team, an encounter, an appointment
	Self          bool
	SameHousehold bool
	SameSurname   bool
	Staff         bool // the patient is a member of the workforce
	VIP           bool
	Honey         bool // a honey record
}

// Relations tells how actors and patients are related. It is safe for
// concurrent use. The conformance suite is watchtest.TestRelations.
type Relations interface {
	// Relate returns a Relation for each of the patients, in their order.
	// Patients are named as they stand in the trail ([audit.Journal].Pseudonym):
	// keep a table of the pseudonyms of your patients. Of an unknown patient or
	// actor it returns the zero Relation.
	Relate(ctx context.Context, tenant, actor string, patients []string) ([]Relation, error)
}

// An Explanation is a reason why an access was in order. The set is closed.
type Explanation string

// The explanations.
const (
	Unexplained Explanation = ""
	Appointment Explanation = "appointment" // the patient had one with the actor's unit
	Order       Explanation = "order"       // the actor placed or worked on an order
	Message     Explanation = "message"     // the patient, or their clinician, wrote to the actor
	SameUnit    Explanation = "same_unit"   // the patient was in the actor's unit
)

// An Explainer looks for a reason before an alert is raised. It is safe for
// concurrent use.
type Explainer interface {
	// Explain returns why the access was in order, or Unexplained. It is not
	// asked about honey records, the trail and the clock.
	Explain(ctx context.Context, a Alert) (Explanation, error)
}

// An Alert is what a rule found.
type Alert struct {
	Rule      Rule
	Event     string    // ID of the event that raised it; empty for silence
	Time      time.Time // of that event
	Tenant    string
	Actor     access.Principal // as it stands in the trail
	Patients  []string         // pseudonyms; of the rules about patients
	Count     int              // patients, records, tries or days, as the rule has it
	Explained Explanation      // not Unexplained: it was not raised and is not recorded
	ID        string           // event ID of the [audit.Alerted]; empty where there is none
}

// Config configures [New]. Audit and Relations are required; zero numbers
// stand for the defaults, which the simulation of the tests is tuned with.
type Config struct {
	Audit     audit.Recorder // where alerts are recorded
	Relations Relations
	Explain   Explainer // nil explains nothing
	Off       []Rule    // rules that do not apply here

	Bulk         int           // distinct patients in an hour; zero means 60
	BulkFactor   float64       // times the actor's own 95th percentile of hours; zero means 3
	Export       int           // records of one event; zero means 500
	History      int           // events before OffHours applies; zero means 200
	OffShare     float64       // share of history under which an hour of the week is off; zero means 0.002
	ReviewWithin time.Duration // of emergency access; zero means 72 hours
	Failures     int           // failed sign-ins; zero means 5
	FailWithin   time.Duration // the time in which they fail; zero means 15 minutes
	Dormant      time.Duration // zero means 60 days
	Silence      time.Duration // without any event, see Tick; zero means 24 hours
	Backwards    time.Duration // that a writer's clock may go back; zero means 30 seconds
	MaxActors    int           // kept in memory, some 800 bytes each; zero means 20,000
	MaxPending   int           // unreviewed emergency accesses kept; zero means 1,000. Of more the oldest is raised early

	// Repeat is how long an alert of one rule about one actor and patient, or
	// about an actor, is not raised again. Zero means 12 hours.
	Repeat time.Duration
}

func (cfg *Config) complete() error {
	switch {
	case cfg.Audit == nil:
		return errors.New("watch: Config.Audit is nil: give the journal")
	case cfg.Relations == nil:
		return errors.New("watch: Config.Relations is nil: give what the application knows of its people")
	case cfg.OffShare < 0 || cfg.OffShare > 1:
		return errors.New("watch: Config.OffShare is not between 0 and 1")
	case cfg.BulkFactor < 0:
		return errors.New("watch: Config.BulkFactor is negative")
	}
	for _, r := range cfg.Off {
		if !slices.Contains(rules(), r) {
			return errors.New("watch: Config.Off has a rule that is none")
		}
	}
	for _, n := range []struct {
		name  string
		value *int
		zero  int
	}{{"Bulk", &cfg.Bulk, 60}, {"Export", &cfg.Export, 500}, {"History", &cfg.History, 200}, {"Failures", &cfg.Failures, 5},
		{"MaxActors", &cfg.MaxActors, 20_000}, {"MaxPending", &cfg.MaxPending, 1000}} {
		if *n.value < 0 {
			return fmt.Errorf("watch: Config.%s is negative", n.name)
		}
		if *n.value == 0 {
			*n.value = n.zero
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"ReviewWithin", &cfg.ReviewWithin, 72 * time.Hour}, {"FailWithin", &cfg.FailWithin, 15 * time.Minute}, {"Dormant", &cfg.Dormant, 60 * 24 * time.Hour},
		{"Silence", &cfg.Silence, 24 * time.Hour}, {"Backwards", &cfg.Backwards, 30 * time.Second}, {"Repeat", &cfg.Repeat, 12 * time.Hour}} {
		if *d.value < 0 {
			return fmt.Errorf("watch: Config.%s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if cfg.BulkFactor == 0 {
		cfg.BulkFactor = 3
	}
	if cfg.OffShare == 0 {
		cfg.OffShare = 0.002
	}
	return nil
}

// A Watcher applies the rules. It is safe for concurrent use; events of one
// writer come in their order.
type Watcher struct {
	cfg Config

	mu      sync.Mutex
	actors  actors
	pending []emergency // oldest first
	writers map[string]time.Time
	last    time.Time // of any event
	silent  bool      // and that was said
}

// An emergency is emergency access that nobody has reviewed.
type emergency struct {
	alert    Alert
	reviewed bool
}

// New returns a Watcher, or says which field of cfg is bad.
func New(cfg Config) (*Watcher, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Watcher{cfg: cfg, actors: newActors(cfg.MaxActors), writers: map[string]time.Time{}}, nil
}

// Learn takes an event into account and alerts nobody: for history, before the
// first Observe.
func (w *Watcher) Learn(ev audit.Stored) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(&ev)
}

// Observe takes an event into account and returns the alerts that it raises,
// each of them recorded, and those that were explained. The scope of ctx is
// who records: a service, for [access.Compliance]. Where an alert cannot be
// recorded, or the relations do not answer, the error says so beside those that
// could; the event counts as seen.
func (w *Watcher) Observe(ctx context.Context, ev audit.Stored) ([]Alert, error) {
	w.mu.Lock()
	found := w.count(&ev)
	w.mu.Unlock()
	related, err := w.related(ctx, &ev)
	if len(related) > 0 {
		w.mu.Lock()
		for _, a := range related {
			if w.fresh(&a) {
				found = append(found, a)
			}
		}
		w.mu.Unlock()
	}
	alerts, rerr := w.raise(ctx, found)
	return alerts, errors.Join(err, rerr)
}

// Tick raises what only time tells: emergency access that nobody reviewed, and
// a trail that fell silent. Call it every few minutes.
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

// count updates the state with an event and returns what the rules that need
// no relation find.
func (w *Watcher) count(ev *audit.Stored) (found []Alert) {
	alert := func(r Rule, count int) {
		a := Alert{Rule: r, Event: ev.ID, Time: ev.Time, Tenant: ev.Actor.Tenant, Actor: ev.Actor, Count: count}
		if w.fresh(&a) {
			found = append(found, a)
		}
	}
	writer, _, _ := strings.Cut(ev.ID, ".")
	if back := w.writers[writer].Sub(ev.Time); !w.writers[writer].IsZero() && back > w.cfg.Backwards {
		alert(ClockOff, int(back/time.Second))
	}
	if len(w.writers) >= maxWriters && w.writers[writer].IsZero() {
		clear(w.writers)
	}
	w.writers[writer] = ev.Time
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
	case audit.Disposed, audit.Reviewed:
		w.review(ev)
	}
	found = append(found, w.overdue(ev.Time)...)
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
	if ev.Purpose == access.BreakGlass && ev.Part <= 1 {
		w.pending = append(w.pending, emergency{alert: Alert{Rule: BreakGlass, Event: ev.ID, Time: ev.Time, Tenant: ev.Actor.Tenant, Actor: ev.Actor, Count: 1}})
		if len(w.pending) > w.cfg.MaxPending {
			found = append(found, w.pending[0].alert)
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
// one, by its event, or all in a period that was signed off.
func (w *Watcher) review(ev *audit.Stored) {
	for i := range w.pending {
		p := &w.pending[i]
		by := ev.Actor.Tenant == p.alert.Tenant && ev.Actor.ID != "" && ev.Actor.ID != p.alert.Actor.ID
		one := ev.About == p.alert.Event
		all := ev.Type == audit.Reviewed && !ev.Until.IsZero() && !p.alert.Time.Before(ev.Since) && p.alert.Time.Before(ev.Until)
		p.reviewed = p.reviewed || by && (one || all)
	}
	w.pending = slices.DeleteFunc(w.pending, func(p emergency) bool { return p.reviewed })
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

// related applies the rules about actor and patient.
func (w *Watcher) related(ctx context.Context, ev *audit.Stored) ([]Alert, error) {
	if ev.Actor.ID == "" || !touches(ev) && ev.Type != audit.Denied && ev.Type != audit.RevealFailed {
		return nil, nil
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
	found := map[Rule]*Alert{}
	for tenant, patients := range byTenant {
		relations, err := w.cfg.Relations.Relate(ctx, tenant, ev.Actor.ID, patients)
		if err != nil {
			return nil, fmt.Errorf("watch: relations: %w", err)
		}
		if len(relations) != len(patients) {
			return nil, fmt.Errorf("watch: relations: %d answers about %d patients", len(relations), len(patients))
		}
		for i, p := range patients {
			rule := ruleOf(&relations[i], ev)
			if rule == "" || rule != Honey && (denied(p) || ev.Actor.Kind != access.Human) {
				continue
			}
			a := found[rule]
			if a == nil {
				a = &Alert{Rule: rule, Event: ev.ID, Time: ev.Time, Tenant: ev.Actor.Tenant, Actor: ev.Actor}
				found[rule] = a
			}
			a.Count++
			if len(a.Patients) < maxPatients {
				a.Patients = append(a.Patients, p)
			}
		}
	}
	var out []Alert
	for _, r := range rules() {
		if a := found[r]; a != nil {
			out = append(out, *a)
		}
	}
	return out, nil
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
	case treats:
		return NoRelation
	}
	return ""
}

// fresh reports whether an alert of the rule, about the actor and, where it has
// one, the patient, was not raised lately, and whether the rule applies at all.
// Honey records, the trail and the clock are always said.
func (w *Watcher) fresh(a *Alert) bool {
	switch {
	case slices.Contains(w.cfg.Off, a.Rule):
		return false
	case a.Rule == Honey || a.Rule == TrailGap || a.Rule == ClockOff || a.Actor.ID == "":
		return true
	}
	patient := ""
	if len(a.Patients) > 0 {
		patient = a.Patients[0]
	}
	return w.actors.of(a.Tenant, a.Actor.ID).fresh(a.Rule, patient, a.Time, w.cfg.Repeat)
}

// raise explains or records each alert.
func (w *Watcher) raise(ctx context.Context, found []Alert) ([]Alert, error) {
	var errs []error
	out := found[:0]
	for _, a := range found {
		if slices.Contains(w.cfg.Off, a.Rule) {
			continue
		}
		if w.cfg.Explain != nil && a.Rule != Honey && a.Rule != TrailGap && a.Rule != ClockOff {
			why, err := w.cfg.Explain.Explain(ctx, a)
			if err != nil { // the alert stands: nothing explains it
				errs = append(errs, fmt.Errorf("watch: explain: %w", err))
			} else if slices.Contains([]Explanation{Appointment, Order, Message, SameUnit}, why) {
				a.Explained = why
				out = append(out, a)
				continue
			}
		}
		ev := audit.Event{Type: audit.Alerted, Outcome: audit.Success, Rule: string(a.Rule), About: a.Event, Count: a.Count}
		if a.Actor.Kind == access.Human || a.Actor.Kind == access.Service { // a patient's ID is a pseudonym here: the event has it
			ev.User, ev.UserKind = a.Actor.ID, a.Actor.Kind
		}
		receipt, err := w.cfg.Audit.Record(ctx, ev)
		if err != nil {
			errs = append(errs, fmt.Errorf("watch: record alert: %w", err))
		}
		a.ID = receipt.ID
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
