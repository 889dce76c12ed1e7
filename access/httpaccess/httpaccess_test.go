// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
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

// bundle is a guard before one route, and what it recorded.
type bundle struct {
	mux    *httpaccess.Mux
	guard  *httpaccess.Guard
	trail  *audittest.Trail
	served int
	scope  *access.Scope
}

func setup(t *testing.T, a access.Authorizer) *bundle {
	t.Helper()
	b := &bundle{trail: audittest.New(t)}
	g, err := httpaccess.New(httpaccess.Config{Authorizer: a, Audit: b.trail, SignIn: "/signin"})
	if err != nil {
		t.Fatal(err)
	}
	b.guard, b.mux = g, g.Mux()
	b.mux.Handle("GET /patients/{id}", b, access.Read, "patient", access.Treatment, access.EmergencyTreatment, access.Payment)
	b.mux.Handle("POST /patients/{id}", b, access.Update, "patient", access.Treatment, access.EmergencyTreatment)
	b.mux.Handle("GET /bills", b, access.Search, "encounter", access.Payment)
	return b
}

// ServeHTTP is the guarded handler.
func (b *bundle) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b.served++
	s, err := access.From(req.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.scope = s
	io.WriteString(w, string(s.Purpose()))
}

func (b *bundle) do(ctx context.Context, method, target string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(ctx, method, target, nil)
	for _, e := range edit {
		e(req)
	}
	w := httptest.NewRecorder()
	b.mux.ServeHTTP(w, req)
	return w
}

func form(body string) func(*http.Request) {
	return func(req *http.Request) {
		req.Body = io.NopCloser(strings.NewReader(body))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
}

func accept(v string) func(*http.Request) {
	return func(req *http.Request) { req.Header.Set("Accept", v) }
}

func cookie(v string) func(*http.Request) {
	return func(req *http.Request) { req.AddCookie(&http.Cookie{Name: "purpose", Value: v}) }
}

func fetchSite(v string) func(*http.Request) {
	return func(req *http.Request) { req.Header.Set("Sec-Fetch-Site", v) }
}

// signedIn is what session's middleware leaves in a context.
func signedIn(t *testing.T, role string) context.Context {
	return accesstest.As(t, t.Context(), role, "")
}

func TestTheRouteSaysThePurpose(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	for _, tt := range []struct {
		role, method, target string
		edit                 func(*http.Request)
		want                 string // the purpose, or empty for a refusal
	}{
		{"physician", "GET", "/patients/1", nil, "TREAT"},
		{"physician", "GET", "/patients/1?purpose=ETREAT", nil, "ETREAT"},
		{"physician", "GET", "/patients/1", cookie("ETREAT"), "ETREAT"},
		{"physician", "GET", "/patients/1?purpose=TREAT", cookie("ETREAT"), "TREAT"},
		{"physician", "POST", "/patients/1", form("purpose=ETREAT"), "ETREAT"},
		{"physician", "GET", "/patients/1?purpose=ETREAT", fetchSite("same-origin"), "ETREAT"},
		{"physician", "GET", "/patients/1?purpose=ETREAT", fetchSite("cross-site"), "TREAT"}, // another site's link chooses nothing
		{"billing", "GET", "/patients/1", nil, "HPAYMT"},
		{"billing", "GET", "/bills", nil, "HPAYMT"},

		{"nurse", "GET", "/patients/1?purpose=ETREAT", nil, ""},                        // on the route, not in the role
		{"physician", "GET", "/patients/1?purpose=HRESCH", nil, ""},                    // not on the route
		{"physician", "GET", "/patients/1?purpose=", nil, ""},                          // chosen, and none
		{"physician", "GET", "/patients/1?purpose=TREAT&purpose=ETREAT", nil, ""},      // two
		{"physician", "POST", "/patients/1?purpose=TREAT", form("purpose=ETREAT"), ""}, // two, in two places
		{"physician", "GET", "/patients/1?purpose=%zz", nil, ""},
		{"physician", "GET", "/bills", nil, ""},

		{"nurse", "GET", "/patients/1", cookie("ETREAT"), "TREAT"}, // a cookie of another page does not lock out
		{"nurse", "GET", "/patients/1", cookie("HRESCH"), "TREAT"},
		{"billing", "GET", "/bills?purpose=TREAT", nil, "HPAYMT"}, // nothing to choose
	} {
		edit := tt.edit
		if edit == nil {
			edit = func(*http.Request) {}
		}
		w := b.do(signedIn(t, tt.role), tt.method, tt.target, edit)
		got := ""
		if w.Code == http.StatusOK {
			got = w.Body.String()
		}
		if got != tt.want || tt.want == "" && w.Code != http.StatusForbidden {
			t.Errorf("%s %s %s: %d %q, want %q", tt.role, tt.method, tt.target, w.Code, got, tt.want)
		}
	}
}

// The route's list binds even those whose role has every purpose.
func TestNoPurposeButTheRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t, accesstest.Allow())
	for _, p := range access.Purposes() {
		offered := p == access.Treatment || p == access.EmergencyTreatment || p == access.Payment
		w := b.do(signedIn(t, "physician"), "GET", "/patients/1?purpose="+string(p))
		if (w.Code == http.StatusOK) != offered {
			t.Errorf("%s: %d, offered %v", p, w.Code, offered)
		}
		w = b.do(signedIn(t, "physician"), "GET", "/patients/1", cookie(string(p)))
		if want := map[bool]access.Purpose{true: p, false: access.Treatment}[offered]; w.Body.String() != string(want) {
			t.Errorf("%s by cookie: served for %s, want %s", p, w.Body, want)
		}
	}
}

