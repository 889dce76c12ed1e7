// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// The numbers of 45 CFR 164.528.
const (
	accountedYears = 6  // (a)(1): the disclosures of six years before the request
	answerDays     = 60 // (c)(1): the time to act on a request
	extensionDays  = 30 // (c)(1)(ii): the one extension of it
	oralDays       = 30 // (a)(2)(ii)(C): an oral statement suspends no longer
	protocolSize   = 50 // (b)(4)(i): individuals from which on research may be listed by protocol
)

// A DisclosureQuery asks for the accounting of disclosures of a patient of the
// reader's tenant (45 CFR 164.528).
type DisclosureQuery struct {
	Patient   string    // record ID; required
	Merged    []string  // as in [AccessQuery]
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

// A Disclosures is an accounting of disclosures (45 CFR 164.528). What (a)(1)
// excepts is left out; so is, without a trace, what is suspended for a health
// oversight agency or law enforcement official, (a)(2).
type Disclosures struct {
	Patient   string       `json:"patient"`
	Period    Period       `json:"period"`    // of the accounting, (a)(1) and (a)(3)
	Requested time.Time    `json:"requested"` // received, as far as this report knows
	Due       time.Time    `json:"due"`       // (c)(1): 60 days after that
	Extended  time.Time    `json:"extended"`  // (c)(1)(ii): the latest, with the one extension of 30 days and a written statement of its reasons
	Made      time.Time    `json:"made"`
	Entries   []Disclosure `json:"entries"`  // oldest first
	Research  []Study      `json:"research"` // (b)(4)
	Notes     []string     `json:"notes,omitempty"`

	// Suspended are the events that are left out until the suspension ends.
	// They are for the office that answers, and in no print.
	Suspended []string `json:"-"`
}

// A Disclosure is one entry of an accounting: a disclosure, or several to one
// recipient for one purpose.
type Disclosure struct {
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
	Missing     []string        `json:"missing,omitempty"`   // of (b)(2), what the trail does not hold

	ref string // of the recipient
}

// A Protocol is what an accounting says of research on 50 or more individuals,
// 45 CFR 164.528(b)(4)(i). Every field is required.
type Protocol struct {
	Name        string `json:"name"`        // (A) of the protocol or other research activity
	Description string `json:"description"` // (B) in plain language, with its purpose and the criteria for selecting records
	PHI         string `json:"phi"`         // (C) the type of PHI that was disclosed
	Sponsor     string `json:"sponsor"`     // (E) name, address and telephone number of the entity that sponsored it
	Researcher  string `json:"researcher"`  // (E) and of the researcher who received it
}

func (p Protocol) complete() bool {
	return p.Name != "" && p.Description != "" && p.PHI != "" && p.Sponsor != "" && p.Researcher != ""
}

// A Study is the entry of a research protocol.
type Study struct {
	Protocol
	First time.Time `json:"first"` // (D) the period of the disclosures, within that of the accounting
	Last  time.Time `json:"last"`
}

// Disclosures makes the accounting of disclosures of a patient. Who may read
// it is decided as for [Reporter.Access]. Each name, address, description and
// statement that it shows is opened from sealed detail, which the trail records
// by itself.
func (r *Reporter) Disclosures(ctx context.Context, q DisclosureQuery) (*Disclosures, error) {
	d, err := r.disclosures(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("report: accounting of disclosures: %w", err)
	}
	return d, nil
}

func (r *Reporter) disclosures(ctx context.Context, q DisclosureQuery) (*Disclosures, error) {
	now := r.cfg.Now().UTC()
	if q.Requested.IsZero() {
		q.Requested = now
	}
	q.Requested = q.Requested.UTC()
	out := &Disclosures{Patient: q.Patient, Requested: q.Requested, Made: now, Due: q.Requested.AddDate(0, 0, answerDays),
		Extended: q.Requested.AddDate(0, 0, answerDays+extensionDays)}
	out.Period = Period{Since: later(q.Since.UTC(), q.Requested.AddDate(-accountedYears, 0, 0)), Until: q.Requested}
	if err := access.CheckID(q.Patient); err != nil {
		return nil, fmt.Errorf("DisclosureQuery.Patient %w", err)
	}
	if q.Requested.After(now) || !out.Period.Since.Before(q.Requested) {
		return nil, errors.New("DisclosureQuery: Since is before Requested, and Requested is not in the future")
	}
	p, decision, err := r.authorise(ctx, access.Read, q.Patient)
	if err != nil {
		return nil, err
	}
	if err := r.record(ctx, decision, "164.528", 0, q.Patient); err != nil {
		return nil, err
	}
	self, err := r.selves(ctx, p.Tenant, q.Patient, q.Merged)
	if err != nil {
		return nil, err
	}
	out.Notes = self.notes()
	// A disclosure may be recorded long after it was made: its own dates
	// decide, and so those of events are not selected by.
	var made []found
	var suspended []audit.Stored
	lines := map[string]bool{}
	for ev, err := range r.events(ctx, func(i int) audit.Query {
		return audit.Query{Tenant: p.Tenant, Pseudonyms: self.names[i], Types: []audit.Type{audit.Disclosed, audit.Suspended}}
	}) {
		if err != nil {
			return nil, err
		}
		switch id := cmp.Or(ev.Batch, ev.ID); {
		case ev.Disclosure == nil || ev.Outcome == audit.Failure || !slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return !o.Denied }):
		case ev.Type == audit.Suspended:
			suspended = append(suspended, ev.Stored)
		case !lines[id] && ev.Disclosure.Basis.Excluded() == "":
			lines[id] = true
			ev.ID = id
			made = append(made, ev)
		}
	}
	slices.Reverse(made)
	var studied []found
	for _, ev := range made {
		from, to := dates(&ev.Stored)
		switch {
		case to.Before(out.Period.Since) || !from.Before(out.Period.Until):
			continue
		case slices.ContainsFunc(suspended, func(s audit.Stored) bool { return suspends(&s, &ev.Stored, now) }):
			out.Suspended = append(out.Suspended, ev.ID)
			continue
		case ev.Disclosure.Basis == audit.ByResearch && ev.Disclosure.Protocol != "" && q.Protocol != nil:
			studied = append(studied, ev)
			continue
		}
		if err := r.disclosure(ctx, out, &ev); err != nil {
			return nil, err
		}
	}
	if err := r.research(ctx, p.Tenant, &q, out, studied); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out.Entries, func(a, b Disclosure) int { return a.Date.Compare(b.Date) })
	if !q.Itemised {
		out.Entries = group(out.Entries)
	}
	return out, nil
}

