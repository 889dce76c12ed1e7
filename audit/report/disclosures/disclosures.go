// SPDX-License-Identifier: Apache-2.0

package disclosures

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
)

// The numbers of 45 CFR 164.528.
const (
	accountedYears = 6  // (a)(1): the disclosures of six years before the request
	answerDays     = 60 // (c)(1): the time to act on a request
	extensionDays  = 30 // (c)(1)(ii): the one extension of it
	oralDays       = 30 // (a)(2)(ii)(C): an oral statement suspends no longer
	protocolSize   = 50 // (b)(4)(i): individuals from which on research may be listed by protocol
)

// A Query asks for the accounting of disclosures of a patient of the
// reader's tenant (45 CFR 164.528).
type Query struct {
	Patient   string    // record ID; required
	Requested time.Time // when the individual asked; zero means now
	Since     time.Time // the individual asks for less than six years, (a)(3); zero, and what is longer ago, mean six years

	// Itemised lists every disclosure by itself. Otherwise those to one
	// recipient for one purpose are listed together, (b)(3).
	Itemised bool

	// Protocol describes a research protocol, so that research on 50 or more
	// individuals is listed by protocol, (b)(4). Nil, and a Protocol with an
	// empty field, list each disclosure for research by itself.
	Protocol func(ctx context.Context, id string) (Protocol, error)
}

// A Report is an accounting of disclosures (45 CFR 164.528). What (a)(1)
// excepts is left out; so is, without a trace, what is suspended for a health
// oversight agency or law enforcement official, (a)(2).
type Report struct {
	Patient   string        `json:"patient"`
	Period    report.Period `json:"period"`    // of the accounting, (a)(1) and (a)(3)
	Requested time.Time     `json:"requested"` // received, as far as this report knows
	Due       time.Time     `json:"due"`       // (c)(1): 60 days after that
	Extended  time.Time     `json:"extended"`  // (c)(1)(ii): the latest, with the one extension of 30 days and a written statement of its reasons
	Made      time.Time     `json:"made"`
	Entries   []Entry       `json:"entries"`  // oldest first
	Research  []Study       `json:"research"` // (b)(4)
	Notes     []string      `json:"notes,omitempty"`

	// Suspended are the events that are left out until the suspension ends.
	// They are for the office that answers, and in no print.
	Suspended []string `json:"-"`
}

// An Entry is one line of an accounting: a disclosure, or several to one
// recipient for one purpose.
type Entry struct {
	Events      []string        `json:"events"` // event IDs, oldest first
	Date        time.Time       `json:"date"`   // (b)(2)(i); of several the first in the period
	Recipient   string          `json:"recipient"`
	Address     string          `json:"address,omitempty"` // where known
	Description string          `json:"description"`
	Statement   string          `json:"statement"` // of the purpose, or a copy of the written request
	Basis       audit.Basis     `json:"basis"`
	Number      int             `json:"number"`              // (b)(3)(ii)
	Frequency   audit.Frequency `json:"frequency,omitempty"` // (b)(3)(ii), of a series
	Last        time.Time       `json:"last,omitzero"`       // (b)(3)(iii), where there are several
	Missing     []string        `json:"missing,omitempty"`   // of (b)(2): what the trail does not hold, or holds sealed
	Sealed      bool            `json:"sealed,omitempty"`    // it holds it sealed, and this source opens nothing: read the journal itself

	ref string // of the recipient
}

// Of makes the accounting of disclosures of a patient. Who may read it, and the
// errors, are those of [report.Reporter.Open]. Each name, address, description
// and statement that it shows is opened from sealed detail, which the trail
// records by itself.
func Of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	out, err := of(ctx, r, q)
	if err != nil {
		return nil, fmt.Errorf("disclosures: report: %w", err)
	}
	return out, nil
}