// A header is the client's own word.
func TestNoHeaderChoosesThePurpose(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	w := b.do(signedIn(t, "physician"), "GET", "/patients/1", func(req *http.Request) {
		for _, h := range []string{"Purpose", "X-Purpose", "X-Purpose-Of-Use", "PurposeOfUse"} {
			req.Header.Set(h, "ETREAT")
		}
	})
	if w.Body.String() != "TREAT" {
		t.Errorf("served for %q, want TREAT", w.Body)
	}
}

func TestScopeEndsWithTheHandler(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	b.do(signedIn(t, "nurse"), "GET", "/patients/1")
	if b.scope == nil || !b.scope.Ended() {
		t.Error("the scope outlives the response")
	}

	var scope *access.Scope
	h := b.guard.Require(access.Read, "patient", access.Treatment)(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		scope, _ = access.From(req.Context())
		panic(http.ErrAbortHandler)
	}))
	func() {
		defer func() { recover() }()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", "/", nil))
	}()
	if scope == nil || !scope.Ended() {
		t.Error("the scope outlives a handler that panics")
	}
}

func TestDenialIsRecordedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	w := b.do(signedIn(t, "admin"), "GET", "/patients/1")
	events := b.trail.Events()
	if w.Code != http.StatusForbidden || b.served != 0 || len(events) != 1 {
		t.Fatalf("status %d, served %d, %d events; want 403, 0, 1", w.Code, b.served, len(events))
	}
	ev := events[0]
	if ev.Type != audit.Denied || ev.Outcome != audit.Failure || ev.Reason != audit.ReasonPolicy || ev.Action != access.Read ||
		ev.Code == "" || len(ev.Objects) != 1 || ev.Objects[0].Type != "patient" || ev.Purpose != access.Treatment ||
		ev.Actor.ID != accesstest.Principal(accesstest.Tenant, "admin").ID {
		t.Errorf("event = %+v", ev)
	}
	if !strings.Contains(w.Body.String(), ev.Decision) {
		t.Errorf("body %q does not name decision %s", w.Body, ev.Decision)
	}
}

func TestNothingIsAnsweredThatIsNotRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	b.trail.Fail(errors.New("disk full"))
	for _, target := range []string{"/patients/1", "/nowhere"} {
		w := b.do(signedIn(t, "admin"), "GET", target)
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != "{\"error\":\"unavailable\"}\n" || b.served != 0 {
			t.Errorf("%s: %d %q, served %d; want 503, the constant body, 0", target, w.Code, w.Body, b.served)
		}
	}
}

