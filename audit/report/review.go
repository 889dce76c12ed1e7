// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Errors of [Reporter.SignOff].
var (
	// ErrOwnReview means that there is nothing in the review but what the
	// signer did: somebody else signs it off.
	ErrOwnReview = errors.New("report: nobody signs off a review of themselves")

	// ErrChanged means that the review is not the one that the signer saw:
	// make it again, and look.
	ErrChanged = errors.New("report: the review has changed since it was read")
)

// A ReviewQuery asks for the information system activity of the reader's tenant
// (45 CFR 164.308(a)(1)(ii)(D)). The rule says "regularly"; a week, from
// [Week], is this package's habit.
type ReviewQuery struct {
	Since time.Time // required
	Until time.Time // required; of a review that is to be signed off not in the future
}

// Week returns the query for the week of t, from Monday 00:00 UTC.
func Week(t time.Time) ReviewQuery {
	since := monday(t.UTC())
	return ReviewQuery{Since: since, Until: since.AddDate(0, 0, 7)}
}

// A Review is the activity of a tenant in a period.
type Review struct {
	Period   Period     `json:"period"`
	Made     time.Time  `json:"made"`
	People   []Activity `json:"people"`  // one for each principal who did anything, the busiest first
	Signals  []Signal   `json:"signals"` // what wants a look, oldest first
	Digest   string     `json:"digest"`  // of all the above: what a sign-off signs
	SignOffs []SignOff  `json:"sign_offs"`
	Complete bool       `json:"complete"` // somebody else has signed off for everybody
	Notes    []string   `json:"notes,omitempty"`
	chart    *chart
}

// An Activity is what one principal did.
type Activity struct {
	Who       Who `json:"who"`
	Patients  int `json:"patients"` // distinct, whose PHI was seen or changed; of several journals, at most so many
	Seen      int `json:"seen"`     // events
	Searched  int `json:"searched"`
	Changed   int `json:"changed"`
	Disclosed int `json:"disclosed"`
	Emergency int `json:"emergency"` // of all these, for emergency access
	Refused   int `json:"refused"`
	Reports   int `json:"reports"` // readings of the trail
	SignIns   int `json:"sign_ins"`
	Failed    int `json:"failed"` // sign-ins
	Admin     int `json:"admin"`  // users, factors, keys, jobs, destruction

	ReviewedBy []string `json:"reviewed_by,omitempty"` // IDs of others who signed off
}

// A Signal is one event that wants a look.
type Signal struct {
	Event       string       `json:"event"`
	Time        time.Time    `json:"time"`
	Type        audit.Type   `json:"type"`
	Reason      audit.Reason `json:"reason,omitempty"`
	Who         Who          `json:"who"`
	Rule        string       `json:"rule,omitempty"` // of an alert
	User        string       `json:"user,omitempty"` // whom it is about
	Count       int          `json:"count,omitempty"`
	Disposition audit.Reason `json:"disposition,omitempty"` // of an alert; empty where nobody has decided
	Emergency   bool         `json:"emergency,omitempty"`
}

// A SignOff is a [audit.Reviewed] event about the period.
type SignOff struct {
	By      Who       `json:"by"`
	Time    time.Time `json:"time"`
	Current bool      `json:"current"` // it signs what stands in the review now
}

// Review reports the activity of the reader's tenant. The authorizer is asked
// to read "audit" as a whole.
func (r *Reporter) Review(ctx context.Context, q ReviewQuery) (*Review, error) {
	rev, err := r.review(ctx, q, access.Read)
	if err != nil {
		return nil, fmt.Errorf("report: review: %w", err)
	}
	return rev, nil
}

// SignOff records that the principal of ctx has reviewed the activity, as a
// [audit.Reviewed] event, and returns the review with it. seen is the Digest
// of the review that was looked at. The authorizer is asked for [access.Review]
// of "audit". The signature counts for everybody but the signer, whose own
// activity stays open until somebody else signs. An error wraps
// [ErrOwnReview], [ErrChanged], [access.ErrDenied] or [audit.ErrUnavailable].
func (r *Reporter) SignOff(ctx context.Context, q ReviewQuery, seen string) (*Review, error) {
	rev, err := r.signOff(ctx, q, seen)
	if err != nil {
		return nil, fmt.Errorf("report: sign off review: %w", err)
	}
	return rev, nil
}

