// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A KeyTx is the keys of one database transaction. A key made in it serves it
// alone until [KeyTx.Publish]; published earlier, it could seal rows that
// nobody can ever open.
//
// The owner of the transaction tells it of savepoints, calls Precommit before
// COMMIT, and Publish after a COMMIT that is known to have succeeded. After a
// rollback, or a COMMIT whose outcome is unknown, the KeyTx is dropped. It is
// safe for concurrent use as far as its KeyRows are.
type KeyTx struct {
	ring  *Keyring
	rows  KeyRows
	epoch uint64 // of the ring when the transaction began

	mu      sync.Mutex
	tenants map[tenantID]heldKey // read or made in this transaction
	made    []madeKey            // in the order of their making
	madeAt  map[keyID]int        // where a subject's key is in made
	marks   []mark
	checked int  // how many of made Precommit has found
	ended   bool // by Publish
}

// A madeKey is a subject's key and its row, or a tenant's keyset.
type madeKey struct {
	row KeyRow
	key *Key

	id     tenantID
	tenant *tenantKey
}

// A heldKey is a tenant's keyset as the transaction has read it.
type heldKey struct {
	*tenantKey
	locked bool // so that nobody replaces it before the transaction ends
}

// A mark is a savepoint: how many keys were made before it.
type mark struct {
	name string
	made int
}

// Begin returns the keys of a transaction that has begun, and whose key tables
// are rows.
func (r *Keyring) Begin(rows KeyRows) *KeyTx {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &KeyTx{ring: r, rows: rows, epoch: r.epoch, tenants: make(map[tenantID]heldKey), madeAt: make(map[keyID]int)}
}

var errEnded = errors.New("crypto: the transaction of these keys has ended: begin another")

// SealingKeys returns the newest key of each subject, for sealing, by subject.
// It reads their rows locked each time, whatever is cached, and makes a key for
// a subject that has none. Where another transaction makes one at the same
// time, the one in the table wins.
//
// The error is a *[SubjectError] that wraps [ErrShredded] where one of the
// subjects was shredded, such a subject never gets a key again, and [ErrClosed]
// where one is closed.
func (t *KeyTx) SealingKeys(ctx context.Context, tenant string, subjects []string) (map[string]*Key, error) {
	if tenant == "" {
		return nil, fmt.Errorf("crypto: sealing keys: %w", ErrBinding)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, errEnded
	}
	// In one order everywhere, so that two transactions cannot deadlock.
	subjects = slices.Compact(slices.Sorted(slices.Values(subjects)))
	bySubject, err := readSubjects(ctx, t.rows, tenant, subjects, true)
	if err != nil {
		return nil, err
	}
	var have []KeyRow
	var missing []string
	for _, s := range subjects {
		row, err := bySubject[s].newest()
		switch {
		case err == nil && row.Closed:
			return nil, &SubjectError{s, fmt.Errorf("crypto: sealing keys: %w", ErrClosed)}
		case err == nil:
			have = append(have, row)
		case errors.Is(err, ErrNoKey):
			missing = append(missing, s)
		default:
			return nil, &SubjectError{s, err}
		}
	}
	// Where subjects have keys, the tenant's must be there: a new one would
	// open none of them, and stand in the way of the lost one.
	wrap, err := t.tenantKey(ctx, tenant, useWrap, len(have) == 0, false) // locked with the subjects
	if err != nil {
		return nil, err
	}
	keys := make(map[string]*Key, len(subjects))
	for _, row := range have {
		if keys[row.Subject], err = t.unwrap(wrap, row); err != nil {
			return nil, &SubjectError{row.Subject, err}
		}
	}
	if len(missing) == 0 {
		return keys, nil
	}
	if err := t.create(ctx, wrap, tenant, missing, keys); err != nil {
		return nil, err
	}
	return keys, nil
}

