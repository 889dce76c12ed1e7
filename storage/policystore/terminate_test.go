// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sessionstore"
)

// A badge is what a user holds in a table of the app's own.
type badge struct {
	ID     int `gorm:"primaryKey"`
	Tenant string
	Holder string
}

// badges are a Holder, which may fail.
type badges struct{ err *error }

func (b badges) Terminate(_ context.Context, tx *gorm.DB, tenant, user string, _ time.Time) (int, error) {
	q := tx.Where("tenant = ? AND holder = ?", tenant, user).Delete(&badge{})
	return int(q.RowsAffected), errors.Join(q.Error, *b.err)
}

// TestTerminate: one step ends roles, proposals, sessions, the right to sign in
// and what other tables hold; another process follows within a poll. A part that
// fails leaves everything.
func TestTerminate(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		var broken error
		var sessions *sessionstore.Store
		w := newWorld(t, d, nil)
		if err := errors.Join(sessionstore.Migrate(t.Context(), w.db.DB), w.db.AutoMigrate(&badge{})); err != nil {
			t.Fatal(err)
		}
		sessions = sessionstore.New(w.db.DB)
		cfg, rec, clock := sessiontest.Config(t)
		first := w.join(t, func(c *policystore.Config) {
			c.Holders = []policystore.Holder{sessions, badges{&broken}}
			c.Now, c.MaxStale = clock.Now, time.Hour // that of the sessions
		})
		second := w.join(t, nil)
		cfg.Store = sessions
		m, err := session.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		u, phone := sessiontest.NewUser(t, m, clock, tenant, "carol")
		signIn := func() (string, error) {
			in, err := m.Password(t.Context(), session.Attempt{Tenant: tenant, Login: "carol", Password: sessiontest.Password, Addr: sessiontest.Addr()})
			if err != nil {
				return "", err
			}
			clock.Advance(time.Minute)
			in, err = m.TOTP(t.Context(), in.Token, sessiontest.Code(t, phone, clock.Now()), sessiontest.Addr())
			return in.Token, err
		}
		token, err := signIn()
		if err != nil {
			t.Fatal(err)
		}
		pending, err := m.Password(t.Context(), session.Attempt{Tenant: tenant, Login: "carol", Password: sessiontest.Password, Addr: sessiontest.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		rows := firstRows()
		for _, role := range []string{"nurse", "approver", "security"} {
			rows.Assignments = append(rows.Assignments, rbac.Assignment{Tenant: tenant, User: u.ID, Role: role})
		}
		rows.Assignments = append(rows.Assignments, rbac.Assignment{Tenant: other, User: u.ID, Role: "nurse"})
		if _, err := w.Init(job(t), rows, "deploy-1"); err != nil {
			t.Fatal(err)
		}
		if err := w.db.Create([]badge{{ID: 1, Tenant: tenant, Holder: u.ID}, {ID: 2, Tenant: other, Holder: u.ID}, {ID: 3, Tenant: tenant, Holder: "u-nora"}}).Error; err != nil {
			t.Fatal(err)
		}
		carol := func(p access.Purpose) context.Context {
			return access.With(t.Context(), access.Principal{ID: u.ID, Tenant: tenant, Kind: access.Human}, p)
		}
		reads := func(s access.Authorizer) access.Code {
			return code(t, s, carol(access.Treatment), access.Read, "patient")
		}
		eventually(t, "the policy in all three", func() bool {
			return reads(w) == access.AllowRule && reads(first) == access.AllowRule && reads(second) == access.AllowRule
		})
		byCarol, err := w.Propose(carol(access.SystemAdmin), give("u-fay", "nurse"))
		if err != nil {
			t.Fatal(err)
		}
		forCarol := propose(t, w.Store, "u-alice", give(u.ID, "charge-nurse"))
		others := propose(t, w.Store, "u-alice", give("u-gus", "nurse"))
		alice := as(t, "u-alice", access.SystemAdmin)

		broken = errors.New("the badge printer is on fire")
		if _, err := first.Terminate(alice, tenant, u.ID); !errors.Is(err, broken) {
			t.Errorf("Terminate with a part that fails = %v", err)
		}
		if _, err := m.Authenticate(t.Context(), token, sessiontest.Addr()); err != nil || reads(first) != access.AllowRule {
			t.Errorf("it left the session %v, and the role %s", err, reads(first))
		}
		broken = nil

		began := time.Now()
		out, err := first.Terminate(alice, tenant, u.ID)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		slices.Sort(out.Roles)
		if out.Revision != 2 || !slices.Equal(out.Roles, []string{"approver", "nurse", "security"}) || out.Ended != 2 || out.Proposals != 2 || out.At.IsZero() {
			t.Errorf("Terminate = %+v", out)
		}
		if got := reads(first); got != access.DenyNoRule {
			t.Errorf("in this process: %s", got)
		}
		if _, err := m.Authenticate(t.Context(), token, sessiontest.Addr()); err == nil {
			clock.Advance(2 * time.Second) // a session may be remembered for a second
			if _, err := m.Authenticate(t.Context(), token, sessiontest.Addr()); !errors.Is(err, session.ErrNoSession) {
				t.Errorf("the session: %v", err)
			}
		}
		clock.Advance(time.Minute)
		if _, err := m.TOTP(t.Context(), pending.Token, sessiontest.Code(t, phone, clock.Now()), sessiontest.Addr()); err == nil {
			t.Error("a sign-in between its factors went on")
		}
		if _, err := signIn(); err == nil {
			t.Error("signed in again")
		}
		eventually(t, "the revocation in another process", func() bool { return reads(second) == access.DenyNoRule })
		t.Logf("terminated in %v; nothing anywhere %v after the beginning", took.Round(time.Microsecond), time.Since(began).Round(time.Millisecond))
		for _, id := range []string{byCarol, forCarol} {
			if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); !errors.Is(err, policystore.ErrNoProposal) {
				t.Errorf("a proposal by or for who left: %v", err)
			}
		}
		if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), others); err != nil {
			t.Errorf("another's proposal: %v", err)
		}
		var left []badge
		if err := w.db.Order("id").Find(&left).Error; err != nil || len(left) != 2 || left[0].ID != 2 || left[1].ID != 3 {
			t.Errorf("badges left: %+v, %v", left, err)
		}
		elsewhere := access.With(t.Context(), access.Principal{ID: u.ID, Tenant: other, Kind: access.Human}, access.Treatment)
		if got := code(t, first, elsewhere, access.Read, "patient"); got != access.AllowRule {
			t.Errorf("of the same ID in another tenant: %s", got)
		}
		// Once more, and of who never was: both are recorded, and nothing is left to end.
		for _, user := range []string{u.ID, "u-ghost"} {
			if out, err := first.Terminate(alice, tenant, user); err != nil || len(out.Roles) != 0 || out.Ended > 0 || out.Proposals != 0 {
				t.Errorf("Terminate(%s) again = %+v, %v", user, out, err)
			}
		}
		if err := storage.Settle(t.Context(), w.db.DB); err != nil {
			t.Fatal(err)
		}
		audittest.Want(t, w.db.Trail, audit.Event{Type: audit.PolicyChanged, Outcome: audit.Success, Reason: audit.ReasonLeft, Action: access.Delete})
		if v, err := w.Verify(alice, w.db.Trail); err != nil || !v.OK() {
			t.Errorf("Verify = %+v, %v", v, err)
		}
		history, err := w.History(alice, 3, 1)
		if err != nil || len(history) != 1 || history[0].Terminated != u.ID || history[0].Author != "u-alice" || len(history[0].Removed) != 3 {
			t.Errorf("History = %+v, %v", history, err)
		}
		clock.Advance(2 * time.Minute)
		if _, err := m.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := rec.Count(audit.SessionEnded, audit.ReasonRevoked); n != 1 {
			t.Errorf("%d ends of sessions recorded, want 1", n)
		}
	})
}

