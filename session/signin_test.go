// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

const tenant = "clinic"

// A bench is a manager with one nurse who can sign in.
type bench struct {
	*session.Manager
	rec   *sessiontest.Recorder
	clock *sessiontest.Clock
	nurse session.User
	phone session.Enrolment
}

func setup(t *testing.T, change ...func(*session.Config)) *bench {
	t.Helper()
	cfg, rec, clock := sessiontest.Config(t)
	for _, f := range change {
		f(&cfg)
	}
	m, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Manager: m, rec: rec, clock: clock}
	b.nurse, b.phone = sessiontest.NewUser(t, m, clock, tenant, "Nora@clinic.example", "nurse")
	rec.Take()
	return b
}

func (b *bench) signIn(t *testing.T) string {
	t.Helper()
	return sessiontest.SignIn(t, b.Manager, b.clock, b.nurse, b.phone)
}

func (b *bench) attempt(login, password string) (session.SignIn, error) {
	return b.Password(context.Background(), session.Attempt{Tenant: tenant, Login: login, Password: password, Addr: sessiontest.Addr()})
}

// password passes the first step.
func (b *bench) password(t *testing.T) string {
	t.Helper()
	in, err := b.attempt("nora@clinic.example", sessiontest.Password)
	if err != nil || in.Next != session.StepTOTP {
		t.Fatalf("Password = %v, %v", in, err)
	}
	return in.Token
}

func (b *bench) code(t *testing.T) string {
	t.Helper()
	return sessiontest.Code(t, b.phone, b.clock.Now())
}

// wrongCode is none of the codes that are valid now.
func (b *bench) wrongCode(t *testing.T) string {
	t.Helper()
	for i := range 10 {
		c := fmt.Sprintf("%06d", i)
		if c != b.code(t) && c != sessiontest.Code(t, b.phone, b.clock.Now().Add(-30*time.Second)) {
			return c
		}
	}
	t.Fatal("unreachable")
	return ""
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", what, err, want)
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in, err := b.attempt(" ", "x")
	wantErr(t, "a login of spaces", err, session.ErrSignIn)
	b.rec.Take()
	in, err = b.attempt("NORA@clinic.example", sessiontest.Password)
	if err != nil || in.Next != session.StepTOTP {
		t.Fatalf("Password = %v, %v", in, err)
	}
	if _, err := b.Authenticate(t.Context(), in.Token, sessiontest.Addr()); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("the token of a pending sign-in opens a session: %v", err)
	}
	if evs := b.rec.Take(); len(evs) != 0 {
		t.Errorf("half a sign-in recorded %v", evs)
	}
	done, err := b.TOTP(t.Context(), in.Token, " "+b.code(t)[:3]+" "+b.code(t)[3:], sessiontest.Addr())
	if err != nil || done.Next != session.StepDone || done.Token == in.Token {
		t.Fatalf("TOTP = %v, %v", done, err)
	}
	evs := b.rec.Take()
	if len(evs) != 1 || evs[0].Type != audit.SignIn || evs[0].Actor.ID != b.nurse.ID || evs[0].Actor.Assurance != 2 ||
		evs[0].Actor.Session == "" || evs[0].Actor.Addr != sessiontest.Addr() {
		t.Errorf("events = %+v, want one sign-in by the nurse", evs)
	}
	b.clock.Advance(time.Minute)
	elsewhere := netip.MustParseAddr("192.0.2.99")
	p, err := b.Authenticate(t.Context(), done.Token, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != b.nurse.ID || p.Tenant != tenant || p.Kind != access.Human || !slices.Equal(p.Roles, []string{"nurse"}) ||
		p.Assurance != 2 || !p.AuthTime.Equal(sessiontest.Start()) || p.Addr != elsewhere || p.Session != evs[0].Actor.Session {
		t.Errorf("principal = %+v", p)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	_, err = b.TOTP(t.Context(), in.Token, b.code(t), sessiontest.Addr())
	wantErr(t, "a pending sign-in that is done", err, session.ErrPending)
	for _, token := range []string{"", "x", done.Token + "=", strings.Repeat("A", 43), done.Token[:42]} {
		_, err := b.Authenticate(t.Context(), token, sessiontest.Addr())
		wantErr(t, "a foreign token", err, session.ErrNoSession)
		_, err = b.TOTP(t.Context(), token, b.code(t), sessiontest.Addr())
		wantErr(t, "a foreign pending token", err, session.ErrPending)
	}
}

func TestUnknownUserCostsTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.AccountRate = session.Rate{Burst: 100, Every: time.Second} })
	off, _ := sessiontest.NewUser(t, b.Manager, b.clock, tenant, "off@clinic.example")
	if err := b.Disable(t.Context(), tenant, off.ID); err != nil {
		t.Fatal(err)
	}
	var runs []session.Derivation
	session.OnDerive(b.Manager, func(d session.Derivation) { runs = append(runs, d) })
	cost := func(login, password string) (session.Derivation, error) {
		runs = nil
		_, err := b.attempt(login, password)
		if len(runs) != 1 {
			t.Fatalf("%q ran the KDF %d times, want 1", login, len(runs))
		}
		return runs[0], err
	}
	known, knownErr := cost("nora@clinic.example", "wrong")
	for _, login := range []string{"nobody@clinic.example", "off@clinic.example"} {
		for _, password := range []string{"wrong", sessiontest.Password, strings.Repeat("x", 5000)} {
			got, err := cost(login, password)
			if got != known {
				t.Errorf("%q cost %+v, a known user %+v", login, got, known)
			}
			if !errors.Is(err, session.ErrSignIn) || err.Error() != knownErr.Error() {
				t.Errorf("%q gives %q, a known user %q", login, err, knownErr)
			}
		}
	}
	if n := b.rec.Count(audit.SignInFailed, audit.ReasonPassword); n != 6 {
		t.Errorf("%d failed passwords recorded, want 6", n)
	}
	if n := b.rec.Count(audit.SignInFailed, audit.ReasonDisabled); n != 1 {
		t.Errorf("%d disabled sign-ins recorded, want 1 (the right password)", n)
	}
}

