// SPDX-License-Identifier: Apache-2.0

package httpaccess

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Refuse answers as the guard itself does. Call it, before anything was
// written, where storage denied (err is then its [*access.DeniedError], which
// it has recorded) and where the record does not exist (any other err, nil
// included, which Refuse records): the caller cannot tell which it was. An err
// that wraps [audit.ErrUnavailable] or [audit.ErrClosed] is answered with 503,
// as where Refuse cannot record.
func (g *Guard) Refuse(w http.ResponseWriter, req *http.Request, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if errors.Is(err, audit.ErrUnavailable) || errors.Is(err, audit.ErrClosed) {
		g.unavailable(w, req, err)
		return
	}
	r, _ := req.Context().Value(ruleKey{}).(rule)
	var denied *access.DeniedError
	if errors.As(err, &denied) && access.CheckDecisionID(denied.Decision) == nil {
		g.log(req, refusal{code: denied.Code, decision: denied.Decision})
		g.denied(w, req, req.Context(), r, denied.Decision)
		return
	}
	if err != nil {
		err = fmt.Errorf("the handler's %T", err) // whose text may quote what it was given
	}
	g.refuse(w, req, req.Context(), refusal{rule: r, err: err})
}

// refuse records and answers. ctx has the purpose that was refused, where
// there is one.
func (g *Guard) refuse(w http.ResponseWriter, req *http.Request, ctx context.Context, no refusal) {
	if access.CheckDecisionID(no.decision) != nil {
		no.decision = newID()
	}
	g.log(req, no)
	ev := audit.Event{
		Type:     audit.Denied,
		Outcome:  audit.Failure,
		Reason:   audit.ReasonPolicy,
		Decision: no.decision,
	}
	if no.code.Known() {
		ev.Code = no.code
	}
	if access.CheckName(string(no.action)) == nil {
		ev.Action = no.action
	}
	if access.CheckName(no.resource) == nil {
		ev.Objects = []audit.Object{{Type: no.resource}}
	}
	if _, err := g.cfg.Audit.Record(ctx, ev); err != nil {
		g.unavailable(w, req, err)
		return
	}
	g.denied(w, req, ctx, no.rule, no.decision)
}

// denied answers with what the caller may try. That depends on the route's rule
// and on the caller only, and is the same for a record that does not exist.
func (g *Guard) denied(w http.ResponseWriter, req *http.Request, ctx context.Context, r rule, decision string) {
	offer := access.OfferNone
	if o, ok := g.cfg.Authorizer.(access.Offerer); ok && r.valid() {
		offer = o.Offer(ctx, r.action, r.resource)
	}
	answer(w, req, http.StatusForbidden, decision, offer, g.cfg.Offers[offer])
}

// unavailable answers what could not be recorded.
func (g *Guard) unavailable(w http.ResponseWriter, req *http.Request, err error) {
	g.cfg.Log.Error("httpaccess: a refusal was not recorded", zap.String("pattern", req.Pattern), zap.Error(err))
	answer(w, req, http.StatusServiceUnavailable, "", access.OfferNone, "")
}

func (g *Guard) log(req *http.Request, no refusal) {
	g.cfg.Log.Info("httpaccess: refused",
		zap.String("pattern", req.Pattern), zap.String("code", string(no.code)),
		zap.String("decision", no.decision), zap.Error(no.err))
}

// signIn answers those whom nobody vouches for.
func (g *Guard) signIn(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if g.cfg.SignIn != "" && wantsHTML(req) {
		http.Redirect(w, req, g.cfg.SignIn, http.StatusSeeOther)
		return
	}
	w.Header().Set("WWW-Authenticate", "Session")
	answer(w, req, http.StatusUnauthorized, "", access.OfferNone, "")
}

// answer writes a body that depends on status, Accept, decision and offer only.
func answer(w http.ResponseWriter, req *http.Request, status int, decision string, offer access.Offer, page string) {
	code, text := "denied", "You may not do this."
	switch status {
	case http.StatusUnauthorized:
		code, text = "signin", "Sign in first."
	case http.StatusServiceUnavailable:
		code, text = "unavailable", "This cannot be done at the moment. Try again later."
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept")
	if wantsHTML(req) {
		h.Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		if decision != "" {
			text += offered(offer, page) + "</p>\n<p>If you need to, ask your privacy officer about decision <code>" + decision + "</code>."
		}
		fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\">\n<title>%s</title>\n<h1>%[1]s</h1>\n<p>%s</p>\n</html>\n", http.StatusText(status), text)
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if decision == "" {
		fmt.Fprintf(w, "{\"error\":%q}\n", code)
		return
	}
	if offer == access.OfferNone {
		fmt.Fprintf(w, "{\"error\":%q,\"decision\":%q}\n", code, decision)
		return
	}
	fmt.Fprintf(w, "{\"error\":%q,\"decision\":%q,\"offer\":%q}\n", code, decision, offer)
}

// offered is what a page says of an offer.
func offered(offer access.Offer, page string) string {
	var text string
	switch offer {
	case access.OfferBreakGlass:
		text = "In an emergency you may break the glass."
	case access.OfferPurpose:
		text = "You may ask again for another purpose."
	case access.OfferGrant:
		text = "You may request the right for a time."
	default:
		return ""
	}
	if page != "" {
		text = `<a href="` + html.EscapeString(page) + `">` + text + "</a>"
	}
	return "</p>\n<p data-offer=\"" + string(offer) + "\">" + text
}

func wantsHTML(req *http.Request) bool {
	return strings.Contains(req.Header.Get("Accept"), "text/html")
}

// newID names a request, or a refusal that no authorizer decided, in the same
// form.
func newID() string {
	for {
		var b [16]byte
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); access.CheckID(id) == nil {
			return id
		}
	}
}
