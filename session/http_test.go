// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

// app is the smallest app that signs people in.
func app(m *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/signin", func(w http.ResponseWriter, r *http.Request) {
		next, err := m.PostPassword(w, r, tenant, r.FormValue("login"), r.FormValue("password"))
		if err != nil {
			session.WriteError(w, err)
			return
		}
		io.WriteString(w, string(next))
	})
	mux.HandleFunc("/code", func(w http.ResponseWriter, r *http.Request) {
		if err := m.PostTOTP(w, r, r.FormValue("code")); err != nil {
			session.WriteError(w, err)
			return
		}
		io.WriteString(w, "welcome")
	})
	mux.HandleFunc("/signout", func(w http.ResponseWriter, r *http.Request) {
		if err := m.PostLogout(w, r); err != nil {
			session.WriteError(w, err)
			return
		}
		io.WriteString(w, "bye")
	})
	mux.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) {
		p, ok := access.PrincipalFrom(r.Context())
		_, err := access.From(r.Context())
		fmt.Fprint(w, "user=", p.ID, " ", ok, " ", errors.Is(err, access.ErrNoPurpose))
	})
	return m.Middleware(mux)
}

// A browser talks to one server.
type browser struct {
	t   *testing.T
	url string
	c   *http.Client
	jar http.CookieJar
}

func newBrowser(t *testing.T, url string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, url: url, c: &http.Client{Jar: jar}, jar: jar}
}

func (b *browser) do(method, path string, header http.Header, form url.Values) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := b.c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, strings.TrimSpace(string(body))
}

func (b *browser) want(res *http.Response, body string, status int, text string) {
	b.t.Helper()
	if res.StatusCode != status || body != text {
		b.t.Errorf("%s %s = %d %q, want %d %q", res.Request.Method, res.Request.URL.Path, res.StatusCode, body, status, text)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t)
	srv := httptest.NewServer(app(b.Manager))
	defer srv.Close()
	c := newBrowser(t, srv.URL)
	get := func(path string) (*http.Response, string) { return c.do("GET", path, nil, nil) }
	post := func(path string, kv ...string) (*http.Response, string) {
		form := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			form.Set(kv[i], kv[i+1])
		}
		return c.do("POST", path, nil, form)
	}
	want := func(res *http.Response, body string) func(int, string) {
		return func(status int, text string) { t.Helper(); c.want(res, body, status, text) }
	}

	want(get("/whoami"))(200, "user= false false")
	want(get("/session/status"))(200, `{"signed_in":false,"idle_left":0,"absolute_left":0}`)
	want(post("/signin", "login", "nora@clinic.example", "password", "guess"))(401, session.Message(401))
	want(post("/code", "code", b.code(t)))(401, session.Message(401))
	want(post("/signin", "login", "nora@clinic.example", "password", sessiontest.Password))(200, "totp")
	want(get("/whoami"))(200, "user= false false")
	want(post("/code", "code", b.wrongCode(t)))(401, session.Message(401))
	res, body := post("/code", "code", b.code(t))
	want(res, body)(200, "welcome")
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Error("the answer that sets the cookie may be cached")
	}
	for _, ck := range res.Cookies() {
		if !ck.HttpOnly || ck.SameSite != http.SameSiteLaxMode || ck.Path != "/" || ck.Domain != "" || ck.MaxAge > 0 || !ck.Expires.IsZero() {
			t.Errorf("cookie = %v", ck)
		}
	}
	res, body = get("/whoami")
	want(res, body)(200, "user="+b.nurse.ID+" true true")
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Error("a signed-in page may be cached")
	}

	b.clock.Advance(10 * time.Minute)
	want(get("/session/status"))(200, `{"signed_in":true,"idle_left":300,"absolute_left":42600}`)
	b.clock.Advance(4 * time.Minute)
	res, body = c.do("GET", "/whoami", http.Header{"X-Session-Passive": {"1"}}, nil)
	want(res, body)(200, "user="+b.nurse.ID+" true true")
	want(get("/session/status"))(200, `{"signed_in":true,"idle_left":60,"absolute_left":42360}`)
	want(get("/whoami"))(200, "user="+b.nurse.ID+" true true")
	want(get("/session/status"))(200, `{"signed_in":true,"idle_left":900,"absolute_left":42360}`)
	want(post("/session/status"))(405, "use GET")

	for _, path := range []string{"/signout", "/signin", "/code"} {
		res, body = get(path)
		want(res, body)(403, session.Message(403))
	}
	evil := http.Header{"Origin": {"https://evil.example"}}
	res, body = c.do("POST", "/signout", evil, nil)
	want(res, body)(403, "session: request refused: another origin")
	res, body = c.do("POST", "/signout", http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil)
	want(res, body)(403, "session: request refused: another origin")
	want(get("/whoami"))(200, "user="+b.nurse.ID+" true true")

	res, body = post("/signout")
	want(res, body)(200, "bye")
	if u, _ := url.Parse(srv.URL); len(c.jar.Cookies(u)) != 0 {
		t.Errorf("cookies after logout: %v", c.jar.Cookies(u))
	}
	want(get("/whoami"))(200, "user= false false")
	want(post("/signout"))(200, "bye")
}

// TestStatusNeverTouches: a page that asks each second for 30 minutes does not
// keep a session of 15 minutes.
func TestStatusNeverTouches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := app(b.Manager)
	token := b.signIn(t)
	last := true
	for i := range 30 * 60 {
		b.clock.Advance(time.Second)
		var st session.Status
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request("GET", "/session/status", token))
		if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		if st.SignedIn != (i+1 < 15*60) || st.SignedIn && !last {
			t.Fatalf("after %d s: %+v", i+1, st)
		}
		last = st.SignedIn
	}
}

