// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// Config configures [New]. Store, Audit, Sealer and Issuer are required; the
// zero value of everything else is the production setting.
type Config struct {
	Store  Store          // users and sessions: storage/sessionstore, or NewMemory for a trial
	Audit  audit.Recorder // where each sign-in and logoff is recorded; no record, no sign-in
	Sealer crypto.Sealer  // seals TOTP secrets to their users
	Issuer string         // the name that authenticator apps show; no colon, no control characters

	// Idle is the time of inactivity after which a session is over (automatic
	// logoff, 45 CFR 164.312(a)(2)(iii), which sets no number). Zero means 15
	// minutes: the inactivity limit that NIST SP 800-63B (2017) sets for
	// reauthentication at AAL3, its strictest; at AAL2 it allows 30.
	Idle time.Duration

	// Absolute is the time after which a session is over whatever happens.
	// Zero means 12 hours, which NIST SP 800-63B (2017) sets for
	// reauthentication at AAL2 and AAL3.
	Absolute time.Duration

	// PendingTTL is the time from the password to the code. Zero means 5
	// minutes.
	PendingTTL time.Duration

	// SingleFactor lets users without a second factor sign in with a password
	// alone, which must then have 15 characters. Users who have a factor still
	// need it.
	SingleFactor bool

	// SHA256TOTP binds new factors with HMAC-SHA256 instead of HMAC-SHA1. A
	// FIPS-only process needs it; not every authenticator app can do it.
	SHA256TOTP bool

	// KDF is the cost of checking a password, and Hashers how many are checked
	// at once; zero means GOMAXPROCS. Eight times as many may wait, the rest
	// get [ErrBusy].
	KDF     KDF
	Hashers int

	// The throttle: tries of one account's password, tries from one address
	// (an IPv6 /64 counts as one), and tries of one account's codes. Zero
	// means 5 and then one a minute; 30 and then one each 30 s; 5 and then one
	// each 6 minutes. These are ours: NIST SP 800-63B asks for a limit of at
	// most 100 consecutive failures and leaves the pace open. A factor that is
	// right gives its try back.
	AccountRate, AddressRate, CodeRate Rate

	// StatusPath is where [Manager.Middleware] answers how long the session
	// has left, without touching it. Empty means /session/status.
	StatusPath string

	// ClientAddr tells the caller's address. Nil means the address of the
	// connection; behind a proxy that is the proxy's, and all users share its
	// lane, so read there what your own proxy sets. An invalid address is
	// throttled as one address.
	ClientAddr func(*http.Request) netip.Addr

	// Development allows cookies over plain HTTP, from loopback addresses
	// only, a weaker KDF, and the Development methods.
	Development bool

	// Deviations documents, for the audit trail, which safeguards are not
	// followed here and why.
	Deviations []access.Deviation

	Now func() time.Time // the clock; nil means time.Now
	Log *zap.Logger      // operational log; nil is silent. It never gets a login, token, code or password
}

// A Manager signs users in and keeps their sessions. Make it with [New]; it is
// safe for concurrent use.
type Manager struct {
	store       Store
	audit       audit.Recorder
	sealer      crypto.Sealer
	issuer      string
	idle        time.Duration
	absolute    time.Duration
	pendingTTL  time.Duration
	single      bool
	sha256      bool
	hasher      *hasher
	account     Rate
	address     Rate
	code        Rate
	statusPath  string
	clientAddr  func(*http.Request) netip.Addr
	development bool
	now         func() time.Time
	log         *zap.Logger
	origin      *http.CrossOriginProtection
}

var _ access.Invalidator = (*Manager)(nil)

// Defaults of Config; their sources are in its documentation.
const (
	defaultIdle       = 15 * time.Minute
	defaultAbsolute   = 12 * time.Hour
	defaultPendingTTL = 5 * time.Minute
	defaultStatusPath = "/session/status"

	// maxTries is how many codes one pending sign-in takes. With two steps
	// that are valid of 1,000,000 codes a pending sign-in is guessed with
	// probability 1e-5.
	maxTries = 5
)

