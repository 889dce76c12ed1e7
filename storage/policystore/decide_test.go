// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
)

var _ pdp.Policy = (*policystore.Store)(nil)

// TestStoreIsAnAuthorizer: with the roles of principals, as the suite has them.
func TestStoreIsAnAuthorizer(t *testing.T) {
	t.Parallel()
	accesstest.TestAuthorizer(t, func(t *testing.T) access.Authorizer {
		w := newWorld(t, sqliteFile(t), func(c *policystore.Config) { c.PrincipalRoles = true })
		if _, err := w.Init(job(t), policystore.Rows{Rules: rbac.StarterRules()}, "deploy-1"); err != nil {
			t.Fatal(err)
		}
		return w.Store
	}, accesstest.Rule{Role: "physician", Type: "patient", Action: access.Read, Purpose: access.Treatment})
}

// all are the ways to ask a store.
func all(t *testing.T, s *policystore.Store, ctx context.Context) map[string]access.Code {
	t.Helper()
	p, _ := access.PrincipalFrom(ctx)
	_, purpose, _ := access.Who(ctx)
	out := map[string]access.Code{"Check": code(t, s, ctx, access.Read, "patient")}
	_, err := s.Filter(ctx, access.Read, "patient")
	var denied *access.DeniedError
	switch {
	case errors.As(err, &denied):
		out["Filter"] = denied.Code
	case err == nil:
		out["Filter"] = access.AllowRule
	default:
		out["Filter"] = access.Code(err.Error())
	}
	v, err := s.Rule(ctx, p, access.Read, "patient", purpose)
	out["Rule"] = v.Code
	if err != nil {
		out["Rule"] = access.Code(err.Error())
	}
	if v.Allow != (v.Code == access.AllowRule) {
		t.Errorf("Rule: %+v", v)
	}
	return out
}

func want(t *testing.T, what string, got map[string]access.Code, code access.Code) {
	t.Helper()
	for way, c := range got {
		if c != code {
			t.Errorf("%s: %s says %s, want %s", what, way, c, code)
		}
	}
}

// wantEmergency: the rule decides, of which a pdp.Point asks, that wants a grant of
// emergency access. A store that is asked by itself knows of none, and is stale.
func wantEmergency(t *testing.T, what string, got map[string]access.Code, rule access.Code) {
	t.Helper()
	if got["Rule"] != rule || got["Check"] != access.DenyStale || got["Filter"] != access.DenyStale {
		t.Errorf("%s: %v", what, got)
	}
}

// TestWithoutAPolicyEverythingIsDenied: before Open, and in an empty database,
// for emergency access too.
func TestWithoutAPolicyEverythingIsDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteFile(t), nil)
	closed, err := policystore.New(w.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []access.Purpose{access.Treatment, access.BreakGlass, access.EmergencyTreatment} {
		ctx := access.With(t.Context(), access.Principal{ID: "u-nora", Tenant: tenant, Kind: access.Human, Roles: []string{"nurse"}}, purpose)
		want(t, "an empty database, "+string(purpose), all(t, w.Store, ctx), access.DenyNoRule)
		want(t, "no database, "+string(purpose), all(t, closed, ctx), access.Code(policystore.ErrClosed.Error()))
	}
	if err := closed.Ready(); !errors.Is(err, policystore.ErrClosed) {
		t.Errorf("Ready without a database = %v", err)
	}
	if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "no policy") {
		t.Errorf("Ready without a policy = %v", err)
	}
	d, err := w.Check(as(t, "u-nora", access.Treatment), access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "patient", Tenant: other}, {Type: "patient"}, {Type: "patient", Tenant: tenant}}})
	if err != nil || d.Verdicts[0].Code != access.DenyTenant || d.Verdicts[1].Code != access.DenyInvalid || d.Verdicts[2].Code != access.DenyNoRule {
		t.Errorf("Check = %+v, %v", d, err)
	}
}

// cutOff joins a store by a connection of its own, and returns what cuts it.
func (w *world) cutOff(t *testing.T, d gorm.Dialector, change func(*policystore.Config)) (*policystore.Store, func()) {
	t.Helper()
	db, err := w.db.Reopen(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = storage.Close(db) })
	s, err := policystore.New(w.config(change))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, func() {
		pool, err := db.DB()
		if err != nil {
			t.Fatal(err)
		}
		pool.Close()
	}
}

// TestStale: without the database decisions go on for MaxStale, and then only
// those of emergency access.
func TestStale(t *testing.T) {
	t.Parallel()
	d := sqliteFile(t)
	w := initiated(t, d, nil)
	s, cut := w.cutOff(t, d, nil)
	cut()
	nora := func(p access.Purpose) map[string]access.Code { return all(t, s, as(t, "u-nora", p)) }
	want(t, "just cut off", nora(access.Treatment), access.AllowRule)
	w.clock.forward(59 * time.Second)
	want(t, "for less than MaxStale", nora(access.Treatment), access.AllowRule)
	w.clock.forward(time.Minute)
	want(t, "for more than MaxStale", nora(access.Treatment), access.DenyStale)
	wantEmergency(t, "breaking the glass", nora(access.BreakGlass), access.AllowRule)
	wantEmergency(t, "an emergency", nora(access.EmergencyTreatment), access.AllowRule)
	wantEmergency(t, "another", all(t, s, as(t, "u-ned", access.EmergencyTreatment)), access.DenyNoRule)
	eventually(t, "a poll that failed", func() bool { err := s.Ready(); return err != nil && strings.Contains(err.Error(), "closed") })
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("Ready = %v", err)
	}
	eventually(t, "the other process goes on", func() bool { return w.nora(t) == access.AllowRule })
	for _, ev := range w.db.Trail.Events() {
		if ev.Type == audit.PolicyRefused {
			t.Errorf("a database that is away was recorded as a refused policy: %+v", ev)
		}
	}
}

