// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

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

// app is a sample app, in which something may be left out.
func app(t *testing.T, leaveOut string) http.Handler {
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: audittest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain := http.NewServeMux() // what an app without the Mux has
	handle := func(pattern string, action access.Action, typ string, purposes ...access.Purpose) {
		switch leaveOut {
		case pattern:
			plain.Handle(pattern, ok)
		case "purpose of " + pattern:
			plain.Handle(pattern, guard.Require(action, typ, append(purposes, access.EmergencyTreatment)...)(ok))
		default:
			plain.Handle(pattern, guard.Require(action, typ, purposes...)(ok))
		}
	}
	handle("GET /patients/{id}", access.Read, "patient", access.Treatment)
	handle("POST /patients/{id}", access.Update, "patient", access.Treatment)
	handle("GET /bills", access.Search, "encounter", access.Payment)
	plain.Handle("GET /style.css", ok)
	if leaveOut == "the refusal of what is unmapped" {
		return plain
	}
	mux := guard.Mux()
	mux.Handle("GET /patients/{id}", plain, access.Read, "patient", access.Treatment)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, pattern := plain.Handler(req); pattern != "" && !strings.Contains(req.URL.Path, "..") {
			plain.ServeHTTP(w, req)
			return
		}
		mux.ServeHTTP(w, req)
	})
}

func sampleRoutes() []accesstest.Route {
	return []accesstest.Route{
		{Path: "/patients/p-1", Role: "physician", Purposes: []access.Purpose{access.Treatment}},
		{Method: "POST", Path: "/patients/p-1", Body: "name=x", Role: "physician", Purposes: []access.Purpose{access.Treatment}},
		{Path: "/bills?page=1", Role: "billing", Purposes: []access.Purpose{access.Payment}},
		{Path: "/style.css", Public: true},
	}
}

// mapped is the sample app on the guard's own Mux.
func mapped(t *testing.T) http.Handler {
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: audittest.New(t), SignIn: "/signin"})
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	mux := guard.Mux()
	mux.Handle("GET /patients/{id}", ok, access.Read, "patient", access.Treatment)
	mux.Handle("POST /patients/{id}", ok, access.Update, "patient", access.Treatment)
	mux.Handle("GET /bills", ok, access.Search, "encounter", access.Payment)
	mux.Public("GET /style.css", ok)
	return mux
}

func TestCheckRoutes(t *testing.T) {
	t.Parallel()
	accesstest.CheckRoutes(t, mapped(t), sampleRoutes()...)
}

// TestCheckRoutesAs asks as somebody in particular.
func TestCheckRoutesAs(t *testing.T) {
	t.Parallel()
	as := accesstest.Principal("t-elsewhere", "physician")
	as.ID = "u-1"
	for id, says := range map[string]string{"u-1": "", "u-2": "GET /patients/p-1 signed in as physician: is refused with 403"} {
		guard, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: audittest.New(t)})
		if err != nil {
			t.Fatal(err)
		}
		mux := guard.Mux()
		mux.HandleFunc("GET /patients/{id}", func(w http.ResponseWriter, req *http.Request) {
			if p, _ := access.PrincipalFrom(req.Context()); p.ID != id || p.Tenant != "t-elsewhere" {
				guard.Refuse(w, req, nil)
			}
		}, access.Read, "patient", access.Treatment)
		r := &red{ctx: t.Context()}
		accesstest.CheckRoutes(r, mux, accesstest.Route{Path: "/patients/p-1", As: as, Purposes: []access.Purpose{access.Treatment}})
		if said := strings.Join(r.said, "\n"); (said == "") != (says == "") || !strings.Contains(said, says) {
			t.Errorf("of %s: %q, want %q", id, said, says)
		}
	}
}

