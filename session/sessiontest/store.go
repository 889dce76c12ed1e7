// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
)

// TestStore runs the contract of session.Store. open is called once a subtest
// and returns an empty store. PART164_TEST_LONG=1 asks for the full counts of
// its races.
func TestStore(t *testing.T, open func(t *testing.T) session.Store) {
	for _, sub := range []struct {
		name string
		run  func(*testing.T, session.Store)
	}{
		{"accounts are unique and come back whole", testAccounts},
		{"a change raises the epoch and ends what is open", testChange},
		{"a TOTP secret is offered, confirmed, replaced", testTOTP},
		{"one TOTP step succeeds once", testTOTPRace},
		{"a pending sign-in counts its tries and expires", testPending},
		{"a pending sign-in is taken once", testPendingRace},
		{"parallel tries stay within the limit", testPendingTries},
		{"a session is created for the current epoch only", testCreateSession},
		{"a touch moves forward within the limits", testTouch},
		{"a touch never brings a session back", testTouchRace},
		{"a session ends once", testEndRace},
		{"a change and a new session do not miss each other", testChangeRace},
		{"a throttle lane is a generic cell rate", testThrottle},
		{"parallel reservations stay within the burst", testThrottleRace},
		{"refusals are summed up by the minute", testRefusals},
		{"a sweep ends, expires and hands out once", testSweep},
		{"parallel sweeps hand out once", testSweepRace},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.run(t, open(t)) })
	}
}

// rounds is how often a race is run.
func rounds(reduced, full int) int {
	if os.Getenv("PART164_TEST_LONG") == "1" {
		return full
	}
	return reduced
}

// together runs n functions at once and returns how many reported true.
func together(t *testing.T, n int, f func(i int) (bool, error)) int {
	t.Helper()
	var wg sync.WaitGroup
	var won atomic.Int64
	start := make(chan struct{})
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() {
			<-start
			ok, err := f(i)
			if err != nil {
				errs <- err
			}
			if ok {
				won.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatalf("%d errors, the first: %v", len(errs)+1, err)
	}
	return int(won.Load())
}

const tenant = "clinic"

func randomID() (id session.ID) {
	rand.Read(id[:])
	return id
}

func account(t *testing.T, s session.Store) session.Account {
	t.Helper()
	name := hex.EncodeToString(func() []byte { id := randomID(); return id[:8] }())
	a := session.Account{
		User: session.User{ID: "u-" + name, Tenant: tenant, Kind: access.Human, Login: name + "@clinic.example",
			Roles: []string{"nurse", "physician"}, Epoch: 1, Created: Start()},
		Password: "$argon2id$not-a-hash",
	}
	if err := s.CreateAccount(t.Context(), a); err != nil {
		t.Fatalf("CreateAccount: %v", err)
	}
	return a
}

func newSession(a session.Account) session.Session {
	return session.Session{
		ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Kind: a.Kind, Epoch: a.Epoch, Assurance: 2,
		AuthTime: Start(), Created: Start(), LastSeen: Start(), Idle: 15 * time.Minute, Expires: Start().Add(12 * time.Hour), Addr: Addr(),
	}
}

func open(t *testing.T, s session.Store, a session.Account) session.Session {
	t.Helper()
	ses := newSession(a)
	if err := s.CreateSession(t.Context(), ses); err != nil {
		t.Fatalf("CreateSession: %v", err)
	}
	return ses
}

func get(t *testing.T, s session.Store, a session.Account) session.Account {
	t.Helper()
	got, err := s.Account(t.Context(), a.Tenant, a.ID)
	if err != nil {
		t.Fatalf("Account: %v", err)
	}
	return got
}

func load(t *testing.T, s session.Store, id session.ID) session.Session {
	t.Helper()
	got, _, err := s.Session(t.Context(), id)
	if err != nil {
		t.Fatalf("Session: %v", err)
	}
	return got
}

func testAccounts(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	for _, got := range []func() (session.Account, error){
		func() (session.Account, error) { return s.Account(ctx, a.Tenant, a.ID) },
		func() (session.Account, error) { return s.AccountByLogin(ctx, a.Tenant, a.Login) },
	} {
		got, err := got()
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != a.ID || got.Tenant != a.Tenant || got.Kind != a.Kind || got.Login != a.Login || !slices.Equal(got.Roles, a.Roles) ||
			got.Disabled || got.Epoch != a.Epoch || !got.Created.Equal(a.Created) || got.Password != a.Password ||
			len(got.TOTP) != 0 || len(got.TOTPNext) != 0 || got.TOTPStep != 0 {
			t.Errorf("came back as %+v, want %+v", got, a)
		}
	}
	b := a
	b.ID = "u-other"
	if err := s.CreateAccount(ctx, b); !errors.Is(err, session.ErrExists) {
		t.Errorf("CreateAccount(same login) = %v, want ErrExists", err)
	}
	b = a
	b.Login = "other@clinic.example"
	if err := s.CreateAccount(ctx, b); !errors.Is(err, session.ErrExists) {
		t.Errorf("CreateAccount(same ID) = %v, want ErrExists", err)
	}
	b = a
	b.Tenant = "other-clinic"
	if err := s.CreateAccount(ctx, b); err != nil {
		t.Errorf("CreateAccount(same ID and login, other tenant) = %v", err)
	}
	for _, c := range []struct{ tenant, login, id string }{
		{"other", a.Login, a.ID}, {a.Tenant, "nobody", "nobody"}, {a.Tenant, "", ""},
		{a.Tenant, a.Login[1:], a.ID + " "}, {a.Tenant, "\u00e9" + a.Login[1:], "U" + a.ID[1:]},
	} {
		if _, err := s.AccountByLogin(ctx, c.tenant, c.login); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("AccountByLogin(%q, %q) = %v, want ErrNotFound", c.tenant, c.login, err)
		}
		if _, err := s.Account(ctx, c.tenant, c.id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Account(%q, %q) = %v, want ErrNotFound", c.tenant, c.id, err)
		}
	}
	c := account(t, s)
	c.ID, c.Login, c.Roles = c.ID+"-n", "n"+c.Login, nil
	if err := s.CreateAccount(ctx, c); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, c); len(got.Roles) != 0 {
		t.Errorf("Roles = %q, want none", got.Roles)
	}
	var wins int
	for range rounds(3, 30) {
		d := a
		d.ID, d.Login = "u-"+randomID().String()[:20], randomID().String()
		wins += together(t, 20, func(int) (bool, error) {
			err := s.CreateAccount(ctx, d)
			if errors.Is(err, session.ErrExists) {
				return false, nil
			}
			return err == nil, err
		})
	}
	if want := rounds(3, 30); wins != want {
		t.Errorf("20 creations of one user: %d won in %d rounds", wins, want)
	}
}