// gate holds up the use of a step until all sign-ins have found it unused.
type gate struct {
	session.Store
	arrived sync.WaitGroup
}

func (g *gate) UseTOTPStep(ctx context.Context, tenant, userID string, cell []byte, step int64) (bool, error) {
	g.arrived.Done()
	g.arrived.Wait()
	return g.Store.UseTOTPStep(ctx, tenant, userID, cell, step)
}

func TestOneCodeSignsInOnce(t *testing.T) {
	t.Parallel()
	const n = 200
	g := &gate{Store: session.NewMemory()}
	g.arrived.Add(n)
	b := setup(t, func(c *session.Config) {
		c.Store = g
		c.CodeRate = session.Rate{Burst: 10 * n, Every: time.Second}
		c.AddressRate = c.CodeRate
	})
	var pending []string
	for range n {
		pending = append(pending, b.password(t))
	}
	code := b.code(t)
	var done, refused atomic.Int64
	var wg sync.WaitGroup
	for _, token := range pending {
		wg.Go(func() {
			switch _, err := b.TOTP(context.Background(), token, code, sessiontest.Addr()); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, session.ErrSignIn):
				refused.Add(1)
			default:
				t.Errorf("TOTP: %v", err)
			}
		})
	}
	wg.Wait()
	if done.Load() != 1 || refused.Load() != n-1 {
		t.Errorf("%d replays of one code: %d signed in, %d refused, want 1 and %d", n, done.Load(), refused.Load(), n-1)
	}
	_, err := b.TOTP(t.Context(), b.password(t), code, sessiontest.Addr())
	wantErr(t, "the code a moment later", err, session.ErrSignIn)
	_, err = b.TOTP(t.Context(), b.password(t), sessiontest.Code(t, b.phone, b.clock.Now().Add(-30*time.Second)), sessiontest.Addr())
	wantErr(t, "the code of the step before", err, session.ErrSignIn)
	if n := b.rec.Count(audit.SignIn, ""); n != 1 {
		t.Errorf("%d sign-ins recorded, want 1", n)
	}
}

