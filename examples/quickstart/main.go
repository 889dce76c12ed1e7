// SPDX-License-Identifier: Apache-2.0

// Quickstart seals a patient, reveals it to two roles, and verifies the trail.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
)

type Patient struct { // a GORM model; its tags say what each field is about
	storage.PatientRecord
	Name    storage.Sealed[string] `phi:"name,search=name"`
	SSN     storage.Sealed[string] `phi:"ssn"`
	Allergy storage.Sealed[string] `phi:"allergy"`
}

func main() {
	dir, err := os.MkdirTemp(".", "quickstart-") // not in /tmp, which may be in memory: a journal refuses that
	if err == nil {
		err = errors.Join(run(context.Background(), dir), os.RemoveAll(dir))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{Development: true})
	kek, kerr := crypto.LocalKEK(filepath.Join(dir, "kek.json"))
	if err = errors.Join(err, kerr); err != nil {
		return err
	}
	db, err := storage.Open(sqlite.Open(filepath.Join(dir, "app.db")), storage.Config{
		Development: true, KEK: kek, Audit: journal, Access: rbac.Starter(), Minimize: minimize.Starter()})
	if err != nil {
		return err
	}
	doctor := access.With(ctx, access.Principal{ID: "u-17", Tenant: "clinic", Kind: access.Human, Roles: []string{"physician"}}, access.Treatment)
	billing := access.With(ctx, access.Principal{ID: "u-23", Tenant: "clinic", Kind: access.Human, Roles: []string{"billing"}}, access.Payment)
	p := Patient{Name: storage.Seal("Jane Roe"), SSN: storage.Seal("123-45-6789"), Allergy: storage.Seal("penicillin")}
	other, err := db.DB() // another client of the database, past the SDK
	if err = errors.Join(err, storage.Migrate(ctx, db, &p), db.WithContext(doctor).Create(&p).Error); err != nil {
		return err
	}
	var onDisk []byte
	asJSON, jerr := json.Marshal(p.Name)
	err = other.QueryRow("SELECT substr(name, 1, 16) FROM patients").Scan(&onDisk)
	fmt.Printf("on disk: %x...\nprinted: %+v, as JSON %s\n", onDisk, p.Name, asJSON)
	for i, ctx := range []context.Context{doctor, billing} {
		var q Patient
		err = errors.Join(err, jerr, db.WithContext(ctx).First(&q).Error, storage.Reveal(ctx, &q))
		asJSON, jerr = minimize.JSON(ctx, struct{ Name, SSN, Allergy storage.Sealed[string] }{q.Name, q.SSN, q.Allergy})
		fmt.Printf("%s %s\n", []string{"doctor: ", "billing:"}[i], asJSON)
	}
	_, refused := other.Exec("UPDATE patients SET name = 'Jane Roe'")
	fmt.Println("raw SQL:", refused)
	if err = errors.Join(err, jerr, storage.Close(db), journal.Close()); err != nil {
		return err
	}
	report, err := audit.Verify(ctx, filepath.Join(dir, "audit"), audit.VerifyConfig{})
	if err == nil && len(report.Defects) == 0 {
		fmt.Printf("audit: %d events, integrity ok\n", report.Events)
		return nil
	}
	return errors.Join(err, fmt.Errorf("audit: %d defects: %v", len(report.Defects), report.Defects))
}
