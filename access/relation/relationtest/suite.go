// SPDX-License-Identifier: Apache-2.0

// Package relationtest holds the contract that every [relation.Store] keeps.
package relationtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
)

// Relation returns a valid relation to begin with.
func Relation(id, tenant, patient, principal string) relation.Relation {
	return relation.Relation{ID: id, Tenant: tenant, Patient: patient, Principal: principal, Kind: relation.CareTeam, From: start()}
}

// start is when the suite's relations begin.
func start() time.Time { return time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC) }

// as is who changes things: the trail wants to know.
func as(t *testing.T) context.Context {
	t.Helper()
	return access.With(t.Context(), access.Principal{ID: "u-registrar", Tenant: "t-1", Kind: access.Human, Roles: []string{"registrar"}}, access.PatientAdmin)
}

func created(c relation.Relation) audit.Event {
	return audit.Event{Type: audit.RelationChanged, Outcome: audit.Success, Action: access.Create, Reason: audit.ReasonCreated,
		Objects: []audit.Object{{Type: relation.Resource, Tenant: c.Tenant, Record: c.ID, Patient: c.Patient}}}
}

func changed(c relation.Relation) audit.Event {
	ev := created(c)
	ev.Action, ev.Reason = access.Update, audit.ReasonRevoked
	return ev
}