// dates returns when a disclosure was made: the first and the last of a series.
func dates(ev *audit.Stored) (from, to time.Time) {
	from, to = ev.Since, ev.Until
	if from.IsZero() {
		from = ev.Time
		if !to.IsZero() {
			from = earlier(from, to)
		}
	}
	if to.IsZero() {
		to = from
		if ev.Disclosure.Frequency != audit.Once { // a series that goes on when it is recorded
			to = later(from, ev.Time)
		}
	}
	return from, to
}

// suspends reports whether a statement of a health oversight agency or law
// enforcement official suspends the right to hear of a disclosure to them: (a)(2).
// Only for the time that a written statement names; of an oral one for 30 days.
func suspends(s, ev *audit.Stored, now time.Time) bool {
	b := s.Disclosure.Basis
	if b != audit.ByOversight && b != audit.ByLawEnforcement || b != ev.Disclosure.Basis || s.Disclosure.Recipient != ev.Disclosure.Recipient {
		return false
	}
	from, until := s.Since, s.Until
	if from.IsZero() {
		from = s.Time
	}
	if limit := from.AddDate(0, 0, oralDays); s.Reason != audit.ReasonWritten && (until.IsZero() || until.After(limit)) {
		until = limit
	}
	return !now.Before(from) && now.Before(until)
}

