// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// tenant is the one covered entity of this app. An app for several reads it
// from the host name or from the user at sign-in.
const tenant = "elm-street"

// Everything about a person is sealed, dates of service apart: those stay in
// clear because charts sort by them. They are PHI all the same: minimised and
// recorded like the rest.

type Patient struct {
	storage.PatientRecord
	Source     storage.Sealed[string] `phi:"uid,search=exact"` // where an import found it: see fhir.go
	MRN        storage.Sealed[string] `phi:"mrn,search=exact,unique"`
	Name       storage.Sealed[string] `phi:"name,search=name"`
	OtherNames storage.Sealed[string] `phi:"name"`
	BirthDate  storage.Sealed[string] `phi:"dob,search=exact"` // as FHIR has it: 1980, 1980-03 or 1980-03-07
	Sex        storage.Sealed[string] `phi:"operational"`
	SSN        storage.Sealed[string] `phi:"ssn"`
	Phone      storage.Sealed[string] `phi:"phone"`
	Email      storage.Sealed[string] `phi:"email"`
	Street     storage.Sealed[string] `phi:"street"`
	City       storage.Sealed[string] `phi:"city"`
	State      storage.Sealed[string] `phi:"operational"`
	ZIP        storage.Sealed[string] `phi:"zip"`
	Plan       storage.Sealed[string] `phi:"plan"` // member number
}

type Encounter struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	Start     *time.Time             `phi:"date,clear"`
	End       *time.Time             `phi:"date,clear"`
	Status    storage.Sealed[string] `phi:"operational"`
	Kind      storage.Sealed[string] `phi:"clinical"`
	Reason    storage.Sealed[string] `phi:"problem"`
}

type Condition struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	Onset     *time.Time             `phi:"date,clear"`
	Status    storage.Sealed[string] `phi:"operational"`
	Name      storage.Sealed[string] `phi:"problem"`
}

type Observation struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	Taken     *time.Time             `phi:"date,clear"`
	Name      storage.Sealed[string] `phi:"clinical"`
	Value     storage.Sealed[string] `phi:"clinical"`
}

type Medication struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	Ordered   *time.Time             `phi:"date,clear"`
	Status    storage.Sealed[string] `phi:"operational"`
	Name      storage.Sealed[string] `phi:"medication"`
	Dosage    storage.Sealed[string] `phi:"medication"`
}

type Allergy struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	Recorded  *time.Time             `phi:"date,clear"`
	Substance storage.Sealed[string] `phi:"allergy"`
	Reaction  storage.Sealed[string] `phi:"allergy"`
	Severity  storage.Sealed[string] `phi:"allergy"`
}

type Document struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	Written   *time.Time             `phi:"date,clear"`
	Kind      storage.Sealed[string] `phi:"operational"`
	Title     storage.Sealed[string] `phi:"text"`
	Text      storage.Sealed[string] `phi:"text"`
}

// chart names the resource types of the models, as the policies do.
var chart = []string{"patient", "encounter", "condition", "observation", "medication", "allergy", "document"}

func models() []any {
	return []any{&Patient{}, &Encounter{}, &Condition{}, &Observation{}, &Medication{}, &Allergy{}, &Document{}}
}

// minimumRules are the starter's, those of whoever finds and registers patients,
// and those of the importer: it may fill in every field and sees none, but the
// source ID by which it finds what it has imported before.
func minimumRules() []minimize.Rule {
	filing, desk := []access.Purpose{access.RecordManagement}, []access.Purpose{access.PatientAdmin}
	found := []minimize.Class{minimize.Name, minimize.DOB, minimize.MRN}
	filled := append([]minimize.Class{minimize.Street, minimize.City, minimize.ZIP, minimize.Phone, minimize.Email, minimize.SSN, minimize.Operational}, found...)
	return append(minimize.Starter().Rules(),
		minimize.Rule{Role: "physician", Purposes: desk, View: minimize.Reveal, Classes: found},
		minimize.Rule{Role: "physician", Purposes: desk, Right: minimize.Set, Classes: filled},
		minimize.Rule{Role: "nurse", Purposes: desk, View: minimize.Reveal, Classes: found},
		minimize.Rule{Role: "registration", Purposes: desk, Right: minimize.Set, Classes: filled},
		minimize.Rule{Role: "importer", Purposes: filing, Classes: minimize.Classes(), Right: minimize.Set},
		minimize.Rule{Role: "importer", Purposes: filing, Classes: []minimize.Class{minimize.UID}, View: minimize.Reveal, Right: minimize.Set})
}

// importer is who imports and seeds.
func importer() access.Principal {
	return access.Principal{ID: "importer", Tenant: tenant, Kind: access.Service, Roles: []string{"importer"}}
}
