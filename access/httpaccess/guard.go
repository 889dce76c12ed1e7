// SPDX-License-Identifier: Apache-2.0

package httpaccess

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// Config configures a [Guard]. Authorizer and Audit are required.
type Config struct {
	Authorizer access.Authorizer // decides
	Audit      audit.Recorder    // records refusals before they are answered

	// SignIn is where browsers without a sign-in are sent: a path of this
	// site, or an https URL. Empty answers 401 to them as to others.
	SignIn string

	// PurposeField names the form value, query value and cookie that choose
	// among the purposes of a route. Empty means "purpose".
	PurposeField string

	// Offers says where a page is on which the caller may do what a refusal
	// offers: a path of this site for each offer. {name} in it stands for the
	// value of that wildcard of the route ([http.Request.PathValue]), as in
	// /patients/{id}/emergency; a route without it has no link. Refusals in HTML
	// link there; those in JSON name the offer whether it has a page or not.
	Offers map[access.Offer]string

	// Page writes a refusal in HTML: status, header and body. What it writes may
	// depend on the refusal and on the caller, and on nothing else of the
	// request. Nil writes a plain page.
	Page func(w http.ResponseWriter, req *http.Request, r Refusal)

	// RequestID returns the ID that a proxy of yours gave the request, for the
	// context of everything that the request does ([access.WithRequestID]). Nil,
	// and an ID that access.CheckID refuses, mean a random one: what a client
	// itself sends is free text, and is not to be trusted with being unique.
	RequestID func(*http.Request) string

	// Log gets the reason of each refusal, with the route's pattern, for
	// developers. It never gets the path. Nil is silent.
	Log *zap.Logger
}

// A Guard stands before handlers. It is safe for concurrent use.
type Guard struct{ cfg Config }

