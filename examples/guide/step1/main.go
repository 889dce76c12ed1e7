// SPDX-License-Identifier: Apache-2.0

// Step 1 of docs/guide-storage.md: the database is opened through storage.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
)

type Patient struct {
	ID        string `gorm:"primaryKey;size:36"`
	CreatedAt time.Time
	UpdatedAt time.Time
	MRN       string `gorm:"uniqueIndex;size:20"`
	Name      string `gorm:"size:100"`
	Phone     string
	Notes     string
	NextVisit time.Time `gorm:"index"`
}

func open() (*gorm.DB, *audit.Journal, error) {
	kek, err := crypto.LocalKEK("data/kek.json") // in production: a KMS, see guide-keys.md
	if err != nil {
		return nil, nil, err
	}
	journal, err := audit.Open("data/audit", audit.Config{Development: true})
	if err != nil {
		return nil, nil, err
	}
	db, err := storage.Open(sqlite.Open("data/app.db"), storage.Config{
		Development: true, // not in production: see the Config's documentation
		KEK:         kek,
		Audit:       journal,
		Access:      rbac.Starter(),     // who may touch what
		Minimize:    minimize.Starter(), // how much of it they see and may change
	})
	return db, journal, err
}

func main() {
	db, journal, err := open()
	if err != nil {
		log.Fatal(err)
	}
	err = storage.Migrate(context.Background(), db, &Patient{}) // in place of db.AutoMigrate
	err = errors.Join(err, list(db), storage.Close(db), journal.Close())
	if err != nil {
		log.Fatal(err)
	}
}

func list(db *gorm.DB) error {
	var due []Patient
	err := db.Where("next_visit > ?", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)).Order("next_visit").Find(&due).Error
	for _, p := range due {
		fmt.Println(p.NextVisit.Format(time.DateOnly), p.MRN, p.Name, p.Phone)
	}
	return err
}
