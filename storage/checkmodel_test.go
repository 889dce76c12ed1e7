// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"strings"
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

func (checkedVisit) TableName() string { return "CheckedVisits" } // a name that PostgreSQL wants quoted

// TestNamesThatTheGuardCannotSee: CheckModel found that raw SQL reached a table
// with a space in its name.
func TestNamesThatTheGuardCannotSee(t *testing.T) {
	t.Parallel()
	type patient struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name" gorm:"column:full name"`
	}
	db := storagetest.NewDB(t)
	for _, err := range []error{storage.Migrate(t.Context(), db.DB, &patient{}), storage.Migrate(t.Context(), db.DB, &oddTable{})} {
		if err == nil || !strings.Contains(err.Error(), "use letters, digits and _") {
			t.Errorf("Migrate = %v", err)
		}
	}
}

type oddTable struct {
	storage.PatientRecord
	Name storage.Sealed[string] `phi:"name"`
}

func (oddTable) TableName() string { return "my patients" }

func TestCheckModelOnEachDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) { storagetest.CheckModelOn(t, d, &checkedPatient{}) })
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		storagetest.CheckModelOn(t, d, &checkedVisit{}, &checkedPatient{})
	})
}
