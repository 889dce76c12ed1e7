// SPDX-License-Identifier: Apache-2.0

//go:build break_import || break_password || break_factor || break_totp || break_replay || break_signin || break_cookie || break_cache || break_origin || break_search || break_create || break_mask || break_withhold || break_purpose || break_access || break_relation || break_oracle || break_glass || break_revoke || break_review || break_edit || break_conflict || break_keep || break_input || break_audit || break_report || break_signout || break_leak || break_journal

package main

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/minimize"
)

// A build with the tag break_X breaks the control that line X of -selfcheck
// looks at, so that a test can see that line, and only that line, fail. Never
// put such a build anywhere.

// broken reports whether the build breaks a control.
func broken(control string) bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return slices.Contains(strings.Split(s.Value, ","), "break_"+control)
		}
	}
	return false
}

func sabotage(o *options, p *parts) {
	switch {
	case broken("mask"):
		p.minimum = append(p.minimum, minimize.Rule{Role: "nurse", Purposes: []access.Purpose{access.Treatment}, Classes: []minimize.Class{minimize.SSN}, View: minimize.Reveal})
	case broken("withhold"):
		p.access = append(p.access, rbac.Rule{Role: "billing", Resources: chart, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Payment}})
	case broken("access"):
		p.access = append(p.access, rbac.Rule{Role: "admin", Resources: []string{"patient"}, Actions: []access.Action{access.Read, access.Search}, Purposes: []access.Purpose{access.PatientAdmin}})
	case broken("audit"):
		p.trail = &forgetful{p.trail, audit.Revealed}
	case broken("report"):
		p.trail = &forgetful{p.trail, audit.Reported}
	case broken("leak") && o.imports != "":
		each(o.imports, func(_ string, text []byte) { spill(*o, text) })
		patients, _ := people(o.imports)
		for _, p := range patients {
			spill(*o, []byte(p.name()))
		}
	case broken("import") && o.imports != "":
		dir, err := os.MkdirTemp("", "clinic")
		if err != nil {
			panic(err)
		}
		done := false
		each(o.imports, func(name string, text []byte) {
			if patient := []byte(`"Patient"`); !done && bytes.Contains(text, patient) {
				text, done = bytes.Replace(text, patient, []byte(`"Person"`), 1), true
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				panic(err)
			}
		})
		o.imports = dir
	}
}

// each calls f with the files of a folder.
func each(dir string, f func(name string, text []byte)) {
	names, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil {
			f(filepath.Base(name), text)
		}
	}
}

// spill writes what came in into a log.
func spill(o options, text []byte) {
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		panic(err)
	}
	f, err := os.OpenFile(o.in("clinic.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		panic(err)
	}
}

// A forgetful trail leaves out one type of event, but for emergencies: those are
// another line's.
type forgetful struct {
	audit.Trail
	not audit.Type
}

func (t *forgetful) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	if _, purpose, _ := access.Who(ctx); ev.Type == t.not && !purpose.Emergency() {
		return audit.Receipt{ID: "forgotten"}, nil
	}
	return t.Trail.Record(ctx, ev)
}

func closed(o options) {
	if !broken("journal") {
		return
	}
	name := o.in("audit", "00000001.jsonl")
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	text[bytes.IndexByte(text, '\n')+20]++
	if err := os.WriteFile(name, text, 0o600); err != nil {
		panic(err)
	}
}

