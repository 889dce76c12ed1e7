// SPDX-License-Identifier: Apache-2.0

package granttest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
)

// Tenant is the tenant of the suites.
const Tenant = "t-test"

// somebody is a person with a role, who has just signed in.
func somebody(id string, roles ...string) access.Principal {
	return access.Principal{
		ID: id, Tenant: Tenant, Kind: access.Human, Roles: roles, Session: "s-" + id, Assurance: 2, AuthTime: monday(),
		Addr: netip.MustParseAddr("192.0.2.7"),
	}
}

// monday is when the suites begin.
func monday() time.Time { return time.Date(2026, 3, 2, 8, 0, 0, 123456789, time.UTC) }

// aGrant is a request of holder that waits for an approval.
func aGrant(holder string) grant.Grant {
	by, day := somebody(holder, "clerk"), monday()
	return grant.Grant{
		ID: uuid.Must(uuid.NewV7()).String(), Tenant: Tenant,
		Scope:  grant.Scope{Kind: grant.JIT, Holder: holder, Role: "records-clerk", Patient: "p-1", Type: "note", Record: "n-1", Purposes: []access.Purpose{access.Payment, access.Operations}},
		Reason: audit.ReasonCovering, Ticket: "t-7", Extends: "", TTL: time.Hour, Needs: 1, MaxUses: 3,
		State: grant.Requested, Created: day, Until: day.Add(24 * time.Hour),
		Steps: []grant.Step{{Act: grant.ActRequest, By: by, At: day, Reason: audit.ReasonCovering, Owed: day}},
	}
}

func never(grant.Grant) bool  { return false }
func always(grant.Grant) bool { return true }

