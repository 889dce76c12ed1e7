// SPDX-License-Identifier: Apache-2.0

package accesses_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/audit/report/review"
)

func acts(a *accesses.Report) []accesses.Act {
	var out []accesses.Act
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

	a, err := accesses.Of(c.patient("r-1"), c.reports, accesses.Query{Patient: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []accesses.Act{accesses.Read, accesses.Refused, accesses.Saw, accesses.Changed, accesses.Changed, accesses.Changed, accesses.Saw}
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

// What was done by one grant is what a review of it looks at.
func TestByGrant(t *testing.T) {
	t.Parallel()
	c := open(t)
	const one, other = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"
	c.reveal(c.nurse(), "r-1")
	ctx := human(t.Context(), "u-9", access.BreakGlass, "physician")
	for _, g := range []string{one, one, other} {
		c.record(ctx, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Grant: g, Objects: about(nil, "r-1", "r-2")})
	}
	// One event by both, as storage names them.
	both := append(about(nil, "r-1", "r-2"), audit.Object{Type: "grant", Record: one}, audit.Object{Type: "grant", Record: other})
	c.record(ctx, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: both})
	for grant, want := range map[string]int{one: 3, other: 2, "": 5} {
		a, err := accesses.Of(c.officer(), c.reports, accesses.Query{Patient: "r-1", Grant: grant})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range a.Entries {
			if e.Type == audit.Reported {
				continue
			}
			if n++; grant != "" && (e.Grant != grant || !e.Emergency) {
				t.Errorf("by %s: %+v", grant, e)
			}
		}
		if n != want {
			t.Errorf("%d entries by %q, want %d", n, grant, want)
		}
	}
}

// A policy that lets the role "patient" read "audit" opens nobody else's.
func TestPatientReadsNobodyElsesReport(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.reveal(c.nurse(), "r-2")
	for name, p := range map[string]access.Principal{
		"another patient": {ID: "r-1", Tenant: tenant, Kind: access.Patient, Roles: []string{"patient"}},
		"another's proxy": {ID: "u-5", Tenant: tenant, Kind: access.Proxy, Roles: []string{"patient"}, OnBehalf: "r-1", OnBehalfKind: access.Patient},
		"a proxy of none": {ID: "r-2", Tenant: tenant, Kind: access.Proxy, Roles: []string{"patient"}},
		"a nurse":         {ID: "u-2", Tenant: tenant, Kind: access.Human, Roles: []string{"nurse"}},
	} {
		a, err := accesses.Of(access.With(t.Context(), p, access.PatientRequest), c.reports, accesses.Query{Patient: "r-2"})
		if !errors.Is(err, access.ErrDenied) || a != nil {
			t.Errorf("%s: %v, %v; want a denial", name, a, err)
		}
	}
	proxy := access.Principal{ID: "u-5", Tenant: tenant, Kind: access.Proxy, Roles: []string{"patient"}, OnBehalf: "r-2", OnBehalfKind: access.Patient}
	if _, err := accesses.Of(access.With(t.Context(), proxy, access.PatientRequest), c.reports, accesses.Query{Patient: "r-2"}); err != nil {
		t.Errorf("the patient's own proxy: %v", err)
	}
	c.record(c.patient("r-1"), audit.Event{Type: audit.Revealed, Objects: about(nil, "r-2")})
	own, err := accesses.Of(c.patient("r-2"), c.reports, accesses.Query{Patient: "r-2"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range own.Entries {
		names = append(names, e.Who.Name)
	}
	if want := []string{"the patient", "another patient", "the patient's proxy"}; !slices.Equal(names[:3], want) {
		t.Errorf("read by %v, want %v first", names, want)
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
	if denied != 4 || reported != 2 {
		t.Errorf("%d refusals and %d readings are recorded, want 4 and 2", denied, reported)
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
	a, err := accesses.Of(c.patient("r-1"), r, accesses.Query{Patient: "r-1"})
	if !errors.Is(err, audit.ErrUnavailable) || a != nil {
		t.Errorf("Access = %v, %v; want ErrUnavailable", a, err)
	}
	c.access.Fail(errors.New("no answer"))
	if a, err = accesses.Of(c.patient("r-1"), c.reports, accesses.Query{Patient: "r-1"}); !errors.Is(err, access.ErrDenied) || a != nil {
		t.Errorf("Access without an authorizer's answer = %v, %v; want a denial", a, err)
	}
	if a, err = accesses.Of(t.Context(), c.reports, accesses.Query{Patient: "r-1"}); !errors.Is(err, access.ErrNoPrincipal) || a != nil {
		t.Errorf("Access by nobody = %v, %v", a, err)
	}
}

// A source that cannot tell what stands for the patient yields nothing, rather
// than everybody's.
type blind struct{ report.Source }

func (blind) Pseudonym(string, string) string { return "" }

func TestASourceThatCannotTellShowsNothing(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.reveal(c.nurse(), "r-1", "r-2")
	a, err := accesses.Of(c.patient("r-1"), c.reporter(report.Config{Sources: []report.Source{blind{c.journal}}}), accesses.Query{Patient: "r-1"})
	if err != nil || len(a.Entries) > 0 {
		t.Errorf("entries %+v, %v; want none", a.Entries, err)
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
	step := 9
	switch {
	case testing.Short():
		step = 99
	case os.Getenv("PART164_TEST_LONG") != "":
		step = 1
	}
	for i := 0; i < n; i += step {
		a, err := accesses.Of(c.patient(id(i)), c.reports, accesses.Query{Patient: id(i)})
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
	has := func(q accesses.Query, event string) bool {
		t.Helper()
		a, err := accesses.Of(c.officer(), c.reports, q)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(a.Entries, func(e accesses.Entry) bool { return e.Event == event })
	}
	q := accesses.Query{Patient: "r-1"}
	if has(q, first) {
		t.Error("before the merge the report has another record's event")
	}
	c.merge(audit.ReasonMerge, "r-dupdup", "r-dup")
	c.merge(audit.ReasonMerge, "r-dup", "r-1")
	if !has(q, first) || !has(q, second) || has(q, other) {
		t.Error("the report does not follow the merges, or follows too many")
	}
	if has(accesses.Query{Patient: "r-dup"}, c.reveal(c.nurse(), "r-1")) {
		t.Error("the duplicate's report has the events of the record that it was merged into")
	}
	c.merge(audit.ReasonUnmerge, "r-dup", "r-1")
	if has(q, first) || has(q, second) {
		t.Error("after the unmerge the report still has the other person's events")
	}
	if !has(accesses.Query{Patient: "r-dup"}, second) {
		t.Error("the unmerge undid another merge, too")
	}
}

// Journals name patients by keys of their own: of several, duplicates are
// followed by their IDs, and only those that the trails confirm.
func TestReportOverSeveralWriters(t *testing.T) {
	t.Parallel()
	c := open(t)
	other := journalOf(t, func() time.Time { return c.now })
	duplicates := func(context.Context, string, string) ([]string, error) { return []string{"r-dup"}, nil }
	sources := []report.Source{c.journal, other, c.journal}
	r := c.reporter(report.Config{Sources: sources, Merged: duplicates})
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
	q := accesses.Query{Patient: "r-1"}
	if _, err := accesses.Of(c.officer(), r, q); !errors.Is(err, report.ErrNotMerged) {
		t.Errorf("a duplicate that no trail confirms: %v", err)
	}
	c.merge(audit.ReasonMerge, "r-dup", "r-1")
	a, err := accesses.Of(c.officer(), r, q)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(a.Entries) {
		if e.Act == accesses.Saw {
			got = append(got, e.Event)
		}
	}
	if !slices.Equal(got, events) {
		t.Errorf("events = %v, want %v: each once, by time", got, events)
	}
	rev, err := review.Of(c.officer(), r, review.Week(c.now))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rev.People { // what two sources hold counts once
		if p.Who.ID == "u-nurse" && p.Seen != len(events) {
			t.Errorf("the nurse saw %d times, want %d", p.Seen, len(events))
		}
	}
	if a, err = accesses.Of(c.officer(), c.reporter(report.Config{Sources: sources}), q); err != nil || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "1 duplicate was merged") {
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
	a, err := accesses.Of(c.officer(), c.reports, accesses.Query{Patient: "r-1", Period: report.Period{Since: begin.Add(time.Hour), Until: begin.Add(3 * time.Hour)}})
	if err != nil || len(a.Entries) != 2 {
		t.Errorf("%+v, %v; want the two from 10:00 to before 12:00", a, err)
	}
	for name, q := range map[string]accesses.Query{
		"no patient":  {},
		"an address":  {Patient: "jane@example.org"},
		"no duration": {Patient: "r-1", Period: report.Period{Since: begin, Until: begin}},
	} {
		if _, err := accesses.Of(c.officer(), c.reports, q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The report prints itself, and encoding/json its fields.
func TestReportPrints(t *testing.T) {
	t.Parallel()
	c := open(t)
	r := c.reporter(report.Config{Name: func(_ context.Context, p access.Principal) string { return "Name of " + p.ID }})
	for i := range 60 {
		c.now = c.now.AddDate(0, 0, i%4)
		c.reveal(c.nurse(), "r-1")
	}
	c.record(c.nurse(), audit.Event{Type: audit.Denied, Outcome: audit.Failure, Objects: about(nil, "r-1")})
	a, err := accesses.Of(c.officer(), r, accesses.Query{Patient: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	var page, text, object bytes.Buffer
	if err := errors.Join(a.Document().WriteHTML(&page), a.Document().WriteText(&text), json.NewEncoder(&object).Encode(a)); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{"page": page.String(), "text": text.String()} {
		if n := strings.Count(s, "Name of u-nurse"); n != 61 || !strings.Contains(s, "61 times") && !strings.Contains(s, "1 time") {
			t.Errorf("the %s has %d lines of the nurse, want 61", name, n)
		}
	}
	var back accesses.Report
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || len(back.Entries) != len(a.Entries) || back.Entries[0].Time.IsZero() {
		t.Errorf("JSON: %v", err)
	}
}
