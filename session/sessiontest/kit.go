// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/internal/fault"
	"github.com/part164/part164/session"
)

// Password is long enough for every rule.
const Password = "correct horse battery staple"

// Start is when a [Clock] of [Config] begins.
func Start() time.Time { return time.Date(2026, time.March, 2, 8, 0, 0, 0, time.UTC) }

// Config returns a configuration with a [Store], a [Recorder], a [Sealer], a
// fast KDF and a [Clock] at [Start], in development mode. Change
// what the test is about, then call session.New. In a FIPS-only process codes
// are made with SHA-256.
func Config(t testing.TB) (session.Config, *Recorder, *Clock) {
	t.Helper()
	rec, clock := &Recorder{}, NewClock(Start())
	return session.Config{
		Store: NewStore(), Audit: rec, Sealer: NewSealer(), Issuer: "Elm Street Clinic",
		KDF: FastKDF(), Hashers: 64, SHA256TOTP: fips140.Enforced(), Development: true, Now: clock.Now,
	}, rec, clock
}

// FastKDF is too weak for production: a session.Config takes it in
// development mode only.
func FastKDF() session.KDF { return session.KDF{Memory: 64, Time: 1, Threads: 1, Iterations: 1000} }

// Addr is a caller's address from TEST-NET-1 (RFC 5737).
func Addr() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 7}) }

// NewUser creates a user with [Password] and a confirmed second factor, whose
// current code is not used up.
func NewUser(t testing.TB, m *session.Manager, clock *Clock, tenant, login string, roles ...string) (session.User, session.Enrolment) {
	t.Helper()
	ctx := context.Background()
	u, err := m.CreateUser(ctx, session.NewUser{Tenant: tenant, Login: login, Password: Password, Roles: roles})
	if err != nil {
		t.Fatalf("CreateUser: %v", err)
	}
	e, err := m.BindTOTP(ctx, tenant, u.ID)
	if err != nil {
		t.Fatalf("BindTOTP: %v", err)
	}
	if err := m.ConfirmTOTP(ctx, tenant, u.ID, Code(t, e, clock.Now().Add(-30*time.Second))); err != nil {
		t.Fatalf("ConfirmTOTP: %v", err)
	}
	return u, e
}

// SignIn signs a user of [NewUser] in with password and code and returns the
// session token.
func SignIn(t testing.TB, m *session.Manager, clock *Clock, u session.User, e session.Enrolment) string {
	t.Helper()
	in, err := m.Password(context.Background(), session.Attempt{Tenant: u.Tenant, Login: u.Login, Password: Password, Addr: Addr()})
	if err != nil || in.Next != session.StepTOTP {
		t.Fatalf("Password = %v, %v", in, err)
	}
	in, err = m.TOTP(context.Background(), in.Token, Code(t, e, clock.Now()), Addr())
	if err != nil || in.Next != session.StepDone {
		t.Fatalf("TOTP = %v, %v", in, err)
	}
	return in.Token
}

// Code is what an authenticator app that read the enrolment shows at a time.
// It follows RFC 6238 on its own, without the library that session uses.
func Code(t testing.TB, e session.Enrolment, at time.Time) string {
	t.Helper()
	u, err := url.Parse(e.URI)
	if err != nil {
		t.Fatal("Code: the URI does not parse")
	}
	q := u.Query()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(q.Get("secret"))
	if err != nil {
		t.Fatal("Code: the secret is not base32")
	}
	newHash := func() hash.Hash { return sha1.New() }
	if q.Get("algorithm") == "SHA256" {
		newHash = sha256.New
	}
	period, err := strconv.ParseInt(q.Get("period"), 10, 64)
	if err != nil || period <= 0 || q.Get("digits") != "6" {
		t.Fatal("Code: period or digits is not one that this app knows")
	}
	return hotp(newHash, key, uint64(at.Unix()/period))
}

func hotp(h func() hash.Hash, key []byte, counter uint64) string {
	mac := hmac.New(h, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, counter))
	sum := mac.Sum(nil)
	off := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[off:])&0x7fffffff%1_000_000)
}

// A Clock stands until it is moved. It is safe for concurrent use.
type Clock struct {
	mu sync.Mutex
	at time.Time
}

// NewClock returns a clock that stands at a time.
func NewClock(at time.Time) *Clock { return &Clock{at: at} }

// Now is for Config.Now.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Advance moves the clock; d may be negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// Recorder keeps events in memory. The zero value is ready to use. Apps that
// test more than sign-in use audittest.Trail.
type Recorder struct {
	faults fault.Faults
	mu     sync.Mutex
	events []audit.Event
}

// Record implements audit.Recorder. Like the journal it refuses events that
// are not valid, and takes the actor from ctx where it has one.
func (r *Recorder) Record(ctx context.Context, ev audit.Event) (audit.Receipt, error) {
	if err := r.faults.Call(ctx); err != nil {
		return audit.Receipt{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := audit.Stamp(ctx, ev); err != nil {
		return audit.Receipt{}, err
	}
	if p, ok := access.PrincipalFrom(ctx); ok {
		ev.Actor = p
	}
	r.events = append(r.events, ev)
	return audit.Receipt{ID: fmt.Sprintf("event-%d", len(r.events))}, nil
}

// Fail makes every later Record fail with err, and record nothing, until
// Fail(nil).
func (r *Recorder) Fail(err error) { r.FailAfter(0, err) }

// FailAfter lets n more events through and makes every later Record fail with
// err, until Fail(nil).
func (r *Recorder) FailAfter(n int, err error) { r.faults.FailAfter(n, err) }

// Delay makes every later Record take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (r *Recorder) Delay(d time.Duration) { r.faults.Delay(d) }

// Take returns the events recorded since the last Take.
func (r *Recorder) Take() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	evs := r.events
	r.events = nil
	return evs
}

// Count returns how many events of a type with a reason were recorded since
// the last Take.
func (r *Recorder) Count(t audit.Type, reason audit.Reason) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, ev := range r.events {
		if ev.Type == t && ev.Reason == reason {
			n++
		}
	}
	return n
}

// Sealer seals with a key that dies with it. It is safe for concurrent use.
type Sealer struct {
	aead   cipher.AEAD
	faults fault.Faults
}

var _ crypto.Sealer = (*Sealer)(nil)

// NewSealer returns a Sealer with a random key.
func NewSealer() *Sealer {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // 32 bytes are an AES-256 key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &Sealer{aead: aead}
}

// Fail makes every later call fail with err, until Fail(nil).
func (s *Sealer) Fail(err error) { s.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (s *Sealer) FailAfter(n int, err error) { s.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (s *Sealer) Delay(d time.Duration) { s.faults.Delay(d) }

// Seal implements crypto.Sealer.
func (s *Sealer) Seal(ctx context.Context, b crypto.Binding, plaintext []byte) ([]byte, error) {
	if err := s.faults.Call(ctx); err != nil {
		return nil, err
	}
	return s.aead.Seal(nil, nil, plaintext, bindingData(b)), nil
}

// Open implements crypto.Sealer.
func (s *Sealer) Open(ctx context.Context, b crypto.Binding, cell []byte) ([]byte, error) {
	if err := s.faults.Call(ctx); err != nil {
		return nil, err
	}
	return s.aead.Open(nil, nil, cell, bindingData(b))
}

func bindingData(b crypto.Binding) []byte {
	var out []byte
	for _, p := range []string{b.Tenant, b.Field, b.Record, b.Subject} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out
}