func (r *Reporter) signOff(ctx context.Context, q ReviewQuery, seen string) (*Review, error) {
	if q.Until.After(r.cfg.Now()) {
		return nil, errors.New("ReviewQuery.Until is in the future: the period is not over")
	}
	rev, err := r.review(ctx, q, access.Review)
	if err != nil {
		return nil, err
	}
	s, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	me := s.Principal()
	switch {
	case seen != rev.Digest:
		return nil, ErrChanged
	case len(rev.People) > 0 && !slices.ContainsFunc(rev.People, func(a Activity) bool { return a.Who.ID != me.ID }):
		return nil, ErrOwnReview
	}
	_, err = r.cfg.Audit.Record(ctx, audit.Event{Type: audit.Reviewed, Outcome: audit.Success, Citation: "164.308(a)(1)(ii)(D)", Since: q.Since, Until: q.Until,
		Count: len(rev.People), Objects: []audit.Object{{Type: resource, Fields: []string{"review"}, Digests: []string{rev.Digest}}}})
	if err != nil {
		return nil, err
	}
	return rev, r.signatures(ctx, me.Tenant, rev)
}

// signals are the events that want a look by themselves.
func signals() []audit.Type {
	return []audit.Type{audit.RevealFailed, audit.Outside, audit.Shredded, audit.Restored, audit.SignInLocked, audit.UserChanged, audit.Deviation,
		audit.Alerted, audit.OutboxRefused, audit.Recovered, audit.ClockOff, audit.Gap, audit.Erased, audit.Held, audit.Released, audit.Purged,
		audit.JournalKeyRotated, audit.Parked}
}

// activity are the events that are counted.
func activity() []audit.Type {
	return append(signals(), audit.Revealed, audit.Fetched, audit.Searched, audit.Denied, audit.WriteAttempt, audit.Disclosed, audit.Suspended, audit.Reported,
		audit.Reviewed, audit.Disposed, audit.DetailOpened, audit.SignIn, audit.SignInFailed, audit.FactorChanged, audit.KeyRotated, audit.Sealed, audit.Merged, audit.Checked)
}

func (r *Reporter) review(ctx context.Context, q ReviewQuery, action access.Action) (*Review, error) {
	if q.Since.IsZero() || !q.Since.Before(q.Until) {
		return nil, errors.New("ReviewQuery: Since and Until are required, and Until is after Since")
	}
	p, decision, err := r.authorise(ctx, action, "")
	if err != nil {
		return nil, err
	}
	if err := r.record(ctx, decision, "164.308(a)(1)(ii)(D)", 0); err != nil {
		return nil, err
	}
	out := &Review{Period: Period{q.Since.UTC(), q.Until.UTC()}, Made: r.cfg.Now().UTC(), chart: newChart("Activity over time", "events", "refused or failed")}
	people := map[string]*Activity{}
	patients := map[string]map[person]bool{}
	batches := map[string]bool{}
	for ev, err := range r.events(ctx, func(int) audit.Query {
		return audit.Query{Tenant: p.Tenant, Types: activity(), Since: q.Since, Until: q.Until}
	}) {
		if err != nil {
			return nil, err
		}
		id := ev.Actor.ID
		a := people[id]
		if a == nil {
			a = &Activity{Who: r.whoIs(ctx, ev.Actor, nil)}
			people[id], patients[id] = a, map[person]bool{}
		}
		for _, o := range ev.Objects {
			if o.Patient != "" && !o.Denied && sees(ev.Type) && ev.Outcome != audit.Failure {
				patients[id][person{o.Patient, ev.source}] = true
			}
		}
		if ev.Batch != "" {
			if batches[ev.Batch] {
				continue
			}
			batches[ev.Batch], ev.ID = true, ev.Batch
		}
		out.chart.add(ev.Time, a.count(&ev.Stored))
		if emergency := ev.Purpose == access.BreakGlass; emergency || slices.Contains(signals(), ev.Type) || ev.Outcome == audit.Failure && ev.Type != audit.Denied && ev.Type != audit.SignInFailed {
			out.Signals = append(out.Signals, Signal{Event: ev.ID, Time: ev.Time, Type: ev.Type, Reason: ev.Reason, Who: a.Who, Rule: ev.Rule, User: ev.User, Count: ev.Count, Emergency: emergency})
		}
	}
	slices.Reverse(out.Signals)
	delete(people, "") // what nobody did stands among the signals
	for id, a := range people {
		a.Patients = len(patients[id])
		out.People = append(out.People, *a)
	}
	slices.SortFunc(out.People, func(a, b Activity) int {
		return cmp.Or(cmp.Compare(b.Patients, a.Patients), cmp.Compare(a.Who.ID, b.Who.ID))
	})
	if out.Digest, err = out.digest(); err != nil {
		return nil, err
	}
	if err := r.dispositions(ctx, p.Tenant, out); err != nil {
		return nil, err
	}
	return out, r.signatures(ctx, p.Tenant, out)
}

