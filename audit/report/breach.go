// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A BreachQuery asks whose PHI an incident has reached. Exactly one of Actor,
// Session and Loss says what the incident is.
type BreachQuery struct {
	Tenants []string // the covered entities concerned; required, and the reader must be allowed each

	Actor   string // what this principal did, by ID
	Session string // what was done in this sign-in
	Loss    Loss   // what was stored, and somebody has a copy of
	Patient string // the patient whose key is lost; required for LostPatientKey, and for no other

	// Period is when the principal acted. Of a Loss only Until counts: what was
	// stored by then.
	Period

	// Form says how a field is stored. Nil, and FormUnknown, count as clear.
	// Only a Loss asks: what a person was shown was not sealed to them.
	Form func(resource, field string) Form

	// Patients yields the record IDs of a tenant's patients, so that the
	// report can name them, look up their State, and count one who stands in
	// two writers' journals once. Nil leaves pseudonyms.
	Patients func(ctx context.Context, tenant string) iter.Seq2[string, error]

	// State returns the State or jurisdiction in which a patient resides; an
	// empty answer means unknown. Nil asks nobody. It is asked for patients
	// that Patients yields.
	State func(ctx context.Context, tenant, patient string) (string, error)
}

// A Loss is what somebody has who should not. The zero Loss is none: the
// incident is what a person did.
type Loss string

// The losses. Whoever has a key is taken to have the stored data, too.
const (
	LostCopy       Loss = "copy"        // the stored data, without a key: a stolen disk or backup
	LostKEK        Loss = "kek"         // and the key that wraps all others
	LostTenantKey  Loss = "tenant.key"  // and the tenants' keys
	LostPatientKey Loss = "patient.key" // and the key of one patient
)

// A Form is how a field is stored.
type Form int

// The forms.
const (
	FormUnknown    Form = iota // counted as clear
	FormClear                  // in clear, to sort by
	FormSearchable             // sealed, with search tokens beside it: they tell equal values from others
	FormSealed                 // sealed, and nothing beside it
)