func testChange(t *testing.T, s session.Store) {
	ctx := t.Context()
	a, other := account(t, s), account(t, s)
	one, two, theirs := open(t, s, a), open(t, s, a), open(t, s, other)
	if ok, err := s.End(ctx, two.ID, Start(), audit.ReasonLogout); !ok || err != nil {
		t.Fatalf("End = %v, %v", ok, err)
	}
	p := session.Pending{ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Epoch: 1, Expires: Start().Add(time.Minute)}
	if err := s.CreatePending(ctx, p); err != nil {
		t.Fatal(err)
	}
	at := Start().Add(time.Minute)
	yes, hash, roles := true, "$other", []string{"billing"}
	ended, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{Disabled: &yes, Password: &hash, Roles: &roles}, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(ended) != 1 || ended[0].ID != one.ID || ended[0].Reason != audit.ReasonRevoked || !ended[0].Ended.Equal(at) ||
		ended[0].UserID != a.ID || ended[0].Tenant != a.Tenant {
		t.Errorf("ended %+v, want the one live session, revoked", ended)
	}
	got := get(t, s, a)
	if !got.Disabled || got.Password != hash || !slices.Equal(got.Roles, roles) || got.Epoch != 2 {
		t.Errorf("after the change: %+v", got)
	}
	if l := load(t, s, one.ID); !l.Ended.Equal(at) || l.Reason != audit.ReasonRevoked {
		t.Errorf("session = %+v, want ended", l)
	}
	if l := load(t, s, two.ID); l.Reason != audit.ReasonLogout || !l.Ended.Equal(Start()) {
		t.Errorf("the session that had ended before is %+v", l)
	}
	if l := load(t, s, theirs.ID); !l.Ended.IsZero() {
		t.Errorf("another user's session = %+v, want live", l)
	}
	if ok, err := s.TakePending(ctx, p.ID); ok || err != nil {
		t.Errorf("TakePending after the change = %v, %v, want false", ok, err)
	}
	no := false
	if ended, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{Disabled: &no}, at); err != nil || len(ended) != 0 {
		t.Errorf("second change = %v, %v", ended, err)
	}
	if _, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{}, at); err != nil {
		t.Error(err)
	}
	got = get(t, s, a)
	if got.Disabled || got.Password != hash || !slices.Equal(got.Roles, roles) || got.Epoch != 4 {
		t.Errorf("after an empty change: %+v", got)
	}
	for _, c := range [][2]string{{"other", a.ID}, {a.Tenant, "nobody"}} {
		if _, err := s.ChangeAccount(ctx, c[0], c[1], session.Change{}, at); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("ChangeAccount(%q) = %v, want ErrNotFound", c, err)
		}
	}
	before := get(t, s, a).Epoch
	n := 10
	together(t, n, func(int) (bool, error) {
		_, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{}, at)
		return true, err
	})
	if got := get(t, s, a).Epoch; got != before+int64(n) {
		t.Errorf("epoch after %d parallel changes = %d, want %d", n, got, before+int64(n))
	}
}

