// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// ErrRefused is what every refusal of a key or a certificate is. It does not say
// why; the trail does.
var ErrRefused = errors.New("machine: refused")

// Config configures [New] and, with its own fields, [CertConfig]. Store, Audit
// and Accounts are required.
type Config struct {
	Store Store          // storage/machinestore, or NewMemory for a trial
	Audit audit.Recorder // records keys made, replaced and revoked, and refusals

	// Accounts says what kind of account of a tenant has an ID; an empty Kind
	// where there is none. Anything but none and a service is refused.
	//
	//	func(ctx context.Context, tenant, id string) (access.Kind, error) {
	//		u, err := sessions.User(ctx, tenant, id)
	//		if errors.Is(err, session.ErrNotFound) {
	//			return "", nil
	//		}
	//		return u.Kind, err
	//	}
	Accounts func(ctx context.Context, tenant, id string) (access.Kind, error)

	// Prefix begins every token, so that secret scanners find it. Empty means
	// "part164"; your own is of 3 to 20 lower-case letters and digits.
	Prefix string

	// MaxLife is the longest that a key may live. 0 means 365 days. No regulation
	// sets the number.
	MaxLife time.Duration

	Addr func(*http.Request) netip.Addr // the caller's address; nil means the connection's, see httpaccess.ClientAddr
	Now  func() time.Time               // nil means time.Now
	Log  *zap.Logger                    // gets failures, never a token; nil is silent
}

// Keys issues, verifies and ends API keys. It is safe for concurrent use.
type Keys struct{ cfg Config }

var _ access.Invalidator = (*Keys)(nil)

const (
	day         = 24 * time.Hour
	defaultLife = 90 * day
	maxOverlap  = 30 * day    // ours: two keys for one service are for a change-over
	touchEvery  = time.Minute // the precision of Key.LastUsed
)

// New returns a Keys, or an error naming the first bad field of cfg.
func New(cfg Config) (*Keys, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = "part164"
	}
	if cfg.MaxLife == 0 {
		cfg.MaxLife = 365 * day
	}
	switch {
	case cfg.Store == nil:
		return nil, errors.New("machine: Config.Store is nil: take storage/machinestore, or NewMemory for a trial")
	case cfg.Audit == nil:
		return nil, errors.New("machine: Config.Audit is nil: give the journal of audit.Open")
	case cfg.Accounts == nil:
		return nil, errors.New("machine: Config.Accounts is nil: without it a key might be a person's")
	case len(cfg.Prefix) < 3 || len(cfg.Prefix) > 20 || strings.Trim(cfg.Prefix, "abcdefghijklmnopqrstuvwxyz0123456789") != "":
		return nil, errors.New("machine: Config.Prefix is not of 3 to 20 lower-case letters and digits")
	case cfg.MaxLife < 0:
		return nil, errors.New("machine: Config.MaxLife is negative")
	}
	if cfg.Addr == nil {
		cfg.Addr = connAddr
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Keys{cfg}, nil
}

// Issue makes a key and returns it with its token, which is shown this once. The
// principal of ctx, where there is one, is of the key's tenant.
func (k *Keys) Issue(ctx context.Context, n NewKey) (Key, string, error) {
	if n.Life == 0 {
		n.Life = min(defaultLife, k.cfg.MaxLife)
	}
	if err := n.validate("NewKey"); err != nil {
		return Key{}, "", fmt.Errorf("machine: issue key: %w", err)
	}
	if n.Life < 0 || n.Life > k.cfg.MaxLife {
		return Key{}, "", fmt.Errorf("machine: issue key: NewKey.Life is not within %v", k.cfg.MaxLife)
	}
	if err := k.admits(ctx, n.Tenant, n.Service); err != nil {
		return Key{}, "", fmt.Errorf("machine: issue key: %w", err)
	}
	now := k.cfg.Now()
	token, id, hash := newSecret(k.cfg.Prefix)
	key := Key{
		ID: id, Tenant: n.Tenant, Service: n.Service, Hash: hash, Roles: n.Roles, Purposes: n.Purposes, Networks: n.Networks,
		Created: now, Expires: now.Add(n.Life),
	}.clone()
	if err := k.cfg.Store.CreateKey(ctx, key); err != nil {
		return Key{}, "", fmt.Errorf("machine: issue key: %w", err)
	}
	if err := k.record(ctx, &key, audit.ReasonEnrolled); err != nil {
		return Key{}, "", fmt.Errorf("machine: issue key: %w", k.undo(ctx, &key, err))
	}
	return key, token, nil
}

