// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/report"
)

func journal(t *testing.T) *audit.Journal {
	t.Helper()
	j, err := audit.Open(audittest.Dir(t), audit.Config{Development: true, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func TestNewNamesTheField(t *testing.T) {
	t.Parallel()
	j := journal(t)
	good := report.Config{Sources: []report.Source{j}, Audit: j, Access: accesstest.Allow()}
	for field, change := range map[string]func(*report.Config){
		"Config.Sources is empty": func(cfg *report.Config) { cfg.Sources = nil },
		"Config.Sources[1]":       func(cfg *report.Config) { cfg.Sources = []report.Source{j, nil} },
		"Config.Audit":            func(cfg *report.Config) { cfg.Audit = nil },
		"Config.Access":           func(cfg *report.Config) { cfg.Access = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := report.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A report of the application's own: the reading is authorised and recorded, and
// it sees one patient, or the tenant, and never another tenant.
func TestAReportOfOnesOwn(t *testing.T) {
	t.Parallel()
	j := journal(t)
	r, err := report.New(report.Config{Sources: []report.Source{j}, Audit: j,
		Access: &accesstest.Fake{Rules: []accesstest.Rule{{Role: "officer", Action: access.Read, Type: "audit", Purpose: access.Compliance}}}})
	if err != nil {
		t.Fatal(err)
	}
	as := func(tenant, role string) context.Context {
		return access.With(t.Context(), access.Principal{ID: "u-" + role, Tenant: tenant, Kind: access.Human, Roles: []string{role}}, access.Compliance)
	}
	for _, tenant := range []string{accesstest.Tenant, "t-other"} {
		if _, err := j.Record(as(tenant, "clerk"), audit.Event{Type: audit.Revealed, Outcome: audit.Success,
			Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1"}, {Type: "patient", Record: "r-2", Patient: "r-2"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if trail, err := r.Open(as(accesstest.Tenant, "clerk"), report.Reading{Citation: "164.312(b)"}); !errors.Is(err, access.ErrDenied) || trail != nil {
		t.Errorf("a clerk opens the trail: %v, %v", trail, err)
	}
	if trail, err := r.Open(t.Context(), report.Reading{}); !errors.Is(err, access.ErrNoPrincipal) || trail != nil {
		t.Errorf("nobody opens the trail: %v, %v", trail, err)
	}
	officer := as(accesstest.Tenant, "officer")
	about, err := r.Open(officer, report.Reading{Citation: "164.312(b)", Patient: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := r.Open(officer, report.Reading{Citation: "164.312(b)"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		trail   *report.Trail
		about   bool
		q       audit.Query
		events  int
		objects int
	}{
		"one patient":                    {about, true, audit.Query{Types: []audit.Type{audit.Revealed}}, 1, 1},
		"the tenant":                     {whole, false, audit.Query{Types: []audit.Type{audit.Revealed}}, 1, 2},
		"another tenant":                 {whole, false, audit.Query{Tenant: "t-other", Types: []audit.Type{audit.Revealed}}, 1, 2},
		"one patient of a whole reading": {whole, true, audit.Query{Types: []audit.Type{audit.Revealed}}, 0, 0},
		"both readings":                  {whole, false, audit.Query{Types: []audit.Type{audit.Reported}}, 2, 2},
	} {
		events := tt.trail.Events
		if tt.about {
			events = tt.trail.About
		}
		n, objects := 0, 0
		for ev, err := range events(officer, tt.q) {
			if err != nil {
				t.Fatal(err)
			}
			n, objects = n+1, objects+len(ev.Objects)
			if ev.Actor.Tenant != accesstest.Tenant {
				t.Errorf("%s: an event of %s", name, ev.Actor.Tenant)
			}
		}
		if n != tt.events || objects != tt.objects {
			t.Errorf("%s: %d events with %d objects, want %d and %d", name, n, objects, tt.events, tt.objects)
		}
	}
}
