// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/accessstore"
)

func TestEachRightHasAName(t *testing.T) {
	t.Parallel()
	for _, r := range grant.JIT.Reasons() {
		if rightReasons[r] == "" {
			t.Errorf("the reason %s has no name", r)
		}
	}
	if len(rightReasons) != len(grant.JIT.Reasons()) {
		t.Error("a name is of no reason")
	}
	for _, e := range elevations() {
		if rightNames[e.Role] == "" {
			t.Errorf("the role %s has no name", e.Role)
		}
	}
}

// A nurse who is refused is offered to ask; somebody else agrees; it begins, and
// it ends. Each step is a page.
func TestARightForATime(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "nurse", "physician", "officer", "billing")
	const page = "/patients/new"
	status := func(who string, want int) answer {
		t.Helper()
		ans, err := b[who].get(page)
		if err := ans.want(err, want); err != nil {
			t.Errorf("%s: %v", who, err)
		}
		return ans
	}
	post := func(who, path string, form url.Values, want int, says ...string) {
		t.Helper()
		ans, err := b[who].post(path, form)
		if err := ans.with(ans.want(err, want), says...); err != nil {
			t.Errorf("%s %s: %v", who, path, err)
		}
	}
	ask := url.Values{"role": {"registration"}, "reason": {"covering"}, "hours": {"4"}}
	// request asks, and returns what the physician is asked to agree to.
	request := func() string {
		t.Helper()
		p := &walk{t: t, b: b["nurse"], page: status("nurse", http.StatusForbidden)}
		p.follow(`href="(/rights)" data-offer="jit"`)
		p.send(`action="(/rights)"`, ask)
		if err := p.page.with(nil, "waits for somebody to agree"); err != nil || p.steps > 3 {
			t.Fatalf("%d interactions, %v", p.steps, err)
		}
		ans, err := b["physician"].get("/patients")
		if err := ans.with(err, "1 to agree to"); err != nil {
			t.Error(err)
		}
		ans, err = b["physician"].get("/rights")
		m := regexp.MustCompile(`data-waiting="([^"]*)"`).FindStringSubmatch(ans.body)
		if err := ans.with(err, "nurse asks: Register patients", "I cover for a colleague"); err != nil || m == nil {
			t.Fatalf("%v", err)
		}
		return m[1]
	}
	if err := status("billing", http.StatusForbidden).without(`data-offer="jit"`); err != nil {
		t.Errorf("who may not ask is offered to: %v", err)
	}
	post("billing", "/rights", ask, http.StatusForbidden, "You may not do this")
	post("nurse", "/rights", url.Values{"role": {"registration"}, "reason": {"curious"}, "hours": {"4"}}, http.StatusUnprocessableEntity, "Choose a right and a reason.")
	post("nurse", "/rights", url.Values{"role": {"admin"}, "reason": {"covering"}, "hours": {"4"}}, http.StatusUnprocessableEntity, "Choose a right and a reason.")
	post("nurse", "/rights", url.Values{"role": {"registration"}, "reason": {"covering"}, "hours": {"24"}}, http.StatusUnprocessableEntity, "Choose for how long.")

	// Nobody agrees to their own, nor does who has no say.
	id := request()
	post("nurse", "/rights/"+id+"/approve", nil, http.StatusForbidden, "You may not do this")
	post("billing", "/rights/"+id+"/approve", nil, http.StatusForbidden, "You may not do this")
	post("billing", "/rights/"+id+"/end", nil, http.StatusForbidden, "You may not do this")
	status("nurse", http.StatusForbidden)

	post("physician", "/rights/"+id+"/approve", nil, http.StatusSeeOther)
	for _, login := range []string{"nurse", "officer"} {
		ans, err := b[login].get("/rights")
		if err := ans.with(err, id, "in force"); err != nil {
			t.Errorf("%s: %v", login, err)
		}
	}
	if ans, err := b["billing"].get("/rights"); ans.want(err, http.StatusForbidden) != nil {
		t.Errorf("who has nothing to do with it comes to the desk: %d, %v", ans.status, err)
	}
	if w := a.ask(a.become(t, "billing", "nurse"), http.MethodGet, "/rights", nil); w.Code != http.StatusOK || strings.Contains(w.Body.String(), id) {
		t.Errorf("who has no say is shown it: %d", w.Code)
	}
	if err := status("nurse", http.StatusOK).with(nil, `name="MRN"`); err != nil {
		t.Errorf("there is no form: %v", err)
	}
	post("nurse", "/patients", url.Values{"Name": {"Ada Vance"}, "MRN": {"MRN-9"}, "Phone": {"617-555-0188"}}, http.StatusSeeOther)
	post("officer", "/rights/"+id+"/approve", nil, http.StatusConflict, "not possible any more")

	// Who may ask, and agree to what others ask for, does not agree to their own.
	two := a.become(t, "admin", "nurse", "physician")
	own, err := a.desk.Request(access.With(t.Context(), two, access.Operations), grant.Request{Role: "registration", Reason: audit.ReasonConsult, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if w := a.ask(two, http.MethodPost, "/rights/"+own.ID+"/approve", nil); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "somebody else has to agree") {
		t.Errorf("who asked agrees: %d", w.Code)
	}
	if w := a.ask(two, http.MethodPost, "/rights/"+own.ID+"/end", nil); w.Code != http.StatusSeeOther {
		t.Errorf("who asked takes it back: %d", w.Code)
	}

	// The holder ends it, or who agrees.
	post("nurse", "/rights/"+id+"/end", nil, http.StatusSeeOther)
	status("nurse", http.StatusForbidden)
	id = request()
	post("officer", "/rights/"+id+"/approve", nil, http.StatusSeeOther)
	status("nurse", http.StatusOK)
	post("physician", "/rights/"+id+"/end", nil, http.StatusSeeOther)
	status("nurse", http.StatusForbidden)
	id = request()
	post("physician", "/rights/"+id+"/refuse", nil, http.StatusSeeOther)
	status("nurse", http.StatusForbidden)
	for _, path := range []string{"/rights/none/approve", "/rights/01890a5d-ac96-774b-bcce-b302099a8057/approve", "/rights/078-05-1120/end"} {
		post("physician", path, nil, http.StatusForbidden, "You may not do this")
	}
	if ans, err := newBrowser(b["nurse"].base).post("/rights", ask); ans.want(err, http.StatusSeeOther) != nil || ans.location != "/signin" {
		t.Errorf("nobody: %d, %v", ans.status, err)
	}

	seen := map[audit.Type]int{}
	for ev, err := range a.journal.Events(t.Context(), audit.Query{Tenant: tenant}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Outcome == audit.Success && ev.Role == "registration" {
			seen[ev.Type]++
		}
	}
	if seen[audit.GrantRequested] != 4 || seen[audit.GrantApproved] != 2 || seen[audit.GrantEnded] < 2 {
		t.Errorf("on record are %v", seen)
	}
}