func testTOTP(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	first, second := []byte("\x00first cell"), []byte("\x00second cell")
	confirm := func(cell []byte, step int64, want bool) {
		t.Helper()
		if ok, err := s.ConfirmTOTP(ctx, a.Tenant, a.ID, cell, step); ok != want || err != nil {
			t.Errorf("ConfirmTOTP = %v, %v, want %v", ok, err, want)
		}
	}
	use := func(cell []byte, step int64, want bool) {
		t.Helper()
		if ok, err := s.UseTOTPStep(ctx, a.Tenant, a.ID, cell, step); ok != want || err != nil {
			t.Errorf("UseTOTPStep(%d) = %v, %v, want %v", step, ok, err, want)
		}
	}
	use(nil, 1, false)
	use(first, 1, false)
	confirm(nil, 1, false)
	confirm(first, 1, false)
	if err := s.OfferTOTP(ctx, a.Tenant, a.ID, first); err != nil {
		t.Fatal(err)
	}
	use(first, 100, false) // not confirmed
	confirm(second, 100, false)
	confirm(first, 100, true)
	confirm(first, 101, false)
	use(first, 100, false)
	use(first, 99, false)
	use(second, 101, false)
	use(first, 101, true)
	if err := s.OfferTOTP(ctx, a.Tenant, a.ID, second); err != nil {
		t.Fatal(err)
	}
	use(first, 102, true) // the old one holds until the new one is confirmed
	if got := get(t, s, a); string(got.TOTP) != string(first) || string(got.TOTPNext) != string(second) || got.TOTPStep != 102 {
		t.Errorf("account = %q, %q, %d", got.TOTP, got.TOTPNext, got.TOTPStep)
	}
	confirm(second, 103, true)
	use(first, 104, false)
	use(second, 104, true)
	if err := s.OfferTOTP(ctx, "other", a.ID, first); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("OfferTOTP(other tenant) = %v, want ErrNotFound", err)
	}
}

func testTOTPRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	cell := []byte("cell")
	if err := s.OfferTOTP(ctx, a.Tenant, a.ID, cell); err != nil {
		t.Fatal(err)
	}
	if n := together(t, 20, func(int) (bool, error) { return s.ConfirmTOTP(ctx, a.Tenant, a.ID, cell, 1) }); n != 1 {
		t.Errorf("20 parallel confirmations: %d succeeded, want 1", n)
	}
	for step := range int64(rounds(3, 100)) {
		if n := together(t, 200, func(int) (bool, error) { return s.UseTOTPStep(ctx, a.Tenant, a.ID, cell, step+2) }); n != 1 {
			t.Fatalf("200 parallel replays of step %d: %d succeeded, want 1", step+2, n)
		}
	}
}

