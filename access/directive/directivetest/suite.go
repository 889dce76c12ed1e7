// SPDX-License-Identifier: Apache-2.0

// Package directivetest holds the contract that every [directive.Store] keeps.
package directivetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/audit"
)

func start() time.Time { return time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC) }

// as is who changes things: the trail wants to know.
func as(t *testing.T) context.Context {
	t.Helper()
	return access.With(t.Context(), access.Principal{ID: "u-registrar", Tenant: "t-1", Kind: access.Human, Roles: []string{"registrar"}}, access.PatientAdmin)
}

func created(c directive.Directive) audit.Event {
	return audit.Event{Type: audit.DirectiveChanged, Outcome: audit.Success, Action: access.Create, Reason: audit.ReasonCreated,
		Objects: []audit.Object{{Type: directive.Resource, Tenant: c.Tenant, Record: c.ID, Patient: c.Patient}}}
}

func changed(c directive.Directive) audit.Event {
	ev := created(c)
	ev.Action, ev.Reason = access.Update, audit.ReasonRevoked
	return ev
}

// Restriction returns a valid directive to begin with: of everybody, for every
// purpose, of every type.
func Restriction(id, tenant, patient string) directive.Directive {
	return directive.Directive{ID: id, Tenant: tenant, Patient: patient, Kind: directive.Restriction, Basis: directive.Agreed, From: start()}
}

