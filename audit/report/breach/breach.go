// SPDX-License-Identifier: Apache-2.0

package breach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/document"
)

// A Report is what the trail knows of an incident. It is no assessment of
// risk, and no conclusion about what the law requires (45 CFR 164.402).
type Report struct {
	Incident string        `json:"incident"` // in words
	Period   report.Period `json:"period"`
	Made     time.Time     `json:"made"`
	Affected []Affected    `json:"affected"` // by tenant, State and ID
	Groups   []Group       `json:"groups"`   // by tenant, and within it by State
	Refused  int           `json:"refused"`  // events in which nothing was shown
	Outside  int           `json:"outside"`  // statements that storage did not build: the trail cannot say what they read
	Notes    []string      `json:"notes,omitempty"`
	chart    *document.Chart
}

// An Affected is a patient whose PHI the incident has reached.
type Affected struct {
	Tenant    string    `json:"tenant"`
	Patient   string    `json:"patient"`            // record ID, or pseudonym
	Pseudonym bool      `json:"pseudonym,omitzero"` // Patient is one
	State     string    `json:"state,omitempty"`
	Fields    []Exposed `json:"fields"`
	Unsecured bool      `json:"unsecured"` // at least one of Fields is not secured
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Events    []string  `json:"events"` // event IDs: auditctl prove proves them
}

// An Exposed is a field of a kind of records, and how the incident reached it.
type Exposed struct {
	Type    string `json:"type"`
	Field   string `json:"field"` // empty where the event names none
	How     How    `json:"how"`
	Secured bool   `json:"secured"` // sealed, and the key was not lost: 45 CFR 164.402, unsecured protected health information
}

// How says how a field was reached.
type How string

// The ways.
const (
	HowRevealed  How = "revealed"  // sealed PHI was opened
	HowFetched   How = "fetched"   // clear PHI was returned
	HowSearched  How = "searched"  // a search matched it
	HowWritten   How = "written"   // it was written
	HowDisclosed How = "disclosed" // it was sent to somebody else
	HowStored    How = "stored"    // it is in the stored data that was lost
)

// Of says whose PHI an incident has reached, by the trail. The authorizer is
// asked to read "audit" of each tenant as a whole: see [report.Reporter.Open],
// also for errors. The patients whom the report names are recorded before it is
// returned, so that it stands in their access reports. What was shown to a
// person counts as unsecured; of a lost copy, what is sealed counts as secured
// unless its key was lost too, and clear columns and search tokens never do.
func Of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	out, err := of(ctx, r, q)
	if err != nil {
		return nil, fmt.Errorf("breach: report: %w", err)
	}
	return out, nil
}

func of(ctx context.Context, r *report.Reporter, q Query) (*Report, error) {
	if err := q.validate(); err != nil {
		return nil, err
	}
	out := &Report{Incident: q.incident(), Period: q.Period, Made: r.Now(), chart: document.NewChart("Events over time", "reached PHI", "refused")}
	for _, tenant := range slices.Compact(slices.Sorted(slices.Values(q.Tenants))) {
		trail, err := r.Open(ctx, report.Reading{Citation: "164.402", Tenant: tenant})
		if err != nil {
			return nil, err
		}
		affected, err := out.reached(ctx, trail, &q)
		if err != nil {
			return nil, err
		}
		var named []string
		for _, a := range affected {
			if !a.Pseudonym {
				named = append(named, a.Patient)
			}
		}
		if len(named) > 0 {
			if err := trail.Name(ctx, named...); err != nil {
				return nil, err
			}
		}
		out.Affected = append(out.Affected, affected...)
		out.Groups = append(out.Groups, groups(tenant, affected, q.State != nil)...)
	}
	slices.SortFunc(out.Affected, func(a, b Affected) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.State, b.State), cmp.Compare(a.Patient, b.Patient))
	})
	out.note(&q)
	return out, nil
}

