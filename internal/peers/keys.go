// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// keyFigures compare what the keyring does for one subject, and for one search
// token, with the same primitives of the standard library.
func keyFigures() []figure {
	return []figure{
		{"subject key unwrapped, not cached / raw AES-256-GCM open and key set-up", goal{most: 2}, unwrapKeys},
		{"index token / raw HMAC-SHA256", goal{most: 1.5}, indexToken},
	}
}

// keyTable is a key table in memory that gives its rows as they are.
type keyTable struct {
	crypto.KeyRows
	rows []crypto.KeyRow
}

func (k keyTable) SubjectKeys(context.Context, string, []string, bool) ([]crypto.KeyRow, error) {
	return k.rows, nil
}

// unwrapKeys looks 1,000 subjects up in a keyring that has room for one.
func unwrapKeys(ctx context.Context, _ string) (value, error) {
	const tenant, subjects = "clinic-7", 1000
	ring, err := crypto.NewKeyring(crypto.Config{KEK: cryptotest.NewKEK(), CacheSize: 1})
	if err != nil {
		return value{}, err
	}
	store := cryptotest.NewStore()
	tx, err := store.Begin(ctx)
	if err != nil {
		return value{}, err
	}
	var names []string
	var refs []crypto.KeyRef
	for i := range subjects {
		names = append(names, fmt.Sprintf("01998ab1-5a4e-7d3c-9f10-%012d", i))
		refs = append(refs, crypto.KeyRef{Subject: names[i], Version: 1})
	}
	keys := ring.Begin(tx)
	if _, err := keys.SealingKeys(ctx, tenant, names); err != nil {
		return value{}, err
	}
	if err := errors.Join(keys.Precommit(ctx), tx.Commit()); err != nil {
		return value{}, err
	}
	table := keyTable{KeyRows: store.Rows()}
	if table.rows, err = store.Rows().SubjectKeys(ctx, tenant, names, false); err != nil {
		return value{}, err
	}

	secret := make([]byte, 32)
	rand.Read(secret)
	wrap, err := gcm(secret)
	if err != nil {
		return value{}, err
	}
	data := make([]byte, len("part164/subject-key")+len(tenant)+len(names[0])+3*4+4)
	wrapped := wrap.Seal(nil, nil, secret, data)

	return ratio(ctx, 201,
		timed(1, func(ctx context.Context) error {
			found, err := ring.Lookup(ctx, table, tenant, refs)
			if err == nil && found[subjects-1].Key == nil {
				err = found[subjects-1].Err
			}
			return err
		}),
		timed(subjects, func(context.Context) error {
			raw, err := wrap.Open(nil, nil, wrapped, data)
			if err != nil {
				return err
			}
			_, err = gcm(raw)
			return err
		}))
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func indexToken(ctx context.Context, _ string) (value, error) {
	const tenant, field, kind, text = "clinic-7", "patients.name", "name", "smith"
	ring, err := crypto.NewKeyring(crypto.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		return value{}, err
	}
	tx, err := cryptotest.NewStore().Begin(ctx)
	if err != nil {
		return value{}, err
	}
	keys, err := ring.Begin(tx).IndexingKeys(ctx, tenant)
	if err != nil {
		return value{}, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	mac := hmac.New(sha256.New, secret)
	message := make([]byte, 5*4+len("part164/index")+len(tenant)+len(field)+len(kind)+len(text))
	const tokens = 2000
	return ratio(ctx, 301,
		timed(tokens, func(context.Context) error {
			if len(keys[0].Token(field, kind, text)) != sha256.Size {
				return errors.New("no token")
			}
			return nil
		}),
		timed(tokens, func(context.Context) error {
			mac.Reset()
			mac.Write(message)
			if len(mac.Sum(make([]byte, 0, sha256.Size))) != sha256.Size {
				return errors.New("no MAC")
			}
			return nil
		}))
}
