// SPDX-License-Identifier: Apache-2.0

package main

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/audit/report/document"
)

// The patient reads who saw their own record, and nothing else.
func TestPatientSeesWhoSawTheirRecord(t *testing.T) {
	t.Parallel()
	a, base, _ := start(t, options{})
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := &visit{base: base}
	nurse, _, err := v.signIn("nurse")
	if err != nil {
		t.Fatal(err)
	}
	chart := "/patients/" + firstPatient
	ans, err := nurse.get(chart)
	if err := ans.want(err, http.StatusOK); err != nil {
		t.Fatal(err)
	}
	patient, _, err := v.signIn("patient")
	if err != nil {
		t.Fatal(err)
	}
	ans, err = patient.get("/mine")
	if err := ans.with(err, "<td>nurse</td>", ">reveal<", "<td>treatment</td>", "<td>the patient</td>", "<svg"); err != nil {
		t.Error(err)
	}
	ans, err = patient.get("/mine/page")
	if err := ans.with(err, "Who saw this record", "nurse", "<svg"); err != nil {
		t.Error(err)
	}
	if ans.header.Get("Content-Security-Policy") != document.ContentSecurityPolicy() {
		t.Error("the page to keep has a policy under which it does not show, or can do things")
	}
	for _, path := range []string{chart, chart + "/audit", chart + "/audit/page", "/patients", "/review"} {
		ans, err := patient.get(path)
		if err := ans.want(err, http.StatusForbidden); err != nil {
			t.Errorf("the patient at %s: %v", strings.ReplaceAll(path, firstPatient, "ID"), err)
		}
	}
	if ans, err = nurse.get("/mine"); ans.want(err, http.StatusForbidden) != nil {
		t.Errorf("the nurse at /mine: %d, %v", ans.status, err)
	}
	ans, err = newBrowser(base).get("/mine")
	if err := ans.want(err, http.StatusSeeOther); err != nil {
		t.Errorf("nobody at /mine: %v", err)
	}
	ctx := access.With(t.Context(), access.Principal{ID: firstPatient, Tenant: tenant, Kind: access.Patient, Roles: []string{"patient"}}, access.PatientRequest)
	if _, err := accesses.Of(ctx, a.reports, accesses.Query{Patient: "019b4000-0000-7000-8000-000000000002"}); err == nil {
		t.Error("a patient reads another's report")
	}
}

func TestOfficerSignsTheWeekOff(t *testing.T) {
	t.Parallel()
	a, base, _ := start(t, options{})
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := &visit{base: base}
	officer, _, err := v.signIn("officer")
	if err != nil {
		t.Fatal(err)
	}
	ans, err := officer.get("/review?week=" + time.Now().UTC().Format(time.DateOnly))
	if err := ans.with(err, "The week is not over", "importer", "<svg"); err != nil {
		t.Error(err)
	}
	if strings.Contains(ans.body, "Sign off</button>") {
		t.Error("a week that is not over can be signed off")
	}
	ans, err = officer.get("/review")
	if err := ans.with(err, "Not signed off for everybody yet"); err != nil {
		t.Fatal(err)
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`name="(week|digest)" value="([^"]*)"`).FindAllStringSubmatch(ans.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	stale := url.Values{"week": form["week"], "digest": {"0000000000000000"}}
	ans, err = officer.post("/review", stale)
	if err := ans.with(ans.want(err, http.StatusConflict), "Something was added to the week"); err != nil {
		t.Error(err)
	}
	ans, err = officer.post("/review", form)
	if err := ans.want(err, http.StatusSeeOther); err != nil {
		t.Fatal(err)
	}
	ans, err = officer.get(ans.location)
	if err := ans.with(err, "Signed off for everybody", "officer"); err != nil {
		t.Error(err)
	}
	nurse, _, err := v.signIn("nurse")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() (answer, error){func() (answer, error) { return nurse.get("/review") }, func() (answer, error) { return nurse.post("/review", form) }} {
		ans, err := f()
		if err := ans.want(err, http.StatusForbidden); err != nil {
			t.Errorf("the nurse at the review: %v", err)
		}
	}
	ans, err = officer.get("/review?week=someday")
	if err := ans.want(err, http.StatusBadRequest); err != nil {
		t.Error(err)
	}
}

// Whoever touches the honey record is in the review, until an officer says what
// came of it.
func TestWatchRaisesAndTheOfficerDisposes(t *testing.T) {
	t.Parallel()
	a, base, _ := start(t, options{})
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := &visit{base: base}
	nurse, _, err := v.signIn("nurse")
	if err != nil {
		t.Fatal(err)
	}
	ans, err := nurse.get("/patients/" + nobody) // nobody cares for nobody: to have tried is enough
	if err := ans.want(err, http.StatusForbidden); err != nil {
		t.Fatal(err)
	}
	if err := a.watch.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	officer, _, err := v.signIn("officer")
	if err != nil {
		t.Fatal(err)
	}
	today := "/review?week=" + time.Now().UTC().Format(time.DateOnly)
	ans, err = officer.get(today)
	if err := ans.with(err, "</code> honey", "<td>nurse</td>", ">Record</button>"); err != nil {
		t.Fatal(err)
	}
	alert := regexp.MustCompile(`name="alert" value="([^"]*)"`).FindStringSubmatch(ans.body)
	if len(alert) != 2 || strings.Count(ans.body, "</code> honey") != 1 {
		t.Fatalf("%d alerts of the honey record, want 1: that the importer made it is none", strings.Count(ans.body, "</code> honey"))
	}
	form := url.Values{"week": {time.Now().UTC().Format(time.DateOnly)}, "alert": {alert[1]}, "reason": {"violation"}}
	ans, err = nurse.post("/review/alert", form)
	if err := ans.want(err, http.StatusForbidden); err != nil {
		t.Errorf("the nurse disposes of it: %v", err)
	}
	ans, err = officer.post("/review/alert", form)
	if err := ans.want(err, http.StatusSeeOther); err != nil {
		t.Fatal(err)
	}
	ans, err = officer.get(today)
	if err := ans.with(err, ">violation</td>"); err != nil {
		t.Error(err)
	}
}