func testPending(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	p := session.Pending{ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Epoch: 7, Expires: Start().Add(5 * time.Minute)}
	if err := s.CreatePending(ctx, p); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		got, err := s.TryPending(ctx, p.ID, 3, Start().Add(5*time.Minute-1))
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != p.ID || got.Tenant != p.Tenant || got.UserID != p.UserID || got.Epoch != 7 || got.Tries != i+1 || !got.Expires.Equal(p.Expires) {
			t.Errorf("try %d = %+v", i+1, got)
		}
	}
	if _, err := s.TryPending(ctx, p.ID, 3, Start()); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("TryPending beyond the limit = %v, want ErrNotFound", err)
	}
	if _, err := s.TryPending(ctx, randomID(), 3, Start()); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("TryPending(unknown) = %v, want ErrNotFound", err)
	}
	q := session.Pending{ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Epoch: 7, Expires: Start().Add(5 * time.Minute)}
	if err := s.CreatePending(ctx, q); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryPending(ctx, q.ID, 3, q.Expires); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("TryPending at its expiry = %v, want ErrNotFound", err)
	}
}

func testPendingRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	for range rounds(3, 100) {
		p := session.Pending{ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Expires: Start().Add(time.Minute)}
		if err := s.CreatePending(ctx, p); err != nil {
			t.Fatal(err)
		}
		if n := together(t, 50, func(int) (bool, error) { return s.TakePending(ctx, p.ID) }); n != 1 {
			t.Fatalf("50 parallel takers: %d succeeded, want 1", n)
		}
		if _, err := s.TryPending(ctx, p.ID, 5, Start()); !errors.Is(err, session.ErrNotFound) {
			t.Fatalf("TryPending after it was taken = %v, want ErrNotFound", err)
		}
	}
}

func testPendingTries(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	for range rounds(2, 30) {
		p := session.Pending{ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Expires: Start().Add(time.Minute)}
		if err := s.CreatePending(ctx, p); err != nil {
			t.Fatal(err)
		}
		n := together(t, 50, func(int) (bool, error) {
			_, err := s.TryPending(ctx, p.ID, 5, Start())
			if errors.Is(err, session.ErrNotFound) {
				return false, nil
			}
			return err == nil, err
		})
		if n != 5 {
			t.Fatalf("50 parallel tries with a limit of 5: %d succeeded", n)
		}
	}
}

func testCreateSession(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	ses := open(t, s, a)
	got, u, err := s.Session(ctx, ses.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != ses.ID || got.Tenant != ses.Tenant || got.UserID != ses.UserID || got.Kind != ses.Kind || got.Epoch != ses.Epoch || got.Assurance != 2 ||
		!got.AuthTime.Equal(ses.AuthTime) || !got.Created.Equal(ses.Created) || !got.LastSeen.Equal(ses.LastSeen) || got.Idle != ses.Idle ||
		!got.Expires.Equal(ses.Expires) || got.Addr != ses.Addr || !got.Ended.IsZero() || got.Reason != "" {
		t.Errorf("Session = %+v, want %+v", got, ses)
	}
	if u.ID != a.ID || u.Login != a.Login || !slices.Equal(u.Roles, a.Roles) || u.Epoch != 1 || u.Disabled {
		t.Errorf("user = %+v", u)
	}
	if _, _, err := s.Session(ctx, randomID()); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Session(unknown) = %v, want ErrNotFound", err)
	}
	stale := func(what string, ses session.Session) {
		t.Helper()
		if err := s.CreateSession(ctx, ses); !errors.Is(err, session.ErrStale) {
			t.Errorf("CreateSession(%s) = %v, want ErrStale", what, err)
		}
		if _, _, err := s.Session(ctx, ses.ID); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Session after that (%s) = %v, want ErrNotFound", what, err)
		}
	}
	ses = newSession(a)
	ses.Epoch = 2
	stale("later epoch", ses)
	ses = newSession(a)
	ses.UserID = "nobody"
	stale("no such user", ses)
	ses = newSession(a)
	ses.Tenant = "other"
	stale("another tenant", ses)
	if _, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{}, Start()); err != nil {
		t.Fatal(err)
	}
	stale("earlier epoch", newSession(a))
	yes := true
	if _, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{Disabled: &yes}, Start()); err != nil {
		t.Fatal(err)
	}
	a = get(t, s, a)
	stale("disabled", newSession(a))
}

