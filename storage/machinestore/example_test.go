// SPDX-License-Identifier: Apache-2.0

package machinestore_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage/machinestore"
	"github.com/part164/part164/storage/sqlite"
)

func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "app.db")))
	if err != nil {
		log.Fatal(err)
	}
	if err := machinestore.Migrate(ctx, db); err != nil {
		log.Fatal(err)
	}
	keys, err := machine.New(machine.Config{
		Store:    machinestore.New(db),
		Audit:    new(audittest.Trail),                                                          // in production: the journal of audit.Open
		Accounts: func(context.Context, string, string) (access.Kind, error) { return "", nil }, // in production: asks session
	})
	if err != nil {
		log.Fatal(err)
	}
	_, token, err := keys.Issue(ctx, machine.NewKey{
		Tenant: "elm-street", Service: "svc-importer", Roles: []string{"importer"}, Purposes: []access.Purpose{access.Treatment},
	})
	if err != nil {
		log.Fatal(err)
	}
	who, err := keys.Authenticate(ctx, token, netip.MustParseAddr("10.0.0.7"))
	fmt.Println(token[:8], who.ID, who.Kind, err)
	if c, err := db.DB(); err == nil {
		c.Close()
	}
	// Output: part164_ svc-importer service <nil>
}
