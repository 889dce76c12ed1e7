// SPDX-License-Identifier: Apache-2.0

package granttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
)

// TestDesk holds what a [grant.Desk] lets nobody do, on the stores that open
// returns, each empty or another test's no more.
func TestDesk(t *testing.T, open func(t *testing.T) grant.Store) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, open func(t *testing.T) grant.Store){
		"elevation": testElevation, "approvals": testApprovals, "nobody approves what is their own": testOwn, "the policy decides": testPolicy, "approvals that do not count any more": testLapsed,
		"requests that are refused": testRequests, "reuse and extension": testReuse, "uses": testUses, "an end before its time": testRevoke,
		"break-glass": testBreakGlass, "nothing holds up who breaks the glass": testNeverBlocked, "who may not break the glass": testMayNotBreak,
		"review": testReview, "the trail is down": testTrailDown, "a process that dies": testDies, "clocks": testClocks,
		"separation of duties": testDuties, "repair": testRepair, "another tenant": testTenants,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func testElevation(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	g := ok(b.Request(b.as(t, "u-asks", "front-desk"), clerk()))
	if g.State != grant.Requested || g.Needs != 1 || len(g.Steps) != 1 || !g.Steps[0].Owed.IsZero() {
		t.Errorf("requested: %+v", g)
	}
	b.isLive(t, "u-asks", g, false)
	b.pass(3 * time.Hour) // the request waits
	g = ok(b.Approve(b.as(t, "u-officer", "privacy-officer"), g.ID))
	if g.State != grant.Active || !g.From.Equal(b.now()) || !g.Until.Equal(b.now().Add(time.Hour)) {
		t.Errorf("the clock starts at the approval: %+v", g)
	}
	b.isLive(t, "u-asks", g, true)
	live, err := b.Live(t.Context(), somebody("u-asks"), b.now())
	if err != nil || len(live) != 1 || live[0].Role != "records-clerk" || live[0].BreakGlass || live[0].Patient != "p-1" || len(live[0].Purposes) != 2 || live[0].Use != nil {
		t.Errorf("Live = %+v, %v", live, err)
	}
	for _, p := range []access.Principal{{ID: "u-asks", Tenant: Tenant, Kind: access.Service}, {ID: "u-asks", Tenant: Tenant, Kind: access.Human, OnBehalf: "u-2", OnBehalfKind: access.Human}} {
		if live, err := b.Live(t.Context(), p, b.now()); err != nil || len(live) != 0 {
			t.Errorf("of %+v: %v, %v", p, live, err)
		}
	}
	b.pass(time.Hour - 1)
	b.isLive(t, "u-asks", g, true)
	b.pass(1)
	b.isLive(t, "u-asks", g, false)
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	g = ok(b.cfg.Store.Grant(t.Context(), Tenant, g.ID))
	if g.State != grant.Expired || !g.Ended.Equal(b.now()) {
		t.Errorf("when its time is over: %+v", g)
	}
	for _, want := range []struct {
		typ    audit.Type
		reason audit.Reason
		by     string
	}{{audit.GrantRequested, audit.ReasonIndividual, "u-asks"}, {audit.GrantApproved, audit.ReasonIndividual, "u-officer"}, {audit.GrantEnded, audit.ReasonExpired, ""}} {
		evs := b.recorded(want.typ, g.ID)
		if len(evs) != 1 || evs[0].Reason != want.reason || evs[0].Actor.ID != want.by || evs[0].User != "u-asks" || evs[0].Role != "records-clerk" ||
			evs[0].Actor.Tenant != Tenant || len(evs[0].Objects) != 1 || evs[0].Objects[0].Patient != "p-1" || evs[0].Code != access.AllowGrant {
			t.Errorf("%s: %+v", want.typ, evs)
		}
	}
	if got := b.Requestable(t.Context(), somebody("u-asks", "front-desk")); !slices.Equal(got, []string{"records-clerk"}) {
		t.Errorf("Requestable = %v", got)
	}
}

func testApprovals(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	ask := grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}
	g := ok(b.Request(b.as(t, "u-eng", "engineer"), ask))
	one := b.as(t, "u-sec-1", "security-officer")
	for range 3 { // to approve thrice counts once
		g = ok(b.Approve(one, g.ID))
	}
	if g.State != grant.Requested || len(b.recorded(audit.GrantApproved, g.ID)) != 1 {
		t.Errorf("one of two approvals: %+v", g)
	}
	b.isLive(t, "u-eng", g, false)
	pending, err := b.Pending(b.as(t, "u-sec-2", "security-officer"))
	if err != nil || len(pending) != 1 || pending[0].ID != g.ID {
		t.Errorf("Pending = %v, %v", pending, err)
	}
	if pending, err := b.Pending(one); err != nil || len(pending) != 0 {
		t.Errorf("Pending of who has approved = %v, %v", pending, err)
	}
	b.pass(time.Hour)
	// Many at once: one of them is the second, and the others come too late.
	var counted atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		ctx := b.as(t, fmt.Sprint("u-many-", i), "security-officer")
		wg.Go(func() {
			switch _, err := b.Approve(ctx, g.ID); {
			case err == nil:
				counted.Add(1)
			case !errors.Is(err, grant.ErrState):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	g = ok(b.cfg.Store.Grant(t.Context(), Tenant, g.ID))
	if counted.Load() != 1 || len(b.recorded(audit.GrantApproved, g.ID)) < 2 || len(g.Steps) != 3 || g.State != grant.Active || !g.From.Equal(b.now()) {
		t.Errorf("%d counted: %+v", counted.Load(), g)
	}
	b.isLive(t, "u-eng", g, true)

	g = ok(b.Request(b.as(t, "u-eng-2", "engineer"), ask))
	ok(b.Refuse(one, g.ID))
	for _, ctx := range []context.Context{one, b.as(t, "u-sec-2", "security-officer")} {
		if _, err := b.Approve(ctx, g.ID); !errors.Is(err, grant.ErrState) {
			t.Errorf("approving what was refused: %v", err)
		}
	}
	g = ok(b.Request(b.as(t, "u-eng-3", "engineer"), ask))
	b.pass(25 * time.Hour)
	if _, err := b.Approve(one, g.ID); !errors.Is(err, grant.ErrState) {
		t.Errorf("approving a request that has lapsed: %v", err)
	}
	b.isLive(t, "u-eng-3", g, false)
}

// testLapsed: what somebody approved, or asked for, who could not do so any more
// when the grant would come into force, does not count.
func testLapsed(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	ask := grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}
	one, two, three := b.as(t, "u-sec-1", "security-officer"), b.as(t, "u-sec-2", "security-officer"), b.as(t, "u-sec-3", "security-officer")
	g := ok(b.Request(b.as(t, "u-eng", "engineer"), ask))
	ok(b.Approve(one, g.ID))
	b.assign("u-sec-1") // terminated, or moved
	if g = ok(b.Approve(two, g.ID)); g.State != grant.Requested || len(b.recorded(audit.GrantApproved, g.ID)) != 2 {
		t.Errorf("by two, of whom one could not approve any more: %+v", g)
	}
	b.isLive(t, "u-eng", g, false)
	b.down = errors.New("down")
	if _, err := b.Approve(three, g.ID); !errors.Is(err, b.down) {
		t.Errorf("while nobody knows the roles: %v", err)
	}
	b.down = nil
	if g = ok(b.Approve(three, g.ID)); g.State != grant.Active {
		t.Errorf("by two who could: %+v", g)
	}
	b.isLive(t, "u-eng", g, true)
	var counts []int
	for _, ev := range b.recorded(audit.GrantApproved, g.ID) {
		if ev.Outcome == audit.Success {
			counts = append(counts, ev.Count)
		}
	}
	if !slices.Equal(counts, []int{1, 1, 2}) {
		t.Errorf("on record are %v approvals", counts)
	}

	// Of one approver nobody can say what they may.
	g = ok(b.Request(b.as(t, "u-eng-3", "engineer"), ask))
	ok(b.Approve(two, g.ID))
	b.unknown = map[string]error{"u-sec-2": errors.New("no such user")}
	if g = ok(b.Approve(three, g.ID)); g.State != grant.Requested {
		t.Errorf("by two, of whom one is unknown: %+v", g)
	}
	b.isLive(t, "u-eng-3", g, false)
	if g = ok(b.Approve(b.as(t, "u-sec-4", "security-officer"), g.ID)); g.State != grant.Active {
		t.Errorf("by two who could, and one who is unknown: %+v", g)
	}
	b.isLive(t, "u-eng-3", g, true)
	g = ok(b.Request(b.as(t, "u-eng-4", "engineer"), ask))
	ok(b.Approve(b.as(t, "u-sec-4", "security-officer"), g.ID))
	b.unknown["u-eng-4"] = errors.New("no such user")
	if g, err := b.Approve(three, g.ID); !errors.Is(err, b.unknown["u-eng-4"]) || g.State != grant.Requested {
		t.Errorf("for somebody who is unknown: %+v, %v", g, err)
	}
	b.unknown = nil

	g = ok(b.Request(b.as(t, "u-eng-2", "engineer"), ask))
	ok(b.Approve(two, g.ID))
	b.assign("u-eng-2", "clerk")
	if _, err := b.Approve(three, g.ID); !errors.Is(err, grant.ErrState) {
		t.Errorf("asked for by who could not ask any more: %v", err)
	}
	if evs := b.recorded(audit.GrantApproved, g.ID); len(evs) != 2 || evs[1].Outcome != audit.Failure {
		t.Errorf("on record: %+v", evs)
	}
	b.isLive(t, "u-eng-2", g, false)
}

func testOwn(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	refused := func(name string, ctx context.Context, id string, want error) {
		t.Helper()
		before := len(b.recorded(audit.GrantApproved, id))
		if _, err := b.Approve(ctx, id); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if evs := b.recorded(audit.GrantApproved, id); want == grant.ErrOwn && (len(evs) != before+1 || evs[before].Outcome != audit.Failure) {
			t.Errorf("%s is on record %d times", name, len(evs)-before)
		}
	}
	// The requester holds the approver's role too.
	g := ok(b.Request(b.as(t, "u-both", "engineer", "security-officer"), grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}))
	refused("oneself", b.as(t, "u-both", "engineer", "security-officer"), g.ID, grant.ErrOwn)

	// Who acts for somebody else does not approve, nor does a service.
	delegate := somebody("u-delegate", "security-officer")
	delegate.OnBehalf, delegate.OnBehalfKind = "u-both", access.Human
	refused("a delegate", access.With(t.Context(), delegate, access.Operations), g.ID, grant.ErrEligible)
	job := somebody("u-job", "security-officer")
	job.Kind = access.Service
	refused("a service", access.With(t.Context(), job, access.Operations), g.ID, grant.ErrEligible)
	refused("somebody without the role", b.as(t, "u-other", "engineer"), g.ID, grant.ErrEligible)
	refused("nobody", t.Context(), g.ID, access.ErrNoPrincipal)

	// The grant gives a role that may approve the next one of it: its holder may
	// not, however the role comes to be among the principal's.
	ok(b.Approve(b.as(t, "u-sec-1", "security-officer"), g.ID))
	ok(b.Approve(b.as(t, "u-sec-2", "security-officer"), g.ID))
	b.isLive(t, "u-both", g, true)
	next := ok(b.Request(b.as(t, "u-next", "engineer"), grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}))
	held := ok(b.Request(b.as(t, "u-holder", "engineer"), grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}))
	ok(b.Approve(b.as(t, "u-sec-1", "security-officer"), held.ID))
	ok(b.Approve(b.as(t, "u-sec-2", "security-officer"), held.ID))
	refused("by a role of a grant", b.saying(t, "u-holder", "engineer", "policy-admin"), next.ID, grant.ErrEligible)
	// Who holds it by the policy may.
	ok(b.Approve(b.as(t, "u-admin", "policy-admin"), next.ID))

}