// TestStore holds the stores that open returns, each of them empty, and with what
// makes its trail fail, to the contract of [directive.Store].
func TestStore(t *testing.T, open func(t *testing.T) (directive.Store, func(error))) {
	t.Run("what was added is there", func(t *testing.T) { on(t, open, testAdd) })
	t.Run("what could not be recorded is not kept", func(t *testing.T) {
		st, fail := open(t)
		testRecord(t, st, fail)
	})
	t.Run("changes", func(t *testing.T) { on(t, open, testChange) })
	t.Run("changes of one directive queue", func(t *testing.T) { on(t, open, testQueue) })
	t.Run("at its bounds", func(t *testing.T) { on(t, open, testBounds) })
	t.Run("whom it is about", func(t *testing.T) { on(t, open, testAbout) })
	t.Run("a set is what About says", func(t *testing.T) { on(t, open, testWorlds) })
	t.Run("a cancelled context", func(t *testing.T) {
		st, _ := open(t)
		add(t, st, Restriction("d-1", "t-1", "p-1"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, s := range []access.Set{st.Patients(ask("t-1")), st.Records(ask("t-1"))} {
			if in, err := s.Has(ctx, "t-1", []string{"p-1"}); err == nil {
				t.Errorf("Has = %v", in)
			}
		}
		if got, err := st.List(ctx, "t-1", "p-1", ""); err == nil {
			t.Errorf("List = %v", got)
		}
	})
}

func on(t *testing.T, open func(t *testing.T) (directive.Store, func(error)), test func(*testing.T, directive.Store)) {
	t.Helper()
	st, _ := open(t)
	test(t, st)
}

func add(t *testing.T, st directive.Store, ds ...directive.Directive) {
	t.Helper()
	for _, d := range ds {
		if err := st.Add(as(t), d, created(d)); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, st directive.Store, tenant, patient, id string) []directive.Directive {
	t.Helper()
	got, err := st.List(t.Context(), tenant, patient, id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// same compares directives: lists in their order, times as moments.
func same(a, b directive.Directive) bool {
	b.Version = max(b.Version, 1) // of one that was made by hand
	times := a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Until.IsZero() == b.Until.IsZero()
	a.From, a.Until, b.From, b.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	for _, d := range []*directive.Directive{&a, &b} {
		d.Principals, d.Roles = append([]string{}, d.Principals...), append([]string{}, d.Roles...)
		d.Purposes, d.Types = append([]access.Purpose{}, d.Purposes...), append([]string{}, d.Types...)
	}
	return times && reflect.DeepEqual(a, b)
}

// ask is about every restriction that is about everybody and everything.
func ask(tenant string) directive.Ask {
	return directive.Ask{Tenant: tenant, Kinds: []directive.Kind{directive.Restriction}, Principal: "u-1", Type: "chart", At: start()}
}

func has(t *testing.T, s access.Set, tenant string, ids ...string) []bool {
	t.Helper()
	in, err := s.Has(t.Context(), tenant, ids)
	if err != nil || len(in) != len(ids) {
		t.Fatalf("Has of %d IDs: %d answers, %v", len(ids), len(in), err)
	}
	return in
}

func testAdd(t *testing.T, st directive.Store) {
	full := directive.Directive{ID: "d-2", Tenant: "t-1", Patient: "p-1", Kind: directive.Authorization,
		Principals: []string{"u-2", "u-1"}, Roles: []string{"nurse", "Nurse"}, Purposes: []access.Purpose{access.Research, access.Marketing}, Types: []string{"session_note", "chart"},
		Recipient: "university-7", From: start(), Until: start().Add(90*time.Minute + 7*time.Microsecond), Event: "study_ends", Document: "doc-1", Ended: directive.Revoked, Void: true}
	one := Restriction("d-1", "t-1", "p-1")
	one.Types, one.Record, one.Basis = []string{"chart"}, "r-1", directive.Required
	far := Restriction("d-far", "t-1", "p-1")
	far.From, far.Until = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	add(t, st, full, one, far, Restriction("d-3", "t-1", "p-2"), Restriction("d-1", "t-2", "p-1"))
	got := list(t, st, "t-1", "p-1", "")
	want := []directive.Directive{one, full, far}
	if len(got) != 3 || !same(got[0], want[0]) || !same(got[1], want[1]) || !same(got[2], want[2]) {
		t.Errorf("kept %+v, want %+v", got, want)
	}
	if got := list(t, st, "t-1", "", "d-2"); len(got) != 1 || !same(got[0], full) {
		t.Errorf("by ID: %+v", got)
	}
	for _, miss := range [][3]string{{"t-1", "P-1", ""}, {"t-1", "p-2", "d-2"}, {"T-1", "p-1", ""}, {"t-3", "p-1", ""}, {"", "p-1", ""}, {"t-1", "", ""}} {
		if got := list(t, st, miss[0], miss[1], miss[2]); len(got) != 0 {
			t.Errorf("List%q = %+v", miss, got)
		}
	}
	if err := st.Add(as(t), one, created(one)); err == nil {
		t.Error("a second directive of one ID was taken")
	}
	one.Types[0] = "changed" // after it was added
	if got := list(t, st, "t-1", "", "d-1"); len(got) != 1 || got[0].Types[0] != "chart" {
		t.Errorf("what was kept changed with the caller's list: %+v", got)
	}
}

func testRecord(t *testing.T, st directive.Store, fail func(error)) {
	no := errors.New("the trail is down")
	d := Restriction("d-1", "t-1", "p-1")
	d.Roles = []string{"nurse"}
	fail(no)
	if err := st.Add(as(t), d, created(d)); !errors.Is(err, no) {
		t.Errorf("Add = %v, want the error of the trail", err)
	}
	fail(nil)
	if got := list(t, st, "t-1", "p-1", ""); len(got) != 0 {
		t.Errorf("kept %+v", got)
	}
	add(t, st, d)
	end := func(d *directive.Directive) error {
		d.Until, d.Ended = d.From.Add(time.Hour), directive.Oral
		return nil
	}
	fail(no)
	err := st.Change(as(t), "t-1", "d-1", end, func(c directive.Directive) audit.Event {
		if c.Ended != directive.Oral || len(c.Roles) != 1 || c.Version != 2 {
			t.Errorf("event sees %+v", c)
		}
		return changed(c)
	})
	if !errors.Is(err, no) {
		t.Errorf("Change = %v, want the error of the trail", err)
	}
	fail(nil)
	if got := list(t, st, "t-1", "p-1", ""); len(got) != 1 || !same(got[0], d) {
		t.Errorf("kept %+v, want %+v", got, d)
	}
}

func testChange(t *testing.T, st directive.Store) {
	d := Restriction("d-1", "t-1", "p-1")
	d.Roles = []string{"nurse"}
	add(t, st, d, Restriction("d-2", "t-1", "p-2"))
	set := func(c *directive.Directive) error {
		c.Until, c.Ended, c.Void = d.From.Add(time.Hour), directive.Revoked, true
		c.Patient, c.Kind, c.Roles, c.From = "p-2", directive.Hold, nil, d.From.Add(-time.Hour) // which stay
		return nil
	}
	if err := st.Change(as(t), "t-1", "d-1", set, changed); err != nil {
		t.Fatal(err)
	}
	want := d
	want.Until, want.Ended, want.Void, want.Version = d.From.Add(time.Hour), directive.Revoked, true, 2
	if got := list(t, st, "t-1", "", "d-1"); len(got) != 1 || !same(got[0], want) {
		t.Errorf("kept %+v, want %+v", got, want)
	}
	if got := list(t, st, "t-1", "", "d-2"); len(got) != 1 || got[0].Void || got[0].Ended != "" {
		t.Errorf("another changed: %+v", got)
	}
	no := errors.New("not so")
	if err := st.Change(as(t), "t-1", "d-1", func(*directive.Directive) error { return no }, changed); !errors.Is(err, no) {
		t.Errorf("Change = %v, want the error of change", err)
	}
	for tenant, id := range map[string]string{"t-1": "d-9", "t-2": "d-1", "T-1": "d-1", "": "d-1"} {
		if err := st.Change(as(t), tenant, id, set, changed); !errors.Is(err, directive.ErrNotFound) {
			t.Errorf("Change of %s in %q = %v, want ErrNotFound", id, tenant, err)
		}
	}
}

// testQueue: each of many changes at once sees what the one before has made.
func testQueue(t *testing.T, st directive.Store) {
	d := Restriction("d-1", "t-1", "p-1")
	d.Until = d.From
	add(t, st, d)
	const n = 8
	ctx := as(t)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			err := st.Change(ctx, "t-1", "d-1", func(c *directive.Directive) error { c.Until = c.Until.Add(time.Minute); return nil }, changed)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := list(t, st, "t-1", "", "d-1"); len(got) != 1 || !got[0].Until.Equal(d.From.Add(n*time.Minute)) {
		t.Errorf("after %d changes of a minute: %+v", n, got)
	}
}

func testBounds(t *testing.T, st directive.Store) {
	until := start().Add(time.Hour)
	d, open, void, empty := Restriction("d-1", "t-1", "p-1"), Restriction("d-2", "t-1", "p-2"), Restriction("d-3", "t-1", "p-3"), Restriction("d-4", "t-1", "p-4")
	d.Until, void.Void, empty.Until = until, true, start()
	elsewhere := open
	elsewhere.Tenant = "t-2"
	add(t, st, d, open, void, empty, elsewhere)
	for _, at := range []time.Time{start(), until} {
		for _, by := range []time.Duration{-time.Microsecond, 0, time.Microsecond} {
			q := ask("t-1")
			q.At = at.Add(by)
			begun := !q.At.Before(start())
			want := []bool{begun && q.At.Before(until), begun, false, false, false}
			if got := has(t, st.Patients(q), "t-1", "p-1", "p-2", "p-3", "p-4", ""); !slices.Equal(got, want) {
				t.Errorf("at %v: %v, want %v", q.At, got, want)
			}
		}
	}
	if got := has(t, st.Patients(ask("t-1")), "t-2", "p-1", "p-2"); got[0] || got[1] {
		t.Error("the set of one tenant answers for another")
	}
	if got := has(t, st.Patients(ask("T-1")), "T-1", "p-1", "p-2"); got[0] || got[1] {
		t.Error("the set of another spelling answers")
	}
}

func testAbout(t *testing.T, st directive.Store) {
	d := func(id string, set func(*directive.Directive)) directive.Directive {
		d := Restriction("d-"+id, "t-1", "p-"+id)
		set(&d)
		return d
	}
	add(t, st,
		d("any", func(*directive.Directive) {}),
		d("who", func(d *directive.Directive) { d.Principals = []string{"u-1"} }),
		d("role", func(d *directive.Directive) { d.Roles = []string{"nurse"} }),
		d("either", func(d *directive.Directive) { d.Principals, d.Roles = []string{"u-9"}, []string{"nurse"} }),
		d("purpose", func(d *directive.Directive) { d.Purposes = []access.Purpose{access.Payment} }),
		d("type", func(d *directive.Directive) { d.Types = []string{"chart"} }),
		d("record", func(d *directive.Directive) { d.Types, d.Record = []string{"chart"}, "r-1" }),
		d("to", func(d *directive.Directive) { d.Recipient = "plan-1" }),
		d("hold", func(d *directive.Directive) { d.Kind, d.Basis = directive.Hold, "" }),
	)
	ids := []string{"any", "who", "role", "either", "purpose", "type", "record", "to", "hold"}
	for name, tt := range map[string]struct {
		change  func(*directive.Ask)
		want    string
		records bool
	}{
		"nothing in common": {func(*directive.Ask) {}, "any", false},
		"the principal":     {func(q *directive.Ask) { q.Principal = "u-1" }, "any who", false},
		"another spelling":  {func(q *directive.Ask) { q.Principal, q.Type, q.Roles = "U-1", "Chart", []string{"Nurse"} }, "any", false},
		"a role":            {func(q *directive.Ask) { q.Roles = []string{"clerk", "nurse"} }, "any role either", false},
		"the principal too": {func(q *directive.Ask) { q.Principal = "u-9" }, "any either", false},
		"a purpose":         {func(q *directive.Ask) { q.Purposes = []access.Purpose{access.Treatment, access.Payment} }, "any purpose", false},
		"a type":            {func(q *directive.Ask) { q.Type = "chart" }, "any type", true},
		"a recipient":       {func(q *directive.Ask) { q.Recipient = "plan-1" }, "to", false},
		"kinds":             {func(q *directive.Ask) { q.Kinds = []directive.Kind{directive.Hold, directive.Consent} }, "hold", false},
		"no kind":           {func(q *directive.Ask) { q.Kinds = nil }, "", false},
		"a role is no user": {func(q *directive.Ask) { q.Principal = "nurse" }, "any", false},
		"a user is no role": {func(q *directive.Ask) { q.Roles = []string{"u-1"} }, "any", false},
	} {
		q := ask("t-1")
		q.Principal, q.Type = "u-0", "note"
		tt.change(&q)
		var got []string
		for i, in := range has(t, st.Patients(q), "t-1", "p-any", "p-who", "p-role", "p-either", "p-purpose", "p-type", "p-record", "p-to", "p-hold") {
			if in {
				got = append(got, ids[i])
			}
		}
		if want := strings.Fields(tt.want); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if in := has(t, st.Records(q), "t-1", "r-1", "p-record", "R-1", ""); !slices.Equal(in, []bool{tt.records, false, false, false}) {
			t.Errorf("%s: records %v", name, in)
		}
	}
}

// testWorlds: whom a set holds is what About says of each directive.
func testWorlds(t *testing.T, st directive.Store) {
	rnd := rand.New(rand.NewPCG(164, 522))
	worlds := 3
	if os.Getenv("PART164_TEST_LONG") == "1" {
		worlds = 60
	}
	one := func(list ...string) string { return list[rnd.IntN(len(list))] }
	some := func(list ...string) (out []string) {
		for _, v := range list {
			if rnd.IntN(4) == 0 {
				out = append(out, v)
			}
		}
		return out
	}
	hour := func() time.Time { return start().Add(time.Duration(rnd.IntN(24)) * time.Hour) }
	purposes := func() (out []access.Purpose) {
		for _, p := range some("TREAT", "HPAYMT", "HMARKT", "HRESCH") {
			out = append(out, access.Purpose(p))
		}
		return out
	}
	kinds := []directive.Kind{directive.Restriction, directive.Consent, directive.Authorization, directive.Hold}
	for w := range worlds {
		var all []directive.Directive
		tenants := []string{fmt.Sprintf("t-%d", w), fmt.Sprintf("t-%d.b", w)}
		for i := range 50 {
			d := Restriction(fmt.Sprintf("d-%d", i), one(tenants...), one("p-1", "P-1", "p-2", "p-3"))
			d.Kind, d.From, d.Void = kinds[rnd.IntN(len(kinds))], hour(), rnd.IntN(8) == 0
			d.Principals, d.Roles, d.Purposes, d.Types = some("u-1", "u-2"), some("nurse", "clerk"), purposes(), some("chart", "note")
			if rnd.IntN(3) == 0 {
				d.Until = d.From.Add(time.Duration(rnd.IntN(24)) * time.Hour)
			}
			if rnd.IntN(3) == 0 {
				d.Record = one("r-1", "R-1", "r-2")
			}
			if rnd.IntN(4) == 0 {
				d.Recipient = "plan-1"
			}
			all = append(all, d)
		}
		add(t, st, all...)
		for range 40 {
			q := directive.Ask{Tenant: one(tenants...), Principal: one("u-1", "u-2", "U-1"), Roles: some("nurse", "clerk", "Nurse"), Purposes: purposes(), Type: one("chart", "note", "Chart"), At: hour()}
			for _, k := range kinds {
				if rnd.IntN(2) == 0 {
					q.Kinds = append(q.Kinds, k)
				}
			}
			if rnd.IntN(4) == 0 {
				q.Recipient = "plan-1"
			}
			patients, records := []string{"p-1", "P-1", "p-2", "p-3", "", "p-9"}, []string{"r-1", "R-1", "r-2", "", "p-1"}
			want := func(ids []string, of func(directive.Directive) string) (out []bool) {
				for _, id := range ids {
					out = append(out, id != "" && slices.ContainsFunc(all, func(d directive.Directive) bool { return of(d) == id && q.About(d) }))
				}
				return out
			}
			if got, want := has(t, st.Patients(q), q.Tenant, patients...), want(patients, func(d directive.Directive) string {
				if d.Record != "" {
					return ""
				}
				return d.Patient
			}); !slices.Equal(got, want) {
				t.Errorf("patients of %+v: %v, want %v", q, got, want)
			}
			if got, want := has(t, st.Records(q), q.Tenant, records...), want(records, func(d directive.Directive) string { return d.Record }); !slices.Equal(got, want) {
				t.Errorf("records of %+v: %v, want %v", q, got, want)
			}
		}
	}
}
