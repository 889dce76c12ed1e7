// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
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
	post("nurse", "/rights/"+id+"/approve", nil, http.StatusForbidden, "somebody else has to agree")
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
	if ans, err := b["billing"].get("/rights"); errors.Join(ans.want(err, http.StatusOK), ans.without(id)) != nil {
		t.Errorf("who has no say is shown it: %d, %v", ans.status, err)
	}
	if err := status("nurse", http.StatusOK).with(nil, `name="MRN"`); err != nil {
		t.Errorf("there is no form: %v", err)
	}
	post("nurse", "/patients", url.Values{"Name": {"Ada Vance"}, "MRN": {"MRN-9"}, "Phone": {"617-555-0188"}}, http.StatusSeeOther)
	post("officer", "/rights/"+id+"/approve", nil, http.StatusConflict, "not possible any more")

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
	if seen[audit.GrantRequested] != 3 || seen[audit.GrantApproved] != 2 || seen[audit.GrantEnded] < 2 {
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
