// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"fmt"
	"testing"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Pointed has its values behind pointers.
type Pointed struct {
	storage.PatientRecord
	Name *storage.Sealed[string] `phi:"name,search=name"`
	Born *storage.Sealed[string] `phi:"dob,search=exact"`
}

// A *Sealed goes every way that a Sealed goes: into the index, a List, a
// rebuild and a Check.
func TestPointersToSealed(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Pointed{})
	ctx := physician(t)
	for i := range 3 {
		name, born := storage.Seal(fmt.Sprintf("Jane Roe%d", i)), storage.Seal("1980-02-03")
		if err := db.WithContext(ctx).Create(&Pointed{Name: &name, Born: &born}).Error; err != nil {
			t.Fatal(err)
		}
	}
	runJob(t, db, storage.Job{Kind: storage.RebuildIndex})
	rows, _, err := storage.List[Pointed](ctx, db.WithContext(ctx), "Name desc", storage.Page{})
	if err != nil || len(rows) != 3 {
		t.Fatalf("List = %d rows, %v", len(rows), err)
	}
	if err := storage.Reveal(ctx, &rows); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, *rows[0].Name, "Jane Roe2")
	var found []Pointed
	if err := db.WithContext(ctx).Where(storage.Match("Name", "roe1")).Find(&found).Error; err != nil || len(found) != 1 {
		t.Errorf("Match finds %d rows, %v", len(found), err)
	}
	clean(t, db)
}
