// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage"
)

//go:embed templates style.css
var files embed.FS

// handler is the whole app.
func (a *app) handler() http.Handler {
	mux := a.guard.Mux()
	a.routes(mux)
	return a.tampered(secure(a.sessions.Middleware(mux)))
}

// A router is what routes are registered with: the guard's own mux.
type router interface {
	HandleFunc(pattern string, h http.HandlerFunc, action access.Action, resourceType string, purposes ...access.Purpose)
	Public(pattern string, h http.Handler)
}

// routes says what each route does to which kind of record, and for which
// purposes of use.
func (a *app) routes(mux router) {
	route := func(pattern string, h http.HandlerFunc, action access.Action, kind string, purposes ...access.Purpose) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			choice := slices.DeleteFunc(a.guard.Purposes(r.Context(), action, kind, purposes...), access.Purpose.Emergency) // which is one patient's: see breakGlass
			h(w, r.WithContext(context.WithValue(r.Context(), choiceKey{}, choice)))
		}, action, kind, purposes...)
	}
	find := []access.Purpose{access.PatientAdmin, access.Payment, access.Compliance}
	look := []access.Purpose{access.Treatment, access.BreakGlass, access.Payment, access.Compliance}
	review := []access.Purpose{access.Compliance, access.Operations}

	mux.Public("GET /{$}", http.HandlerFunc(a.home))
	mux.Public("GET /style.css", http.FileServerFS(files))
	mux.Public("GET /signin", http.HandlerFunc(a.signInPage))
	mux.Public("POST /signin", http.HandlerFunc(a.signIn))
	mux.Public("GET /signin/code", http.HandlerFunc(a.codePage))
	mux.Public("POST /signin/code", http.HandlerFunc(a.code))
	mux.Public("POST /signout", http.HandlerFunc(a.signOut))
	mux.Public("POST /purpose", http.HandlerFunc(a.choosePurpose))
	route("GET /patients", a.searchPage, access.Search, "patient", find...)
	route("POST /patients/search", a.search, access.Search, "patient", find...)
	route("GET /patients/new", a.newPage, access.Create, "patient", access.PatientAdmin)
	route("POST /patients", a.create, access.Create, "patient", access.PatientAdmin)
	route("GET /patients/{id}", a.chart, access.Read, "patient", look...)
	route("GET /patients/{id}/edit", a.editPage, access.Update, "patient", access.Treatment)
	route("POST /patients/{id}", a.update, access.Update, "patient", access.Treatment)
	route("GET /patients/{id}/team", a.teamPage, access.Read, "relation", access.Treatment)
	route("POST /patients/{id}/team", a.join, access.Create, "relation", access.Treatment)
	route("POST /patients/{id}/team/end", a.part, access.Update, "relation", access.Treatment)
	mux.Public("GET /patients/{id}/emergency", http.HandlerFunc(a.glassPage))
	mux.Public("POST /patients/{id}/emergency", http.HandlerFunc(a.breakGlass))
	route("POST /emergencies/{id}/end", a.endGlass, access.Update, "grant", access.Operations)
	route("GET /emergencies", a.emergenciesPage, access.Read, "audit", access.Compliance)
	route("GET /emergencies/{id}", a.emergencyPage, access.Read, "audit", access.Compliance)
	route("POST /emergencies/{id}/review", a.reviewEmergency, access.Review, "audit", access.Compliance)
	route("GET /rights", a.rightsPage, access.Read, "grant", access.Operations)
	route("POST /rights", a.askRight, access.Create, "grant", access.Operations)
	route("POST /rights/{id}/approve", a.onRight(a.desk.Approve), access.Review, "grant", access.Operations)
	route("POST /rights/{id}/refuse", a.onRight(a.desk.Refuse), access.Review, "grant", access.Operations)
	route("POST /rights/{id}/end", a.onRight(a.desk.Revoke), access.Update, "grant", access.Operations)
	route("GET /patients/{id}/audit", a.auditPage, access.Read, "audit", review...)
	route("GET /patients/{id}/audit/page", a.auditFile, access.Read, "audit", review...)
	route("GET /patients/{id}/restrictions", a.restrictionsPage, access.Read, directive.Resource, access.Compliance)
	route("POST /patients/{id}/restrictions", a.restrict, access.Create, directive.Resource, access.Compliance)
	route("POST /patients/{id}/restrictions/end", a.unrestrict, access.Update, directive.Resource, access.Compliance)
	route("GET /review", a.reviewPage, access.Read, "audit", access.Compliance)
	route("POST /review", a.signOff, access.Review, "audit", access.Compliance)
	route("POST /review/alert", a.dispose, access.Review, "audit", access.Compliance)
	route("GET /users", a.usersPage, access.Update, "policy", access.SystemAdmin)
	route("POST /users/end", a.terminate, access.Update, "policy", access.SystemAdmin)
	route("GET /mine", a.ownPage, access.Read, "audit", access.PatientRequest)
	route("GET /mine/page", a.ownFile, access.Read, "audit", access.PatientRequest)
}

