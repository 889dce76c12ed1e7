// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		use    time.Duration // the session is used this often
		last   time.Duration // last use after sign-in
		live   time.Duration // still live this long after sign-in
		over   time.Duration // over this long after sign-in
		reason audit.Reason
	}{
		{"idle at once", 0, 0, 15*time.Minute - 1, 15 * time.Minute, audit.ReasonIdle},
		{"idle after use", time.Minute, time.Hour, time.Hour + 15*time.Minute - 1, time.Hour + 15*time.Minute, audit.ReasonIdle},
		{"absolute", 10 * time.Minute, 12*time.Hour - 10*time.Minute, 12*time.Hour - 1, 12 * time.Hour, audit.ReasonAbsolute},
		{"idle longer ago than absolute", 0, 0, 0, 48 * time.Hour, audit.ReasonAbsolute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			token := b.signIn(t)
			at := time.Duration(0)
			move := func(to time.Duration) { b.clock.Advance(to - at); at = to }
			if c.use > 0 {
				for at < c.last {
					move(at + c.use)
					if _, err := b.Authenticate(t.Context(), token, sessiontest.Addr()); err != nil {
						t.Fatalf("after %v: %v", at, err)
					}
				}
			}
			b.rec.Take()
			move(c.live)
			if _, err := b.Peek(t.Context(), token); err != nil {
				t.Errorf("after %v: %v, want live", at, err)
			}
			move(c.over)
			for range 3 {
				_, err := b.Authenticate(t.Context(), token, sessiontest.Addr())
				wantErr(t, "over", err, session.ErrNoSession)
			}
			if err := b.Logout(t.Context(), token); err != nil {
				t.Error(err)
			}
			if _, err := b.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			evs := b.rec.Take()
			if len(evs) != 1 || evs[0].Type != audit.SessionEnded || evs[0].Reason != c.reason || evs[0].Actor.ID != b.nurse.ID ||
				len(evs[0].Objects) != 2 || evs[0].Objects[1].Record != b.nurse.ID {
				t.Errorf("events = %+v, want one end, %s", evs, c.reason)
			}
		})
	}
}

func TestSweepRecordsAnEndThatNobodySees(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.signIn(t)
	b.rec.Take()
	b.clock.Advance(15*time.Minute - 1)
	if n, err := b.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("Sweep = %d, %v, want 0", n, err)
	}
	b.clock.Advance(1)
	for _, want := range []int{1, 0} {
		if n, err := b.Sweep(t.Context()); n != want || err != nil {
			t.Errorf("Sweep = %d, %v, want %d", n, err, want)
		}
	}
	if n := b.rec.Count(audit.SessionEnded, audit.ReasonIdle); n != 1 {
		t.Errorf("%d ends recorded, want 1", n)
	}
}

// counting counts and can hold up touches.
type counting struct {
	session.Store
	touches atomic.Int64
	before  func() // called before a touch
}

func (c *counting) Touch(ctx context.Context, id session.ID, at time.Time) (bool, error) {
	c.touches.Add(1)
	if c.before != nil {
		c.before()
	}
	return c.Store.Touch(ctx, id, at)
}

func TestTouchesAreRare(t *testing.T) {
	t.Parallel()
	st := &counting{Store: session.NewMemory()}
	b := setup(t, func(c *session.Config) { c.Store = st })
	token := b.signIn(t)
	for range 30 * 60 { // a request each second for 30 minutes
		b.clock.Advance(time.Second)
		if _, err := b.Authenticate(t.Context(), token, sessiontest.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	if n := st.touches.Load(); n != 30 {
		t.Errorf("%d touches in 30 minutes, want 30", n)
	}
}

// TestIdleIsEarlyByAMinuteAtMost: touches are rare, so the end may be early
// by as much as they are apart, and never late.
func TestIdleIsEarlyByAMinuteAtMost(t *testing.T) {
	t.Parallel()
	for lag := range 120 {
		b := setup(t)
		token := b.signIn(t)
		b.clock.Advance(time.Duration(lag) * time.Second)
		if _, err := b.Authenticate(t.Context(), token, sessiontest.Addr()); err != nil {
			t.Fatal(err)
		}
		b.clock.Advance(14*time.Minute - 1)
		if _, err := b.Peek(t.Context(), token); err != nil {
			t.Errorf("last use after %d s, over 14 minutes later", lag)
		}
		b.clock.Advance(time.Minute + 1)
		if _, err := b.Peek(t.Context(), token); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("last use after %d s, live 15 minutes later", lag)
		}
	}
}

func TestLogoutBeatsASlowRequest(t *testing.T) {
	t.Parallel()
	st := &counting{Store: session.NewMemory()}
	b := setup(t, func(c *session.Config) { c.Store = st })
	token := b.signIn(t)
	b.rec.Take()
	b.clock.Advance(2 * time.Minute) // so that the request touches
	st.before = func() {             // the request has loaded the session; now the user logs out
		if err := b.Logout(context.Background(), token); err != nil {
			t.Error(err)
		}
	}
	_, err := b.Authenticate(t.Context(), token, sessiontest.Addr())
	wantErr(t, "the slow request", err, session.ErrNoSession)
	_, err = b.Authenticate(t.Context(), token, sessiontest.Addr())
	wantErr(t, "the token after logout", err, session.ErrNoSession)
	if n := b.rec.Count(audit.SessionEnded, audit.ReasonLogout); n != 1 {
		t.Errorf("%d logouts recorded, want 1", n)
	}
}

func TestLogoutAmongRequests(t *testing.T) {
	t.Parallel()
	rounds := 300
	if os.Getenv("PART164_TEST_LONG") == "1" {
		rounds = 10_000
	}
	b := setup(t)
	for range rounds {
		b.clock.Advance(time.Minute)
		token := b.signIn(t)
		b.rec.Take()
		b.clock.Advance(time.Minute)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if i == 1 {
					if err := b.Logout(context.Background(), token); err != nil {
						t.Error(err)
					}
					return
				}
				if _, err := b.Authenticate(context.Background(), token, sessiontest.Addr()); err != nil && !errors.Is(err, session.ErrNoSession) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := b.Authenticate(t.Context(), token, sessiontest.Addr()); !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("the session came back: %v", err)
		}
		if n := b.rec.Count(audit.SessionEnded, audit.ReasonLogout); n != 1 {
			t.Fatalf("%d logouts recorded, want 1", n)
		}
	}
}

func TestEndIsOwedUntilItIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.signIn(t)
	b.rec.Take()
	b.rec.Fail(audit.ErrUnavailable)
	if err := b.Logout(t.Context(), token); err != nil {
		t.Errorf("Logout = %v: a logout must not fail for want of a record", err)
	}
	_, err := b.Authenticate(t.Context(), token, sessiontest.Addr())
	wantErr(t, "after logout", err, session.ErrNoSession)
	b.clock.Advance(time.Minute)
	b.Sweep(t.Context()) // the trail is still down
	b.rec.Fail(nil)
	for range 3 {
		b.clock.Advance(time.Minute)
		if _, err := b.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := b.rec.Count(audit.SessionEnded, audit.ReasonLogout); n != 1 {
		t.Errorf("%d logouts recorded, want 1", n)
	}
}

// frozen is a store whose sessions are never ended by a change of the user, as
// when one is created at the same moment: the epoch is what is left.
type frozen struct{ session.Store }

func (f frozen) ChangeAccount(ctx context.Context, tenant, id string, ch session.Change, at time.Time) ([]session.Session, error) {
	_, err := f.Store.ChangeAccount(ctx, tenant, id, ch, at)
	return nil, err
}

func (f frozen) Session(ctx context.Context, id session.ID) (session.Session, session.User, error) {
	s, u, err := f.Store.Session(ctx, id)
	s.Ended, s.Reason = time.Time{}, ""
	return s, u, err
}

func TestEpochAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Store = frozen{session.NewMemory()} })
	token := b.signIn(t)
	if err := b.Invalidate(t.Context(), tenant, b.nurse.ID); err != nil {
		t.Fatal(err)
	}
	_, err := b.Authenticate(t.Context(), token, sessiontest.Addr())
	wantErr(t, "a session of an earlier epoch", err, session.ErrNoSession)
}

func TestInvalidateIsAboutOneUser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doctor, phone := sessiontest.NewUser(t, b.Manager, b.clock, tenant, "doctor")
	one, two, theirs := b.signIn(t), "", sessiontest.SignIn(t, b.Manager, b.clock, doctor, phone)
	b.clock.Advance(30 * time.Second)
	two = b.signIn(t)
	b.rec.Take()
	var inv access.Invalidator = b.Manager
	if err := inv.Invalidate(t.Context(), tenant, b.nurse.ID); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{one, two} {
		_, err := b.Authenticate(t.Context(), token, sessiontest.Addr())
		wantErr(t, "an invalidated session", err, session.ErrNoSession)
	}
	if _, err := b.Authenticate(t.Context(), theirs, sessiontest.Addr()); err != nil {
		t.Errorf("another user's session: %v", err)
	}
	if n := b.rec.Count(audit.SessionEnded, audit.ReasonRevoked); n != 2 {
		t.Errorf("%d ends recorded, want 2", n)
	}
	if n := b.rec.Count(audit.UserChanged, audit.ReasonRevoked); n != 1 {
		t.Errorf("%d changes recorded, want 1", n)
	}
	wantErr(t, "nobody", inv.Invalidate(t.Context(), tenant, "nobody"), session.ErrNotFound)
}

func TestRunSweepsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.Run(canceled()); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