// New returns a Manager, or an error that names the first bad field of cfg. It
// records the deviations.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("session: Config.Store is nil: use sessionstore.New, or NewMemory for a trial")
	case cfg.Audit == nil:
		return nil, errors.New("session: Config.Audit is nil: use audit.Open")
	case cfg.Sealer == nil:
		return nil, errors.New("session: Config.Sealer is nil: use crypto.NewSealer")
	case cfg.Issuer == "":
		return nil, errors.New("session: Config.Issuer is empty: set the name that authenticator apps show")
	case !plainText(cfg.Issuer):
		return nil, errors.New("session: Config.Issuer holds a colon or a control character")
	}
	m := &Manager{
		store: cfg.Store, audit: cfg.Audit, sealer: cfg.Sealer, issuer: cfg.Issuer,
		idle:       orDefault(cfg.Idle, defaultIdle),
		absolute:   orDefault(cfg.Absolute, defaultAbsolute),
		pendingTTL: orDefault(cfg.PendingTTL, defaultPendingTTL),
		single:     cfg.SingleFactor, sha256: cfg.SHA256TOTP,
		account:     orDefault(cfg.AccountRate, Rate{5, time.Minute}),
		address:     orDefault(cfg.AddressRate, Rate{30, 30 * time.Second}),
		code:        orDefault(cfg.CodeRate, Rate{5, 6 * time.Minute}),
		statusPath:  orDefault(cfg.StatusPath, defaultStatusPath),
		clientAddr:  cfg.ClientAddr,
		development: cfg.Development,
		now:         cfg.Now, log: cfg.Log,
		origin: http.NewCrossOriginProtection(),
	}
	if m.clientAddr == nil {
		m.clientAddr = connAddr
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.log == nil {
		m.log = zap.NewNop()
	}
	switch {
	case m.idle < 0:
		return nil, errors.New("session: Config.Idle is negative")
	case m.absolute < m.idle:
		return nil, errors.New("session: Config.Absolute is less than Config.Idle")
	case m.pendingTTL < 0:
		return nil, errors.New("session: Config.PendingTTL is negative")
	case cfg.Hashers < 0:
		return nil, errors.New("session: Config.Hashers is negative")
	case !strings.HasPrefix(m.statusPath, "/"):
		return nil, errors.New("session: Config.StatusPath does not begin with a slash")
	}
	for _, r := range []struct {
		name string
		rate Rate
	}{{"AccountRate", m.account}, {"AddressRate", m.address}, {"CodeRate", m.code}} {
		if r.rate.Burst < 1 || r.rate.Every <= 0 {
			return nil, fmt.Errorf("session: Config.%s needs a Burst of at least 1 and a positive Every", r.name)
		}
	}
	kdf := cfg.KDF.withDefaults()
	if err := kdf.validate(cfg.Development); err != nil {
		return nil, err
	}
	m.hasher = newHasher(kdf, orDefault(cfg.Hashers, runtime.GOMAXPROCS(0)), fips140.Enforced())
	for _, d := range cfg.Deviations {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("session: Config.Deviations: %w", err)
		}
		ev := audit.Event{Type: audit.Deviation, Outcome: audit.Success, Citation: d.Citation}
		if err := m.record(context.Background(), ev); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// plainText reports whether s can be part of an otpauth label.
func plainText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == ':' || r == unicode.ReplacementChar || unicode.IsControl(r) })
}

// record makes ev durable. It goes on when the request is cancelled.
func (m *Manager) record(ctx context.Context, ev audit.Event) error {
	if _, err := m.audit.Record(context.WithoutCancel(ctx), ev); err != nil {
		return fmt.Errorf("session: record %s: %w", ev.Type, err)
	}
	return nil
}

// recordSignIn records an event of somebody who is signing in. The principal
// that the request may already have, somebody else's perhaps, is not the actor.
func (m *Manager) recordSignIn(ev audit.Event) error { return m.record(context.Background(), ev) }

// failed records that what ev announced did not happen, and returns err.
func (m *Manager) failed(ctx context.Context, ev audit.Event, err error) error {
	ev.Outcome = audit.Failure
	return errors.Join(err, m.record(ctx, ev))
}

// refuse records a refused factor and returns err, or why it could not be
// recorded.
func (m *Manager) refuse(who access.Principal, reason audit.Reason, err error) error {
	ev := audit.Event{Type: audit.SignInFailed, Outcome: audit.Failure, Reason: reason, Actor: who}
	if rerr := m.recordSignIn(ev); rerr != nil {
		return rerr
	}
	return err
}

// userEvent is an event about a user, whoever acts.
func (m *Manager) userEvent(t audit.Type, reason audit.Reason, who access.Principal) audit.Event {
	return audit.Event{Type: t, Outcome: audit.Success, Reason: reason, Actor: who,
		Objects: []audit.Object{{Type: "user", Tenant: who.Tenant, Record: who.ID}}}
}

// principal is the principal of a user in a session; with the zero Session, of
// a user who is not signed in.
func (m *Manager) principal(u User, s Session) access.Principal {
	p := access.Principal{ID: u.ID, Tenant: u.Tenant, Kind: u.Kind, Roles: u.Roles, Addr: s.Addr}
	if s.ID != (ID{}) {
		p.Session, p.Assurance, p.AuthTime = s.ID.Ref(), s.Assurance, s.AuthTime
	}
	return p
}