// reached finds the patients of a tenant.
func (b *Report) reached(ctx context.Context, trail *report.Trail, q *Query) ([]Affected, error) {
	names, err := q.names(ctx, trail)
	if err != nil {
		return nil, err
	}
	undone := map[string]bool{} // attempts that were rolled back: nothing came of them
	for ev, err := range trail.Events(ctx, audit.Query{Types: []audit.Type{audit.RolledBack}}) {
		if err != nil {
			return nil, err
		}
		undone[ev.Attempt] = true
	}
	query := q.events()
	if q.Patient != "" {
		if query.Pseudonyms = names.all(trail, q.Patient); len(query.Pseudonyms) == 0 { // which would select everybody
			return nil, errors.New("Query.Patient: no source can tell what stands for it")
		}
	}
	people := map[string]*person{}
	for ev, err := range trail.Events(ctx, query) {
		if err != nil {
			return nil, err
		}
		if q.Session != "" && ev.Actor.Session != q.Session {
			continue
		}
		id := cmp.Or(ev.Batch, ev.ID)
		how, counted := q.how(&ev.Stored)
		switch {
		case ev.Type == audit.Outside && q.Loss == "":
			b.Outside++
		case !counted && q.Loss == "":
			b.Refused++
			b.chart.Add(ev.Time, 1)
		case !counted, undone[id]:
		default:
			if touch(people, names, &ev, id, how, q) {
				b.chart.Add(ev.Time, 0)
			}
		}
	}
	affected := make([]Affected, 0, len(people))
	for _, p := range people {
		a := p.affected(trail.Tenant())
		if q.State != nil && !a.Pseudonym {
			if a.State, err = q.State(ctx, trail.Tenant(), a.Patient); err != nil {
				return nil, fmt.Errorf("Query.State: %w", err)
			}
		}
		affected = append(affected, a)
	}
	return affected, nil
}

// A person is a patient, and what was reached of them.
type person struct {
	Affected
	fields map[Exposed]bool
}

// touch notes whom an event reached, and reports whether it reached anybody.
func touch(people map[string]*person, names *names, ev *report.Event, id string, how How, q *Query) (reached bool) {
	for _, o := range ev.Objects {
		if o.Patient == "" || o.Denied {
			continue
		}
		reached = true
		name, named := names.of(o.Patient)
		p := people[name]
		if p == nil {
			p = &person{Affected{Patient: name, Pseudonym: !named, First: ev.Time, Last: ev.Time}, map[Exposed]bool{}}
			people[name] = p
		}
		if ev.Time.Before(p.First) {
			p.First = ev.Time
		}
		if ev.Time.After(p.Last) {
			p.Last = ev.Time
		}
		if len(p.Events) == 0 || p.Events[len(p.Events)-1] != id {
			p.Events = append(p.Events, id)
		}
		for _, f := range append(slices.Clip(o.Fields), "")[:max(len(o.Fields), 1)] {
			p.fields[Exposed{o.Type, f, how, q.secured(o.Type, f)}] = true
		}
	}
	return reached
}

func (p *person) affected(tenant string) Affected {
	a := p.Affected
	a.Tenant = tenant
	a.Fields = slices.SortedFunc(maps.Keys(p.fields), func(x, y Exposed) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Field, y.Field), cmp.Compare(x.How, y.How))
	})
	a.Unsecured = slices.ContainsFunc(a.Fields, func(e Exposed) bool { return !e.Secured })
	return a
}

func (b *Report) note(q *Query) {
	unresolved, writers := 0, map[string]bool{}
	for _, a := range b.Affected {
		if a.Pseudonym {
			unresolved++
			for _, id := range a.Events {
				writer, _, _ := strings.Cut(id, ".")
				writers[writer] = true
			}
		}
	}
	b.Notes = append(b.Notes, "These are facts of the audit trail and numbers that the rule names. Whether there was a breach, and who must be told, is for people to decide (45 CFR 164.402, 164.404 to 164.414).")
	if unresolved > 0 {
		note := document.Count(unresolved, "individual stands", "individuals stand") + " here by pseudonym, since no record ID was given for it."
		if len(writers) > 1 {
			note += " Who stands in several writers' journals is counted in each, so that the numbers are the most there can be."
		}
		b.Notes = append(b.Notes, note)
	}
	if b.Outside > 0 {
		b.Notes = append(b.Notes, document.Count(b.Outside, "statement was", "statements were")+" run that storage did not build. The trail cannot say whose PHI they reached.")
	}
	if q.Loss != "" {
		b.Notes = append(b.Notes, "Who is stored is taken from the trail: what was stored before it began, and never seen or changed since, is not here. Destroyed keys are not taken into account: the copy may be older than their destruction.")
		if q.Form == nil {
			b.Notes = append(b.Notes, "How the fields are stored is not known here, so that every one is counted as not secured.")
		}
	}
}