func TestNewNamesTheBadField(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*session.Config){
		"Config.Store":       func(c *session.Config) { c.Store = nil },
		"Config.Audit":       func(c *session.Config) { c.Audit = nil },
		"Config.Sealer":      func(c *session.Config) { c.Sealer = nil },
		"Config.Issuer":      func(c *session.Config) { c.Issuer = "" },
		"Config.Issuer ":     func(c *session.Config) { c.Issuer = "St: Mary" },
		"Config.Idle":        func(c *session.Config) { c.Idle = -1 },
		"Config.Absolute":    func(c *session.Config) { c.Absolute = time.Minute },
		"Config.PendingTTL":  func(c *session.Config) { c.PendingTTL = -1 },
		"Config.Hashers":     func(c *session.Config) { c.Hashers = -1 },
		"Config.CodeRate":    func(c *session.Config) { c.CodeRate.Burst = 1 },
		"Config.AddressRate": func(c *session.Config) { c.AddressRate.Every = time.Second },
		"Config.StatusPath":  func(c *session.Config) { c.StatusPath = "status" },
		"Config.KDF":         func(c *session.Config) { c.Development = false },
		"Config.KDF ":        func(c *session.Config) { c.KDF.Memory = 1 << 30 },
		"Config.KDF  ":       func(c *session.Config) { c.KDF.Threads, c.KDF.Memory = 65, 19*1024 },
		"Config.KDF   ":      func(c *session.Config) { c.KDF.Threads, c.KDF.Memory = 9, 71 },
		"Config.Deviations":  func(c *session.Config) { c.Deviations = []access.Deviation{{}} },
	} {
		cfg, _, _ := sessiontest.Config(t)
		change(&cfg)
		if _, err := session.New(cfg); err == nil || !contains(err.Error(), field) {
			t.Errorf("New with a bad %s = %v", field, err)
		}
	}
	cfg, rec, _ := sessiontest.Config(t)
	cfg.Deviations = []access.Deviation{{Citation: "164.312(d)", Reason: "r", Alternative: "a", Owner: "o", ReviewBy: sessiontest.Start()}}
	if _, err := session.New(cfg); err != nil {
		t.Fatal(err)
	}
	if evs := rec.Take(); len(evs) != 1 || evs[0].Type != audit.Deviation || evs[0].Citation != "164.312(d)" {
		t.Errorf("events = %+v, want the deviation", evs)
	}
}

func contains(s, field string) bool { return strings.Contains(s, strings.TrimSpace(field)) }

// stale is a store on which the user changes right after the password.
type stale struct{ session.Store }

func (s stale) CreatePending(ctx context.Context, p session.Pending) error {
	p.Epoch-- // the password was checked before the change
	return s.Store.CreatePending(ctx, p)
}

func TestPendingOfAnEarlierEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Store = stale{session.NewMemory()} })
	_, err := b.TOTP(t.Context(), b.password(t), b.code(t), sessiontest.Addr())
	wantErr(t, "a pending sign-in of an earlier epoch", err, session.ErrPending)
}

// taken is a store in which somebody else always takes the pending sign-in.
type taken struct{ session.Store }

func (s taken) TakePending(ctx context.Context, id session.ID) (bool, error) {
	_, err := s.Store.TakePending(ctx, id)
	return false, err
}

func TestPendingIsTakenOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Store = taken{session.NewMemory()} })
	in, err := b.TOTP(t.Context(), b.password(t), b.code(t), sessiontest.Addr())
	wantErr(t, "a pending sign-in that somebody else took", err, session.ErrPending)
	if in.Token != "" {
		t.Error("it signs in all the same")
	}
}

func TestEndIsRecordedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.signIn(t)
	b.rec.Take()
	b.clock.Advance(15 * time.Minute)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			switch i % 3 {
			case 0:
				b.Sweep(context.Background())
			case 1:
				b.Logout(context.Background(), token)
			default:
				b.Authenticate(context.Background(), token, sessiontest.Addr())
			}
		})
	}
	wg.Wait()
	if n := b.rec.Count(audit.SessionEnded, audit.ReasonIdle); n != 1 || len(b.rec.Take()) != 1 {
		t.Errorf("%d ends recorded, want 1", n)
	}
}

// loaded is a store that says of each session that it has not ended, as to a
// request that read it just before.
type loaded struct{ session.Store }

func (l loaded) Session(ctx context.Context, id session.ID) (session.Session, session.User, error) {
	s, u, err := l.Store.Session(ctx, id)
	s.Ended, s.Reason = time.Time{}, ""
	return s, u, err
}

func TestEndIsRecordedOnceByRequestsThatReadItBefore(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Store = loaded{session.NewMemory()} })
	token := b.signIn(t)
	b.rec.Take()
	for range 3 {
		if err := b.Logout(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.rec.Take()); n != 1 {
		t.Errorf("%d ends recorded, want 1", n)
	}
}
