// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/watch"
	"github.com/part164/part164/storage/accessstore"
)

// seededApp is the app with its invented patients, and browsers of some users.
func seededApp(t *testing.T, logins ...string) (*app, map[string]*browser) {
	t.Helper()
	a, base, _ := start(t, options{})
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, out := &visit{base: base}, map[string]*browser{}
	for _, login := range logins {
		b, _, err := v.signIn(login)
		if err != nil {
			t.Fatal(err)
		}
		out[login] = b
	}
	return a, out
}

func TestEachReasonAndFindingHasAName(t *testing.T) {
	t.Parallel()
	for _, r := range grant.BreakGlass.Reasons() {
		if reasons[r] == "" {
			t.Errorf("the reason %s has no name", r)
		}
	}
	for _, f := range grant.Findings() {
		if findings[f] == "" {
			t.Errorf("the finding %s has no name", f)
		}
	}
	if len(reasons) != len(grant.BreakGlass.Reasons()) || len(findings) != len(grant.Findings()) {
		t.Error("a name is of no reason or finding")
	}
}

// The glass takes a member of the workforce, a reason of the list, the password,
// and a second factor of this session.
func TestWhoBreaksTheGlass(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "nurse", "billing", "admin", "patient", "officer")
	chart := strangerAt(t, b["nurse"], 3)
	for _, tt := range []struct {
		name, login, reason, password string
		status                        int
		says                          string
	}{
		{"no reason", "nurse", "", "demo nurse 164", http.StatusUnprocessableEntity, "Choose a reason."},
		{"a reason of another kind", "nurse", "repair", "demo nurse 164", http.StatusUnprocessableEntity, "Choose a reason."},
		{"no password", "nurse", "emergency", "", http.StatusForbidden, "The password is not right."},
		{"somebody else's password", "nurse", "emergency", "demo physician 164", http.StatusForbidden, "The password is not right."},
		{"billing", "billing", "emergency", "demo billing 164", http.StatusForbidden, "You may not do this"},
		{"an administrator", "admin", "emergency", "demo admin 164", http.StatusForbidden, "You may not do this"},
		{"who reviews it", "officer", "emergency", "demo officer 164", http.StatusForbidden, "You may not do this"},
		{"a patient", "patient", "emergency", "demo patient 164", http.StatusForbidden, "You may not do this"},
	} {
		ans, err := b[tt.login].post(chart+"/emergency", url.Values{"reason": {tt.reason}, "password": {tt.password}})
		if err := ans.with(ans.want(err, tt.status), tt.says); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if ans, err := b["nurse"].get(chart); ans.want(err, http.StatusForbidden) != nil {
		t.Errorf("the chart is open: %d, %v", ans.status, err)
	}
	if ans, err := newBrowser(b["nurse"].base).post(chart+"/emergency", url.Values{"reason": {"emergency"}}); ans.want(err, http.StatusSeeOther) != nil || ans.location != "/signin" {
		t.Errorf("nobody: %d, %v", ans.status, err)
	}
	for _, id := range []string{"jane@example.org", "078-05-1120"} {
		if ans, err := b["nurse"].post("/patients/"+id+"/emergency", url.Values{"reason": {"emergency"}, "password": {"demo nurse 164"}}); ans.want(err, http.StatusForbidden) != nil {
			t.Errorf("what is no ID: %d, %v", ans.status, err)
		}
	}
	// A factor that is too old, and one that this session has not seen.
	for name, change := range map[string]func(*access.Principal){
		"too old": func(p *access.Principal) { p.AuthTime = time.Now().Add(-13 * time.Hour) },
		"missing": func(p *access.Principal) { p.Assurance = 1 },
	} {
		who := a.as(t, "nurse")
		change(&who)
		form := strings.NewReader("reason=emergency&password=demo+nurse+164")
		r := httptest.NewRequestWithContext(access.With(t.Context(), who, ""), http.MethodPost, chart+"/emergency", form)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		if local(a.handler()).ServeHTTP(w, r); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "second factor") {
			t.Errorf("a second factor that is %s: %d", name, w.Code)
		}
	}
	// Each try is on record, by its reason.
	tries := map[audit.Reason]int{}
	for ev, err := range a.journal.Events(t.Context(), audit.Query{Tenant: tenant, Types: []audit.Type{audit.GlassBroken}}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Outcome != audit.Failure {
			t.Errorf("the glass was broken: %+v", ev)
		}
		tries[ev.Reason]++
	}
	if tries[audit.ReasonPassword] != 2 || tries[audit.ReasonPolicy] != 3 || tries[audit.ReasonTOTP] != 2 {
		t.Errorf("on record are %v", tries)
	}
}