// TestConfirmedCodeIsUsedUp: the code that confirms an enrolment does not sign
// in.
func TestConfirmedCodeIsUsedUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, err := b.BindTOTP(t.Context(), tenant, b.nurse.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a wrong confirmation", b.ConfirmTOTP(t.Context(), tenant, b.nurse.ID, "12345"), session.ErrSignIn)
	if _, err := b.TOTP(t.Context(), b.password(t), b.code(t), sessiontest.Addr()); err != nil {
		t.Errorf("the old factor before the new one is confirmed: %v", err)
	}
	code := sessiontest.Code(t, e, b.clock.Now())
	if err := b.ConfirmTOTP(t.Context(), tenant, b.nurse.ID, code); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a second confirmation", b.ConfirmTOTP(t.Context(), tenant, b.nurse.ID, code), session.ErrNotFound)
	_, err = b.TOTP(t.Context(), b.password(t), code, sessiontest.Addr())
	wantErr(t, "the confirming code", err, session.ErrSignIn)
	b.clock.Advance(30 * time.Second)
	_, err = b.TOTP(t.Context(), b.password(t), b.code(t), sessiontest.Addr())
	wantErr(t, "a code of the old factor", err, session.ErrSignIn)
	if _, err := b.TOTP(t.Context(), b.password(t), sessiontest.Code(t, e, b.clock.Now()), sessiontest.Addr()); err != nil {
		t.Errorf("the next code: %v", err)
	}
	if n := b.rec.Count(audit.FactorChanged, audit.ReasonEnrolled); n != 1 {
		t.Errorf("%d enrolments recorded, want 1", n)
	}
}

func TestPendingDiesAfterFiveTries(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.CodeRate = session.Rate{Burst: 100, Every: time.Second} })
	token := b.password(t)
	for i := range 4 {
		_, err := b.TOTP(t.Context(), token, b.wrongCode(t), sessiontest.Addr())
		wantErr(t, fmt.Sprintf("wrong code %d", i+1), err, session.ErrSignIn)
	}
	_, err := b.TOTP(t.Context(), token, b.wrongCode(t), sessiontest.Addr())
	wantErr(t, "wrong code 5", err, session.ErrPending)
	_, err = b.TOTP(t.Context(), token, b.code(t), sessiontest.Addr())
	wantErr(t, "the right code after 5 wrong ones", err, session.ErrPending)
	if n := b.rec.Count(audit.SignInFailed, audit.ReasonTOTP); n != 5 {
		t.Errorf("%d wrong codes recorded, want 5", n)
	}

	token = b.password(t)
	for range 4 {
		b.TOTP(t.Context(), token, "", sessiontest.Addr())
	}
	if _, err := b.TOTP(t.Context(), token, b.code(t), sessiontest.Addr()); err != nil {
		t.Errorf("the right code at the fifth try: %v", err)
	}
}

func TestPendingExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.password(t)
	b.clock.Advance(5*time.Minute - 1)
	_, err := b.TOTP(t.Context(), token, b.wrongCode(t), sessiontest.Addr())
	wantErr(t, "a wrong code in time", err, session.ErrSignIn)
	b.clock.Advance(1)
	_, err = b.TOTP(t.Context(), token, b.code(t), sessiontest.Addr())
	wantErr(t, "the right code after 5 minutes", err, session.ErrPending)
	for range 2 {
		if _, err := b.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.rec.Count(audit.SignInFailed, audit.ReasonExpired); n != 1 {
		t.Errorf("%d expired sign-ins recorded, want 1", n)
	}
}