// A Breach is what the trail knows of an incident. It is no assessment of
// risk, and no conclusion about what the law requires (45 CFR 164.402).
type Breach struct {
	Incident string     `json:"incident"` // in words
	Period   Period     `json:"period"`
	Made     time.Time  `json:"made"`
	Affected []Affected `json:"affected"` // by tenant, State and ID
	Groups   []Group    `json:"groups"`   // by tenant, and within it by State
	Refused  int        `json:"refused"`  // events in which nothing was shown
	Outside  int        `json:"outside"`  // statements that storage did not build: the trail cannot say what they read
	Notes    []string   `json:"notes,omitempty"`
	chart    *chart
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

// A Group counts individuals of one tenant, or of one State of it.
type Group struct {
	Tenant      string      `json:"tenant"`
	State       string      `json:"state,omitempty"` // empty in the group of the whole tenant
	Individuals int         `json:"individuals"`
	Unsecured   int         `json:"unsecured"` // of them, those with unsecured PHI
	Thresholds  []Threshold `json:"thresholds,omitempty"`
}

// A Threshold is a number that the rule names, beside the group's own.
type Threshold struct {
	Citation string `json:"citation"`
	Says     string `json:"says"`
	Met      bool   `json:"met"` // by Group.Unsecured
}

// thresholds states those of 45 CFR 164.404 to 164.408 that a count alone
// decides: more than 500 residents of a State (164.406), 500 or more
// individuals (164.408).
func (g *Group) thresholds() []Threshold {
	if g.State != "" {
		return []Threshold{{"164.406(a)", "more than 500 residents of a State or jurisdiction: notice to the media", g.Unsecured > 500}}
	}
	return []Threshold{
		{"164.404(a)", "each individual whose unsecured PHI was, or is reasonably believed to have been, reached: notice to the individual", g.Unsecured > 0},
		{"164.408(b)", "500 or more individuals: notice to the Secretary at the same time", g.Unsecured >= 500},
		{"164.408(c)", "fewer than 500 individuals: notice to the Secretary after the end of the calendar year", g.Unsecured > 0 && g.Unsecured < 500},
	}
}

func (q *BreachQuery) validate() error {
	named := 0
	for _, set := range []bool{q.Actor != "", q.Session != "", q.Loss != ""} {
		if set {
			named++
		}
	}
	switch {
	case len(q.Tenants) == 0:
		return errors.New("BreachQuery.Tenants is empty")
	case named != 1:
		return errors.New("BreachQuery: exactly one of Actor, Session and Loss says what the incident is")
	case !slices.Contains([]Loss{"", LostCopy, LostKEK, LostTenantKey, LostPatientKey}, q.Loss):
		return errors.New("BreachQuery.Loss is not one of the constants of package report")
	case (q.Loss == LostPatientKey) != (q.Patient != ""):
		return errors.New("BreachQuery.Patient is required for the loss of a patient's key, and for no other")
	case q.State != nil && q.Patients == nil:
		return errors.New("BreachQuery.State needs Patients: a trail names patients by pseudonyms")
	}
	for i, t := range q.Tenants {
		if err := access.CheckID(t); err != nil {
			return fmt.Errorf("BreachQuery.Tenants[%d] %w", i, err)
		}
	}
	return q.check()
}

// Breach says whose PHI an incident has reached, by the trail. The authorizer
// is asked to read "audit" of each tenant as a whole. What was shown to a
// person counts as unsecured; of a lost copy, what is sealed counts as secured
// unless its key was lost too, and clear columns and search tokens never do.
func (r *Reporter) Breach(ctx context.Context, q BreachQuery) (*Breach, error) {
	b, err := r.breach(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("report: breach: %w", err)
	}
	return b, nil
}

func (r *Reporter) breach(ctx context.Context, q BreachQuery) (*Breach, error) {
	if err := q.validate(); err != nil {
		return nil, err
	}
	s, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	out := &Breach{Incident: q.incident(), Period: q.Period, Made: r.cfg.Now().UTC(), chart: newChart("Events over time", "reached PHI", "refused")}
	q.Tenants = slices.Compact(slices.Sorted(slices.Values(q.Tenants)))
	for _, tenant := range q.Tenants {
		_, decision, err := r.authoriseIn(ctx, s.Principal(), tenant, access.Read, "")
		if err != nil {
			return nil, err
		}
		affected, err := r.reached(ctx, tenant, &q, out)
		if err != nil {
			return nil, err
		}
		if err := r.recordBreach(ctx, tenant, decision, affected); err != nil {
			return nil, err
		}
		out.Affected = append(out.Affected, affected...)
		out.Groups = append(out.Groups, groups(tenant, affected, q.State != nil)...)
	}
	slices.SortFunc(out.Affected, func(a, b Affected) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.State, b.State), cmp.Compare(a.Patient, b.Patient))
	})
	out.note(&q, len(r.cfg.Sources))
	return out, nil
}

// recordBreach records the reading with every patient whom the report names.
func (r *Reporter) recordBreach(ctx context.Context, tenant, decision string, affected []Affected) error {
	ev := audit.Event{Type: audit.Reported, Outcome: audit.Success, Action: access.Read, Decision: decision, Citation: "164.402", Count: len(affected),
		Objects: []audit.Object{{Type: resource, Tenant: tenant}}}
	for _, a := range affected {
		if !a.Pseudonym {
			ev.Objects = append(ev.Objects, audit.Object{Type: resource, Tenant: tenant, Record: a.Patient, Patient: a.Patient})
		}
	}
	_, err := r.cfg.Audit.Record(ctx, ev)
	return err
}

// person names a patient over all trails.
type person struct {
	id     string
	source int // of a pseudonym; -1 of a record ID
}

