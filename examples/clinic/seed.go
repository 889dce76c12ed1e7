// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage"
)

// seeded is how many patients a new database gets.
const seeded = 24

// strangers: the care team of one seeded patient in so many is somebody else's.
const strangers = 4

// firstPatient is the record ID of the first of them: that of the demo user who
// is a patient, since a patient signs in as their own record.
const firstPatient = "019b4000-0000-7000-8000-000000000001"

// seed fills an empty database with invented patients, the same in each run:
// nobody has these names and numbers (555-01xx and 9xx-xx-xxxx are never given
// out).
func (a *app) seed(ctx context.Context) error {
	ctx, done := access.Job(ctx, importer(), access.RecordManagement)
	defer done()
	db := a.db.WithContext(ctx)
	var n int64
	if err := db.Model(&Patient{}).Count(&n).Error; err != nil || n > 0 || !a.development {
		return err
	}
	r := rand.New(rand.NewPCG(164, 312))
	for i := range seeded {
		var id string
		err := db.Transaction(func(tx *gorm.DB) (err error) { id, err = seedPatient(tx, r, i); return err })
		if err == nil && i%strangers != strangers-1 {
			err = a.assign(ctx, id)
		}
		if err != nil {
			return fmt.Errorf("clinic: seed: %w", err)
		}
	}
	return nil
}

func seedPatient(tx *gorm.DB, r *rand.Rand, i int) (string, error) {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	day := func(yearsAgo int) *time.Time {
		t := time.Date(2026-r.IntN(yearsAgo)-1, time.Month(1+r.IntN(12)), 1+r.IntN(28), 8+r.IntN(9), 15*r.IntN(4), 0, 0, time.UTC)
		return &t
	}
	given := pick("Amara", "Bruno", "Carmen", "Desmond", "Elin", "Farid", "Greta", "Hana", "Ilya", "Joaquin", "Keiko", "Lars")
	family := pick("Abernathy", "Beaumont", "Castellan", "Delacroix", "Eriksson", "Fairweather", "Gallagher", "Hashimoto", "Ivanova", "Juarez", "Kowalski", "Lindqvist")
	p := &Patient{
		MRN:       storage.Seal(fmt.Sprintf("MRN-%06d", 100_000+7919*i)),
		Name:      storage.Seal(given + " " + family),
		BirthDate: storage.Seal(fmt.Sprintf("%d-%02d-%02d", 1936+r.IntN(80), 1+r.IntN(12), 1+r.IntN(28))),
		Sex:       storage.Seal(pick("female", "male")),
		SSN:       storage.Seal(fmt.Sprintf("9%02d-%02d-%04d", r.IntN(100), 10+r.IntN(80), 1000+r.IntN(9000))),
		Phone:     storage.Seal(fmt.Sprintf("617-555-01%02d", i)),
		Street:    storage.Seal(fmt.Sprintf("%d %s", 10+r.IntN(900), pick("Larkspur Lane", "Granary Row", "Millrace Road", "Tamarack Avenue"))),
		City:      storage.Seal(pick("Easton", "Wareham", "Holbrook")),
		State:     storage.Seal("Massachusetts"),
		ZIP:       storage.Seal(pick("02334", "02571", "02343")),
		Plan:      storage.Seal(fmt.Sprintf("HX-%09d", r.IntN(1_000_000_000))),
	}
	switch i {
	case 0:
		p.ID = firstPatient
	case seeded - 1:
		p.ID, p.Name = nobody, storage.Seal("Theodora Blackwood")
	}
	if err := tx.Create(p).Error; err != nil {
		return "", err
	}
	var encounters []*Encounter
	var observations []*Observation
	for range 1 + r.IntN(4) {
		at := day(6)
		end := at.Add(30 * time.Minute)
		encounters = append(encounters, &Encounter{PatientID: p.ID, Start: at, End: &end, Status: storage.Seal("finished"),
			Kind: storage.Seal(pick("General examination", "Follow-up visit", "Urgent care visit")), Reason: storage.Seal(pick("Cough", "Back pain", "Check-up", "Headache"))})
		observations = append(observations,
			&Observation{PatientID: p.ID, Taken: at, Name: storage.Seal("Blood pressure"), Value: storage.Seal(fmt.Sprintf("%d/%d mm[Hg]", 105+r.IntN(45), 60+r.IntN(35)))},
			&Observation{PatientID: p.ID, Taken: at, Name: storage.Seal("Body weight"), Value: storage.Seal(fmt.Sprintf("%.1f kg", 48+r.Float64()*50))})
	}
	condition := &Condition{PatientID: p.ID, Onset: day(12), Status: storage.Seal(pick("active", "resolved")), Name: storage.Seal(pick("Hypertension", "Type 2 diabetes", "Asthma", "Migraine"))}
	medication := &Medication{PatientID: p.ID, Ordered: day(4), Status: storage.Seal(pick("active", "stopped")), Name: storage.Seal(pick("Lisinopril 10 mg", "Metformin 500 mg", "Salbutamol inhaler", "Sumatriptan 50 mg")), Dosage: storage.Seal(pick("once a day", "twice a day", "as needed"))}
	document := &Document{PatientID: p.ID, Written: day(2), Kind: storage.Seal("Progress note"), Title: storage.Seal("Progress note"), Text: storage.Seal(pick("Feels well. Next visit in six months.", "Advised rest and fluids.", "Medication reviewed, no change."))}
	rows := []any{encounters, observations, condition, medication, document}
	if r.IntN(3) > 0 { // the others have none, which is not the same as withheld
		rows = append(rows, &Allergy{PatientID: p.ID, Recorded: day(15), Substance: storage.Seal(pick("Penicillin", "Peanut", "Latex")), Reaction: storage.Seal(pick("Hives", "Anaphylaxis", "Rash")), Severity: storage.Seal(pick("low", "high"))})
	}
	for _, row := range rows {
		if err := tx.Create(row).Error; err != nil {
			return "", err
		}
	}
	return p.ID, nil
}