// secure sets what holds for every answer. Same-origin referrers keep record
// IDs from other sites, and leave the Origin of forms as it is.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next.ServeHTTP(w, r)
	})
}

// parsePages parses each page with the layout. The functions that show PHI are
// bound anew for each request, in render.
func parsePages() (map[string]*template.Template, error) {
	pages := map[string]*template.Template{}
	for _, name := range []string{"signin", "code", "home", "search", "chart", "edit", "audit", "review", "refused", "breakglass", "emergencies", "emergency", "team", "users", "restrictions", "rights"} {
		t := template.New("layout.html").Funcs(minimize.Funcs(context.Background())).Funcs(template.FuncMap{"tidy": tidy})
		t, err := t.ParseFS(files, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		pages[name] = t
	}
	return pages, nil
}

// tidy cuts the long fractions that instruments and generators write.
func tidy(shown any) any {
	text, ok := shown.(string)
	if !ok {
		return shown
	}
	words := strings.Fields(text)
	for i, w := range words {
		whole, fraction, ok := strings.Cut(w, ".")
		if ok && len(fraction) > 3 && strings.Trim(whole+fraction, "0123456789") == "" && whole != "0" {
			words[i] = whole + "." + fraction[:2]
		}
	}
	return strings.Join(words, " ")
}

type choiceKey struct{}

// A page is what the layout shows around the Body.
type page struct {
	Title, Message string // what went wrong
	Done           string // what went well
	Login, Roles   string
	Purpose        access.Purpose
	PurposeName    string
	Purposes       map[access.Purpose]string // to choose from; empty where there is no choice
	Here           string                    // where a choice leads back to
	Development    bool
	Demo           []demoUser
	Body           any
}

// render writes a page, through what the scope of the request may see.
func (a *app) render(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	ctx := r.Context()
	p.Development = a.development
	if who, ok := access.PrincipalFrom(ctx); ok {
		p.Login, p.Roles = a.login(ctx, who.ID), strings.Join(who.Roles, ", ")
	}
	if s, err := access.From(ctx); err == nil {
		p.Purpose, p.PurposeName = s.Purpose(), s.Purpose().Display()
	}
	if choice, _ := ctx.Value(choiceKey{}).([]access.Purpose); len(choice) > 1 {
		p.Purposes = map[access.Purpose]string{}
		for _, c := range choice {
			p.Purposes[c] = c.Display()
		}
		p.Here = "/patients"
		if r.Method == http.MethodGet {
			p.Here = r.URL.Path
		}
	}
	t, err := a.pages[name].Clone()
	var buf bytes.Buffer
	if err == nil {
		err = t.Funcs(minimize.Funcs(ctx)).Execute(&buf, p)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w) // the client may have gone
}

// fail answers what went wrong. Who is denied cannot tell whether the record
// exists. The errors of the SDK hold no PHI.
func (a *app) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, access.ErrDenied), errors.Is(err, gorm.ErrRecordNotFound):
		a.guard.Refuse(w, r, err, asked(r)...)
	case errors.Is(err, audit.ErrUnavailable):
		http.Error(w, "This cannot be recorded at the moment, and so it is not done. Try again later.", http.StatusServiceUnavailable)
	default:
		a.log.Error("request failed", "pattern", r.Pattern, "error", err)
		http.Error(w, "Something went wrong. Try again, or call for help.", http.StatusInternalServerError)
	}
}

// asked is the patient whom the route names, there or not: the trail has who was
// asked for.
func asked(r *http.Request) []access.Resource {
	id := r.PathValue("id")
	if _, pattern, _ := strings.Cut(r.Pattern, " "); id == "" || !strings.HasPrefix(pattern, "/patients/{id}") {
		return nil
	}
	return []access.Resource{{Type: "patient", ID: id, Patient: id, Tenant: tenant}}
}

// login returns what a user types to sign in; for a service, its ID.
func (a *app) login(ctx context.Context, id string) string {
	if u, err := a.sessions.User(ctx, tenant, id); err == nil {
		return u.Login
	}
	return id
}

// may reports whether the scope of ctx may act on a kind of record, without a
// refusal in the trail.
func (a *app) may(ctx context.Context, action access.Action, kind string) bool {
	s, err := access.From(ctx)
	return err == nil && len(a.guard.Purposes(ctx, action, kind, s.Purpose())) > 0
}

