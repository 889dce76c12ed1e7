// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/session"
)

// A patient may ask that somebody of the staff does not see the chart, and the
// clinic may agree (45 CFR 164.522(a)(1)). The privacy officer writes it down. It
// binds from then on, on every node, but in an emergency ((a)(1)(iii)).

// restricted is the body of the page of a patient's restrictions.
type restricted struct {
	*Patient
	Restrictions []restriction
}

type restriction struct {
	ID, Login string
	Since     time.Time
}

func (a *app) restrictionsPage(w http.ResponseWriter, r *http.Request) {
	if p, err := a.patient(r, "name", "mrn"); err != nil {
		a.fail(w, r, err)
	} else {
		a.showRestrictions(w, r, http.StatusOK, p, "")
	}
}

func (a *app) showRestrictions(w http.ResponseWriter, r *http.Request, status int, p *Patient, message string) {
	found, err := a.directives.List(r.Context(), p.ID)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	body, now := restricted{Patient: p}, time.Now()
	for _, d := range found {
		if d.Kind == directive.Restriction && d.Live(now) {
			for _, who := range d.Principals {
				body.Restrictions = append(body.Restrictions, restriction{d.ID, a.login(r.Context(), who), d.From})
			}
		}
	}
	a.render(w, r, status, "restrictions", page{Title: "Restrictions", Message: message, Body: body})
}

// restrict keeps a member of the staff from the chart, as it was agreed with the
// patient.
func (a *app) restrict(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r, "name", "mrn")
	if err != nil {
		a.fail(w, r, err)
		return
	}
	u, err := a.sessions.UserByLogin(r.Context(), tenant, strings.TrimSpace(r.PostFormValue("login")))
	if errors.Is(err, session.ErrNotFound) || err == nil && u.Kind != access.Human {
		a.showRestrictions(w, r, http.StatusUnprocessableEntity, p, "Nobody of the staff has this user name.")
		return
	}
	if err == nil {
		_, err = a.directives.Record(r.Context(), directive.Directive{
			Patient: p.ID, Kind: directive.Restriction, Basis: directive.Agreed, Principals: []string{u.ID},
		})
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	see(w, r, "/patients/"+p.ID+"/restrictions")
}

// unrestrict ends a restriction as the patient has asked in writing (45 CFR
// 164.522(a)(2)(i)).
func (a *app) unrestrict(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r, "name", "mrn")
	if err != nil {
		a.fail(w, r, err)
		return
	}
	found, err := a.directives.List(r.Context(), p.ID)
	for _, d := range found {
		if d.ID == r.PostFormValue("directive") && d.Live(time.Now()) { // else somebody else was faster
			err = errors.Join(err, a.directives.End(r.Context(), d.ID, directive.Revoked))
		}
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	see(w, r, "/patients/"+p.ID+"/restrictions")
}
