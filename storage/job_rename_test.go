// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Guest is one table in three stages of the renaming of its fields.
type (
	guestBefore struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name,search=name"`
		MRN  storage.Sealed[string] `phi:"mrn,as=guest.number,search=exact,unique"`
		SSN  storage.Sealed[string] `phi:"ssn"`
	}
	guestDuring struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name,as=guest.name,was=guests.name,search=name"`
		MRN  storage.Sealed[string] `phi:"mrn,as=guest.mrn,was=guest.number,search=exact,unique"`
		SSN  storage.Sealed[string] `phi:"ssn"`
	}
	guestAfter struct {
		storage.PatientRecord
		Name storage.Sealed[string] `phi:"name,as=guest.name,search=name"`
		MRN  storage.Sealed[string] `phi:"mrn,as=guest.mrn,search=exact,unique"`
		SSN  storage.Sealed[string] `phi:"ssn"`
	}
)

func (guestBefore) TableName() string { return "guests" }
func (guestDuring) TableName() string { return "guests" }
func (guestAfter) TableName() string  { return "guests" }

func (guestBefore) ResourceType() string { return "patient" }
func (guestDuring) ResourceType() string { return "patient" }
func (guestAfter) ResourceType() string  { return "patient" }

func TestRenameFields(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		kek, trail := cryptotest.NewKEK(), audittest.New(t)
		open := func(model any) *storagetest.DB {
			return storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KEK, c.Audit, c.NewID = accesstest.Allow(), kek, trail, nil }, model)
		}
		ctx := physician(t)
		const n = 9
		db := open(&guestBefore{})
		for i := range n {
			g := guestBefore{Name: storage.Seal(fmt.Sprintf("Jane Roe%d", i)), MRN: storage.Seal(fmt.Sprintf("MRN-%04d", i)), SSN: storage.Seal("123-45-6789")}
			if err := db.WithContext(ctx).Create(&g).Error; err != nil {
				t.Fatal(err)
			}
		}

		db = open(&guestDuring{})
		during := func(when string) {
			t.Helper()
			var all, found []guestDuring
			if err := db.WithContext(ctx).Order("id").Find(&all).Error; err != nil {
				t.Fatal(err)
			}
			if err := storage.Reveal(ctx, &all); err != nil || len(all) < n {
				t.Errorf("%s: %d rows, Reveal = %v", when, len(all), err)
			}
			for _, mrn := range []string{"MRN-0002", "MRN-0003"} {
				if err := db.WithContext(ctx).Where(storage.Match("MRN", mrn)).Find(&found).Error; err != nil || len(found) != 1 {
					t.Errorf("%s: %s finds %d, %v", when, mrn, len(found), err)
				}
				if err := db.WithContext(ctx).Create(&guestDuring{MRN: storage.Seal(mrn)}).Error; !errors.Is(err, storage.ErrDuplicate) {
					t.Errorf("%s: a second %s = %v, want ErrDuplicate", when, mrn, err)
				}
			}
		}
		during("before the job")
		var g []guestDuring
		if err := db.WithContext(ctx).Where(storage.Match("MRN", "MRN-0002")).Find(&g).Error; err != nil || len(g) != 1 {
			t.Fatal(len(g), err)
		}
		if err := db.WithContext(ctx).Model(&g[0]).Updates(guestDuring{MRN: storage.Seal("MRN-9999")}).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(ctx).Where(storage.Match("MRN", "MRN-0002")).Find(&g).Error; err != nil || len(g) != 0 {
			t.Errorf("the old value is still found: %d, %v", len(g), err)
		}
		if err := db.WithContext(ctx).Where(storage.Match("MRN", "MRN-9999")).Find(&g).Error; err != nil || len(g) != 1 {
			t.Fatal(len(g), err)
		}
		if err := db.WithContext(ctx).Model(&g[0]).Updates(guestDuring{MRN: storage.Seal("MRN-0002")}).Error; err != nil {
			t.Fatal(err)
		}
		during("after a write")
		r := runJob(t, db, storage.Job{Kind: storage.RenameFields, Batch: 4})
		if r.Changed != n {
			t.Errorf("report %+v, want %d records", r, n)
		}
		audittest.Want(t, trail, audit.Event{Type: audit.WriteAttempt, Reason: audit.ReasonRename})
		during("after the job")
		if r := runJob(t, db, storage.Job{Kind: storage.RenameFields}); r.Changed != 0 {
			t.Errorf("a second run changes %d records", r.Changed)
		}

		db = open(&guestAfter{})
		var all []guestAfter
		if err := db.WithContext(ctx).Find(&all).Error; err != nil || len(all) != n {
			t.Fatal(len(all), err)
		}
		if err := storage.Reveal(ctx, &all); err != nil {
			t.Errorf("without was= : Reveal = %v", err)
		}
		if err := db.WithContext(ctx).Where(storage.Match("Name", "ja roe4")).Find(&all).Error; err != nil || len(all) != 1 {
			t.Errorf("without was= : %d found, %v", len(all), err)
		}
		clean(t, db)
		if _, err := storage.RunJob(maintenance(t), db.DB, storage.Job{Kind: storage.RenameFields}); err == nil {
			t.Error("a rename without was= is no error")
		}
	})
}
