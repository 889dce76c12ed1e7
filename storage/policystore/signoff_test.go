// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage/policystore"
)

// report returns the report that user gets, with the trail.
func (w *world) report(t *testing.T, user string) *policystore.Report {
	t.Helper()
	r, err := w.Report(as(t, user, access.SystemAdmin), w.db.Trail)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReportOfTheTrails: when somebody last did something, which rights for a
// time are in force, and who signed off, each of the tenant asked about.
func TestReportOfTheTrails(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	record := func(user string, ev audit.Event) time.Time {
		t.Helper()
		before := time.Now()
		if _, err := w.db.Trail.Record(as(t, user, access.Treatment), ev); err != nil {
			t.Fatal(err)
		}
		return before
	}
	r := w.report(t, "u-alice")
	if len(r.Granted) != 0 || r.Reviewed != nil || r.Trails != 1 {
		t.Fatalf("at first %+v", r)
	}
	seen := []audit.Object{{Type: "patient", Record: "p-1", Patient: "p-1"}}
	from := record("u-nora", audit.Event{Type: audit.Fetched, Outcome: audit.Success, Action: access.Read, Objects: seen})
	record("u-bob", audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Code: access.DenyRule, Action: access.Read, Objects: seen})
	record("u-bob", audit.Event{Type: audit.Fetched, Outcome: audit.Failure, Action: access.Read, Objects: seen})
	const ( // grants by what becomes of them
		live   = "01a20000-0000-7000-8000-000000000001"
		ended  = "01a20000-0000-7000-8000-000000000002"
		over   = "01a20000-0000-7000-8000-000000000003"
		asked  = "01a20000-0000-7000-8000-000000000004"
		glass  = "01a20000-0000-7000-8000-000000000005"
		theirs = "01a20000-0000-7000-8000-000000000006"
		about  = "01a20000-0000-7000-8000-000000000007"
	)
	grant := func(by, id, role string, typ audit.Type, until time.Duration) {
		t.Helper()
		ev := audit.Event{Type: typ, Outcome: audit.Success, Reason: audit.ReasonCovering, Grant: id, Role: role, User: "u-nora", UserKind: access.Human}
		if until != 0 {
			ev.Until = time.Now().Add(until)
			ev.Since = ev.Until.Add(-2 * time.Hour)
		}
		record(by, ev)
	}
	grant("u-alice", live, "registration", audit.GrantApproved, 0) // the first of two approvals
	grant("u-bob", live, "registration", audit.GrantApproved, time.Hour)
	grant("u-bob", ended, "ended", audit.GrantApproved, time.Hour)
	grant("u-nora", ended, "ended", audit.GrantEnded, 0)
	grant("u-bob", over, "over", audit.GrantApproved, -time.Minute)
	grant("u-nora", asked, "asked", audit.GrantRequested, 0)
	grant("u-nora", glass, "", audit.GlassBroken, time.Hour)
	grant("u-olga", theirs, "theirs", audit.GrantApproved, time.Hour)
	record("u-alice", audit.Event{Type: audit.GrantApproved, Outcome: audit.Success, Grant: about, Role: "ours", User: "u-fay", UserKind: access.Human,
		Since: time.Now(), Until: time.Now().Add(time.Minute), Objects: []audit.Object{{Type: "patient", Tenant: other, Record: "p-9", Patient: "p-9"}}}) // about the other tenant
	to := time.Now()

	r = w.report(t, "u-alice") // of the operator: of all
	var got []string
	for _, h := range r.Granted {
		got = append(got, fmt.Sprint(h.Tenant, " ", h.User, " ", h.Role, " ", h.Grant, " ", h.Since.Author, " ", h.Until.After(to)))
	}
	want := []string{"t-1 u-fay ours " + about + " u-alice true", "t-1 u-nora  " + glass + " u-nora true", "t-1 u-nora registration " + live + " u-bob true", "t-2 u-nora theirs " + theirs + " u-olga true"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("granted:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, h := range r.Holders {
		switch {
		case h.User == "u-nora" && (h.LastUse.Before(from.Add(-time.Second)) || h.LastUse.After(to.Add(time.Second))):
			t.Errorf("nora was last there at %v, not between %v and %v", h.LastUse, from, to)
		case h.User == "u-bob" && !h.LastUse.IsZero():
			t.Errorf("bob, who was refused, was there at %v", h.LastUse)
		}
	}
	if olga := w.report(t, "u-olga"); len(olga.Granted) != 1 || olga.Granted[0].Grant != theirs || !olga.Known.IsZero() {
		t.Errorf("another tenant's: %+v", olga)
	}
	younger := audittest.New(t) // of another process, which began later
	began := time.Now()
	if _, err := younger.Record(as(t, "u-nora", access.Treatment), audit.Event{Type: audit.Fetched, Outcome: audit.Success, Action: access.Read, Objects: seen}); err != nil {
		t.Fatal(err)
	}
	for _, trails := range [][]audit.History{{w.db.Trail, younger}, {younger, w.db.Trail}, {younger, w.db.Trail, audittest.New(t)}} {
		if both, err := w.Report(as(t, "u-alice", access.SystemAdmin), trails...); err != nil || both.Known.Before(began.Add(-time.Millisecond)) || r.Known.After(began) {
			t.Errorf("known since %v (%v by the older alone), though one trail began at %v; %v", both.Known, r.Known, began, err)
		}
	}
	var page bytes.Buffer
	if err := r.Document().WriteText(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"emergency access", "registration", "not since ", "never, as far as the trails go back"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the document", want)
		}
	}
	without, err := w.Report(as(t, "u-alice", access.SystemAdmin))
	if err != nil {
		t.Fatal(err)
	}
	page.Reset()
	if err := without.Document().WriteText(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not known", "Not known: no trail was given.", "not known: no trail was given"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the document without a trail", want)
		}
	}
}