// TestCheckRoutesSeesSideDoors breaks the mapped app by a way around its guard.
func TestCheckRoutesSeesSideDoors(t *testing.T) {
	t.Parallel()
	chart := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s, err := access.From(req.Context()); err == nil {
			fmt.Fprintf(w, "a chart for %s", s.Purpose())
		}
	})
	engine, err := rbac.New(rbac.Config{Rules: []rbac.Rule{{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read},
		Purposes: []access.Purpose{access.Treatment, access.Research}}}})
	if err != nil {
		t.Fatal(err)
	}
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: engine, Audit: audittest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	whole := guard.Mux()
	whole.Handle("GET /patients/{id}", chart, access.Read, "patient", access.Treatment)
	route := accesstest.Route{Path: "/patients/p-1", Role: "nurse", Purposes: []access.Purpose{access.Treatment}}
	accesstest.CheckRoutes(t, whole, route)
	for says, around := range map[string]func(w http.ResponseWriter, req *http.Request) bool{
		"for the purpose CLINTRL chosen: is answered with 200": func(w http.ResponseWriter, req *http.Request) bool {
			p := access.Purpose(req.URL.Query().Get("purpose"))
			if !p.Valid() {
				return false
			}
			m := guard.Mux()
			m.Handle("GET /patients/{id}", chart, access.Read, "patient", p)
			m.ServeHTTP(w, req)
			return true
		},
		"HEAD /patients/p-1 without a sign-in: is answered with 200": func(_ http.ResponseWriter, req *http.Request) bool {
			return req.Method == http.MethodHead
		},
		"OPTIONS /patients/p-1 without a sign-in: is answered with a body": func(w http.ResponseWriter, req *http.Request) bool {
			return req.Method == http.MethodOptions && must(w.Write([]byte("a chart"))) > 0
		},
		"without a sign-in: is sent elsewhere with more in the body": func(w http.ResponseWriter, req *http.Request) bool {
			if _, ok := access.PrincipalFrom(req.Context()); ok {
				return false
			}
			w.Header().Set("Location", "/signin")
			w.WriteHeader(http.StatusSeeOther)
			return must(w.Write([]byte("a chart"))) > 0
		},
		"with the header X-Remote-User: is answered with 200": func(w http.ResponseWriter, req *http.Request) bool {
			if req.Header.Get("X-Remote-User") == "" {
				return false
			}
			whole.ServeHTTP(w, req.WithContext(access.With(req.Context(), accesstest.Principal(accesstest.Tenant, "nurse"), "")))
			return true
		},
		"with the header X-Http-Method-Override: is answered with 200": func(_ http.ResponseWriter, req *http.Request) bool {
			return req.Header.Get("X-HTTP-Method-Override") == http.MethodDelete
		},
	} {
		r := &red{ctx: t.Context()}
		accesstest.CheckRoutes(r, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !around(w, req) {
				whole.ServeHTTP(w, req)
			}
		}), route)
		if said := strings.Join(r.said, "\n"); !strings.Contains(said, says) {
			t.Errorf("%q, want %q", said, says)
		}
	}
}

func must(n int, err error) int {
	if err != nil {
		panic(err)
	}
	return n
}

// TestCheckRoutesSeesWhatIsLeftOut drops one middleware of the sample app at a time.
func TestCheckRoutesSeesWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	for leaveOut, says := range map[string]string{
		"GET /patients/{id}":              "GET /patients/p-1 without a sign-in: is answered with 200",
		"POST /patients/{id}":             "POST /patients/p-1 without a role that may: is answered with 200",
		"GET /bills":                      "GET /bills?page=1 for the purpose TREAT: is answered with 200",
		"purpose of GET /patients/{id}":   "GET /patients/p-1 for the purpose ETREAT: is answered with 200",
		"the refusal of what is unmapped": "by a path that no route has: is answered with 404",
	} {
		r := &red{ctx: t.Context()}
		accesstest.CheckRoutes(r, app(t, leaveOut), sampleRoutes()...)
		if !strings.Contains(strings.Join(r.said, "\n"), says) {
			t.Errorf("without %s:\n%s\nwant %q", leaveOut, strings.Join(r.said, "\n"), says)
		}
	}
	denies := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	panics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") })
	for name, tt := range map[string]struct {
		handler http.Handler
		routes  []accesstest.Route
		says    string
	}{
		"an app that refuses all": {denies, sampleRoutes(), "signed in as physician: is refused with 403"},
		"an app that panics":      {panics, sampleRoutes(), "panics (string)"},
		"no routes":               {denies, nil, "no route is given"},
		"public routes only":      {denies, sampleRoutes()[3:], "no route is given"},
		"a route without a role":  {denies, []accesstest.Route{{Path: "/x"}}, "no Role"},
		"a path that is none":     {denies, []accesstest.Route{{Path: "x"}}, "is not one of a request"},
	} {
		r := &red{ctx: t.Context()}
		accesstest.CheckRoutes(r, tt.handler, tt.routes...)
		if !strings.Contains(strings.Join(r.said, "\n"), tt.says) {
			t.Errorf("%s: %q, want %q", name, r.said, tt.says)
		}
	}
}
