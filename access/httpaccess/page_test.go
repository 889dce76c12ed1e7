// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// ownOnly allows what is about the patient p-1.
type ownOnly struct{ access.Authorizer }

func (o ownOnly) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	d, err := o.Authorizer.Check(ctx, req)
	for i, r := range req.Resources {
		switch r.Patient {
		case "", "p-1":
		case "p-down":
			return access.Decision{}, errors.New("the relations are down")
		default:
			d.Verdicts[i] = access.Verdict{Code: access.DenySubject}
		}
	}
	return d, err
}

func (ownOnly) Offer(context.Context, access.Action, string) access.Offer {
	return access.OfferBreakGlass
}

// An app writes its own page, which links to that of the offer for the record that
// was asked for.
func TestPage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ offers, target, want string }{
		{"/patients/{id}/emergency", "/patients/p-2", "/patients/p-2/emergency"},
		{"/patients/{id}/emergency?of={id}", "/patients/p%20%26q", "/patients/p%20&q/emergency?of=p%20&q"},
		{"/patients/{id}/{visit}", "/patients/p-2", ""}, // the route has no such wildcard
		{"/emergency", "/patients/p-2", "/emergency"},
		{"", "/patients/p-2", ""},
	} {
		var told []httpaccess.Refusal
		cfg := httpaccess.Config{Authorizer: ownOnly{rbac.Starter()}, Audit: audittest.New(t), Page: func(w http.ResponseWriter, _ *http.Request, r httpaccess.Refusal) {
			told = append(told, r)
			w.WriteHeader(r.Status)
			fmt.Fprint(w, "our page")
		}}
		if tt.offers != "" {
			cfg.Offers = map[access.Offer]string{access.OfferBreakGlass: tt.offers}
		}
		guard, err := httpaccess.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		mux := guard.Mux()
		mux.HandleFunc("GET /patients/{id}", func(w http.ResponseWriter, req *http.Request) { guard.Refuse(w, req, nil) }, access.Read, "patient", access.Treatment)
		for _, as := range []string{"text/html", "application/json"} {
			req := httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", tt.target, nil)
			req.Header.Set("Accept", as)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, req)
			if html := as == "text/html"; w.Code != http.StatusForbidden || (w.Body.String() == "our page") != html || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s as %s: %d %s", tt.target, as, w.Code, w.Body)
			}
		}
		if len(told) != 1 || told[0].Path != tt.want || told[0].Offer != access.OfferBreakGlass || access.CheckDecisionID(told[0].Decision) != nil {
			t.Errorf("%s at %s: the page is told %+v", tt.offers, tt.target, told)
		}
	}
	for _, bad := range []string{"/{id}", "/patients/{id", "/patients/id}"} {
		cfg := httpaccess.Config{Authorizer: accesstest.Allow(), Audit: audittest.New(t), Offers: map[access.Offer]string{access.OfferBreakGlass: bad}}
		if _, err := httpaccess.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.Offers[breakglass]") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A refusal names who was asked for, and why, to the trail, and tells the caller
// neither.
func TestRefusalNamesWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	var bodies []string
	for _, tt := range []struct {
		id   string
		code access.Code
	}{
		{"p-2", access.DenySubject},
		{"p-1", ""}, // it may be read, and is not there
		{"p-down", access.DenyInvalid},
		{"Jane Roe", access.DenySubject},
	} {
		trail := audittest.New(t)
		guard, err := httpaccess.New(httpaccess.Config{Authorizer: ownOnly{rbac.Starter()}, Audit: trail})
		if err != nil {
			t.Fatal(err)
		}
		mux := guard.Mux()
		mux.HandleFunc("GET /patients", func(w http.ResponseWriter, req *http.Request) {
			guard.Refuse(w, req, errors.New("not found"), access.Resource{Type: "patient", ID: tt.id, Patient: tt.id, Tenant: accesstest.Tenant})
		}, access.Read, "patient", access.Treatment)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", "/patients", nil))
		bodies = append(bodies, answerOf(w))
		ev := trail.Events()
		if len(ev) != 1 || ev[0].Type != audit.Denied || ev[0].Code != tt.code || len(ev[0].Objects) != 1 || ev[0].Objects[0].Type != "patient" {
			t.Errorf("%s: recorded %+v", tt.id, ev)
			continue
		}
		want := tt.id
		if access.CheckID(want) != nil {
			want = "" // what somebody typed
		}
		if o := ev[0].Objects[0]; o.Patient != want || o.Record != want {
			t.Errorf("%s: the event names %+v", tt.id, o)
		}
		if !strings.Contains(w.Body.String(), ev[0].Decision) {
			t.Errorf("%s: the caller is told another decision than the trail", tt.id)
		}
	}
	for _, b := range bodies[1:] {
		if b != bodies[0] {
			t.Errorf("the answers differ:\n%s\n%s", b, bodies[0])
		}
	}
}