func TestChangesEndPendingSignIns(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*bench) error{
		"password":   func(b *bench) error { return b.SetPassword(b.ctx(), tenant, b.nurse.ID, "another long enough one") },
		"roles":      func(b *bench) error { return b.SetRoles(b.ctx(), tenant, b.nurse.ID, []string{"billing"}) },
		"disabled":   func(b *bench) error { return b.Disable(b.ctx(), tenant, b.nurse.ID) },
		"invalidate": func(b *bench) error { return b.Invalidate(b.ctx(), tenant, b.nurse.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			token, live := b.password(t), b.signIn(t)
			b.rec.Take()
			if err := change(b); err != nil {
				t.Fatal(err)
			}
			_, err := b.TOTP(t.Context(), token, b.code(t), sessiontest.Addr())
			wantErr(t, "the code after the change", err, session.ErrPending)
			_, err = b.Authenticate(t.Context(), live, sessiontest.Addr())
			wantErr(t, "the session after the change", err, session.ErrNoSession)
			if n := b.rec.Count(audit.SessionEnded, audit.ReasonRevoked); n != 1 {
				t.Errorf("%d ends recorded, want 1", n)
			}
		})
	}
}

func (b *bench) ctx() context.Context { return context.Background() }

func TestDisabledAndEnabled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.Disable(t.Context(), tenant, b.nurse.ID); err != nil {
		t.Fatal(err)
	}
	_, err := b.attempt("nora@clinic.example", sessiontest.Password)
	wantErr(t, "a disabled user", err, session.ErrSignIn)
	if err := b.Enable(t.Context(), tenant, b.nurse.ID); err != nil {
		t.Fatal(err)
	}
	b.signIn(t)
	if err := b.SetPassword(t.Context(), tenant, b.nurse.ID, "another long enough one"); err != nil {
		t.Fatal(err)
	}
	_, err = b.attempt("nora@clinic.example", sessiontest.Password)
	wantErr(t, "the old password", err, session.ErrSignIn)
	if _, err := b.attempt("nora@clinic.example", "another long enough one"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	wantErr(t, "another tenant", b.Disable(t.Context(), "other", b.nurse.ID), session.ErrNotFound)
}

// TestThrottleComesFirst: tries are taken before the password is looked at,
// so guesses in parallel are no better than guesses in a row.
func TestThrottleComesFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var runs atomic.Int64
	session.OnDerive(b.Manager, func(session.Derivation) { runs.Add(1) })
	for _, login := range []string{"nora@clinic.example", "nobody@clinic.example"} {
		runs.Store(0)
		b.rec.Take()
		var wg sync.WaitGroup
		var locked atomic.Int64
		for i := range 200 {
			wg.Go(func() {
				_, err := b.Password(context.Background(), session.Attempt{Tenant: tenant, Login: login, Password: fmt.Sprint("guess ", i),
					Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})})
				var l *session.LockedError
				if errors.As(err, &l) {
					locked.Add(1)
					if l.RetryAfter <= 0 || l.RetryAfter > time.Minute {
						t.Errorf("RetryAfter = %v", l.RetryAfter)
					}
				} else if !errors.Is(err, session.ErrSignIn) {
					t.Errorf("Password: %v", err)
				}
			})
		}
		wg.Wait()
		if runs.Load() != 5 || locked.Load() != 195 {
			t.Errorf("%q: 200 guesses ran the KDF %d times, %d were locked, want 5 and 195", login, runs.Load(), locked.Load())
		}
	}
	_, err := b.attempt("nora@clinic.example", sessiontest.Password)
	wantErr(t, "the right password in a spent lane", err, session.ErrLocked)
	b.clock.Advance(time.Minute)
	b.signIn(t)
}

