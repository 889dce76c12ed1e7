// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/session"
)

// Who cares for a patient opens the chart: nobody else does, but in an emergency.

// registrar is who writes down that somebody has taken a patient on: nobody says
// so of themselves.
func registrar() access.Principal {
	return access.Principal{ID: "registrar", Tenant: tenant, Kind: access.Service, Roles: []string{"registrar"}}
}

// takeOn puts whoever has registered a patient on the care team.
func (a *app) takeOn(ctx context.Context, patient string) error {
	who, ok := access.PrincipalFrom(ctx)
	if !ok {
		return access.ErrNoPrincipal
	}
	job, end := access.Job(context.WithoutCancel(ctx), registrar(), access.PatientAdmin)
	defer end()
	_, err := a.relations.Add(job, relation.Relation{Patient: patient, Principal: who.ID, Kind: relation.CareTeam})
	return err
}

// assign puts the team of the wiring on the care team of a patient. The scope of
// ctx is a job's.
func (a *app) assign(ctx context.Context, patient string) error {
	for _, login := range a.team {
		u, err := a.sessions.UserByLogin(ctx, tenant, login)
		if err == nil {
			_, err = a.relations.Add(ctx, relation.Relation{Patient: patient, Principal: u.ID, Kind: relation.CareTeam})
		}
		if err != nil {
			return fmt.Errorf("clinic: care team: %w", err)
		}
	}
	return nil
}

// team is the body of the page of a care team.
type team struct {
	*Patient
	Members []member
	Change  bool
}

// A member is somebody who cares for the patient.
type member struct {
	Relation, Login string
	Since           time.Time
}

func (a *app) teamPage(w http.ResponseWriter, r *http.Request) {
	if p, err := a.patient(r, "name", "mrn"); err != nil {
		a.fail(w, r, err)
	} else {
		a.showTeam(w, r, http.StatusOK, p, "")
	}
}

func (a *app) showTeam(w http.ResponseWriter, r *http.Request, status int, p *Patient, message string) {
	body := team{Patient: p, Change: a.may(r.Context(), access.Create, "relation")}
	now := time.Now()
	found, err := a.relations.List(r.Context(), relation.Query{Patient: p.ID})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	for _, m := range found {
		if m.Live(now, relation.Window{}) {
			body.Members = append(body.Members, member{m.ID, a.login(r.Context(), m.Principal), m.From})
		}
	}
	a.render(w, r, status, "team", page{Title: "Care team", Message: message, Body: body})
}

// join puts a colleague on the care team.
func (a *app) join(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r, "name", "mrn")
	if err != nil {
		a.fail(w, r, err)
		return
	}
	u, err := a.sessions.UserByLogin(r.Context(), tenant, strings.TrimSpace(r.PostFormValue("login")))
	who, _ := access.PrincipalFrom(r.Context())
	switch {
	case errors.Is(err, session.ErrNotFound), err == nil && u.Kind != access.Human:
		a.showTeam(w, r, http.StatusUnprocessableEntity, p, "Nobody of the staff has this user name.")
		return
	case err == nil && u.ID == who.ID:
		a.showTeam(w, r, http.StatusUnprocessableEntity, p, "You are on it.")
		return
	case err == nil:
		_, err = a.relations.Add(r.Context(), relation.Relation{Patient: p.ID, Principal: u.ID, Kind: relation.CareTeam})
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	see(w, r, "/patients/"+p.ID+"/team")
}

// part takes somebody off the care team, from now on.
func (a *app) part(w http.ResponseWriter, r *http.Request) {
	p, err := a.patient(r, "name", "mrn")
	if err != nil {
		a.fail(w, r, err)
		return
	}
	found, err := a.relations.List(r.Context(), relation.Query{ID: r.PostFormValue("relation"), Patient: p.ID})
	if len(found) == 1 { // else somebody else was faster
		err = a.relations.End(r.Context(), found[0].ID, time.Time{})
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	see(w, r, "/patients/"+p.ID+"/team")
}