// disclosure adds an entry, with what its sealed detail says.
func (r *Reporter) disclosure(ctx context.Context, out *Disclosures, ev *found) error {
	from, to := dates(&ev.Stored)
	d := Disclosure{Events: []string{ev.ID}, Date: later(from, out.Period.Since), Basis: ev.Disclosure.Basis, Frequency: ev.Disclosure.Frequency,
		Number: max(ev.Count, 1), ref: ev.Disclosure.Recipient}
	if d.Number > 1 || d.Frequency != audit.Once {
		d.Last = earlier(to, out.Period.Until)
	}
	detail, err := r.detail(ctx, ev)
	if err != nil {
		return err
	}
	d.Recipient, d.Address, d.Description, d.Statement = detail.Recipient, detail.Address, detail.Description, detail.Statement
	for _, f := range []struct {
		name  string
		value *string
	}{{"recipient", &d.Recipient}, {"description", &d.Description}, {"statement", &d.Statement}} {
		if *f.value == "" {
			d.Missing = append(d.Missing, f.name)
		}
	}
	if d.Recipient == "" {
		d.Recipient = d.ref
	}
	out.Entries = append(out.Entries, d)
	return nil
}

// detail opens the sealed detail of an event; empty where there is none any
// more, or none of the sources that hold the event opens it.
func (r *Reporter) detail(ctx context.Context, ev *found) (audit.Detail, error) {
	s, ok := r.cfg.Sources[ev.source].(audit.Details)
	if !ok || ev.Detail == "" {
		return audit.Detail{}, nil
	}
	d, err := s.Detail(ctx, ev.ID)
	if errors.Is(err, audit.ErrNoDetail) || errors.Is(err, audit.ErrErased) {
		return audit.Detail{}, nil
	}
	return d, err
}

// research lists disclosures by protocol where 50 or more individuals were
// concerned and the protocol is described, (b)(4), and the others one by one.
func (r *Reporter) research(ctx context.Context, tenant string, q *DisclosureQuery, out *Disclosures, events []found) error {
	if len(events) == 0 {
		return nil
	}
	sizes, err := r.sizes(ctx, tenant, out.Period)
	if err != nil {
		return err
	}
	studies := map[string]int{} // index in out.Research; -1 for one by one
	for _, ev := range events {
		id := ev.Disclosure.Protocol
		at, known := studies[id]
		if !known {
			at = -1
			if sizes[id] >= protocolSize {
				p, err := q.Protocol(ctx, id)
				if err != nil {
					return fmt.Errorf("DisclosureQuery.Protocol: %w", err)
				}
				if p.complete() {
					from, _ := dates(&ev.Stored)
					at = len(out.Research)
					out.Research = append(out.Research, Study{Protocol: p, First: later(from, out.Period.Since)})
				}
			}
			studies[id] = at
		}
		if at < 0 {
			if err := r.disclosure(ctx, out, &ev); err != nil {
				return err
			}
			continue
		}
		from, to := dates(&ev.Stored)
		s := &out.Research[at]
		s.First, s.Last = earlier(s.First, later(from, out.Period.Since)), later(s.Last, earlier(to, out.Period.Until))
	}
	return nil
}

// sizes counts the individuals of each protocol in a period. One whom two
// journals name by different pseudonyms must not make 49 into 50, so that of
// several sources the largest count is taken.
func (r *Reporter) sizes(ctx context.Context, tenant string, in Period) (map[string]int, error) {
	type key struct {
		protocol string
		source   int
	}
	people := map[key]map[string]bool{}
	for ev, err := range r.events(ctx, func(int) audit.Query { return audit.Query{Tenant: tenant, Types: []audit.Type{audit.Disclosed}} }) {
		if err != nil {
			return nil, err
		}
		if ev.Disclosure == nil || ev.Disclosure.Protocol == "" || ev.Outcome == audit.Failure {
			continue
		}
		if from, to := dates(&ev.Stored); to.Before(in.Since) || !from.Before(in.Until) {
			continue
		}
		k := key{ev.Disclosure.Protocol, ev.source}
		if people[k] == nil {
			people[k] = map[string]bool{}
		}
		for _, o := range ev.Objects {
			if o.Patient != "" && !o.Denied {
				people[k][o.Patient] = true
			}
		}
	}
	sizes := map[string]int{}
	for k, ids := range people {
		sizes[k.protocol] = max(sizes[k.protocol], len(ids))
	}
	return sizes, nil
}

