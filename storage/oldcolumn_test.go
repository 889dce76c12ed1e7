// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// halfSealed are old clients in the tenant, the names of whom are sealed but
// for the last.
func halfSealed(t testing.TB, d gorm.Dialector, n int) (*storagetest.DB, []string) {
	t.Helper()
	ids := oldClients(t, d, n)
	db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KeyBound = accesstest.Allow(), 500*time.Millisecond }, &Client{})
	run(t, db.DB, "UPDATE clients SET tenant_id = ?", accesstest.Tenant)
	ctx := physician(t)
	for i, id := range ids[:n-1] {
		c := one(t, db, ctx, id)
		if err := db.WithContext(ctx).Model(&c).Updates(Client{Name: storage.Seal("Name" + string(rune('0'+i)))}).Error; err != nil {
			t.Fatal(err)
		}
	}
	return db, ids
}

// old counts what the old columns hold of a client.
func old(t testing.TB, db *storagetest.DB, id string) int64 {
	t.Helper()
	return count(t, db.DB, "SELECT count(name)+count(born)+count(visits)+count(seen)+count(plan) FROM clients WHERE id = ?", id)
}

// What is not sealed yet is destroyed with the keys, and is not shown, whoever
// writes it again.
func TestShredTakesOldColumnsAlong(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db, ids := halfSealed(t, d, 4)
		ctx := physician(t)
		gone, kept, inClear := ids[0], ids[1], ids[3]
		read := one(t, db, ctx, gone) // before
		if old(t, db, gone) != 4 || old(t, db, inClear) != 5 {
			t.Fatalf("%d and %d values in clear to begin with", old(t, db, gone), old(t, db, inClear))
		}
		for _, id := range []string{gone, inClear} {
			cert, err := storage.Shred(officer(t), db.DB, id, order)
			if err != nil || len(cert.Clear) != 0 {
				t.Errorf("Shred: columns in clear %v, %v; want none", cert.Clear, err)
			}
			if n := old(t, db, id); n != 0 {
				t.Errorf("Shred left %d values in clear", n)
			}
		}
		if n := old(t, db, kept); n != 4 {
			t.Errorf("another patient has %d values in clear of 4", n)
		}
		_ = storage.Reveal(ctx, &read)
		if v, err := read.Born.Get(ctx); v != "" {
			t.Errorf("Born of what was read before = %q, %v", v, err)
		}

		// A process that is still on the old app.
		run(t, db.DB, "UPDATE clients SET born = '1980-02-03' WHERE id = ?", gone)
		read = one(t, db, ctx, gone)
		var re *storage.RevealError
		if err := storage.Reveal(ctx, &read); !errors.As(err, &re) || !slices.Contains(re.Shredded, gone) {
			t.Errorf("Reveal of a shredded patient with an old column = %v, want a RevealError that names it", err)
		}
		if v, err := read.Born.Get(ctx); v != "" || !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Born = %q, %v; want ErrUnavailable", v, err)
		}

		run(t, db.DB, "UPDATE clients SET tenant_id = '' WHERE id = ?", gone) // nobody's: may not be touched
		if cert, err := storage.Shred(officer(t), db.DB, gone, order); err != nil || !slices.Equal(cert.Clear, []string{"clients.born"}) {
			t.Errorf("columns in clear of a row without a tenant: %v, %v", cert.Clear, err)
		}
	})
}

func TestAnOlderCopyShowsNoOldColumns(t *testing.T) {
	t.Parallel()
	db, ids := halfSealed(t, openSQLite(t), 2)
	ctx := physician(t)
	c := one(t, db, ctx, ids[1]) // nothing of it is sealed
	if _, err := storage.Shred(officer(t), db.DB, ids[0], order); err != nil {
		t.Fatal(err)
	}
	run(t, db.DB, "UPDATE phi_meta SET generation = 0")
	if err := db.WithContext(ctx).Create(&Client{Name: storage.Seal("x")}).Error; !errors.Is(err, storage.ErrRestored) {
		t.Fatalf("Create in an older copy = %v", err)
	}
	if err := storage.Reveal(ctx, &c); !errors.Is(err, storage.ErrRestored) {
		t.Errorf("Reveal of old columns in an older copy = %v, want ErrRestored", err)
	}
	if v, _ := c.Name.Get(ctx); v != "" {
		t.Errorf("Name = %q", v)
	}
}

// One patient who was shredded, or merged into another, does not keep the rest
// in clear.
func TestSealColumnsGoesPastTheShreddedAndMerged(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db, ids := halfSealed(t, d, 6)
		ctx := physician(t)
		gone, dup, into := ids[0], ids[1], ids[2]
		if _, err := storage.Shred(officer(t), db.DB, gone, order); err != nil {
			t.Fatal(err)
		}
		run(t, db.DB, "UPDATE clients SET born = '1980-02-03' WHERE id = ?", gone) // by the old app
		runJob(t, db, storage.Job{Kind: storage.MergePatients, Subject: dup, Into: into})
		if r := runJob(t, db, storage.Job{Kind: storage.SealColumns}); len(r.Skipped) != 0 || r.Changed != 6 {
			t.Errorf("report %+v, want 6 rows changed", r)
		}
		if n := plaintexts(t, db); n != 0 {
			t.Errorf("%d values are left in clear", n)
		}
		for _, id := range ids[1:] {
			c := one(t, db, ctx, id)
			if err := storage.Reveal(ctx, &c); err != nil {
				t.Error(err)
			}
			shows(t, ctx, c.Born, "1980-02-03")
		}
		if storagetest.RawColumn(t, db.DB, "clients", "born_sealed", gone) != nil {
			t.Error("something was sealed for the shredded patient")
		}
		c := one(t, db, ctx, dup)
		if err := db.WithContext(ctx).Model(&c).Updates(Client{Born: storage.Seal("1999-01-01")}).Error; !errors.Is(err, crypto.ErrClosed) {
			t.Errorf("an update of the duplicate = %v, want ErrClosed", err)
		}
		clean(t, db)
	})
}

// SELECT * would bring the old columns, whose model has them no more.
func TestMapsHoldNoOldColumns(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db, ids := halfSealed(t, d, 3)
		ctx := physician(t)
		var all []map[string]any
		q := db.WithContext(ctx).Model(&Client{}).Where("id IN ?", ids)
		if err := q.Find(&all).Error; err != nil || len(all) != 3 {
			t.Fatalf("%d maps, %v", len(all), err)
		}
		for _, m := range all {
			for _, column := range []string{"name", "born", "visits", "seen", "plan"} {
				if v, ok := m[column]; ok {
					t.Errorf("the map has %s: %v", column, v)
				}
			}
			if m["id"] == nil {
				t.Error("the map has no id")
			}
		}
		if got := one(t, db, ctx, ids[0]); got.Name.IsNull() {
			t.Error("the model lost its name")
		}
	})
}