func sees(t audit.Type) bool {
	switch t {
	case audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Disclosed:
		return true
	}
	return false
}

// count adds an event and returns the series of the chart that it belongs to.
func (a *Activity) count(ev *audit.Stored) int {
	if ev.Purpose == access.BreakGlass {
		a.Emergency++
	}
	switch {
	case ev.Type == audit.SignInFailed || ev.Type == audit.SignInLocked:
		a.Failed += max(ev.Count, 1)
		return 1
	case ev.Outcome == audit.Failure || ev.Type == audit.Denied:
		a.Refused += max(1, ev.Count)
		return 1
	}
	switch ev.Type {
	case audit.Revealed, audit.Fetched:
		a.Seen++
	case audit.Searched:
		a.Searched++
	case audit.WriteAttempt:
		a.Changed++
	case audit.Disclosed:
		a.Disclosed++
	case audit.Reported, audit.DetailOpened:
		a.Reports++
	case audit.SignIn:
		a.SignIns++
	default:
		a.Admin++
	}
	return 0
}

// digest is what a sign-off signs: the activity without how it is called.
func (rev *Review) digest() (string, error) {
	signed := struct {
		Period  Period
		People  []Activity
		Signals []Signal
	}{rev.Period, slices.Clone(rev.People), slices.Clone(rev.Signals)}
	for i := range signed.People {
		signed.People[i].Who.Name = ""
	}
	for i := range signed.Signals {
		signed.Signals[i].Who.Name = ""
	}
	text, err := json.Marshal(signed)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), err
}

// dispositions says of each alert what came of it, also after the period.
func (r *Reporter) dispositions(ctx context.Context, tenant string, rev *Review) error {
	alerts := map[string]int{}
	for i, s := range rev.Signals {
		if s.Type == audit.Alerted {
			alerts[s.Event] = i
		}
	}
	if len(alerts) == 0 {
		return nil
	}
	for ev, err := range r.events(ctx, func(int) audit.Query {
		return audit.Query{Tenant: tenant, Types: []audit.Type{audit.Disposed}, Since: rev.Period.Since}
	}) {
		if err != nil {
			return err
		}
		if i, ok := alerts[ev.About]; ok {
			rev.Signals[i].Disposition = ev.Reason
			delete(alerts, ev.About) // the newest stands
		}
	}
	return nil
}

// signatures finds who has signed the period off.
func (r *Reporter) signatures(ctx context.Context, tenant string, rev *Review) error {
	rev.SignOffs = nil
	for i := range rev.People {
		rev.People[i].ReviewedBy = nil
	}
	for ev, err := range r.events(ctx, func(int) audit.Query {
		return audit.Query{Tenant: tenant, Types: []audit.Type{audit.Reviewed}, Since: rev.Period.Until}
	}) {
		if err != nil {
			return err
		}
		if !ev.Since.Equal(rev.Period.Since) || !ev.Until.Equal(rev.Period.Until) || ev.Actor.Tenant != tenant || len(ev.Objects) != 1 {
			continue
		}
		current := slices.Equal(ev.Objects[0].Digests, []string{rev.Digest})
		rev.SignOffs = append(rev.SignOffs, SignOff{By: r.whoIs(ctx, ev.Actor, nil), Time: ev.Time, Current: current})
		for i := range rev.People {
			a := &rev.People[i]
			if current && a.Who.ID != ev.Actor.ID && !slices.Contains(a.ReviewedBy, ev.Actor.ID) {
				a.ReviewedBy = append(a.ReviewedBy, ev.Actor.ID)
			}
		}
	}
	slices.Reverse(rev.SignOffs)
	rev.Complete = slices.ContainsFunc(rev.SignOffs, func(s SignOff) bool { return s.Current }) &&
		!slices.ContainsFunc(rev.People, func(a Activity) bool { return len(a.ReviewedBy) == 0 })
	return nil
}

