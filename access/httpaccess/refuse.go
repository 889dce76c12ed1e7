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
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A Refusal is what a caller is told: nothing of why, nor whether the record
// exists.
type Refusal struct {
	Status   int          // 401, 403 or 503
	Decision string       // names the refusal in the audit trail; empty but of 403
	Offer    access.Offer // what the caller may try
	Path     string       // of the page on which they may (Config.Offers); empty where there is none
}

// Refuse answers as the guard itself does. Call it, before anything was
// written, where storage denied (err is then its [*access.DeniedError], which
// it has recorded) and where the record does not exist (any other err, nil
// included, which Refuse records): the caller cannot tell which it was. An err
// that wraps [audit.ErrUnavailable] or [audit.ErrClosed] is answered with 503,
// as where Refuse cannot record.
//
// Of what Refuse records, about is the records that were asked for, there or
// not: the event names them and their patients, with the authorizer's decision.
func (g *Guard) Refuse(w http.ResponseWriter, req *http.Request, err error, about ...access.Resource) {
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
	no := refusal{rule: r, err: err, about: about}
	g.judge(req.Context(), &no)
	g.refuse(w, req, req.Context(), no)
}

// judge puts the decision about the records of a refusal on it. What cannot be
// decided is refused all the same.
func (g *Guard) judge(ctx context.Context, no *refusal) {
	if len(no.about) == 0 || !no.rule.valid() {
		return
	}
	d, err := g.cfg.Authorizer.Check(ctx, access.Request{Action: no.action, Resources: no.about})
	if err != nil {
		no.code = access.DenyInvalid
		no.err = errors.Join(no.err, err)
		return
	}
	no.decision = d.ID
	for i, v := range d.Verdicts {
		if !d.Allow(i) {
			no.code = v.Code
			return
		}
	}
}

// objects are what an event of the refusal names.
func (no *refusal) objects() []audit.Object {
	var out []audit.Object
	for _, r := range no.about {
		o := audit.Object{Type: r.Type, Tenant: r.Tenant, Record: r.ID, Patient: r.Patient}
		for _, id := range []*string{&o.Tenant, &o.Record, &o.Patient} {
			if access.CheckID(*id) != nil {
				*id = "" // what the caller typed is not put on record as if it were one
			}
		}
		if access.CheckName(o.Type) == nil {
			out = append(out, o)
		}
	}
	if len(out) == 0 && access.CheckName(no.resource) == nil {
		out = []audit.Object{{Type: no.resource}}
	}
	return out
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
	ev.Objects = no.objects()
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
	g.answer(w, req, Refusal{http.StatusForbidden, decision, offer, page(g.cfg.Offers[offer], req)})
}

// page is the path of an offer's page for the route that was asked for; empty
// where the route has not got the wildcards of it.
func page(path string, req *http.Request) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(path, "{")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		value := req.PathValue(name)
		if value == "" {
			return ""
		}
		out.WriteString(url.PathEscape(value))
		path = after
	}
}

// unavailable answers what could not be recorded.
func (g *Guard) unavailable(w http.ResponseWriter, req *http.Request, err error) {
	g.cfg.Log.Error("httpaccess: a refusal was not recorded", zap.String("pattern", req.Pattern), zap.Error(err))
	g.answer(w, req, Refusal{Status: http.StatusServiceUnavailable})
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
	g.answer(w, req, Refusal{Status: http.StatusUnauthorized})
}

// answer writes a body that depends on Accept and the refusal only.
func (g *Guard) answer(w http.ResponseWriter, req *http.Request, r Refusal) {
	code, text := "denied", "You may not do this."
	switch r.Status {
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
		if g.cfg.Page != nil {
			g.cfg.Page(w, req, r)
			return
		}
		w.WriteHeader(r.Status)
		if r.Decision != "" {
			text += offered(r.Offer, r.Path) + "</p>\n<p>If you need to, ask your privacy officer about decision <code>" + r.Decision + "</code>."
		}
		fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\">\n<title>%s</title>\n<h1>%[1]s</h1>\n<p>%s</p>\n</html>\n", http.StatusText(r.Status), text)
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(r.Status)
	if r.Decision == "" {
		fmt.Fprintf(w, "{\"error\":%q}\n", code)
		return
	}
	if r.Offer == access.OfferNone {
		fmt.Fprintf(w, "{\"error\":%q,\"decision\":%q}\n", code, r.Decision)
		return
	}
	fmt.Fprintf(w, "{\"error\":%q,\"decision\":%q,\"offer\":%q}\n", code, r.Decision, r.Offer)
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