// TestStore holds the stores that open returns, each of them empty, and with what
// makes its trail fail, to the contract of [relation.Store].
func TestStore(t *testing.T, open func(t *testing.T) (relation.Store, func(error))) {
	t.Run("what was added is there", func(t *testing.T) { on(t, open, testAdd) })
	t.Run("what could not be recorded is not kept", func(t *testing.T) {
		st, fail := open(t)
		testRecord(t, st, fail)
	})
	t.Run("changes", func(t *testing.T) { on(t, open, testChange) })
	t.Run("changes of one relation queue", func(t *testing.T) { on(t, open, testQueue) })
	t.Run("a list", func(t *testing.T) { on(t, open, testList) })
	t.Run("a set at its bounds", func(t *testing.T) { on(t, open, testBounds) })
	t.Run("a set is what Holds says", func(t *testing.T) { on(t, open, testWorlds) })
	t.Run("a cancelled context", func(t *testing.T) {
		st, _ := open(t)
		add(t, st, Relation("r-1", "t-1", "p-1", "u-1"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if in, err := st.Set(reach("t-1", "u-1", start())).Has(ctx, "t-1", []string{"p-1"}); err == nil {
			t.Errorf("Has = %v", in)
		}
		if got, err := st.List(ctx, "t-1", relation.Query{}); err == nil {
			t.Errorf("List = %v", got)
		}
	})
}

func on(t *testing.T, open func(t *testing.T) (relation.Store, func(error)), test func(*testing.T, relation.Store)) {
	t.Helper()
	st, _ := open(t)
	test(t, st)
}

func add(t *testing.T, st relation.Store, rs ...relation.Relation) {
	t.Helper()
	for _, r := range rs {
		if err := st.Add(as(t), r, created(r)); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, st relation.Store, tenant string, q relation.Query) []relation.Relation {
	t.Helper()
	got, err := st.List(t.Context(), tenant, q)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// same compares relations by their moments.
func same(a, b relation.Relation) bool {
	b.Version = max(b.Version, 1) // of one that was made by hand
	times := a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Until.IsZero() == b.Until.IsZero()
	a.From, a.Until, b.From, b.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return times && a == b
}

func reach(tenant, principal string, at time.Time) relation.Reach {
	q := relation.Reach{Tenant: tenant, Principal: principal, At: at, Kinds: map[relation.Kind]relation.Window{}}
	for _, k := range relation.Kinds() {
		q.Kinds[k] = relation.Window{}
	}
	return q
}

func has(t *testing.T, s access.Set, tenant string, ids ...string) []bool {
	t.Helper()
	in, err := s.Has(t.Context(), tenant, ids)
	if err != nil || len(in) != len(ids) {
		t.Fatalf("Has of %d IDs: %d answers, %v", len(ids), len(in), err)
	}
	return in
}

func testAdd(t *testing.T, st relation.Store) {
	r := Relation("r-1", "t-1", "p-1", "u-1")
	r.Until = r.From.Add(90*time.Minute + 7*time.Microsecond)
	add(t, st, r)
	if got := list(t, st, "t-1", relation.Query{}); len(got) != 1 || !same(got[0], r) {
		t.Errorf("kept %+v, want %+v", got, r)
	}
	if err := st.Add(as(t), r, created(r)); err == nil {
		t.Error("a second relation of one ID was taken")
	}
	other := r
	other.Tenant = "t-2" // IDs are of a tenant
	add(t, st, other)
	if got := list(t, st, "t-2", relation.Query{}); len(got) != 1 || !same(got[0], other) {
		t.Errorf("kept %+v, want %+v", got, other)
	}
	far := Relation("r-far", "t-1", "p-9", "u-9")
	far.From, far.Until = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	add(t, st, far)
	if got := list(t, st, "t-1", relation.Query{ID: "r-far"}); len(got) != 1 || !same(got[0], far) {
		t.Errorf("kept %+v, want %+v", got, far)
	}
}

func testRecord(t *testing.T, st relation.Store, fail func(error)) {
	no := errors.New("the trail is down")
	r := Relation("r-1", "t-1", "p-1", "u-1")
	fail(no)
	if err := st.Add(as(t), r, created(r)); !errors.Is(err, no) {
		t.Errorf("Add = %v, want the error of the trail", err)
	}
	fail(nil)
	if got := list(t, st, "t-1", relation.Query{}); len(got) != 0 {
		t.Errorf("kept %+v", got)
	}
	add(t, st, r)
	end := func(r *relation.Relation) error { r.Until = r.From.Add(time.Hour); return nil }
	fail(no)
	err := st.Change(as(t), "t-1", "r-1", end, func(c relation.Relation) audit.Event {
		if !c.Until.Equal(r.From.Add(time.Hour)) || c.Version != 2 {
			t.Errorf("event sees %+v", c)
		}
		return changed(c)
	})
	if !errors.Is(err, no) {
		t.Errorf("Change = %v, want the error of the trail", err)
	}
	fail(nil)
	if got := list(t, st, "t-1", relation.Query{}); len(got) != 1 || !same(got[0], r) {
		t.Errorf("kept %+v, want %+v", got, r)
	}
}

func testChange(t *testing.T, st relation.Store) {
	r := Relation("r-1", "t-1", "p-1", "u-1")
	add(t, st, r, Relation("r-2", "t-1", "p-2", "u-1"))
	set := func(c *relation.Relation) error {
		c.Until, c.Void = r.From.Add(time.Hour), true
		c.Patient, c.Principal, c.Kind, c.From = "p-2", "u-2", relation.Attending, r.From.Add(-time.Hour) // which stay
		return nil
	}
	if err := st.Change(as(t), "t-1", "r-1", set, changed); err != nil {
		t.Fatal(err)
	}
	want := r
	want.Until, want.Void, want.Version = r.From.Add(time.Hour), true, 2
	if got := list(t, st, "t-1", relation.Query{ID: "r-1"}); len(got) != 1 || !same(got[0], want) {
		t.Errorf("kept %+v, want %+v", got, want)
	}
	if got := list(t, st, "t-1", relation.Query{ID: "r-2"}); len(got) != 1 || got[0].Void || !got[0].Until.IsZero() {
		t.Errorf("another changed: %+v", got)
	}
	no := errors.New("not so")
	if err := st.Change(as(t), "t-1", "r-1", func(*relation.Relation) error { return no }, changed); !errors.Is(err, no) {
		t.Errorf("Change = %v, want the error of change", err)
	}
	for tenant, id := range map[string]string{"t-1": "r-9", "t-2": "r-1", "T-1": "r-1", "": "r-1"} {
		if err := st.Change(as(t), tenant, id, set, changed); !errors.Is(err, relation.ErrNotFound) {
			t.Errorf("Change of %s in %q = %v, want ErrNotFound", id, tenant, err)
		}
	}
}

// testQueue: each of many changes at once sees what the one before has made.
func testQueue(t *testing.T, st relation.Store) {
	r := Relation("r-1", "t-1", "p-1", "u-1")
	r.Until = r.From
	add(t, st, r)
	const n = 8
	ctx := as(t)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			err := st.Change(ctx, "t-1", "r-1", func(c *relation.Relation) error { c.Until = c.Until.Add(time.Minute); return nil }, changed)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := list(t, st, "t-1", relation.Query{}); len(got) != 1 || !got[0].Until.Equal(r.From.Add(n*time.Minute)) {
		t.Errorf("after %d changes of a minute: %+v", n, got)
	}
}

func testList(t *testing.T, st relation.Store) {
	a, b, c, d := Relation("r-1", "t-1", "p-1", "u-1"), Relation("r-2", "t-1", "p-1", "u-2"), Relation("r-3", "t-1", "p-2", "u-1"), Relation("r-4", "t-2", "p-1", "u-1")
	b.Kind, c.Void = relation.Attending, true
	add(t, st, c, a, d, b)
	for _, tt := range []struct {
		tenant string
		q      relation.Query
		want   []string
	}{
		{"t-1", relation.Query{}, []string{"r-1", "r-2", "r-3"}},
		{"t-1", relation.Query{Patient: "p-1"}, []string{"r-1", "r-2"}},
		{"t-1", relation.Query{Patient: "P-1"}, nil},
		{"t-1", relation.Query{Principal: "u-1"}, []string{"r-1", "r-3"}},
		{"t-1", relation.Query{Patient: "p-1", Principal: "u-1"}, []string{"r-1"}},
		{"t-1", relation.Query{Kinds: []relation.Kind{relation.Attending, relation.Referring}}, []string{"r-2"}},
		{"t-1", relation.Query{ID: "r-4"}, nil},
		{"t-2", relation.Query{}, []string{"r-4"}},
		{"t-3", relation.Query{}, nil},
		{"", relation.Query{}, nil},
	} {
		var got []string
		for _, r := range list(t, st, tt.tenant, tt.q) {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("List(%q, %+v) = %v, want %v", tt.tenant, tt.q, got, tt.want)
		}
	}
}

func testBounds(t *testing.T, st relation.Store) {
	from, until := start(), start().Add(time.Hour)
	r := Relation("r-1", "t-1", "p-1", "u-1")
	r.Kind, r.Until = relation.Attending, until
	open := Relation("r-2", "t-1", "p-2", "u-1")
	open.Kind = relation.Attending
	void := Relation("r-3", "t-1", "p-3", "u-1")
	void.Kind, void.Void = relation.Attending, true
	empty := Relation("r-4", "t-1", "p-4", "u-1")
	empty.Kind, empty.Until = relation.Attending, from
	elsewhere := open
	elsewhere.Tenant = "t-2"
	add(t, st, r, open, void, empty, elsewhere)
	day := 24 * time.Hour
	for _, w := range []relation.Window{{}, {Before: day}, {After: day}, {Before: day, After: 2 * day}} {
		for _, at := range []time.Time{from.Add(-w.Before), until.Add(w.After), from.Add(w.After), from, until} {
			for _, d := range []time.Duration{-time.Microsecond, 0, time.Microsecond} {
				q := relation.Reach{Tenant: "t-1", Principal: "u-1", At: at.Add(d), Kinds: map[relation.Kind]relation.Window{relation.Attending: w}}
				begun := !q.At.Before(from.Add(-w.Before))
				want := []bool{begun && q.At.Before(until.Add(w.After)), begun, false, begun && q.At.Before(from.Add(w.After))}
				if got := has(t, st.Set(q), "t-1", "p-1", "p-2", "p-3", "p-4"); !slices.Equal(got, want) {
					t.Errorf("window %+v at %v: %v, want %v", w, q.At, got, want)
				}
			}
		}
	}
	for name, q := range map[string]relation.Reach{
		"no kind":              {Tenant: "t-1", Principal: "u-1", At: from},
		"another kind":         {Tenant: "t-1", Principal: "u-1", At: from, Kinds: map[relation.Kind]relation.Window{relation.Consulting: {}}},
		"nobody":               {Tenant: "t-1", At: from, Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}},
		"another patient":      {Tenant: "t-1", Principal: "u-1", Patient: "p-9", At: from, Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}},
		"somebody spelt so":    {Tenant: "t-1", Principal: "U-1", At: from, Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}},
		"another tenant":       {Tenant: "t-2", Principal: "u-1", At: from, Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}},
		"a tenant spelt so":    {Tenant: "T-1", Principal: "u-1", At: from, Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}},
		"the beginning of all": {Tenant: "t-1", Principal: "u-1", Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}},
	} {
		if got := has(t, st.Set(q), "t-1", "p-1", "p-2"); got[0] || got[1] {
			t.Errorf("%s: %v", name, got)
		}
	}
	q := relation.Reach{Tenant: "t-1", Principal: "u-1", Patient: "p-2", At: from, Kinds: map[relation.Kind]relation.Window{relation.Attending: {}}}
	if got := has(t, st.Set(q), "t-1", "p-1", "p-2", "", "p-2", "P-2"); !slices.Equal(got, []bool{false, true, false, true, false}) {
		t.Errorf("of one patient: %v", got)
	}
	if got := has(t, st.Set(q), "t-2", "p-2"); got[0] {
		t.Error("the set of one tenant answers for another")
	}
	q.At = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	q.Kinds[relation.Attending] = relation.Window{Before: 1<<63 - 1, After: 1<<63 - 1}
	if got := has(t, st.Set(q), "t-1", "p-2"); !got[0] {
		t.Error("without an end, it ends")
	}
}