// storage joins a denial with the failure to record it.
func TestRefuseOfAnUnrecordedDenialIsNoDenial(t *testing.T) {
	t.Parallel()
	b := setup(t, accesstest.Allow())
	denied := &access.DeniedError{Code: access.DenyTenant, Decision: "0123456789abcdef0123456789abcdef"}
	for _, cause := range []error{audit.ErrUnavailable, audit.ErrClosed} {
		w := httptest.NewRecorder()
		b.guard.Refuse(w, httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", "/", nil), errors.Join(denied, cause))
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != "{\"error\":\"unavailable\"}\n" {
			t.Errorf("%v: %d %q, want 503", cause, w.Code, w.Body)
		}
	}
}

// A record that does not exist is recorded as asked for, by the route's rule.
func TestRefuseRecordsWhatStorageHasNot(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	b.mux.HandleFunc("GET /notes/{id}", func(w http.ResponseWriter, req *http.Request) {
		b.guard.Refuse(w, req, errors.New("record not found"))
	}, access.Read, "document", access.Treatment)
	b.mux.HandleFunc("GET /denied/{id}", func(w http.ResponseWriter, req *http.Request) {
		b.guard.Refuse(w, req, fmt.Errorf("storage: %w", &access.DeniedError{Decision: "abcdef0123456789abcdef0123456789"}))
	}, access.Read, "document", access.Treatment)
	w := b.do(signedIn(t, "nurse"), "GET", "/notes/1")
	events := b.trail.Events()
	if w.Code != http.StatusForbidden || len(events) != 1 {
		t.Fatalf("%d, %d events", w.Code, len(events))
	}
	if ev := events[0]; ev.Action != access.Read || ev.Purpose != access.Treatment || len(ev.Objects) != 1 ||
		ev.Objects[0].Type != "document" || !strings.Contains(w.Body.String(), ev.Decision) {
		t.Errorf("event %+v, body %s", ev, w.Body)
	}
	w = b.do(signedIn(t, "nurse"), "GET", "/denied/1")
	if n := len(b.trail.Events()); n != 1 || !strings.Contains(w.Body.String(), "abcdef0123456789abcdef0123456789") {
		t.Errorf("storage's own denial: %d events, body %s", n, w.Body)
	}
}

// answerOf is all that a client can see of an answer, without the decision ID.
func answerOf(w *httptest.ResponseRecorder) string {
	body := regexp.MustCompile(`[0-9a-f]{32}`).ReplaceAllString(w.Body.String(), "ID")
	h := w.Header().Clone()
	var head strings.Builder
	h.Write(&head)
	return http.StatusText(w.Code) + "\n" + head.String() + "\n" + body
}

func TestEveryRefusalLooksTheSame(t *testing.T) {
	t.Parallel()
	for _, as := range []string{"application/json", "text/html", ""} {
		ctx := signedIn(t, "physician")
		answers := map[string]string{}
		b := setup(t, rbac.Starter())
		missing := func(err error) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { b.guard.Refuse(w, req, err) })
		}
		const id = "0123456789abcdef0123456789abcdef"
		b.mux.Handle("GET /missing/{id}", missing(nil), access.Read, "patient", access.Treatment)
		b.mux.Handle("GET /foreign/{id}", missing(&access.DeniedError{Code: access.DenyTenant, Decision: id}), access.Read, "patient", access.Treatment)
		b.mux.Handle("GET /odd/{id}", missing(&access.DeniedError{Decision: "jane@example.org"}), access.Read, "patient", access.Treatment)
		b.mux.Handle("GET /norule", b, access.Read, "patient")
		b.mux.Handle("GET /oddrule", b, access.Read, "patient", "CURIOSITY")
		b.mux.Handle("GET /oddname", b, "read it", "patient records", access.Treatment)
		for _, target := range []string{"/bills", "/patients/1?purpose=HPAYMT", "/patients/1?purpose=X", "/missing/1", "/foreign/1",
			"/odd/1", "/norule", "/oddrule", "/oddname", "/nowhere", "/patients/", "/patients/1/../../x"} {
			answers[target] = answerOf(b.do(ctx, "GET", target, accept(as)))
		}
		answers["another method"] = answerOf(b.do(ctx, "DELETE", "/patients/1", accept(as)))

		broken := accesstest.Allow()
		broken.Fail(errors.New("no policy"))
		b = setup(t, broken)
		answers["engine error"] = answerOf(b.do(ctx, "GET", "/patients/1", accept(as)))
		if b.served != 0 {
			t.Error("served though the authorizer could not decide")
		}

		want := answers["/bills"]
		if !strings.HasPrefix(want, "Forbidden") || !strings.Contains(want, "ID") || !strings.Contains(want, "Cache-Control: no-store") {
			t.Fatalf("refusal is %s", want)
		}
		for target, got := range answers {
			if strings.HasPrefix(target, "/patients/1/..") {
				continue // ServeMux redirects to the clean path first
			}
			if got != want {
				t.Errorf("Accept %q, %s answers\n%s\nothers\n%s", as, target, got, want)
			}
		}
	}
}