// New returns a Guard, or an error naming the first bad field of cfg.
func New(cfg Config) (*Guard, error) {
	switch {
	case cfg.Authorizer == nil:
		return nil, errors.New("httpaccess: Config.Authorizer is nil: take rbac.Starter() to begin with")
	case cfg.Audit == nil:
		return nil, errors.New("httpaccess: Config.Audit is nil: give the journal of audit.Open")
	}
	if cfg.SignIn != "" {
		if u, err := url.Parse(cfg.SignIn); err != nil || !isLocal(u, cfg.SignIn) && (u.Scheme != "https" || u.Host == "") {
			return nil, errors.New("httpaccess: Config.SignIn is neither a path beginning with one / nor an https URL")
		}
	}
	cfg.Offers = maps.Clone(cfg.Offers)
	for offer, page := range cfg.Offers {
		if u, err := url.Parse(page); err != nil || !isLocal(u, page) {
			return nil, fmt.Errorf("httpaccess: Config.Offers[%s] is not a path beginning with one /", offer)
		}
		if strings.HasPrefix(page, "/{") || strings.Count(page, "{") != strings.Count(page, "}") {
			return nil, fmt.Errorf("httpaccess: Config.Offers[%s] begins with a wildcard, or has one that does not end", offer)
		}
	}
	if cfg.PurposeField == "" {
		cfg.PurposeField = "purpose"
	}
	if err := access.CheckName(cfg.PurposeField); err != nil {
		return nil, fmt.Errorf("httpaccess: Config.PurposeField %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Guard{cfg}, nil
}

// isLocal reports whether a browser takes target for a path of this site.
func isLocal(u *url.URL, target string) bool {
	return u.Scheme == "" && u.Host == "" && strings.HasPrefix(target, "/") &&
		!strings.HasPrefix(target, "//") && !strings.Contains(target, `\`)
}

// A rule is what a route needs.
type rule struct {
	action   access.Action
	resource string
	purposes []access.Purpose
}

// valid reports whether the rule can allow anything.
func (r rule) valid() bool {
	for _, p := range r.purposes {
		if !p.Valid() {
			return false
		}
	}
	return len(r.purposes) > 0 && access.CheckName(string(r.action)) == nil && access.CheckName(r.resource) == nil
}

// Require returns the middleware for one route: the caller must be allowed
// action on resourceType for one of purposes. Inside, the context's scope has
// that purpose; it ends when the handler returns, so that nothing revealed
// outlives the response. A rule without purposes, or with an unknown one,
// denies everything.
func (g *Guard) Require(action access.Action, resourceType string, purposes ...access.Purpose) func(http.Handler) http.Handler {
	r := rule{action, resourceType, slices.Clone(purposes)}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { g.serve(w, req, r, next) })
	}
}

func (g *Guard) serve(w http.ResponseWriter, req *http.Request, r rule, next http.Handler) {
	w.Header().Set("Cache-Control", "no-store")
	if _, ok := access.PrincipalFrom(req.Context()); !ok {
		g.signIn(w, req)
		return
	}
	req = g.identify(req)
	if err := checkPath(req.URL); err != nil {
		g.refuse(w, req, req.Context(), refusal{code: access.DenyInvalid, err: err})
		return
	}
	ctx, no := g.enter(req, r)
	if no != nil {
		defer leave(ctx)
		g.refuse(w, req, ctx, *no)
		return
	}
	defer leave(ctx)
	next.ServeHTTP(w, req.WithContext(context.WithValue(ctx, ruleKey{}, r)))
}

// ruleKey finds the rule of the route in a context.
type ruleKey struct{}

// A refusal is a request that was denied.
type refusal struct {
	rule
	code     access.Code
	decision string
	about    []access.Resource // the records that were asked for, where that is known
	err      error             // why the authorizer could not decide
}

// enter returns the context of the first purpose that is asked for and
// allowed, in a scope of its own, or why there is none and the context to
// record that with. The caller ends the scope.
func (g *Guard) enter(req *http.Request, r rule) (context.Context, *refusal) {
	if !r.valid() {
		g.cfg.Log.Error("httpaccess: the route's rule has no purpose, or an unknown one: mend the call of Require", zap.String("pattern", req.Pattern))
		return req.Context(), &refusal{rule: r, code: access.DenyInvalid}
	}
	chosen, err := g.chosen(req, r.purposes)
	if err != nil {
		return req.Context(), &refusal{rule: r, code: access.DenyPurpose, err: err}
	}
	var first *refusal
	firstCtx := req.Context()
	for _, p := range chosen {
		ctx := access.ForPurpose(req.Context(), p)
		no := g.ask(ctx, r)
		if no == nil {
			return ctx, nil
		}
		failed := no.err != nil && !errors.Is(no.err, access.ErrPurpose)
		if first == nil || failed {
			if first != nil {
				leave(firstCtx)
			}
			first, firstCtx = no, ctx
		} else {
			leave(ctx)
		}
		if failed {
			break // another purpose is no way round a failure
		}
	}
	return firstCtx, first
}

// chosen returns the purposes to try, in order.
func (g *Guard) chosen(req *http.Request, offered []access.Purpose) ([]access.Purpose, error) {
	if len(offered) == 1 {
		return offered, nil
	}
	// ParseForm reads a body of form values only, and leaves files alone.
	if err := req.ParseForm(); err != nil {
		return nil, errors.New("the form cannot be read")
	}
	// Who follows a link of another site has not chosen what it says, and the
	// trail would say that they had (Fetch Metadata, Sec-Fetch-Site).
	if values := req.Form[g.cfg.PurposeField]; len(values) > 0 && req.Header.Get("Sec-Fetch-Site") != "cross-site" {
		p := access.Purpose(values[0])
		for _, v := range values {
			if v != values[0] {
				return nil, errors.New("the form or query chooses two purposes")
			}
		}
		if !slices.Contains(offered, p) {
			return nil, errors.New("the form or query chooses a purpose that the route does not offer")
		}
		return []access.Purpose{p}, nil
	}
	// A cookie outlives the page that set it: where it does not fit this
	// route or caller, the route's own order stands.
	if c, err := req.Cookie(g.cfg.PurposeField); err == nil {
		if p := access.Purpose(c.Value); slices.Contains(offered, p) {
			return append([]access.Purpose{p}, offered...), nil
		}
	}
	return offered, nil
}

// check puts the resource type as a whole to the authorizer.
func (g *Guard) check(ctx context.Context, r rule) (access.Decision, error) {
	s, err := access.From(ctx)
	if err != nil {
		return access.Decision{}, err
	}
	return g.cfg.Authorizer.Check(ctx, access.Request{
		Action:    r.action,
		Resources: []access.Resource{{Type: r.resource, Tenant: s.Principal().Tenant}},
	})
}

// ask says why the authorizer denies the resource type as a whole; nil where it
// does not.
func (g *Guard) ask(ctx context.Context, r rule) *refusal {
	d, err := g.check(ctx, r)
	switch {
	case errors.Is(err, access.ErrPurpose):
		return &refusal{rule: r, code: access.DenyPurpose, err: err}
	case err != nil:
		return &refusal{rule: r, code: access.DenyInvalid, decision: d.ID, err: err}
	}
	if d.AllowAll(1) {
		return nil
	}
	no := &refusal{rule: r, code: access.DenyInvalid, decision: d.ID}
	if len(d.Verdicts) > 0 {
		no.code = d.Verdicts[0].Code
	}
	return no
}

// Purposes returns those of among that the principal of ctx is allowed action
// on resourceType for, in order; without among, of all purposes but those that
// are a kind of another and allowed by the same rule. A page shows a picker where
// there are several. Nothing is recorded: nothing was refused.
func (g *Guard) Purposes(ctx context.Context, action access.Action, resourceType string, among ...access.Purpose) []access.Purpose {
	all := len(among) == 0
	if all {
		among = access.Purposes()
	}
	var out []access.Purpose
	by := make(map[access.Purpose]string) // the rules
	for _, p := range among {
		scoped := access.ForPurpose(ctx, p)
		if scoped == ctx {
			return nil // nobody is signed in
		}
		d, err := g.check(scoped, rule{action: action, resource: resourceType})
		leave(scoped)
		if err != nil || !d.AllowAll(1) {
			continue
		}
		by[p] = d.Verdicts[0].Rule
		if rule := by[p.Parent()]; !all || rule == "" || rule != by[p] {
			out = append(out, p)
		}
	}
	return out
}

// leave ends the scope of a context that enter made.
func leave(ctx context.Context) {
	if s, err := access.From(ctx); err == nil {
		s.End()
	}
}
