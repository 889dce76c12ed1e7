// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"net/http"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
	"github.com/part164/part164/audit/report/document"
	"github.com/part164/part164/audit/report/review"
	"github.com/part164/part164/storage"
)

// newReports makes the reports of the trail. What they say of who did it is the
// login.
func (a *app) newReports() (*report.Reporter, error) {
	return report.New(report.Config{
		Sources: a.sources(), Audit: a.trail, Access: a.point,
		Name: func(ctx context.Context, p access.Principal) string { return a.login(ctx, p.ID) },
	})
}

// chartOf returns the chart of a report, for a page of the app.
func chartOf(d *document.Document) (template.HTML, error) {
	var b bytes.Buffer
	err := d.Chart.WriteFigure(&b)
	return template.HTML(b.String()), err // escaped by WriteFigure
}

// seen is the body of the page that says who saw a record.
type seen struct {
	*Patient // nil on the patient's own page
	*accesses.Report
	Chart template.HTML
}

// accessOf settles what is under way, and asks who saw a record. That somebody
// asks is recorded before anything is shown.
func (a *app) accessOf(ctx context.Context, id string) (*accesses.Report, error) {
	if err := storage.Settle(ctx, a.db); err != nil {
		return nil, err
	}
	return accesses.Of(ctx, a.reports, accesses.Query{Patient: id})
}

// auditPage shows the privacy officer who did what to a patient's record.
func (a *app) auditPage(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r, "name", "mrn")
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.showAccess(w, r, p.ID, p)
}

// ownPage shows patients who saw their record. Whose it is comes from the
// sign-in, and from nothing that the browser sends: a patient signs in with the
// ID of the record.
func (a *app) ownPage(w http.ResponseWriter, r *http.Request) {
	who, _ := access.PrincipalFrom(r.Context()) // the guard has let nobody else in
	a.showAccess(w, r, who.ID, nil)
}

func (a *app) showAccess(w http.ResponseWriter, r *http.Request, id string, p *Patient) {
	body := seen{Patient: p}
	var err error
	if body.Report, err = a.accessOf(r.Context(), id); err == nil {
		body.Chart, err = chartOf(body.Report.Document())
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.render(w, r, http.StatusOK, "audit", page{Title: "Who saw this record", Body: body})
}

// auditFile is the same as one page to keep, or to hand to the patient.
func (a *app) auditFile(w http.ResponseWriter, r *http.Request) { a.file(w, r, r.PathValue("id")) }

func (a *app) ownFile(w http.ResponseWriter, r *http.Request) {
	who, _ := access.PrincipalFrom(r.Context())
	a.file(w, r, who.ID)
}

func (a *app) file(w http.ResponseWriter, r *http.Request, id string) {
	var b bytes.Buffer
	seen, err := a.accessOf(r.Context(), id)
	if err == nil {
		err = seen.Document().WriteHTML(&b)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Security-Policy", document.ContentSecurityPolicy())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = b.WriteTo(w) // the client may have gone
}

// reviewed is the body of the weekly review.
type reviewed struct {
	*review.Report
	Chart        template.HTML
	Week         string // any day of it
	Before, Next string // the weeks around it; Next is empty in the newest
	Over, Sign   bool   // the week is over; the reader may sign off
	Dispose      bool   // the reader may say what came of an alert
	Outcomes     any
}

// week returns the week that a request names; without a name the last one that
// is over.
func week(r *http.Request) (review.Query, error) {
	day := r.FormValue("week")
	if day == "" {
		return review.Week(time.Now().AddDate(0, 0, -7)), nil
	}
	t, err := time.Parse(time.DateOnly, day)
	return review.Week(t), err
}

// reviewPage shows a week's activity (45 CFR 164.308(a)(1)(ii)(D)).
func (a *app) reviewPage(w http.ResponseWriter, r *http.Request) {
	q, err := week(r)
	if err != nil {
		http.Error(w, "no such week", http.StatusBadRequest)
		return
	}
	rev, err := review.Of(r.Context(), a.reports, q)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.showReview(w, r, http.StatusOK, q, rev, "")
}

// signOff signs the week off, as the reader saw it.
func (a *app) signOff(w http.ResponseWriter, r *http.Request) {
	q, err := week(r)
	if err != nil {
		http.Error(w, "no such week", http.StatusBadRequest)
		return
	}
	_, err = review.SignOff(r.Context(), a.reports, q, r.PostFormValue("digest"))
	message := ""
	switch {
	case errors.Is(err, review.ErrOwnReview):
		message = "Nobody signs off their own activity: somebody else must."
	case errors.Is(err, review.ErrChanged):
		message = "Something was added to the week since you read it. Look again, and then sign off."
	case err != nil:
		a.fail(w, r, err)
		return
	default:
		see(w, r, "/review?week="+q.Since.Format(time.DateOnly))
		return
	}
	rev, err := review.Of(r.Context(), a.reports, q)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.showReview(w, r, http.StatusConflict, q, rev, message)
}

func (a *app) showReview(w http.ResponseWriter, r *http.Request, status int, q review.Query, rev *review.Report, message string) {
	body := reviewed{Report: rev, Week: q.Since.Format(time.DateOnly), Before: q.Since.AddDate(0, 0, -7).Format(time.DateOnly), Over: !q.Until.After(time.Now())}
	if body.Over {
		body.Next = q.Until.Format(time.DateOnly)
	}
	body.Dispose, body.Outcomes = a.may(r.Context(), access.Review, "audit"), outcomes
	body.Sign = body.Over && body.Dispose
	var err error
	if body.Chart, err = chartOf(rev.Document()); err != nil {
		a.fail(w, r, err)
		return
	}
	a.render(w, r, status, "review", page{Title: "Review of activity", Message: message, Body: body})
}