// testPolicy: the policy decides who may do what at the desk, and not what a
// session still names.
func testPolicy(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	asks, officer, nurse := b.as(t, "u-asks", "front-desk"), b.as(t, "u-officer", "privacy-officer"), b.as(t, "u-nurse", "nurse")
	live := ok(b.Request(asks, clerk()))
	ok(b.Approve(officer, live.ID))
	g := ok(b.Request(b.as(t, "u-other", "front-desk"), clerk()))
	glass := ok(b.BreakGlass(nurse, grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	b.pass(5 * time.Hour)
	queue, err := b.Queue(officer)
	if pending, perr := b.Pending(officer); err != nil || perr != nil || len(queue) != 2 || len(pending) != 1 {
		t.Errorf("before: Queue = %v, %v, Pending = %v, %v", queue, err, pending, perr)
	}
	for _, id := range []string{"u-asks", "u-officer", "u-nurse"} {
		b.assign(id)
	}
	for name, err := range map[string]error{
		"requests":         second(b.Request(asks, clerk())),
		"approves":         second(b.Approve(officer, g.ID)),
		"refuses":          second(b.Refuse(officer, g.ID)),
		"revokes":          second(b.Revoke(officer, g.ID)),
		"reviews":          second(b.Review(officer, glass.ID, audit.ReasonExplained)),
		"breaks the glass": second(b.BreakGlass(nurse, grant.Glass{Patient: "p-2", Reason: audit.ReasonEmergency}, "right")),
	} {
		if !errors.Is(err, grant.ErrEligible) {
			t.Errorf("whose role was taken away %s: %v", name, err)
		}
	}
	queue, err = b.Queue(officer)
	if pending, perr := b.Pending(officer); err != nil || perr != nil || len(queue)+len(pending) != 0 {
		t.Errorf("after: Queue = %v, %v, Pending = %v, %v", queue, err, pending, perr)
	}
	if got := b.Requestable(t.Context(), somebody("u-asks", "front-desk")); len(got) != 0 {
		t.Errorf("Requestable = %v", got)
	}
	b.down = errors.New("down")
	if _, err := b.Request(b.as(t, "u-asks", "front-desk"), clerk()); !errors.Is(err, b.down) {
		t.Errorf("a request while nobody knows the roles: %v", err)
	}
}

func testRequests(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ctx := b.as(t, "u-asks", "front-desk")
	for name, tt := range map[string]struct {
		change func(*grant.Request)
		want   string
	}{
		"unknown role":        {func(r *grant.Request) { r.Role = "admin" }, "Role"},
		"no role":             {func(r *grant.Request) { r.Role = "" }, "Role"},
		"too long":            {func(r *grant.Request) { r.TTL = 9 * time.Hour }, "TTL"},
		"negative":            {func(r *grant.Request) { r.TTL = -1 }, "TTL"},
		"no reason":           {func(r *grant.Request) { r.Reason = "" }, "Reason"},
		"another reason":      {func(r *grant.Request) { r.Reason = audit.ReasonEmergency }, "Reason"},
		"another purpose":     {func(r *grant.Request) { r.Purposes = []access.Purpose{access.Research} }, "Purposes"},
		"emergency":           {func(r *grant.Request) { r.Purposes = []access.Purpose{access.BreakGlass} }, "Purposes"},
		"a purpose twice":     {func(r *grant.Request) { r.Purposes = []access.Purpose{access.Payment, access.Payment} }, "Purposes"},
		"negative uses":       {func(r *grant.Request) { r.MaxUses = -1 }, "MaxUses"},
		"a type, no record":   {func(r *grant.Request) { r.Type = "note" }, "Record"},
		"a record, no type":   {func(r *grant.Request) { r.Record = "n-1" }, "Record"},
		"a type that is none": {func(r *grant.Request) { r.Type, r.Record = "a note", "n-1" }, "Type"},
		"a name as patient":   {func(r *grant.Request) { r.Patient = "Jane Roe" }, "Patient"},
		"a name as ticket":    {func(r *grant.Request) { r.Ticket = "for Jane" }, "Ticket"},
		"a number as record":  {func(r *grant.Request) { r.Type, r.Record = "note", "078-05-1120" }, "Record"},
	} {
		r := clerk()
		tt.change(&r)
		_, err := b.Request(ctx, r)
		if !errors.Is(err, grant.ErrRequest) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "Jane") || strings.Contains(err.Error(), "1120") {
			t.Errorf("%s: the error holds the value: %v", name, err)
		}
	}
	for name, ctx := range map[string]context.Context{"without the role": b.as(t, "u-2", "physician"), "without any": b.as(t, "u-3")} {
		if _, err := b.Request(ctx, clerk()); !errors.Is(err, grant.ErrEligible) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if evs := b.recorded(audit.GrantRequested, ""); len(evs) != 2 || evs[0].Outcome != audit.Failure || evs[0].Reason != audit.ReasonPolicy {
		t.Errorf("refusals on record: %+v", evs)
	}
	if l, err := b.cfg.Store.List(t.Context(), grant.Query{Tenant: Tenant}); err != nil || len(l) != 0 {
		t.Errorf("stored: %v, %v", l, err)
	}
}

func testReuse(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	asks, officer := b.as(t, "u-asks", "front-desk"), b.as(t, "u-officer", "privacy-officer")
	g := ok(b.Request(asks, clerk()))
	if again := ok(b.Request(asks, clerk())); again.ID != g.ID {
		t.Error("a second request of one scope")
	}
	ok(b.Approve(officer, g.ID))
	if again := ok(b.Request(asks, clerk())); again.ID != g.ID || again.State != grant.Active {
		t.Error("a second grant beside a live one")
	}
	if n := len(b.recorded(audit.GrantRequested, "")); n != 1 {
		t.Errorf("%d requests on record, want 1", n)
	}
	if _, err := b.Extend(b.as(t, "u-2", "front-desk"), g.ID, time.Hour); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("somebody else extends it: %v", err)
	}
	b.pass(30 * time.Minute)
	more := ok(b.Extend(asks, g.ID, 2*time.Hour))
	if more.ID == g.ID || more.State != grant.Requested || more.Extends != g.ID {
		t.Errorf("an extension is a request: %+v", more)
	}
	if again := ok(b.Extend(asks, g.ID, 2*time.Hour)); again.ID != more.ID {
		t.Error("a second extension of one grant")
	}
	if _, err := b.Extend(asks, g.ID, 9*time.Hour); !errors.Is(err, grant.ErrRequest) {
		t.Errorf("an extension past the longest: %v", err)
	}
	if got := ok(b.cfg.Store.Grant(t.Context(), Tenant, g.ID)); !got.Until.Equal(g.Created.Add(time.Hour)) {
		t.Error("the request alone moved the end")
	}
	b.pass(20 * time.Minute)
	more = ok(b.Approve(officer, more.ID))
	if !more.Until.Equal(b.now().Add(2 * time.Hour)) {
		t.Errorf("it runs until %v", more.Until)
	}
	b.pass(20 * time.Minute)
	b.isLive(t, "u-asks", g, false)
	b.isLive(t, "u-asks", more, true)
	if again := ok(b.Request(asks, clerk())); again.ID != more.ID {
		t.Error("a request beside a live extension")
	}
	if _, err := b.Extend(asks, g.ID, time.Hour); !errors.Is(err, grant.ErrState) {
		t.Errorf("an extension of what is over: %v", err)
	}
	b.pass(2 * time.Hour)
	if again := ok(b.Request(asks, clerk())); again.ID == g.ID || again.ID == more.ID || again.State != grant.Requested {
		t.Errorf("once all are over: %+v", again)
	}
}

func testUses(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	g := ok(b.Request(b.as(t, "u-eng", "engineer"), grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}))
	ok(b.Approve(b.as(t, "u-sec-1", "security-officer"), g.ID))
	ok(b.Approve(b.as(t, "u-sec-2", "security-officer"), g.ID))
	use := func(ctx context.Context) error {
		live, err := b.Live(ctx, somebody("u-eng"), b.now())
		if err != nil || len(live) != 1 || live[0].Use == nil {
			return fmt.Errorf("Live = %v, %w", live, err)
		}
		return live[0].Use(ctx)
	}
	request := b.as(t, "u-eng", "engineer")
	for range 5 { // one request is one use
		if err := use(request); err != nil {
			t.Error(err)
		}
	}
	if err := use(t.Context()); err == nil {
		t.Error("used by nobody")
	}
	live, err := b.Live(t.Context(), somebody("u-eng"), b.now())
	if err != nil || len(live) != 1 {
		t.Fatal(live, err)
	}
	var used atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		ctx := b.as(t, "u-eng", "engineer")
		wg.Go(func() {
			if live[0].Use(ctx) == nil {
				used.Add(1)
			}
		})
	}
	wg.Wait()
	if used.Load() != 1 { // of two, one was used before
		t.Errorf("%d requests used it, want 1", used.Load())
	}
	b.isLive(t, "u-eng", g, false)
	if err := use(request); err != nil {
		t.Errorf("the request that had used it before: %v", err)
	}
	if err := use(b.as(t, "u-eng", "engineer")); err == nil {
		t.Error("another request used it")
	}
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if err := use(request); err != nil {
		t.Errorf("the request that had used it before, after the sweep: %v", err)
	}
	evs := b.recorded(audit.GrantEnded, g.ID)
	if got := ok(b.cfg.Store.Grant(t.Context(), Tenant, g.ID)); got.State != grant.UsedUp || len(evs) != 1 || evs[0].Reason != audit.ReasonLimit {
		t.Errorf("used up: %+v, %+v", got, evs)
	}
	b.pass(g.TTL)
	if err := use(request); err == nil {
		t.Error("the request that had used it before goes on after the grant's time")
	}
}

