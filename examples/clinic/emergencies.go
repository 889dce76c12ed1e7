// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/storage"
)

// The officer's queue: who broke the glass, what they opened, and what somebody
// else makes of it (45 CFR 164.308(a)(1)(ii)(D)).

// findings are what a review may come to, as grant.Findings has them.
var findings = map[audit.Reason]string{
	audit.ReasonExplained: "It was in order",
	audit.ReasonViolation: "It was not in order",
	audit.ReasonEscalated: "Somebody else decides",
}

// An emergency is a grant of emergency access on a page.
type emergency struct {
	grant.Grant
	Who, Why          string
	Live, Overdue, My bool
	Over              time.Time // when the access was over, or will be
}

func (a *app) emergency(ctx context.Context, g grant.Grant, now time.Time) emergency {
	who, _ := access.PrincipalFrom(ctx)
	state := g.At(now)
	e := emergency{Grant: g, Who: a.login(ctx, g.Holder), Why: reasons[g.Reason], Live: state == grant.Active, Overdue: g.Overdue(now), My: g.Holder == who.ID, Over: g.Until}
	if !g.Ended.IsZero() && g.Ended.Before(g.Until) {
		e.Over = g.Ended
	}
	return e
}

// queued is the body of the queue.
type queued struct {
	Open    []emergency
	Overdue int
	Review  bool
}

func (a *app) emergenciesPage(w http.ResponseWriter, r *http.Request) {
	open, err := a.desk.Queue(r.Context())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	now, body := time.Now(), queued{}
	for _, g := range open {
		e := a.emergency(r.Context(), g, now)
		if e.Overdue {
			body.Overdue++
		}
		body.Open = append(body.Open, e)
	}
	a.render(w, r, http.StatusOK, "emergencies", page{Title: "Emergency access to review", Body: body})
}

// examined is the body of the page about one emergency access.
type examined struct {
	emergency
	*accesses.Report
	Name     *Patient // nil where there is no such patient
	Review   bool     // the reader may say what came of it, now
	Findings []coded
}

func (a *app) emergencyPage(w http.ResponseWriter, r *http.Request) {
	a.showEmergency(w, r, http.StatusOK, r.PathValue("id"), "")
}

// showEmergency shows one emergency access, with all that was opened by it on
// every node.
func (a *app) showEmergency(w http.ResponseWriter, r *http.Request, status int, id, message string) {
	ctx := r.Context()
	open, err := a.desk.Queue(ctx)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	at := slices.IndexFunc(open, func(g grant.Grant) bool { return g.ID == id })
	if at < 0 && message != "" { // somebody else was faster
		see(w, r, "/emergencies")
		return
	}
	if at < 0 {
		a.guard.Refuse(w, r, nil)
		return
	}
	g := open[at]
	body := examined{emergency: a.emergency(ctx, g, time.Now())}
	if err := storage.Settle(ctx, a.db); err != nil {
		a.fail(w, r, err)
		return
	}
	body.Report, err = accesses.Of(ctx, a.reports, accesses.Query{Patient: g.Patient, Grant: g.ID, Period: report.Period{Since: g.Created}})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if p, err := a.named(ctx, g.Patient, "name", "mrn"); err == nil {
		body.Name = p
	}
	body.Review = a.may(ctx, access.Review, "audit") && !body.Live && !body.My
	for _, f := range grant.Findings() {
		body.Findings = append(body.Findings, coded{f, findings[f]})
	}
	a.render(w, r, status, "emergency", page{Title: "Emergency access", Message: message, Body: body})
}

// reviewEmergency says what came of it.
func (a *app) reviewEmergency(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	_, err := a.desk.Review(r.Context(), id, audit.Reason(r.PostFormValue("finding")))
	message := ""
	switch {
	case err == nil:
		see(w, r, "/emergencies")
		return
	case errors.Is(err, grant.ErrOwn):
		message = "Nobody reviews their own emergency access: somebody else must."
	case errors.Is(err, grant.ErrState):
		message = "It cannot be reviewed now: it is still in force, or somebody else was faster."
	case errors.Is(err, grant.ErrRequest):
		message = "Choose a finding."
	case errors.Is(err, grant.ErrEligible), errors.Is(err, grant.ErrNotFound):
		a.guard.Refuse(w, r, err)
		return
	default:
		a.fail(w, r, err)
		return
	}
	a.showEmergency(w, r, http.StatusConflict, id, message)
}
