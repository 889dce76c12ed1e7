// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A Chart has a field of every kind.
type Chart struct {
	storage.PatientRecord
	MRN       storage.Sealed[string]            `phi:"mrn,search=exact,unique"`
	Name      storage.Sealed[string]            `phi:"name,search=name"`
	Phone     storage.Sealed[string]            `phi:"phone,search=exact"`
	Email     storage.Sealed[string]            `phi:"email"`
	SSN       storage.Sealed[string]            `phi:"ssn"`
	ZIP       storage.Sealed[string]            `phi:"zip"`
	Born      storage.Sealed[storage.Date]      `phi:"dob"`
	Seen      storage.Sealed[time.Time]         `phi:"date"`
	Weight    storage.Sealed[float64]           `phi:"clinical"`
	Children  storage.Sealed[int]               `phi:"clinical"`
	Smoker    storage.Sealed[bool]              `phi:"clinical"`
	Photo     storage.Sealed[[]byte]            `phi:"photo"`
	Allergies storage.Sealed[[]string]          `phi:"allergy"`
	Vitals    storage.Sealed[Vitals]            `phi:"clinical"`
	Marks     storage.Sealed[map[string]Vitals] `phi:"clinical"`
	Home      Address                           `phi:"-" gorm:"embedded;embeddedPrefix:home_"`
	Next      time.Time                         `phi:"date,clear"`
	Due       *time.Time                        `phi:"date,clear"`
	Status    string                            `phi:"operational,clear" gorm:"size:12"`
	Active    bool                              `phi:"-"`
	Visits    []Visit                           `phi:"-" gorm:"foreignKey:ChartID;constraint:-"`
}

type Vitals struct {
	Systolic, Diastolic int
	Note                string
	At                  time.Time
}

type Address struct {
	Street storage.Sealed[string] `phi:"street"`
	City   storage.Sealed[string] `phi:"city"`
}

type Visit struct {
	storage.Record
	ChartID   string                 `gorm:"size:36;not null;index" phi:"subject"`
	Reason    storage.Sealed[string] `phi:"clinical"`
	Source    storage.Sealed[string] `phi:"uid,search=exact"`
	DeletedAt gorm.DeletedAt         `gorm:"index" phi:"-"`
}

func TestCheckModel(t *testing.T) {
	t.Parallel()
	storagetest.CheckModel(t, &Chart{}, &Visit{})
	storagetest.CheckModel(t, &Visit{}, &Chart{})
	storagetest.CheckModel(t, &Patient{})
}