func testRevoke(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	asks, officer := b.as(t, "u-asks", "front-desk"), b.as(t, "u-officer", "privacy-officer")
	for name, by := range map[string]context.Context{"the holder": asks, "an approver": officer, "a reviewer": b.as(t, "u-audit", "auditor")} {
		g := ok(b.Request(asks, clerk()))
		ok(b.Approve(officer, g.ID))
		if _, err := b.Revoke(b.as(t, "u-3", "physician"), g.ID); !errors.Is(err, grant.ErrEligible) {
			t.Errorf("by somebody else: %v", err)
		}
		b.isLive(t, "u-asks", g, true)
		g = ok(b.Revoke(by, g.ID))
		if g.State != grant.Revoked {
			t.Errorf("by %s: %+v", name, g)
		}
		b.isLive(t, "u-asks", g, false)
		ok(b.Revoke(by, g.ID)) // again does nothing
		if _, err := b.Approve(b.as(t, "u-officer-2", "privacy-officer"), g.ID); !errors.Is(err, grant.ErrState) {
			t.Errorf("approving what was revoked: %v", err)
		}
		var ended int
		for _, ev := range b.recorded(audit.GrantEnded, g.ID) {
			if ev.Outcome == audit.Success && ev.Reason == audit.ReasonRevoked {
				ended++
			}
		}
		if ended != 1 {
			t.Errorf("by %s: %d ends on record, want 1", name, ended)
		}
	}
	// Everything of somebody, and nothing of anybody else.
	mine := ok(b.Request(asks, clerk()))
	other := ok(b.Request(b.as(t, "u-other", "front-desk"), clerk()))
	glass := ok(b.BreakGlass(b.as(t, "u-asks", "nurse"), grant.Glass{Patient: "p-9", Reason: audit.ReasonEmergency}, "right"))
	if n, err := b.RevokeAll(officer, Tenant, "u-asks"); n != 2 || err != nil {
		t.Errorf("RevokeAll = %d, %v", n, err)
	}
	for id, want := range map[string]grant.State{mine.ID: grant.Revoked, glass.ID: grant.Revoked, other.ID: grant.Requested} {
		if g := ok(b.cfg.Store.Grant(t.Context(), Tenant, id)); g.State != want {
			t.Errorf("%s is %s, want %s", id, g.State, want)
		}
	}
	if got := b.live(t, "u-asks"); len(got) != 0 {
		t.Errorf("still in force: %v", got)
	}
}