func firstRows() policystore.Rows { return first() }

// TestTerminateWithoutATrail is done all the same, and says so; the history has
// it, and Verify names it.
func TestTerminateWithoutATrail(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	alice := as(t, "u-alice", access.SystemAdmin)
	w.db.Trail.Fail(errors.New("the disk is full"))
	out, err := w.Terminate(alice, tenant, "u-nora")
	w.db.Trail.Fail(nil)
	if !errors.Is(err, audit.ErrUnavailable) || out.Revision != 2 || len(out.Roles) != 1 {
		t.Errorf("Terminate = %+v, %v", out, err)
	}
	if got := w.nora(t); got != access.DenyNoRule {
		t.Errorf("nora: %s", got)
	}
	if err := storage.Settle(t.Context(), w.db.DB); err != nil {
		t.Fatal(err)
	}
	v, err := w.Verify(alice, w.db.Trail)
	if err != nil || len(v.Findings) != 1 || v.Findings[0].Kind != policystore.TrailMissing {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	for _, bad := range [][2]string{{"", "u-nora"}, {tenant, ""}, {tenant, "nora@example.org"}} {
		if _, err := w.Terminate(alice, bad[0], bad[1]); err == nil {
			t.Errorf("Terminate(%q)", bad)
		}
	}
}
