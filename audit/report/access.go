// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// An AccessQuery asks who saw or changed the record of a patient of the
// reader's tenant.
type AccessQuery struct {
	Patient string // record ID; required
	Period

	// Merged are the record IDs of duplicates that were merged into the
	// patient's. One source finds them by itself; of several, each names them
	// by other pseudonyms, so that they must be given.
	Merged []string
}

// An Access is the access report of a patient.
type Access struct {
	Patient string    `json:"patient"`
	Period  Period    `json:"period"`
	Made    time.Time `json:"made"`
	Entries []Entry   `json:"entries"` // newest first
	Notes   []string  `json:"notes,omitempty"`
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
	Who       Who            `json:"who"`
	Purpose   access.Purpose `json:"purpose,omitempty"`
	Emergency bool           `json:"emergency,omitempty"` // break-glass: emergency access, 45 CFR 164.312(a)(2)(ii)
	Records   []Touched      `json:"records"`
}

// A Touched is a kind of records of the patient in one event.
type Touched struct {
	Type   string   `json:"type"`
	Fields []string `json:"fields,omitempty"`
	Count  int      `json:"count"` // records
	Denied bool     `json:"denied,omitempty"`
}

// accessTypes are the events of an access report. Disclosures have a report of
// their own, since the right to that may be suspended (45 CFR 164.528(a)(2));
// what looks into an incident is left out for the same reason.
func accessTypes() []audit.Type {
	return []audit.Type{audit.Revealed, audit.RevealFailed, audit.Fetched, audit.Searched, audit.Denied, audit.WriteAttempt,
		audit.Outside, audit.KeyRotated, audit.Sealed, audit.Shredded, audit.Merged, audit.Restored, audit.Reported}
}

// Access says who saw or changed a patient's record. The authorizer is asked
// to read "audit" of that patient, and of nobody else; a principal of kind
// patient reads that of its own ID only and a proxy that of whom it acts for
// (OnBehalf), whatever the policy says. An error wraps [access.ErrDenied],
// [audit.ErrUnavailable], [ErrNotMerged], or that of a source.
//
// It follows merges: what was done to a duplicate before it became part of the
// record is listed too.
func (r *Reporter) Access(ctx context.Context, q AccessQuery) (*Access, error) {
	a, err := r.access(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("report: access report: %w", err)
	}
	return a, nil
}