func TestAddressLane(t *testing.T) {
	t.Parallel()
	b := setup(t)
	try := func(addr netip.Addr, i int) error {
		_, err := b.Password(t.Context(), session.Attempt{Tenant: tenant, Login: fmt.Sprintf("user-%d", i), Password: "guess", Addr: addr})
		return err
	}
	for _, c := range []struct {
		name        string
		addr, other string
	}{
		{"IPv4", "198.51.100.7", "198.51.100.8"},
		{"IPv4 in IPv6 is IPv4", "::ffff:198.51.100.9", "198.51.100.10"},
		{"an IPv6 /64 is one address", "2001:db8::1", "2001:db8:0:1::1"},
		{"no address is one address", "", "198.51.100.11"},
	} {
		addr, _ := netip.ParseAddr(c.addr)
		for i := range 30 {
			a := addr
			if a.Is6() && !a.Is4In6() { // another host of the /64 each time
				b := a.As16()
				b[15] = byte(i)
				a = netip.AddrFrom16(b)
			}
			wantErr(t, c.name, try(a, i), session.ErrSignIn)
		}
		wantErr(t, c.name+": try 31", try(addr, 31), session.ErrLocked)
		wantErr(t, c.name+": another address", try(netip.MustParseAddr(c.other), 32), session.ErrSignIn)
	}
	wantErr(t, "the unmapped form", try(netip.MustParseAddr("198.51.100.9"), 40), session.ErrLocked)
	if _, err := b.TOTP(t.Context(), strings.Repeat("A", 43), "123456", netip.MustParseAddr("198.51.100.7")); !errors.Is(err, session.ErrLocked) {
		t.Errorf("codes from a spent address: %v, want ErrLocked", err)
	}
}

// TestCodeLane: whoever knows the password does not get five more guesses of
// the code with each new pending sign-in.
func TestCodeLane(t *testing.T) {
	t.Parallel()
	b := setup(t)
	guesses := 0
	for range 20 {
		token := b.password(t)
		for range 4 {
			if _, err := b.TOTP(t.Context(), token, b.wrongCode(t), sessiontest.Addr()); errors.Is(err, session.ErrSignIn) {
				guesses++
			} else if !errors.Is(err, session.ErrLocked) {
				t.Fatal(err)
			}
		}
		b.clock.Advance(3 * time.Minute) // one hour in all
	}
	if guesses > 5+10 {
		t.Errorf("%d codes tried in an hour, want at most 15", guesses)
	}
	b.clock.Advance(time.Hour)
	b.signIn(t)
}

