// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Pointed has its values behind pointers.
type Pointed struct {
	storage.PatientRecord
	Name *storage.Sealed[string] `gorm:"column:name_sealed" phi:"name,search=name,from=name"`
	Born *storage.Sealed[string] `gorm:"column:born_sealed" phi:"dob,search=exact,from=born"`
}

// A *Sealed goes every way that a Sealed goes: into its column, into the index,
// a List, a Check, and back.
func TestPointersToSealed(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	raw, err := gorm.Open(d, &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Exec("CREATE TABLE pointeds (id varchar(36) PRIMARY KEY, name text, born text)").Error; err != nil {
		t.Fatal(err)
	}
	next := storagetest.SeededIDs(3)
	for i := range 3 {
		if err := raw.Exec("INSERT INTO pointeds VALUES (?, ?, '1980-02-03')", next(), fmt.Sprintf("Jane Roe%d", i)).Error; err != nil {
			t.Fatal(err)
		}
	}
	if c, err := raw.DB(); err == nil {
		_ = c.Close()
	}
	db := storagetest.Open(t, d, func(c *storage.Config) {
		c.Access = accesstest.Allow()
		c.Deviations = []access.Deviation{{Citation: "164.312(a)(2)(iv)", Reason: "moving to another product", Alternative: "the volume is encrypted", Owner: "security", ReviewBy: time.Now().AddDate(0, 1, 0)}}
	}, &Pointed{})
	ctx := physician(t)
	runJob(t, db, storage.Job{Kind: storage.SealColumns, Adopt: true})
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
	if r := runJob(t, db, storage.Job{Kind: storage.BackOut}); r.Changed != 3 {
		t.Errorf("BackOut: %+v", r)
	}
	if n := count(t, db.DB, "SELECT count(name)+count(born) FROM pointeds"); n != 6 {
		t.Errorf("%d values are back in clear, want 6", n)
	}
}