// tampered changes requests before the app sees them, and its answers. It
// serves one visitor at a time.
func (a *app) tampered(h http.Handler) http.Handler {
	var mu sync.Mutex
	var login, session string       // the newest
	signedIn := map[string]string{} // sessions, by login
	once := true
	posted := map[string]bool{} // codes, by login
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = r.ParseForm() // what is no form has no values
		form := r.PostForm
		rewrite := func(name, value string) {
			form.Set(name, value)
			r.Form.Set(name, value)
		}
		chart := strings.HasPrefix(r.URL.Path, "/patients/")
		saves := r.Method == http.MethodPost && chart && r.URL.Path != "/patients/search"
		_, noSession := r.Cookie("development-session")
		_, noPending := r.Cookie("development-signin")
		if r.URL.Path == "/signin" && form.Has("login") {
			login = form.Get("login")
		}
		if r.URL.Path == "/signin/code" && form.Has("code") {
			code := form.Get("code")
			again := posted[login+code]
			posted[login+code] = true
			if broken("replay") && again || broken("totp") && !again && code != a.codeOf(r, login) {
				rewrite("code", a.renew(r, login))
			}
		}
		switch {
		case broken("password") && r.URL.Path == "/signin":
			for _, d := range demoUsers() {
				if d.Login == login {
					rewrite("password", d.Password)
				}
			}
		case noSession != nil && chart && (broken("factor") && noPending == nil || broken("signin") && noPending != nil):
			r.AddCookie(&http.Cookie{Name: "development-session", Value: session})
		case broken("origin"):
			r.Header.Del("Origin")
			r.Header.Del("Sec-Fetch-Site")
		case broken("search") && form.Get("name") != "":
			rewrite("name", "Nobody")
		case broken("create") && r.URL.Path == "/patients" && form.Has("City"):
			rewrite("City", "Elsewhere")
		case broken("purpose"):
			r.URL.RawQuery = ""
			r.Form.Del("purpose")
		case broken("edit") && saves && form.Has("Phone"):
			form.Del("Phone")
		case broken("conflict") && saves:
			rewrite("version", currentVersion(h, r))
		case broken("keep") && saves && form.Has("SSN") && form.Get("SSN") == "":
			rewrite("SSN", "900-00-0000")
		case broken("input") && strings.Contains(form.Get("SSN"), "*"):
			form.Del("SSN")
		case broken("leak"):
			text, _ := url.QueryUnescape(form.Encode())
			spill(a.options, []byte(text))
		case broken("relation") && once && isCookie(r, signedIn["nurse"]) && r.URL.RawQuery == "" && strings.Count(r.URL.Path, "/") == 2 && chart && r.Method == http.MethodGet:
			seen := &recorder{header: http.Header{}}
			if h.ServeHTTP(seen, r.Clone(r.Context())); seen.status != http.StatusForbidden {
				break
			}
			once = false
			r.Header.Set("Cookie", "development-session="+signedIn["physician"])
		case broken("glass") && strings.HasSuffix(r.URL.Path, "/emergency") && form.Has("password"):
			rewrite("password", "demo nurse 164")
		case broken("revoke") && once && strings.HasSuffix(r.URL.Path, "/end"):
			once = false
			http.Redirect(w, r, "/patients", http.StatusSeeOther)
			return
		case broken("review") && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/review") && strings.HasPrefix(r.URL.Path, "/emergencies/"):
			once = !once // the nurse's is refused, the officer's lost
			if once {
				http.Redirect(w, r, "/emergencies", http.StatusSeeOther)
				return
			}
		case broken("oracle") && strings.Contains(r.URL.Path, "00000000"):
			http.NotFound(w, r)
			return
		case broken("signout") && r.URL.Path == "/signout":
			http.Redirect(w, r, "/signin", http.StatusSeeOther)
			return
		}
		h.ServeHTTP(&answerer{ResponseWriter: w, seen: func(header http.Header) {
			for _, c := range (&http.Response{Header: header}).Cookies() {
				if c.Name == "development-session" && c.Value != "" {
					session = c.Value
					signedIn[login] = session
				}
			}
			if broken("cache") && chart {
				header.Set("Cache-Control", "max-age=60")
			}
			if cookies := header["Set-Cookie"]; broken("cookie") {
				for i := range cookies {
					cookies[i] = strings.ReplaceAll(cookies[i], "; HttpOnly", "")
				}
			}
		}}, r)
	})
}

// isCookie reports whether the request is of a session.
func isCookie(r *http.Request, session string) bool {
	c, err := r.Cookie("development-session")
	return err == nil && c.Value == session
}

// An answerer sees the header before it is sent.
type answerer struct {
	http.ResponseWriter
	seen func(http.Header)
}

func (w *answerer) WriteHeader(status int) {
	w.seen(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

// codeOf returns the code of now of a demo user.
func (a *app) codeOf(r *http.Request, login string) string {
	users, _ := a.demo(r.Context())
	for _, u := range users {
		if u.Login == login {
			return u.Code
		}
	}
	return ""
}

// renew gives a demo user a new second factor, and returns its code.
func (a *app) renew(r *http.Request, login string) string {
	u, err := a.sessions.UserByLogin(r.Context(), tenant, login)
	if err == nil {
		err = a.sessions.DevelopmentEnrol(r.Context(), tenant, u.ID)
	}
	if err != nil {
		panic(err)
	}
	return a.codeOf(r, login)
}

// currentVersion asks the edit page which version is stored.
func currentVersion(h http.Handler, r *http.Request) string {
	ask := r.Clone(r.Context())
	ask.Method, ask.URL.Path, ask.Body = http.MethodGet, r.URL.Path+"/edit", http.NoBody
	ask.Form, ask.PostForm = nil, nil
	page := &recorder{header: http.Header{}}
	h.ServeHTTP(page, ask)
	m := regexp.MustCompile(`name="version" value="([0-9]+)"`).FindSubmatch(page.body.Bytes())
	if m == nil {
		return ""
	}
	return string(m[1])
}

// A recorder keeps an answer.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(status int)      { r.status = status }
