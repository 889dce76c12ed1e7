// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
)

// usersPage is where somebody who leaves is cut off (termination procedures, 45
// CFR 164.308(a)(3)(ii)(C)).
func (a *app) usersPage(w http.ResponseWriter, r *http.Request) {
	a.render(w, r, http.StatusOK, "users", page{Title: "Users"})
}

// terminate ends all that a user may do, in one transaction: sign-in, sessions on
// every node, and emergency access.
func (a *app) terminate(w http.ResponseWriter, r *http.Request) {
	again := func(status int, message string) {
		a.render(w, r, status, "users", page{Title: "Users", Message: message})
	}
	u, err := a.sessions.UserByLogin(r.Context(), tenant, strings.TrimSpace(r.PostFormValue("login")))
	who, _ := access.PrincipalFrom(r.Context())
	switch {
	case errors.Is(err, session.ErrNotFound):
		again(http.StatusUnprocessableEntity, "Nobody has this user name.")
		return
	case err == nil && u.ID == who.ID:
		again(http.StatusUnprocessableEntity, "Somebody else ends your own access.")
		return
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	t, err := a.policy.Terminate(r.Context(), tenant, u.ID)
	switch {
	case errors.Is(err, audit.ErrUnavailable) && !t.At.IsZero():
		again(http.StatusOK, "It is done, and could not be recorded: tell whoever runs the audit trail.")
	case err != nil:
		a.fail(w, r, err)
	default:
		done := fmt.Sprintf("%s can do nothing any more. Sessions and emergency accesses that were ended: %d.", u.Login, t.Ended)
		a.render(w, r, http.StatusOK, "users", page{Title: "Users", Done: done})
	}
}
