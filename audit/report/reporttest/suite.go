// SPDX-License-Identifier: Apache-2.0

// Package reporttest is for whoever writes a report.Source: the contract that
// every one keeps ([TestSource]).
package reporttest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
)

const (
	tenant = "t-source"
	other  = "t-other"
)

func as(t *testing.T, tenant, id string) context.Context {
	return access.With(t.Context(), access.Principal{ID: id, Tenant: tenant, Kind: access.Human}, access.Treatment)
}

func about(patients ...string) []audit.Object {
	var out []audit.Object
	for _, p := range patients {
		out = append(out, audit.Object{Type: "patient", Record: p, Patient: p})
	}
	return out
}

// TestSource holds a source to its contract. open returns a recorder and what
// makes the source of what was recorded; it is called once.
func TestSource(t *testing.T, open func(t *testing.T) (audit.Recorder, func(t *testing.T) report.Source)) {
	in, source := open(t)
	record := func(tenant, actor string, typ audit.Type, patients ...string) {
		t.Helper()
		if _, err := in.Record(as(t, tenant, actor), audit.Event{Type: typ, Outcome: audit.Success, Objects: about(patients...)}); err != nil {
			t.Fatal(err)
		}
	}
	record(tenant, "u-1", audit.Revealed, "r-1", "r-2")
	record(other, "u-1", audit.Revealed, "r-1")
	record(tenant, "u-2", audit.Fetched, "r-2")
	record(tenant, "u-1", audit.Revealed, "r-3")
	var many []string
	for i := range 1100 {
		many = append(many, fmt.Sprintf("r-m%d", i))
	}
	record(tenant, "u-3", audit.Revealed, many...)
	s := source(t)

	read := func(t *testing.T, q audit.Query) (out []audit.Stored) {
		t.Helper()
		for ev, err := range s.Events(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Type == audit.Revealed || ev.Type == audit.Fetched {
				out = append(out, ev)
			}
		}
		return out
	}
	t.Run("NewestFirst", func(t *testing.T) {
		got := read(t, audit.Query{Tenant: tenant})
		if len(got) < 5 {
			t.Fatalf("%d lines, want 5 at least", len(got))
		}
		for i := 1; i < len(got); i++ {
			if got[i].Seq >= got[i-1].Seq || got[i].Time.After(got[i-1].Time) {
				t.Errorf("line %d is not older than the one before", i)
			}
		}
	})
	t.Run("Patients", func(t *testing.T) {
		for id, want := range map[string]int{"r-1": 1, "r-2": 2, "r-m1099": 1, "r-none": 0} {
			p := s.Pseudonym(tenant, id)
			if p == "" {
				t.Fatalf("no pseudonym of %s", id)
			}
			got := read(t, audit.Query{Tenant: tenant, Pseudonyms: []string{p}})
			if len(got) != want {
				t.Errorf("%s has %d lines, want %d", id, len(got), want)
			}
			for _, ev := range got {
				if len(ev.Objects) != 1 || ev.Objects[0].Patient != p {
					t.Errorf("%s sees %d objects, or another's", id, len(ev.Objects))
				}
			}
		}
		both := read(t, audit.Query{Tenant: tenant, Pseudonyms: []string{s.Pseudonym(tenant, "r-1"), s.Pseudonym(tenant, "r-3")}})
		if len(both) != 2 {
			t.Errorf("two pseudonyms have %d lines, want 2", len(both))
		}
	})
	t.Run("Tenants", func(t *testing.T) {
		got := read(t, audit.Query{Tenant: other})
		if len(got) != 1 || got[0].Actor.Tenant != other {
			t.Errorf("%d lines of the other tenant, want 1", len(got))
		}
		if a, b := s.Pseudonym(tenant, "r-1"), s.Pseudonym(other, "r-1"); a == b {
			t.Error("two tenants' patients of one ID have one pseudonym")
		}
		err := error(nil)
		for _, e := range s.Events(t.Context(), audit.Query{}) {
			err = e
		}
		if err == nil {
			t.Error("a query without a tenant is answered")
		}
	})
	t.Run("Selects", func(t *testing.T) {
		if got := read(t, audit.Query{Tenant: tenant, Types: []audit.Type{audit.Fetched}}); len(got) != 1 {
			t.Errorf("%d lines of the type, want 1", len(got))
		}
		if got := read(t, audit.Query{Tenant: tenant, Actor: "u-2"}); len(got) != 1 || got[0].Actor.ID != "u-2" {
			t.Errorf("%d lines of the actor, want 1", len(got))
		}
		all := read(t, audit.Query{Tenant: tenant})
		oldest := all[len(all)-1].Time
		if got := read(t, audit.Query{Tenant: tenant, Until: oldest}); len(got) != 0 {
			t.Errorf("%d lines before the first", len(got))
		}
		if got := read(t, audit.Query{Tenant: tenant, Since: oldest}); len(got) != len(all) {
			t.Errorf("%d lines since the first, want %d", len(got), len(all))
		}
	})
	t.Run("Stops", func(t *testing.T) {
		n := 0
		for range s.Events(t.Context(), audit.Query{Tenant: tenant}) {
			if n++; n == 2 {
				break
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var last error
		for _, err := range s.Events(ctx, audit.Query{Tenant: tenant}) {
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("a reading that was given up ends with %v", last)
		}
	})
}
