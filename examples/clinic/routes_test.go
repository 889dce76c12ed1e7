// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/audit"
)

// noted is a router that notes which routes there are.
type noted map[string][]access.Purpose

func (n noted) HandleFunc(pattern string, _ http.HandlerFunc, _ access.Action, _ string, purposes ...access.Purpose) {
	n[pattern] = purposes
}

func (n noted) Public(pattern string, _ http.Handler) { n[pattern] = nil }

// leaky is a router that leaves the guard out before one route.
type leaky struct {
	*httpaccess.Mux
	open string
}

func (l leaky) HandleFunc(pattern string, h http.HandlerFunc, action access.Action, resourceType string, purposes ...access.Purpose) {
	if pattern == l.open {
		l.Public(pattern, h)
		return
	}
	l.Mux.HandleFunc(pattern, h, action, resourceType, purposes...)
}

// local is a handler as this machine reaches it.
func local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Accept", "text/html")
		h.ServeHTTP(w, r)
	})
}

// as is a demo user as the session's middleware leaves them.
func (a *app) as(t *testing.T, login string) access.Principal {
	t.Helper()
	u, err := a.sessions.UserByLogin(t.Context(), tenant, login)
	if err != nil {
		t.Fatal(err)
	}
	return access.Principal{ID: u.ID, Tenant: tenant, Kind: u.Kind, Roles: u.Roles, Session: "s-test", Assurance: 2, AuthTime: time.Now()}
}

