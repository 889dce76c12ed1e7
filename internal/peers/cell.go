// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// cellFigures compare the opening of a cell, its key at hand, with AES-256-GCM
// of the standard library over the same bytes, associated data included.
func cellFigures() []figure {
	return []figure{
		{"cell open / raw AES-256-GCM open, 32 B", goal{most: 1.8}, cellOpen(32)},
		{"cell open / raw AES-256-GCM open, 1 KiB", goal{most: 1.2}, cellOpen(1024)},
	}
}

func cellOpen(size int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, _ string) (value, error) {
		place := crypto.Binding{
			Tenant: "clinic-7", Field: "patients.name",
			Record:  "01998ab1-5a4e-7d3c-9f10-8f6f1c3a2b10",
			Subject: "01998ab1-5a4e-7d3c-9f10-8f6f1c3a2b10",
		}
		key, err := cellKey(ctx, place)
		if err != nil {
			return value{}, err
		}
		plain := make([]byte, size)
		rand.Read(plain)
		cell, err := key.Seal(nil, plain, place)
		if err != nil {
			return value{}, err
		}

		secret := make([]byte, 32)
		rand.Read(secret)
		block, err := aes.NewCipher(secret)
		if err != nil {
			return value{}, err
		}
		raw, err := cipher.NewGCM(block)
		if err != nil {
			return value{}, err
		}
		iv := make([]byte, raw.NonceSize())
		rand.Read(iv)
		// as long as a cell's: its header, a label, and four strings, with lengths
		data := make([]byte, 6+5*4+len("part164/cell")+len(place.Tenant)+len(place.Field)+len(place.Record)+len(place.Subject))
		sealed := raw.Seal(nil, iv, plain, data)

		buf := make([]byte, 0, len(cell)+len(data)+64)
		if got, err := key.Open(buf, cell, place); err != nil || !bytes.Equal(got, plain) {
			return value{}, fmt.Errorf("the cell does not open: %w", err)
		}
		const opens = 2_000
		return ratio(ctx, 501,
			timed(opens, func(context.Context) error { _, err := key.Open(buf, cell, place); return err }),
			timed(opens, func(context.Context) error { _, err := raw.Open(buf, iv, sealed, data); return err }))
	}
}

// cellKey returns the key of the place's subject as an app gets it: made in a
// transaction, then looked up in the cache.
func cellKey(ctx context.Context, place crypto.Binding) (*crypto.Key, error) {
	ring, err := crypto.NewKeyring(crypto.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		return nil, err
	}
	store := cryptotest.NewStore()
	tx, err := store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	keys := ring.Begin(tx)
	made, err := keys.SealingKeys(ctx, place.Tenant, []string{place.Subject})
	if err != nil {
		return nil, err
	}
	if err := keys.Precommit(ctx); err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	keys.Publish()
	found, err := ring.Lookup(ctx, store.Rows(), place.Tenant, []crypto.KeyRef{{Subject: place.Subject, Version: made[place.Subject].Version()}})
	if err != nil {
		return nil, err
	}
	return found[0].Key, found[0].Err
}
