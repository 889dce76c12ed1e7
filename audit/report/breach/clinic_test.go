// SPDX-License-Identifier: Apache-2.0

package breach_test

import (
	"context"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/report"
)

const tenant = accesstest.Tenant

// A clinic is a trail and its reports.
type clinic struct {
	t       *testing.T
	journal *audit.Journal
	access  *accesstest.Fake
	reports *report.Reporter
	now     time.Time
}

func journalOf(t *testing.T, now func() time.Time) *audit.Journal {
	t.Helper()
	j, err := audit.Open(audittest.Dir(t), audit.Config{Development: true, SegmentSize: 256 << 10, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// open makes a clinic with one journal, whose clock is the test's.
func open(t *testing.T) *clinic {
	t.Helper()
	c := &clinic{t: t, now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
	c.journal = journalOf(t, func() time.Time { return c.now })
	c.access = &accesstest.Fake{Rules: []accesstest.Rule{
		{Role: "patient", Action: access.Read, Type: "audit", Purpose: access.PatientRequest},
		{Role: "officer", Action: access.Read, Type: "audit", Purpose: access.Compliance},
		{Role: "officer", Action: access.Review, Type: "audit", Purpose: access.Compliance},
	}}
	c.reports = c.reporter(report.Config{})
	return c
}

func (c *clinic) reporter(cfg report.Config) *report.Reporter {
	c.t.Helper()
	if cfg.Sources == nil {
		cfg.Sources = []report.Source{c.journal}
	}
	if cfg.Audit == nil {
		cfg.Audit = c.journal
	}
	cfg.Access, cfg.Now = c.access, func() time.Time { return c.now }
	r, err := report.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func human(ctx context.Context, id string, purpose access.Purpose, roles ...string) context.Context {
	return access.With(ctx, access.Principal{ID: id, Tenant: tenant, Kind: access.Human, Roles: roles}, purpose)
}

func (c *clinic) nurse() context.Context {
	return human(c.t.Context(), "u-nurse", access.Treatment, "nurse")
}

func (c *clinic) officer() context.Context {
	return human(c.t.Context(), "u-officer", access.Compliance, "officer")
}

func (c *clinic) patient(id string) context.Context {
	return access.With(c.t.Context(), access.Principal{ID: id, Tenant: tenant, Kind: access.Patient, Roles: []string{"patient"}}, access.PatientRequest)
}

func about(fields []string, patients ...string) []audit.Object {
	var out []audit.Object
	for _, p := range patients {
		out = append(out, audit.Object{Type: "patient", Record: p, Patient: p, Fields: fields})
	}
	return out
}

func (c *clinic) record(ctx context.Context, ev audit.Event) string {
	c.t.Helper()
	if ev.Outcome == "" {
		ev.Outcome = audit.Success
	}
	r, err := c.journal.Record(ctx, ev)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.ID
}

func (c *clinic) reveal(ctx context.Context, patients ...string) string {
	c.t.Helper()
	return c.record(ctx, audit.Event{Type: audit.Revealed, Objects: about([]string{"name"}, patients...)})
}

func (c *clinic) write(ctx context.Context, patient string) audit.Ticket {
	c.t.Helper()
	ticket, err := c.journal.Attempt(ctx, audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update,
		Objects: []audit.Object{{Type: "patient", Record: patient, Patient: patient, Version: 2, Fields: []string{"phone"}}}})
	if err != nil {
		c.t.Fatal(err)
	}
	return ticket
}