// create makes the first key of each subject, and adds to keys the one that
// the table then holds.
func (t *KeyTx) create(ctx context.Context, wrap *tenantKey, tenant string, subjects []string, keys map[string]*Key) error {
	mine := make(map[string]madeKey, len(subjects))
	for _, s := range subjects {
		m := madeKey{row: KeyRow{Tenant: tenant, Subject: s, Version: 1}}
		raw := make([]byte, keySize)
		if _, err := rand.Read(raw); err != nil {
			return fmt.Errorf("crypto: make subject key: %w", err)
		}
		m.row.Wrapped = wrap.wrapSubjectKey(raw, m.row)
		var err error
		if m.key, err = newKey(raw, tenant, s, m.row.Version); err != nil {
			return fmt.Errorf("crypto: make subject key: %w", err)
		}
		m.key.marks = wrap.marks
		if err := t.rows.InsertSubjectKey(ctx, m.row); err != nil {
			return fmt.Errorf("crypto: store subject key: %w", err)
		}
		mine[s] = m
	}
	bySubject, err := readSubjects(ctx, t.rows, tenant, subjects, true)
	if err != nil {
		return err
	}
	for _, s := range subjects {
		row, err := bySubject[s].newest()
		switch m := mine[s]; {
		case errors.Is(err, ErrNoKey):
			err = fmt.Errorf("crypto: make subject key: %w", ErrKeyLost)
		case err == nil && row.Version == m.row.Version && bytes.Equal(row.Wrapped, m.row.Wrapped):
			keys[s] = m.key
			t.madeAt[keyID{tenant, s, row.Version}] = len(t.made)
			t.made = append(t.made, m)
		case err == nil:
			keys[s], err = t.unwrap(wrap, row)
		}
		if err != nil {
			return &SubjectError{s, err}
		}
	}
	return nil
}

// unwrap returns the key in row, which is the one made here where the bytes are
// the same.
func (t *KeyTx) unwrap(wrap *tenantKey, row KeyRow) (*Key, error) {
	if i, ok := t.madeAt[keyID{row.Tenant, row.Subject, row.Version}]; ok && bytes.Equal(t.made[i].row.Wrapped, row.Wrapped) {
		return t.made[i].key, nil
	}
	return wrap.unwrapSubjectKey(row)
}

// tenantKey returns a keyset of the tenant as this transaction sees it.
func (t *KeyTx) tenantKey(ctx context.Context, tenant, use string, create, lock bool) (*tenantKey, error) {
	id := tenantID{tenant, use}
	if k, ok := t.tenants[id]; ok && (k.locked || !lock) {
		return k.tenantKey, nil
	}
	wrapped, err := t.rows.TenantKeyset(ctx, tenant, use, lock)
	if err != nil {
		return nil, fmt.Errorf("crypto: read tenant key: %w", err)
	}
	var made *tenantKey
	if wrapped == nil {
		if !create {
			return nil, fmt.Errorf("crypto: read tenant key: %w", ErrNoKey)
		}
		if made, err = newTenantKey(ctx, t.ring.kek, tenant, use); err != nil {
			return nil, err
		}
		if err := t.rows.InsertTenantKeyset(ctx, tenant, use, made.wrapped); err != nil {
			return nil, fmt.Errorf("crypto: store tenant key: %w", err)
		}
		if wrapped, err = t.rows.TenantKeyset(ctx, tenant, use, lock); err != nil {
			return nil, fmt.Errorf("crypto: read tenant key: %w", err)
		}
		if wrapped == nil {
			return nil, fmt.Errorf("crypto: make tenant key: %w", ErrKeyLost)
		}
	}
	if made != nil && bytes.Equal(wrapped, made.wrapped) {
		t.made = append(t.made, madeKey{id: id, tenant: made})
		t.tenants[id] = heldKey{made, true}
		return made, nil
	}
	k, err := t.ring.unwrap(ctx, id, wrapped)
	if err != nil {
		return nil, err
	}
	t.tenants[id] = heldKey{k, lock}
	return k, nil
}

