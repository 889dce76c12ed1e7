// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Config configures [NewKeyring]. Only KEK is required.
type Config struct {
	// KEK wraps the tenants' keys.
	KEK KEK

	// CacheSize bounds how many subject keys, and how many tenant keys, stay
	// unwrapped in memory. Zero means 10,000; that many subject keys
	// take about 11 MB.
	CacheSize int

	// TTL bounds how long an unwrapped key serves without asking the KEK (for a
	// tenant's key) or the key table (for a subject's) again. A KEK that refuses
	// is thus felt within TTL. Zero means 5 minutes: one KMS call a tenant and
	// use in that time, or a little less, since a key in use is asked for again
	// in the last tenth of it, while it still serves.
	TTL time.Duration

	// Outage bounds how long beyond TTL the keys of a tenant that are in memory
	// go on while the KEK does not answer ([ErrUnreachable]); it is asked again
	// every 10 seconds. Within it the tenant's records are read and written;
	// after it, and at once for a tenant whose key is not in memory, comes an
	// error, until the KEK answers. A KEK that refuses ends it at once. Zero means
	// 1 hour. Whoever can cut this process off from the KMS can hold off a
	// revocation for as long.
	Outage time.Duration

	// Unreachable is told, if it is set, each time that the KEK has not
	// answered and a tenant's keys go on nevertheless, and until when they may.
	Unreachable func(tenant string, until time.Time, err error)

	// GenerationInterval bounds how old the last reading of the key generation
	// may be when a cached key is used: a key shredded anywhere serves no open
	// here that begins later than this after the commit. Zero means 5 seconds.
	GenerationInterval time.Duration

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Keyring unwraps the keys that open cells, and keeps them for a while. It
// is safe for concurrent use. [Keyring.Begin] gives the keys that seal.
type Keyring struct {
	kek      KEK
	tests    bool // it opens what tests sealed
	ttl      time.Duration
	outage   time.Duration
	alarm    func(tenant string, until time.Time, err error)
	interval time.Duration
	now      func() time.Time

	mu         sync.Mutex
	epoch      uint64    // counts the changes of generation that were seen
	generation uint64    // as last read
	checked    time.Time // when that reading began; zero = never
	keys       *lru[keyID, cachedKey]
	tenants    *lru[tenantID, heldTenant]
	flights    map[flightID]*flight
}

type keyID struct {
	tenant, subject string
	version         uint32
}

type tenantID struct{ tenant, use string }

type cachedKey struct {
	key   *Key
	until time.Time
}

// A heldTenant is a tenant's unwrapped keyset.
type heldTenant struct {
	key     *tenantKey
	at      time.Time // when the KEK was asked for it, or it was made
	asked   time.Time // when the KEK last gave no key; zero once it has
	refused bool      // by the KEK then, as opposed to no answer
	epoch   uint64    // the epoch in which a row was seen to hold it; 0 = none, so it only spares the KEK
}

// A flight is one call of the KEK that several callers may wait for. It does
// not end with the context of one of them.
type flight struct {
	done chan struct{}
	key  *tenantKey
	err  error
}

type flightID struct {
	tenantID
	wrapped string
}

// NewKeyring returns a Keyring, or an error that names the first bad field of
// cfg. It does not call the KEK.
func NewKeyring(cfg Config) (*Keyring, error) {
	switch {
	case cfg.KEK == nil:
		return nil, errors.New("crypto: Config.KEK is nil: give a KMS key, or crypto.LocalKEK in development")
	case cfg.CacheSize < 0:
		return nil, errors.New("crypto: Config.CacheSize is negative: zero means 10,000")
	case cfg.TTL < 0:
		return nil, errors.New("crypto: Config.TTL is negative: zero means 5 minutes")
	case cfg.Outage < 0:
		return nil, errors.New("crypto: Config.Outage is negative: zero means 1 hour, a nanosecond none")
	case cfg.GenerationInterval < 0:
		return nil, errors.New("crypto: Config.GenerationInterval is negative: zero means 5 seconds")
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 10_000
	}
	if cfg.TTL == 0 {
		cfg.TTL = 5 * time.Minute
	}
	if cfg.Outage == 0 {
		cfg.Outage = time.Hour
	}
	if cfg.GenerationInterval == 0 {
		cfg.GenerationInterval = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keyring{
		kek:      cfg.KEK,
		tests:    forTests(cfg.KEK),
		ttl:      cfg.TTL,
		outage:   cfg.Outage,
		alarm:    cfg.Unreachable,
		interval: cfg.GenerationInterval,
		now:      cfg.Now,
		epoch:    1,
		keys:     newLRU[keyID, cachedKey](cfg.CacheSize),
		tenants:  newLRU[tenantID, heldTenant](cfg.CacheSize),
		flights:  make(map[flightID]*flight),
	}, nil
}

// A KeyRef names one data key of a tenant, as a cell does: the subject of its
// [Binding] and the KeyVersion of its [Header].
type KeyRef struct {
	Subject string
	Version uint32
	Test    bool // the Test of the Header
}

// Found is a key, or why there is none: Err wraps [ErrShredded], [ErrNoKey],
// [ErrUnwrap] or [ErrTestKey]. One of the two is nil.
type Found struct {
	Key *Key
	Err error
}

// Lookup returns the keys that open cells, one for each ref, in their order. It
// reads the rows of those that it does not hold with one query. Do not call it
// inside a transaction that may have made keys: [KeyTx.Lookup] is for that.
//
// An error means that nothing could be decided, and nothing opens: the key
// tables cannot be read ([ErrGeneration] where the generation cannot), or the
// tenant's own key does not unwrap ([ErrUnwrap]).
func (r *Keyring) Lookup(ctx context.Context, rows KeyRows, tenant string, refs []KeyRef) ([]Found, error) {
	epoch, err := r.refresh(ctx, rows)
	if err != nil {
		return nil, err
	}
	found := make([]Found, len(refs))
	if r.fromCache(ctx, tenant, refs, found) {
		return found, nil
	}
	fresh, err := load(ctx, rows, tenant, refs, found, r.tests, func() (*tenantKey, error) {
		return r.tenantKey(ctx, rows, tenant, useWrap, epoch)
	})
	if err != nil {
		return nil, err
	}
	r.keep(epoch, fresh, nil)
	return found, nil
}

// IndexKeys returns the tenant's live index keys, the newest first. There are
// two while a rotation is under way: a search asks for the tokens of each, and
// finds records that have those of one only. The error wraps [ErrNoKey] where
// the tenant has none yet, so nothing is indexed.
func (r *Keyring) IndexKeys(ctx context.Context, rows KeyRows, tenant string) ([]*IndexKey, error) {
	epoch, err := r.refresh(ctx, rows)
	if err != nil {
		return nil, err
	}
	k, err := r.tenantKey(ctx, rows, tenant, useIndex, epoch)
	if err != nil {
		return nil, err
	}
	return slices.Clone(k.index), nil
}

// Check unwraps the tenant's keysets, as far as it has any, to find a wrong KEK
// before the first record is asked for: the error then wraps [ErrUnwrap].
func (r *Keyring) Check(ctx context.Context, rows KeyRows, tenant string) error {
	epoch, err := r.refresh(ctx, rows)
	if err != nil {
		return err
	}
	for _, use := range []string{useWrap, useIndex} {
		if _, err := r.tenantKey(ctx, rows, tenant, use, epoch); err != nil && !errors.Is(err, ErrNoKey) {
			return err
		}
	}
	return nil
}

// refresh reads the generation where the last reading is too old, drops the
// cache where it changed, and returns the epoch that the caller is in.
//
// Callers that find it old at once each read it on their own connection:
// waiting for another statement's would deadlock a full pool. Where an older
// reading comes in last, it and the next one only drop the cache once more.
func (r *Keyring) refresh(ctx context.Context, rows KeyRows) (uint64, error) {
	r.mu.Lock()
	start := r.now()
	if r.current(start) {
		defer r.mu.Unlock()
		return r.epoch, nil
	}
	r.mu.Unlock()

	generation, err := rows.Generation(ctx)
	if err != nil {
		return 0, fmt.Errorf("crypto: look up keys: %w: %w", ErrGeneration, err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if generation != r.generation || r.checked.IsZero() {
		r.epoch++
		r.keys.removeIf(func(cachedKey) bool { return true })
	}
	r.generation, r.checked = generation, start
	r.keys.removeIf(func(c cachedKey) bool { return !start.Before(c.until) })
	r.tenants.removeIf(func(h heldTenant) bool { return start.Sub(h.at) >= r.ttl+r.outage })
	return r.epoch, nil
}

// current reports whether the generation was read recently enough. The caller
// holds mu.
func (r *Keyring) current(now time.Time) bool {
	// By both clocks: the monotonic one may stand still while the machine
	// sleeps, and the other may be set back.
	age, wall := now.Sub(r.checked), now.Round(0).Sub(r.checked.Round(0))
	return !r.checked.IsZero() && min(age, wall) >= 0 && max(age, wall) < r.interval
}

// fromCache fills in the keys that are held, and reports whether those are all.
// None is held longer than the tenant's own key: a KEK that refuses ends them
// too.
func (r *Keyring) fromCache(ctx context.Context, tenant string, refs []KeyRef, found []Found) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	id := tenantID{tenant, useWrap}
	if h, ok := r.tenants.get(id); !ok || !r.current(now) || !r.serves(ctx, id, h, now) {
		return false
	}
	all = true
	for i, ref := range refs {
		if found[i].Key != nil {
			continue
		}
		c, ok := r.keys.get(keyID{tenant, ref.Subject, ref.Version})
		if ok && now.Before(c.until) && (!ref.Test || r.tests) {
			found[i].Key = c.key
		} else {
			all = false
		}
	}
	return all
}

// keep puts keys that are in committed rows into the cache, unless the
// generation changed since epoch: then one of them may be shredded by now.
func (r *Keyring) keep(epoch uint64, keys []*Key, tenants map[tenantID]*tenantKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return
	}
	until := r.now().Add(r.ttl)
	for _, k := range keys {
		r.keys.put(keyID{k.tenant, k.subject, k.version}, cachedKey{k, until})
	}
	for id, k := range tenants {
		h, ok := r.tenants.get(id)
		if !ok || h.key != k { // else its time runs since it was unwrapped
			h = heldTenant{key: k, at: r.now()}
		}
		h.epoch = epoch
		r.tenants.put(id, h)
	}
}

// tenantKey returns a tenant's unwrapped keyset, which a row holds.
func (r *Keyring) tenantKey(ctx context.Context, rows KeyRows, tenant, use string, epoch uint64) (*tenantKey, error) {
	id := tenantID{tenant, use}
	r.mu.Lock()
	h, ok := r.tenants.get(id)
	now := r.now()
	ok = ok && h.epoch == r.epoch && r.current(now) && r.serves(ctx, id, h, now)
	r.mu.Unlock()
	if ok {
		return h.key, nil
	}
	wrapped, err := rows.TenantKeyset(ctx, tenant, use, false)
	if err != nil {
		return nil, fmt.Errorf("crypto: read tenant key: %w", err)
	}
	if wrapped == nil {
		return nil, fmt.Errorf("crypto: read tenant key: %w", ErrNoKey)
	}
	k, err := r.unwrap(ctx, id, wrapped)
	if err != nil {
		return nil, err
	}
	r.keep(epoch, nil, map[tenantID]*tenantKey{id: k})
	return k, nil
}

// serves reports whether a tenant's key may be used as it is, without waiting
// for the KEK: within the TTL, and beyond it as long as the KEK is known not to
// answer. In the last tenth of the TTL it has the KEK asked meanwhile. The
// caller holds mu.
func (r *Keyring) serves(ctx context.Context, id tenantID, h heldTenant, now time.Time) bool {
	age, asked := now.Sub(h.at), now.Sub(h.asked) < retryAfter
	if age >= r.ttl {
		return asked && !h.refused && age < r.ttl+r.outage
	}
	if age >= r.ttl-r.ttl/10 && !asked {
		r.ask(ctx, flightID{id, string(h.key.wrapped)})
	}
	return true
}

// unwrap returns the keyset in wrapped, asking the KEK once for all who want
// the same bytes. What it remembers is keyed by the bytes, so it vouches for no
// row.
func (r *Keyring) unwrap(ctx context.Context, id tenantID, wrapped []byte) (*tenantKey, error) {
	r.mu.Lock()
	if h, ok := r.tenants.get(id); ok && bytes.Equal(h.key.wrapped, wrapped) && r.serves(ctx, id, h, r.now()) {
		r.mu.Unlock()
		return h.key, nil
	}
	f := r.ask(ctx, flightID{id, string(wrapped)})
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("crypto: unwrap tenant key: %w", ctx.Err())
	case <-f.done:
		return f.key, f.err
	}
}

// ask returns the call of the KEK that is under way, or begins one. The caller
// holds mu.
func (r *Keyring) ask(ctx context.Context, id flightID) *flight {
	f, ok := r.flights[id]
	if !ok {
		f = &flight{done: make(chan struct{})}
		r.flights[id] = f
		go r.fly(context.WithoutCancel(ctx), f, id)
	}
	return f
}

func (r *Keyring) fly(ctx context.Context, f *flight, id flightID) {
	ctx, cancel := context.WithTimeout(ctx, kekTimeout)
	defer cancel()
	start := r.now()
	key, err := r.call(ctx, id)

	r.mu.Lock()
	now := r.now()
	h, held := r.tenants.get(id.tenantID)
	held = held && string(h.key.wrapped) == id.wrapped
	switch {
	case err == nil && held:
		h.at, h.asked, h.refused = start, time.Time{}, false
	case err == nil:
		h, held = heldTenant{key: key, at: start}, true
	case held:
		// Who was refused stays so until the KEK says otherwise: an outage
		// brings no revoked key back.
		h.asked, h.refused = now, h.refused || !errors.Is(err, ErrUnreachable)
	}
	until := h.at.Add(r.ttl + r.outage)
	goesOn := err != nil && held && !h.refused && now.Before(until)
	if held {
		r.tenants.put(id.tenantID, h)
	}
	if f.err = err; err == nil || goesOn {
		f.key, f.err = h.key, nil
	}
	delete(r.flights, id)
	r.mu.Unlock()
	close(f.done)
	if goesOn && r.alarm != nil {
		r.alarm(id.tenant, until, err)
	}
}

// call asks the KEK. What panics there must not end the process: nobody's
// request stands on this goroutine's stack.
func (r *Keyring) call(ctx context.Context, id flightID) (key *tenantKey, err error) {
	defer func() {
		if recover() != nil {
			key, err = nil, fmt.Errorf("crypto: unwrap tenant key: %w: the KEK panicked", ErrUnwrap)
		}
	}()
	return unwrapTenantKey(ctx, r.kek, id.tenant, id.use, []byte(id.wrapped))
}

// load fills in what is missing in found from the rows, with one query, and
// returns the keys that it unwrapped.
func load(ctx context.Context, rows KeyRows, tenant string, refs []KeyRef, found []Found, tests bool, wrapKey func() (*tenantKey, error)) ([]*Key, error) {
	subjects := make([]string, 0, len(refs))
	for i, ref := range refs {
		if found[i].Key == nil {
			subjects = append(subjects, ref.Subject)
		}
	}
	missing := len(subjects)
	slices.Sort(subjects)
	subjects = slices.Compact(subjects)
	bySubject, err := readSubjects(ctx, rows, tenant, subjects, false)
	if err != nil {
		return nil, err
	}
	var wrap *tenantKey // asked for once, and only for a row that is there
	var failed error    // nothing opens
	unwrap := func(ref KeyRef) (*Key, error) {
		row, err := bySubject[ref.Subject].version(ref.Version)
		switch {
		case ref.Test && !tests:
			return nil, fmt.Errorf("crypto: look up key: %w", ErrTestKey)
		case err != nil:
			return nil, err
		case wrap == nil:
			if wrap, err = wrapKey(); err != nil {
				if !errors.Is(err, ErrNoKey) {
					failed = err
				}
				return nil, err
			}
		}
		return wrap.unwrapSubjectKey(row)
	}
	fresh := make([]*Key, 0, len(subjects))
	var before map[KeyRef]Found // where a subject is asked for twice
	if missing > len(subjects) {
		before = make(map[KeyRef]Found, len(subjects))
	}
	for i, ref := range refs {
		if found[i].Key != nil {
			continue
		}
		f, ok := before[ref]
		if !ok {
			f.Key, f.Err = unwrap(ref)
			if failed != nil {
				return nil, failed
			}
			if f.Err == nil {
				fresh = append(fresh, f.Key)
			}
			if before != nil {
				before[ref] = f
			}
		}
		found[i] = f
	}
	return fresh, nil
}

// subjectRows is what the key table holds of one subject.
type subjectRows struct {
	rows     []KeyRow
	shredded bool
}

func readSubjects(ctx context.Context, rows KeyRows, tenant string, subjects []string, lock bool) (map[string]subjectRows, error) {
	bySubject := make(map[string]subjectRows, len(subjects))
	if len(subjects) == 0 {
		return bySubject, nil
	}
	all, err := rows.SubjectKeys(ctx, tenant, subjects, lock)
	if err != nil {
		return nil, fmt.Errorf("crypto: read subject keys: %w", err)
	}
	for i, row := range all {
		if row.Tenant != tenant {
			return nil, fmt.Errorf("crypto: read subject keys: the key table gave a row of another tenant: %w", ErrUnwrap)
		}
		s := bySubject[row.Subject]
		s.shredded = s.shredded || row.Shredded
		if s.rows == nil {
			s.rows = all[i : i+1 : i+1] // most subjects have one row
		} else {
			s.rows = append(s.rows, row)
		}
		bySubject[row.Subject] = s
	}
	return bySubject, nil
}

// version returns the row of one version. A tombstone closes every version.
func (s subjectRows) version(v uint32) (KeyRow, error) {
	if s.shredded {
		return KeyRow{}, fmt.Errorf("crypto: look up key: %w", ErrShredded)
	}
	for _, row := range s.rows {
		if row.Version == v && v > 0 {
			return row, nil
		}
	}
	return KeyRow{}, fmt.Errorf("crypto: look up key: %w", ErrNoKey)
}

// newest returns the row of the highest version, which seals.
func (s subjectRows) newest() (KeyRow, error) {
	var top uint32
	for _, row := range s.rows {
		top = max(top, row.Version)
	}
	return s.version(top)
}

// Format prints no key.
func (r *Keyring) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[crypto.Keyring]") }
