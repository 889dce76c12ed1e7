// SPDX-License-Identifier: Apache-2.0

package accesses

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

// A Query asks who saw or changed the record of a patient of the reader's
// tenant.
type Query struct {
	Patient string // record ID; required
	Grant   string // ID: only what would have been denied without this grant; empty means everything
	report.Period
}

// A Report says who saw or changed a patient's record.
type Report struct {
	Patient string        `json:"patient"`
	Period  report.Period `json:"period"`
	Made    time.Time     `json:"made"`
	Entries []Entry       `json:"entries"` // newest first
	Notes   []string      `json:"notes,omitempty"`
}

// An Act is what was done to a record, in a word.
type Act string

// The acts.
const (
	Saw        Act = "saw"        // sealed PHI was opened, or clear PHI read
	Found      Act = "found"      // a search hit the record
	Changed    Act = "changed"    // it was written, or destroyed: see Entry.Outcome
	Maintained Act = "maintained" // a job worked on it and showed it to nobody
	Read       Act = "read trail" // this report, or another one about the patient
	Refused    Act = "refused"    // nothing was shown or changed
)

// An Entry is one line of an access report: one event, also where the trail
// needed several lines for it.
type Entry struct {
	Event     string         `json:"event"` // event ID: auditctl prove proves it
	Time      time.Time      `json:"time"`
	Act       Act            `json:"act"`
	Type      audit.Type     `json:"type"`
	Outcome   string         `json:"outcome"` // success, partial or failure; of a write committed, rolled_back or open
	Reason    audit.Reason   `json:"reason,omitempty"`
	Who       report.Who     `json:"who"`
	Purpose   access.Purpose `json:"purpose,omitempty"`
	Emergency bool           `json:"emergency,omitempty"` // break-glass: emergency access, 45 CFR 164.312(a)(2)(ii)
	Grant     string         `json:"grant,omitempty"`     // ID of the grant without which it would have been denied
	Records   []Touched      `json:"records"`
}

// A Touched is a kind of records of the patient in one event.
type Touched struct {
	Type   string   `json:"type"`
	Fields []string `json:"fields,omitempty"`
	Count  int      `json:"count"` // records
	Denied bool     `json:"denied,omitempty"`
}

// types are the events of the report. Disclosures have a report of their own,
// since the right to that may be suspended (45 CFR 164.528(a)(2)); what looks
// into an incident is left out for the same reason.
func types() []audit.Type {
	return []audit.Type{audit.Revealed, audit.RevealFailed, audit.Fetched, audit.Searched, audit.Denied, audit.WriteAttempt,
		audit.Outside, audit.KeyRotated, audit.Sealed, audit.Shredded, audit.Merged, audit.Restored, audit.Reported}
}

// Of says who saw or changed a patient's record. The authorizer is asked to
// read "audit" of that patient, and of nobody else; see [report.Reporter.Open],
// also for errors. It follows merges: what was done to a duplicate before it
// became part of the record is listed too.
func Of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	out, err := of(ctx, r, q)
	if err != nil {
		return nil, fmt.Errorf("accesses: report: %w", err)
	}
	return out, nil
}

func of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	if err := access.CheckID(q.Patient); err != nil {
		return nil, fmt.Errorf("Query.Patient %w", err)
	}
	if err := q.Validate(); err != nil {
		return nil, fmt.Errorf("Query.%w", err)
	}
	trail, err := r.Open(ctx, report.Reading{Citation: "164.312(b)", Patient: q.Patient})
	if err != nil {
		return nil, err
	}
	out := &Report{Patient: q.Patient, Period: q.Period, Made: r.Now(), Notes: trail.Notes()}
	shared, err := sharing(ctx, trail, q)
	if err != nil {
		return nil, err
	}
	entries := map[string]int{} // index, by event
	attempts := map[string]int{}
	for ev, err := range trail.About(ctx, audit.Query{Types: types(), Since: q.Since, Until: q.Until}) {
		if err != nil {
			return nil, err
		}
		id := cmp.Or(ev.Batch, ev.ID)
		if shared[id] {
			ev.Grant = q.Grant
		}
		if q.Grant != "" && ev.Grant != q.Grant {
			continue
		}
		at, again := entries[id]
		if !again {
			at = len(out.Entries)
			entries[id] = at
			out.Entries = append(out.Entries, Entry{
				Event: id, Time: ev.Time, Type: ev.Type, Outcome: string(ev.Outcome), Reason: ev.Reason,
				Who: trail.Who(ctx, ev.Actor), Purpose: ev.Purpose, Emergency: ev.Purpose.Emergency(), Grant: ev.Grant,
			})
		}
		e := &out.Entries[at]
		e.touch(ev.Objects)
		if ev.Type == audit.WriteAttempt {
			e.Outcome, attempts[id] = "open", at
		}
	}
	for i := range out.Entries {
		out.Entries[i].classify()
	}
	return out, out.settle(ctx, trail, attempts)
}

// sharing returns the events that rest on the grant and on others: they name each
// as an object, which is about no patient.
func sharing(ctx context.Context, trail *report.Trail, q Query) (map[string]bool, error) {
	if q.Grant == "" {
		return nil, nil
	}
	out, names := map[string]bool{}, trail.Pseudonyms(q.Grant)
	for ev, err := range trail.Events(ctx, audit.Query{Types: types(), Since: q.Since, Until: q.Until}) {
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Type == "grant" && slices.Contains(names, o.Record) }) {
			out[cmp.Or(ev.Batch, ev.ID)] = true
		}
	}
	return out, nil
}

// touch counts records of the patient by kind and fields.
func (e *Entry) touch(objects []audit.Object) {
	for _, o := range objects {
		same := func(t Touched) bool {
			return t.Type == o.Type && t.Denied == o.Denied && slices.Equal(t.Fields, o.Fields)
		}
		if i := slices.IndexFunc(e.Records, same); i >= 0 {
			e.Records[i].Count++
			continue
		}
		e.Records = append(e.Records, Touched{Type: o.Type, Fields: o.Fields, Count: 1, Denied: o.Denied})
	}
}

// classify says in a word what the event did to this patient.
func (e *Entry) classify() {
	denied := !slices.ContainsFunc(e.Records, func(t Touched) bool { return !t.Denied })
	switch e.Type {
	case audit.Revealed, audit.Fetched:
		e.Act = Saw
	case audit.Searched:
		e.Act = Found
	case audit.WriteAttempt, audit.Shredded, audit.Outside:
		e.Act = Changed
	case audit.Reported:
		e.Act = Read
	default:
		e.Act = Maintained
	}
	if denied || e.Outcome == string(audit.Failure) || e.Type == audit.Denied || e.Type == audit.RevealFailed {
		e.Act = Refused
	}
}

// settle finds how attempts ended, by event ID, of those that are settled.
func (r *Report) settle(ctx context.Context, trail *report.Trail, attempts map[string]int) error {
	if len(attempts) == 0 {
		return nil
	}
	for ev, err := range trail.Events(ctx, audit.Query{Types: []audit.Type{audit.Committed, audit.RolledBack}}) {
		if err != nil {
			return err
		}
		at, ok := attempts[ev.Attempt]
		if !ok {
			continue
		}
		delete(attempts, ev.Attempt) // the newest is what stands
		if r.Entries[at].Outcome = "committed"; ev.Type == audit.RolledBack {
			r.Entries[at].Outcome = "rolled_back"
		}
		if len(attempts) == 0 {
			return nil
		}
	}
	return nil
}

// nothing reports whether the event neither showed nor changed anything.
func (e *Entry) nothing() bool { return e.Act == Refused || e.Outcome == "rolled_back" }
