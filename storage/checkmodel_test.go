// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

type checkedPatient struct {
	storage.PatientRecord
	MRN    storage.Sealed[string]       `phi:"mrn,search=exact,unique"`
	Name   storage.Sealed[string]       `phi:"name,search=name"`
	SSN    storage.Sealed[string]       `phi:"ssn"`
	Born   storage.Sealed[storage.Date] `phi:"dob"`
	Photo  storage.Sealed[[]byte]       `phi:"photo"`
	Marks  storage.Sealed[[]int]        `phi:"clinical"`
	Next   *time.Time                   `phi:"date,clear"`
	Status string                       `phi:"operational,clear" gorm:"size:40"`
}

type checkedVisit struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Patient   *checkedPatient        `phi:"-"`
	Reason    storage.Sealed[string] `phi:"problem"`
	DeletedAt gorm.DeletedAt         `gorm:"index" phi:"-"`
}

func (checkedVisit) TableName() string { return "Checked Visits" } // a name that wants quotes

func TestCheckModelOnEachDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) { storagetest.CheckModelOn(t, d, &checkedPatient{}) })
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		storagetest.CheckModelOn(t, d, &checkedVisit{}, &checkedPatient{})
	})
}