func TestRefusalsAreRecordedByTheMinute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	locked := func(n int) {
		for range n {
			_, err := b.attempt("nora@clinic.example", "guess")
			wantErr(t, "a spent lane", err, session.ErrLocked)
		}
	}
	for range 5 {
		b.attempt("nora@clinic.example", "guess")
	}
	b.rec.Take()
	locked(10)
	sum := func() (events, count int) {
		for _, ev := range b.rec.Take() {
			if ev.Type != audit.SignInLocked || ev.Reason != audit.ReasonThrottled || ev.Actor.ID != b.nurse.ID || ev.Actor.Addr != sessiontest.Addr() {
				t.Errorf("event = %+v", ev)
			}
			events++
			count += ev.Count
		}
		return
	}
	if events, count := sum(); events != 1 || count != 1 {
		t.Errorf("10 refusals at once: %d events of %d, want the first only", events, count)
	}
	b.clock.Advance(59 * time.Second)
	locked(1)
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if events, _ := sum(); events != 0 {
		t.Errorf("%d more events within the minute", events)
	}
	b.clock.Advance(time.Second)
	for range 2 {
		if _, err := b.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if events, count := sum(); events != 1 || count != 10 {
		t.Errorf("after the minute: %d events of %d, want 1 of 10", events, count)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *session.Config) { c.Hashers = 1; c.AccountRate = session.Rate{Burst: 1, Every: time.Hour} })
	running, free := make(chan struct{}, 9), make(chan struct{})
	session.OnDerive(b.Manager, func(session.Derivation) { running <- struct{}{}; <-free })
	results := make(chan error, 9)
	try := func(ctx context.Context, i int) error {
		_, err := b.Password(ctx, session.Attempt{Tenant: tenant, Login: fmt.Sprint("user-", i), Password: "guess",
			Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})})
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { results <- try(t.Context(), 0) }()
	<-running
	for i := range 8 {
		go func() { results <- try(ctx, i+1) }()
	}
	for session.InLine(b.Manager) < 9 {
		runtime.Gosched()
	}
	wantErr(t, "the ninth to wait", try(t.Context(), 9), session.ErrBusy)
	cancel()
	for range 8 {
		wantErr(t, "a request that was cancelled in the queue", <-results, context.Canceled)
	}
	close(free)
	wantErr(t, "the one that ran", <-results, session.ErrSignIn)
	// A lane has one try an hour: those who were not served still have theirs.
	for _, i := range []int{1, 9} {
		wantErr(t, "another try after none was served", try(t.Context(), i), session.ErrSignIn)
	}
	wantErr(t, "another try after one was served", try(t.Context(), 0), session.ErrLocked)
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestNoRecordNoSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.password(t)
	down := fmt.Errorf("%w: disk full", audit.ErrUnavailable)
	b.rec.Fail(down)
	in, err := b.TOTP(t.Context(), token, b.code(t), sessiontest.Addr())
	if !errors.Is(err, audit.ErrUnavailable) || in.Token != "" {
		t.Errorf("TOTP without a trail = %v, %v", in, err)
	}
	_, err = b.attempt("nora@clinic.example", "guess")
	wantErr(t, "a wrong password without a trail", err, audit.ErrUnavailable)
	_, err = b.CreateUser(t.Context(), session.NewUser{Tenant: tenant, Login: "new", Password: sessiontest.Password})
	wantErr(t, "CreateUser without a trail", err, audit.ErrUnavailable)
	wantErr(t, "SetRoles without a trail", b.SetRoles(t.Context(), tenant, b.nurse.ID, []string{"admin"}), audit.ErrUnavailable)
	wantErr(t, "Disable without a trail", b.Disable(t.Context(), tenant, b.nurse.ID), audit.ErrUnavailable)
	b.rec.Fail(nil)
	if _, err := b.UserByLogin(t.Context(), tenant, "new"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a user who is not on record exists: %v", err)
	}
	u, err := b.User(t.Context(), tenant, b.nurse.ID)
	if err != nil || !slices.Equal(u.Roles, []string{"nurse"}) || !u.Disabled {
		t.Errorf("user = %+v, %v, want the old roles, and disabled all the same", u, err)
	}
	b.clock.Advance(time.Hour)
	if n, err := b.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("Sweep = %d, %v: the sign-in that was taken back has left a session", n, err)
	}
}

func TestFactorPolicy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	two := setup(t)
	if _, err := two.CreateUser(ctx, session.NewUser{Tenant: tenant, Login: "eve", Password: "8 letter"}); err != nil {
		t.Errorf("8 characters beside a second factor: %v", err)
	}
	_, err := two.attempt("eve", "8 letter")
	wantErr(t, "no second factor", err, session.ErrNoFactor)
	_, err = two.attempt("eve", "8 lettes")
	wantErr(t, "no second factor, wrong password", err, session.ErrSignIn)

	one := setup(t, func(c *session.Config) { c.SingleFactor = true })
	if _, err := one.CreateUser(ctx, session.NewUser{Tenant: tenant, Login: "eve", Password: "fifteen letters"}); err != nil {
		t.Errorf("15 characters as the only factor: %v", err)
	}
	in, err := one.attempt("eve", "fifteen letters")
	if err != nil || in.Next != session.StepDone {
		t.Fatalf("Password = %v, %v", in, err)
	}
	if p, err := one.Authenticate(ctx, in.Token, sessiontest.Addr()); err != nil || p.Assurance != 1 {
		t.Errorf("assurance = %d, %v, want 1", p.Assurance, err)
	}
	one.signIn(t) // who has a factor needs it

	for _, c := range []struct {
		b        *bench
		password string
		ok       bool
	}{
		{two, "seven77", false}, {two, "éééé", false}, {two, "éééééééé", true}, {one, "fourteen lette", false},
		{two, strings.Repeat("x", 64), true}, {two, strings.Repeat("x", 1024), true}, {two, strings.Repeat("x", 1025), false},
	} {
		err := c.b.SetPassword(ctx, tenant, c.b.nurse.ID, c.password)
		if (err == nil) != c.ok || !c.ok && !errors.Is(err, session.ErrPassword) {
			t.Errorf("a password of %d bytes: %v, want ok = %v", len(c.password), err, c.ok)
		}
		if c.ok {
			if _, err := c.b.attempt("nora@clinic.example", c.password); err != nil {
				t.Errorf("a password of %d bytes does not sign in: %v", len(c.password), err)
			}
		}
	}
}

func TestCreateUserRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good := session.NewUser{Tenant: tenant, Login: "ann", Password: sessiontest.Password, Roles: []string{"nurse"}}
	for name, change := range map[string]func(*session.NewUser){
		"no tenant":       func(n *session.NewUser) { n.Tenant = "" },
		"an e-mail as ID": func(n *session.NewUser) { n.ID = "ann@clinic.example" },
		"a number as ID":  func(n *session.NewUser) { n.ID = "123-45-6789" },
		"no login":        func(n *session.NewUser) { n.Login = "" },
		"a space":         func(n *session.NewUser) { n.Login = "ann smith" },
		"a colon":         func(n *session.NewUser) { n.Login = "ann:smith" },
		"a long login":    func(n *session.NewUser) { n.Login = strings.Repeat("a", 255) },
		"bytes":           func(n *session.NewUser) { n.Login = "ann\xff" },
		"a bad role":      func(n *session.NewUser) { n.Roles = []string{"a role"} },
		"a service":       func(n *session.NewUser) { n.Kind = access.Service },
		"an unknown kind": func(n *session.NewUser) { n.Kind = "robot" },
		"no password":     func(n *session.NewUser) { n.Password = "" },
	} {
		n := good
		change(&n)
		if _, err := b.CreateUser(t.Context(), n); err == nil {
			t.Errorf("CreateUser with %s succeeded", name)
		}
	}
	if _, err := b.CreateUser(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	b.rec.Take()
	for name, n := range map[string]session.NewUser{
		"the same login":            good,
		"another case":              {Tenant: tenant, Login: "ANN", Password: sessiontest.Password},
		"full width":                {Tenant: tenant, Login: "ａnn", Password: sessiontest.Password},
		"the ID of somebody":        {ID: b.nurse.ID, Tenant: tenant, Login: "bob", Password: sessiontest.Password},
		"the ID of somebody, again": {ID: b.nurse.ID, Tenant: tenant, Login: "bob", Password: sessiontest.Password},
	} {
		_, err := b.CreateUser(t.Context(), n)
		wantErr(t, name, err, session.ErrExists)
	}
}

// swapped is a store in which the nurse's row holds somebody else's secret.
type swapped struct {
	session.Store
	from, to string
}

func (s *swapped) Account(ctx context.Context, tenant, id string) (session.Account, error) {
	a, err := s.Store.Account(ctx, tenant, id)
	if err == nil && id == s.to {
		other, err := s.Store.Account(ctx, tenant, s.from)
		if err != nil {
			return a, err
		}
		a.TOTP = other.TOTP
	}
	return a, err
}