// reached collects the patients of a tenant.
func (r *Reporter) reached(ctx context.Context, tenant string, q *BreachQuery, out *Breach) ([]Affected, error) {
	known, err := r.known(ctx, tenant, q)
	if err != nil {
		return nil, err
	}
	undone := map[string]bool{} // attempts that were rolled back: nothing came of them
	for ev, err := range r.events(ctx, func(int) audit.Query { return audit.Query{Tenant: tenant, Types: []audit.Type{audit.RolledBack}} }) {
		if err != nil {
			return nil, err
		}
		undone[ev.Attempt] = true
	}
	found := map[person]*Affected{}
	fields := map[person]map[Exposed]bool{}
	for ev, err := range r.events(ctx, func(i int) audit.Query { return q.events(tenant, r.cfg.Sources[i]) }) {
		if err != nil {
			return nil, err
		}
		if q.Session != "" && ev.Actor.Session != q.Session {
			continue
		}
		id := ev.ID
		if ev.Batch != "" {
			id = ev.Batch
		}
		how, counted := q.how(&ev.Stored)
		switch {
		case ev.Type == audit.Outside && q.Loss == "":
			out.Outside++
			continue
		case !counted:
			if q.Loss == "" {
				out.Refused++
				out.chart.add(ev.Time, 1)
			}
			continue
		case undone[id]:
			continue
		}
		reached := false
		for _, o := range ev.Objects {
			if o.Patient == "" || o.Denied {
				continue
			}
			reached = true
			p := person{o.Patient, ev.source}
			if id, ok := known[p]; ok {
				p = person{id, -1}
			}
			a := found[p]
			if a == nil {
				a = &Affected{Tenant: tenant, Patient: p.id, Pseudonym: p.source >= 0, First: ev.Time, Last: ev.Time}
				found[p], fields[p] = a, map[Exposed]bool{}
			}
			a.First, a.Last = earlier(a.First, ev.Time), later(a.Last, ev.Time)
			if len(a.Events) == 0 || a.Events[len(a.Events)-1] != id {
				a.Events = append(a.Events, id)
			}
			for _, f := range append(slices.Clip(o.Fields), "")[:max(len(o.Fields), 1)] {
				fields[p][Exposed{o.Type, f, how, q.secured(o.Type, f)}] = true
			}
		}
		if reached {
			out.chart.add(ev.Time, 0)
		}
	}
	affected := make([]Affected, 0, len(found))
	for p, a := range found {
		a.Fields = slices.SortedFunc(maps.Keys(fields[p]), func(x, y Exposed) int {
			return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Field, y.Field), cmp.Compare(x.How, y.How))
		})
		a.Unsecured = slices.ContainsFunc(a.Fields, func(e Exposed) bool { return !e.Secured })
		if q.State != nil && !a.Pseudonym {
			if a.State, err = q.State(ctx, tenant, a.Patient); err != nil {
				return nil, fmt.Errorf("BreachQuery.State: %w", err)
			}
		}
		affected = append(affected, *a)
	}
	return affected, nil
}

// known maps the pseudonyms of each source to record IDs.
func (r *Reporter) known(ctx context.Context, tenant string, q *BreachQuery) (map[person]string, error) {
	known := map[person]string{}
	add := func(id string) {
		for i, s := range r.cfg.Sources {
			known[person{s.Pseudonym(tenant, id), i}] = id
		}
	}
	if q.Patient != "" {
		add(q.Patient)
	}
	if q.Patients != nil {
		for id, err := range q.Patients(ctx, tenant) {
			if err != nil {
				return nil, fmt.Errorf("BreachQuery.Patients: %w", err)
			}
			add(id)
		}
	}
	return known, nil
}

// events selects what the incident may be seen in.
func (q *BreachQuery) events(tenant string, s Source) audit.Query {
	out := audit.Query{Tenant: tenant, Actor: q.Actor, Since: q.Since, Until: q.Until, Types: []audit.Type{
		audit.Revealed, audit.RevealFailed, audit.Fetched, audit.Searched, audit.Denied, audit.WriteAttempt, audit.Disclosed, audit.Outside}}
	if q.Loss != "" {
		out.Since = time.Time{}
		out.Types = []audit.Type{audit.Revealed, audit.Fetched, audit.Searched, audit.WriteAttempt, audit.Sealed, audit.Disclosed}
	}
	if q.Patient != "" {
		out.Pseudonyms = []string{s.Pseudonym(tenant, q.Patient)}
	}
	return out
}

// how says how an event reached PHI; not counted where it did not.
func (q *BreachQuery) how(ev *audit.Stored) (how How, counted bool) {
	if ev.Outcome == audit.Failure {
		return "", false
	}
	if q.Loss != "" {
		return HowStored, true
	}
	switch ev.Type {
	case audit.Revealed:
		return HowRevealed, true
	case audit.Fetched:
		return HowFetched, true
	case audit.Searched:
		return HowSearched, true
	case audit.WriteAttempt:
		return HowWritten, true
	case audit.Disclosed:
		return HowDisclosed, true
	}
	return "", false
}

// secured reports whether the field is unreadable to whoever has what was
// lost: sealed, with nothing beside it, and its key was not.
func (q *BreachQuery) secured(resource, field string) bool {
	return q.Loss == LostCopy && q.Form != nil && q.Form(resource, field) == FormSealed
}

func (q *BreachQuery) incident() string {
	switch {
	case q.Actor != "":
		return "what " + q.Actor + " did"
	case q.Session != "":
		return "what was done in the sign-in " + q.Session
	}
	switch q.Loss {
	case LostCopy:
		return "a copy of the stored data, without its keys"
	case LostKEK:
		return "the stored data and the key that wraps all others"
	case LostTenantKey:
		return "the stored data and the tenant's key"
	}
	return "the stored data and the key of patient " + q.Patient
}