// Rotate makes the successor of a live key, with its rights and as long a life,
// and lets the old one live for overlap more: 30 days at most, 0 ends it at once.
// A key has one successor: of two callers one gets [ErrNotFound].
func (k *Keys) Rotate(ctx context.Context, tenant, id string, overlap time.Duration) (Key, string, error) {
	key, token, err := k.rotate(ctx, tenant, id, overlap)
	if err != nil {
		return Key{}, "", fmt.Errorf("machine: rotate key: %w", err)
	}
	return key, token, nil
}

func (k *Keys) rotate(ctx context.Context, tenant, id string, overlap time.Duration) (Key, string, error) {
	if overlap < 0 || overlap > maxOverlap {
		return Key{}, "", fmt.Errorf("the overlap is not within %v", maxOverlap)
	}
	old, err := k.cfg.Store.Key(ctx, id)
	if err != nil {
		return Key{}, "", err
	}
	if old.Tenant != tenant {
		return Key{}, "", ErrNotFound
	}
	if err := k.admits(ctx, tenant, old.Service); err != nil {
		return Key{}, "", err
	}
	now := k.cfg.Now()
	token, nextID, hash := newSecret(k.cfg.Prefix)
	next := old.clone()
	next.ID, next.Hash, next.Created, next.Expires = nextID, hash, now, now.Add(min(old.life(), k.cfg.MaxLife))
	next.LastUsed, next.Revoked, next.Next = time.Time{}, time.Time{}, ""
	if err := k.cfg.Store.RotateKey(ctx, tenant, id, next, now.Add(overlap), now); err != nil {
		return Key{}, "", err
	}
	if err := k.record(ctx, &next, audit.ReasonRotation); err != nil {
		return Key{}, "", k.undo(ctx, &next, err)
	}
	return next, token, nil
}

// life is how long a key was made to live.
func (k *Key) life() time.Duration { return k.Expires.Sub(k.Created) }

// undo revokes a key that could not be recorded.
func (k *Keys) undo(ctx context.Context, key *Key, err error) error {
	_, undone := k.cfg.Store.RevokeKey(context.WithoutCancel(ctx), key.Tenant, key.ID, k.cfg.Now())
	return errors.Join(err, undone)
}

// Revoke ends a key at once; its successor, where there is one, goes on. It is no
// error when the key is revoked already, or when there is none.
func (k *Keys) Revoke(ctx context.Context, tenant, id string) error {
	ok, err := k.cfg.Store.RevokeKey(ctx, tenant, id, k.cfg.Now())
	if err != nil {
		return fmt.Errorf("machine: revoke key: %w", err)
	}
	if !ok {
		return nil
	}
	key, err := k.cfg.Store.Key(ctx, id)
	if err == nil {
		err = k.record(ctx, &key, audit.ReasonRevoked)
	}
	if err != nil {
		return fmt.Errorf("machine: revoke key: it is revoked, and not recorded: %w", err)
	}
	return nil
}

// Invalidate implements [access.Invalidator]: it ends every key of a service at
// once.
func (k *Keys) Invalidate(ctx context.Context, tenant, service string) error {
	n, err := k.cfg.Store.RevokeService(ctx, tenant, service, k.cfg.Now())
	if err != nil {
		return fmt.Errorf("machine: revoke keys: %w", err)
	}
	if n == 0 {
		return nil
	}
	_, err = k.cfg.Audit.Record(ctx, audit.Event{
		Type: audit.FactorChanged, Outcome: audit.Success, Reason: audit.ReasonRevoked, User: service, UserKind: access.Service, Count: n,
	})
	if err != nil {
		return fmt.Errorf("machine: revoke keys: they are revoked, and not recorded: %w", err)
	}
	return nil
}

// List returns all keys of a tenant, the oldest first, for a review of access (45
// CFR 164.308(a)(4)(ii)(C)): who has which rights, until when, and used when.
func (k *Keys) List(ctx context.Context, tenant string) ([]Key, error) {
	keys, err := k.cfg.Store.Keys(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("machine: list keys: %w", err)
	}
	return keys, nil
}