func testTouch(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	ses := open(t, s, a)
	touch := func(after time.Duration, want bool) {
		t.Helper()
		if ok, err := s.Touch(ctx, ses.ID, Start().Add(after)); ok != want || err != nil {
			t.Errorf("Touch(%v) = %v, %v, want %v", after, ok, err, want)
		}
	}
	seen := func(want time.Duration) {
		t.Helper()
		if got := load(t, s, ses.ID).LastSeen; !got.Equal(Start().Add(want)) {
			t.Errorf("LastSeen = %v after the start, want %v", got.Sub(Start()), want)
		}
	}
	touch(14*time.Minute, true)
	seen(14 * time.Minute)
	touch(14*time.Minute, true) // again at the same time
	touch(10*time.Minute, true) // a late one does not move it back
	seen(14 * time.Minute)
	touch(29*time.Minute, false) // idle since 15 minutes
	seen(14 * time.Minute)
	touch(29*time.Minute-1, true)
	for at := 43 * time.Minute; at < 12*time.Hour; at += 14 * time.Minute {
		touch(at, true)
	}
	touch(12*time.Hour, false) // the absolute limit
	touch(12*time.Hour-1, true)
	if ok, err := s.Touch(ctx, randomID(), Start()); ok || err != nil {
		t.Errorf("Touch(unknown) = %v, %v, want false", ok, err)
	}
	if ok, err := s.End(ctx, ses.ID, Start().Add(12*time.Hour-1), audit.ReasonLogout); !ok || err != nil {
		t.Fatalf("End = %v, %v", ok, err)
	}
	touch(12*time.Hour-1, false)
}

func testTouchRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	for range rounds(30, 2500) {
		ses := open(t, s, a)
		together(t, 4, func(i int) (bool, error) {
			if i == 0 {
				return s.End(ctx, ses.ID, Start().Add(time.Minute), audit.ReasonLogout)
			}
			return s.Touch(ctx, ses.ID, Start().Add(time.Duration(i)*time.Minute))
		})
		if got := load(t, s, ses.ID); got.Ended.IsZero() || got.Reason != audit.ReasonLogout {
			t.Fatalf("after a logout among touches the session is %+v", got)
		}
		if ok, err := s.Touch(ctx, ses.ID, Start().Add(4*time.Minute)); ok || err != nil {
			t.Fatalf("Touch after the end = %v, %v, want false", ok, err)
		}
	}
}

func testEndRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	for range rounds(3, 100) {
		ses := open(t, s, a)
		reasons := []audit.Reason{audit.ReasonLogout, audit.ReasonIdle}
		n := together(t, 50, func(i int) (bool, error) { return s.End(ctx, ses.ID, Start().Add(time.Duration(i)), reasons[i%2]) })
		if n != 1 {
			t.Fatalf("50 parallel ends: %d succeeded, want 1", n)
		}
		first := load(t, s, ses.ID)
		if ok, err := s.End(ctx, ses.ID, Start().Add(time.Hour), audit.ReasonAbsolute); ok || err != nil {
			t.Fatalf("another End = %v, %v, want false", ok, err)
		}
		if got := load(t, s, ses.ID); got.Reason != first.Reason || !got.Ended.Equal(first.Ended) {
			t.Fatalf("another End changed the row to %+v", got)
		}
	}
	if ok, err := s.End(ctx, randomID(), Start(), audit.ReasonIdle); ok || err != nil {
		t.Errorf("End(unknown) = %v, %v, want false", ok, err)
	}
}

// testChangeRace checks that no session survives a change: it is refused,
// ended, or left with an epoch that the user no longer has.
func testChangeRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	for range rounds(10, 300) {
		a = get(t, s, a)
		all := make([]session.Session, 4)
		for i := range all {
			all[i] = newSession(a)
		}
		together(t, 5, func(i int) (bool, error) {
			if i == 4 {
				_, err := s.ChangeAccount(ctx, a.Tenant, a.ID, session.Change{}, Start())
				return true, err
			}
			err := s.CreateSession(ctx, all[i])
			if errors.Is(err, session.ErrStale) {
				err = nil
			}
			return true, err
		})
		for _, ses := range all {
			got, u, err := s.Session(ctx, ses.ID)
			if errors.Is(err, session.ErrNotFound) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Ended.IsZero() && got.Epoch == u.Epoch {
				t.Fatalf("a session survived the change: %+v", got)
			}
		}
	}
}

