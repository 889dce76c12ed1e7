// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"errors"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/egress"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// TestARestrictionStopsAnEgress: what a patient has paid for in full does not go
// to the health plan (45 CFR 164.522(a)(1)(vi)), whoever sends it; nothing
// leaves, not to the plan's subcontractor either.
func TestARestrictionStopsAnEgress(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	directives, err := directive.New(directive.Config{Store: directive.NewMemory(trail), Access: accesstest.Allow(), Audit: trail})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := rbac.New(rbac.Config{Rules: []rbac.Rule{{Role: "billing", Resources: []string{"patient"}, Actions: []access.Action{access.Disclose}, Purposes: []access.Purpose{access.Payment}}}})
	if err != nil {
		t.Fatal(err)
	}
	point, err := pdp.New(pdp.Config{Policy: engine, Directives: directives})
	if err != nil {
		t.Fatal(err)
	}
	w := setup(t, func(w *world) {
		r := w.lab()
		r.Subcontractors = []egress.Subcontractor{{ID: "sub-1", Name: "Sub", Hosts: []string{"cdn.example:" + w.port}, From: r.From, Until: r.Until}}
		w.cfg.Recipients, w.cfg.Authorizer = []egress.Recipient{r}, point
	})
	billing := accesstest.As(t, t.Context(), "billing", access.Payment)
	send := func(target string) error {
		_, _, err := w.post(egress.Disclose(billing, said()), target)
		return err
	}
	if err := send(w.url()); err != nil {
		t.Fatal(err)
	}
	officer := accesstest.As(t, t.Context(), "privacy-officer", access.Operations)
	d, err := directives.Record(officer, directive.Directive{Kind: directive.Restriction, Basis: directive.Required, Patient: patient, Recipient: "lab-acme", Purposes: []access.Purpose{access.Payment}})
	if err != nil {
		t.Fatal(err)
	}
	before := w.got.Load()
	for _, target := range []string{w.url(), "https://cdn.example:" + w.port + "/orders"} {
		var no *egress.RefusedError
		if err := send(target); !errors.As(err, &no) || no.Code != access.DenyRestriction {
			t.Errorf("%s: %v, want %s", target, err, access.DenyRestriction)
		}
	}
	if n := w.got.Load() - before; n != 0 {
		t.Errorf("%d requests arrived", n)
	}
	if err := directives.End(officer, d.ID, directive.Revoked); err != nil {
		t.Fatal(err)
	}
	if err := send(w.url()); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

// TestLoadsAreOnRecord: who put which recipients in force, and what that changed.
func TestLoadsAreOnRecord(t *testing.T) {
	t.Parallel()
	w := setup(t)
	audittest.Want(t, w.trail, audit.Event{Type: audit.RecipientsLoaded, Outcome: audit.Success, Reason: audit.ReasonCreated, Count: 1,
		Objects: []audit.Object{{Type: "recipient", Tenant: accesstest.Tenant, Record: "lab-acme", Fields: []string{"entry"}}}})
	officer := accesstest.As(t, t.Context(), "privacy-officer", access.Operations)
	w.trail.Reset()
	if err := w.Load(officer, []egress.Recipient{w.lab()}); err != nil {
		t.Fatal(err)
	}
	if ev := w.trail.Events(); len(ev) != 1 || len(ev[0].Objects) != 0 || ev[0].Count != 1 || ev[0].Actor.ID == "" {
		t.Errorf("the same again: %+v", ev)
	}
	changed, other := w.lab(), w.lab()
	changed.Owner, other.ID = "somebody else", "lab-other"
	if err := w.Load(officer, []egress.Recipient{changed, other}); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(officer, []egress.Recipient{changed}); err != nil {
		t.Fatal(err)
	}
	audittest.Want(t, w.trail,
		audit.Event{Type: audit.RecipientsLoaded, Reason: audit.ReasonAmended, Count: 2, Objects: []audit.Object{{Type: "recipient", Record: "lab-acme", Fields: []string{"entry"}}, {Type: "recipient", Record: "lab-other", Fields: []string{"entry"}}}},
		audit.Event{Type: audit.RecipientsLoaded, Reason: audit.ReasonAmended, Count: 1, Objects: []audit.Object{{Type: "recipient", Record: "lab-other", Fields: []string{"removed"}}}})

	w.trail.Fail(errors.New("down"))
	if err := w.Load(officer, nil); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Load = %v", err)
	}
	cfg := w.cfg
	if _, err := egress.New(cfg); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("New = %v: recipients are in force that nobody recorded", err)
	}
	w.trail.Fail(nil)
	if _, _, err := w.post(egress.Disclose(as(t), said()), w.url()); err != nil {
		t.Errorf("the recipients that were in force are not any more: %v", err)
	}
}
