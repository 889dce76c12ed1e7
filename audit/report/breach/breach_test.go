// SPDX-License-Identifier: Apache-2.0

package breach_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/audit/report/breach"
)

func ids(n int) func(context.Context, string) iter.Seq2[string, error] {
	return func(context.Context, string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for i := range n {
				if !yield(fmt.Sprintf("r-%d", i), nil) {
					return
				}
			}
		}
	}
}

func TestBreachOfAnActor(t *testing.T) {
	t.Parallel()
	c := open(t)
	thief := human(t.Context(), "u-thief", access.Treatment, "clerk")
	begin := c.now
	c.reveal(thief, "r-9") // before the period
	c.now = begin.Add(time.Hour)
	c.reveal(thief, "r-1", "r-2")
	c.record(thief, audit.Event{Type: audit.Fetched, Objects: []audit.Object{{Type: "visit", Record: "v-1", Patient: "r-1", Fields: []string{"date"}}}})
	c.record(thief, audit.Event{Type: audit.Searched, Count: 7, Objects: about([]string{"name"}, "r-3")})
	partial := about([]string{"ssn"}, "r-1", "r-4")
	partial[1].Denied = true
	c.record(thief, audit.Event{Type: audit.Revealed, Outcome: audit.Partial, Objects: partial})
	c.record(thief, audit.Event{Type: audit.Denied, Outcome: audit.Failure, Objects: about(nil, "r-5")})
	c.record(thief, audit.Event{Type: audit.Outside})
	lost := c.write(thief, "r-6")
	if err := c.journal.Rollback(t.Context(), []audit.Ticket{lost}); err != nil {
		t.Fatal(err)
	}
	c.write(thief, "r-7")
	c.reveal(c.nurse(), "r-8") // somebody else

	q := breach.Query{Tenants: []string{tenant}, Actor: "u-thief", Period: report.Period{Since: begin.Add(time.Minute)}, Patients: ids(20)}
	b, err := breach.Of(c.officer(), c.reports, q)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range b.Affected {
		var fields []string
		for _, f := range a.Fields {
			if f.Secured || !a.Unsecured {
				t.Errorf("what a person was shown counts as secured: %+v", a)
			}
			fields = append(fields, fmt.Sprintf("%s.%s %s", f.Type, f.Field, f.How))
		}
		got = append(got, a.Patient+": "+strings.Join(fields, ", "))
	}
	want := []string{
		"r-1: patient.name revealed, patient.ssn revealed, visit.date fetched",
		"r-2: patient.name revealed",
		"r-3: patient.name searched",
		"r-7: patient.phone written",
	}
	if !slices.Equal(got, want) {
		t.Errorf("affected:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if b.Refused != 1 || b.Outside != 1 || b.Groups[0].Individuals != 4 || b.Groups[0].Unsecured != 4 {
		t.Errorf("refused %d, outside %d, groups %+v", b.Refused, b.Outside, b.Groups)
	}
	// That the officer read it stands in each of their reports.
	a, err := accesses.Of(c.patient("r-3"), c.reports, accesses.Query{Patient: "r-3"})
	if err != nil || !slices.ContainsFunc(a.Entries, func(e accesses.Entry) bool { return e.Act == accesses.Read && e.Who.ID == "u-officer" }) {
		t.Errorf("the reading of the breach does not show: %v", err)
	}
}

// Only a cell that is sealed, with nothing beside it, and whose key was not
// lost, is secured.
func TestBreachOfStoredData(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.record(c.nurse(), audit.Event{Type: audit.Revealed, Objects: about([]string{"name", "mrn", "date", "other"}, "r-1")})
	c.record(c.nurse(), audit.Event{Type: audit.Revealed, Objects: about([]string{"name"}, "r-2")})
	form := func(_, field string) breach.Form {
		return map[string]breach.Form{"name": breach.FormSealed, "mrn": breach.FormSearchable, "date": breach.FormClear}[field]
	}
	for _, tt := range []struct {
		loss    breach.Loss
		patient string
		form    func(string, string) breach.Form
		want    string // secured
	}{
		{breach.LostCopy, "", form, "r-1 name, r-2 name"},
		{breach.LostCopy, "", nil, ""},
		{breach.LostKEK, "", form, ""},
		{breach.LostTenantKey, "", form, ""},
		{breach.LostPatientKey, "r-1", form, ""},
	} {
		b, err := breach.Of(c.officer(), c.reports, breach.Query{Tenants: []string{tenant}, Loss: tt.loss, Patient: tt.patient, Form: tt.form, Patients: ids(3)})
		if err != nil {
			t.Fatal(err)
		}
		var secured []string
		for _, a := range b.Affected {
			open := false
			for _, f := range a.Fields {
				if f.Secured {
					secured = append(secured, a.Patient+" "+f.Field)
				}
				open = open || !f.Secured
			}
			if open != a.Unsecured {
				t.Errorf("%s: %+v", tt.loss, a)
			}
		}
		if got := strings.Join(secured, ", "); got != tt.want {
			t.Errorf("%s: secured is %q, want %q", tt.loss, got, tt.want)
		}
		if want := 2; tt.patient == "" && len(b.Affected) != want || tt.patient != "" && (len(b.Affected) != 1 || b.Affected[0].Patient != tt.patient) {
			t.Errorf("%s: %d patients", tt.loss, len(b.Affected))
		}
	}
}

// 164.406: more than 500 residents of a State. 164.408: 500 or more individuals.
func TestBreachThresholds(t *testing.T) {
	t.Parallel()
	const n = 501
	c := open(t)
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("r-%d", i))
	}
	met := func(n, ohio int) (out []string) {
		t.Helper()
		actor := fmt.Sprintf("u-%d-%d", n, ohio)
		c.reveal(human(t.Context(), actor, access.Treatment, "clerk"), all[:n]...)
		b, err := breach.Of(c.officer(), c.reports, breach.Query{Tenants: []string{tenant}, Actor: actor, Patients: ids(n), State: func(_ context.Context, _, patient string) (string, error) {
			if slices.Index(all, patient) < ohio {
				return "OH", nil
			}
			return "", nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range b.Groups {
			for _, th := range g.Thresholds {
				if th.Met {
					out = append(out, g.State+th.Citation)
				}
			}
		}
		var text bytes.Buffer
		if err := b.Document().WriteText(&text); err != nil || !strings.Contains(text.String(), "for people to decide") {
			t.Errorf("the print draws a conclusion, or %v", err)
		}
		return out
	}
	for _, tt := range []struct {
		n, ohio int
		want    []string
	}{
		{499, 499, []string{"164.404(a)", "164.408(c)"}},
		{500, 500, []string{"164.404(a)", "164.408(b)"}},
		{501, 500, []string{"164.404(a)", "164.408(b)"}},
		{501, 501, []string{"164.404(a)", "164.408(b)", "OH164.406(a)"}},
	} {
		if got := met(tt.n, tt.ohio); !slices.Equal(got, tt.want) {
			t.Errorf("%d individuals, %d in Ohio: %v, want %v", tt.n, tt.ohio, got, tt.want)
		}
	}
}

// One patient in two writers' journals is one individual where the IDs are
// given, and the report says that it may be two where they are not.
func TestBreachOverSeveralWriters(t *testing.T) {
	t.Parallel()
	c := open(t)
	other := journalOf(t, func() time.Time { return c.now })
	r := c.reporter(report.Config{Sources: []report.Source{c.journal, other}})
	c.reveal(c.nurse(), "r-1")
	if _, err := other.Record(c.nurse(), audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: about(nil, "r-1")}); err != nil {
		t.Fatal(err)
	}
	q := breach.Query{Tenants: []string{tenant}, Actor: "u-nurse"}
	b, err := breach.Of(c.officer(), r, q)
	if err != nil || len(b.Affected) != 2 || !strings.Contains(strings.Join(b.Notes, " "), "the most there can be") {
		t.Errorf("without IDs: %+v, %v", b, err)
	}
	q.Patients = ids(2)
	if b, err = breach.Of(c.officer(), r, q); err != nil || len(b.Affected) != 1 || len(b.Affected[0].Events) != 2 {
		t.Errorf("with IDs: %+v, %v", b, err)
	}
}

// A twoTenants is the authorizer of an officer of two covered entities.
type twoTenants struct{}

func (twoTenants) Check(_ context.Context, req access.Request) (access.Decision, error) {
	return access.Decision{ID: strings.Repeat("d1", 16), Verdicts: slices.Repeat([]access.Verdict{{Allow: true, Code: access.AllowRule}}, len(req.Resources))}, nil
}

func (twoTenants) Filter(context.Context, access.Action, string) (access.Filter, error) {
	return access.Filter{}, access.ErrDenied
}

// By sign-in, by tenant and by State, over a time, and with what was sent away.
func TestBreachGroups(t *testing.T) {
	t.Parallel()
	c := open(t)
	as := func(tenant, session string) context.Context {
		return access.With(t.Context(), access.Principal{ID: "u-thief", Tenant: tenant, Kind: access.Human, Roles: []string{"clerk"}, Session: session}, access.Treatment)
	}
	c.reveal(as(tenant, "s-1"), "r-1", "r-2")
	c.reveal(as(tenant, "s-2"), "r-3")
	c.now = c.now.Add(time.Hour)
	middle := c.now
	c.record(as(tenant, "s-1"), audit.Event{Type: audit.Disclosed, Objects: about([]string{"name"}, "r-4"), Disclosure: &audit.Disclosure{Basis: audit.Unpermitted, Recipient: "x-1"}})
	if _, err := c.journal.Record(as("t-other", "s-1"), audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: about(nil, "r-1")}); err != nil {
		t.Fatal(err)
	}
	r, err := report.New(report.Config{Sources: []report.Source{c.journal}, Audit: c.journal, Access: twoTenants{}, Now: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	state := func(_ context.Context, of, patient string) (string, error) {
		return map[string]string{tenant + "r-1": "OH", tenant + "r-2": "OH", tenant + "r-4": "NY", "t-otherr-1": "OH"}[of+patient], nil
	}
	for name, tt := range map[string]struct {
		q    breach.Query
		want string
	}{
		"a sign-in": {breach.Query{Session: "s-1"}, "t-other: 1, t-other/OH: 1, t-test: 3, t-test/NY: 1, t-test/OH: 2"},
		"an actor":  {breach.Query{Actor: "u-thief"}, "t-other: 1, t-other/OH: 1, t-test: 4, t-test/NY: 1, t-test/OH: 2, t-test/unknown: 1"},
		"until":     {breach.Query{Actor: "u-thief", Period: report.Period{Until: middle}}, "t-other: 0, t-test: 3, t-test/OH: 2, t-test/unknown: 1"},
		"since":     {breach.Query{Actor: "u-thief", Period: report.Period{Since: middle}}, "t-other: 1, t-other/OH: 1, t-test: 1, t-test/NY: 1"},
		"a key":     {breach.Query{Loss: breach.LostKEK, Period: report.Period{Until: middle}}, "t-other: 0, t-test: 3, t-test/OH: 2, t-test/unknown: 1"},
	} {
		tt.q.Tenants, tt.q.Patients, tt.q.State = []string{tenant, "t-other"}, ids(5), state
		b, err := breach.Of(c.officer(), r, tt.q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range b.Groups {
			name := g.Tenant
			if g.State != "" {
				name += "/" + g.State
			}
			got = append(got, fmt.Sprintf("%s: %d", name, g.Individuals))
		}
		if s := strings.Join(got, ", "); s != tt.want {
			t.Errorf("%s: %s\nwant %s", name, s, tt.want)
		}
		for _, a := range b.Affected {
			if a.Patient == "r-4" && tt.q.Loss == "" && (len(a.Fields) != 1 || a.Fields[0].How != breach.HowDisclosed) {
				t.Errorf("%s: what was sent away is %+v", name, a.Fields)
			}
		}
	}
}

// One individual with two records that are merged now counts once, and the key
// of the record that is left is that of both.
func TestBreachFollowsMerges(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.reveal(c.nurse(), "r-dup")
	c.reveal(c.nurse(), "r-1", "r-2")
	c.record(c.nurse(), audit.Event{Type: audit.Merged, Reason: audit.ReasonMerge, Action: access.Maintain, Objects: about(nil, "r-dup", "r-1")})
	for name, tt := range map[string]struct {
		q           breach.Query
		individuals int
		events      int // of r-1
	}{
		"with IDs":    {breach.Query{Actor: "u-nurse", Patients: ids(3)}, 2, 2},
		"without IDs": {breach.Query{Actor: "u-nurse"}, 2, 0},
		"a key":       {breach.Query{Loss: breach.LostPatientKey, Patient: "r-1"}, 1, 2},
	} {
		tt.q.Tenants = []string{tenant}
		b, err := breach.Of(c.officer(), c.reports, tt.q)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Affected) != tt.individuals || b.Groups[0].Individuals != tt.individuals {
			t.Errorf("%s: %d individuals, want %d", name, len(b.Affected), tt.individuals)
		}
		for _, a := range b.Affected {
			if a.Patient == "r-1" && len(a.Events) != tt.events {
				t.Errorf("%s: %d events of the record, want %d", name, len(a.Events), tt.events)
			}
		}
	}
}

func TestBreachRefuses(t *testing.T) {
	t.Parallel()
	c := open(t)
	good := breach.Query{Tenants: []string{tenant}, Actor: "u-1"}
	for name, change := range map[string]func(*breach.Query){
		"no tenant":       func(q *breach.Query) { q.Tenants = nil },
		"nothing asked":   func(q *breach.Query) { q.Actor = "" },
		"two things":      func(q *breach.Query) { q.Loss = breach.LostKEK },
		"an unknown loss": func(q *breach.Query) { q.Actor, q.Loss = "", "umbrella" },
		"no patient":      func(q *breach.Query) { q.Actor, q.Loss = "", breach.LostPatientKey },
		"State without ID": func(q *breach.Query) {
			q.State = func(context.Context, string, string) (string, error) { return "", nil }
		},
	} {
		q := good
		change(&q)
		if _, err := breach.Of(c.officer(), c.reports, q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := breach.Of(c.nurse(), c.reports, good); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a nurse: %v", err)
	}
	good.Tenants = []string{tenant, "t-other"}
	if b, err := breach.Of(c.officer(), c.reports, good); !errors.Is(err, access.ErrDenied) || b != nil {
		t.Errorf("another tenant: %v, %v", b, err)
	}
}