func testThrottle(t *testing.T, s session.Store) {
	ctx := t.Context()
	lane, r := randomID(), session.Rate{Burst: 3, Every: time.Minute}
	reserve := func(after, want time.Duration) {
		t.Helper()
		if got, err := s.Reserve(ctx, lane, r, Start().Add(after)); got != want || err != nil {
			t.Errorf("Reserve(%v) = %v, %v, want %v", after, got, err, want)
		}
	}
	reserve(0, 0)
	reserve(0, 0)
	reserve(0, 0)
	reserve(0, time.Minute)
	reserve(20*time.Second, 40*time.Second)
	reserve(time.Minute, 0)
	reserve(time.Minute, time.Minute)
	if err := s.Refund(ctx, lane, r); err != nil {
		t.Fatal(err)
	}
	reserve(time.Minute, 0)
	reserve(time.Minute, time.Minute)
	for range 3 {
		reserve(time.Hour, 0)
	}
	reserve(time.Hour, time.Minute)
	if err := s.Refund(ctx, randomID(), r); err != nil {
		t.Errorf("Refund(unknown) = %v", err)
	}
	lane = randomID() // a refund when nothing is reserved gives no more than the burst
	for range 3 {
		reserve(0, 0)
		if err := s.Refund(ctx, lane, r); err != nil {
			t.Fatal(err)
		}
		if err := s.Refund(ctx, lane, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		reserve(0, 0)
	}
	reserve(0, time.Minute)
}

func testThrottleRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	for range rounds(3, 30) {
		lane, r := randomID(), session.Rate{Burst: 5, Every: time.Minute}
		n := together(t, 100, func(int) (bool, error) {
			wait, err := s.Reserve(ctx, lane, r, Start())
			return wait == 0, err
		})
		if n != 5 {
			t.Fatalf("100 parallel reservations with a burst of 5: %d succeeded", n)
		}
	}
}

func testRefusals(t *testing.T, s session.Store) {
	ctx := t.Context()
	lane := randomID()
	who := session.Refusal{Tenant: tenant, UserID: "u-1", Kind: access.Human, Addr: Addr()}
	refuse := func(after time.Duration, want int) {
		t.Helper()
		if got, err := s.Refuse(ctx, lane, who, Start().Add(after)); got != want || err != nil {
			t.Errorf("Refuse(%v) = %d, %v, want %d", after, got, err, want)
		}
	}
	refuse(0, 1) // the first at once
	refuse(time.Second, 0)
	refuse(59*time.Second, 0)
	refuse(time.Minute, 3)
	refuse(90*time.Second, 0)
	sweep := func(after time.Duration, want ...session.Refusal) {
		t.Helper()
		due, err := s.Sweep(ctx, Start().Add(after), 100)
		if err != nil || !slices.Equal(due.Refusals, want) {
			t.Errorf("Sweep(%v) = %+v, %v, want %+v", after, due.Refusals, err, want)
		}
	}
	sweep(100 * time.Second)
	last := who
	last.Count = 1
	sweep(3*time.Minute, last)
	sweep(5 * time.Minute)

	lane = randomID()
	refuse(time.Hour, 1)
	var sum atomic.Int64
	together(t, 50, func(int) (bool, error) {
		n, err := s.Refuse(ctx, lane, who, Start().Add(time.Hour+time.Second))
		sum.Add(int64(n))
		return true, err
	})
	n, err := s.Refuse(ctx, lane, who, Start().Add(2*time.Hour))
	if sum.Load() != 0 || n != 51 || err != nil {
		t.Errorf("51 refusals: %d handed out within the minute, %d after it, %v", sum.Load(), n, err)
	}
	lane = randomID()
	sum.Store(0)
	calls := together(t, 20, func(int) (bool, error) {
		n, err := s.Refuse(ctx, lane, who, Start().Add(3*time.Hour))
		sum.Add(int64(n))
		return n > 0, err
	})
	if calls != 1 {
		t.Errorf("20 parallel first refusals: %d callers must record, want 1", calls)
	}
	if n, err = s.Refuse(ctx, lane, who, Start().Add(4*time.Hour)); int64(n)+sum.Load() != 21 || err != nil {
		t.Errorf("21 refusals: %d handed out, %v", int64(n)+sum.Load(), err)
	}
}

