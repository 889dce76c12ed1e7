// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
)

// Rights for a time: a role that somebody needs now and then, such as that of
// registration in a night without a physician at the desk. It is asked for with a
// reason, agreed to by somebody else, and over by itself. The routes let in whom the
// decision point does, in the session that they act in; the desk says what they may
// do there.

// elevations are the roles that may be asked for, by whom, and who agrees. What
// such a role may do stands in accessRules and minimumRules.
func elevations() []grant.Elevation {
	return []grant.Elevation{{
		Role: "registration", Requesters: []string{"nurse"}, Approvers: []string{"physician", "privacy-officer"},
		MaxTTL: 12 * time.Hour, Purposes: []access.Purpose{access.PatientAdmin},
	}}
}

// rightNames say what a role is for.
var rightNames = map[string]string{"registration": "Register patients"}

// rightReasons are why somebody may ask, as grant.JIT.Reasons has them.
var rightReasons = map[audit.Reason]string{
	audit.ReasonCovering:   "I cover for a colleague",
	audit.ReasonConsult:    "I was asked for a consult",
	audit.ReasonIncident:   "An incident",
	audit.ReasonRepair:     "A record has to be mended",
	audit.ReasonMigration:  "Records are moved",
	audit.ReasonIndividual: "A patient has asked for it",
	audit.ReasonRegulator:  "An authority has asked for it",
	audit.ReasonCourt:      "A court has ordered it",
	audit.ReasonLitigation: "A legal dispute",
}

// rightHours are for how long.
var rightHours = []int{1, 4, 12}

// A right is a grant of a role on a page.
type right struct {
	grant.Grant
	Who, What, Why, State string
	Live, Open            bool // in force; in force or waiting
}

// rights is the body of the page.
type rights struct {
	Ask     []string // roles that the reader may ask for
	Names   map[string]string
	Reasons []coded
	Chosen  audit.Reason
	Hours   []int
	Waiting []right // for the reader to agree
	Live    []right // of others, which the reader may end
	Mine    []right
}

// shown is how many of one's own a page shows, and how old they are at most.
const (
	shown    = 10
	shownFor = 7 * 24 * time.Hour
)

func (a *app) rightsPage(w http.ResponseWriter, r *http.Request) {
	if a.staff(w, r) {
		a.showRights(w, r, http.StatusOK, "", "")
	}
}

func (a *app) showRights(w http.ResponseWriter, r *http.Request, status int, chosen audit.Reason, message string) {
	ctx, now := r.Context(), time.Now()
	who, _ := access.PrincipalFrom(ctx)
	body := rights{Ask: a.desk.Requestable(ctx, who), Names: rightNames, Chosen: chosen, Hours: rightHours}
	for _, c := range grant.JIT.Reasons() {
		body.Reasons = append(body.Reasons, coded{c, rightReasons[c]})
	}
	waiting, err := a.desk.Pending(ctx)
	var mine, live []grant.Grant
	if err == nil {
		mine, err = a.grants.List(ctx, grant.Query{Tenant: tenant, Holder: who.ID, Kind: grant.JIT, Since: now.Add(-shownFor), Limit: shown})
	}
	if err == nil && a.may(ctx, access.Review, "grant") {
		live, err = a.grants.List(ctx, grant.Query{Tenant: tenant, Kind: grant.JIT, States: []grant.State{grant.Active}})
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	for _, g := range waiting {
		body.Waiting = append(body.Waiting, a.right(ctx, g, now))
	}
	for _, g := range mine {
		body.Mine = append(body.Mine, a.right(ctx, g, now))
	}
	for _, g := range live {
		if g.Holder != who.ID && g.At(now) == grant.Active {
			body.Live = append(body.Live, a.right(ctx, g, now))
		}
	}
	a.render(w, r, status, "rights", page{Title: "Rights for a time", Message: message, Body: body})
}

func (a *app) right(ctx context.Context, g grant.Grant, now time.Time) right {
	at := g.At(now)
	out := right{Grant: g, Who: a.login(ctx, g.Holder), What: rightNames[g.Role], Why: rightReasons[g.Reason], Live: at == grant.Active}
	out.Open = out.Live || at == grant.Requested
	switch at {
	case grant.Active:
		out.State = "in force"
	case grant.Requested:
		out.State = "waits for somebody to agree"
	case grant.Refused:
		out.State = "refused"
	default:
		out.State = "over"
	}
	return out
}

// askRight asks for a role.
func (a *app) askRight(w http.ResponseWriter, r *http.Request) {
	if !a.staff(w, r) {
		return
	}
	reason := audit.Reason(r.PostFormValue("reason"))
	hours, err := strconv.Atoi(r.PostFormValue("hours"))
	if err != nil || !slices.Contains(rightHours, hours) {
		a.showRights(w, r, http.StatusUnprocessableEntity, reason, "Choose for how long.")
		return
	}
	_, err = a.desk.Request(r.Context(), grant.Request{Role: r.PostFormValue("role"), Reason: reason, TTL: time.Duration(hours) * time.Hour})
	switch {
	case err == nil:
		see(w, r, "/rights")
	case errors.Is(err, grant.ErrRequest):
		a.showRights(w, r, http.StatusUnprocessableEntity, "", "Choose a right and a reason.")
	case errors.Is(err, grant.ErrEligible):
		a.guard.Refuse(w, r, err)
	default:
		a.fail(w, r, err)
	}
}

// onRight does one thing about a grant that the route names.
func (a *app) onRight(do func(context.Context, string) (grant.Grant, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.staff(w, r) {
			return
		}
		_, err := do(r.Context(), r.PathValue("id"))
		switch {
		case err == nil:
			see(w, r, "/rights")
		case errors.Is(err, grant.ErrOwn):
			a.showRights(w, r, http.StatusForbidden, "", "It is your own: somebody else has to agree.")
		case errors.Is(err, grant.ErrState):
			a.showRights(w, r, http.StatusConflict, "", "That is not possible any more: somebody else was faster, or its time is over.")
		case errors.Is(err, grant.ErrEligible), errors.Is(err, grant.ErrNotFound):
			a.guard.Refuse(w, r, err)
		default:
			a.fail(w, r, err)
		}
	}
}