// Lookup is like [Keyring.Lookup], but sees the keys made in this transaction,
// and reads the rows as the transaction does. What it reads it caches nowhere:
// a transaction may see what is not committed, or not see what is. (So one that
// began before a shred may open until it ends, if the database shows it the
// tables as they were.)
func (t *KeyTx) Lookup(ctx context.Context, tenant string, refs []KeyRef) ([]Found, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, errEnded
	}
	found := make([]Found, len(refs))
	for i, ref := range refs {
		if at, ok := t.madeAt[keyID{tenant, ref.Subject, ref.Version}]; ok {
			found[i].Key = t.made[at].key
		}
	}
	if t.ring.fromCache(ctx, tenant, refs, found) {
		return found, nil
	}
	_, err := load(ctx, t.rows, tenant, refs, found, t.ring.tests, func() (*tenantKey, error) {
		return t.tenantKey(ctx, tenant, useWrap, false, false)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// IndexKeys is like [Keyring.IndexKeys], but sees the key made in this
// transaction, and caches nowhere what it reads.
func (t *KeyTx) IndexKeys(ctx context.Context, tenant string) ([]*IndexKey, error) {
	return t.indexKeys(ctx, tenant, false)
}

// IndexingKeys returns the tenant's live index keys, the newest first, for
// writing: each write makes the tokens of every key. It makes the first key
// where there is none. It reads the keyset locked, so that a rotation waits for
// the transactions that do not know its key.
func (t *KeyTx) IndexingKeys(ctx context.Context, tenant string) ([]*IndexKey, error) {
	return t.indexKeys(ctx, tenant, true)
}

func (t *KeyTx) indexKeys(ctx context.Context, tenant string, write bool) ([]*IndexKey, error) {
	if tenant == "" {
		return nil, fmt.Errorf("crypto: index key: %w", ErrBinding)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil, errEnded
	}
	k, err := t.tenantKey(ctx, tenant, useIndex, write, write)
	if err != nil {
		return nil, err
	}
	return slices.Clone(k.index), nil
}

// Savepoint notes that the transaction has set a savepoint.
func (t *KeyTx) Savepoint(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks = append(t.marks, mark{name, len(t.made)})
}

// RollbackTo drops every key made since the savepoint, which stays set. An
// unknown name drops every key made in the transaction.
func (t *KeyTx) RollbackTo(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	made := 0
	if i := t.mark(name); i >= 0 {
		made = t.marks[i].made
		t.marks = t.marks[:i+1]
	}
	for _, m := range t.made[made:] {
		delete(t.madeAt, keyID{m.row.Tenant, m.row.Subject, m.row.Version})
	}
	clear(t.made[made:])
	t.made = t.made[:made]
	t.checked = min(t.checked, made)
	// Locks taken and rows read since the savepoint count for nothing either.
	clear(t.tenants)
	for _, m := range t.made {
		if m.tenant != nil {
			t.tenants[m.id] = heldKey{m.tenant, true}
		}
	}
}

// Release forgets the savepoint and those set after it. The keys made since
// still hang on the transaction: nothing is published.
func (t *KeyTx) Release(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.mark(name); i >= 0 {
		t.marks = t.marks[:i]
	}
}

// mark returns the index of the newest savepoint of that name, or -1.
func (t *KeyTx) mark(name string) int {
	for i := len(t.marks) - 1; i >= 0; i-- {
		if t.marks[i].name == name {
			return i
		}
	}
	return -1
}

// Precommit reads the keys made in the transaction once more, just before
// COMMIT. [ErrKeyLost] means that one is missing, is another, or was shredded:
// the transaction must roll back.
func (t *KeyTx) Precommit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errEnded
	}
	subjects := make(map[string][]string)
	for _, m := range t.made {
		if m.key != nil {
			subjects[m.row.Tenant] = append(subjects[m.row.Tenant], m.row.Subject)
			continue
		}
		wrapped, err := t.rows.TenantKeyset(ctx, m.id.tenant, m.id.use, false)
		if err != nil {
			return fmt.Errorf("crypto: check tenant key before commit: %w", err)
		}
		if !bytes.Equal(wrapped, m.tenant.wrapped) {
			return fmt.Errorf("crypto: check tenant key before commit: %w", ErrKeyLost)
		}
	}
	held := make(map[string]map[string]subjectRows, len(subjects))
	for tenant, list := range subjects {
		rows, err := readSubjects(ctx, t.rows, tenant, list, false)
		if err != nil {
			return err
		}
		held[tenant] = rows
	}
	for _, m := range t.made {
		if m.key == nil {
			continue
		}
		row, err := held[m.row.Tenant][m.row.Subject].version(m.row.Version)
		if err != nil || !bytes.Equal(row.Wrapped, m.row.Wrapped) {
			return &SubjectError{m.row.Subject, fmt.Errorf("crypto: check subject key before commit: %w", ErrKeyLost)}
		}
	}
	t.checked = len(t.made)
	return nil
}

// Publish gives the keys that Precommit found to the keyring. Call it only
// after a COMMIT that is known to have succeeded. The KeyTx has then ended.
func (t *KeyTx) Publish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	var keys []*Key
	tenants := make(map[tenantID]*tenantKey)
	for _, m := range t.made[:t.checked] {
		if m.key != nil {
			keys = append(keys, m.key)
		} else {
			tenants[m.id] = m.tenant
		}
	}
	t.ring.keep(t.epoch, keys, tenants)
}

// Format prints no key.
func (t *KeyTx) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[crypto.KeyTx]") }