// admits reports why nobody of ctx may make a key for an account.
func (k *Keys) admits(ctx context.Context, tenant, service string) error {
	if p, ok := access.PrincipalFrom(ctx); ok && p.Tenant != tenant {
		return errors.New("the caller is of another tenant")
	}
	return notAPerson(ctx, k.cfg.Accounts, tenant, service)
}

// errPerson means that a program would have acted as a person.
var errPerson = errors.New("the account is a person's: give the program an ID of its own")

func notAPerson(ctx context.Context, accounts func(context.Context, string, string) (access.Kind, error), tenant, id string) error {
	switch kind, err := accounts(ctx, tenant, id); {
	case err != nil:
		return fmt.Errorf("look up account: %w", err)
	case kind != "" && kind != access.Service:
		return errPerson
	}
	return nil
}

// record records what became of a key.
func (k *Keys) record(ctx context.Context, key *Key, reason audit.Reason) error {
	_, err := k.cfg.Audit.Record(ctx, audit.Event{
		Type: audit.FactorChanged, Outcome: audit.Success, Reason: reason, User: key.Service, UserKind: access.Service,
		Objects: []audit.Object{{Type: "api_key", Tenant: key.Tenant, Record: "k-" + key.ID}},
	})
	return err
}

// Authenticate returns the service whose token this is, for a caller at addr. An
// error that is [ErrRefused] means that it is nobody's, or not to be used now or
// from there; any other that nobody can tell. Callers treat both as nobody.
func (k *Keys) Authenticate(ctx context.Context, token string, addr netip.Addr) (access.Principal, error) {
	id, hash, err := parseToken(k.cfg.Prefix, token)
	if err != nil {
		return access.Principal{}, k.refuse(ctx, access.Principal{Addr: addr}, audit.ReasonForged, "")
	}
	key, err := k.cfg.Store.Key(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return access.Principal{}, fmt.Errorf("machine: authenticate: %w", err)
	}
	// An unknown key has the zero hash, which no secret is known to have; it is
	// compared all the same.
	match := subtle.ConstantTimeCompare(hash[:], key.Hash[:]) == 1 && key.Hash != [sha256.Size]byte{}
	p := key.principal(addr)
	now := k.cfg.Now()
	switch {
	case err != nil || !match:
		return access.Principal{}, k.refuse(ctx, access.Principal{Tenant: key.Tenant, Addr: addr}, audit.ReasonForged, "")
	case !key.Revoked.IsZero():
		return access.Principal{}, k.refuse(ctx, p, audit.ReasonRevoked, "")
	case !key.Live(now):
		return access.Principal{}, k.refuse(ctx, p, audit.ReasonExpired, "")
	case !within(key.Networks, addr):
		return access.Principal{}, k.refuse(ctx, p, audit.ReasonPolicy, access.DenyAddress)
	}
	switch err := notAPerson(ctx, k.cfg.Accounts, key.Tenant, key.Service); {
	case errors.Is(err, errPerson):
		return access.Principal{}, k.refuse(ctx, p, audit.ReasonPolicy, access.DenyInvalid)
	case err != nil:
		return access.Principal{}, fmt.Errorf("machine: authenticate: %w", err)
	}
	if now.Sub(key.LastUsed) >= touchEvery {
		if err := k.cfg.Store.TouchKey(ctx, id, now); err != nil {
			k.cfg.Log.Error("machine: the last use of a key was not noted", zap.Error(err))
		}
	}
	return p, nil
}

func (k *Keys) refuse(ctx context.Context, who access.Principal, reason audit.Reason, code access.Code) error {
	return refuse(ctx, k.cfg.Audit, who, reason, code)
}

// refuse records a refusal and returns ErrRefused.
func refuse(ctx context.Context, trail audit.Recorder, who access.Principal, reason audit.Reason, code access.Code) error {
	ev := audit.Event{Type: audit.SignInFailed, Outcome: audit.Failure, Reason: reason, Code: code, Actor: who}
	if _, err := trail.Record(ctx, ev); err != nil {
		return fmt.Errorf("machine: authenticate: a refusal was not recorded: %w", err)
	}
	return ErrRefused
}
