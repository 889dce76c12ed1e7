// SPDX-License-Identifier: Apache-2.0

package accesstest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access"
)

// A Route is one route of an app, with a request that it serves.
type Route struct {
	Method string // of the request; empty means GET
	Path   string // of a request that the route serves, with its query: "/patients/p-1"; required
	Body   string // of the request, a form where it is not empty

	Role     string           // a role that may use the route; required unless Public, or where As is given
	Tenant   string           // in which it may; empty means [Tenant]
	As       access.Principal // who may use it, where that takes more than a role: a relation to the record, or an ID of their own
	Purposes []access.Purpose // that the route is for; required unless Public

	Public bool // for everybody: the sign-in page, stylesheets, a health check
}

// CheckRoutes asks handler, the whole of an app with its middleware, for what it
// must refuse, and wants a refusal each time: every route without a sign-in, with a
// bad one, with headers that other servers take for one, with a role that nobody
// knows, and for every purpose that is not the route's, chosen by cookie or query
// too; every other method of a route's path, HEAD, OPTIONS and methods that a header
// asks for included; and paths near each that no route has, or that are written so
// that two readers understand them differently. What a route is for must be
// answered, with anything but a refusal, so that an app that refuses everything does
// not pass.
//
// Principals come as session's middleware leaves them, in the request's context.
// Where nobody has signed in, a browser may be sent to the sign-in, with no more in
// the body than [http.Redirect] writes. CheckRoutes sees answers only: neither what
// a handler did before it refused, nor the text of a refusal. A request that is
// answered has the effect that it has: use a database of the test's.
func CheckRoutes(t testing.TB, handler http.Handler, routes ...Route) {
	t.Helper()
	if !slices.ContainsFunc(routes, func(r Route) bool { return !r.Public }) {
		t.Error("accesstest: CheckRoutes: no route is given that is not public")
	}
	c := checker{t, handler, routes}
	for _, r := range routes {
		if r.Method == "" {
			r.Method = http.MethodGet
		}
		u, err := url.ParseRequestURI(r.Path)
		switch {
		case err != nil || !strings.HasPrefix(r.Path, "/"):
			t.Errorf("accesstest: CheckRoutes: the Path of %s %q is not one of a request", r.Method, r.Path)
			continue
		case !r.Public && (r.Role == "" && r.As.ID == "" || len(r.Purposes) == 0):
			t.Errorf("accesstest: CheckRoutes: %s %s has no Role or no Purposes, and is not Public", r.Method, r.Path)
			continue
		}
		who := r.As
		if who.ID == "" {
			who = Principal(cmp.Or(r.Tenant, Tenant), r.Role)
		}
		if r.Public {
			c.serves("public", t.Context(), r.Method, r.Path, r.Body)
			c.beside(r, u, Principal(Tenant, "no-such-role"))
			continue
		}
		c.serves("signed in as "+strings.Join(who.Roles, ", "), access.With(t.Context(), who, ""), r.Method, r.Path, r.Body)
		c.persons(r, who)
		c.purposes(r, who)
		c.beside(r, u, who)
	}
}

type checker struct {
	t       testing.TB
	handler http.Handler
	routes  []Route
}

// persons asks as those who may not.
func (c *checker) persons(r Route, who access.Principal) {
	bad, nobody := who, who
	bad.ID = "jane@example.org"
	nobody.Roles = []string{"no-such-role"}
	ended, cancel := context.WithCancel(c.t.Context())
	ended = access.With(ended, who, "")
	cancel()
	for _, p := range []struct {
		what string
		ctx  context.Context
	}{
		{"without a sign-in", c.t.Context()},
		{"with a bad principal", access.With(c.t.Context(), bad, "")},
		{"with a sign-in that has ended", ended},
		{"without a role that may", access.With(c.t.Context(), nobody, "")},
	} {
		c.refuses(p.what, p.ctx, r.Method, r.Path, r.Body)
	}
	for _, h := range []http.Header{
		{"Authorization": {"Bearer " + who.ID}}, {"X-Remote-User": {who.ID}}, {"Remote-User": {who.ID}}, {"X-Forwarded-User": {who.ID}}, {"X-User": {who.ID}},
		{"X-Http-Method-Override": {"DELETE"}}, {"X-Original-Url": {"/"}},
	} {
		for name := range h {
			c.refusesWith(h, "without a sign-in, with the header "+name, c.t.Context(), r.Method, r.Path, r.Body)
		}
	}
	if r.Method == http.MethodGet {
		c.refuses("without a sign-in", c.t.Context(), http.MethodHead, r.Path, "")
	}
	if w, panicked := c.ask(c.t.Context(), http.MethodOptions, r.Path, "", nil); panicked != nil || !isRefusal(w.Code) && w.Body.Len() > 0 {
		c.t.Errorf("accesstest: OPTIONS %s without a sign-in: is answered with a body, want a refusal", r.Path)
	}
}