// TestStore runs the contract of [grant.Store] against the stores that open
// returns, each empty or another test's no more.
func TestStore(t *testing.T, open func(t *testing.T) grant.Store) {
	t.Helper()
	day := monday()
	create := func(t *testing.T, s grant.Store, g grant.Grant) grant.Grant {
		t.Helper()
		got, made, err := s.Create(t.Context(), g, never)
		if err != nil || !made {
			t.Fatalf("Create = %v, %v", made, err)
		}
		return got
	}
	read := func(t *testing.T, s grant.Store, g grant.Grant) grant.Grant {
		t.Helper()
		got, err := s.Grant(t.Context(), g.Tenant, g.ID)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	// active makes a grant of holder that is in force from day on for an hour.
	active := func(t *testing.T, s grant.Store, holder string, change func(*grant.Grant)) grant.Grant {
		t.Helper()
		g := aGrant(holder)
		g.State, g.From, g.Until, g.Steps[0].Owed = grant.Active, day, day.Add(time.Hour), time.Time{}
		if change != nil {
			change(&g)
		}
		return create(t, s, g)
	}

	t.Run("everything is kept", func(t *testing.T) {
		s := open(t)
		want := aGrant("u-1")
		want.From, want.Ended, want.ReviewBy, want.Reviewed = day.Add(1), day.Add(2), day.Add(3), day.Add(4)
		want.Finding, want.AlertAt, want.Extends, want.Uses = audit.ReasonExplained, day.Add(5), uuid.NewString(), 2
		want.Steps = append(want.Steps, grant.Step{Act: grant.ActEnd, At: day.Add(6), Reason: audit.ReasonExpired})
		got := create(t, s, want)
		want.Version = 1
		if again := read(t, s, want); !reflect.DeepEqual(again, want) || !reflect.DeepEqual(got, want) {
			t.Errorf("kept\n%+v\nand returned\n%+v\nof\n%+v", again, got, want)
		}
	})

	t.Run("another tenant has not got it", func(t *testing.T) {
		s := open(t)
		g := active(t, s, "u-1", nil)
		ctx := t.Context()
		if _, err := s.Grant(ctx, "t-other", g.ID); !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("Grant = %v", err)
		}
		other := g
		other.Tenant = "t-other"
		if ok, err := s.Change(ctx, other, nil, nil); ok || err == nil {
			t.Errorf("Change = %v, %v", ok, err)
		}
		if ok, err := s.Use(ctx, "t-other", g.ID, day); ok || err != nil {
			t.Errorf("Use = %v, %v", ok, err)
		}
		if live, err := s.Live(ctx, "t-other", "u-1", day); len(live) != 0 || err != nil {
			t.Errorf("Live = %v, %v", live, err)
		}
		if l, err := s.List(ctx, grant.Query{Tenant: "t-other"}); len(l) != 0 || err != nil {
			t.Errorf("List = %v, %v", l, err)
		}
		if err := s.Settle(ctx, "t-other", g.ID, 0); !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("Settle = %v", err)
		}
		if l, err := s.List(ctx, grant.Query{}); len(l) != 0 || err != nil {
			t.Errorf("List without a tenant = %v, %v", l, err)
		}
		again := g // the same ID in another tenant is another grant
		again.Tenant = "t-other"
		create(t, s, again)
		if got := read(t, s, g); got.Version != 1 {
			t.Errorf("it changed: %+v", got)
		}
	})

	t.Run("one key, one grant", func(t *testing.T) {
		s := open(t)
		first := create(t, s, aGrant("u-1"))
		got, made, err := s.Create(t.Context(), aGrant("u-1"), always)
		if err != nil || made || got.ID != first.ID || got.Version != first.Version {
			t.Errorf("the second Create = %+v, %v, %v, want the first", got, made, err)
		}
		for name, change := range map[string]func(*grant.Grant){
			"holder":   func(g *grant.Grant) { g.Holder = "u-2" },
			"role":     func(g *grant.Grant) { g.Role = "Records-Clerk" },
			"patient":  func(g *grant.Grant) { g.Patient = "P-1" },
			"record":   func(g *grant.Grant) { g.Record = "n-2" },
			"type":     func(g *grant.Grant) { g.Type = "report" },
			"kind":     func(g *grant.Grant) { g.Kind = grant.BreakGlass },
			"purposes": func(g *grant.Grant) { g.Purposes = g.Purposes[:1] },
			"extends":  func(g *grant.Grant) { g.Extends = first.ID },
			"tenant":   func(g *grant.Grant) { g.Tenant = "t-other" },
		} {
			g := aGrant("u-1")
			change(&g)
			if _, made, err := s.Create(t.Context(), g, always); err != nil || !made {
				t.Errorf("with another %s: %v, %v", name, made, err)
			}
		}
		swapped := aGrant("u-1")
		slices.Reverse(swapped.Purposes)
		if got, made, err := s.Create(t.Context(), swapped, always); err != nil || made || got.ID != first.ID {
			t.Errorf("with the purposes in another order: %v, %v", made, err)
		}
		second := create(t, s, aGrant("u-1")) // the first is not kept
		if got, made, err := s.Create(t.Context(), aGrant("u-1"), always); err != nil || made || got.ID != second.ID {
			t.Errorf("after the second: %v, %v", made, err)
		}
		if got := read(t, s, first); got.State != grant.Requested {
			t.Errorf("the one that lost the key changed: %+v", got)
		}
	})

	t.Run("of many with one key one inserts", func(t *testing.T) {
		s := open(t)
		var made atomic.Int32
		var ids sync.Map
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				g, ok, err := s.Create(t.Context(), aGrant("u-1"), always)
				if err != nil {
					t.Error(err)
				}
				if ok {
					made.Add(1)
				}
				ids.Store(g.ID, true)
			})
		}
		wg.Wait()
		n := 0
		ids.Range(func(any, any) bool { n++; return true })
		if made.Load() != 1 || n != 1 {
			t.Errorf("%d inserted, and %d different grants returned", made.Load(), n)
		}
	})

	t.Run("a change is made once", func(t *testing.T) {
		s := open(t)
		g := create(t, s, aGrant("u-1"))
		g.State, g.From, g.Until, g.Ended, g.ReviewBy, g.Reviewed = grant.Approved, day.Add(1), day.Add(2), day.Add(3), day.Add(4), day.Add(5)
		g.Finding, g.AlertAt = audit.ReasonViolation, day.Add(6)
		step := grant.Step{Act: grant.ActApprove, By: somebody("u-officer", "officer"), At: day, Reason: audit.ReasonCovering, Approvals: 2, Owed: day}
		if ok, err := s.Change(t.Context(), g, &step, nil); err != nil || !ok {
			t.Fatal(ok, err)
		}
		want := g
		want.Version, want.Steps = 2, append(slices.Clone(g.Steps), step)
		if got := read(t, s, g); !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v\nwant\n%+v", got, want)
		}
		if ok, err := s.Change(t.Context(), g, &step, nil); err != nil || ok {
			t.Errorf("with an old version: %v, %v", ok, err)
		}
		if got := read(t, s, g); !reflect.DeepEqual(got, want) {
			t.Errorf("the refused change changed it: %+v", got)
		}
		scope := want
		scope.Holder, scope.Role, scope.Patient, scope.Purposes, scope.TTL, scope.MaxUses = "u-9", "admin", "", []access.Purpose{access.Treatment}, 99*time.Hour, 99
		if ok, err := s.Change(t.Context(), scope, nil, nil); err != nil || !ok {
			t.Fatal(ok, err)
		}
		want.Version = 3
		if got := read(t, s, g); !reflect.DeepEqual(got, want) {
			t.Errorf("a change of the scope was taken: %+v", got)
		}
		missing := g
		missing.ID = uuid.NewString()
		if ok, err := s.Change(t.Context(), missing, nil, nil); ok || !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("of a missing one: %v, %v", ok, err)
		}
	})

	t.Run("of many changes of one version one counts", func(t *testing.T) {
		s := open(t)
		g := create(t, s, aGrant("u-1"))
		var ok atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				mine := g
				mine.State = grant.Approved
				by := somebody(fmt.Sprint("u-o", i), "officer")
				done, err := s.Change(t.Context(), mine, &grant.Step{Act: grant.ActApprove, By: by, At: day, Owed: day}, nil)
				if err != nil {
					t.Error(err)
				}
				if done {
					ok.Add(1)
				}
			})
		}
		wg.Wait()
		if got := read(t, s, g); ok.Load() != 1 || len(got.Steps) != 2 || got.Version != 2 {
			t.Errorf("%d counted, %+v", ok.Load(), got)
		}
	})

	t.Run("a check that refuses changes nothing", func(t *testing.T) {
		s := open(t)
		g := create(t, s, aGrant("u-1"))
		no := errors.New("no")
		mine := g
		mine.State = grant.Approved
		ok, err := s.Change(t.Context(), mine, &grant.Step{Act: grant.ActApprove, At: day}, func(ctx context.Context) error {
			if live, err := s.Live(ctx, Tenant, "u-1", day); err != nil || len(live) != 0 {
				t.Errorf("inside the transaction: %v, %v", live, err)
			}
			return no
		})
		if ok || !errors.Is(err, no) {
			t.Errorf("Change = %v, %v", ok, err)
		}
		if got := read(t, s, g); got.Version != 1 || len(got.Steps) != 1 {
			t.Errorf("it changed: %+v", got)
		}
	})

	t.Run("two changes with checks do not pass each other", func(t *testing.T) {
		s := open(t)
		// Each may become active only while the holder has nothing.
		var gs []grant.Grant
		for i := range 8 {
			g := aGrant("u-1")
			g.Role = fmt.Sprint("role-", i)
			gs = append(gs, create(t, s, g))
		}
		busy := errors.New("the holder has one")
		var ok atomic.Int32
		var wg sync.WaitGroup
		for _, g := range gs {
			wg.Go(func() {
				g.State, g.From, g.Until = grant.Active, day, day.Add(time.Hour)
				done, err := s.Change(t.Context(), g, nil, func(ctx context.Context) error {
					live, err := s.Live(ctx, Tenant, "u-1", day)
					if err == nil && len(live) > 0 {
						err = busy
					}
					return err
				})
				if err != nil && !errors.Is(err, busy) {
					t.Error(err)
				}
				if done {
					ok.Add(1)
				}
			})
		}
		wg.Wait()
		if live, err := s.Live(t.Context(), Tenant, "u-1", day); ok.Load() != 1 || len(live) != 1 || err != nil {
			t.Errorf("%d were let through, %d are live, %v", ok.Load(), len(live), err)
		}
	})

	t.Run("uses are counted", func(t *testing.T) {
		s := open(t)
		g := active(t, s, "u-1", nil)
		if ok, err := s.Use(t.Context(), Tenant, g.ID, g.Until); ok || err != nil {
			t.Errorf("when it has expired: %v, %v", ok, err)
		}
		var ok atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				used, err := s.Use(t.Context(), Tenant, g.ID, day)
				if err != nil {
					t.Error(err)
				}
				if used {
					ok.Add(1)
				}
			})
		}
		wg.Wait()
		if got := read(t, s, g); ok.Load() != 3 || got.Uses != 3 || got.Version != 1 {
			t.Errorf("%d uses of 3, %+v", ok.Load(), got)
		}
		if live, err := s.Live(t.Context(), Tenant, "u-1", day); len(live) != 0 || err != nil {
			t.Errorf("a used up one is live: %v, %v", live, err)
		}
		unlimited := active(t, s, "u-2", func(g *grant.Grant) { g.MaxUses = 0 })
		for range 5 {
			if ok, err := s.Use(t.Context(), Tenant, unlimited.ID, day); !ok || err != nil {
				t.Errorf("without a limit: %v, %v", ok, err)
			}
		}
		for _, state := range []grant.State{grant.Requested, grant.Approved, grant.Refused, grant.Revoked, grant.Expired, grant.UsedUp} {
			g := active(t, s, "u-3", func(g *grant.Grant) { g.State = state })
			if ok, err := s.Use(t.Context(), Tenant, g.ID, day); ok || err != nil {
				t.Errorf("a %s one: %v, %v", state, ok, err)
			}
		}
	})

	t.Run("a revocation and uses", func(t *testing.T) {
		s := open(t)
		for i := range 5 {
			g := active(t, s, fmt.Sprint("u-r", i), func(g *grant.Grant) { g.MaxUses = 1000 })
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 5 {
						if _, err := s.Use(t.Context(), Tenant, g.ID, day); err != nil {
							t.Error(err)
						}
					}
				})
			}
			mine := g
			mine.State, mine.Ended = grant.Revoked, day
			if ok, err := s.Change(t.Context(), mine, nil, nil); err != nil || !ok {
				t.Errorf("the revocation: %v, %v", ok, err) // a use is no new version
			}
			got := read(t, s, g)
			used, err := s.Use(t.Context(), Tenant, g.ID, day)
			wg.Wait()
			if after := read(t, s, g); used || err != nil || after.Uses != got.Uses || after.State != grant.Revoked {
				t.Errorf("used after the revocation: %v, %v, %d then %d uses, %s", used, err, got.Uses, after.Uses, after.State)
			}
		}
	})

	t.Run("what is recorded comes into force", func(t *testing.T) {
		s := open(t)
		g := aGrant("u-1")
		g.State, g.From, g.Until = grant.Approved, day, day.Add(time.Hour)
		g.Steps = append(g.Steps, grant.Step{Act: grant.ActApprove, By: somebody("u-officer", "officer"), At: day, Owed: day})
		g = create(t, s, g)
		for n, want := range []grant.State{grant.Approved, grant.Active} {
			if live, err := s.Live(t.Context(), Tenant, "u-1", day); len(live) != 0 || err != nil {
				t.Errorf("live before step %d is on record: %v, %v", n, live, err)
			}
			if err := s.Settle(t.Context(), Tenant, g.ID, n); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s, g); got.State != want || !got.Steps[n].Owed.IsZero() {
				t.Errorf("after step %d: %s, want %s", n, got.State, want)
			}
		}
		if err := s.Settle(t.Context(), Tenant, g.ID, 1); err != nil { // twice
			t.Error(err)
		}
		if got := read(t, s, g); got.Version != 2 {
			t.Errorf("version %d, want 2", got.Version)
		}
		if ok, err := s.Change(t.Context(), g, nil, nil); ok || err != nil {
			t.Errorf("a change of what was read before it came into force: %v, %v", ok, err)
		}
		live, err := s.Live(t.Context(), Tenant, "u-1", day)
		if err != nil || len(live) != 1 || live[0].ID != g.ID || live[0].Role != g.Role || !slices.Equal(live[0].Purposes, g.Purposes) {
			t.Errorf("Live = %+v, %v", live, err)
		}
		for _, n := range []int{-1, 2} {
			if err := s.Settle(t.Context(), Tenant, g.ID, n); !errors.Is(err, grant.ErrNotFound) {
				t.Errorf("Settle of step %d = %v", n, err)
			}
		}
		revoked := aGrant("u-2")
		revoked.State, revoked.From = grant.Revoked, day
		revoked = create(t, s, revoked)
		if err := s.Settle(t.Context(), Tenant, revoked.ID, 0); err != nil {
			t.Error(err)
		}
		if got := read(t, s, revoked); got.State != grant.Revoked {
			t.Errorf("what was revoked is %s once it is recorded", got.State)
		}
	})

	t.Run("steps that are settled at once", func(t *testing.T) {
		s := open(t)
		for i := range 5 {
			g := aGrant(fmt.Sprint("u-", i))
			g.State, g.From, g.Until = grant.Approved, day, day.Add(time.Hour)
			for range 3 {
				g.Steps = append(g.Steps, grant.Step{Act: grant.ActApprove, By: somebody("u-officer", "officer"), At: day, Owed: day})
			}
			g = create(t, s, g)
			var wg sync.WaitGroup
			for n := range g.Steps {
				wg.Go(func() {
					if err := s.Settle(t.Context(), Tenant, g.ID, n); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got := read(t, s, g); got.State != grant.Active || got.Version != 2 {
				t.Errorf("all of it is on record, and it is %s, version %d", got.State, got.Version)
			}
		}
	})

	t.Run("live is what is in force", func(t *testing.T) {
		s := open(t)
		g := active(t, s, "u-1", nil)
		for name, tt := range map[string]struct {
			at   time.Time
			want int
		}{"then": {day, 1}, "just before its end": {g.Until.Add(-1), 1}, "at its end": {g.Until, 0}, "after": {g.Until.Add(time.Hour), 0}} {
			if live, err := s.Live(t.Context(), Tenant, "u-1", tt.at); err != nil || len(live) != tt.want {
				t.Errorf("%s: %d, %v, want %d", name, len(live), err, tt.want)
			}
		}
		for _, who := range []string{"U-1", "u-1 ", "u-2", ""} {
			if live, err := s.Live(t.Context(), Tenant, who, day); err != nil || len(live) != 0 {
				t.Errorf("of %q: %v, %v", who, live, err)
			}
		}
		active(t, s, "u-1", func(g *grant.Grant) { g.Role, g.Created = "other", day.Add(-time.Hour) })
		live, err := s.Live(t.Context(), Tenant, "u-1", day)
		if err != nil || len(live) != 2 || live[0].Role != "other" {
			t.Errorf("the oldest first: %+v, %v", live, err)
		}
	})

	t.Run("lists", func(t *testing.T) {
		s := open(t)
		var made []grant.Grant
		for i := range 6 {
			g := aGrant(fmt.Sprint("u-", i%2))
			g.Created = day.Add(time.Duration(i) * time.Minute)
			g.Role = fmt.Sprint("role-", i)
			if i >= 3 {
				g.Kind, g.State, g.ReviewBy = grant.BreakGlass, grant.Active, day.Add(time.Duration(i)*time.Hour)
			}
			if i == 5 {
				g.Reviewed = day
			}
			made = append(made, create(t, s, g))
		}
		for name, tt := range map[string]struct {
			q    grant.Query
			want []int
		}{
			"all, the newest first": {grant.Query{}, []int{5, 4, 3, 2, 1, 0}},
			"of one":                {grant.Query{Holder: "u-1"}, []int{5, 3, 1}},
			"of a kind":             {grant.Query{Kind: grant.JIT}, []int{2, 1, 0}},
			"of a role":             {grant.Query{Role: "role-4"}, []int{4}},
			"of states":             {grant.Query{States: []grant.State{grant.Active, grant.Revoked}}, []int{5, 4, 3}},
			"to review":             {grant.Query{ToReview: true}, []int{3, 4}},
			"to review first":       {grant.Query{ToReview: true, Limit: 1}, []int{3}},
			"since":                 {grant.Query{Since: made[4].Created}, []int{5, 4}},
			"some":                  {grant.Query{Limit: 2}, []int{5, 4}},
		} {
			tt.q.Tenant = Tenant
			got, err := s.List(t.Context(), tt.q)
			var roles, want []string
			for _, g := range got {
				roles = append(roles, g.Role)
				if len(g.Steps) != 1 {
					t.Errorf("%s: %d steps", name, len(g.Steps))
				}
			}
			for _, i := range tt.want {
				want = append(want, made[i].Role)
			}
			if err != nil || !slices.Equal(roles, want) {
				t.Errorf("%s: %v, %v, want %v", name, roles, err, want)
			}
		}
	})

	t.Run("owed steps are handed out once", func(t *testing.T) {
		s := open(t)
		g := create(t, s, aGrant("u-1"))
		mine := func(list []grant.Grant) (n int) {
			for _, x := range list {
				if x.ID == g.ID && len(x.Steps) > 0 {
					n++
				}
			}
			return n
		}
		if l, err := s.Owed(t.Context(), day.Add(-1), day, 100); err != nil || mine(l) != 0 {
			t.Errorf("too early: %d, %v", mine(l), err)
		}
		var handed atomic.Int32
		var wg sync.WaitGroup
		later := day.Add(time.Minute)
		for range 8 {
			wg.Go(func() {
				l, err := s.Owed(t.Context(), day, later, 100)
				if err != nil {
					t.Error(err)
				}
				handed.Add(int32(mine(l)))
			})
		}
		wg.Wait()
		if handed.Load() != 1 {
			t.Errorf("handed out %d times", handed.Load())
		}
		if l, err := s.Owed(t.Context(), later, later, 100); err != nil || mine(l) != 1 {
			t.Errorf("again, later: %d, %v", mine(l), err)
		}
		if err := s.Settle(t.Context(), Tenant, g.ID, 0); err != nil {
			t.Fatal(err)
		}
		if l, err := s.Owed(t.Context(), later.Add(time.Hour), later, 100); err != nil || mine(l) != 0 {
			t.Errorf("when it is on record: %d, %v", mine(l), err)
		}
	})

	t.Run("alerts are handed out once", func(t *testing.T) {
		s := open(t)
		g := active(t, s, "u-1", func(g *grant.Grant) { g.AlertAt = day })
		mine := func(at, again time.Time) (n int) {
			l, err := s.Alerts(t.Context(), at, again, 100)
			if err != nil {
				t.Error(err)
			}
			for _, x := range l {
				if x.ID == g.ID && len(x.Steps) > 0 {
					n++
				}
			}
			return n
		}
		if n := mine(day.Add(-1), day); n != 0 {
			t.Error("too early")
		}
		again := day.Add(time.Minute)
		var handed atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { handed.Add(int32(mine(day, again))) })
		}
		wg.Wait()
		if handed.Load() != 1 {
			t.Errorf("handed out %d times", handed.Load())
		}
		if got := read(t, s, g); got.Version != 1 || !got.AlertAt.Equal(again) {
			t.Errorf("then it is %+v", got)
		}
		if n := mine(again, again.Add(time.Minute)); n != 1 {
			t.Errorf("one that nobody delivered comes %d times", n)
		}
		if err := s.Alerted(t.Context(), Tenant, g.ID, again, day.Add(time.Hour)); err != nil { // of the first, which is another's now
			t.Error(err)
		}
		if got := read(t, s, g); !got.AlertAt.Equal(again.Add(time.Minute)) {
			t.Errorf("who was too late set it to %v", got.AlertAt)
		}
		if err := s.Alerted(t.Context(), Tenant, g.ID, again.Add(time.Minute), time.Time{}); err != nil {
			t.Error(err)
		}
		if n := mine(day.Add(100*time.Hour), day); n != 0 {
			t.Error("none is due, and one comes")
		}
	})

	t.Run("what is over is found", func(t *testing.T) {
		s := open(t)
		want := map[string]bool{}
		for state, is := range map[grant.State]bool{grant.Requested: true, grant.Approved: true, grant.Active: true, grant.Revoked: false, grant.Expired: false} {
			g := active(t, s, "u-1", func(g *grant.Grant) { g.State, g.Role = state, string(state) })
			want[g.ID] = is
		}
		used := active(t, s, "u-1", func(g *grant.Grant) { g.Role, g.Until, g.Uses = "used", day.Add(48*time.Hour), 3 })
		running := active(t, s, "u-1", func(g *grant.Grant) { g.Role, g.Until = "running", day.Add(48*time.Hour) })
		want[used.ID], want[running.ID] = true, false
		got, err := s.Over(t.Context(), day.Add(time.Hour), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for id, is := range want {
			if found := slices.ContainsFunc(got, func(g grant.Grant) bool { return g.ID == id && len(g.Steps) == 1 }); found != is {
				t.Errorf("%s found: %v, want %v", id, found, is)
			}
		}
	})

	t.Run("a cancelled context", func(t *testing.T) {
		s := open(t)
		g := active(t, s, "u-1", nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if live, err := s.Live(ctx, Tenant, "u-1", day); err == nil && len(live) != 1 {
			t.Errorf("neither an answer nor an error: %v", live)
		}
		if ok, err := s.Use(ctx, Tenant, g.ID, day); err != nil && ok {
			t.Error("a use beside an error")
		}
	})
}
