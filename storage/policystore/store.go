// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/table"
)

// Errors of a [Store].
var (
	ErrClosed  = errors.New("policystore: the store has no database: call Open")
	ErrForged  = errors.New("policystore: the tables hold what no recorded change explains: see Store.Verify")
	ErrSetBack = errors.New("policystore: the database holds an older policy than before: was a copy restored?")
)

// A Store decides by the policy in a database, and changes it. It implements
// [access.Authorizer]. Make it with [New]; it is safe for concurrent use.
type Store struct {
	cfg    Config
	engine rbac.Engine // of the newest policy that loaded

	fresh freshness

	mu      sync.Mutex
	db      *gorm.DB // nil before Open and after Close
	mac     storage.MAC
	current *state        // nil before Open
	changed chan struct{} // closed when current changes, and then made anew
	stop    func()

	loading  sync.Mutex // held by who brings current up to date
	revision atomic.Uint64
	opened   atomic.Bool
}

var _ access.Authorizer = (*Store)(nil)

// New returns a store that denies everything until [Store.Open], so that it can
// be given to storage.Open first. The error names the first bad field of cfg.
func New(cfg Config) (*Store, error) {
	cfg.Deviations, cfg.Holders = slices.Clone(cfg.Deviations), slices.Clone(cfg.Holders)
	cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("policystore: %w", err)
	}
	s := &Store{cfg: cfg, changed: make(chan struct{})}
	s.fresh.init(&s.cfg)
	return s, nil
}

// Open loads the policy and keeps it up to date until Close. db is one of
// storage.Open, after storage.Migrate and [Migrate]. A database without a policy
// denies everything: see [Store.Init].
func (s *Store) Open(ctx context.Context, db *gorm.DB) error {
	fail := func(err error) error { return fmt.Errorf("policystore: open: %w", err) }
	mac, err := storage.StatementMAC(ctx, db)
	if err != nil {
		return fail(err)
	}
	s.mu.Lock()
	if s.db != nil {
		s.mu.Unlock()
		return fail(errors.New("the store is open already"))
	}
	s.db, s.mac = table.Quiet(db), mac
	s.mu.Unlock()
	if err := s.refresh(ctx); err != nil {
		s.mu.Lock()
		s.db = nil
		s.mu.Unlock()
		return fail(err)
	}
	s.opened.Store(true)
	background, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.poll(background)
	}()
	s.mu.Lock()
	s.stop = func() { cancel(); <-done }
	s.mu.Unlock()
	return nil
}

// Close stops the polling: from Config.MaxStale on everything is denied. The
// database stays open.
func (s *Store) Close() error {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop != nil {
		stop()
		s.mu.Lock()
		s.db = nil
		s.mu.Unlock()
	}
	return nil
}

// Current returns the revision of the policy in force in this process; 0 where
// there is none.
func (s *Store) Current() uint64 { return s.revision.Load() }

// Revision returns that of the policy that decides in the scope of ctx; 0 where
// there is no scope or no policy.
func (s *Store) Revision(ctx context.Context) uint64 { return s.engine.Revision(ctx) }

// Deviations returns those of Config and those of the policy in force.
func (s *Store) Deviations() []access.Deviation {
	return append(slices.Clone(s.cfg.Deviations), s.engine.Deviations()...)
}

// String returns the policy in force as a table for people.
func (s *Store) String() string { return s.engine.String() }

// Rule says what the policy says of action on records of resourceType for who
// and purpose, as rbac.Engine does, so that a Store is the Policy of a
// pdp.Point.
func (s *Store) Rule(ctx context.Context, who access.Principal, action access.Action, resourceType string, purpose access.Purpose) (access.Verdict, error) {
	ok, err := s.opened.Load(), error(nil)
	if !ok {
		err = ErrClosed
	} else if !purpose.Emergency() { // for which pdp wants a live grant, and which does not wait for a database: the last policy decides
		ok, err = s.ready(ctx)
	}
	switch {
	case err != nil:
		return access.Verdict{Code: access.DenyInvalid}, err
	case !ok:
		return access.Verdict{Code: access.DenyStale}, nil
	case s.revision.Load() == 0:
		return access.Verdict{Code: access.DenyNoRule}, nil
	}
	return s.engine.Rule(ctx, who, action, resourceType, purpose)
}

