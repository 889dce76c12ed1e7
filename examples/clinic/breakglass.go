// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
)

// Emergency access (45 CFR 164.312(a)(2)(ii)) takes two steps from the refused
// page: the link on it, and a form with a reason and the password. The chart
// comes next. These two routes are public, so that nothing, not even a policy that
// cannot be read, stands before the desk: that asks who it is, for their role,
// their second factor and their password, and puts each try on record.

// refusedPage is every refusal of the app. It says the same whether the record
// exists or not.
func (a *app) refusedPage(w http.ResponseWriter, r *http.Request, no httpaccess.Refusal) {
	a.render(w, r.WithContext(context.WithValue(r.Context(), choiceKey{}, nil)), no.Status, "refused", page{Title: http.StatusText(no.Status), Body: no})
}

// reasons are why somebody may break the glass, as grant.BreakGlass.Reasons has
// them.
var reasons = map[audit.Reason]string{
	audit.ReasonEmergency:  "Medical emergency",
	audit.ReasonIncapacity: "The patient cannot answer",
	audit.ReasonCovering:   "I cover for a colleague",
	audit.ReasonConsult:    "I was asked for a consult",
	audit.ReasonTransfer:   "The patient is being transferred",
	audit.ReasonUnassigned: "I care for the patient, and the care team does not say so yet",
	audit.ReasonDisaster:   "Disaster",
}

// glass is the body of the form.
type glass struct {
	Patient string // record ID, as it was asked for
	Reasons []coded
	Chosen  audit.Reason
	Hours   int // for which it opens the chart
}

// A coded value, and what people read.
type coded struct {
	Code audit.Reason
	Name string
}

func (a *app) glassPage(w http.ResponseWriter, r *http.Request) {
	if a.staff(w, r) {
		a.showGlass(w, r, http.StatusOK, "", "")
	}
}

// staff reports whether a member of the workforce is signed in. Anybody else is
// answered.
func (a *app) staff(w http.ResponseWriter, r *http.Request) bool {
	who, ok := access.PrincipalFrom(r.Context())
	switch {
	case !ok:
		see(w, r, "/signin")
	case who.Kind != access.Human || strings.Contains(r.Pattern, "{id}") && access.CheckID(r.PathValue("id")) != nil:
		a.guard.Refuse(w, r, nil)
	default:
		return true
	}
	return false
}

func (a *app) showGlass(w http.ResponseWriter, r *http.Request, status int, chosen audit.Reason, message string) {
	body := glass{Patient: r.PathValue("id"), Chosen: chosen, Hours: int(glassTTL.Hours())}
	for _, c := range grant.BreakGlass.Reasons() {
		body.Reasons = append(body.Reasons, coded{c, reasons[c]})
	}
	a.render(w, r, status, "breakglass", page{Title: "Emergency access", Message: message, Body: body})
}

// breakGlass opens one patient's chart to whoever is signed in.
func (a *app) breakGlass(w http.ResponseWriter, r *http.Request) {
	if !a.staff(w, r) {
		return
	}
	reason := audit.Reason(r.PostFormValue("reason"))
	_, err := a.desk.BreakGlass(r.Context(), grant.Glass{Patient: r.PathValue("id"), Reason: reason}, r.PostFormValue("password"))
	switch {
	case err == nil:
		see(w, r, "/patients/"+r.PathValue("id"))
	case errors.Is(err, audit.ErrUnavailable):
		a.fail(w, r, err)
	case errors.Is(err, grant.ErrRequest):
		a.showGlass(w, r, http.StatusUnprocessableEntity, reason, "Choose a reason.")
	case errors.Is(err, session.ErrSignIn):
		a.showGlass(w, r, http.StatusForbidden, reason, "The password is not right.")
	case errors.Is(err, session.ErrLocked), errors.Is(err, session.ErrBusy):
		status := session.StatusCode(err)
		a.showGlass(w, r, status, reason, session.Message(status))
	case errors.Is(err, grant.ErrFactor):
		a.showGlass(w, r, http.StatusForbidden, reason, "Your second factor is too old: sign out, and sign in with it again.")
	case errors.Is(err, grant.ErrEligible):
		a.guard.Refuse(w, r, err)
	default:
		a.fail(w, r, err)
	}
}

// glassTTL is how long a broken glass opens a chart, and glassReview within which
// somebody else has to look at what was done.
const (
	glassTTL    = 4 * time.Hour
	glassReview = 72 * time.Hour
)

// inEmergency returns the request in a scope of emergency access, where the
// caller has broken the glass for this patient.
func (a *app) inEmergency(r *http.Request) (*http.Request, bool) {
	s, err := access.From(r.Context())
	if err != nil || s.Purpose() != access.Treatment {
		return nil, false
	}
	ctx := access.ForPurpose(r.Context(), access.BreakGlass)
	d, err := a.point.Check(ctx, access.Request{Action: access.Read, Resources: asked(r)})
	if err != nil || !d.AllowAll(1) {
		return nil, false
	}
	return r.WithContext(ctx), true
}

// live returns the caller's live emergency access to a patient; nil where there
// is none.
func (a *app) live(ctx context.Context, patient string) (*opened, error) {
	who, ok := access.PrincipalFrom(ctx)
	if !ok {
		return nil, nil
	}
	grants, err := a.desk.Live(ctx, who, time.Now())
	for _, g := range grants {
		if g.BreakGlass && g.Patient == patient {
			return &opened{ID: g.ID, Until: g.Until}, err
		}
	}
	return nil, err
}

// opened is emergency access on the page of a chart.
type opened struct {
	ID    string
	Until time.Time
}

// endGlass ends emergency access early: the holder's own, and anybody's for the
// officer.
func (a *app) endGlass(w http.ResponseWriter, r *http.Request) {
	if !a.staff(w, r) {
		return
	}
	g, err := a.desk.Revoke(r.Context(), r.PathValue("id"))
	who, _ := access.PrincipalFrom(r.Context())
	switch {
	case errors.Is(err, grant.ErrEligible), errors.Is(err, grant.ErrNotFound):
		a.guard.Refuse(w, r, err)
	case err != nil:
		a.fail(w, r, err)
	case g.Holder == who.ID:
		see(w, r, "/patients/"+g.Patient)
	default:
		see(w, r, "/emergencies")
	}
}
