// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

func TestClientAddr(t *testing.T) {
	t.Parallel()
	const xff, fwd = "X-Forwarded-For", "Forwarded"
	for _, tt := range []struct {
		header, remote string
		values         []string
		want           string
	}{
		{xff, "198.51.100.7:1234", nil, "198.51.100.7"},
		{xff, "198.51.100.7:1234", []string{"10.9.9.9"}, "198.51.100.7"}, // forged: it does not come from a proxy
		{xff, "10.0.0.1:1", nil, "10.0.0.1"},
		{xff, "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{xff, "10.0.0.1:1", []string{"203.0.113.5"}, "203.0.113.5"},
		{xff, "[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.5"}, "203.0.113.5"},
		{xff, "10.0.0.1:1", []string{"1.2.3.4, 203.0.113.5"}, "203.0.113.5"}, // the left one is the client's word
		{xff, "10.0.0.1:1", []string{"1.2.3.4, 203.0.113.5, 10.0.0.2"}, "203.0.113.5"},
		{xff, "10.0.0.1:1", []string{"1.2.3.4", "203.0.113.5", "10.0.0.2"}, "203.0.113.5"}, // in several lines
		{xff, "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{xff, "10.0.0.1:1", []string{"203.0.113.5:4711"}, "203.0.113.5"},
		{xff, "10.0.0.1:1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{xff, "10.0.0.1:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{xff, "10.0.0.1:1", []string{"fe80::1%eth0"}, "fe80::1"},
		{xff, "10.0.0.1:1", []string{"203.0.113.5, unknown"}, ""},
		{xff, "10.0.0.1:1", []string{"203.0.113.5, "}, ""},
		{xff, "10.0.0.1:1", []string{"jane roe"}, ""},
		{xff, "10.0.0.1:1", []string{strings.Repeat("10.0.0.2,", 40) + "10.0.0.2"}, ""},
		{xff, "not an address", []string{"203.0.113.5"}, ""},
		{xff, "", nil, ""},
		{fwd, "10.0.0.1:1", []string{`for=203.0.113.5`}, "203.0.113.5"},
		{fwd, "10.0.0.1:1", []string{`for=1.2.3.4, For="[2001:db8::1]:80";proto=https;by=10.0.0.1`}, "2001:db8::1"},
		{fwd, "10.0.0.1:1", []string{`for=203.0.113.5, for=10.0.0.2`}, "203.0.113.5"},
		{fwd, "10.0.0.1:1", []string{`for=203.0.113.5, for=_hidden`}, ""},
		{fwd, "10.0.0.1:1", []string{`for=unknown`}, ""},
		{fwd, "10.0.0.1:1", []string{`proto=https`}, ""},
		{fwd, "10.0.0.1:1", []string{`for=203.0.113.5;for=10.0.0.9`}, ""},
		{fwd, "10.0.0.1:1", []string{`for="203.0.113.5`}, ""},
		{fwd, "198.51.100.7:1", []string{`for=203.0.113.5`}, "198.51.100.7"},
	} {
		addr, err := httpaccess.ClientAddr(tt.header, netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/8"))
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr = tt.remote
		req.Header[tt.header] = tt.values
		other := map[string]string{xff: fwd, fwd: xff}[tt.header] // which the proxy does not set, and passes on
		req.Header.Set(other, "for=9.9.9.9")
		req.Header.Set("X-Real-Ip", "9.9.9.9")
		want, _ := netip.ParseAddr(tt.want)
		if got := addr(req); got != want {
			t.Errorf("%s %q from %s: %v, want %v", tt.header, tt.values, tt.remote, got, want)
		}
	}
	for says, f := range map[string]func() (func(*http.Request) netip.Addr, error){
		"header": func() (func(*http.Request) netip.Addr, error) {
			return httpaccess.ClientAddr("X-Real-IP", netip.MustParsePrefix("10.0.0.0/8"))
		},
		"no proxy": func() (func(*http.Request) netip.Addr, error) { return httpaccess.ClientAddr(xff) },
		"proxies[0]": func() (func(*http.Request) netip.Addr, error) {
			return httpaccess.ClientAddr(xff, netip.MustParsePrefix("10.0.0.1/8"))
		},
		"internet": func() (func(*http.Request) netip.Addr, error) {
			return httpaccess.ClientAddr(xff, netip.MustParsePrefix("0.0.0.0/0"))
		},
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestPathsThatTwoReadersUnderstandDifferently are refused before they are routed,
// with the reason in the log, and with the answer of every refusal.
func TestPathsThatTwoReadersUnderstandDifferently(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	trail := audittest.New(t)
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: accesstest.Allow(), Audit: trail, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	served := 0
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ })
	mux := guard.Mux()
	mux.Handle("GET /", h, access.Read, "patient", access.Treatment)
	mux.Public("GET /public/", h)
	for path, says := range map[string]string{
		"/patients/4711%2Fnotes":                   "encoded slash",
		"/patients/4711%2fnotes":                   "encoded slash",
		"/patients/4711%5cnotes":                   "backslash",
		"/patients/4711%252fnotes":                 "encoded slash",
		"/patients/%2e%2e/admin":                   "encoded dot",
		"/patients/%252e%252e/admin":               "encoded dot",
		"/patients/../admin":                       "dots",
		"/public/../patients":                      "dots",
		"/patients/./4711":                         "dots",
		"/patients/..;/admin":                      "dots",
		"/patients//4711":                          "empty segment",
		"//patients":                               "empty segment",
		`/patients\4711`:                           "backslash",
		"/patients/4711%00":                        "control",
		"/patients/4711%0d%0aSet-Cookie:x":         "control",
		"/patients/%ff%fe":                         "UTF-8",
		"/patients/" + strings.Repeat("4711", 200): "segment that is too long",
		strings.Repeat("/4711", 1000):              "path is too long",
		"*":                                        "slash",
	} {
		for name, handler := range map[string]http.Handler{"Mux": mux, "Require": guard.Require(access.Read, "patient", access.Treatment)(h)} {
			logs.TakeAll()
			trail.Reset()
			req := httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", "/", nil)
			u, err := url.ParseRequestURI(path)
			if err != nil {
				t.Fatalf("%q: %v", path, err)
			}
			req.URL = u
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, req)
			if w.Code != http.StatusForbidden || served != 0 || w.Header().Get("Location") != "" {
				t.Errorf("%s %.40q: %d, served %d", name, path, w.Code, served)
			}
			if events := trail.Events(); len(events) != 1 || events[0].Type != audit.Denied || events[0].Code != access.DenyInvalid {
				t.Errorf("%s %.40q: recorded %+v", name, path, events)
			}
			entries := logs.All()
			if len(entries) != 1 || !strings.Contains(entries[0].ContextMap()["error"].(string), says) || strings.Contains(entries[0].ContextMap()["error"].(string), "4711") {
				t.Errorf("%s %.40q: logged %v, want %q", name, path, entries, says)
			}
		}
	}
	for _, path := range []string{"/", "/patients/4711", "/patients/4711/", "/a.b/..c/...", "/%7Ejane", "/caf%C3%A9", "/a%20b"} {
		served = 0
		req := httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", path, nil)
		if w := httptest.NewRecorder(); true {
			if mux.ServeHTTP(w, req); w.Code != http.StatusOK || served != 1 {
				t.Errorf("%q: %d", path, w.Code)
			}
		}
	}
}

// offering offers by the rule and the caller's purpose, as long as the scope lives.
type offering struct{ access.Authorizer }

func (offering) Offer(ctx context.Context, action access.Action, typ string) access.Offer {
	if s, err := access.From(ctx); err == nil && s.Purpose() == access.Treatment && action == access.Read && typ == "patient" {
		return access.OfferBreakGlass
	}
	return access.OfferNone
}

// The offer is the same for a record that is denied and for one that does not exist.
func TestOfferDoesNotTellWhetherTheRecordExists(t *testing.T) {
	t.Parallel()
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: offering{rbac.Starter()}, Audit: audittest.New(t),
		Offers: map[access.Offer]string{access.OfferBreakGlass: "/break?a=b&c=<d>"}})
	if err != nil {
		t.Fatal(err)
	}
	mux := guard.Mux()
	refuse := func(err error) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) { guard.Refuse(w, req, err) }
	}
	const id = "0123456789abcdef0123456789abcdef"
	mux.Handle("GET /missing", refuse(errors.New("record not found")), access.Read, "patient", access.Treatment, access.Payment)
	mux.Handle("GET /none", refuse(nil), access.Read, "patient", access.Treatment)
	mux.Handle("GET /denied", refuse(&access.DeniedError{Code: access.DenySubject, Decision: id}), access.Read, "patient", access.Treatment)
	mux.Handle("GET /bills", refuse(nil), access.Search, "encounter", access.Payment)
	do := func(role, target, as string) string {
		req := httptest.NewRequestWithContext(signedIn(t, role), "GET", target, nil)
		req.Header.Set("Accept", as)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, req)
		return answerOf(w)
	}
	for as, want := range map[string]string{"application/json": `"offer":"breakglass"}`,
		"text/html": `<p data-offer="breakglass"><a href="/break?a=b&amp;c=&lt;d&gt;">In an emergency`} {
		first := do("nurse", "/denied", as)
		if !strings.Contains(first, want) {
			t.Errorf("%s: %s", as, first)
		}
		for _, target := range []string{"/missing", "/none"} {
			if got := do("nurse", target, as); got != first {
				t.Errorf("%s answers\n%s\nand a denied record\n%s", target, got, first)
			}
		}
		if got := do("admin", "/missing", as); got != first { // by the guard itself, for the route's first purpose
			t.Errorf("the guard answers\n%s\nand a denied record\n%s", got, first)
		}
		for _, target := range []string{"/bills", "/nowhere"} {
			if got := do("nurse", target, as); strings.Contains(got, "offer") {
				t.Errorf("%s offers: %s", target, got)
			}
		}
	}
	for _, bad := range []string{"https://evil.example/", "//evil.example", "break", ""} {
		cfg := httpaccess.Config{Authorizer: accesstest.Allow(), Audit: audittest.New(t), Offers: map[access.Offer]string{access.OfferGrant: bad}}
		if _, err := httpaccess.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.Offers[jit]") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A handler's error may quote what it was given.
func TestLogQuotesNoError(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: accesstest.Allow(), Audit: audittest.New(t), Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	h := guard.Require(access.Read, "patient", access.Treatment)(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		guard.Refuse(w, req, errors.New("no patient Jane Roe"))
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", "/", nil))
	if e := logs.All(); len(e) != 1 || e[0].ContextMap()["error"] != "the handler's *errors.errorString" {
		t.Errorf("logged %+v", e)
	}
}

// The purposes of a key bind on every route.
func TestPurposesOfTheCaller(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	p := accesstest.Principal(accesstest.Tenant, "physician")
	p.Purposes = []access.Purpose{access.EmergencyTreatment}
	if w := b.do(access.With(t.Context(), p, ""), "GET", "/patients/1"); w.Body.String() != "ETREAT" {
		t.Errorf("%d %s, want the route's purpose that the caller has", w.Code, w.Body)
	}
	p.Purposes = []access.Purpose{access.Research}
	w := b.do(access.With(t.Context(), p, ""), "GET", "/patients/1")
	if ev := b.trail.Events(); w.Code != http.StatusForbidden || len(ev) != 1 || ev[0].Code != access.DenyPurpose {
		t.Errorf("%d, recorded %+v", w.Code, ev)
	}
}
