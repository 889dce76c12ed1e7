// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/audit/sinktest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A house is an app with all that can be down.
type house struct {
	t       *testing.T
	disk    *audittest.Disk
	journal *audit.Journal
	remote  *sinktest.Fake // waited for, where there is one
	sink    *sinktest.Fake
	policy  *accesstest.Fake
	kek     *cryptotest.KEK
	store   *sessiontest.Store
	witness atomic.Pointer[error]
	now     atomic.Pointer[time.Time]

	db    *storagetest.DB
	users *session.Manager
	clock *sessiontest.Clock
	nurse session.User
	phone session.Enrolment
	token string
	note  Note
	alarm atomic.Int64
}

type houseConfig struct{ emergency, remote bool }

func newHouse(t *testing.T, cfg houseConfig) *house {
	t.Helper()
	h := &house{t: t, policy: accesstest.Allow(), kek: cryptotest.NewKEK(), sink: new(sinktest.Fake)}
	h.setNow(time.Now())
	dir := filepath.Join(audittest.Dir(t), "journal")
	var err error
	if h.disk, err = audittest.NewDisk(dir, 0); err != nil {
		t.Fatal(err)
	}
	jcfg := audit.Config{Development: true, Disk: h.disk, CheckpointEvery: 5 * time.Millisecond, Timeout: 5 * time.Second}
	if cfg.emergency {
		jcfg.EmergencyOpen = &audit.Emergency{Alarm: func(n int) { h.alarm.Store(int64(n)) }, Stderr: new(bytes.Buffer)}
	}
	if cfg.remote {
		h.remote = sinktest.Named("remote")
		jcfg.Durability = sink.Durable(h.remote)
	}
	if h.journal, err = audit.Open(dir, jcfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.journal.Close() })
	pipe, err := sink.Open(h.journal, h.sink, sink.Config{MaxLag: time.Second, Retry: time.Millisecond, MaxRetry: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	h.journal.Require("sink", func() error { return pipe.Ready(context.Background()) })
	h.journal.Require("witness", func() error {
		if err := h.witness.Load(); err != nil {
			return *err
		}
		return nil
	})
	views, err := minimize.New(append(minimize.Starter().Rules(), minimize.Rule{Role: "physician", Purposes: []access.Purpose{access.BreakGlass},
		View: minimize.Reveal, Right: minimize.Change, Classes: minimize.Classes()}))
	if err != nil {
		t.Fatal(err)
	}
	h.db = storagetest.Open(t, openSQLite(t), func(c *storage.Config) {
		c.KEK, c.Audit, c.Access, c.Now = h.kek, h.journal, h.policy, func() time.Time { return *h.now.Load() }
		c.Minimize = views
	}, &Note{})
	scfg, _, clock := sessiontest.Config(t)
	h.store, h.clock = scfg.Store.(*sessiontest.Store), clock
	scfg.Audit = h.journal
	if h.users, err = session.New(scfg); err != nil {
		t.Fatal(err)
	}
	h.nurse, h.phone = sessiontest.NewUser(t, h.users, clock, accesstest.Tenant, "Nora@clinic.example", "nurse")
	h.token = sessiontest.SignIn(t, h.users, clock, h.nurse, h.phone)
	h.note.Text = storage.Seal("stable")
	if err := h.db.WithContext(h.as(access.Treatment)).Create(&h.note).Error; err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) setNow(now time.Time) { h.now.Store(&now) }

func (h *house) as(purpose access.Purpose) context.Context {
	return access.With(h.t.Context(), accesstest.Principal(accesstest.Tenant, "physician"), purpose)
}

// The four acts. Each returns why it was refused.
func (h *house) signIn() error {
	h.clock.Advance(time.Minute) // a code serves once
	in, err := h.users.Password(h.t.Context(), session.Attempt{Tenant: h.nurse.Tenant, Login: h.nurse.Login, Password: sessiontest.Password, Addr: sessiontest.Addr()})
	if err != nil {
		return err
	}
	_, err = h.users.TOTP(h.t.Context(), in.Token, sessiontest.Code(h.t, h.phone, h.clock.Now()), sessiontest.Addr())
	return err
}

func (h *house) request() error {
	_, err := h.users.Authenticate(h.t.Context(), h.token, sessiontest.Addr())
	return err
}

func (h *house) reveal(ctx context.Context) error {
	var n Note
	if err := h.db.WithContext(ctx).Take(&n, "id = ?", h.note.ID).Error; err != nil {
		return err
	}
	if err := storage.Reveal(ctx, &n); err != nil {
		if _, gerr := n.Text.Get(ctx); gerr == nil {
			h.t.Error("a refused reveal opened the cell")
		}
		return err
	}
	_, err := n.Text.Get(ctx)
	return err
}

func (h *house) write(ctx context.Context) error {
	return h.db.WithContext(ctx).Create(&Note{Text: storage.Seal("new")}).Error
}

// acts runs the acts of one column each, in the order of the matrix.
func (h *house) acts() [6]error {
	return [6]error{
		h.signIn(), h.request(), h.reveal(h.as(access.Treatment)), h.write(h.as(access.Treatment)),
		h.reveal(h.as(access.BreakGlass)), h.write(h.as(access.BreakGlass)),
	}
}

// TestAvailability is the matrix of docs/availability.md, as far as its parts
// exist: what is down, and what each act does meanwhile and afterwards.
func TestAvailability(t *testing.T) {
	t.Parallel()
	down := errors.New("it is down")
	diskDown := func(h *house) {
		h.disk.Fail(func(op audittest.Op, _ string) (int, error) {
			if op == audittest.DiskWrite || op == audittest.DiskCreate {
				return 0, syscall.EIO
			}
			return 0, nil
		})
	}
	diskUp := func(h *house) { h.disk.Fail(nil) }
	un := audit.ErrUnavailable
	for _, c := range []struct {
		name     string
		cfg      houseConfig
		down, up func(*house)

		// nil: it works; else what the refusal wraps
		signIn, request, reveal, write, glass, glassWrite error
		ready                                             error
	}{
		{"journal", houseConfig{}, diskDown, diskUp,
			un, nil, un, un, un, un, un},
		{"journal, with EmergencyOpen", houseConfig{emergency: true}, diskDown, diskUp,
			un, nil, un, un, nil, un, un},
		{"journal, the remote that it waits for", houseConfig{remote: true}, func(h *house) { h.remote.Fail(down) }, func(h *house) { h.remote.Fail(nil) },
			un, nil, un, un, un, un, un},
		{"journal, that remote, with EmergencyOpen", houseConfig{emergency: true, remote: true}, func(h *house) { h.remote.Fail(down) }, func(h *house) { h.remote.Fail(nil) },
			un, nil, un, un, nil, un, un},
		{"policy database", houseConfig{}, func(h *house) { h.policy.Fail(down) }, func(h *house) { h.policy.Fail(nil) },
			nil, nil, down, down, down, down, nil},
		{"KMS, within the hour", houseConfig{}, func(h *house) { h.kek.Fail(cryptotest.ErrDown); h.setNow(time.Now().Add(30 * time.Minute)) }, func(h *house) { h.kek.Fail(nil) },
			nil, nil, nil, nil, nil, nil, nil},
		{"KMS, after it", houseConfig{}, func(h *house) { h.kek.Fail(cryptotest.ErrDown); h.setNow(time.Now().Add(66 * time.Minute)) }, func(h *house) { h.kek.Fail(nil) },
			nil, nil, crypto.ErrUnreachable, crypto.ErrUnreachable, crypto.ErrUnreachable, crypto.ErrUnreachable, nil},
		{"sink", houseConfig{}, func(h *house) { h.sink.Fail(down) }, func(h *house) { h.sink.Fail(nil) },
			nil, nil, nil, nil, nil, nil, down},
		{"witness", houseConfig{}, func(h *house) { h.witness.Store(&down) }, func(h *house) { h.witness.Store(nil) },
			nil, nil, nil, nil, nil, nil, down},
		{"session store", houseConfig{}, func(h *house) { h.store.Fail(down) }, func(h *house) { h.store.Fail(nil) },
			down, down, nil, nil, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, c.cfg)
			columns := [6]string{"sign-in", "request", "reveal", "write", "break-glass", "break-glass write"}
			works := func(when string) {
				t.Helper()
				for i, err := range h.acts() {
					if err != nil {
						t.Errorf("%s, %s: %v", when, columns[i], err)
					}
				}
				if err := h.eventually(func() bool { return h.journal.Ready() == nil }); err != nil {
					t.Errorf("%s: Ready = %v", when, h.journal.Ready())
				}
			}
			works("before")
			c.down(h)
			for range 2 {
				acts := h.acts()
				for i, want := range [6]error{c.signIn, c.request, c.reveal, c.write, c.glass, c.glassWrite} {
					got := acts[i]
					if want == nil && got != nil || !errors.Is(got, want) {
						t.Errorf("%s: %v, want %v", columns[i], got, want)
					}
				}
			}
			if err := h.eventually(func() bool {
				got := h.journal.Ready()
				return c.ready == nil && got == nil || c.ready != nil && errors.Is(got, c.ready)
			}); err != nil {
				t.Errorf("Ready = %v, want %v", h.journal.Ready(), c.ready)
			}
			if c.cfg.emergency && h.alarm.Load() == 0 {
				t.Error("break-glass went on without an alarm")
			}
			c.up(h)
			if err := h.eventually(func() bool { return h.journal.Ready() == nil }); err != nil {
				t.Fatalf("afterwards: Ready = %v", h.journal.Ready())
			}
			works("afterwards")
			if c.cfg.emergency {
				gaps := 0
				for s, err := range h.journal.Replay(t.Context(), "", audit.Gap) {
					if err != nil {
						t.Fatal(err)
					}
					gaps += s.Count
				}
				if gaps < int(h.alarm.Load()) {
					t.Errorf("gaps name %d events, the alarm %d", gaps, h.alarm.Load())
				}
			}
			if err := storage.Settle(t.Context(), h.db.DB); err != nil {
				t.Error(err)
			}
			if r, err := storage.Check(maintainer(t), h.db.DB, nil); err != nil || len(r.Findings) > 0 {
				t.Errorf("Check = %+v, %v", r.Findings, err)
			}
		})
	}
}

// eventually waits for what happens by itself.
func (h *house) eventually(done func() bool) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if done() {
			return nil
		}
	}
	return errors.New("it does not happen")
}
