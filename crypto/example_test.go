// SPDX-License-Identifier: Apache-2.0

package crypto_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// A KEK in a file, for development. In production give a KMS key instead.
func ExampleLocalKEK() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	kek, err := crypto.LocalKEK(filepath.Join(dir, "keys", "kek.json"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = kek.EncryptWithContext(context.Background(), []byte("a tenant's key"), nil)
	fmt.Println("before:", errors.Is(err, crypto.ErrNoKeyFile))

	if err := kek.Generate(); err != nil { // storage.Open does this, with Development only
		log.Fatal(err)
	}
	_, err = kek.EncryptWithContext(context.Background(), []byte("a tenant's key"), nil)
	fmt.Println("after:", err)
	// Output:
	// before: true
	// after: <nil>
}

// One value is sealed in a transaction and opened by whoever has the KEK and
// the key tables. storage does all this for its models.
func ExampleKeyring() {
	ctx := context.Background()
	db := cryptotest.NewStore() // storage keeps the key tables in the database
	ring, err := crypto.NewKeyring(crypto.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		log.Fatal(err)
	}

	// Write: the keys live and die with the transaction until it has committed.
	tx, err := db.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	keys := ring.Begin(tx)
	sealing, err := keys.SealingKeys(ctx, "clinic", []string{"patient-1"})
	if err != nil {
		log.Fatal(err)
	}
	at := crypto.Binding{Tenant: "clinic", Field: "patients.name", Record: "row-1", Subject: "patient-1"}
	cell, err := sealing["patient-1"].Seal(nil, []byte("Jane Roe"), at)
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.Precommit(ctx); err != nil {
		log.Fatal(err) // and roll back
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err) // and drop keys: nobody knows whether it committed
	}
	keys.Publish()

	// Read.
	header, err := crypto.ParseHeader(cell)
	if err != nil {
		log.Fatal(err)
	}
	found, err := ring.Lookup(ctx, db.Rows(), "clinic", []crypto.KeyRef{{Subject: "patient-1", Version: header.KeyVersion}})
	if err != nil {
		log.Fatal(err)
	}
	if found[0].Err != nil {
		log.Fatal(found[0].Err)
	}
	fmt.Println(found[0].Key)
	plaintext, err := found[0].Key.Open(nil, cell, at)
	fmt.Printf("%s %v\n", plaintext, err)

	at.Record = "row-2" // the cell copied to another row
	_, err = found[0].Key.Open(nil, cell, at)
	fmt.Println(errors.Is(err, crypto.ErrOpen))
	// Output:
	// [crypto.Key version 1]
	// Jane Roe <nil>
	// true
}

// Equal values have equal tokens, within one tenant, field and kind.
func ExampleIndexKey_Token() {
	ctx := context.Background()
	ring, err := crypto.NewKeyring(crypto.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		log.Fatal(err)
	}
	keys, err := ring.Begin(cryptotest.NewStore().Rows()).IndexingKeys(ctx, "clinic")
	if err != nil {
		log.Fatal(err)
	}
	key := keys[0] // the newest
	token := key.Token("patients.mrn", "exact", "4711")
	fmt.Println(len(token), string(token) == string(key.Token("patients.mrn", "exact", "4711")))
	fmt.Println(string(token) == string(key.Token("patients.plan", "exact", "4711")))
	// Output:
	// 32 true
	// false
}

func ExampleNewSealer() {
	ctx := context.Background()
	sealer := crypto.NewSealer(cryptotest.NewKEK())
	at := crypto.Binding{Tenant: "clinic", Field: "totp", Record: "user-1", Subject: "user-1"}
	sealed, err := sealer.Seal(ctx, at, []byte("seed"))
	if err != nil {
		log.Fatal(err)
	}
	seed, err := sealer.Open(ctx, at, sealed)
	fmt.Printf("%s %v\n", seed, err)
	// Output:
	// seed <nil>
}