func testBreakGlass(t *testing.T, open func(t *testing.T) grant.Store) {
	store := open(t)
	b := newBench(t, store, nil)
	ok := must[grant.Grant](t)
	nurse := b.as(t, "u-nurse", "nurse")
	g := ok(b.BreakGlass(nurse, grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	if g.State != grant.Active || g.Kind != grant.BreakGlass || g.Role != "nurse" || g.Patient != "p-1" || !slices.Equal(g.Purposes, []access.Purpose{access.BreakGlass}) ||
		!g.Until.Equal(b.now().Add(4*time.Hour)) || !g.ReviewBy.Equal(b.now().Add(72*time.Hour)) {
		t.Errorf("broken: %+v", g)
	}
	evs := b.recorded(audit.GlassBroken, g.ID)
	if len(evs) != 1 || evs[0].Actor.ID != "u-nurse" || evs[0].Purpose != access.BreakGlass || evs[0].Reason != audit.ReasonEmergency || evs[0].Code != access.AllowBreakGlass ||
		len(evs[0].Objects) != 1 || evs[0].Objects[0].Patient != "p-1" || !evs[0].Until.Equal(g.Until) {
		t.Errorf("on record: %+v", evs)
	}
	// It is in force on another node at once.
	other := newBench(t, store, nil)
	live, err := other.Live(t.Context(), somebody("u-nurse"), b.now())
	if err != nil || len(live) != 1 || !live[0].BreakGlass || live[0].Role != "" || live[0].Patient != "p-1" || live[0].ID != g.ID {
		t.Errorf("on another node: %+v, %v", live, err)
	}
	once := somebody("u-nurse")
	once.Assurance = 1
	if live, err := other.Live(t.Context(), once, b.now()); err != nil || len(live) != 0 {
		t.Errorf("in a session with one factor: %+v, %v", live, err)
	}
	// Again soon it is the same; later it is another.
	b.pass(time.Hour)
	if again := ok(b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right")); again.ID != g.ID {
		t.Error("a second grant beside a live one")
	}
	if p := ok(b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-2", Reason: audit.ReasonTransfer, Purpose: access.EmergencyTreatment, TTL: time.Hour}, "right")); p.ID == g.ID || !p.Until.Equal(b.now().Add(time.Hour)) || p.Purposes[0] != access.EmergencyTreatment {
		t.Errorf("another patient: %+v", p)
	}
	b.pass(90 * time.Minute)
	second := ok(b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	if second.ID == g.ID || !second.Until.Equal(b.now().Add(4*time.Hour)) {
		t.Errorf("when less than half of its time is left: %+v", second)
	}
	if _, err := b.Extend(b.as(t, "u-nurse", "nurse"), second.ID, time.Hour); !errors.Is(err, grant.ErrState) {
		t.Errorf("a broken glass is extended: %v", err)
	}
	if _, err := b.Approve(b.as(t, "u-officer", "privacy-officer"), second.ID); !errors.Is(err, grant.ErrState) {
		t.Errorf("a broken glass is approved: %v", err)
	}
	// Many at once for one patient are one.
	var ids sync.Map
	var wg sync.WaitGroup
	for range 8 {
		ctx := b.as(t, "u-nurse", "nurse")
		wg.Go(func() {
			g, err := b.BreakGlass(ctx, grant.Glass{Patient: "p-3", Reason: audit.ReasonEmergency}, "right")
			if err != nil {
				t.Error(err)
			}
			ids.Store(g.ID, true)
		})
	}
	wg.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d grants for one patient", n)
	}
}

func testNeverBlocked(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), func(cfg *grant.Config) {
		cfg.Duties = func(context.Context, string, string, []string) error { return errors.New("excluded") }
	})
	ok := must[grant.Grant](t)
	down := errors.New("the pager is down")
	b.fail(nil, down)
	nurse, clerk := b.as(t, "u-nurse", "nurse"), b.as(t, "u-clerk", "clerk")
	b.down = errors.New("the directory is down")
	g := ok(b.BreakGlass(nurse, grant.Glass{Patient: "p-1", Reason: audit.ReasonDisaster}, "right"))
	if g.Role != "nurse" || g.ReviewBy.IsZero() {
		t.Errorf("while nobody knows the roles: %+v", g)
	}
	if _, err := b.BreakGlass(nurse, grant.Glass{Patient: "p-2", Reason: audit.ReasonDisaster}, "wrong"); !errors.Is(err, grant.ErrFactor) {
		t.Errorf("with a wrong password, while nobody knows the roles: %v", err)
	}
	if _, err := b.BreakGlass(clerk, grant.Glass{Patient: "p-1", Reason: audit.ReasonDisaster}, "right"); !errors.Is(err, grant.ErrEligible) {
		t.Errorf("in no role for it, while nobody knows the roles: %v", err)
	}
	b.down = nil
	b.isLive(t, "u-nurse", g, true)
	for range 3 {
		if _, err := b.Sweep(t.Context()); !errors.Is(err, down) {
			t.Errorf("a failed alert: %v", err)
		}
		b.isLive(t, "u-nurse", g, true)
		b.pass(time.Minute)
	}
	b.fail(nil, nil)
	for range 3 {
		if _, err := b.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if told := b.told(g.ID); len(told) != 1 || told[0].Overdue || len(told[0].Grant.Steps) == 0 {
		t.Errorf("told %d times: %+v", len(told), told)
	}
	// Until somebody has reviewed it, they are told again each day.
	b.pass(71 * time.Hour)
	for day, want := range []int{1, 2, 3, 4} {
		for range 2 {
			if _, err := b.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if told := b.told(g.ID); len(told) != want || want > 1 && !told[want-1].Overdue {
			t.Errorf("day %d: told %d times, want %d", day, len(told), want)
		}
		b.pass(24 * time.Hour)
	}
	ok(b.Review(b.as(t, "u-officer", "privacy-officer"), g.ID, audit.ReasonExplained))
	b.pass(200 * time.Hour)
	if _, err := b.Sweep(t.Context()); err != nil || len(b.told(g.ID)) != 4 {
		t.Errorf("told %d times once it is reviewed, %v", len(b.told(g.ID)), err)
	}
}

func testMayNotBreak(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	good := grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}
	b.assign("u-nurse", "nurse")
	as := func(change func(*access.Principal)) context.Context {
		p := somebody("u-nurse", "nurse")
		p.AuthTime = b.now()
		change(&p)
		return access.With(t.Context(), p, access.Treatment)
	}
	who := func(change func(*access.Principal)) func() (context.Context, grant.Glass, string) {
		return func() (context.Context, grant.Glass, string) { return as(change), good, "right" }
	}
	what := func(change func(*grant.Glass)) func() (context.Context, grant.Glass, string) {
		return func() (context.Context, grant.Glass, string) {
			g := good
			change(&g)
			return as(func(*access.Principal) {}), g, "right"
		}
	}
	for name, tt := range map[string]struct {
		call   func() (context.Context, grant.Glass, string)
		want   error
		reason audit.Reason // on record; empty where there is no event
	}{
		"nobody":               {func() (context.Context, grant.Glass, string) { return t.Context(), good, "right" }, access.ErrNoPrincipal, ""},
		"a service":            {who(func(p *access.Principal) { p.Kind = access.Service }), grant.ErrEligible, audit.ReasonPolicy},
		"a patient":            {who(func(p *access.Principal) { p.Kind = access.Patient }), grant.ErrEligible, audit.ReasonPolicy},
		"for somebody else":    {who(func(p *access.Principal) { p.OnBehalf, p.OnBehalfKind = "u-2", access.Human }), grant.ErrEligible, audit.ReasonPolicy},
		"without the role":     {who(func(p *access.Principal) { p.Roles = []string{"billing"} }), grant.ErrEligible, audit.ReasonPolicy},
		"without a factor":     {who(func(p *access.Principal) { p.Assurance = 1 }), grant.ErrFactor, audit.ReasonTOTP},
		"an old factor":        {who(func(p *access.Principal) { p.AuthTime = b.now().Add(-12*time.Hour - 1) }), grant.ErrFactor, audit.ReasonTOTP},
		"a factor of tomorrow": {who(func(p *access.Principal) { p.AuthTime = b.now().Add(24 * time.Hour) }), grant.ErrFactor, audit.ReasonTOTP},
		"never authenticated":  {who(func(p *access.Principal) { p.AuthTime = time.Time{} }), grant.ErrFactor, audit.ReasonTOTP},
		"without a session":    {who(func(p *access.Principal) { p.Session = "" }), grant.ErrFactor, audit.ReasonTOTP},
		"the wrong password": {func() (context.Context, grant.Glass, string) {
			return as(func(*access.Principal) {}), good, "wrong secret"
		}, grant.ErrFactor, audit.ReasonPassword},
		"no patient":            {what(func(g *grant.Glass) { g.Patient = "" }), grant.ErrRequest, ""},
		"a name":                {what(func(g *grant.Glass) { g.Patient = "Jane Roe" }), grant.ErrRequest, ""},
		"no reason":             {what(func(g *grant.Glass) { g.Reason = "" }), grant.ErrRequest, ""},
		"a reason of elevation": {what(func(g *grant.Glass) { g.Reason = audit.ReasonMigration }), grant.ErrRequest, ""},
		"for treatment":         {what(func(g *grant.Glass) { g.Purpose = access.Treatment }), grant.ErrRequest, ""},
		"too long":              {what(func(g *grant.Glass) { g.TTL = 5 * time.Hour }), grant.ErrRequest, ""},
	} {
		before := len(b.recorded(audit.GlassBroken, ""))
		ctx, g, secret := tt.call()
		got, err := b.BreakGlass(ctx, g, secret)
		if !errors.Is(err, tt.want) || got.ID != "" {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "Jane")) {
			t.Errorf("%s: the error holds what was typed: %v", name, err)
		}
		evs := b.recorded(audit.GlassBroken, "")[before:]
		if want := tt.reason != ""; len(evs) > 0 != want || want && (evs[0].Outcome != audit.Failure || evs[0].Reason != tt.reason) {
			t.Errorf("%s: on record: %+v", name, evs)
		}
	}
	if got := b.live(t, "u-nurse"); len(got) != 0 {
		t.Errorf("in force: %v", got)
	}
	// A role by elevation does not break the glass.
	c := newBench(t, open(t), func(cfg *grant.Config) {
		cfg.Elevations[0].Role = "nurse"
	})
	r := clerk()
	r.Role = "nurse"
	ok := must[grant.Grant](t)
	ok(c.Approve(c.as(t, "u-officer", "privacy-officer"), ok(c.Request(c.as(t, "u-temp", "front-desk"), r)).ID))
	if _, err := c.BreakGlass(c.saying(t, "u-temp", "front-desk", "nurse"), good, "right"); !errors.Is(err, grant.ErrEligible) {
		t.Errorf("by a role of a grant: %v", err)
	}
	none := newBench(t, open(t), func(cfg *grant.Config) { cfg.Emergency = nil })
	if _, err := none.BreakGlass(none.as(t, "u-nurse", "nurse"), good, "right"); !errors.Is(err, grant.ErrEligible) {
		t.Errorf("where there is no emergency access: %v", err)
	}
}