// old is a policy that is too old to decide by, but for emergencies.
type old struct{ pdp.Policy }

func (o old) Rule(ctx context.Context, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (access.Verdict, error) {
	if !purpose.Emergency() {
		return access.Verdict{Code: access.DenyStale}, nil
	}
	return o.Policy.Rule(ctx, who, action, resourceType, purpose)
}

// Where the policy cannot be read any more, everything is refused, and the glass
// still breaks.
func TestStalePolicyDoesNotHoldUpAnEmergency(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "nurse")
	chart := strangerAt(t, b["nurse"], 3)
	var err error
	if a.point, err = pdp.New(pdp.Config{Policy: old{a.policy}, Relations: a.relations, Grants: a.desk, TenantWide: tenantWide()}); err != nil {
		t.Fatal(err)
	}
	if a.guard, err = a.newGuard(); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(a.handler())
	t.Cleanup(srv.Close)
	p := &walk{t: t, b: &browser{base: srv.URL, http: b["nurse"].http}}
	if ans, err := p.b.get("/patients"); ans.want(err, http.StatusForbidden) != nil {
		t.Errorf("a search by a stale policy: %d, %v", ans.status, err)
	}
	p.land(p.b.get(chart))
	p.follow(`href="(/patients/[^"]*)" data-offer="breakglass"`)
	p.send(`action="(/patients/[^"]*/emergency)"`, url.Values{"reason": {"emergency"}, "password": {"demo nurse 164"}})
	if err := p.page.with(nil, "Emergency access until"); err != nil || p.steps > 3 {
		t.Errorf("%d steps, %v", p.steps, err)
	}
}

