// SPDX-License-Identifier: Apache-2.0

package review

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/document"
)

// A Query asks for the information system activity of the reader's tenant. The
// rule says "regularly"; a week, from [Week], is this package's habit.
type Query struct {
	Since time.Time // required
	Until time.Time // required; of a review that is to be signed off not in the future
}

// Week returns the query for the week of t, from Monday 00:00 UTC.
func Week(t time.Time) Query {
	since := t.UTC().Truncate(7 * 24 * time.Hour) // the zero Time is a Monday
	return Query{Since: since, Until: since.AddDate(0, 0, 7)}
}

// A Report is the activity of a tenant in a period.
type Report struct {
	Period   report.Period `json:"period"`
	Made     time.Time     `json:"made"`
	People   []Activity    `json:"people"`  // one for each principal who did anything, the busiest first
	Signals  []Signal      `json:"signals"` // what wants a look, oldest first
	Digest   string        `json:"digest"`  // of all the above: what a sign-off signs
	SignOffs []Signature   `json:"sign_offs"`
	Complete bool          `json:"complete"` // somebody else has signed off for everybody
	Notes    []string      `json:"notes,omitempty"`
	chart    *document.Chart
}

// A Signal is one event that wants a look.
type Signal struct {
	Event       string       `json:"event"`
	Time        time.Time    `json:"time"`
	Type        audit.Type   `json:"type"`
	Reason      audit.Reason `json:"reason,omitempty"`
	Who         report.Who   `json:"who"`
	Rule        string       `json:"rule,omitempty"` // of an alert
	About       report.Who   `json:"about,omitzero"` // whom it is about; zero where nobody is named
	Count       int          `json:"count,omitempty"`
	Disposition audit.Reason `json:"disposition,omitempty"` // of an alert; empty where nobody has decided
	Emergency   bool         `json:"emergency,omitempty"`
}

// citation is what a review serves.
const citation = "164.308(a)(1)(ii)(D)"

// Of reports the activity of the reader's tenant. The authorizer is asked to
// read "audit" as a whole: see [report.Reporter.Open], also for errors.
func Of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	out, _, err := of(ctx, r, q, access.Read)
	if err != nil {
		return nil, fmt.Errorf("review: report: %w", err)
	}
	return out, nil
}

func of(ctx context.Context, r *report.Reporter, q Query, action access.Action) (*Report, *report.Trail, error) {
	if q.Since.IsZero() || !q.Since.Before(q.Until) {
		return nil, nil, errors.New("Query: Since and Until are required, and Until is after Since")
	}
	trail, err := r.Open(ctx, report.Reading{Citation: citation, Action: action})
	if err != nil {
		return nil, nil, err
	}
	out := &Report{Period: report.Period{Since: q.Since.UTC(), Until: q.Until.UTC()}, Made: r.Now(), chart: document.NewChart("Activity over time", "events", "refused or failed")}
	if err := out.count(ctx, trail); err != nil {
		return nil, nil, err
	}
	if out.Digest, err = out.digest(); err != nil {
		return nil, nil, err
	}
	if err := out.dispositions(ctx, trail); err != nil {
		return nil, nil, err
	}
	return out, trail, out.signatures(ctx, trail)
}

// count counts what everybody did, and notes what wants a look.
func (rev *Report) count(ctx context.Context, trail *report.Trail) error {
	people := map[string]*Activity{}
	patients := map[string]map[string]bool{}
	batches := map[string]bool{}
	for ev, err := range trail.Events(ctx, audit.Query{Types: activity(), Since: rev.Period.Since, Until: rev.Period.Until}) {
		if err != nil {
			return err
		}
		id := ev.Actor.ID
		a := people[id]
		if a == nil {
			a = &Activity{Who: trail.Who(ctx, ev.Actor)}
			people[id], patients[id] = a, map[string]bool{}
		}
		for _, o := range ev.Objects {
			if o.Patient != "" && !o.Denied && sees(ev.Type) && ev.Outcome != audit.Failure {
				patients[id][o.Patient] = true
			}
		}
		if ev.Batch != "" {
			if batches[ev.Batch] {
				continue
			}
			batches[ev.Batch], ev.ID = true, ev.Batch
		}
		rev.chart.Add(ev.Time, a.count(&ev.Stored))
		if wantsLook(&ev.Stored) {
			rev.Signals = append(rev.Signals, Signal{Event: ev.ID, Time: ev.Time, Type: ev.Type, Reason: ev.Reason, Who: a.Who, Rule: ev.Rule, Count: ev.Count,
				Emergency: ev.Purpose.Emergency()})
			if ev.User != "" {
				rev.Signals[len(rev.Signals)-1].About = trail.Who(ctx, access.Principal{ID: ev.User, Kind: ev.UserKind})
			}
		}
	}
	slices.Reverse(rev.Signals)
	delete(people, "") // what nobody did stands among the signals
	for id, a := range people {
		a.Patients = len(patients[id])
		rev.People = append(rev.People, *a)
	}
	slices.SortFunc(rev.People, func(a, b Activity) int {
		return cmp.Or(cmp.Compare(b.Patients, a.Patients), cmp.Compare(a.Who.ID, b.Who.ID))
	})
	return nil
}

// dispositions says of each alert what came of it, also after the period.
func (rev *Report) dispositions(ctx context.Context, trail *report.Trail) error {
	alerts := map[string]int{}
	for i, s := range rev.Signals {
		if s.Type == audit.Alerted {
			alerts[s.Event] = i
		}
	}
	if len(alerts) == 0 {
		return nil
	}
	for ev, err := range trail.Events(ctx, audit.Query{Types: []audit.Type{audit.Disposed}, Since: rev.Period.Since}) {
		if err != nil {
			return err
		}
		if i, ok := alerts[ev.About]; ok && ev.Actor.ID != rev.Signals[i].About.ID { // nobody disposes of their own
			rev.Signals[i].Disposition = ev.Reason
			delete(alerts, ev.About) // the newest stands
		}
	}
	return nil
}