// TestSignOff: the next report names who signed off which revision; a report of
// an older policy, of another tenant or of all is not signed off, and not by
// whoever may only read it.
func TestSignOff(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	bob := as(t, "u-bob", access.SystemAdmin)
	r := w.report(t, "u-alice")
	var denied *access.DeniedError
	if err := w.SignOff(as(t, "u-nora", access.Treatment), r.Digest); !errors.As(err, &denied) || denied.Code != access.DenyNoRule {
		t.Errorf("who has no right signs: %v", err)
	}
	oscar := as(t, "u-oscar", access.SystemAdmin)
	if err := w.SignOff(oscar, r.Digest); !errors.Is(err, policystore.ErrChanged) {
		t.Errorf("an approver of one tenant signs for all: %v", err)
	}
	if err := w.SignOff(bob, w.report(t, "u-olga").Digest); !errors.Is(err, policystore.ErrChanged) {
		t.Errorf("an approver signs for another tenant: %v", err)
	}
	if err := w.SignOff(bob, ""); !errors.Is(err, policystore.ErrChanged) {
		t.Errorf("nothing is signed off: %v", err)
	}
	p, _ := access.PrincipalFrom(bob)
	p.OnBehalf, p.OnBehalfKind = "u-carol", access.Human
	if err := w.SignOff(access.With(t.Context(), p, access.SystemAdmin), r.Digest); !errors.As(err, &denied) || denied.Code != access.DenyDuty {
		t.Errorf("somebody signs for another: %v", err)
	}
	if got := w.report(t, "u-alice"); got.Reviewed != nil {
		t.Fatalf("signed off by %+v", got.Reviewed)
	}
	if err := w.SignOff(bob, r.Digest); err != nil {
		t.Fatal(err)
	}
	audittest.Want(t, w.db.Trail, audit.Event{Type: audit.PolicyReviewed, Outcome: audit.Success, Reason: audit.ReasonReview})
	got := w.report(t, "u-alice")
	if got.Reviewed == nil || got.Reviewed.Author != "u-bob" || got.Reviewed.Revision != 1 || got.Reviewed.Time.IsZero() {
		t.Errorf("signed off: %+v", got.Reviewed)
	}
	if again := w.report(t, "u-carol"); again.Digest != r.Digest {
		t.Error("the same policy has another digest")
	}
	if err := w.SignOff(oscar, w.report(t, "u-olga").Digest); err != nil {
		t.Fatal(err)
	}
	if got := w.report(t, "u-alice"); got.Reviewed.Author != "u-bob" {
		t.Errorf("one tenant's sign-off counts for all: %+v", got.Reviewed)
	}
	if olga := w.report(t, "u-olga"); olga.Reviewed == nil || olga.Reviewed.Author != "u-oscar" {
		t.Errorf("another tenant's report is signed off: %+v", olga.Reviewed)
	}
	id := propose(t, w.Store, "u-alice", give("u-fay", "nurse"))
	if _, err := w.Approve(as(t, "u-carol", access.SystemAdmin), id); err != nil {
		t.Fatal(err)
	}
	if err := w.SignOff(bob, r.Digest); !errors.Is(err, policystore.ErrChanged) {
		t.Errorf("a report of revision 1 is signed off at 2: %v", err)
	}
	if got := w.report(t, "u-alice"); got.Reviewed == nil || got.Reviewed.Revision != 1 || got.Revision != 2 {
		t.Errorf("at revision %d signed off: %+v", got.Revision, got.Reviewed)
	}
}