func testReview(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	officer := b.as(t, "u-officer", "privacy-officer")
	glass := ok(b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	b.pass(time.Minute)
	self := ok(b.BreakGlass(b.as(t, "u-officer", "privacy-officer", "nurse"), grant.Glass{Patient: "p-2", Reason: audit.ReasonEmergency}, "right"))
	queue, err := b.Queue(officer)
	if err != nil || len(queue) != 2 || queue[0].ID != glass.ID || queue[1].ID != self.ID || queue[0].Overdue(b.now()) {
		t.Errorf("Queue = %v, %v", queue, err)
	}
	if q, err := b.Queue(b.as(t, "u-audit", "auditor")); err != nil || len(q) != 0 {
		t.Errorf("Queue of who reviews other things = %v, %v", q, err)
	}
	if _, err := b.Review(officer, glass.ID, audit.ReasonExplained); !errors.Is(err, grant.ErrState) {
		t.Errorf("while it is in force: %v", err)
	}
	b.pass(4*time.Hour + time.Minute)
	for name, tt := range map[string]struct {
		ctx     context.Context
		id      string
		finding audit.Reason
		want    error
	}{
		"one's own":         {officer, self.ID, audit.ReasonExplained, grant.ErrOwn},
		"without the role":  {b.as(t, "u-audit", "auditor"), glass.ID, audit.ReasonExplained, grant.ErrEligible},
		"no finding":        {officer, glass.ID, "", grant.ErrRequest},
		"another finding":   {officer, glass.ID, audit.ReasonPassword, grant.ErrRequest},
		"what is not there": {officer, "0190163d-8694-739b-aea5-966c26f8ad90", audit.ReasonExplained, grant.ErrNotFound},
	} {
		if _, err := b.Review(tt.ctx, tt.id, tt.finding); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	g := ok(b.Review(officer, glass.ID, audit.ReasonEscalated))
	if !g.Reviewed.IsZero() {
		t.Error("what somebody else decides is reviewed")
	}
	b.pass(72 * time.Hour)
	if queue, err = b.Queue(officer); err != nil || len(queue) != 2 || !queue[0].Overdue(b.now()) {
		t.Errorf("overdue: %v, %v", queue, err)
	}
	g = ok(b.Review(officer, glass.ID, audit.ReasonViolation))
	if g.Finding != audit.ReasonViolation || !g.Reviewed.Equal(b.now()) || g.Overdue(b.now()) {
		t.Errorf("reviewed: %+v", g)
	}
	if _, err := b.Review(b.as(t, "u-officer-2", "privacy-officer"), glass.ID, audit.ReasonExplained); !errors.Is(err, grant.ErrState) {
		t.Errorf("a second review: %v", err)
	}
	var found bool
	for _, ev := range b.recorded(audit.GrantReviewed, glass.ID) {
		if ev.Reason == audit.ReasonViolation && ev.Outcome == audit.Success {
			found = ev.Since.Equal(glass.From) && ev.Until.Equal(glass.Until) && ev.User == "u-nurse" && ev.Actor.ID == "u-officer"
		}
	}
	if !found {
		t.Errorf("on record: %+v", b.recorded(audit.GrantReviewed, glass.ID))
	}
	// Nor who approved it.
	e := ok(b.Request(b.as(t, "u-asks", "front-desk"), clerk()))
	ok(b.Approve(officer, e.ID))
	b.pass(2 * time.Hour)
	if _, err := b.Review(officer, e.ID, audit.ReasonExplained); !errors.Is(err, grant.ErrOwn) {
		t.Errorf("by who approved it: %v", err)
	}
	ok(b.Review(b.as(t, "u-audit", "auditor"), e.ID, audit.ReasonExplained))
}

func testTrailDown(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	asks, officer := b.as(t, "u-asks", "front-desk"), b.as(t, "u-officer", "privacy-officer")
	g := ok(b.Request(asks, clerk()))
	b.fail(audit.ErrUnavailable, nil)
	if _, err := b.Approve(officer, g.ID); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Approve = %v", err)
	}
	b.isLive(t, "u-asks", g, false) // no record, no right
	glass, err := b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right")
	if !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("BreakGlass = %v", err)
	}
	b.isLive(t, "u-nurse", glass, false)
	b.fail(nil, nil)
	if again := ok(b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right")); again.ID != glass.ID || again.State != grant.Active {
		t.Errorf("again: %+v", again)
	}
	if got := ok(b.Approve(officer, g.ID)); got.State != grant.Active {
		t.Errorf("approved again: %+v", got)
	}
	b.isLive(t, "u-asks", g, true)
	b.fail(audit.ErrUnavailable, nil)
	if _, err := b.Revoke(officer, g.ID); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Revoke = %v", err)
	}
	b.isLive(t, "u-asks", g, false) // what is taken back is gone all the same
	b.fail(nil, nil)
	b.pass(2 * time.Minute)
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if evs := b.recorded(audit.GrantEnded, g.ID); len(evs) != 1 || evs[0].Actor.ID != "u-officer" || evs[0].Actor.Session != "s-u-officer" || len(evs[0].Actor.Roles) != 1 {
		t.Errorf("recorded by the sweep: %+v", evs)
	}
}

