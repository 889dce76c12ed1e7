// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A use names one of a tenant's two keysets.
type Use string

// The keysets of a tenant.
const (
	UseWrap  Use = useWrap  // wraps the keys of its subjects
	UseIndex Use = useIndex // makes its search tokens
)

// RotatingKEK returns a KEK that wraps under current and unwraps under current
// or one of the previous ones: what every process is given while the keys of
// the tenants move from one KEK to another. First give all of them the old KEK
// as current and the new one as previous, then the other way round, then
// rewrap ([KeyTx.RewrapTenant]); then the old one may go.
//
// It is nil where one of them is nil, which [NewKeyring] refuses.
func RotatingKEK(current KEK, previous ...KEK) KEK {
	all := append([]KEK{current}, previous...)
	if slices.Contains(all, nil) {
		return nil
	}
	return &rotatingKEK{all}
}

type rotatingKEK struct{ all []KEK }

// KEKs returns the KEKs that it unwraps under, the current one first: for those
// who ask what kind of KEK it is.
func (r *rotatingKEK) KEKs() []KEK { return slices.Clone(r.all) }

func (r *rotatingKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return r.all[0].EncryptWithContext(ctx, plaintext, associatedData)
}

func (r *rotatingKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	var errs []error
	for _, k := range r.all {
		p, err := k.DecryptWithContext(ctx, ciphertext, associatedData)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Format prints nothing of the keys.
func (r *rotatingKEK) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[crypto.RotatingKEK]") }

// Bound is how long a key that was replaced or retired may still be used in
// some process, counted from the commit: the longest GenerationInterval. Who
// adds a key to a tenant's keyset waits as long before anything is wrapped
// under it.
func (r *Keyring) Bound() time.Duration { return r.interval }

// rotate locks one of the tenant's keysets, and what hangs on it, for this
// transaction alone.
func (t *KeyTx) rotate(ctx context.Context, tenant string, use Use) error {
	switch {
	case tenant == "":
		return fmt.Errorf("crypto: rotate keys: %w", ErrBinding)
	case t.ended:
		return errEnded
	}
	if err := t.rows.LockKeys(ctx, tenant, string(use)); err != nil {
		return fmt.Errorf("crypto: lock keys: %w", err)
	}
	return nil
}

// RotateSubjects makes a new version of the key of each subject that has one,
// and returns how many it made. From its commit on everything is sealed under
// the new version; no transaction is left that seals under an older one. The
// older ones open until [KeyTx.RetireSubjects]. Subjects that were shredded
// are left out.
func (t *KeyTx) RotateSubjects(ctx context.Context, tenant string, subjects []string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.rotate(ctx, tenant, UseWrap); err != nil {
		return 0, err
	}
	bySubject, err := readSubjects(ctx, t.rows, tenant, subjects, true)
	if err != nil {
		return 0, err
	}
	made := 0
	for _, s := range slices.Compact(slices.Sorted(slices.Values(subjects))) {
		newest, err := bySubject[s].newest()
		if errors.Is(err, ErrShredded) || errors.Is(err, ErrNoKey) {
			continue
		}
		if err != nil {
			return made, &SubjectError{s, err}
		}
		if newest.Version >= maxKeyVersion {
			return made, &SubjectError{s, errors.New("crypto: rotate subject key: no version is left")}
		}
		wrap, err := t.tenantKey(ctx, tenant, useWrap, false, true)
		if err != nil {
			return made, err
		}
		row := KeyRow{Tenant: tenant, Subject: s, Version: newest.Version + 1, Closed: newest.Closed}
		raw := make([]byte, keySize)
		if _, err := rand.Read(raw); err != nil {
			return made, fmt.Errorf("crypto: make subject key: %w", err)
		}
		row.Wrapped = wrap.wrapSubjectKey(raw, row)
		clear(raw)
		if err := t.rows.InsertSubjectKey(ctx, row); err != nil {
			return made, fmt.Errorf("crypto: store subject key: %w", err)
		}
		made++
	}
	return made, nil
}

// RetireSubjects deletes every version of the subjects' keys but the newest,
// and returns how many it deleted. What is still sealed under one of them can
// never be opened again: call it when nothing is. Processes that hold one in
// their cache use it for [Keyring.Bound] at most.
func (t *KeyTx) RetireSubjects(ctx context.Context, tenant string, subjects []string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.rotate(ctx, tenant, UseWrap); err != nil {
		return 0, err
	}
	bySubject, err := readSubjects(ctx, t.rows, tenant, subjects, true)
	if err != nil {
		return 0, err
	}
	gone := 0
	for s, rows := range bySubject {
		newest, err := rows.newest()
		if err != nil {
			continue // shredded: nothing is left to retire
		}
		for _, row := range rows.rows {
			if row.Version == newest.Version {
				continue
			}
			if err := t.rows.DeleteSubjectKey(ctx, tenant, s, row.Version); err != nil {
				return gone, fmt.Errorf("crypto: retire subject key: %w", err)
			}
			gone++
		}
	}
	if gone == 0 {
		return 0, nil
	}
	return gone, t.bump(ctx)
}

func (t *KeyTx) bump(ctx context.Context) error {
	if err := t.rows.BumpGeneration(ctx); err != nil {
		return fmt.Errorf("crypto: change the key generation: %w", err)
	}
	return nil
}

// AddTenantKey adds a new key to one of the tenant's keysets. It opens, and
// makes tokens, but wraps nothing yet: call [KeyTx.PromoteTenantKey] when every
// process knows it, which is [Keyring.Bound] after the commit.
func (t *KeyTx) AddTenantKey(ctx context.Context, tenant string, use Use) error {
	return t.edit(ctx, tenant, use, func(h *keyset.Handle, m *keyset.Manager) (bool, error) {
		params, err := parametersOf(h)
		if err == nil {
			_, err = m.AddNewKeyFromParameters(params)
		}
		return true, err
	})
}

// PromoteTenantKey makes the newest key of the keyset its primary one, which
// wraps from the commit on.
func (t *KeyTx) PromoteTenantKey(ctx context.Context, tenant string, use Use) error {
	return t.edit(ctx, tenant, use, func(h *keyset.Handle, m *keyset.Manager) (bool, error) {
		e, err := h.Entry(h.Len() - 1)
		if err != nil {
			return false, err
		}
		if e.IsPrimary() {
			return false, nil
		}
		return true, m.SetPrimary(e.KeyID())
	})
}

// RetireTenantKeys drops every key of the keyset but the primary one. Of the
// wrapping keys it first looks whether a subject's key is still wrapped under
// one that would go: the error then wraps [ErrInUse], and [KeyTx.RewrapSubjects]
// is the mend.
func (t *KeyTx) RetireTenantKeys(ctx context.Context, tenant string, use Use) error {
	return t.edit(ctx, tenant, use, func(h *keyset.Handle, m *keyset.Manager) (bool, error) {
		changed := false
		for i := range h.Len() {
			e, err := h.Entry(i)
			if err != nil {
				return false, err
			}
			if e.IsPrimary() {
				continue
			}
			if err := m.Delete(e.KeyID()); err != nil {
				return false, err
			}
			changed = true
		}
		if !changed || use != UseWrap {
			return changed, nil
		}
		a, err := newKeysetAEAD(h)
		if err != nil {
			return false, err
		}
		n, err := t.rows.CountOthers(ctx, tenant, a.primary.prefix)
		if err != nil {
			return false, fmt.Errorf("read subject keys: %w", err)
		}
		if n > 0 {
			return false, ErrInUse
		}
		return true, nil
	})
}

// RewrapTenant wraps one of the tenant's keysets anew under the keyring's KEK,
// the current one of a [RotatingKEK], and sees that it opens under that alone.
// A tenant that has no such keyset is left alone.
func (t *KeyTx) RewrapTenant(ctx context.Context, tenant string, use Use) error {
	return t.edit(ctx, tenant, use, func(*keyset.Handle, *keyset.Manager) (bool, error) { return true, nil })
}

// edit changes a tenant's keyset, if it has one, under the lock.
func (t *KeyTx) edit(ctx context.Context, tenant string, use Use, change func(*keyset.Handle, *keyset.Manager) (bool, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if use != UseWrap && use != UseIndex {
		return errors.New("crypto: rotate tenant key: the use is neither wrap nor index")
	}
	if err := t.rotate(ctx, tenant, use); err != nil {
		return err
	}
	wrapped, err := t.rows.TenantKeyset(ctx, tenant, string(use), true)
	if err != nil {
		return fmt.Errorf("crypto: read tenant key: %w", err)
	}
	if wrapped == nil {
		return nil
	}
	h, err := readKeyset(ctx, t.ring.kek, tenant, string(use), wrapped)
	if err != nil {
		return err
	}
	m := keyset.NewManagerFromHandle(h)
	changed, err := change(h, m)
	if err != nil {
		return fmt.Errorf("crypto: rotate tenant key: %w", err)
	}
	if !changed {
		return nil
	}
	if h, err = m.Handle(); err != nil {
		return fmt.Errorf("crypto: rotate tenant key: %w", err)
	}
	made, err := wrapTenantKey(ctx, t.ring.kek, h, tenant, string(use))
	if err != nil {
		return err
	}
	// Read back before the old bytes go, under the KEK that will stay.
	if _, err := unwrapTenantKey(ctx, currentOf(t.ring.kek), tenant, string(use), made.wrapped); err != nil {
		return err
	}
	if err := t.rows.ReplaceTenantKeyset(ctx, tenant, string(use), wrapped, made.wrapped); err != nil {
		return fmt.Errorf("crypto: store tenant key: %w", err)
	}
	delete(t.tenants, tenantID{tenant, string(use)})
	return t.bump(ctx)
}

func currentOf(k KEK) KEK {
	switch w := k.(type) {
	case *rotatingKEK:
		return currentOf(w.all[0])
	case *withOutages:
		return &withOutages{currentOf(w.kek), w.is}
	}
	return k
}

// parametersOf are those of the keyset's primary key, so that a new key is of
// its kind.
func parametersOf(h *keyset.Handle) (key.Parameters, error) {
	e, err := h.Primary()
	if err != nil {
		return nil, err
	}
	return e.Key().Parameters(), nil
}

// RewrapSubjects wraps the keys of the subjects under the tenant's primary key
// where another key of the keyset wraps them, and returns how many it did. The
// keys themselves stay.
func (t *KeyTx) RewrapSubjects(ctx context.Context, tenant string, subjects []string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.rotate(ctx, tenant, UseWrap); err != nil {
		return 0, err
	}
	bySubject, err := readSubjects(ctx, t.rows, tenant, subjects, true)
	if err != nil || len(bySubject) == 0 {
		return 0, err
	}
	wrap, err := t.tenantKey(ctx, tenant, useWrap, false, true)
	if err != nil {
		return 0, err
	}
	done := 0
	for s, rows := range bySubject {
		for _, row := range rows.rows {
			if rows.shredded || row.Shredded || bytes.HasPrefix(row.Wrapped, wrap.wrap.primary.prefix) {
				continue
			}
			raw, err := wrap.wrap.open(row.Wrapped, subjectData(row))
			if err != nil {
				return done, &SubjectError{s, fmt.Errorf("crypto: unwrap subject key: %w", ErrUnwrap)}
			}
			old := row.Wrapped
			row.Wrapped = wrap.wrapSubjectKey(raw, row)
			clear(raw)
			if err := t.rows.ReplaceSubjectKey(ctx, row, old); err != nil {
				return done, fmt.Errorf("crypto: store subject key: %w", err)
			}
			done++
		}
	}
	return done, nil
}

// ResealingKeys is [KeyTx.SealingKeys] for what is sealed already and is sealed
// anew: it makes no key, leaves out subjects that have none or were shredded,
// and returns those of closed ones too.
func (t *KeyTx) ResealingKeys(ctx context.Context, tenant string, subjects []string) (map[string]*Key, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case tenant == "":
		return nil, fmt.Errorf("crypto: resealing keys: %w", ErrBinding)
	case t.ended:
		return nil, errEnded
	}
	subjects = slices.Compact(slices.Sorted(slices.Values(subjects)))
	bySubject, err := readSubjects(ctx, t.rows, tenant, subjects, true)
	if err != nil || len(bySubject) == 0 {
		return nil, err
	}
	wrap, err := t.tenantKey(ctx, tenant, useWrap, false, true)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]*Key, len(bySubject))
	for s, rows := range bySubject {
		row, err := rows.newest()
		if errors.Is(err, ErrShredded) {
			continue
		}
		if err == nil {
			keys[s], err = t.unwrap(wrap, row)
		}
		if err != nil {
			return nil, &SubjectError{s, err}
		}
	}
	return keys, nil
}