// purposes asks for what the route is not for: as somebody who may act for nothing
// else, and who says so in every way in which a request may choose among the
// purposes of a route. A route that asks for none would fail for each: it is said
// once.
func (c *checker) purposes(r Route, who access.Principal) {
	c.t.Helper()
	var first string
	more := 0
	note := func(why string) {
		switch {
		case why == "":
		case first == "":
			first = why
		default:
			more++
		}
	}
	for _, p := range access.Purposes() {
		if slices.ContainsFunc(r.Purposes, func(own access.Purpose) bool { return own == p || own.IsA(p) && !own.Emergency() }) {
			continue
		}
		who.Purposes = []access.Purpose{p}
		ctx := access.With(c.t.Context(), who, "")
		note(c.answered("for the purpose "+string(p), ctx, r.Method, r.Path, r.Body, nil))
		note(c.answered("with a scope for "+string(p)+" already", access.ForPurpose(ctx, p), r.Method, r.Path, r.Body, nil))
		chosen := r.Path + "?purpose=" + string(p)
		if strings.Contains(r.Path, "?") {
			chosen = r.Path + "&purpose=" + string(p)
		}
		note(c.answered("for the purpose "+string(p)+" chosen", ctx, r.Method, chosen, r.Body, http.Header{"Cookie": {"purpose=" + string(p)}}))
	}
	switch {
	case more > 0:
		c.t.Errorf("%s, and so are %d more for other purposes", first, more)
	case first != "":
		c.t.Errorf("%s", first)
	}
}

// beside asks for what no route is, as who may use the one beside it.
func (c *checker) beside(r Route, u *url.URL, who access.Principal) {
	ctx := access.With(c.t.Context(), who, "")
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "QUERY"} {
		if m != r.Method && !slices.ContainsFunc(c.routes, func(o Route) bool {
			return samePath(o.Path, r.Path) && (o.Method == m || o.Method == "" && m == "GET")
		}) {
			c.refuses("by a method that no route has", ctx, m, r.Path, "")
		}
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	for _, p := range []string{path + "/no-such-route", "/no-such-route", "/no-such-route" + path} {
		c.refuses("by a path that no route has", ctx, "GET", p, "")
		c.refuses("by a path that no route has, without a sign-in", c.t.Context(), "GET", p, "")
	}
	if r.Public || path == "" {
		return
	}
	last := strings.LastIndexByte(path, '/')
	for _, p := range []string{path[:last] + "%2F" + path[last+1:], path + "/.", "/x/.." + path, "/x/%2e%2e" + path, "/" + path, path[:last] + `%5C` + path[last+1:]} {
		c.refuses("by a path that is written in an odd way", c.t.Context(), r.Method, p, r.Body)
		c.refuses("by a path that is written in an odd way", ctx, r.Method, p, r.Body)
	}
}

func samePath(a, b string) bool {
	a, _, _ = strings.Cut(a, "?")
	b, _, _ = strings.Cut(b, "?")
	return a == b
}

func (c *checker) ask(ctx context.Context, method, target, body string, header http.Header) (w *httptest.ResponseRecorder, panicked any) {
	req := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(body))
	path, query, _ := strings.Cut(target, "?")
	plain, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	// As a server reads it: what begins with two slashes is a path, too.
	req.URL, req.RequestURI = &url.URL{Path: plain, RawPath: path, RawQuery: query}, target
	maps.Copy(req.Header, header)
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w = httptest.NewRecorder()
	defer func() {
		if p := recover(); p != nil {
			panicked = p
		}
	}()
	c.handler.ServeHTTP(w, req)
	return w, nil
}

// refuses wants 401, 403, or, of nobody, the way to the sign-in.
func (c *checker) refuses(how string, ctx context.Context, method, target, body string) {
	c.t.Helper()
	c.refusesWith(nil, how, ctx, method, target, body)
}

func (c *checker) refusesWith(header http.Header, how string, ctx context.Context, method, target, body string) {
	c.t.Helper()
	if why := c.answered(how, ctx, method, target, body, header); why != "" {
		c.t.Errorf("%s", why)
	}
}

// answered says how a request was answered that must be refused; empty where it
// was refused.
func (c *checker) answered(how string, ctx context.Context, method, target, body string, header http.Header) string {
	w, panicked := c.ask(ctx, method, target, body, header)
	if panicked != nil {
		return fmt.Sprintf("accesstest: %s %s %s: panics (%T)", method, target, how, panicked)
	}
	_, somebody := access.PrincipalFrom(ctx)
	if !isRefusal(w.Code) && (somebody || w.Code != http.StatusSeeOther) {
		return fmt.Sprintf("accesstest: %s %s %s: is answered with %d, want a refusal", method, target, how, w.Code)
	}
	if w.Code == http.StatusSeeOther && !onlyRedirects(w) {
		return fmt.Sprintf("accesstest: %s %s %s: is sent elsewhere with more in the body than http.Redirect writes", method, target, how)
	}
	return ""
}

// onlyRedirects reports whether the body of a redirect says no more than where to.
func onlyRedirects(w *httptest.ResponseRecorder) bool {
	to := httptest.NewRecorder()
	http.Redirect(to, httptest.NewRequest(http.MethodGet, "/", nil), w.Header().Get("Location"), w.Code)
	body := strings.TrimSpace(w.Body.String())
	return body == "" || body == strings.TrimSpace(to.Body.String())
}

// serves wants anything else.
func (c *checker) serves(how string, ctx context.Context, method, target, body string) {
	c.t.Helper()
	w, panicked := c.ask(ctx, method, target, body, nil)
	switch {
	case panicked != nil:
		c.t.Errorf("accesstest: %s %s %s: panics (%T)", method, target, how, panicked)
	case isRefusal(w.Code) || w.Code == http.StatusServiceUnavailable:
		c.t.Errorf("accesstest: %s %s %s: is refused with %d", method, target, how, w.Code)
	}
}

func isRefusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}
