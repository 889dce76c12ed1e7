// SPDX-License-Identifier: Apache-2.0

package crypto

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
)

// newKeyset returns a keyset of one new key, its primary.
func newKeyset(params key.Parameters) (*keyset.Handle, error) {
	m := keyset.NewManager()
	id, err := m.AddNewKeyFromParameters(params)
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	return m.Handle()
}

func newAESKeyset() (*keyset.Handle, error) {
	params, err := aesgcm.NewParameters(aesgcm.ParametersOpts{
		KeySizeInBytes: keySize, IVSizeInBytes: ivSize, TagSizeInBytes: tagSize, Variant: aesgcm.VariantTink,
	})
	if err != nil {
		return nil, err
	}
	return newKeyset(params)
}

func newPRFKeyset() (*keyset.Handle, error) {
	params, err := hmacprf.NewParameters(keySize, hmacprf.SHA256)
	if err != nil {
		return nil, err
	}
	return newKeyset(params)
}

// A keysetAEAD seals with the primary key of a Tink AES256-GCM keyset and
// opens with any enabled one. Its ciphertexts are Tink's, byte for byte, but
// the cipher is the standard library's, which a FIPS-only process allows
// where it refuses Tink's own AES-GCM.
type keysetAEAD struct {
	primary keysetKey
	enabled []keysetKey
}

type keysetKey struct {
	prefix []byte // of the ciphertext; empty for a key without one
	aead   cipher.AEAD
}

func newKeysetAEAD(h *keyset.Handle) (*keysetAEAD, error) {
	a := new(keysetAEAD)
	for i := range h.Len() {
		e, err := h.Entry(i)
		if err != nil {
			return nil, err
		}
		if e.KeyStatus() != keyset.Enabled {
			continue
		}
		k, ok := e.Key().(*aesgcm.Key)
		if !ok || k.KeyBytes().Len() != keySize {
			return nil, errors.New("a key of the keyset is not AES256-GCM")
		}
		if p, ok := k.Parameters().(*aesgcm.Parameters); !ok || p.IVSizeInBytes() != ivSize || p.TagSizeInBytes() != tagSize {
			return nil, errors.New("a key of the keyset has another IV or tag size than 12 and 16 bytes")
		}
		raw := k.KeyBytes().Data(insecuresecretdataaccess.Token{})
		gcm, err := newGCM(raw)
		clear(raw)
		if err != nil {
			return nil, err
		}
		kk := keysetKey{prefix: k.OutputPrefix(), aead: gcm}
		if e.IsPrimary() {
			a.primary = kk
		}
		a.enabled = append(a.enabled, kk)
	}
	if a.primary.aead == nil {
		return nil, errors.New("the keyset has no enabled primary key")
	}
	return a, nil
}

func (a *keysetAEAD) seal(plaintext, associatedData []byte) []byte {
	dst := make([]byte, len(a.primary.prefix), len(a.primary.prefix)+ivSize+len(plaintext)+tagSize)
	copy(dst, a.primary.prefix)
	return a.primary.aead.Seal(dst, nil, plaintext, associatedData)
}

func (a *keysetAEAD) open(ciphertext, associatedData []byte) ([]byte, error) {
	for _, k := range a.enabled {
		if !bytes.HasPrefix(ciphertext, k.prefix) {
			continue
		}
		if p, err := k.aead.Open(nil, nil, ciphertext[len(k.prefix):], associatedData); err == nil {
			return p, nil
		}
	}
	return nil, ErrUnwrap
}

// The uses of a tenant's keysets.
const (
	useWrap  = "wrap"
	useIndex = "index"
)

// A tenantKey is one unwrapped keyset of a tenant. It is immutable.
type tenantKey struct {
	wrapped []byte
	wrap    *keysetAEAD // use "wrap"
	index   []*IndexKey // use "index", the newest first
	marks   marks
}

func newTenantKey(ctx context.Context, kek KEK, tenant, use string) (*tenantKey, error) {
	generate := newAESKeyset
	if use == useIndex {
		generate = newPRFKeyset
	}
	h, err := generate()
	if err != nil {
		return nil, fmt.Errorf("crypto: make tenant key: %w", err)
	}
	return wrapTenantKey(ctx, kek, h, tenant, use)
}