// checked returns a request for each route, by who may do it, with the purposes of
// the route.
func (a *app) checked(t *testing.T) map[string]accesstest.Route {
	t.Helper()
	nurse, physician, officer, admin, patient := a.as(t, "nurse"), a.as(t, "physician"), a.as(t, "officer"), a.as(t, "admin"), a.as(t, "patient")
	ctx := access.With(t.Context(), nurse, access.Treatment)
	g, err := a.desk.BreakGlass(ctx, grant.Glass{Patient: nobody, Reason: audit.ReasonEmergency}, "demo nurse 164")
	if err != nil {
		t.Fatal(err)
	}
	other, err := a.desk.BreakGlass(ctx, grant.Glass{Patient: "01890a5d-ac96-774b-bcce-b302099a8057", Reason: audit.ReasonEmergency}, "demo nurse 164") // to end
	if err != nil {
		t.Fatal(err)
	}
	right, err := a.desk.Request(ctx, grant.Request{Role: "registration", Reason: audit.ReasonCovering, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	const chart = "/patients/" + firstPatient
	out := map[string]accesstest.Route{
		"GET /{$}":                             {Path: "/"},
		"GET /style.css":                       {Path: "/style.css"},
		"GET /signin":                          {Path: "/signin"},
		"POST /signin":                         {Path: "/signin", Body: "login=billing&password=demo+billing+164"},
		"GET /signin/code":                     {Path: "/signin/code"},
		"POST /signin/code":                    {}, // refused until the password was right: see TestSelfcheckHolds
		"POST /signout":                        {Path: "/signout"},
		"POST /purpose":                        {Path: "/purpose"},
		"GET /patients":                        {Path: "/patients", As: nurse},
		"POST /patients/search":                {Path: "/patients/search", Body: "name=hana", As: nurse},
		"GET /patients/new":                    {Path: "/patients/new", As: physician},
		"POST /patients":                       {Path: "/patients", Body: "Name=Ada+Vance&MRN=MRN-9", As: physician},
		"GET /patients/{id}":                   {Path: chart, As: nurse},
		"GET /patients/{id}/edit":              {Path: chart + "/edit", As: nurse},
		"POST /patients/{id}":                  {Path: chart, Body: "version=1&City=Easton", As: nurse},
		"GET /patients/{id}/team":              {Path: chart + "/team", As: nurse},
		"POST /patients/{id}/team":             {Path: chart + "/team", Body: "login=billing", As: physician},
		"POST /patients/{id}/team/end":         {Path: chart + "/team/end", Body: "relation=r-1", As: physician},
		"GET /patients/{id}/emergency":         {Path: chart + "/emergency"},
		"POST /patients/{id}/emergency":        {Path: chart + "/emergency"},
		"POST /emergencies/{id}/end":           {Path: "/emergencies/" + other.ID + "/end", As: nurse},
		"GET /emergencies":                     {Path: "/emergencies", As: officer},
		"GET /emergencies/{id}":                {Path: "/emergencies/" + g.ID, As: officer},
		"POST /emergencies/{id}/review":        {Path: "/emergencies/" + g.ID + "/review", Body: "finding=explained", As: officer},
		"GET /rights":                          {Path: "/rights", As: nurse},
		"POST /rights":                         {Path: "/rights", Body: "role=registration&reason=covering&hours=1", As: nurse},
		"POST /rights/{id}/approve":            {Path: "/rights/" + right.ID + "/approve", As: physician},
		"POST /rights/{id}/refuse":             {Path: "/rights/" + right.ID + "/refuse", As: physician},
		"POST /rights/{id}/end":                {Path: "/rights/" + right.ID + "/end", As: nurse},
		"GET /patients/{id}/audit":             {Path: chart + "/audit", As: officer},
		"GET /patients/{id}/audit/page":        {Path: chart + "/audit/page", As: officer},
		"GET /patients/{id}/restrictions":      {Path: chart + "/restrictions", As: officer},
		"POST /patients/{id}/restrictions":     {Path: chart + "/restrictions", Body: "login=nobody", As: officer},
		"POST /patients/{id}/restrictions/end": {Path: chart + "/restrictions/end", Body: "directive=none", As: officer},
		"GET /review":                          {Path: "/review", As: officer},
		"POST /review":                         {Path: "/review", Body: "digest=0", As: officer},
		"POST /review/alert":                   {Path: "/review/alert", Body: "alert=none&reason=explained", As: officer},
		"GET /users":                           {Path: "/users", As: admin},
		"POST /users/end":                      {Path: "/users/end", Body: "login=nobody", As: admin},
		"GET /mine":                            {Path: "/mine", As: patient},
		"GET /mine/page":                       {Path: "/mine/page", As: patient},
	}
	routes := noted{}
	a.routes(routes)
	for pattern, purposes := range routes {
		r, ok := out[pattern]
		if !ok {
			t.Errorf("%s is not checked", pattern)
		}
		r.Method, _, _ = strings.Cut(pattern, " ")
		if r.Purposes = purposes; purposes == nil {
			r.Public = true
		}
		out[pattern] = r
	}
	return out
}

// TestRoutes asks the whole app for what it must refuse.
func TestRoutes(t *testing.T) {
	t.Parallel()
	slow(t)
	a, _, _ := start(t, options{})
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []accesstest.Route
	for _, r := range a.checked(t) {
		if r.Path != "" {
			all = append(all, r)
		}
	}
	accesstest.CheckRoutes(t, local(a.handler()), all...)
}

// red is a test that notes that it failed.
type red struct {
	testing.TB
	ctx  context.Context
	said []string
}

func (r *red) Helper()                   {}
func (r *red) Context() context.Context  { return r.ctx }
func (r *red) Error(a ...any)            { r.said = append(r.said, fmt.Sprint(a...)) }
func (r *red) Errorf(f string, a ...any) { r.said = append(r.said, fmt.Sprintf(f, a...)) }

// TestRoutesSeesADroppedGuard leaves out the guard of one route after the other,
// and wants the test above to say so.
func TestRoutesSeesADroppedGuard(t *testing.T) {
	t.Parallel()
	slow(t)
	a, _, _ := start(t, options{})
	a.log = slog.New(slog.DiscardHandler) // which hears of each request that no guard has seen
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	routes := a.checked(t)
	for pattern, route := range routes {
		few := slices.Contains([]string{"GET /patients/{id}", "POST /patients/{id}", "POST /emergencies/{id}/review", "GET /mine"}, pattern)
		if route.Public || !few && os.Getenv("PART164_TEST_LONG") == "" {
			continue
		}
		mux := a.guard.Mux()
		a.routes(leaky{mux, pattern})
		r := &red{ctx: t.Context()}
		accesstest.CheckRoutes(r, local(secure(a.sessions.Middleware(mux))), route)
		if len(r.said) == 0 {
			t.Errorf("nobody notices that %s has no guard", pattern)
		}
	}
}