// testDies stops a desk before each thing that it does with its store or its
// trail, and lets another go on.
func testDies(t *testing.T, open func(t *testing.T) grant.Store) {
	store := open(t)
	ok := must[grant.Grant](t)
	died := errors.New("died")
	for n := range 12 {
		b := newBench(t, store, nil)
		patient := fmt.Sprint("p-", n)
		dying := &dyingStore{Store: store, left: n, err: died}
		first := newBench(t, dying, func(cfg *grant.Config) { cfg.Audit = &dyingTrail{b, dying} })
		_, err := first.BreakGlass(first.as(t, "u-nurse", "nurse"), grant.Glass{Patient: patient, Reason: audit.ReasonEmergency}, "right")
		done := err == nil
		if err != nil && !errors.Is(err, died) {
			t.Errorf("after %d: %v", n, err)
		}
		all, err := store.List(t.Context(), grant.Query{Tenant: Tenant, Holder: "u-nurse"})
		if err != nil {
			t.Fatal(err)
		}
		all = slices.DeleteFunc(all, func(g grant.Grant) bool { return g.Patient != patient })
		if len(all) > 1 || done && len(all) == 0 {
			t.Fatalf("after %d: %d grants", n, len(all))
		}
		if len(all) == 0 {
			continue
		}
		g := all[0]
		recorded := len(b.recorded(audit.GlassBroken, g.ID))
		if g.State == grant.Active && recorded == 0 {
			t.Errorf("after %d: in force, and not on record", n)
		}
		// Another node goes on, by itself.
		b.pass(2 * time.Minute)
		for range 2 {
			if _, err := b.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		}
		g = ok(store.Grant(t.Context(), Tenant, g.ID))
		if recorded = len(b.recorded(audit.GlassBroken, g.ID)); g.State != grant.Active || recorded < 1 || recorded > 2 || len(b.told(g.ID)) < 1 {
			t.Errorf("after %d, and a sweep of another node: %s, on record %d times, told %d times", n, g.State, recorded, len(b.told(g.ID)))
		}
		if ev := b.recorded(audit.GlassBroken, g.ID)[0]; ev.Actor.ID != "u-nurse" {
			t.Errorf("after %d: recorded as by %q", n, ev.Actor.ID)
		}
		if done && n > 0 {
			return // the longer ones are all alike
		}
	}
	t.Error("it never came to its end")
}