func TestUnmappedIsDenied(t *testing.T) {
	t.Parallel()
	b := setup(t, accesstest.Allow())
	for _, r := range [][2]string{{"GET", "/"}, {"GET", "/nowhere"}, {"GET", "/patients"}, {"DELETE", "/patients/1"}, {"GET", "/patients/1/notes"}} {
		if w := b.do(signedIn(t, "physician"), r[0], r[1]); w.Code != http.StatusForbidden {
			t.Errorf("%s %s: %d, want 403", r[0], r[1], w.Code)
		}
	}
	if n := len(b.trail.Events()); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
	b.mux.Public("GET /style.css", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "p{}") }))
	if w := b.do(t.Context(), "GET", "/style.css"); w.Body.String() != "p{}" {
		t.Errorf("a public route answers %d", w.Code)
	}
}

// A path without the slash that a pattern ends with is another path, and says
// nothing to anybody of what there is.
func TestSubtree(t *testing.T) {
	t.Parallel()
	b := setup(t, accesstest.Allow())
	b.mux.HandleFunc("GET /files/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a file") }, access.Read, "patient", access.Treatment)
	b.mux.Public("GET /help/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "help") }))
	for _, tt := range []struct {
		path          string
		nobody, nurse int
	}{
		{"/files/1", http.StatusUnauthorized, http.StatusOK},
		{"/files/", http.StatusUnauthorized, http.StatusOK},
		{"/files", http.StatusUnauthorized, http.StatusForbidden},
		{"/help/", http.StatusOK, http.StatusOK},
		{"/help", http.StatusUnauthorized, http.StatusForbidden},
	} {
		for who, ctx := range map[string]context.Context{"nobody": t.Context(), "a nurse": signedIn(t, "nurse")} {
			want := tt.nobody
			if who == "a nurse" {
				want = tt.nurse
			}
			if w := b.do(ctx, "GET", tt.path); w.Code != want || w.Header().Get("Location") != "" {
				t.Errorf("%s at %s: %d to %q, want %d", who, tt.path, w.Code, w.Header().Get("Location"), want)
			}
		}
	}
}

// A rule is that of one method: a pattern without one would map DELETE to reading.
func TestAPatternHasAMethod(t *testing.T) {
	t.Parallel()
	b := setup(t, accesstest.Allow())
	for _, pattern := range []string{"/charts/{id}", "clinic.example/charts/{id}", " /charts/{id}", "GET "} {
		func() {
			defer func() {
				if says, _ := recover().(string); !strings.Contains(says, "no method") {
					t.Errorf("%q is taken: %q", pattern, says)
				}
			}()
			b.mux.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) {}, access.Read, "patient", access.Treatment)
		}()
	}
}

func TestNobodyIsSentToTheSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t, accesstest.Allow())
	bad := access.With(t.Context(), access.Principal{ID: "jane@example.org", Tenant: "t-1", Kind: access.Human}, "")
	ended, cancel := context.WithCancel(t.Context())
	ended = accesstest.As(t, ended, "nurse", "")
	cancel()
	for name, ctx := range map[string]context.Context{"no principal": t.Context(), "bad principal": bad, "ended": ended} {
		for _, target := range []string{"/patients/1", "/nowhere"} {
			w := b.do(ctx, "GET", target)
			if w.Code != http.StatusUnauthorized || w.Body.String() != "{\"error\":\"signin\"}\n" || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s: %d %q", name, target, w.Code, w.Body)
			}
			w = b.do(ctx, "GET", target, accept("text/html,application/xhtml+xml"))
			if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/signin" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s, browser, %s: %d to %q", name, target, w.Code, w.Header().Get("Location"))
			}
		}
	}
	if b.served != 0 || len(b.trail.Events()) != 0 {
		t.Errorf("served %d, %d events", b.served, len(b.trail.Events()))
	}

	g, err := httpaccess.New(httpaccess.Config{Authorizer: accesstest.Allow(), Audit: b.trail})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/", nil)
	accept("text/html")(req)
	g.Require(access.Read, "patient", access.Treatment)(b).ServeHTTP(w, req)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("without Config.SignIn a browser gets %d, want 401", w.Code)
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	a, trail := accesstest.Allow(), audittest.New(t)
	for field, cfg := range map[string]httpaccess.Config{
		"Authorizer":          {Audit: trail},
		"Audit":               {Authorizer: a},
		"PurposeField":        {Authorizer: a, Audit: trail, PurposeField: "purpose of use"},
		"SignIn is neither":   {Authorizer: a, Audit: trail, SignIn: "//evil.example"},
		"SignIn is neither a": {Authorizer: a, Audit: trail, SignIn: "http://plain.example/"},
		"Config.SignIn":       {Authorizer: a, Audit: trail, SignIn: `/\evil.example`},
		"SignIn is":           {Authorizer: a, Audit: trail, SignIn: "///evil.example"},
		"SignIn":              {Authorizer: a, Audit: trail, SignIn: "javascript:alert(1)"},
	} {
		if _, err := httpaccess.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v, want it to name %s", cfg, err, field)
		}
	}
	for _, ok := range []string{"", "/signin", "/a?b=c", "https://login.example/"} {
		if _, err := httpaccess.New(httpaccess.Config{Authorizer: a, Audit: trail, SignIn: ok}); err != nil {
			t.Errorf("SignIn %q: %v", ok, err)
		}
	}
}