// A right ends by itself.
func TestARightIsOver(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "nurse")
	then := time.Now().Add(-5 * time.Hour)
	earlier, err := grant.New(grant.Config{Store: accessstore.New(a.db).Grants(), Audit: a.trail, Roles: a.rolesNow, Elevations: elevations(), Now: func() time.Time { return then }})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ttl    time.Duration
		status int
		says   string
	}{{4 * time.Hour, http.StatusForbidden, `<span class="tag">over</span>`}, {12 * time.Hour, http.StatusOK, "in force until"}} {
		g, err := earlier.Request(access.With(t.Context(), a.as(t, "nurse"), access.Treatment), grant.Request{Role: "registration", Reason: audit.ReasonCovering, TTL: tt.ttl})
		if err == nil {
			g, err = earlier.Approve(access.With(t.Context(), a.as(t, "physician"), access.Treatment), g.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		ans, err := b["nurse"].get("/patients/new")
		if err := ans.want(err, tt.status); err != nil {
			t.Error(err)
		}
		ans, err = b["nurse"].get("/rights")
		if err := ans.with(err, g.ID, tt.says); err != nil {
			t.Error(err)
		}
		then = then.Add(time.Second)
		if _, err := a.desk.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// become gives a demo user other roles, and returns them as they sign in then.
func (a *app) become(t *testing.T, login string, roles ...string) access.Principal {
	t.Helper()
	if err := a.sessions.SetRoles(t.Context(), tenant, a.as(t, login).ID, roles); err != nil {
		t.Fatal(err)
	}
	return a.as(t, login)
}

// ask is a request of somebody who is signed in.
func (a *app) ask(who access.Principal, method, path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(access.With(context.Background(), who, ""), method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	local(a.handler()).ServeHTTP(w, r)
	return w
}

// Whom the decision point denies everything, since two of their roles exclude each
// other in a session, does nothing at the desk either.
func TestTheDeskIsForWhomThePointAdmits(t *testing.T) {
	t.Parallel()
	a, _ := seededApp(t)
	nurse := access.With(t.Context(), a.as(t, "nurse"), access.Treatment)
	right, err := a.desk.Request(nurse, grant.Request{Role: "registration", Reason: audit.ReasonCovering, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	live, err := a.desk.BreakGlass(nurse, grant.Glass{Patient: nobody, Reason: audit.ReasonEmergency}, "demo nurse 164")
	if err != nil {
		t.Fatal(err)
	}
	over, err := a.desk.BreakGlass(nurse, grant.Glass{Patient: firstPatient, Reason: audit.ReasonEmergency}, "demo nurse 164")
	if err == nil {
		_, err = a.desk.Revoke(nurse, over.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	both := a.become(t, "officer", "privacy-officer", "nurse")
	for _, path := range []string{"/rights", "/emergencies", "/emergencies/" + over.ID} {
		if w := a.ask(both, http.MethodGet, path, nil); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), right.ID) || strings.Contains(w.Body.String(), over.ID) {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	for _, tt := range []struct {
		path string
		form url.Values
	}{
		{"/rights", url.Values{"role": {"registration"}, "reason": {"covering"}, "hours": {"4"}}},
		{"/rights/" + right.ID + "/approve", nil},
		{"/rights/" + right.ID + "/refuse", nil},
		{"/rights/" + right.ID + "/end", nil},
		{"/emergencies/" + live.ID + "/end", nil},
		{"/emergencies/" + over.ID + "/review", url.Values{"finding": {"explained"}}},
	} {
		if w := a.ask(both, http.MethodPost, tt.path, tt.form); w.Code != http.StatusForbidden {
			t.Errorf("POST %s: %d", tt.path, w.Code)
		}
	}
	for id, want := range map[string]grant.State{right.ID: grant.Requested, live.ID: grant.Active, over.ID: grant.Revoked} {
		if g, err := a.grants.Grant(t.Context(), tenant, id); err != nil || g.At(time.Now()) != want {
			t.Errorf("%s is %s, want %s, %v", g.Kind, g.At(time.Now()), want, err)
		}
	}

	// With one hat it goes.
	officer := a.become(t, "officer", "privacy-officer")
	for path, form := range map[string]url.Values{
		"/rights/" + right.ID + "/approve":    nil,
		"/emergencies/" + live.ID + "/end":    nil,
		"/emergencies/" + over.ID + "/review": {"finding": {"explained"}},
	} {
		if w := a.ask(officer, http.MethodPost, path, form); w.Code != http.StatusSeeOther {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
}

// Who has two roles does at the desk what the one in which they act may do.
func TestTheDeskGoesByTheRolesOfTheSession(t *testing.T) {
	t.Parallel()
	a, _ := seededApp(t)
	who := a.as(t, "officer")
	if err := a.sessions.SetRoles(t.Context(), tenant, who.ID, []string{"privacy-officer", "nurse"}); err != nil {
		t.Fatal(err)
	}
	ask := grant.Request{Role: "registration", Reason: audit.ReasonCovering, TTL: time.Hour}
	for _, tt := range []struct {
		name     string
		roles    []string // of the session
		approves error
		asks     error
	}{
		{"as a nurse", []string{"nurse"}, grant.ErrEligible, nil},
		{"as the officer", []string{"privacy-officer"}, nil, grant.ErrEligible},
		{"by a role that the account has not got", []string{"physician"}, grant.ErrEligible, grant.ErrEligible},
		{"by all", nil, nil, nil},
	} {
		who.Roles = tt.roles
		ctx := access.With(t.Context(), who, access.Operations)
		nurse := access.With(t.Context(), a.as(t, "nurse"), access.Operations)
		g, err := a.desk.Request(nurse, ask)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.desk.Approve(ctx, g.ID); !errors.Is(err, tt.approves) {
			t.Errorf("%s: approving: %v, want %v", tt.name, err, tt.approves)
		}
		own, err := a.desk.Request(ctx, ask)
		if !errors.Is(err, tt.asks) {
			t.Errorf("%s: asking: %v, want %v", tt.name, err, tt.asks)
		}
		if err == nil {
			_, err = a.desk.Revoke(ctx, own.ID)
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := a.desk.Revoke(nurse, g.ID); err != nil {
			t.Error(err)
		}
	}
}

// lost is a store of grants whose lists cannot be read.
type lost struct{ grant.Store }

func (lost) List(context.Context, grant.Query) ([]grant.Grant, error) {
	return nil, errors.New("the list is lost")
}

// A search needs no count of what waits at the desk.
func TestTheSearchGoesWithoutACount(t *testing.T) {
	t.Parallel()
	a, _ := seededApp(t)
	var said bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&said, nil))
	page := func() *httptest.ResponseRecorder { return a.ask(a.as(t, "officer"), http.MethodGet, "/patients", nil) }
	const counted, link = "Emergency access to review: 0", `href="/rights"`
	if w := page(); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), counted) || !strings.Contains(w.Body.String(), link) || said.Len() > 0 {
		t.Errorf("with a count: %d, %s", w.Code, &said)
	}
	var err error
	a.desk, err = grant.New(grant.Config{
		Store: lost{a.grants}, Audit: a.trail, Roles: a.rolesNow, Elevations: elevations(), Alert: a.tell,
		Emergency: &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"privacy-officer"}},
		Confirm:   a.sessions.Confirm,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := page()
	if w.Code != http.StatusOK || strings.Contains(w.Body.String(), counted) || !strings.Contains(w.Body.String(), "Emergency access to review") || !strings.Contains(w.Body.String(), link) {
		t.Errorf("without one: %d\n%s", w.Code, w.Body)
	}
	if strings.Count(said.String(), "the list is lost") != 2 {
		t.Errorf("it says %s", &said)
	}
}