func TestTOTPSecretIsBoundToItsUser(t *testing.T) {
	t.Parallel()
	st := &swapped{Store: session.NewMemory()}
	b := setup(t, func(c *session.Config) { c.Store = st })
	mallory, phone := sessiontest.NewUser(t, b.Manager, b.clock, tenant, "mallory")
	b.rec.Take()
	st.from, st.to = mallory.ID, b.nurse.ID
	in, err := b.TOTP(t.Context(), b.password(t), sessiontest.Code(t, phone, b.clock.Now()), sessiontest.Addr())
	if err == nil || errors.Is(err, session.ErrSignIn) || in.Token != "" {
		t.Errorf("Mallory's secret in the nurse's row: %v, %v, want a fault", in, err)
	}
	if session.StatusCode(err) != 500 {
		t.Errorf("StatusCode = %d, want 500", session.StatusCode(err))
	}
	if n := b.rec.Count(audit.SignInFailed, audit.ReasonCell); n != 1 {
		t.Errorf("%d faults recorded, want 1", n)
	}
}

// spy keeps the text of everything that is written to a store.
type spy struct {
	session.Store
	mu   sync.Mutex
	seen strings.Builder
}

func (s *spy) note(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.seen, "%+v %s %q %x\n", v, v, v, v)
}

func (s *spy) CreateAccount(ctx context.Context, a session.Account) error {
	s.note(a)
	return s.Store.CreateAccount(ctx, a)
}

func (s *spy) OfferTOTP(ctx context.Context, tenant, id string, cell []byte) error {
	s.note(cell)
	return s.Store.OfferTOTP(ctx, tenant, id, cell)
}

func (s *spy) CreatePending(ctx context.Context, p session.Pending) error {
	s.note(p)
	return s.Store.CreatePending(ctx, p)
}

func (s *spy) CreateSession(ctx context.Context, ses session.Session) error {
	s.note(ses)
	return s.Store.CreateSession(ctx, ses)
}

// TestNoSecretLeaves looks for tokens, codes, secrets and passwords in what is
// stored, logged, recorded, printed, and said in errors.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	st := &spy{Store: session.NewMemory()}
	var out strings.Builder
	logTo := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zapcore.DebugLevel))
	b := setup(t, func(c *session.Config) { c.Store, c.Log = st, logTo })
	pending := b.password(t)
	code := b.code(t)
	for _, err := range []error{
		second(b.attempt("nora@clinic.example", "guess of a password")),
		second(b.TOTP(t.Context(), pending, b.wrongCode(t), sessiontest.Addr())),
		second(b.TOTP(t.Context(), pending[1:], code, sessiontest.Addr())),
		b.SetPassword(t.Context(), tenant, b.nurse.ID, "a short"),
		second(b.Authenticate(t.Context(), pending, sessiontest.Addr())),
	} {
		if err == nil {
			t.Fatal("want an error")
		}
		fmt.Fprintf(&out, "%v %+v\n", err, err)
	}
	in, err := b.TOTP(t.Context(), pending, code, sessiontest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.BindTOTP(t.Context(), tenant, b.nurse.ID)
	if err != nil {
		t.Fatal(err)
	}
	b.rec.Fail(audit.ErrUnavailable)
	b.Logout(t.Context(), in.Token) // writes to the log
	b.rec.Fail(nil)
	fmt.Fprintf(&out, "%v %+v %#v %s %v %+v %#v\n", in, in, in, in, e, e, e)
	fmt.Fprintf(&out, "%+v\n%s", b.rec.Take(), st.seen.String())
	for name, secret := range map[string]string{
		"session token": in.Token, "pending token": pending, "TOTP secret": e.Secret, "TOTP secret of the nurse": b.phone.Secret,
		"code": code, "password": sessiontest.Password, "wrong password": "guess of a password", "short password": "a short",
		"session token in hex": fmt.Sprintf("%x", in.Token),
	} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the %s leaks", name)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(in.Token)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(st.seen.String(), fmt.Sprintf("%x", raw)) {
		t.Error("the session token is stored in clear")
	}
	if !strings.Contains(st.seen.String(), fmt.Sprintf("%x", sha256.Sum256(raw))) {
		t.Error("the session is not stored under the SHA-256 of its token")
	}
}

func second[T any](_ T, err error) error { return err }
