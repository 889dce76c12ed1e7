// SPDX-License-Identifier: Apache-2.0

package disclosures_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/audit/report/disclosures"
)

// A fake is a trail in memory that is a source, with sealed detail.
type fake struct{ *audittest.Trail }

func (f fake) Events(ctx context.Context, q audit.Query) iter.Seq2[audit.Stored, error] {
	return func(yield func(audit.Stored, error) bool) {
		for s, err := range f.Replay(ctx, q.Tenant, q.Types...) {
			patients := append(slices.Clone(q.Pseudonyms), q.Patient)
			about := slices.ContainsFunc(s.Objects, func(o audit.Object) bool { return slices.Contains(patients, o.Patient) })
			if err == nil && len(q.Pseudonyms) > 0 && !about {
				continue
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// An office accounts for the disclosures of patient r-1.
type office struct {
	t       *testing.T
	trail   *audittest.Trail
	reports *report.Reporter
	now     time.Time
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, trail: audittest.New(t), now: time.Now().UTC().Truncate(time.Second).Add(time.Hour)}
	var err error
	o.reports, err = report.New(report.Config{Sources: []report.Source{fake{o.trail}}, Audit: o.trail, Access: accesstest.Allow(), Now: func() time.Time { return o.now }})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) ctx() context.Context {
	return human(o.t.Context(), "u-officer", access.Compliance, "officer")
}

// disclose records a disclosure of the given age, to a recipient of that ID.
func (o *office) disclose(basis audit.Basis, to string, age time.Duration, change ...func(*audit.Event)) string {
	o.t.Helper()
	at := o.now.Add(-age)
	ev := audit.Event{Type: audit.Disclosed, Outcome: audit.Success, Since: at, Until: at, Objects: about(nil, "r-1"),
		Disclosure: &audit.Disclosure{Basis: basis, Recipient: to},
		Detail:     &audit.Detail{Recipient: "Name of " + to, Address: "1 Main St", Description: "laboratory results", Statement: "for " + string(basis)}}
	for _, f := range change {
		f(&ev)
	}
	r, err := o.trail.Record(o.ctx(), ev)
	if err != nil {
		o.t.Fatal(err)
	}
	return r.ID
}

func (o *office) account(q disclosures.Query) *disclosures.Report {
	o.t.Helper()
	q.Patient = "r-1"
	d, err := disclosures.Of(o.ctx(), o.reports, q)
	if err != nil {
		o.t.Fatal(err)
	}
	return d
}

func events(d *disclosures.Report) []string {
	var out []string
	for _, e := range d.Entries {
		out = append(out, e.Events...)
	}
	return out
}

const aDay = 24 * time.Hour

// 164.528(a)(1): each exception is left out, everything else is listed, and
// the closed set of bases leaves none undecided.
func TestAccountingListsWhatIsNotExcepted(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for _, b := range []audit.Basis{audit.ByTreatment, audit.ByPayment, audit.ByOperations, audit.ByIndividual, audit.ByIncident, audit.ByAuthorization,
		audit.ByDirectory, audit.ByCare, audit.ByNationalSecurity, audit.ByCustody, audit.ByLimitedDataSet, audit.ByPreCompliance} {
		o.disclose(b, "x-"+strings.ReplaceAll(string(b), ".", "-"), aDay)
	}
	var want []string
	for i, b := range []audit.Basis{audit.ByLaw, audit.ByPublicHealth, audit.ByAbuse, audit.ByOversight, audit.ByJudicial, audit.ByLawEnforcement, audit.ByDecedents,
		audit.ByDonation, audit.ByResearch, audit.BySafety, audit.ByGovernment, audit.ByWorkersCompensate, audit.Unpermitted} {
		want = append(want, o.disclose(b, "y-"+strings.ReplaceAll(string(b), ".", "-"), aDay-time.Duration(i)*time.Minute))
	}
	d := o.account(disclosures.Query{})
	if got := events(d); !slices.Equal(got, want) {
		t.Errorf("%d of the %d that must be listed are, or others", len(got), len(want))
	}
	// (b)(2): who, where, what, why.
	e := d.Entries[0]
	if e.Recipient != "Name of y-law" || e.Address != "1 Main St" || e.Description != "laboratory results" || e.Statement != "for law" || len(e.Missing) > 0 {
		t.Errorf("entry = %+v", e)
	}
}

// 164.528(a)(1), (a)(3), (b)(1): six years before the request, or less where
// the individual says so; what was made after the request is not in it.
func TestAccountingPeriod(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	asked := o.now.Add(-10 * aDay)
	edge := asked.AddDate(-6, 0, 0)
	at := func(when time.Time) func(*audit.Event) {
		return func(ev *audit.Event) { ev.Since, ev.Until = when, when }
	}
	o.disclose(audit.ByLaw, "x-a", 0, at(edge.Add(-time.Second)))
	first := o.disclose(audit.ByLaw, "x-b", 0, at(edge))
	recent := o.disclose(audit.ByLaw, "x-c", 0, at(asked.AddDate(0, -6, 0)))
	o.disclose(audit.ByLaw, "x-d", 0, at(asked))
	if got := events(o.account(disclosures.Query{Requested: asked})); !slices.Equal(got, []string{first, recent}) {
		t.Errorf("six years: %d entries, want the two inside", len(got))
	}
	if got := events(o.account(disclosures.Query{Requested: asked, Since: asked.AddDate(-1, 0, 0)})); !slices.Equal(got, []string{recent}) {
		t.Errorf("a year: %d entries, want one", len(got))
	}
	d := o.account(disclosures.Query{Requested: asked, Since: asked.AddDate(-20, 0, 0)})
	if !d.Period.Since.Equal(edge) {
		t.Errorf("the period begins %v, want six years before the request", d.Period.Since)
	}
	// (c)(1): 60 days, and one extension of 30.
	if d.Due.Sub(asked) != 60*aDay || d.Extended.Sub(asked) != 90*aDay {
		t.Errorf("due after %v, extended after %v", d.Due.Sub(asked), d.Extended.Sub(asked))
	}
	for name, q := range map[string]disclosures.Query{
		"in the future": {Patient: "r-1", Requested: o.now.Add(time.Hour)},
		"backwards":     {Patient: "r-1", Requested: asked, Since: asked},
		"no patient":    {},
	} {
		if _, err := disclosures.Of(o.ctx(), o.reports, q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// 164.528(b)(3): the first in full, the number, the date of the last; for one
// recipient and a single purpose only.
func TestAccountingGroups(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	var same []string
	for i := range 4 {
		same = append(same, o.disclose(audit.ByPublicHealth, "x-registry", time.Duration(40-i)*aDay))
	}
	o.disclose(audit.ByPublicHealth, "x-other", 35*aDay)
	o.disclose(audit.ByJudicial, "x-registry", 34*aDay)
	o.disclose(audit.ByPublicHealth, "x-registry", 33*aDay, func(ev *audit.Event) { ev.Detail.Statement = "another purpose" })
	o.disclose(audit.ByPublicHealth, "x-registry", 32*aDay, func(ev *audit.Event) { ev.Detail.Statement = "" })
	o.disclose(audit.ByPublicHealth, "x-registry", 31*aDay, func(ev *audit.Event) { ev.Detail.Statement = "" })
	o.disclose(audit.Unpermitted, "x-thief", 30*aDay)
	o.disclose(audit.Unpermitted, "x-thief", 29*aDay)
	o.disclose(audit.ByPublicHealth, "x-series", 20*aDay, func(ev *audit.Event) {
		ev.Disclosure.Frequency, ev.Count, ev.Until = audit.Weekly, 3, ev.Since.Add(14*aDay)
	})
	d := o.account(disclosures.Query{})
	if len(d.Entries) != 9 {
		t.Fatalf("%d entries, want 9: %+v", len(d.Entries), d.Entries)
	}
	g := d.Entries[0]
	if !slices.Equal(g.Events, same) || g.Number != 4 || !g.Date.Equal(o.now.Add(-40*aDay)) || !g.Last.Equal(o.now.Add(-37*aDay)) || g.Recipient == "" {
		t.Errorf("the group: %+v", g)
	}
	if s := d.Entries[8]; s.Number != 3 || s.Frequency != audit.Weekly || !s.Last.Equal(o.now.Add(-6*aDay)) {
		t.Errorf("the series: %+v", s)
	}
	if got := o.account(disclosures.Query{Itemised: true}); len(got.Entries) != 12 {
		t.Errorf("%d entries itemised, want 12", len(got.Entries))
	}
}

// 164.528(b)(4): 50 or more individuals, and a protocol that is described.
func TestAccountingOfResearch(t *testing.T) {
	t.Parallel()
	full := disclosures.Protocol{Name: "Sleep study", Description: "who sleeps how", PHI: "sleep diaries", Sponsor: "S Inc, 2 Side St, 555 0100", Researcher: "Dr R, 3 Back St, 555 0101"}
	patients := func(n int) []string {
		out := []string{"r-1"}
		for i := 1; i < n; i++ {
			out = append(out, fmt.Sprintf("r-p%d", i))
		}
		return out
	}
	for _, tt := range []struct {
		name     string
		n        int
		protocol func(context.Context, string) (disclosures.Protocol, error)
		studies  int
	}{
		{"49", 49, func(context.Context, string) (disclosures.Protocol, error) { return full, nil }, 0},
		{"50", 50, func(context.Context, string) (disclosures.Protocol, error) { return full, nil }, 1},
		{"50, not described", 50, nil, 0},
		{"50, no telephone", 50, func(context.Context, string) (disclosures.Protocol, error) {
			p := full
			p.Researcher = ""
			return p, nil
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			for i := range 2 {
				o.disclose(audit.ByResearch, "x-lab", time.Duration(9-i)*aDay, func(ev *audit.Event) {
					ev.Disclosure.Protocol, ev.Objects = "p-sleep", about(nil, patients(tt.n)...)
				})
			}
			d := o.account(disclosures.Query{Protocol: tt.protocol, Itemised: true})
			if len(d.Research) != tt.studies || len(d.Entries) != 2-2*tt.studies {
				t.Fatalf("%d studies and %d entries", len(d.Research), len(d.Entries))
			}
			if tt.studies > 0 {
				s := d.Research[0]
				if s.Protocol != full || !s.First.Equal(o.now.Add(-9*aDay)) || !s.Last.Equal(o.now.Add(-8*aDay)) {
					t.Errorf("the study: %+v", s)
				}
				var page bytes.Buffer
				if err := d.Document().WriteText(&page); err != nil || !strings.Contains(page.String(), "may or may not have been disclosed") {
					t.Errorf("the statement of (b)(4)(i)(F) is missing, %v", err)
				}
			}
		})
	}
}

// 164.528(a)(2): what is suspended is left out without a trace, for oversight
// and law enforcement only, and after an oral statement for 30 days only.
func TestAccountingSuspension(t *testing.T) {
	t.Parallel()
	suspend := func(basis audit.Basis, to string, reason audit.Reason, age, length time.Duration) func(*office) {
		return func(o *office) {
			ev := audit.Event{Type: audit.Suspended, Outcome: audit.Success, Reason: reason, Since: o.now.Add(-age), Until: o.now.Add(length - age),
				Objects: about(nil, "r-1"), Disclosure: &audit.Disclosure{Basis: basis, Recipient: to}}
			if _, err := o.trail.Record(o.ctx(), ev); err != nil {
				o.t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		of     audit.Basis
		record func(*office)
		hidden bool
	}{
		{"written", audit.ByLawEnforcement, suspend(audit.ByLawEnforcement, "x-police", audit.ReasonWritten, 100*aDay, 200*aDay), true},
		{"written, over", audit.ByLawEnforcement, suspend(audit.ByLawEnforcement, "x-police", audit.ReasonWritten, 100*aDay, 99*aDay), false},
		{"oral", audit.ByOversight, suspend(audit.ByOversight, "x-police", audit.ReasonOral, 29*aDay, 30*aDay), true},
		{"oral, for a year", audit.ByOversight, suspend(audit.ByOversight, "x-police", audit.ReasonOral, 31*aDay, 365*aDay), false},
		{"another agency", audit.ByLawEnforcement, suspend(audit.ByLawEnforcement, "x-sheriff", audit.ReasonWritten, aDay, 200*aDay), false},
		{"another provision", audit.ByOversight, suspend(audit.ByLawEnforcement, "x-police", audit.ReasonWritten, aDay, 200*aDay), false},
		{"no such right", audit.ByPublicHealth, suspend(audit.ByPublicHealth, "x-police", audit.ReasonWritten, aDay, 200*aDay), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			event := o.disclose(tt.of, "x-police", 50*aDay)
			tt.record(o)
			d := o.account(disclosures.Query{})
			if hidden := len(d.Entries) == 0; hidden != tt.hidden || hidden != slices.Equal(d.Suspended, []string{event}) {
				t.Fatalf("hidden %v, and to the office %v; want %v", hidden, d.Suspended, tt.hidden)
			}
			if !tt.hidden {
				return
			}
			var prints bytes.Buffer
			if err := errors.Join(d.Document().WriteHTML(&prints), json.NewEncoder(&prints).Encode(d), d.Document().WriteText(&prints)); err != nil {
				t.Fatal(err)
			}
			for _, trace := range []string{event, "x-police", "uspen"} {
				if strings.Contains(prints.String(), trace) {
					t.Errorf("a print has %q", trace)
				}
			}
			// Nor does the access report tell.
			a, err := accesses.Of(o.ctx(), o.reports, accesses.Query{Patient: "r-1"})
			if err != nil || slices.ContainsFunc(a.Entries, func(e accesses.Entry) bool { return e.Type != audit.Reported }) {
				t.Errorf("the access report has %+v, %v", a, err)
			}
		})
	}
}

// A statement may be withdrawn before its time is over: that one, and no other.
func TestAccountingSuspensionIsLifted(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	event := o.disclose(audit.ByLawEnforcement, "x-police", 50*aDay)
	state := func(reason audit.Reason, of string) string {
		t.Helper()
		r, err := o.trail.Record(o.ctx(), audit.Event{Type: audit.Suspended, Outcome: audit.Success, Reason: reason, About: of, Objects: about(nil, "r-1"),
			Since: o.now.Add(-40 * aDay), Until: o.now.Add(100 * aDay), Disclosure: &audit.Disclosure{Basis: audit.ByLawEnforcement, Recipient: "x-police"}})
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	hidden := func() bool { return !slices.Equal(events(o.account(disclosures.Query{})), []string{event}) }
	first, second := state(audit.ReasonWritten, ""), state(audit.ReasonWritten, "")
	state(audit.ReasonRevoked, "j0123456789abcdef0123456789abcdef.999")
	if state(audit.ReasonRevoked, first); !hidden() {
		t.Error("the second statement suspends no more, after the first was withdrawn")
	}
	if state(audit.ReasonRevoked, second); hidden() {
		t.Error("both statements were withdrawn, and the disclosure is not listed")
	}
}

// A source that opens no sealed detail, as a folder that is only read, makes an
// accounting that says so, and how to get the rest.
func TestAccountingOfSealedDetail(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.disclose(audit.ByLaw, "x-court", aDay)
	var err error
	if o.reports, err = report.New(report.Config{Sources: []report.Source{struct{ report.Source }{fake{o.trail}}}, Audit: o.trail, Access: accesstest.Allow(), Now: func() time.Time { return o.now }}); err != nil {
		t.Fatal(err)
	}
	d := o.account(disclosures.Query{})
	if len(d.Entries) != 1 || !d.Entries[0].Sealed || d.Entries[0].Recipient != "x-court" {
		t.Fatalf("entries = %+v", d.Entries)
	}
	var text bytes.Buffer
	if err := d.Document().WriteText(&text); err != nil || !strings.Contains(text.String(), "(sealed)") || !strings.Contains(text.String(), "--record") || strings.Contains(text.String(), "not held") {
		t.Errorf("the print says %s, %v", text.String(), err)
	}
}

// Each detail that is shown is recorded as opened, by whoever reads.
func TestAccountingRecordsWhatItOpens(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	event := o.disclose(audit.ByLaw, "x-court", aDay)
	o.disclose(audit.ByTreatment, "x-doctor", aDay)
	o.account(disclosures.Query{})
	audittest.Want(t, o.trail, audit.Event{Type: audit.Reported, Citation: "164.528", Objects: []audit.Object{{Patient: "r-1"}}},
		audit.Event{Type: audit.DetailOpened, Actor: access.Principal{ID: "u-officer"}})
	opened := 0
	for _, ev := range o.trail.Events() {
		if ev.Type == audit.DetailOpened {
			opened++
			if ev.About != event {
				t.Errorf("the detail of %s was opened", ev.About)
			}
		}
	}
	if opened != 1 {
		t.Errorf("%d details were opened, want 1", opened)
	}
	o.trail.Fail(errors.New("disk gone"))
	if d, err := disclosures.Of(o.ctx(), o.reports, disclosures.Query{Patient: "r-1"}); !errors.Is(err, audit.ErrUnavailable) || d != nil {
		t.Errorf("Disclosures that cannot be recorded = %v, %v", d, err)
	}
}

// The same over a journal, whose details lie sealed beside its lines.
func TestAccountingOverAJournal(t *testing.T) {
	t.Parallel()
	c := open(t)
	var patients []string
	for i := range 1500 { // two lines
		patients = append(patients, fmt.Sprintf("r-%d", i))
	}
	event := c.record(c.officer(), audit.Event{Type: audit.Disclosed, Objects: about(nil, patients...),
		Disclosure: &audit.Disclosure{Basis: audit.ByPublicHealth, Recipient: "x-registry"},
		Detail:     &audit.Detail{Recipient: "Registry", Description: "immunizations", Statement: "reporting"}})
	c.now = c.now.Add(time.Hour)
	for _, id := range []string{"r-0", "r-1499"} {
		d, err := disclosures.Of(c.patient(id), c.reports, disclosures.Query{Patient: id})
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Entries) != 1 || !slices.Equal(d.Entries[0].Events, []string{event}) || d.Entries[0].Recipient != "Registry" || len(d.Entries[0].Missing) > 0 {
			t.Errorf("%s: %+v", id, d.Entries)
		}
	}
}

// What was disclosed of a duplicate before it was merged is accounted for with
// the record that is left.
func TestAccountingFollowsMerges(t *testing.T) {
	t.Parallel()
	c := open(t)
	event := c.record(c.officer(), audit.Event{Type: audit.Disclosed, Objects: about(nil, "r-dup"),
		Disclosure: &audit.Disclosure{Basis: audit.ByLaw, Recipient: "x-court"}, Detail: &audit.Detail{Recipient: "Court", Description: "all", Statement: "order"}})
	c.now = c.now.Add(time.Hour)
	for _, want := range []int{0, 1} {
		d, err := disclosures.Of(c.patient("r-1"), c.reports, disclosures.Query{Patient: "r-1"})
		if err != nil || len(d.Entries) != want || want == 1 && !slices.Equal(d.Entries[0].Events, []string{event}) {
			t.Errorf("%d merges: %+v, %v", want, d, err)
		}
		c.record(c.officer(), audit.Event{Type: audit.Merged, Reason: audit.ReasonMerge, Action: access.Maintain, Objects: about(nil, "r-dup", "r-1")})
		c.now = c.now.Add(time.Hour)
	}
}