// What nobody has reviewed in time is shown as overdue, and stays until somebody
// decides; who reviews is another person.
func TestOverdueReview(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "officer", "nurse")
	then := time.Now().Add(-4 * 24 * time.Hour)
	earlier, err := grant.New(grant.Config{
		Store: accessstore.New(a.db).Grants(), Audit: a.trail, Roles: a.rolesNow, Alert: a.tell, Now: func() time.Time { return then },
		Emergency: &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"privacy-officer"}},
		Confirm:   func(context.Context, access.Principal, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	nurse := a.as(t, "nurse")
	nurse.AuthTime = then
	g, err := earlier.BreakGlass(access.With(t.Context(), nurse, access.Treatment), grant.Glass{Patient: firstPatient, Reason: audit.ReasonConsult}, "")
	if err != nil {
		t.Fatal(err)
	}
	ans, err := b["officer"].get("/patients")
	if err := ans.with(err, "Emergency access to review: 1", "1 overdue"); err != nil {
		t.Error(err)
	}
	ans, err = b["officer"].get("/emergencies")
	if err := ans.with(err, "1 to review", "1 overdue", g.ID, "I was asked for a consult"); err != nil {
		t.Error(err)
	}
	page := "/emergencies/" + g.ID
	ans, err = b["officer"].get(page)
	if err := ans.with(err, "overdue", "Nothing.", "It was in order", "Somebody else decides"); err != nil {
		t.Error(err)
	}
	if ans, err = b["officer"].post(page+"/review", url.Values{"finding": {"false_alarm"}}); ans.with(ans.want(err, http.StatusConflict), "Choose a finding.") != nil {
		t.Errorf("a finding of another kind: %d, %v", ans.status, err)
	}
	if ans, err = b["officer"].post(page+"/review", url.Values{"finding": {"escalated"}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("%d, %v", ans.status, err)
	}
	if ans, err = b["officer"].get("/emergencies"); ans.with(err, g.ID) != nil {
		t.Error("what somebody else decides has left the queue")
	}
	// Who broke it holds the reviewers' role by now, and is no reviewer of it.
	if err := a.sessions.SetRoles(t.Context(), tenant, nurse.ID, []string{"privacy-officer"}); err != nil {
		t.Fatal(err)
	}
	own := nurse
	own.Roles, own.AuthTime = []string{"privacy-officer"}, time.Now()
	if _, err := a.desk.Review(access.With(t.Context(), own, access.Compliance), g.ID, audit.ReasonExplained); !errors.Is(err, grant.ErrOwn) {
		t.Errorf("who broke the glass reviews it: %v", err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(access.With(t.Context(), own, ""), http.MethodGet, page, nil)
	if local(a.handler()).ServeHTTP(w, r); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "This was you") || strings.Contains(w.Body.String(), `name="finding"`) {
		t.Errorf("their own: %d", w.Code)
	}
	if ans, err = b["officer"].post(page+"/review", url.Values{"finding": {"violation"}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("%d, %v", ans.status, err)
	}
	if ans, err = b["officer"].post(page+"/review", url.Values{"finding": {"explained"}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("a second review: %d, %v", ans.status, err)
	}
	if g, err = accessstore.New(a.db).Grants().Grant(t.Context(), tenant, g.ID); err != nil || g.Finding != audit.ReasonViolation {
		t.Errorf("the finding is %s, %v", g.Finding, err)
	}
	for _, path := range []string{page, "/emergencies/none", "/emergencies/01890a5d-ac96-774b-bcce-b302099a8057"} {
		if ans, err = b["officer"].get(path); ans.want(err, http.StatusForbidden) != nil {
			t.Errorf("%s: %d, %v", path, ans.status, err)
		}
	}
}

// Who cares for whom is changed on the chart, and counts at once. The watch rules
// go by the same.
func TestCareTeam(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "physician", "nurse", "billing")
	const chart = "/patients/" + firstPatient
	status := func(who, path string, want int) answer {
		t.Helper()
		ans, err := b[who].get(path)
		if err := ans.want(err, want); err != nil {
			t.Errorf("%s: %v", who, err)
		}
		return ans
	}
	if err := status("nurse", chart, http.StatusOK).with(nil, "Care team"); err != nil {
		t.Error(err)
	}
	ans := status("physician", chart+"/team", http.StatusOK)
	m := regexp.MustCompile(`name="relation" value="([^"]*)"><button class="plain" aria-label="Take nurse off`).FindStringSubmatch(ans.body)
	if m == nil {
		t.Fatalf("the nurse is not on the team:\n%s", ans.body)
	}
	if err := status("nurse", chart+"/team", http.StatusOK).without("/team/end"); err != nil {
		t.Errorf("a nurse is shown how to change it: %v", err)
	}
	for _, f := range []url.Values{{"login": {"billing"}}, {"relation": {m[1]}}} {
		path := chart + "/team"
		if f.Has("relation") {
			path += "/end"
		}
		if ans, err := b["nurse"].post(path, f); ans.want(err, http.StatusForbidden) != nil {
			t.Errorf("a nurse changes it: %d, %v", ans.status, err)
		}
	}
	if ans, err := b["physician"].post(chart+"/team/end", url.Values{"relation": {m[1]}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("%d, %v", ans.status, err)
	}
	status("nurse", chart, http.StatusForbidden)
	for login, says := range map[string]string{"nobody": "Nobody of the staff", "patient": "Nobody of the staff", "physician": "You are on it."} {
		if ans, err := b["physician"].post(chart+"/team", url.Values{"login": {login}}); ans.with(ans.want(err, http.StatusUnprocessableEntity), says) != nil {
			t.Errorf("%s: %d, %v", login, ans.status, err)
		}
	}
	if ans, err := b["physician"].post(chart+"/team", url.Values{"login": {"nurse"}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("%d, %v", ans.status, err)
	}
	status("nurse", chart, http.StatusOK)
	status("billing", chart, http.StatusOK) // for payment, whoever cares for the patient
	status("billing", chart+"/team", http.StatusForbidden)
	stranger := strangerAt(t, b["physician"], 3)
	for _, path := range []string{stranger, stranger + "/edit", stranger + "/team"} {
		status("physician", path, http.StatusForbidden)
	}
	if ans, err := b["physician"].post(stranger+"/team", url.Values{"login": {"nurse"}}); ans.want(err, http.StatusForbidden) != nil {
		t.Errorf("a stranger gives the right: %d, %v", ans.status, err)
	}

	pseudonym := func(path string) string { return a.journal.Pseudonym(tenant, strings.TrimPrefix(path, "/patients/")) }
	relations := a.relations.Watched(a.journal.Pseudonym, known{a.journal.Pseudonym(tenant, nobody)})
	is, err := relations.Relate(t.Context(), tenant, a.as(t, "nurse").ID, []string{pseudonym(chart), pseudonym(stranger), pseudonym("/patients/" + nobody)})
	if want := []watch.Relation{{Care: true}, {}, {Honey: true}}; err != nil || len(is) != 3 || is[0] != want[0] || is[1] != want[1] || is[2] != want[2] {
		t.Errorf("the watch rules are told %+v, %v", is, err)
	}
}

// Whom a patient wants to be kept from the chart does not see it, on the care team
// or not, but in an emergency.
func TestRestriction(t *testing.T) {
	t.Parallel()
	a, b := seededApp(t, "nurse", "physician", "officer")
	const chart = "/patients/" + firstPatient
	status := func(who string, want int) {
		t.Helper()
		if ans, err := b[who].get(chart); ans.want(err, want) != nil {
			t.Errorf("%s: %d, %v", who, ans.status, err)
		}
	}
	status("nurse", http.StatusOK)
	for login, want := range map[string]int{"nobody": http.StatusUnprocessableEntity, "nurse": http.StatusSeeOther} {
		if ans, err := b["officer"].post(chart+"/restrictions", url.Values{"login": {login}}); ans.want(err, want) != nil {
			t.Errorf("%s: %d, %v", login, ans.status, err)
		}
	}
	if ans, err := b["physician"].post(chart+"/restrictions", url.Values{"login": {"nurse"}}); ans.want(err, http.StatusForbidden) != nil {
		t.Errorf("a physician restricts: %d, %v", ans.status, err)
	}
	status("nurse", http.StatusForbidden)
	status("physician", http.StatusOK)
	refused := 0
	for ev, err := range a.journal.Events(t.Context(), audit.Query{Tenant: tenant, Patient: firstPatient, Types: []audit.Type{audit.Denied}}) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Code == access.DenyRestriction {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d refusals are on record as by the patient's restriction, want 1", refused)
	}
	if ans, err := b["nurse"].post(chart+"/emergency", url.Values{"reason": {"emergency"}, "password": {"demo nurse 164"}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("%d, %v", ans.status, err)
	}
	status("nurse", http.StatusOK)
	if n, err := a.desk.RevokeAll(access.With(t.Context(), a.as(t, "officer"), access.Compliance), tenant, a.as(t, "nurse").ID); n != 1 || err != nil {
		t.Errorf("RevokeAll = %d, %v", n, err)
	}
	status("nurse", http.StatusForbidden)
	ans, err := b["officer"].get(chart + "/restrictions")
	m := regexp.MustCompile(`name="directive" value="([^"]*)"`).FindStringSubmatch(ans.body)
	if ans.want(err, http.StatusOK) != nil || m == nil {
		t.Fatalf("%d, %v", ans.status, err)
	}
	if ans, err := b["officer"].post(chart+"/restrictions/end", url.Values{"directive": {m[1]}}); ans.want(err, http.StatusSeeOther) != nil {
		t.Errorf("%d, %v", ans.status, err)
	}
	status("nurse", http.StatusOK)
}