// testWorlds: whom a set holds is what Holds says of each relation.
func testWorlds(t *testing.T, st relation.Store) {
	rnd := rand.New(rand.NewPCG(164, 308))
	worlds := 4
	if os.Getenv("PART164_TEST_LONG") == "1" {
		worlds = 60
	}
	kinds := relation.Kinds()
	one := func(list ...string) string { return list[rnd.IntN(len(list))] }
	hour := func() time.Time { return start().Add(time.Duration(rnd.IntN(48)) * time.Hour) }
	for w := range worlds {
		var all []relation.Relation
		tenants := []string{fmt.Sprintf("t-%d", w), fmt.Sprintf("t-%d.b", w)}
		for i := range 60 {
			r := Relation(fmt.Sprintf("r-%d", i), one(tenants...), one("p-1", "P-1", "p-2", "p-3", "p-4"), one("u-1", "u-2", "U-1"))
			r.Kind, r.From, r.Void = kinds[rnd.IntN(len(kinds))], hour(), rnd.IntN(6) == 0
			if rnd.IntN(2) == 0 {
				r.Until = r.From.Add(time.Duration(rnd.IntN(24)) * time.Hour)
			}
			all = append(all, r)
		}
		add(t, st, all...)
		for range 40 {
			q := relation.Reach{Tenant: one(tenants...), Principal: one("u-1", "u-2", "U-1", "u-9"), At: hour(), Kinds: map[relation.Kind]relation.Window{}}
			for _, k := range kinds {
				if rnd.IntN(2) == 0 {
					q.Kinds[k] = relation.Window{Before: time.Duration(rnd.IntN(3)) * time.Hour, After: time.Duration(rnd.IntN(3)) * time.Hour}
				}
			}
			if rnd.IntN(4) == 0 {
				q.Patient = one("p-1", "P-1", "p-2")
			}
			ids := []string{"p-1", "P-1", "p-2", "", "p-3", "p-4", "p-9"}
			want := make([]bool, len(ids))
			for i, id := range ids {
				want[i] = slices.ContainsFunc(all, func(r relation.Relation) bool { return r.Patient == id && q.Holds(r) })
			}
			if got := has(t, st.Set(q), q.Tenant, ids...); !slices.Equal(got, want) {
				t.Errorf("%+v: %v, want %v", q, got, want)
			}
		}
	}
}