func of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	out, err := q.begin(r.Now())
	if err != nil {
		return nil, err
	}
	trail, err := r.Open(ctx, report.Reading{Citation: "164.528", Patient: q.Patient})
	if err != nil {
		return nil, err
	}
	out.Notes = trail.Notes()
	made, suspensions, err := read(ctx, trail)
	if err != nil {
		return nil, err
	}
	var studied []report.Event
	for _, ev := range made {
		from, to := dates(&ev)
		switch {
		case to.Before(out.Period.Since) || !from.Before(out.Period.Until):
			continue
		case suspended(suspensions, &ev, out.Made):
			out.Suspended = append(out.Suspended, ev.ID)
			continue
		case ev.Disclosure.Basis == audit.ByResearch && ev.Disclosure.Protocol != "" && q.Protocol != nil:
			studied = append(studied, ev)
			continue
		}
		if err := out.add(ctx, trail, &ev); err != nil {
			return nil, err
		}
	}
	if err := out.research(ctx, trail, &q, studied); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out.Entries, func(a, b Entry) int { return a.Date.Compare(b.Date) })
	if !q.Itemised {
		out.Entries = group(out.Entries)
	}
	return out, nil
}

// begin checks the question and sets the dates of the answer.
func (q *Query) begin(now time.Time) (*Report, error) {
	asked := q.Requested.UTC()
	if asked.IsZero() {
		asked = now
	}
	since := later(q.Since.UTC(), asked.AddDate(-accountedYears, 0, 0))
	if err := access.CheckID(q.Patient); err != nil {
		return nil, fmt.Errorf("Query.Patient %w", err)
	}
	if asked.After(now) || !since.Before(asked) {
		return nil, errors.New("Query: Since is before Requested, and Requested is not in the future")
	}
	return &Report{Patient: q.Patient, Requested: asked, Made: now, Period: report.Period{Since: since, Until: asked},
		Due: asked.AddDate(0, 0, answerDays), Extended: asked.AddDate(0, 0, answerDays+extensionDays)}, nil
}

// read returns the disclosures that must be accounted for and what suspends
// some, oldest first. A disclosure may be recorded long after it was made: its
// own dates decide, so that those of events are not selected by.
func read(ctx context.Context, trail *report.Trail) (made, suspensions []report.Event, err error) {
	lines := map[string]bool{}
	for ev, err := range trail.About(ctx, audit.Query{Types: []audit.Type{audit.Disclosed, audit.Suspended}}) {
		if err != nil {
			return nil, nil, err
		}
		ev.ID = cmp.Or(ev.Batch, ev.ID)
		switch {
		case lines[ev.ID] || ev.Disclosure == nil || ev.Outcome == audit.Failure || !slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return !o.Denied }):
			continue
		case ev.Type == audit.Suspended:
			suspensions = append(suspensions, ev)
		case ev.Disclosure.Basis.Excluded() == "":
			made = append(made, ev)
		}
		lines[ev.ID] = true
	}
	slices.Reverse(made)
	slices.Reverse(suspensions)
	return made, suspensions, nil
}

// add adds an entry, with what its sealed detail says.
func (d *Report) add(ctx context.Context, trail *report.Trail, ev *report.Event) error {
	from, to := dates(ev)
	e := Entry{Events: []string{ev.ID}, Date: later(from, d.Period.Since), Basis: ev.Disclosure.Basis, Frequency: ev.Disclosure.Frequency,
		Number: max(ev.Count, 1), ref: ev.Disclosure.Recipient}
	if e.Number > 1 || e.Frequency != audit.Once {
		e.Last = earlier(to, d.Period.Until)
	}
	detail, err := trail.Detail(ctx, ev)
	switch {
	case errors.Is(err, report.ErrSealed):
		e.Sealed = true
	case err != nil:
		return err
	}
	e.Recipient, e.Address, e.Description, e.Statement = detail.Recipient, detail.Address, detail.Description, detail.Statement
	for _, f := range []struct{ name, value string }{{"recipient", e.Recipient}, {"description", e.Description}, {"statement", e.Statement}} {
		if f.value == "" {
			e.Missing = append(e.Missing, f.name)
		}
	}
	e.Recipient = cmp.Or(e.Recipient, e.ref)
	d.Entries = append(d.Entries, e)
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