func wrapTenantKey(ctx context.Context, kek KEK, h *keyset.Handle, tenant, use string) (*tenantKey, error) {
	var buf bytes.Buffer
	if marksOf(kek).seals {
		buf.WriteString(testKeyset)
	}
	rec := &kekRecorder{KEK: kek}
	if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), rec, tenantData(tenant, use)); err != nil {
		return nil, fmt.Errorf("crypto: wrap tenant key: %w", rec.cause(err))
	}
	return parseTenantKey(h, buf.Bytes(), tenant, use, marksOf(kek))
}

func unwrapTenantKey(ctx context.Context, kek KEK, tenant, use string, wrapped []byte) (*tenantKey, error) {
	h, err := readKeyset(ctx, kek, tenant, use, wrapped)
	if err != nil {
		return nil, err
	}
	return parseTenantKey(h, bytes.Clone(wrapped), tenant, use, marksOf(kek))
}

func readKeyset(ctx context.Context, kek KEK, tenant, use string, wrapped []byte) (*keyset.Handle, error) {
	wrapped, test := bytes.CutPrefix(wrapped, []byte(testKeyset))
	if test && !marksOf(kek).opens {
		return nil, fmt.Errorf("crypto: unwrap tenant key: %w: %w", ErrUnwrap, ErrTestKey)
	}
	rec := &kekRecorder{KEK: kek}
	h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(wrapped)), rec, tenantData(tenant, use))
	switch {
	case rec.err != nil:
		return nil, fmt.Errorf("crypto: unwrap tenant key: %w: %w", ErrUnwrap, rec.err)
	case err != nil:
		// Tink's words may hold bytes of what was read: they are left out.
		return nil, fmt.Errorf("crypto: unwrap tenant key: %w", ErrUnwrap)
	}
	return h, nil
}

func parseTenantKey(h *keyset.Handle, wrapped []byte, tenant, use string, m marks) (*tenantKey, error) {
	k := &tenantKey{wrapped: wrapped, marks: m}
	var err error
	if use == useIndex {
		k.index, err = newIndexKeys(h, tenant)
	} else {
		k.wrap, err = newKeysetAEAD(h)
	}
	if err != nil {
		return nil, fmt.Errorf("crypto: unwrap tenant key: %w: %w", ErrUnwrap, err)
	}
	return k, nil
}

func tenantData(tenant, use string) []byte { return joinParts("part164/tenant-keyset", tenant, use) }

// A kekRecorder keeps the KEK's error, which Tink prints into its own without
// wrapping it.
type kekRecorder struct {
	KEK
	err error
}

func (r *kekRecorder) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	c, err := r.KEK.EncryptWithContext(ctx, plaintext, associatedData)
	r.err = told(err)
	return c, err
}

func (r *kekRecorder) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	p, err := r.KEK.DecryptWithContext(ctx, ciphertext, associatedData)
	r.err = told(err)
	return p, err
}

func (r *kekRecorder) cause(err error) error {
	if r.err != nil {
		return r.err
	}
	return err
}

// wrapSubjectKey wraps a subject's raw key under the tenant's.
func (k *tenantKey) wrapSubjectKey(raw []byte, row KeyRow) []byte {
	return k.wrap.seal(raw, subjectData(row))
}

func (k *tenantKey) unwrapSubjectKey(row KeyRow) (*Key, error) {
	raw, err := k.wrap.open(row.Wrapped, subjectData(row))
	if err != nil {
		return nil, fmt.Errorf("crypto: unwrap subject key: %w", ErrUnwrap)
	}
	key, err := newKey(raw, row.Tenant, row.Subject, row.Version)
	if err != nil {
		return nil, fmt.Errorf("crypto: unwrap subject key: %w", ErrUnwrap)
	}
	key.marks = k.marks
	return key, nil
}

func subjectData(row KeyRow) []byte {
	d := joinParts("part164/subject-key", row.Tenant, row.Subject)
	return append(d, byte(row.Version>>24), byte(row.Version>>16), byte(row.Version>>8), byte(row.Version))
}
