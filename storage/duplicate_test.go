// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// errBack rolls a transaction back.
var errBack = errors.New("back")

// guesses are the ways to ask, by a write that leaves nothing behind, whether a
// record has an MRN. mine is a record of the asker's own.
func guesses(mine string) map[string]func(tx *gorm.DB, mrn string) error {
	one := func(mrn string) *Patient { return &Patient{MRN: storage.Seal(mrn)} }
	return map[string]func(tx *gorm.DB, mrn string) error{
		"Create": func(tx *gorm.DB, mrn string) error { return tx.Create(one(mrn)).Error },
		"Create of a batch": func(tx *gorm.DB, mrn string) error {
			return tx.Create(&[]Patient{{MRN: storage.Seal("MRN-424242")}, *one(mrn)}).Error
		},
		"CreateInBatches": func(tx *gorm.DB, mrn string) error {
			return tx.CreateInBatches(&[]Patient{{MRN: storage.Seal("MRN-424242")}, *one(mrn)}, 1).Error
		},
		"Create of a map": func(tx *gorm.DB, mrn string) error {
			return tx.Model(&Patient{}).Create(map[string]any{"MRN": storage.Seal(mrn)}).Error
		},
		"Updates": func(tx *gorm.DB, mrn string) error {
			return tx.Model(&Patient{}).Where("id = ?", mine).Updates(map[string]any{"MRN": storage.Seal(mrn)}).Error
		},
		"UpdateColumn": func(tx *gorm.DB, mrn string) error {
			return tx.Model(&Patient{}).Where("id = ?", mine).UpdateColumn("MRN", storage.Seal(mrn)).Error
		},
		"Save": func(tx *gorm.DB, mrn string) error {
			var p Patient
			if err := tx.Take(&p, "id = ?", mine).Error; err != nil {
				return err
			}
			p.MRN = storage.Seal(mrn)
			return tx.Save(&p).Error
		},
		"DoNothing": func(tx *gorm.DB, mrn string) error {
			db := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(one(mrn))
			if db.Error == nil && db.RowsAffected == 0 {
				return storage.ErrDuplicate // what the number tells
			}
			return db.Error
		},
		"Create in a savepoint": func(tx *gorm.DB, mrn string) (err error) {
			_ = tx.Transaction(func(tx *gorm.DB) error { err = tx.Create(one(mrn)).Error; return err })
			return err
		},
	}
}

// guess asks in a transaction that rolls back.
func guess(db *gorm.DB, way func(tx *gorm.DB, mrn string) error, mrn string) (err error) {
	_ = db.Transaction(func(tx *gorm.DB) error {
		err = way(tx, mrn)
		return errBack
	})
	return err
}

func searchesOf(db *storagetest.DB) (out []audit.Stored) {
	for _, ev := range db.Trail.Events() {
		if ev.Type == audit.Searched {
			out = append(out, ev)
		}
	}
	return out
}

func TestADuplicateIsASearch(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
		ctx := physician(t)
		a := created(t, db, ctx, jane())
		mine := created(t, db, ctx, Patient{MRN: storage.Seal("MRN-555555")})
		for name, way := range guesses(mine.ID) {
			db.Trail.Reset()
			if err := guess(db.WithContext(ctx), way, "mrn 123456"); !errors.Is(err, storage.ErrDuplicate) {
				t.Errorf("%s = %v, want ErrDuplicate", name, err)
			}
			got := searchesOf(db)
			if len(got) != 1 || got[0].Action != access.Search || got[0].Count != 1 || len(got[0].Objects) != 1 {
				t.Errorf("%s is recorded as %+v, want one search that found one record", name, got)
				continue
			}
			if o := got[0].Objects[0]; o.Type != "patient" || o.Record != a.ID || o.Patient != a.ID || !slices.Equal(o.Fields, []string{"MRN"}) {
				t.Errorf("%s is recorded with %+v, want the record that has the value, and the field", name, o)
			}
			db.Trail.Reset()
			if err := guess(db.WithContext(ctx), way, "MRN-000042"); err != nil {
				t.Errorf("%s of a free value = %v", name, err)
			}
			if got := searchesOf(db); len(got) != 0 {
				t.Errorf("%s of a free value is recorded as %+v", name, got)
			}
		}
		// An ID that is taken says nothing of a value.
		db.Trail.Reset()
		again := Patient{MRN: storage.Seal("MRN-000042")}
		again.ID = a.ID
		if err := db.WithContext(ctx).Create(&again).Error; !errors.Is(err, storage.ErrDuplicate) || len(searchesOf(db)) != 0 {
			t.Errorf("an ID that is taken: %v, recorded as %+v", err, searchesOf(db))
		}
	})
}