func (r *Reporter) access(ctx context.Context, q AccessQuery) (*Access, error) {
	if err := access.CheckID(q.Patient); err != nil {
		return nil, fmt.Errorf("AccessQuery.Patient %w", err)
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	p, decision, err := r.authorise(ctx, access.Read, q.Patient)
	if err != nil {
		return nil, err
	}
	if err := r.record(ctx, decision, "164.312(b)", 0, q.Patient); err != nil {
		return nil, err
	}
	self, err := r.selves(ctx, p.Tenant, q.Patient, q.Merged)
	if err != nil {
		return nil, err
	}
	out := &Access{Patient: q.Patient, Period: q.Period, Made: r.cfg.Now().UTC(), Notes: self.notes()}
	batches := map[string]int{}  // index of an entry
	attempts := map[string]int{} // likewise
	for ev, err := range r.events(ctx, func(i int) audit.Query {
		return audit.Query{Tenant: p.Tenant, Pseudonyms: self.names[i], Types: accessTypes(), Since: q.Since, Until: q.Until}
	}) {
		if err != nil {
			return nil, err
		}
		id := ev.ID
		if ev.Batch != "" {
			id = ev.Batch
		}
		at, again := batches[id]
		if !again {
			at = len(out.Entries)
			batches[id] = at
			out.Entries = append(out.Entries, r.entry(ctx, id, &ev, self.names[ev.source]))
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
	return out, r.settle(ctx, p.Tenant, attempts, func(at int, outcome string) { out.Entries[at].Outcome = outcome })
}

func (r *Reporter) entry(ctx context.Context, id string, ev *found, self []string) Entry {
	return Entry{
		Event: id, Time: ev.Time, Type: ev.Type, Outcome: string(ev.Outcome), Reason: ev.Reason,
		Who: r.whoIs(ctx, ev.Actor, self), Purpose: ev.Purpose, Emergency: ev.Purpose == access.BreakGlass,
	}
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

// settle finds how attempts ended, of those that are settled: by ID of the
// attempt, whatever set is told.
func (r *Reporter) settle(ctx context.Context, tenant string, attempts map[string]int, set func(at int, outcome string)) error {
	if len(attempts) == 0 {
		return nil
	}
	for ev, err := range r.events(ctx, func(int) audit.Query {
		return audit.Query{Tenant: tenant, Types: []audit.Type{audit.Committed, audit.RolledBack}}
	}) {
		if err != nil {
			return err
		}
		if at, ok := attempts[ev.Attempt]; ok {
			delete(attempts, ev.Attempt) // the newest is what stands
			outcome := "committed"
			if ev.Type == audit.RolledBack {
				outcome = "rolled_back"
			}
			set(at, outcome)
		}
		if len(attempts) == 0 {
			return nil
		}
	}
	return nil
}

// nothing reports whether the event neither showed nor changed anything.
func (e *Entry) nothing() bool { return e.Act == Refused || e.Outcome == "rolled_back" }

func (a *Access) document() document {
	d := document{
		Title: "Who saw this record",
		Lead:  []string{"Each time that somebody, or a program, saw, searched or changed the record, or was refused, as the audit trail has it. That this report was read is in it, too."},
		Facts: []fact{{"Record", a.Patient}, {"Period", a.Period.text(a.Made)}, {"Made", stamp(a.Made)}},
		Notes: a.Notes,
	}
	people := map[string]bool{}
	saw, refused, emergency := 0, 0, 0
	chart := newChart("Accesses over time", "accesses", "refused or without effect")
	rows := make([][]string, 0, len(a.Entries))
	for i := range a.Entries {
		e := &a.Entries[i]
		what := string(e.Act)
		if e.Emergency {
			what += " (emergency access)"
			emergency++
		}
		series := 0
		if e.nothing() {
			series, refused = 1, refused+1
		} else if saw++; e.Who.Kind != "" {
			people[string(e.Who.Kind)+e.Who.ID] = true
		}
		chart.add(e.Time, series)
		rows = append(rows, []string{stamp(e.Time), e.Who.text(), what, purposeText(e.Purpose), e.outcomeText(), recordsText(e.Records)})
	}
	d.Facts = append(d.Facts, fact{"Accesses", count(saw, "time", "times") + ", by " + count(len(people), "person or program", "persons or programs")},
		fact{"Refused or without effect", count(refused, "time", "times")}, fact{"Emergency access", count(emergency, "time", "times")})
	d.Chart = chart
	d.Tables = []table{{Caption: "Accesses, the newest first", Columns: []string{"Time (UTC)", "Who", "What", "Purpose", "Outcome", "Records and fields"}, Rows: rows,
		Empty: "The trail holds no access to this record in the period."}}
	return d
}

func (e *Entry) outcomeText() string {
	out := e.Outcome
	switch out {
	case "rolled_back":
		out = "rolled back: nothing changed"
	case "open":
		out = "not known to this trail"
	}
	if e.Reason != "" {
		out += " (" + string(e.Reason) + ")"
	}
	return out
}

func (w Who) text() string {
	if len(w.Roles) == 0 {
		return w.Name
	}
	return w.Name + " (" + strings.Join(w.Roles, ", ") + ")"
}

func recordsText(records []Touched) string {
	parts := make([]string, len(records))
	for i, t := range records {
		parts[i] = t.Type
		if len(t.Fields) > 0 {
			parts[i] += ": " + strings.Join(t.Fields, ", ")
		}
		if t.Count > 1 {
			parts[i] += fmt.Sprintf(" (%d records)", t.Count)
		}
		if t.Denied {
			parts[i] += " (refused)"
		}
	}
	return strings.Join(parts, "; ")
}