// group lists the disclosures to one recipient for a single purpose together,
// (b)(3): the first in full, their number, and the date of the last. The
// provision covers 164.512; a disclosure that nothing permitted stands by
// itself, and so does one whose purpose the trail does not hold.
func group(entries []Disclosure) []Disclosure {
	type key struct {
		recipient string
		basis     audit.Basis
		statement string
	}
	first := map[key]int{}
	var out []Disclosure
	for _, e := range entries {
		k := key{e.ref, e.Basis, e.Statement}
		at, ok := first[k]
		if !ok || e.Basis == audit.Unpermitted || e.Statement == "" {
			if !ok {
				first[k] = len(out)
			}
			out = append(out, e)
			continue
		}
		g := &out[at]
		g.Events = append(g.Events, e.Events...)
		g.Number += e.Number
		g.Last = later(g.Last, later(e.Date, e.Last))
		if g.Frequency != e.Frequency {
			g.Frequency = audit.Once
		}
	}
	return out
}

func (d *Disclosures) document() document {
	doc := document{
		Title: "Accounting of disclosures",
		Lead:  []string{"To whom the record, or a part of it, was disclosed, as 45 CFR 164.528 requires it to be accounted for. What paragraph (a)(1) of it excepts is not listed, such as disclosures for treatment, payment and health care operations, to the individual, and by authorization."},
		Facts: []fact{{"Record", d.Patient}, {"Period", d.Period.text(d.Made)}, {"Requested", day(d.Requested)},
			{"To be answered by", day(d.Due) + ", or with the one extension and a written statement of its reasons by " + day(d.Extended)}, {"Made", stamp(d.Made)}},
		Notes: append(slices.Clone(d.Notes), "The first accounting in any 12 months is free of charge, 45 CFR 164.528(c)(2)."),
	}
	list := table{Caption: "Disclosures, the oldest first", Columns: []string{"Date (UTC)", "To whom", "Address", "What", "Purpose", "How often", "Last"},
		Empty: "No disclosure that must be accounted for was made in the period."}
	for _, e := range d.Entries {
		often, last := count(e.Number, "time", "times"), ""
		if e.Frequency != audit.Once {
			often = string(e.Frequency)
			if e.Number > 1 {
				often += ", " + count(e.Number, "time", "times")
			}
		}
		if !e.Last.IsZero() {
			last = day(e.Last)
		}
		text := func(field, value string) string {
			if slices.Contains(e.Missing, field) {
				return strings.TrimSpace(value + " (not held any more)")
			}
			return value
		}
		list.Rows = append(list.Rows, []string{day(e.Date), text("recipient", e.Recipient), e.Address, text("description", e.Description), text("statement", e.Statement), often, last})
	}
	doc.Tables = append(doc.Tables, list)
	if len(d.Research) > 0 {
		t := table{Caption: "Research on 50 or more individuals", Columns: []string{"Protocol", "Description", "Type of PHI", "From", "To", "Sponsor", "Researcher"}}
		for _, s := range d.Research {
			t.Rows = append(t.Rows, []string{s.Name, s.Description, s.PHI, day(s.First), day(s.Last), s.Sponsor, s.Researcher})
		}
		doc.Tables = append(doc.Tables, t)
		doc.Notes = append(doc.Notes, "For these protocols, the PHI of the individual may or may not have been disclosed, 45 CFR 164.528(b)(4)(i)(F). On request, the individual is helped to reach the sponsor and the researcher, (b)(4)(ii).")
	}
	return doc
}