// Whoever has reached the limit learns nothing more by writing: what is taken
// and what is free are refused alike.
func TestDuplicatesCountAgainstTheSearchLimit(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		now := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
		var mu sync.Mutex
		db := storagetest.Open(t, d, func(c *storage.Config) {
			c.Access = accesstest.Allow()
			c.SearchLimits = map[string]int{"": 10}
			c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		}, &Patient{}, &Encounter{})
		ctx := physician(t)
		created(t, db, ctx, jane())
		mine := created(t, db, ctx, Patient{MRN: storage.Seal("MRN-555555")})
		ways := guesses(mine.ID)
		names := make([]string, 0, len(ways))
		for name := range ways {
			names = append(names, name)
		}
		slices.Sort(names)
		search := func() error {
			var n int64
			return db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", "jane")).Count(&n).Error
		}
		db.Trail.Reset()
		for i := range 10 { // in one transaction and in several
			if i == 4 {
				if err := search(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := guess(db.WithContext(ctx), ways[names[i%len(names)]], "MRN-123456"); !errors.Is(err, storage.ErrDuplicate) {
				t.Fatalf("%s, guess %d of 10: %v", names[i%len(names)], i+1, err)
			}
		}
		var warned int
		for _, ev := range searchesOf(db) {
			if ev.Reason == audit.ReasonLimit {
				warned++
			}
		}
		if warned != 3 {
			t.Errorf("%d are recorded with a warning, want 3: from 80 %% on", warned)
		}
		db.Trail.Reset()
		for _, name := range names {
			for _, mrn := range []string{"MRN-123456", "MRN-000042"} {
				err := guess(db.WithContext(ctx), ways[name], mrn)
				if !errors.Is(err, storage.ErrSearchLimit) || errors.Is(err, storage.ErrDuplicate) {
					t.Errorf("%s of %s over the limit = %v, want ErrSearchLimit", name, mrn, err)
				}
			}
		}
		if got := searchesOf(db); len(got) != 0 {
			t.Errorf("what was refused is recorded as %+v", got)
		}
		var counts []int
		for _, ev := range db.Trail.Events() {
			if ev.Type == audit.Denied {
				if ev.Reason != audit.ReasonLimit || ev.Action != access.Search || len(ev.Objects) != 1 || !slices.Equal(ev.Objects[0].Fields, []string{"MRN"}) {
					t.Errorf("refused with %+v", ev)
				}
				counts = append(counts, ev.Count)
			}
		}
		if !slices.Equal(counts, []int{1, 2, 4, 8, 16}) {
			t.Errorf("%d refusals are recorded as %v", 2*len(names), counts)
		}
		if err := search(); !errors.Is(err, storage.ErrSearchLimit) {
			t.Errorf("a search after ten = %v: duplicates do not count", err)
		}
		// What asks nothing goes on, and so does everybody else.
		if err := db.WithContext(ctx).Create(&Patient{Name: storage.Seal("No Number")}).Error; err != nil {
			t.Errorf("a write of no unique field = %v", err)
		}
		nurse := accesstest.As(t, t.Context(), "nurse", access.Treatment)
		if err := guess(db.WithContext(nurse), ways["Create"], "MRN-123456"); !errors.Is(err, storage.ErrDuplicate) {
			t.Errorf("a nurse's duplicate = %v", err)
		}
		mu.Lock()
		now = now.Add(time.Hour)
		mu.Unlock()
		ctx = physician(t)
		if err := guess(db.WithContext(ctx), ways["Create"], "MRN-123456"); !errors.Is(err, storage.ErrDuplicate) {
			t.Errorf("an hour later = %v", err)
		}
	})
}

