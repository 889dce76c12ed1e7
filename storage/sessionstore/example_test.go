// SPDX-License-Identifier: Apache-2.0

package sessionstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
	"github.com/part164/part164/storage/sessionstore"
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
	if err := sessionstore.Migrate(ctx, db); err != nil {
		log.Fatal(err)
	}
	cfg, _, _ := sessiontest.Config(&testing.T{}) // an app names its journal, sealer and issuer here
	cfg.Store = sessionstore.New(db)
	sessions, err := session.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	u, err := sessions.CreateUser(ctx, session.NewUser{Tenant: "elm-street", Login: "Nora@clinic.example", Password: "a long phrase of hers"})
	if err != nil {
		log.Fatal(err)
	}
	again, err := sessions.UserByLogin(ctx, "elm-street", "nora@clinic.example")
	fmt.Println(again.ID == u.ID, err)
	if c, err := db.DB(); err == nil {
		c.Close()
	}
	// Output: true <nil>
}