func testSweep(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	idle, absolute, live := newSession(a), newSession(a), newSession(a)
	absolute.Idle, absolute.Expires = time.Hour, Start().Add(10*time.Minute)
	live.Idle = time.Hour
	for _, ses := range []session.Session{idle, absolute, live} {
		if err := s.CreateSession(ctx, ses); err != nil {
			t.Fatal(err)
		}
	}
	pending := session.Pending{ID: randomID(), Tenant: a.Tenant, UserID: a.ID, Epoch: 1, Expires: Start().Add(5 * time.Minute)}
	if err := s.CreatePending(ctx, pending); err != nil {
		t.Fatal(err)
	}
	sweep := func(after time.Duration) session.Due {
		t.Helper()
		due, err := s.Sweep(ctx, Start().Add(after), 100)
		if err != nil {
			t.Fatalf("Sweep: %v", err)
		}
		return due
	}
	if due := sweep(5*time.Minute - 1); len(due.Sessions)+len(due.Pending) != 0 {
		t.Errorf("nothing is over, yet Sweep = %+v", due)
	}
	if due := sweep(5 * time.Minute); len(due.Pending) != 1 || due.Pending[0].ID != pending.ID || due.Pending[0].UserID != a.ID {
		t.Errorf("Pending = %+v", due.Pending)
	}
	due := sweep(15 * time.Minute)
	reasons := map[session.ID]audit.Reason{}
	for _, ses := range due.Sessions {
		reasons[ses.ID] = ses.Reason
		if ses.Ended.IsZero() || ses.UserID != a.ID || ses.Tenant != a.Tenant {
			t.Errorf("swept %+v", ses)
		}
	}
	if len(due.Pending) != 0 || len(reasons) != 2 || reasons[idle.ID] != audit.ReasonIdle || reasons[absolute.ID] != audit.ReasonAbsolute {
		t.Errorf("Sweep = %+v", due)
	}
	if err := s.Settle(ctx, idle.ID); err != nil {
		t.Fatal(err)
	}
	if due := sweep(16*time.Minute - 1); len(due.Sessions) != 0 {
		t.Errorf("handed out again within the minute: %+v", due.Sessions)
	}
	if due := sweep(16 * time.Minute); len(due.Sessions) != 1 || due.Sessions[0].ID != absolute.ID || due.Sessions[0].Reason != audit.ReasonAbsolute {
		t.Errorf("owed after a minute: %+v, want the one not settled", due.Sessions)
	}
	if err := s.Settle(ctx, absolute.ID); err != nil {
		t.Fatal(err)
	}
	if due := sweep(30 * time.Minute); len(due.Sessions) != 0 {
		t.Errorf("handed out after it was settled: %+v", due.Sessions)
	}
	if l := load(t, s, live.ID); !l.Ended.IsZero() {
		t.Errorf("the live session is %+v", l)
	}
	sweep(25 * time.Hour)
	if _, _, err := s.Session(ctx, idle.ID); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a session settled for more than a day: %v, want ErrNotFound", err)
	}
	if l := load(t, s, live.ID); l.Reason == "" {
		t.Errorf("a session that nobody touched for a day is %+v", l)
	}
	for range 5 {
		open(t, s, a)
	}
	if due, err := s.Sweep(ctx, Start().Add(26*time.Hour), 2); err != nil || len(due.Sessions) == 0 || len(due.Sessions) > 4 {
		t.Errorf("Sweep with a limit of 2 handed out %d, %v", len(due.Sessions), err)
	}
}

func testSweepRace(t *testing.T, s session.Store) {
	ctx := t.Context()
	a := account(t, s)
	at := Start()
	for round := range rounds(3, 30) {
		var ids []session.ID
		for range 10 {
			ids = append(ids, open(t, s, a).ID)
		}
		at = Start().Add(time.Hour + time.Duration(round)*time.Second)
		var mu sync.Mutex
		got := map[session.ID]int{}
		together(t, 8, func(i int) (bool, error) {
			if i == 0 { // a logout in between
				ok, err := s.End(ctx, ids[0], at, audit.ReasonIdle)
				if ok {
					mu.Lock()
					got[ids[0]]++
					mu.Unlock()
				}
				return ok, err
			}
			due, err := s.Sweep(ctx, at, 100)
			mu.Lock()
			defer mu.Unlock()
			for _, ses := range due.Sessions {
				got[ses.ID]++
			}
			return true, err
		})
		for _, id := range ids {
			if got[id] != 1 {
				t.Fatalf("round %d: a session was handed out %d times, want 1", round, got[id])
			}
			if err := s.Settle(ctx, id); err != nil {
				t.Fatalf("Settle: %v", err)
			}
		}
	}
}