// request is one from loopback with a session's cookie.
func request(method, path, token string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = "127.0.0.1:1234"
	if token != "" {
		r.AddCookie(&http.Cookie{Name: "development-session", Value: token})
	}
	return r
}

func TestDevelopmentIsForLoopback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.signIn(t)
	for addr, want := range map[string]int{
		"127.0.0.1:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "192.0.2.1:1": 403, "[2001:db8::1]:1": 403, "": 403, "@": 403,
	} {
		r := request("GET", "/whoami", token)
		r.RemoteAddr = addr
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		w := httptest.NewRecorder()
		app(b.Manager).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("from %q: %d, want %d", addr, w.Code, want)
		}
	}
}

func TestProductionCookies(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Development, c.KDF, c.Hashers = false, session.KDF{}, 1 })
	h := app(b.Manager)
	send := func(path string, form url.Values, cookies ...*http.Cookie) []*http.Cookie {
		t.Helper()
		r := httptest.NewRequest("POST", "https://clinic.example"+path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 {
			t.Fatalf("POST %s = %d %s", path, w.Code, w.Body)
		}
		for _, c := range w.Result().Cookies() {
			if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("cookie = %v", c)
			}
		}
		return w.Result().Cookies()
	}
	pending := send("/signin", url.Values{"login": {"nora@clinic.example"}, "password": {sessiontest.Password}})
	if len(pending) != 1 || pending[0].Name != "__Host-signin" {
		t.Fatalf("cookies = %v", pending)
	}
	set := send("/code", url.Values{"code": {b.code(t)}}, pending...)
	if len(set) != 2 || set[0].Name != "__Host-signin" || set[0].MaxAge >= 0 || set[1].Name != "__Host-session" {
		t.Fatalf("cookies = %v", set)
	}
	if cleared := send("/signout", nil, set[1]); len(cleared) != 2 || cleared[0].MaxAge >= 0 || cleared[1].MaxAge >= 0 {
		t.Errorf("cookies = %v", cleared)
	}
	evil := httptest.NewRequest("POST", "https://clinic.example/signout", nil)
	evil.Header.Set("Origin", "https://evil.example")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, evil); w.Code != 403 || strings.TrimSpace(w.Body.String()) != session.Message(403) {
		t.Errorf("POST from another origin = %d %q", w.Code, w.Body)
	}
	for _, err := range []error{
		second(b.DevelopmentCode(t.Context(), tenant, b.nurse.ID)), b.DevelopmentEnrol(t.Context(), tenant, b.nurse.ID),
	} {
		if err == nil {
			t.Error("a development method works in production")
		}
	}
}

// TestNewSignInEndsTheOld: on a shared workstation the session that a browser
// had does not live on unseen.
func TestNewSignInEndsTheOld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doctor, phone := sessiontest.NewUser(t, b.Manager, b.clock, tenant, "doctor", "physician")
	old := b.signIn(t)
	in, err := b.attempt(doctor.Login, sessiontest.Password)
	if err != nil {
		t.Fatal(err)
	}
	b.rec.Take()
	r := request("POST", "/code", old)
	r.Form = url.Values{"code": {sessiontest.Code(t, phone, b.clock.Now())}}
	r.AddCookie(&http.Cookie{Name: "development-signin", Value: in.Token})
	w := httptest.NewRecorder()
	app(b.Manager).ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("POST /code = %d", w.Code)
	}
	_, err = b.Authenticate(t.Context(), old, sessiontest.Addr())
	wantErr(t, "the session that the browser had", err, session.ErrNoSession)
	evs := b.rec.Take()
	if len(evs) != 2 || evs[0].Type != audit.SignIn || evs[1].Type != audit.SessionEnded || evs[1].Reason != audit.ReasonLogout {
		t.Errorf("events = %+v", evs)
	}
	if len(evs) == 2 && (evs[0].Actor.ID != doctor.ID || evs[1].Objects[1].Record != b.nurse.ID) {
		t.Errorf("events = %+v, want a sign-in by the doctor and the end of the nurse's session", evs)
	}
}

type broken struct{ session.Store }

func (broken) Session(context.Context, session.ID) (session.Session, session.User, error) {
	return session.Session{}, session.User{}, errors.New("connection to 10.1.2.3 lost")
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Store = broken{session.NewMemory()} })
	token := b.signIn(t)
	for _, path := range []string{"/whoami", "/session/status"} {
		w := httptest.NewRecorder()
		app(b.Manager).ServeHTTP(w, request("GET", path, token))
		if w.Code != 503 || strings.Contains(w.Body.String(), "10.1.2.3") {
			t.Errorf("GET %s with the store down = %d %q, want 503", path, w.Code, w.Body)
		}
	}
}

func TestErrorsToStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 200}, {session.ErrSignIn, 401}, {session.ErrPending, 401}, {session.ErrNoSession, 401}, {session.ErrStale, 401},
		{session.ErrNoFactor, 403}, {session.ErrFIPS, 403}, {session.ErrRequest, 403}, {&session.LockedError{}, 429},
		{session.ErrBusy, 503}, {fmt.Errorf("x: %w", audit.ErrUnavailable), 503}, {session.ErrPassword, 422},
		{session.ErrNotFound, 404}, {session.ErrExists, 409}, {errors.New("x"), 500},
		{errors.Join(session.ErrSignIn, errors.New("x")), 401},
	} {
		if got := session.StatusCode(c.err); got != c.want {
			t.Errorf("StatusCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
	w := httptest.NewRecorder()
	session.WriteError(w, &session.LockedError{RetryAfter: 1500 * time.Millisecond})
	if w.Code != 429 || w.Header().Get("Retry-After") != "2" || strings.TrimSpace(w.Body.String()) != session.Message(429) {
		t.Errorf("WriteError = %d, Retry-After %q, %q", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}