// groups counts a tenant's individuals, and those of each State.
func groups(tenant string, affected []Affected, states bool) []Group {
	by := map[string]*Group{"": {Tenant: tenant}}
	for _, a := range affected {
		names := []string{""}
		if states {
			names = append(names, cmp.Or(a.State, "unknown"))
		}
		for _, name := range names {
			g := by[name]
			if g == nil {
				g = &Group{Tenant: tenant, State: name}
				by[name] = g
			}
			if g.Individuals++; a.Unsecured {
				g.Unsecured++
			}
		}
	}
	var out []Group
	for _, name := range slices.Sorted(maps.Keys(by)) {
		g := by[name]
		if name != "unknown" {
			g.Thresholds = g.thresholds()
		}
		out = append(out, *g)
	}
	return out
}

func (b *Breach) note(q *BreachQuery, sources int) {
	unresolved := 0
	for _, a := range b.Affected {
		if a.Pseudonym {
			unresolved++
		}
	}
	b.Notes = append(b.Notes, "These are facts of the audit trail and numbers that the rule names. Whether there was a breach, and who must be told, is for people to decide (45 CFR 164.402, 164.404 to 164.414).")
	if unresolved > 0 {
		note := count(unresolved, "individual stands", "individuals stand") + " here by pseudonym, since no record ID was given for it."
		if sources > 1 {
			note += " Who stands in several writers' journals is counted in each, so that the numbers are the most there can be."
		}
		b.Notes = append(b.Notes, note)
	}
	if b.Outside > 0 {
		b.Notes = append(b.Notes, count(b.Outside, "statement was", "statements were")+" run that storage did not build. The trail cannot say whose PHI they reached.")
	}
	if q.Loss != "" {
		b.Notes = append(b.Notes, "Who is stored is taken from the trail: what was stored before it began, and never seen or changed since, is not here. Destroyed keys are not taken into account: the copy may be older than their destruction.")
		if q.Form == nil {
			b.Notes = append(b.Notes, "How the fields are stored is not known here, so that every one is counted as not secured.")
		}
	}
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

func (b *Breach) document() document {
	d := document{
		Title: "Whose PHI an incident has reached",
		Lead:  []string{"Incident: " + b.Incident + "."},
		Facts: []fact{{"Period", b.Period.text(b.Made)}, {"Made", stamp(b.Made)}, {"Refused events", fmt.Sprint(b.Refused)}, {"Statements outside storage", fmt.Sprint(b.Outside)}},
		Chart: b.chart, Notes: b.Notes,
	}
	tenants := table{Caption: "Individuals by tenant and State", Columns: []string{"Tenant", "State", "Individuals", "With unsecured PHI"}}
	rule := table{Caption: "Numbers that the rule names", Columns: []string{"45 CFR", "Of", "Says", "Unsecured here", "Met"}}
	for _, g := range b.Groups {
		state := g.State
		if state == "" {
			state = "all"
		}
		tenants.Rows = append(tenants.Rows, []string{g.Tenant, state, fmt.Sprint(g.Individuals), fmt.Sprint(g.Unsecured)})
		for _, t := range g.Thresholds {
			met := "no"
			if t.Met {
				met = "yes"
			}
			rule.Rows = append(rule.Rows, []string{t.Citation, g.Tenant + ", " + state, t.Says, fmt.Sprint(g.Unsecured), met})
		}
	}
	people := table{Caption: "Individuals", Columns: []string{"Patient", "Tenant", "State", "First", "Last", "Events", "Not secured", "Secured"}, Empty: "The incident reached nobody's PHI, as far as the trail knows."}
	for _, a := range b.Affected {
		var open, secured []string
		for _, e := range a.Fields {
			text := e.Type
			if e.Field != "" {
				text += "." + e.Field
			}
			text += " " + string(e.How)
			if e.Secured {
				secured = append(secured, text)
			} else {
				open = append(open, text)
			}
		}
		people.Rows = append(people.Rows, []string{a.Patient, a.Tenant, a.State, stamp(a.First), stamp(a.Last), fmt.Sprint(len(a.Events)), strings.Join(open, ", "), strings.Join(secured, ", ")})
	}
	d.Tables = []table{tenants, rule, people}
	return d
}