// Somebody who has searched as often as it goes, and was told of no duplicate,
// goes on writing: who registers patients also searches for them.
func TestWhoSearchedMuchGoesOnWriting(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) {
		c.Access, c.SearchLimits = accesstest.Allow(), map[string]int{"": 0}
	}, &Patient{})
	ctx := physician(t)
	a := created(t, db, ctx, jane())
	created(t, db, ctx, Patient{MRN: storage.Seal("MRN-000002")})
	db.Trail.Reset()
	if err := db.WithContext(ctx).Create(&Patient{MRN: storage.Seal("MRN-123456")}).Error; !errors.Is(err, storage.ErrSearchLimit) || errors.Is(err, storage.ErrDuplicate) {
		t.Errorf("a duplicate of one who may not search = %v, want ErrSearchLimit", err)
	}
	if got := searchesOf(db); len(got) != 1 || got[0].Objects[0].Record != a.ID || got[0].Reason != audit.ReasonLimit {
		t.Errorf("it is recorded as %+v: the error tells it all the same", got)
	}
	if err := db.WithContext(ctx).Create(&Patient{MRN: storage.Seal("MRN-000003")}).Error; !errors.Is(err, storage.ErrSearchLimit) {
		t.Errorf("the next = %v, want ErrSearchLimit", err)
	}
}

// Who cannot be recorded is not told.
func TestADuplicateThatCannotBeRecordedIsNotTold(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{})
	ctx := physician(t)
	created(t, db, ctx, jane())
	full := errors.New("full")
	db.Trail.FailAfter(1, full) // behind the attempt
	err := db.WithContext(ctx).Create(&Patient{MRN: storage.Seal("MRN-123456")}).Error
	if !errors.Is(err, full) || strings.Contains(err.Error(), storage.ErrDuplicate.Error()) {
		t.Errorf("%v, want the trail's error alone", err)
	}
	db.Trail.Fail(nil)
}

// A Badge is unique in clear, by the database's own index.
type Badge struct {
	storage.PatientRecord
	Number string `phi:"uid,clear" gorm:"size:20;uniqueIndex"`
	Ward   string `phi:"operational,clear" gorm:"size:20;uniqueIndex:badge_place"`
	Bed    string `phi:"-" gorm:"size:20;uniqueIndex:badge_place"`
}

func TestADuplicateInClearIsASearch(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) {
			c.Access, c.SearchLimits = accesstest.Allow(), map[string]int{"": 2}
		}, &Badge{})
		ctx := physician(t)
		if err := db.WithContext(ctx).Create(&Badge{Number: "77", Ward: "3 West", Bed: "1"}).Error; err != nil {
			t.Fatal(err)
		}
		db.Trail.Reset()
		for _, b := range []Badge{{Number: "77", Ward: "4 West", Bed: "1"}, {Number: "78", Ward: "3 West", Bed: "1"}} {
			if err := db.WithContext(ctx).Create(&b).Error; !errors.Is(err, storage.ErrDuplicate) {
				t.Fatalf("%v, want ErrDuplicate", err)
			}
		}
		got := searchesOf(db)
		if len(got) != 2 || !slices.Equal(got[0].Objects[0].Fields, []string{"Number", "Ward"}) {
			t.Errorf("recorded as %+v", got)
		}
		if err := db.WithContext(ctx).Create(&Badge{Number: "79", Ward: "5 West", Bed: "1"}).Error; !errors.Is(err, storage.ErrSearchLimit) {
			t.Errorf("over the limit = %v", err)
		}
	})
}
