// SPDX-License-Identifier: Apache-2.0

// Step 4 of docs/guide-storage.md: what is there is sealed, and the places that
// read and write follow the model.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
)

type Patient struct {
	storage.PatientRecord                        // ID, TenantID, Version, CreatedAt, UpdatedAt
	MRN                   storage.Sealed[string] `gorm:"column:mrn_sealed" phi:"mrn,search=exact,unique,from=mrn"`
	Name                  storage.Sealed[string] `gorm:"column:name_sealed" phi:"name,search=name,from=name"`
	Phone                 storage.Sealed[string] `gorm:"column:phone_sealed" phi:"phone,from=phone"`
	Notes                 storage.Sealed[string] `gorm:"column:notes_sealed" phi:"text,from=notes"`
	NextVisit             time.Time              `gorm:"index" phi:"date,clear"` // sorted by: stays in clear
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
	err = errors.Join(run(db), storage.Close(db), journal.Close())
	if err != nil {
		log.Fatal(err)
	}
}

func run(db *gorm.DB) error {
	if err := storage.Migrate(context.Background(), db, &Patient{}); err != nil {
		return err
	}
	if err := sealAll(db); err != nil {
		return err
	}
	ctx := access.With(context.Background(), physician(), access.Treatment)
	return errors.Join(add(ctx, db), list(ctx, db), find(ctx, db, "wei n"))
}

// sealAll may run at every start: a run that has finished is not done again
// under the same name, and one that was killed goes on where it was.
func sealAll(db *gorm.DB) error {
	service := access.Principal{ID: "sealer", Tenant: "elm-street", Kind: access.Service, Roles: []string{"maintenance"}}
	ctx, end := access.Job(context.Background(), service, access.RecordManagement)
	defer end()
	report, err := storage.RunJob(ctx, db, storage.Job{
		Kind:   storage.SealColumns,
		Name:   "seal-2027",
		Adopt:  true, // the old rows belong to no tenant yet: give them to this one
		Output: os.Stderr,
	})
	fmt.Println("sealed:", report.Done, "left out:", len(report.Skipped))
	return err
}

// physician is who has signed in: the SDK's own session package gives it, or
// your own sign-in fills it in.
func physician() access.Principal {
	return access.Principal{ID: "u-17", Tenant: "elm-street", Kind: access.Human, Roles: []string{"physician"}}
}

func add(ctx context.Context, db *gorm.DB) error {
	p := Patient{MRN: storage.Seal("MRN-003"), Name: storage.Seal("Anaïs Nuñez"), Phone: storage.Seal("212-555-0103"),
		NextVisit: time.Date(2027, 1, 8, 9, 0, 0, 0, time.UTC)}
	return db.WithContext(ctx).Create(&p).Error
}

func list(ctx context.Context, db *gorm.DB) error {
	var due []Patient
	err := db.WithContext(ctx).Where("next_visit > ?", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)).Order("next_visit").Find(&due).Error
	if err == nil {
		err = storage.Reveal(ctx, due) // authorise, minimise, record, open: one act for the list
	}
	for _, p := range due {
		fmt.Println(p.NextVisit.Format(time.DateOnly), p.MRN.Text(ctx), p.Name.Text(ctx), p.Phone.Text(ctx))
	}
	return err
}

func find(ctx context.Context, db *gorm.DB, name string) error {
	var p Patient
	err := db.WithContext(ctx).Where(storage.Match("Name", name)).Take(&p).Error // was: Where("name LIKE ?", name+"%")
	if err == nil {
		err = storage.Reveal(ctx, &p)
	}
	fmt.Println("found:", p.Name.Text(ctx))
	return err
}