func TestPurposesForAPicker(t *testing.T) {
	t.Parallel()
	b := setup(t, rbac.Starter())
	for _, tt := range []struct {
		role  string
		among []access.Purpose
		want  []access.Purpose
	}{
		{"physician", nil, []access.Purpose{access.Treatment, access.EmergencyTreatment}},
		{"physician", []access.Purpose{access.EmergencyTreatment, access.Payment}, []access.Purpose{access.EmergencyTreatment}},
		{"privacy-officer", nil, []access.Purpose{access.Operations, access.Compliance}},
		{"admin", nil, nil},
	} {
		ctx := signedIn(t, tt.role)
		if got := b.guard.Purposes(ctx, access.Read, "patient", tt.among...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.role, got, tt.want)
		}
		if _, ok := access.PrincipalFrom(ctx); !ok {
			t.Error("asking ended the caller's own scope")
		}
	}
	if got := b.guard.Purposes(t.Context(), access.Read, "patient"); got != nil {
		t.Errorf("nobody may %v", got)
	}
	if n := len(b.trail.Events()); n != 0 {
		t.Errorf("asking recorded %d events", n)
	}
}

// The log is for developers: pattern and reason, never the path.
func TestLogHasTheReasonAndNoRecordID(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	g, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: audittest.New(t), Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	mux := g.Mux()
	mux.HandleFunc("GET /patients/{id}", func(http.ResponseWriter, *http.Request) {}, access.Read, "patient", access.Treatment)
	mux.HandleFunc("GET /norule", func(http.ResponseWriter, *http.Request) {}, access.Read, "patient")
	for _, target := range []string{"/patients/p-4711", "/norule", "/other/p-4711"} {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(signedIn(t, "admin"), "GET", target, nil))
	}
	var all strings.Builder
	for _, e := range logs.All() {
		all.WriteString(e.Message)
		for k, v := range e.ContextMap() {
			fmt.Fprintf(&all, " %s=%v", k, v)
		}
	}
	for _, want := range []string{"pattern=GET /patients/{id}", "code=DENY_NO_RULE", "mend the call of Require"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("log has no %q:\n%s", want, all.String())
		}
	}
	if strings.Contains(all.String(), "4711") {
		t.Errorf("log holds a record ID:\n%s", all.String())
	}
}

func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	g, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: trail})
	if err != nil {
		t.Fatal(err)
	}
	mux := g.Mux()
	mux.HandleFunc("GET /patients/{id}", func(w http.ResponseWriter, req *http.Request) {
		p, _ := access.PrincipalFrom(req.Context())
		io.WriteString(w, p.Roles[0])
	}, access.Read, "patient", access.Treatment, access.Payment)
	done := make(chan string)
	roles := []string{"physician", "nurse", "billing", "admin"}
	for _, role := range roles {
		ctx := signedIn(t, role) // shared, as by requests of one session
		for range 4 {
			go func() {
				for range 25 {
					w := httptest.NewRecorder()
					mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/patients/1", nil))
					if served := w.Code == http.StatusOK; served != (role != "admin") || served && w.Body.String() != role {
						done <- role + " got " + w.Body.String()
						return
					}
				}
				done <- ""
			}()
		}
	}
	for range 4 * len(roles) {
		if msg := <-done; msg != "" {
			t.Error(msg)
		}
	}
	if n := len(trail.Events()); n != 100 {
		t.Errorf("%d denials recorded, want 100", n)
	}
}
