// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/report"
)

const tenant = accesstest.Tenant

// A clinic is a trail and its reports.
type clinic struct {
	t       *testing.T
	journal *audit.Journal
	access  *accesstest.Fake
	reports *report.Reporter
	now     time.Time
}

func journalOf(t *testing.T, now func() time.Time) *audit.Journal {
	t.Helper()
	j, err := audit.Open(audittest.Dir(t), audit.Config{Development: true, SegmentSize: 256 << 10, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// open makes a clinic with one journal, whose clock is the test's.
func open(t *testing.T) *clinic {
	t.Helper()
	c := &clinic{t: t, now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
	c.journal = journalOf(t, func() time.Time { return c.now })
	c.access = &accesstest.Fake{Rules: []accesstest.Rule{
		{Role: "patient", Action: access.Read, Type: "audit", Purpose: access.PatientRequest},
		{Role: "officer", Action: access.Read, Type: "audit", Purpose: access.Compliance},
		{Role: "officer", Action: access.Review, Type: "audit", Purpose: access.Compliance},
	}}
	c.reports = c.reporter(report.Config{})
	return c
}

func (c *clinic) reporter(cfg report.Config) *report.Reporter {
	c.t.Helper()
	if cfg.Sources == nil {
		cfg.Sources = []report.Source{c.journal}
	}
	if cfg.Audit == nil {
		cfg.Audit = c.journal
	}
	cfg.Access, cfg.Now = c.access, func() time.Time { return c.now }
	r, err := report.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func human(ctx context.Context, id string, purpose access.Purpose, roles ...string) context.Context {
	return access.With(ctx, access.Principal{ID: id, Tenant: tenant, Kind: access.Human, Roles: roles}, purpose)
}

func (c *clinic) nurse() context.Context {
	return human(c.t.Context(), "u-nurse", access.Treatment, "nurse")
}

func (c *clinic) officer() context.Context {
	return human(c.t.Context(), "u-officer", access.Compliance, "officer")
}

func (c *clinic) patient(id string) context.Context {
	return access.With(c.t.Context(), access.Principal{ID: id, Tenant: tenant, Kind: access.Patient, Roles: []string{"patient"}}, access.PatientRequest)
}

func about(fields []string, patients ...string) []audit.Object {
	var out []audit.Object
	for _, p := range patients {
		out = append(out, audit.Object{Type: "patient", Record: p, Patient: p, Fields: fields})
	}
	return out
}

func (c *clinic) record(ctx context.Context, ev audit.Event) string {
	c.t.Helper()
	if ev.Outcome == "" {
		ev.Outcome = audit.Success
	}
	r, err := c.journal.Record(ctx, ev)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.ID
}

func (c *clinic) reveal(ctx context.Context, patients ...string) string {
	c.t.Helper()
	return c.record(ctx, audit.Event{Type: audit.Revealed, Objects: about([]string{"name"}, patients...)})
}

func (c *clinic) write(ctx context.Context, patient string) audit.Ticket {
	c.t.Helper()
	ticket, err := c.journal.Attempt(ctx, audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update,
		Objects: []audit.Object{{Type: "patient", Record: patient, Patient: patient, Version: 2, Fields: []string{"phone"}}}})
	if err != nil {
		c.t.Fatal(err)
	}
	return ticket
}

func acts(a *report.Access) []report.Act {
	var out []report.Act
	for _, e := range a.Entries {
		out = append(out, e.Act)
	}
	return out
}

func TestPatientReadsOwnReport(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.reveal(c.nurse(), "r-1", "r-2")
	kept, lost := c.write(c.nurse(), "r-1"), c.write(c.nurse(), "r-1")
	if _, err := c.journal.Commit(t.Context(), []audit.Ticket{kept}); err != nil {
		t.Fatal(err)
	}
	if err := c.journal.Rollback(t.Context(), []audit.Ticket{lost}); err != nil {
		t.Fatal(err)
	}
	c.write(c.nurse(), "r-1") // how it ended is not recorded
	c.record(human(t.Context(), "u-9", access.BreakGlass, "physician"), audit.Event{Type: audit.Revealed, Objects: about(nil, "r-1")})
	c.record(human(t.Context(), "u-8", access.Treatment, "clerk"), audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Objects: about(nil, "r-1")})

	a, err := c.reports.Access(c.patient("r-1"), report.AccessQuery{Patient: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []report.Act{report.Read, report.Refused, report.Saw, report.Changed, report.Changed, report.Changed, report.Saw}
	if got := acts(a); !slices.Equal(got, want) {
		t.Errorf("acts = %v, want %v", got, want)
	}
	var outcomes []string
	for _, e := range a.Entries[3:6] {
		outcomes = append(outcomes, e.Outcome)
	}
	if want := []string{"open", "rolled_back", "committed"}; !slices.Equal(outcomes, want) {
		t.Errorf("writes ended %v, want %v", outcomes, want)
	}
	if a.Entries[0].Who.Name != "the patient" || !a.Entries[2].Emergency || a.Entries[6].Who.ID != "u-nurse" {
		t.Errorf("entries = %+v", a.Entries)
	}
	// The authorizer was asked for that one record, and for no right over the trail.
	calls := c.access.Calls()
	if len(calls) != 1 || len(calls[0].Resources) != 1 || calls[0].Resources[0] != (access.Resource{Type: "audit", ID: "r-1", Patient: "r-1", Tenant: tenant}) {
		t.Errorf("the authorizer was asked %+v", calls)
	}
}

// A policy that lets the role "patient" read "audit" opens nobody else's.
func TestPatientReadsNobodyElsesReport(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.reveal(c.nurse(), "r-2")
	for name, p := range map[string]access.Principal{
		"another patient": {ID: "r-1", Tenant: tenant, Kind: access.Patient, Roles: []string{"patient"}},
		"another's proxy": {ID: "u-5", Tenant: tenant, Kind: access.Proxy, Roles: []string{"patient"}, OnBehalf: "r-1"},
		"a proxy of none": {ID: "r-2", Tenant: tenant, Kind: access.Proxy, Roles: []string{"patient"}},
		"a nurse":         {ID: "u-2", Tenant: tenant, Kind: access.Human, Roles: []string{"nurse"}},
	} {
		a, err := c.reports.Access(access.With(t.Context(), p, access.PatientRequest), report.AccessQuery{Patient: "r-2"})
		if !errors.Is(err, access.ErrDenied) || a != nil {
			t.Errorf("%s: %v, %v; want a denial", name, a, err)
		}
	}
	proxy := access.Principal{ID: "u-5", Tenant: tenant, Kind: access.Proxy, Roles: []string{"patient"}, OnBehalf: "r-2"}
	if _, err := c.reports.Access(access.With(t.Context(), proxy, access.PatientRequest), report.AccessQuery{Patient: "r-2"}); err != nil {
		t.Errorf("the patient's own proxy: %v", err)
	}
	denied, reported := 0, 0
	for ev, err := range c.journal.Events(t.Context(), audit.Query{Tenant: tenant, Patient: "r-2", Types: []audit.Type{audit.Denied, audit.Reported}}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == audit.Denied {
			denied++
		} else {
			reported++
		}
	}
	if denied != 4 || reported != 1 {
		t.Errorf("%d refusals and %d readings are recorded, want 4 and 1", denied, reported)
	}
}

// A recorder that fails, and sources that must not be read then.
type down struct{}

func (down) Record(context.Context, audit.Event) (audit.Receipt, error) {
	return audit.Receipt{}, audit.ErrUnavailable
}

func TestNothingIsShownUnlessTheReadingIsRecorded(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.reveal(c.nurse(), "r-1")
	r := c.reporter(report.Config{Audit: down{}})
	a, err := r.Access(c.patient("r-1"), report.AccessQuery{Patient: "r-1"})
	if !errors.Is(err, audit.ErrUnavailable) || a != nil {
		t.Errorf("Access = %v, %v; want ErrUnavailable", a, err)
	}
	c.access.Fail(errors.New("no answer"))
	if a, err = c.reports.Access(c.patient("r-1"), report.AccessQuery{Patient: "r-1"}); !errors.Is(err, access.ErrDenied) || a != nil {
		t.Errorf("Access without an authorizer's answer = %v, %v; want a denial", a, err)
	}
	if a, err = c.reports.Access(t.Context(), report.AccessQuery{Patient: "r-1"}); !errors.Is(err, access.ErrNoPrincipal) || a != nil {
		t.Errorf("Access by nobody = %v, %v", a, err)
	}
}

// One event of 1,000 rows stands in the report of each of the 1,000 patients,
// and in each with that patient's records only.
func TestAListShowsInEveryPatientsReport(t *testing.T) {
	t.Parallel()
	const n = 2500 // several lines
	c := open(t)
	var objects []audit.Object
	id := func(i int) string { return fmt.Sprintf("r-%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26) }
	for i := range n {
		objects = append(objects, audit.Object{Type: "patient", Record: id(i), Patient: id(i), Fields: []string{"name"}})
	}
	objects = append(objects, audit.Object{Type: "allergy", Record: "a-1", Patient: id(0), Fields: []string{"code"}}) // on the last line
	event := c.record(c.nurse(), audit.Event{Type: audit.Revealed, Objects: objects})
	for i := 0; i < n; i += 9 {
		a, err := c.reports.Access(c.patient(id(i)), report.AccessQuery{Patient: id(i)})
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Entries) != 2 || a.Entries[1].Event != event || a.Entries[1].Records[len(a.Entries[1].Records)-1].Type != "patient" {
			t.Fatalf("patient %d has the entries %+v", i, a.Entries)
		}
		if want := 1; i > 0 && (len(a.Entries[1].Records) != want || a.Entries[1].Records[0].Count != 1) {
			t.Fatalf("patient %d sees the records %+v", i, a.Entries[1].Records)
		}
		if i == 0 && len(a.Entries[1].Records) != 2 {
			t.Errorf("the lines of one event are not one entry: %+v", a.Entries)
		}
	}
}

func (c *clinic) merge(reason audit.Reason, from, into string) {
	c.t.Helper()
	c.record(c.nurse(), audit.Event{Type: audit.Merged, Reason: reason, Action: access.Maintain, Objects: about(nil, from, into)})
}

func TestReportFollowsMerges(t *testing.T) {
	t.Parallel()
	c := open(t)
	first := c.reveal(c.nurse(), "r-dup")
	second := c.reveal(c.nurse(), "r-dupdup")
	other := c.reveal(c.nurse(), "r-other")
	has := func(q report.AccessQuery, event string) bool {
		t.Helper()
		a, err := c.reports.Access(c.officer(), q)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(a.Entries, func(e report.Entry) bool { return e.Event == event })
	}
	q := report.AccessQuery{Patient: "r-1"}
	if has(q, first) {
		t.Error("before the merge the report has another record's event")
	}
	c.merge(audit.ReasonMerge, "r-dupdup", "r-dup")
	c.merge(audit.ReasonMerge, "r-dup", "r-1")
	if !has(q, first) || !has(q, second) || has(q, other) {
		t.Error("the report does not follow the merges, or follows too many")
	}
	if has(report.AccessQuery{Patient: "r-dup"}, c.reveal(c.nurse(), "r-1")) {
		t.Error("the duplicate's report has the events of the record that it was merged into")
	}
	c.merge(audit.ReasonUnmerge, "r-dup", "r-1")
	if has(q, first) || has(q, second) {
		t.Error("after the unmerge the report still has the other person's events")
	}
	if !has(report.AccessQuery{Patient: "r-dup"}, second) {
		t.Error("the unmerge undid another merge, too")
	}
}

// Journals name patients by keys of their own: of several, duplicates are
// followed by their IDs, and only those that the trails confirm.
func TestReportOverSeveralWriters(t *testing.T) {
	t.Parallel()
	c := open(t)
	other := journalOf(t, func() time.Time { return c.now })
	r := c.reporter(report.Config{Sources: []report.Source{c.journal, other, c.journal}})
	var events []string
	for i := range 4 {
		c.now = c.now.Add(time.Second)
		j, id := c.journal, "r-1"
		if i%2 == 1 {
			j, id = other, "r-dup"
		}
		rec, err := j.Record(c.nurse(), audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: about(nil, id)})
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, rec.ID)
	}
	q := report.AccessQuery{Patient: "r-1", Merged: []string{"r-dup"}}
	if _, err := r.Access(c.officer(), q); !errors.Is(err, report.ErrNotMerged) {
		t.Errorf("a duplicate that no trail confirms: %v", err)
	}
	c.merge(audit.ReasonMerge, "r-dup", "r-1")
	a, err := r.Access(c.officer(), q)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(a.Entries) {
		if e.Act == report.Saw {
			got = append(got, e.Event)
		}
	}
	if !slices.Equal(got, events) {
		t.Errorf("events = %v, want %v: each once, by time", got, events)
	}
	rev, err := r.Review(c.officer(), report.Week(c.now))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rev.People { // what two sources hold counts once
		if p.Who.ID == "u-nurse" && p.Seen != len(events) {
			t.Errorf("the nurse saw %d times, want %d", p.Seen, len(events))
		}
	}
	if a, err = r.Access(c.officer(), report.AccessQuery{Patient: "r-1"}); err != nil || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "1 duplicate was merged") {
		t.Errorf("a duplicate of unknown ID is not noted: %+v, %v", a, err)
	}
}

func TestAccessPeriod(t *testing.T) {
	t.Parallel()
	c := open(t)
	begin := c.now
	for range 5 {
		c.reveal(c.nurse(), "r-1")
		c.now = c.now.Add(time.Hour)
	}
	a, err := c.reports.Access(c.officer(), report.AccessQuery{Patient: "r-1", Period: report.Period{Since: begin.Add(time.Hour), Until: begin.Add(3 * time.Hour)}})
	if err != nil || len(a.Entries) != 2 {
		t.Errorf("%+v, %v; want the two from 10:00 to before 12:00", a, err)
	}
	for name, q := range map[string]report.AccessQuery{
		"no patient":  {},
		"an address":  {Patient: "jane@example.org"},
		"no duration": {Patient: "r-1", Period: report.Period{Since: begin, Until: begin}},
	} {
		if _, err := c.reports.Access(c.officer(), q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNewNamesTheField(t *testing.T) {
	t.Parallel()
	c := open(t)
	good := report.Config{Sources: []report.Source{c.journal}, Audit: c.journal, Access: c.access}
	for field, change := range map[string]func(*report.Config){
		"Config.Sources is empty": func(cfg *report.Config) { cfg.Sources = nil },
		"Config.Sources[1]":       func(cfg *report.Config) { cfg.Sources = append(cfg.Sources, nil) },
		"Config.Audit":            func(cfg *report.Config) { cfg.Audit = nil },
		"Config.Access":           func(cfg *report.Config) { cfg.Access = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := report.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// What the application's users are called cannot break the page, the terminal
// or the JSON.
func TestPrintsAreSafe(t *testing.T) {
	t.Parallel()
	c := open(t)
	evil := "<script>alert(1)</script>\x1b[2J\u202e\"&"
	r := c.reporter(report.Config{Name: func(context.Context, access.Principal) string { return evil }})
	for i := range 60 {
		c.now = c.now.AddDate(0, 0, i%4)
		c.reveal(c.nurse(), "r-1")
	}
	c.record(c.nurse(), audit.Event{Type: audit.Denied, Outcome: audit.Failure, Objects: about(nil, "r-1")})
	a, err := r.Access(c.officer(), report.AccessQuery{Patient: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	var page, text, object, chart bytes.Buffer
	if err := errors.Join(report.WriteHTML(&page, a), report.WriteText(&text, a), report.WriteJSON(&object, a), report.WriteChart(&chart, a)); err != nil {
		t.Fatal(err)
	}
	if s := page.String(); strings.Contains(s, "<script") || strings.Contains(s, "\x1b") || strings.Contains(s, "\u202e") {
		t.Error("the page holds what a name brought in")
	}
	if s := text.String(); strings.Contains(s, "\x1b") || strings.Contains(s, "\u202e") {
		t.Error("the text holds control characters")
	}
	var back report.Access
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || len(back.Entries) != len(a.Entries) || back.Entries[0].Time.IsZero() {
		t.Errorf("JSON: %v", err)
	}
	for _, want := range []string{`<html lang="en">`, `name="viewport"`, `<caption><h2>`, `<th scope="col">`, `<th scope="row">`, `role="img"`, `<title id="chart-title">`, `<desc id="chart-desc">`, "<h1>", "<main>"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no %s", want)
		}
	}
	for _, bad := range []string{"http://", "https://", "src=", "@import", "style=", "onclick"} {
		s := strings.ReplaceAll(page.String(), "http://www.w3.org/2000/svg", "")
		if strings.Contains(s, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if !strings.HasPrefix(strings.TrimSpace(chart.String()), "<svg") || strings.Contains(chart.String(), "style=") {
		t.Error("the chart is no SVG element that every policy lets through")
	}
}