// Roles returns the roles in which who acts by the last policy, with those that
// they include: see rbac.Engine.Roles. It is what grant.Config.Roles asks.
func (s *Store) Roles(ctx context.Context, who access.Principal) ([]string, error) {
	switch {
	case !s.opened.Load():
		return nil, ErrClosed
	case s.revision.Load() == 0:
		return nil, nil
	}
	return s.engine.Roles(ctx, who)
}

// Check implements [access.Authorizer].
func (s *Store) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	ok, err := s.ready(ctx)
	switch {
	case err != nil:
		return denied(req, access.DenyInvalid), err
	case !ok:
		return denied(req, access.DenyStale), nil
	case s.revision.Load() == 0:
		return s.deniedByNothing(ctx, req), nil
	}
	return s.engine.Check(ctx, req)
}

// Filter implements [access.Authorizer].
func (s *Store) Filter(ctx context.Context, action access.Action, resourceType string) (access.Filter, error) {
	ok, err := s.ready(ctx)
	refuse := func(c access.Code) (access.Filter, error) {
		return access.Filter{}, &access.DeniedError{Action: action, Resource: resourceType, Code: c, Decision: decisionID()}
	}
	switch {
	case err != nil:
		return access.Filter{}, err
	case !ok:
		return refuse(access.DenyStale)
	case s.revision.Load() == 0:
		return refuse(access.DenyNoRule)
	}
	return s.engine.Filter(ctx, action, resourceType)
}

// ready reports whether the policy in force may decide, and waits for it where
// ctx asks for that.
func (s *Store) ready(ctx context.Context) (bool, error) {
	if !s.opened.Load() {
		return false, ErrClosed
	}
	if s.fresh.late() {
		s.fresh.await(ctx) // this process stood still: what it knows may be old
	}
	if s.fresh.stale() {
		return false, nil
	}
	need := required(ctx)
	if need == 0 {
		return true, nil
	}
	return s.await(ctx, need) && s.engine.Revision(ctx) >= need, nil
}

// await waits until the policy in force has a revision, for Config.Wait at most.
func (s *Store) await(ctx context.Context, revision uint64) bool {
	if s.revision.Load() >= revision {
		return true
	}
	timer := time.NewTimer(s.cfg.Wait)
	defer timer.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if s.revision.Load() >= revision {
			return true
		}
		s.fresh.kick()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		case <-timer.C:
			return s.revision.Load() >= revision
		}
	}
}

// denied denies the whole of req.
func denied(req access.Request, code access.Code) access.Decision {
	d := access.Decision{ID: decisionID(), Verdicts: make([]access.Verdict, len(req.Resources))}
	for i := range d.Verdicts {
		d.Verdicts[i].Code = code
	}
	return d
}

// deniedByNothing is what a database without a policy answers.
func (s *Store) deniedByNothing(ctx context.Context, req access.Request) access.Decision {
	scope, err := access.From(ctx)
	if err != nil {
		return denied(req, access.DenyInvalid)
	}
	d := denied(req, access.DenyNoRule)
	for i, r := range req.Resources {
		switch {
		case r.Tenant == "":
			d.Verdicts[i].Code = access.DenyInvalid
		case r.Tenant != scope.Principal().Tenant:
			d.Verdicts[i].Code = access.DenyTenant
		}
	}
	return d
}

// decisionID returns 128 random bits in hex.
func decisionID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}

type requireKey struct{}

// RequireRevision returns a context in which a [Store] decides by a policy of
// this revision at least: the one that a change returned, so that who made it
// finds it in force in every process. A decision waits for it, for Config.Wait
// at most, and is denied with access.DenyStale where it does not come, or where
// the scope has been decided in by an older policy before. Emergency access does
// not wait.
func RequireRevision(ctx context.Context, revision uint64) context.Context {
	if before, _ := ctx.Value(requireKey{}).(uint64); before >= revision {
		return ctx
	}
	return context.WithValue(ctx, requireKey{}, revision)
}

func required(ctx context.Context) uint64 {
	least, _ := ctx.Value(requireKey{}).(uint64)
	return least
}