func see(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// home leads to the first page that the role has a use for.
func (a *app) home(w http.ResponseWriter, r *http.Request) {
	switch who, ok := access.PrincipalFrom(r.Context()); {
	case !ok:
		see(w, r, "/signin")
	case len(a.guard.Purposes(r.Context(), access.Search, "patient")) > 0:
		see(w, r, "/patients")
	case who.Kind == access.Patient:
		see(w, r, "/mine")
	case len(a.guard.Purposes(r.Context(), access.Update, "policy")) > 0:
		see(w, r, "/users")
	default:
		a.render(w, r, http.StatusOK, "home", page{Title: "Welcome"})
	}
}

func (a *app) signInPage(w http.ResponseWriter, r *http.Request) {
	a.signInAgain(w, r, "signin", page{Title: "Sign in"}, nil)
}

func (a *app) codePage(w http.ResponseWriter, r *http.Request) {
	a.signInAgain(w, r, "code", page{Title: "Second factor"}, nil)
}

// signInAgain shows a page of the sign-in, with what went wrong before.
func (a *app) signInAgain(w http.ResponseWriter, r *http.Request, name string, p page, err error) {
	status := session.StatusCode(err)
	if err != nil {
		p.Message = session.Message(status)
	}
	demo, derr := a.demo(r.Context())
	if derr != nil {
		a.fail(w, r, derr)
		return
	}
	p.Demo = demo
	a.render(w, r, status, name, p)
}

func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	step, err := a.sessions.PostPassword(w, r, tenant, r.PostFormValue("login"), r.PostFormValue("password"))
	switch {
	case err != nil:
		a.signInAgain(w, r, "signin", page{Title: "Sign in"}, err)
	case step == session.StepTOTP:
		see(w, r, "/signin/code")
	default:
		see(w, r, "/")
	}
}

func (a *app) code(w http.ResponseWriter, r *http.Request) {
	err := a.sessions.PostTOTP(w, r, r.PostFormValue("code"))
	switch {
	case errors.Is(err, session.ErrPending):
		a.signInAgain(w, r, "signin", page{Title: "Sign in"}, err)
	case err != nil:
		a.signInAgain(w, r, "code", page{Title: "Second factor"}, err)
	default:
		see(w, r, "/")
	}
}

func (a *app) signOut(w http.ResponseWriter, r *http.Request) {
	if err := a.sessions.PostLogout(w, r); err != nil {
		session.WriteError(w, err)
		return
	}
	see(w, r, "/signin")
}

// choosePurpose keeps the choice of the picker in the cookie that the guard
// reads. It grants nothing: a purpose that does not fit is passed over.
func (a *app) choosePurpose(w http.ResponseWriter, r *http.Request) {
	p, here := access.Purpose(r.PostFormValue("purpose")), r.PostFormValue("here")
	if !p.Valid() || p.Emergency() || here != "/patients" && !strings.HasPrefix(here, "/patients/") {
		http.Error(w, "no such purpose", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "purpose", Value: string(p), Path: "/", HttpOnly: true, Secure: !a.development, SameSite: http.SameSiteLaxMode})
	see(w, r, here)
}

// found is the body of the search page.
type found struct {
	Asked    bool
	Patients []Patient
	More     bool
	Create   bool
	Review   bool
	Counted  bool // what follows is known
	Waiting  int  // emergency accesses to review
	Overdue  int  // of these, late
	Rights   bool // asks for rights for a time, or agrees to them
	Pending  int  // requests for the reader to agree to
}

// listed is the most that a search shows.
const listed = 50

func (a *app) searchPage(w http.ResponseWriter, r *http.Request) {
	a.searched(w, r, http.StatusOK, found{}, "")
}

func (a *app) searched(w http.ResponseWriter, r *http.Request, status int, f found, message string) {
	f.Create = len(a.guard.Purposes(r.Context(), access.Create, "patient")) > 0
	if f.Review = len(a.guard.Purposes(r.Context(), access.Review, "audit")) > 0; f.Review {
		waiting, err := a.desk.Queue(r.Context())
		f.Counted = a.counted(r, err)
		for _, g := range waiting {
			f.Waiting++
			if g.Overdue(time.Now()) {
				f.Overdue++
			}
		}
	}
	if f.Rights = len(a.guard.Purposes(r.Context(), access.Read, "grant")) > 0; f.Rights {
		pending, err := a.desk.Pending(r.Context())
		if a.counted(r, err) {
			f.Pending = len(pending)
		}
	}
	a.render(w, r, status, "search", page{Title: "Patients", Message: message, Body: f})
}

// counted reports whether there is a number to show. A page goes without, and the
// log says why.
func (a *app) counted(r *http.Request, err error) bool {
	if err != nil {
		a.log.Error("a page goes without a count", "pattern", r.Pattern, "error", err)
	}
	return err == nil
}

