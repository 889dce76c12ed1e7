// SPDX-License-Identifier: Apache-2.0

package review_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report/review"
)

func TestReviewAndSignOff(t *testing.T) {
	t.Parallel()
	c := open(t) // a Monday
	week := review.Week(c.now)
	c.reveal(c.nurse(), "r-1", "r-2", "r-3")
	c.reveal(c.nurse(), "r-1")
	c.record(c.nurse(), audit.Event{Type: audit.Denied, Outcome: audit.Failure, Objects: about(nil, "r-4")})
	c.record(human(t.Context(), "u-doc", access.BreakGlass, "physician"), audit.Event{Type: audit.Revealed, Objects: about(nil, "r-9")})
	alert := c.record(c.officer(), audit.Event{Type: audit.Alerted, Rule: "bulk", User: "u-nurse", UserKind: access.Human})
	open := c.record(c.officer(), audit.Event{Type: audit.Alerted, Rule: "vip", User: "u-doc", UserKind: access.Human})
	c.record(access.With(t.Context(), access.Principal{ID: "r-1", Tenant: tenant, Kind: access.Patient, Roles: []string{"patient"}}, access.PatientRequest), audit.Event{Type: audit.SignIn})
	second := human(t.Context(), "u-second", access.Compliance, "officer")

	if _, err := review.SignOff(c.officer(), c.reports, week, ""); err == nil {
		t.Error("a week that is not over is signed off")
	}
	c.now = week.Until.Add(time.Hour)
	for name, tt := range map[string]struct {
		ctx    context.Context
		alert  string
		reason audit.Reason
		want   error
	}{
		"by the one it is about": {human(t.Context(), "u-nurse", access.Compliance, "officer"), alert, audit.ReasonExplained, review.ErrOwnReview},
		"by somebody else":       {c.nurse(), alert, audit.ReasonExplained, access.ErrDenied},
		"of no alert":            {c.officer(), "j0123456789abcdef0123456789abcdef.99", audit.ReasonExplained, review.ErrNoAlert},
	} {
		if err := review.Dispose(tt.ctx, c.reports, tt.alert, tt.reason); !errors.Is(err, tt.want) {
			t.Errorf("disposed %s: %v", name, err)
		}
	}
	if err := review.Dispose(c.officer(), c.reports, alert, audit.ReasonPolicy); err == nil {
		t.Error("disposed of for a reason that is none")
	}
	if err := review.Dispose(c.officer(), c.reports, alert, audit.ReasonExplained); err != nil {
		t.Fatal(err)
	}
	rev, err := review.Of(c.officer(), c.reports, week)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(rev.People, func(a review.Activity) bool { return a.Who.Name == "a patient" }) {
		t.Errorf("the patient who signed in is called something else: %+v", rev.People)
	}
	nurse := rev.People[0]
	if nurse.Who.ID != "u-nurse" || nurse.Patients != 3 || nurse.Seen != 2 || nurse.Refused != 1 || len(nurse.ReviewedBy) != 0 {
		t.Errorf("the nurse: %+v", nurse)
	}
	what := map[string]audit.Reason{}
	emergency := false
	for _, s := range rev.Signals {
		if s.Type == audit.Alerted {
			what[s.Event] = s.Disposition
		}
		emergency = emergency || s.Emergency && s.Who.ID == "u-doc"
	}
	if len(what) != 2 || what[alert] != audit.ReasonExplained || what[open] != "" || !emergency {
		t.Errorf("signals: %+v", rev.Signals)
	}

	// Nobody signs for themselves, what they have not seen, or without the right.
	if _, err := review.SignOff(c.officer(), c.reports, week, "0000000000000000"); !errors.Is(err, review.ErrChanged) {
		t.Errorf("another digest: %v", err)
	}
	if _, err := review.SignOff(c.nurse(), c.reports, week, rev.Digest); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a nurse: %v", err)
	}
	signed, err := review.SignOff(c.officer(), c.reports, week, rev.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range signed.People {
		if by := slices.Equal(a.ReviewedBy, []string{"u-officer"}); by == (a.Who.ID == "u-officer") {
			t.Errorf("%s is reviewed by %v", a.Who.ID, a.ReviewedBy)
		}
	}
	if signed.Complete || len(signed.SignOffs) != 1 {
		t.Errorf("complete %v after %d sign-offs: the officer's own activity is open", signed.Complete, len(signed.SignOffs))
	}
	if signed, err = review.SignOff(second, c.reports, week, rev.Digest); err != nil || !signed.Complete {
		t.Errorf("a second officer signs: %+v, %v", signed, err)
	}
	for _, p := range [][]byte{prints(t, signed)} {
		if !bytes.Contains(p, []byte("signed off for everybody")) {
			t.Error("the print does not say so")
		}
	}

	// A late event of the week, from a writer that was away, opens it again.
	c.now = week.Until.Add(-time.Hour)
	late := c.now
	c.reveal(c.nurse(), "r-7")
	c.now = late.Add(3 * time.Hour)
	if rev, err = review.Of(c.officer(), c.reports, week); err != nil || rev.Complete || rev.SignOffs[0].Current {
		t.Errorf("after a late event: complete %v, %v", rev.Complete, err)
	}
}

func prints(t *testing.T, r *review.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := errors.Join(r.Document().WriteText(&b), r.Document().WriteHTML(&b), json.NewEncoder(&b).Encode(r)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A week in which only the officer did anything has nobody that the officer
// may sign for.
func TestNobodySignsOffThemselves(t *testing.T) {
	t.Parallel()
	c := open(t)
	week := review.Week(c.now)
	if _, err := review.Of(c.officer(), c.reports, week); err != nil { // a reading of the trail is activity, too
		t.Fatal(err)
	}
	c.now = week.Until
	rev, err := review.Of(c.officer(), c.reports, week)
	if err != nil || len(rev.People) != 1 {
		t.Fatalf("%+v, %v", rev, err)
	}
	if _, err := review.SignOff(c.officer(), c.reports, week, rev.Digest); !errors.Is(err, review.ErrOwnReview) {
		t.Errorf("the officer's own week: %v", err)
	}
	second := human(t.Context(), "u-second", access.Compliance, "officer")
	if rev, err = review.SignOff(second, c.reports, week, rev.Digest); err != nil || !rev.Complete {
		t.Errorf("somebody else: %+v, %v", rev, err)
	}
}

func TestWeekBeginsOnMonday(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"2026-03-02T00:00:00Z", "2026-03-08T23:59:59Z", "2026-03-08T20:00:00-03:00"} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if w := review.Week(when); w.Since.Format(time.DateOnly) != "2026-03-02" || w.Until.Format(time.DateOnly) != "2026-03-09" {
			t.Errorf("the week of %s is %v to %v", at, w.Since, w.Until)
		}
	}
	c := open(t)
	for name, q := range map[string]review.Query{"nothing": {}, "backwards": {Since: c.now, Until: c.now.Add(-time.Hour)}} {
		if _, err := review.Of(c.officer(), c.reports, q); err == nil || !strings.Contains(err.Error(), "Query: Since") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
