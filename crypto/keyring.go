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
	// tenant's key) or the key table (for a subject's) again. A KEK that was
	// revoked is thus felt within TTL. Zero means 5 minutes: one KMS call a
	// tenant and use in that time.
	TTL time.Duration

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
	ttl      time.Duration
	interval time.Duration
	now      func() time.Time

	mu         sync.Mutex
	epoch      uint64    // counts the changes of generation that were seen
	generation uint64    // as last read
	checked    time.Time // when that reading began; zero = never
	keys       *lru[keyID, cached[*Key]]
	tenants    *lru[tenantID, cached[*tenantKey]]
	flights    map[flightID]*flight
}

type keyID struct {
	tenant, subject string
	version         uint32
}

type tenantID struct{ tenant, use string }

type cached[T any] struct {
	value T
	until time.Time
	epoch uint64 // the epoch in which a row was seen to hold it; 0 = none, so it only spares the KEK
}

// A flight is one call of the KEK that several callers wait for.
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
	case cfg.GenerationInterval < 0:
		return nil, errors.New("crypto: Config.GenerationInterval is negative: zero means 5 seconds")
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 10_000
	}
	if cfg.TTL == 0 {
		cfg.TTL = 5 * time.Minute
	}
	if cfg.GenerationInterval == 0 {
		cfg.GenerationInterval = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keyring{
		kek:      cfg.KEK,
		ttl:      cfg.TTL,
		interval: cfg.GenerationInterval,
		now:      cfg.Now,
		epoch:    1,
		keys:     newLRU[keyID, cached[*Key]](cfg.CacheSize),
		tenants:  newLRU[tenantID, cached[*tenantKey]](cfg.CacheSize),
		flights:  make(map[flightID]*flight),
	}, nil
}

// A KeyRef names one data key of a tenant, as a cell does: the subject of its
// [Binding] and the KeyVersion of its [Header].
type KeyRef struct {
	Subject string
	Version uint32
}

// Found is a key, or why there is none: Err wraps [ErrShredded], [ErrNoKey] or
// [ErrUnwrap]. One of the two is nil.
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
	if r.fromCache(tenant, refs, found) {
		return found, nil
	}
	fresh, err := load(ctx, rows, tenant, refs, found, func() (*tenantKey, error) {
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
		r.keys.removeIf(func(cached[*Key]) bool { return true })
	}
	r.generation, r.checked = generation, start
	r.keys.removeIf(func(c cached[*Key]) bool { return !start.Before(c.until) })
	r.tenants.removeIf(func(c cached[*tenantKey]) bool { return !start.Before(c.until) })
	return r.epoch, nil
}

// current reports whether the generation was read recently enough. The caller
// holds mu.
func (r *Keyring) current(now time.Time) bool {
	age := now.Sub(r.checked)
	return !r.checked.IsZero() && age >= 0 && age < r.interval
}

// fromCache fills in the keys that are held, and reports whether those are all.
func (r *Keyring) fromCache(tenant string, refs []KeyRef, found []Found) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.current(now) {
		return false
	}
	all = true
	for i, ref := range refs {
		if found[i].Key != nil {
			continue
		}
		c, ok := r.keys.get(keyID{tenant, ref.Subject, ref.Version})
		if ok && now.Before(c.until) {
			found[i].Key = c.value
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
		r.keys.put(keyID{k.tenant, k.subject, k.version}, cached[*Key]{k, until, epoch})
	}
	for id, k := range tenants {
		c, ok := r.tenants.get(id)
		if !ok || c.value != k { // else its time runs since it was unwrapped
			c = cached[*tenantKey]{value: k, until: until}
		}
		c.epoch = epoch
		r.tenants.put(id, c)
	}
}

// tenantKey returns a tenant's unwrapped keyset, which a row holds.
func (r *Keyring) tenantKey(ctx context.Context, rows KeyRows, tenant, use string, epoch uint64) (*tenantKey, error) {
	id := tenantID{tenant, use}
	r.mu.Lock()
	c, ok := r.tenants.get(id)
	now := r.now()
	ok = ok && c.epoch == r.epoch && now.Before(c.until) && r.current(now)
	r.mu.Unlock()
	if ok {
		return c.value, nil
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

// unwrap returns the keyset in wrapped, asking the KEK once for all who want
// the same bytes within the TTL. What it remembers is keyed by the bytes, so
// it vouches for no row.
func (r *Keyring) unwrap(ctx context.Context, id tenantID, wrapped []byte) (*tenantKey, error) {
	fid := flightID{id, string(wrapped)}
	for {
		r.mu.Lock()
		if c, ok := r.tenants.get(id); ok && bytes.Equal(c.value.wrapped, wrapped) && r.now().Before(c.until) {
			r.mu.Unlock()
			return c.value, nil
		}
		f, busy := r.flights[fid]
		if !busy {
			f = &flight{done: make(chan struct{}), err: ErrUnwrap}
			r.flights[fid] = f
		}
		r.mu.Unlock()
		if !busy {
			return r.lead(ctx, f, fid, wrapped)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("crypto: unwrap tenant key: %w", ctx.Err())
		case <-f.done:
		}
		if f.err == nil {
			return f.key, nil
		}
		// The leader's own context is not ours: try again.
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return nil, f.err
		}
	}
}

func (r *Keyring) lead(ctx context.Context, f *flight, id flightID, wrapped []byte) (*tenantKey, error) {
	defer func() {
		r.mu.Lock()
		delete(r.flights, id)
		if f.err == nil {
			r.tenants.put(id.tenantID, cached[*tenantKey]{value: f.key, until: r.now().Add(r.ttl)})
		}
		r.mu.Unlock()
		close(f.done)
	}()
	f.key, f.err = unwrapTenantKey(ctx, r.kek, id.tenant, id.use, wrapped)
	return f.key, f.err
}

// load fills in what is missing in found from the rows, with one query, and
// returns the keys that it unwrapped.
func load(ctx context.Context, rows KeyRows, tenant string, refs []KeyRef, found []Found, wrapKey func() (*tenantKey, error)) ([]*Key, error) {
	var subjects []string
	for i, ref := range refs {
		if found[i].Key == nil {
			subjects = append(subjects, ref.Subject)
		}
	}
	slices.Sort(subjects)
	bySubject, err := readSubjects(ctx, rows, tenant, slices.Compact(subjects), false)
	if err != nil {
		return nil, err
	}
	var fresh []*Key
	unwrapped := make(map[KeyRef]Found)
	for i, ref := range refs {
		if found[i].Key != nil {
			continue
		}
		f, ok := unwrapped[ref]
		if !ok {
			row, err := bySubject[ref.Subject].version(ref.Version)
			if err == nil {
				var wrap *tenantKey
				if wrap, err = wrapKey(); err != nil && !errors.Is(err, ErrNoKey) {
					return nil, err
				}
				if err == nil {
					f.Key, err = wrap.unwrapSubjectKey(row)
				}
			}
			if f.Err = err; err == nil {
				fresh = append(fresh, f.Key)
			}
			unwrapped[ref] = f
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
	for _, row := range all {
		if row.Tenant != tenant {
			return nil, fmt.Errorf("crypto: read subject keys: the key table gave a row of another tenant: %w", ErrUnwrap)
		}
		s := bySubject[row.Subject]
		s.shredded = s.shredded || row.Shredded
		s.rows = append(s.rows, row)
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
