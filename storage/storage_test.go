// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Patient and Encounter are the models of the tests of this package.
type Patient struct {
	storage.PatientRecord
	MRN        storage.Sealed[string] `phi:"mrn,search=exact,unique"`
	Name       storage.Sealed[string] `phi:"name,search=name"`
	SSN        storage.Sealed[string] `phi:"ssn"`
	BirthDate  storage.Sealed[string] `phi:"dob,search=exact"`
	Notes      storage.Sealed[string] `phi:"psychotherapy"`
	NextVisit  time.Time              `phi:"date,clear"`
	Active     bool                   `phi:"-"`
	Encounters []Encounter            `phi:"-"`
}

type Encounter struct {
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:36;index"`
	Reason    storage.Sealed[string] `phi:"clinical"`
}

func TestOnePatientEndToEnd(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{}, &Encounter{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe"), MRN: storage.Seal("MRN-123456"), SSN: storage.Seal("123-45-6789"), NextVisit: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(ctx).Create(&Encounter{PatientID: p.ID, Reason: storage.Seal("cough")}).Error; err != nil {
		t.Fatal(err)
	}
	var q Patient
	if err := db.WithContext(ctx).Preload("Encounters").First(&q, "id = ?", p.ID).Error; err != nil {
		t.Fatal(err)
	}
	if _, err := q.Name.Get(ctx); !errors.Is(err, storage.ErrSealed) {
		t.Errorf("Get before Reveal = %v, want ErrSealed", err)
	}
	if err := storage.Reveal(ctx, &q); err != nil {
		t.Fatal(err)
	}
	if n, err := q.Name.Get(ctx); n != "Jane Roe" || err != nil {
		t.Errorf("Name = %q, %v", n, err)
	}
	if got := q.SSN.Text(ctx); got != "***-**-6789" {
		t.Errorf("SSN = %q, want the mask", got)
	}
	if len(q.Encounters) != 1 {
		t.Errorf("%d encounters, want 1", len(q.Encounters))
	}
	var found []Patient
	if err := db.WithContext(ctx).Where(storage.Match("Name", "ro ja")).Find(&found).Error; err != nil || len(found) != 1 {
		t.Errorf("Match: %d rows, %v; want 1", len(found), err)
	}
	if err := storage.Settle(ctx, db.DB); err != nil {
		t.Fatal(err)
	}
	audittest.Want(t, db.Trail,
		audit.Event{Type: audit.WriteAttempt}, audit.Event{Type: audit.WriteAttempt},
		audit.Event{Type: audit.Fetched}, audit.Event{Type: audit.Revealed}, audit.Event{Type: audit.Searched})
}

func TestCountIsScopedAndOpensNothing(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	if err := db.WithContext(ctx).Create(&Patient{Name: storage.Seal("Jane Roe")}).Error; err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[string]int64{accesstest.Tenant: 1, "t-other": 0} {
		var n int64
		ctx := accesstest.AsIn(t, t.Context(), tenant, "physician", access.Treatment)
		if err := db.WithContext(ctx).Model(&Patient{}).Count(&n).Error; err != nil || n != want {
			t.Errorf("Count in %s = %d, %v, want %d", tenant, n, err, want)
		}
	}
}