// TestStaleByTheWallClock: a machine that was suspended has a monotonic clock
// that stood still.
func TestStaleByTheWallClock(t *testing.T) {
	t.Parallel()
	d := sqliteFile(t)
	w := initiated(t, d, nil)
	s, cut := w.cutOff(t, d, func(c *policystore.Config) {
		c.Now = func() time.Time { return w.clock.Now().Round(0) }
	})
	cut()
	w.clock.forward(2 * time.Minute)
	want(t, "after two minutes", all(t, s, as(t, "u-nora", access.Treatment)), access.DenyStale)
}

// TestAProcessThatStoodStillAsksFirst: a policy that nobody has looked after
// does not decide, although it is not stale yet.
func TestAProcessThatStoodStillAsksFirst(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	idle := w.join(t, func(c *policystore.Config) { c.Poll, c.MaxStale = 10*time.Minute, time.Hour })
	if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-nora", "nurse")); err != nil {
		t.Fatal(err)
	}
	if got := code(t, idle, as(t, "u-nora", access.Treatment), access.Read, "patient"); got != access.AllowRule {
		t.Fatalf("the process has polled: %s: the test shows nothing", got)
	}
	w.clock.forward(31 * time.Minute)
	want(t, "after it stood still", all(t, idle, as(t, "u-nora", access.Treatment)), access.DenyNoRule)
}

// TestRequireRevision: a context waits for the revision that it asks for, and is
// denied where it does not come.
func TestRequireRevision(t *testing.T) {
	t.Parallel()
	d := sqliteFile(t)
	w := initiated(t, d, nil)
	slow := func(c *policystore.Config) { c.Poll, c.MaxStale, c.Wait = time.Hour, 24*time.Hour, time.Minute }
	idle := w.join(t, slow)
	gone, cut := w.cutOff(t, d, func(c *policystore.Config) { slow(c); c.Wait = 50 * time.Millisecond })
	pinned := as(t, "u-nora", access.Treatment)
	want(t, "before", all(t, idle, pinned), access.AllowRule)
	cut()
	n, err := w.Apply(as(t, "u-alice", access.SystemAdmin), take("u-nora", "nurse"))
	if err != nil {
		t.Fatal(err)
	}
	nora := as(t, "u-nora", access.Treatment)
	want(t, "nobody asked for a revision", all(t, idle, as(t, "u-nora", access.Treatment)), access.AllowRule)
	want(t, "an older one", all(t, gone, policystore.RequireRevision(nora, n-1)), access.AllowRule)
	want(t, "without a database", all(t, gone, policystore.RequireRevision(nora, n)), access.DenyStale)
	want(t, "less is asked for later", all(t, gone, policystore.RequireRevision(policystore.RequireRevision(nora, n), n-1)), access.DenyStale)
	wantEmergency(t, "emergency", all(t, gone, policystore.RequireRevision(as(t, "u-nora", access.BreakGlass), n)), access.AllowRule)
	want(t, "it comes", all(t, idle, policystore.RequireRevision(as(t, "u-nora", access.Treatment), n)), access.DenyNoRule)
	want(t, "a scope that was decided in before", all(t, idle, policystore.RequireRevision(pinned, n)), access.DenyStale)
	want(t, "the same, without asking", all(t, idle, pinned), access.AllowRule)
}

// TestAPolicyThatDoesNotLoad never replaces one that works, and is recorded; a
// process that holds it too long denies.
func TestAPolicyThatDoesNotLoad(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), func(c *policystore.Config) {
		c.Approval = policystore.ApproveNone
		c.Deviations = []access.Deviation{oneAdmin()}
	})
	old := w.join(t, func(c *policystore.Config) { c.Model = withoutDeny })
	deny := policystore.Change{Reason: audit.ReasonAmended, Reference: "ticket-3", Add: policystore.Rows{Rules: []rbac.Rule{
		{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}, Deny: true}}}}
	if _, err := w.Apply(as(t, "u-alice", access.SystemAdmin), deny); err != nil {
		t.Fatal(err)
	}
	if got := w.nora(t); got != access.DenyRule {
		t.Errorf("where it loads: %s", got)
	}
	eventually(t, "the refusal on record", func() bool {
		for _, ev := range w.db.Trail.Events() {
			if ev.Type == audit.PolicyRefused && ev.Reason == audit.ReasonPolicy {
				return true
			}
		}
		return false
	})
	want(t, "where it does not", all(t, old, as(t, "u-nora", access.Treatment)), access.AllowRule)
	w.clock.forward(2 * time.Minute)
	want(t, "for too long", all(t, old, as(t, "u-nora", access.Treatment)), access.DenyStale)
	audittest.Want(t, w.db.Trail, audit.Event{Type: audit.PolicyRefused, Outcome: audit.Failure, Reason: audit.ReasonPolicy})
	fresh, err := policystore.New(w.config(func(c *policystore.Config) { c.Model = withoutDeny }))
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Open(t.Context(), w.db.DB); err == nil || fresh.Ready() == nil {
		t.Errorf("Open = %v", err)
	}
}

// withoutDeny is a model whose effect takes no denying rules.
var withoutDeny = strings.Replace(rbac.DefaultModel, " && !some(where (p.eft == deny))", "", 1)

func oneAdmin() access.Deviation {
	return access.Deviation{Citation: "164.308(a)(4)(ii)(C)", Reason: "one administrator", Alternative: "a weekly review of changes", Owner: "security official", ReviewBy: time.Now().AddDate(1, 0, 0)}
}
