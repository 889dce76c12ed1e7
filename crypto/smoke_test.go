// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"context"
	"testing"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

func TestSealThenOpen(t *testing.T) {
	ctx := context.Background()
	ring, err := crypto.NewKeyring(crypto.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		t.Fatal(err)
	}
	db := cryptotest.NewStore()
	dbtx, err := db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tx := ring.Begin(dbtx)
	keys, err := tx.SealingKeys(ctx, "t1", []string{"p1", "p2", ""})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.IndexKey(ctx, "t1"); err != nil {
		t.Fatal(err)
	}
	b := crypto.Binding{Tenant: "t1", Field: "patient.name", Record: "p1", Subject: "p1"}
	cell, err := keys["p1"].Seal(nil, []byte("Jane Roe"), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Precommit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := dbtx.Commit(); err != nil {
		t.Fatal(err)
	}
	tx.Publish()
	h, err := crypto.ParseHeader(cell)
	if err != nil {
		t.Fatal(err)
	}
	found, err := ring.Lookup(ctx, db.Rows(), "t1", []crypto.KeyRef{{Subject: "p1", Version: h.KeyVersion}})
	if err != nil || found[0].Err != nil {
		t.Fatal(err, found)
	}
	got, err := found[0].Key.Open(nil, cell, b)
	if err != nil || string(got) != "Jane Roe" {
		t.Fatalf("Open = %q, %v", got, err)
	}
}