// A dyingStore is that of a process that dies after left calls.
type dyingStore struct {
	grant.Store
	mu   sync.Mutex
	left int
	err  error
}

func (s *dyingStore) live() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 {
		return s.err
	}
	return nil
}

func (s *dyingStore) Create(ctx context.Context, g grant.Grant, keep func(grant.Grant) bool) (grant.Grant, bool, error) {
	if err := s.live(); err != nil {
		return g, false, err
	}
	g, ok, err := s.Store.Create(ctx, g, keep)
	if late := s.live(); late != nil { // it was done, and nobody heard
		return g, false, late
	}
	return g, ok, err
}

func (s *dyingStore) Grant(ctx context.Context, tenant, id string) (grant.Grant, error) {
	if err := s.live(); err != nil {
		return grant.Grant{}, err
	}
	return s.Store.Grant(ctx, tenant, id)
}

func (s *dyingStore) Settle(ctx context.Context, tenant, id string, n int) error {
	if err := s.live(); err != nil {
		return err
	}
	return s.Store.Settle(ctx, tenant, id, n)
}

type dyingTrail struct {
	to *bench
	of *dyingStore
}

func (d *dyingTrail) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	if err := d.of.live(); err != nil {
		return audit.Receipt{}, err
	}
	r, err := d.to.Record(ctx, ev)
	if late := d.of.live(); late != nil {
		return audit.Receipt{}, late
	}
	return r, err
}