// search comes by POST, so that names and record numbers stand in no URL: those
// are kept in histories and logs.
func (a *app) search(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	q := a.db.WithContext(ctx).Select("id", "tenant_id", "version", "mrn", "name", "birth_date")
	asked := false
	for form, field := range map[string]string{"name": "Name", "mrn": "MRN"} {
		if text := strings.TrimSpace(r.PostFormValue(form)); text != "" {
			q, asked = q.Where(storage.Match(field, text)), true
		}
	}
	if !asked {
		a.searched(w, r, http.StatusUnprocessableEntity, found{}, "Type the beginning of a name, or a whole record number.")
		return
	}
	f := found{Asked: true}
	err := q.Limit(listed + 1).Find(&f.Patients).Error
	if errors.Is(err, storage.ErrRefused) {
		a.searched(w, r, http.StatusUnprocessableEntity, found{}, "A name search needs two letters of a word.")
		return
	}
	if len(f.Patients) > listed {
		f.Patients, f.More = f.Patients[:listed], true
	}
	if err == nil && len(f.Patients) > 0 {
		err = storage.Reveal(ctx, &f.Patients)
	}
	if err != nil && !partly(err) {
		a.fail(w, r, err)
		return
	}
	a.searched(w, r, http.StatusOK, f, "")
}

// partly reports whether an error of Reveal left the rest open: the page then
// shows what did not open as unavailable.
func partly(err error) bool {
	var e *storage.RevealError
	return errors.As(err, &e)
}

// patient reads and reveals the patient that the route names: all columns, or
// those that are named.
func (a *app) patient(r *http.Request, columns ...string) (*Patient, error) {
	return a.named(r.Context(), r.PathValue("id"), columns...)
}

func (a *app) named(ctx context.Context, id string, columns ...string) (*Patient, error) {
	var p Patient
	q := a.db.WithContext(ctx)
	if len(columns) > 0 {
		q = q.Select(append(columns, "id", "tenant_id", "version"))
	}
	err := q.First(&p, "id = ?", id).Error
	if err == nil {
		err = storage.Reveal(ctx, &p)
	}
	if partly(err) {
		err = nil
	}
	return &p, err
}

// record is the body of the chart.
type record struct {
	*Patient
	Fields       []field
	Denied, More map[string]bool // kinds that the role does not read for this purpose; of which there are more
	Encounters   []Encounter
	Conditions   []Condition
	Observations []Observation
	Medications  []Medication
	Allergies    []Allergy
	Documents    []Document
	Edit, Audit  bool
	Team         bool
	Restrict     bool
	Emergency    *opened // by which the chart is open; nil for who cares for the patient
}

func (a *app) chart(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		if in, ok := a.inEmergency(r); ok {
			r = in
			p, err = a.patient(r)
		}
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx := r.Context()
	c := &record{Patient: p, Fields: fields(p), Denied: map[string]bool{}, More: map[string]bool{}}
	for _, err := range []error{
		newest(ctx, a, c, "encounter", "start", &c.Encounters),
		newest(ctx, a, c, "condition", "onset", &c.Conditions),
		newest(ctx, a, c, "observation", "taken", &c.Observations),
		newest(ctx, a, c, "medication", "ordered", &c.Medications),
		newest(ctx, a, c, "allergy", "recorded", &c.Allergies),
		newest(ctx, a, c, "document", "written", &c.Documents),
	} {
		if err != nil {
			a.fail(w, r, err)
			return
		}
	}
	if s, err := access.From(ctx); err == nil && s.Purpose().Emergency() {
		if c.Emergency, err = a.live(ctx, p.ID); err != nil {
			a.fail(w, r, err)
			return
		}
	}
	c.Team, c.Restrict = a.may(ctx, access.Read, "relation"), a.may(ctx, access.Create, directive.Resource)
	c.Edit, c.Audit = a.may(ctx, access.Update, "patient"), len(a.guard.Purposes(ctx, access.Read, "audit")) > 0
	a.render(w, r, http.StatusOK, "chart", page{Title: "Chart", Body: c})
}

// newest reads and reveals the newest records of a kind into rows.
func newest[T any](ctx context.Context, a *app, c *record, kind, date string, rows *[]T) error {
	if !a.may(ctx, access.Read, kind) {
		c.Denied[kind] = true
		return nil
	}
	err := a.db.WithContext(ctx).Where("patient_id = ?", c.ID).Order(date + " desc").Limit(listed + 1).Find(rows).Error
	if err != nil {
		return err
	}
	if len(*rows) > listed {
		*rows, c.More[kind] = (*rows)[:listed], true
	}
	if err := storage.Reveal(ctx, rows); err != nil && !partly(err) {
		return err
	}
	return nil
}
