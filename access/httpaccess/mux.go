// SPDX-License-Identifier: Apache-2.0

package httpaccess

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/part164/part164/access"
)

// A Mux serves routes that have a rule, and no others. Patterns are those of
// [http.ServeMux], and a bad or double one panics as there. A path without the
// slash at the end that a pattern has is another path: it is refused, not
// redirected. A Mux is safe for concurrent use once its routes are registered.
type Mux struct {
	guard  *Guard
	routes *http.ServeMux
}

// Mux returns a Mux without routes.
func (g *Guard) Mux() *Mux { return &Mux{g, http.NewServeMux()} }

// Handle serves pattern with h for callers who may do action on resourceType
// for one of purposes: see [Guard.Require]. pattern names the method, since an
// action is that of a method: it panics where "/patients/{id}", to read, would
// serve DELETE too.
func (m *Mux) Handle(pattern string, h http.Handler, action access.Action, resourceType string, purposes ...access.Purpose) {
	if method, path, found := strings.Cut(pattern, " "); !found || method == "" || strings.TrimSpace(path) == "" {
		panic(fmt.Sprintf("httpaccess: the pattern %q has no method: write GET before it, or that of the action, and register each by itself", pattern))
	}
	m.routes.Handle(pattern, route{m.guard.Require(action, resourceType, purposes...)(h)})
}

// A route is what was registered, and nothing that ServeMux answers by itself.
type route struct{ http.Handler }

// HandleFunc is [Mux.Handle] for a function.
func (m *Mux) HandleFunc(pattern string, h http.HandlerFunc, action access.Action, resourceType string, purposes ...access.Purpose) {
	m.Handle(pattern, h, action, resourceType, purposes...)
}

// Public serves pattern with h for everybody, signed in or not: the sign-in
// page, stylesheets, a health check. Never PHI.
func (m *Mux) Public(pattern string, h http.Handler) { m.routes.Handle(pattern, route{h}) }

// ServeHTTP serves a registered route. What is not registered, another method
// of a registered path included, is refused as a denied route is.
func (m *Mux) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	req = m.guard.identify(req)
	if err := checkPath(req.URL); err != nil { // before ServeMux cleans it by a redirect
		m.guard.unserved(w, req, refusal{code: access.DenyInvalid, err: err})
		return
	}
	if h, _ := m.routes.Handler(req); !isRoute(h) {
		m.guard.unserved(w, req, refusal{code: access.DenyNoRule})
		return
	}
	m.routes.ServeHTTP(w, req)
}

// isRoute tells a route from what ServeMux answers by itself: a redirect to the
// path with a slash, another method, nothing there.
func isRoute(h http.Handler) bool {
	_, ok := h.(route)
	return ok
}

// unserved refuses a request that no rule covers.
func (g *Guard) unserved(w http.ResponseWriter, req *http.Request, no refusal) {
	w.Header().Set("Cache-Control", "no-store")
	if _, ok := access.PrincipalFrom(req.Context()); !ok {
		g.signIn(w, req)
		return
	}
	g.refuse(w, req, req.Context(), no)
}