func testClocks(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	nurse := func() context.Context { return b.as(t, "u-nurse", "nurse") }
	g := ok(b.BreakGlass(nurse(), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	b.pass(-30 * time.Second) // another node's clock is a little behind
	b.isLive(t, "u-nurse", g, true)
	b.pass(-2 * time.Hour) // set back: to before it began
	b.isLive(t, "u-nurse", g, false)
	again := ok(b.BreakGlass(nurse(), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	if again.ID == g.ID {
		t.Error("the glass cannot be broken while the clock is behind")
	}
	b.isLive(t, "u-nurse", again, true)
	b.pass(24 * time.Hour) // set forward
	b.isLive(t, "u-nurse", again, false)
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	b.pass(-24 * time.Hour) // and back again: what has ended stays so
	b.isLive(t, "u-nurse", again, false)
	if got := ok(b.cfg.Store.Grant(t.Context(), Tenant, again.ID)); got.State != grant.Expired {
		t.Errorf("it is %s", got.State)
	}
	if third := ok(b.BreakGlass(nurse(), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right")); third.ID == again.ID || third.State != grant.Active {
		t.Errorf("and once more: %+v", third)
	}
}

func testDuties(t *testing.T, open func(t *testing.T) grant.Store) {
	excluded := errors.New("excluded")
	b := newBench(t, open(t), func(cfg *grant.Config) {
		cfg.Elevations[1].Approvals, cfg.Elevations[1].Requesters = 1, []string{"front-desk"}
		cfg.Duties = func(_ context.Context, tenant, holder string, byGrant []string) error {
			if tenant == Tenant && slices.Contains(byGrant, "records-clerk") && slices.Contains(byGrant, "policy-admin") {
				return excluded
			}
			return nil
		}
	})
	ok := must[grant.Grant](t)
	asks := b.as(t, "u-asks", "front-desk")
	// Both are asked for while neither is in force, and approved at once.
	one := ok(b.Request(asks, clerk()))
	two := ok(b.Request(asks, grant.Request{Role: "policy-admin", Reason: audit.ReasonMigration}))
	officer, admin := b.as(t, "u-officer", "privacy-officer"), b.as(t, "u-sec", "security-officer")
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { _, errs[0] = b.Approve(officer, one.ID) })
	wg.Go(func() { _, errs[1] = b.Approve(admin, two.ID) })
	wg.Wait()
	if live := b.live(t, "u-asks"); len(live) != 1 || (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), excluded) {
		t.Errorf("in force: %v, %v", live, errs)
	}
	var refused int
	for _, ev := range b.recorded(audit.GrantApproved, "") {
		if ev.Outcome == audit.Failure && ev.Reason == audit.ReasonDuty {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d refusals on record, want 1", refused)
	}
}

func testRepair(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	eng := b.as(t, "u-eng", "engineer")
	r := grant.Request{Role: "repairer", Reason: audit.ReasonRepair, Ticket: "t-4711", Type: "note", Record: "n-1"}
	for name, change := range map[string]func(*grant.Request){
		"without a ticket": func(r *grant.Request) { r.Ticket = "" },
		"without a record": func(r *grant.Request) { r.Type, r.Record = "", "" },
		"for two hours":    func(r *grant.Request) { r.TTL = 2 * time.Hour },
		"for treatment":    func(r *grant.Request) { r.Purposes = []access.Purpose{access.Treatment} },
	} {
		bad := r
		change(&bad)
		if _, err := b.Request(eng, bad); !errors.Is(err, grant.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := ok(b.Request(eng, r))
	ok(b.Approve(b.as(t, "u-sec", "security-officer"), g.ID))
	live, err := b.Live(t.Context(), somebody("u-eng"), b.now())
	if err != nil || len(live) != 1 || live[0].Type != "note" || live[0].Record != "n-1" || live[0].Role != "repairer" || !slices.Equal(live[0].Purposes, []access.Purpose{access.SystemAdmin}) {
		t.Errorf("Live = %+v, %v", live, err)
	}
	if evs := b.recorded(audit.GrantApproved, g.ID); len(evs) != 1 || len(evs[0].Objects) != 1 || evs[0].Objects[0].Record != "n-1" || evs[0].Objects[0].Type != "note" {
		t.Errorf("on record: %+v", evs)
	}
}

func testTenants(t *testing.T, open func(t *testing.T) grant.Store) {
	b := newBench(t, open(t), nil)
	ok := must[grant.Grant](t)
	g := ok(b.Request(b.as(t, "u-asks", "front-desk"), clerk()))
	glass := ok(b.BreakGlass(b.as(t, "u-nurse", "nurse"), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "right"))
	b.assign("u-officer", "privacy-officer", "auditor")
	p := somebody("u-officer", "privacy-officer", "auditor")
	p.Tenant = "t-other"
	other := access.With(t.Context(), p, access.Operations)
	b.pass(5 * time.Hour)
	for name, err := range map[string]error{
		"Approve": second(b.Approve(other, g.ID)), "Refuse": second(b.Refuse(other, g.ID)), "Revoke": second(b.Revoke(other, g.ID)),
		"Review": second(b.Review(other, glass.ID, audit.ReasonExplained)), "Extend": second(b.Extend(other, g.ID, time.Hour)),
	} {
		if !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, list := range map[string]func(context.Context) ([]grant.Grant, error){"Pending": b.Pending, "Queue": b.Queue} {
		if l, err := list(other); err != nil || len(l) != 0 {
			t.Errorf("%s = %v, %v", name, l, err)
		}
	}
	if n, err := b.RevokeAll(other, "t-other", "u-asks"); n != 0 || err != nil {
		t.Errorf("RevokeAll = %d, %v", n, err)
	}
}

func second[T any](_ T, err error) error { return err }