func (rev *Review) document() document {
	d := document{
		Title: "Review of activity",
		Lead:  []string{"What was done in the period, by whom, and what wants a look (45 CFR 164.308(a)(1)(ii)(D), information system activity review)."},
		Facts: []fact{{"Period", rev.Period.text(rev.Made)}, {"Made", stamp(rev.Made)}, {"Digest", rev.Digest}},
		Chart: rev.chart, Notes: rev.Notes,
	}
	state := "open"
	if rev.Complete {
		state = "signed off for everybody, by somebody else"
	}
	d.Facts = append(d.Facts, fact{"Sign-off", state})
	people := table{Caption: "Activity by person and program", Columns: []string{"Who", "Patients", "Seen", "Searched", "Changed", "Disclosed", "Emergency", "Refused", "Sign-ins", "Failed sign-ins", "Readings of the trail", "Administration", "Reviewed by"}, Empty: "Nobody did anything in the period."}
	names := map[string]string{}
	for _, a := range rev.People {
		names[a.Who.ID] = a.Who.Name
	}
	for _, s := range rev.SignOffs {
		names[s.By.ID] = s.By.Name
	}
	for _, a := range rev.People {
		row := []string{a.Who.text()}
		for _, n := range []int{a.Patients, a.Seen, a.Searched, a.Changed, a.Disclosed, a.Emergency, a.Refused, a.SignIns, a.Failed, a.Reports, a.Admin} {
			row = append(row, fmt.Sprint(n))
		}
		var by []string
		for _, id := range a.ReviewedBy {
			by = append(by, cmp.Or(names[id], id))
		}
		people.Rows = append(people.Rows, append(row, cmp.Or(strings.Join(by, ", "), "nobody else yet")))
	}
	look := table{Caption: "What wants a look, the oldest first", Columns: []string{"Time (UTC)", "What", "Who", "About", "Count", "Came of it"}, Empty: "Nothing."}
	for _, s := range rev.Signals {
		what := string(s.Type)
		for _, more := range []string{s.Rule, string(s.Reason)} {
			if more != "" {
				what += ", " + more
			}
		}
		if s.Emergency {
			what += ", emergency access"
		}
		came := string(s.Disposition)
		if s.Type == audit.Alerted && came == "" {
			came = "open"
		}
		n := ""
		if s.Count > 0 {
			n = fmt.Sprint(s.Count)
		}
		look.Rows = append(look.Rows, []string{stamp(s.Time), what, s.Who.text(), s.User, n, came})
	}
	signed := table{Caption: "Sign-offs", Columns: []string{"Time (UTC)", "By", "Of this review"}, Empty: "Nobody has signed off."}
	for _, s := range rev.SignOffs {
		current := "no: something was added since"
		if s.Current {
			current = "yes, without the signer's own activity"
		}
		signed.Rows = append(signed.Rows, []string{stamp(s.Time), s.By.text(), current})
	}
	d.Tables = []table{people, look, signed}
	return d
}

// Dispose records what came of an alert ([audit.Alerted]), by its event ID: one
// of ReasonExplained, ReasonFalseAlarm, ReasonEscalated and ReasonViolation.
// The authorizer is asked for [access.Review] of "audit". Nobody disposes of an
// alert about themselves: the error wraps [ErrOwnReview]. An alert may be
// disposed of again; the newest stands.
func (r *Reporter) Dispose(ctx context.Context, alert string, reason audit.Reason) error {
	if err := r.dispose(ctx, alert, reason); err != nil {
		return fmt.Errorf("report: dispose of alert: %w", err)
	}
	return nil
}

// ErrNoAlert means that there is no alert of that ID in the reader's tenant.
var ErrNoAlert = errors.New("report: there is no such alert")

func (r *Reporter) dispose(ctx context.Context, alert string, reason audit.Reason) error {
	switch reason {
	case audit.ReasonExplained, audit.ReasonFalseAlarm, audit.ReasonEscalated, audit.ReasonViolation:
	default:
		return errors.New("the reason is not explained, false, escalated or violation")
	}
	p, decision, err := r.authorise(ctx, access.Review, "")
	if err != nil {
		return err
	}
	for ev, err := range r.events(ctx, func(int) audit.Query { return audit.Query{Tenant: p.Tenant, Types: []audit.Type{audit.Alerted}} }) {
		if err != nil {
			return err
		}
		if ev.ID != alert {
			continue
		}
		if ev.User == p.ID {
			return ErrOwnReview
		}
		_, err := r.cfg.Audit.Record(ctx, audit.Event{Type: audit.Disposed, Outcome: audit.Success, Reason: reason, Decision: decision, About: alert, Rule: ev.Rule, User: ev.User, UserKind: ev.UserKind})
		return err
	}
	return ErrNoAlert
}
