// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A soft is deleted by a mark.
type soft struct {
	storage.PatientRecord
	Name      storage.Sealed[string] `phi:"name"`
	DeletedAt gorm.DeletedAt         `phi:"-" gorm:"index"`
}

func (soft) TableName() string { return "softs" }

// noDelete allows all but deletions.
type noDelete struct{ access.Authorizer }

func (a noDelete) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	if req.Action == access.Delete {
		return accesstest.Deny().Check(ctx, req)
	}
	return a.Authorizer.Check(ctx, req)
}

func TestDeletedAtNeedsTheRightToDelete(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		authorizer, kek := accesstest.Allow(), cryptotest.NewKEK()
		all := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KEK = authorizer, kek }, &soft{})
		ctx := physician(t)
		p, gone := soft{Name: storage.Seal("Jane Roe")}, soft{Name: storage.Seal("Jane Doe")}
		for _, err := range []error{all.WithContext(ctx).Create(&p).Error, all.WithContext(ctx).Create(&gone).Error, all.WithContext(ctx).Delete(&soft{}, "id = ?", gone.ID).Error} {
			if err != nil {
				t.Fatal(err)
			}
		}
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KEK = noDelete{authorizer}, kek }, &soft{})
		deleted := gorm.DeletedAt{Time: time.Now(), Valid: true}
		for name, write := range map[string]func(*gorm.DB) error{
			"Updates": func(db *gorm.DB) error {
				return db.Model(&soft{}).Where("id = ?", p.ID).Updates(map[string]any{"deleted_at": time.Now()}).Error
			},
			"UpdateColumn": func(db *gorm.DB) error {
				return db.Model(&soft{}).Where("id = ?", p.ID).UpdateColumn("DeletedAt", deleted).Error
			},
			"Save": func(db *gorm.DB) error {
				var q soft
				if err := db.Take(&q, "id = ?", p.ID).Error; err != nil {
					return err
				}
				q.DeletedAt = deleted
				return db.Save(&q).Error
			},
			"restore": func(db *gorm.DB) error {
				return db.Unscoped().Model(&soft{}).Where("id = ?", gone.ID).Update("deleted_at", nil).Error
			},
		} {
			if err := write(db.WithContext(ctx)); !errors.Is(err, access.ErrDenied) {
				t.Errorf("%s = %v, want ErrDenied", name, err)
			}
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Denied, Action: access.Update})
		var left []soft
		if err := all.WithContext(ctx).Find(&left).Error; err != nil || len(left) != 1 || left[0].ID != p.ID || left[0].Version != 1 {
			t.Errorf("%d rows, %v", len(left), err)
		}
		if err := all.WithContext(ctx).Unscoped().Model(&soft{}).Where("id = ?", gone.ID).Update("deleted_at", nil).Error; err != nil {
			t.Errorf("restore with the right = %v", err)
		}
	})
}

// A badge has PHI in clear under constraints of the app's own.
type badge struct {
	storage.PatientRecord
	Number string                 `phi:"license,clear" gorm:"size:40;uniqueIndex"`
	Seen   time.Time              `phi:"date,clear"`
	Name   storage.Sealed[string] `phi:"name"`
}

func (badge) TableName() string { return "badges" }

func TestErrorsOfTheDatabaseQuoteNothing(t *testing.T) {
	t.Parallel()
	const secret = "QX-778-Quillfeather"
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.Minimize = accesstest.Allow(), allowAll(t) }, &badge{})
		tx := db.WithContext(physician(t))
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		seen := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		first, other := badge{Number: secret, Seen: seen}, badge{Number: "another", Seen: seen}
		must(tx.Create(&first).Error)
		must(tx.Create(&other).Error)
		for name, run := range map[string]func() (err error, duplicate bool){
			"Create": func() (error, bool) { return tx.Create(&badge{Number: secret, Seen: seen}).Error, true },
			"Create by map": func() (error, bool) {
				return tx.Model(&badge{}).Create(map[string]any{"number": secret, "seen": seen}).Error, true
			},
			"Update": func() (error, bool) { return tx.Model(&other).Update("number", secret).Error, true },
			"in a transaction": func() (error, bool) {
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&badge{Number: secret, Seen: seen}).Error }), true
			},
			"a condition of another type": func() (error, bool) { return tx.Where("seen > ?", secret).Find(&[]badge{}).Error, false },
			"one of an update": func() (error, bool) {
				return tx.Model(&badge{}).Where("version = ?", secret).Update("number", "x").Error, false
			},
		} {
			err, duplicate := run()
			if duplicate && (!errors.Is(err, storage.ErrDuplicate) || !errors.Is(err, gorm.ErrDuplicatedKey)) {
				t.Errorf("%s = %v, want ErrDuplicate", name, err)
			}
			for _, e := range chain(err) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, "Quillfeather") {
					t.Errorf("%s: a %T quotes the value", name, e)
				}
			}
		}
	})
}

// allowAll is a policy that shows a physician everything.
func allowAll(t *testing.T) *minimize.Policy {
	t.Helper()
	p, err := minimize.New([]minimize.Rule{{Role: "physician", Purposes: []access.Purpose{access.Treatment}, View: minimize.Reveal, Right: minimize.Change, Classes: minimize.Classes()}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// chain is an error with all that it wraps.
func chain(err error) []error {
	if err == nil {
		return nil
	}
	out := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		out = append(out, chain(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			out = append(out, chain(inner)...)
		}
	}
	return out
}

// SQLite waits for another writer up to its busy timeout, whatever the context
// says: storage does not.
func TestAWriterWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	held := db.WithContext(ctx).Begin()
	if held.Error != nil {
		t.Fatal(held.Error)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	p := jane()
	if err := db.WithContext(short).Create(&p).Error; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Create = %v, want DeadlineExceeded", err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := held.Rollback().Error; err != nil {
		t.Fatal(err)
	}
	p = jane()
	if err := db.WithContext(ctx).Create(&p).Error; err != nil { // what began late has ended
		t.Errorf("Create afterwards = %v", err)
	}
}

// The first writers of a tenant make its keys, all at once.
func TestFirstWritersOfATenant(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.NewID = accesstest.Allow(), nil }, &Patient{}, &Encounter{})
		for round := range 6 {
			ctx := accesstest.AsIn(t, t.Context(), fmt.Sprintf("new-%d", round), "physician", access.Treatment)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					p := jane()
					p.MRN = storage.Seal(fmt.Sprintf("MRN-%d-%d", round, i))
					p.Encounters = []Encounter{{Reason: storage.Seal("first")}}
					if err := redo(func() error { return db.WithContext(ctx).Create(&p).Error }); err != nil {
						t.Errorf("round %d: Create = %v", round, err)
					}
				})
			}
			wg.Wait()
			var ps []Patient
			if err := errors.Join(db.WithContext(ctx).Find(&ps).Error, storage.Reveal(ctx, ps)); err != nil || len(ps) != 8 {
				t.Errorf("round %d: %d patients, %v", round, len(ps), err)
			}
		}
	})
}

// The first writer of a tenant takes back what those behind wait for.
func TestFirstWriterOfATenantRollsBack(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.NewID = accesstest.Allow(), nil }, &Patient{})
		for round := range 5 {
			ctx := accesstest.AsIn(t, t.Context(), fmt.Sprintf("new-%d", round), "physician", access.Treatment)
			first := db.WithContext(ctx).Begin()
			p := jane()
			if err := first.Create(&p).Error; err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					p := jane()
					p.MRN = storage.Seal(fmt.Sprintf("MRN-%d-%d", round, i))
					if err := redo(func() error { return db.WithContext(ctx).Create(&p).Error }); err != nil {
						t.Errorf("round %d: Create = %v", round, err)
					}
				})
			}
			time.Sleep(30 * time.Millisecond) // they wait for the first now, or will not wait at all: both are right
			if err := first.Rollback().Error; err != nil {
				t.Error(err)
			}
			wg.Wait()
		}
	})
}

// What a transaction made and took back is the key of nobody: another process
// may make the patient's first key, and this one must then use that.
func TestKeysThatRolledBackOpenNothing(t *testing.T) {
	t.Parallel()
	fail := errors.New("no")
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		kek := cryptotest.NewKEK()
		cfg := func(c *storage.Config) { c.KEK, c.NewID = kek, nil }
		db := storagetest.Open(t, d, cfg, &Patient{}, &Encounter{})
		cold := storagetest.Open(t, d, cfg, &Patient{}, &Encounter{})
		ctx := physician(t)
		warm := created(t, db, ctx, jane())
		if err := storage.Reveal(ctx, &warm); err != nil { // from here on keys stay in the cache
			t.Fatal(err)
		}
		for name, run := range map[string]func(p *Patient) string{
			"Rollback": func(p *Patient) (id string) {
				_ = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { _ = tx.Create(p); id = p.ID; return fail })
				return id
			},
			"a savepoint released, then Rollback": func(p *Patient) (id string) {
				_ = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					_ = tx.Transaction(func(tx *gorm.DB) error { _ = tx.Create(p); id = p.ID; return nil })
					return fail
				})
				return id
			},
			"RollbackTo, then Commit": func(p *Patient) string {
				tx := db.WithContext(ctx).Begin()
				_ = tx.SavePoint("here")
				_ = tx.Create(p)
				id := p.ID
				if err := errors.Join(tx.RollbackTo("here").Error, tx.Commit().Error); err != nil {
					t.Errorf("commit after RollbackTo = %v", err)
				}
				return id
			},
		} {
			p := Patient{Name: storage.Seal("Jane Roe")}
			q := Patient{Name: storage.Seal("Second Try")}
			if q.ID = run(&p); q.ID == "" {
				t.Fatalf("%s: no ID", name)
			}
			if err := cold.WithContext(ctx).Create(&q).Error; err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r := reread(t, db, ctx, q.ID)
			if err := storage.Reveal(ctx, &r); err != nil {
				t.Errorf("%s: Reveal = %v", name, err)
			}
			shows(t, ctx, r.Name, "Second Try")
		}
	})
}

// A shown has a field for each way of showing a part.
type part struct {
	storage.PatientRecord
	Whole   storage.Sealed[string] `phi:"name"`
	Masked  storage.Sealed[string] `phi:"ssn"`
	Coarse  storage.Sealed[string] `phi:"dob"`
	Hidden  storage.Sealed[string] `phi:"psychotherapy"`
	Nought  storage.Sealed[string] `phi:"psychotherapy"`
	Damaged storage.Sealed[string] `phi:"name"` // its bytes are damaged
	Clear   string                 `phi:"phone,clear" gorm:"size:40"`
	Note    string                 `phi:"-" gorm:"size:40"`
}

func (part) TableName() string { return "shown_parts" }

// Whatever of a row was masked, generalised, withheld, not selected or did not
// open: Save loses none of it.
func TestSaveLosesNothingThatWasNotShown(t *testing.T) {
	t.Parallel()
	purposes := []access.Purpose{access.Treatment}
	policy, err := minimize.New([]minimize.Rule{
		{Role: "clinician", Purposes: purposes, View: minimize.Reveal, Right: minimize.Change, Classes: minimize.Classes()},
		{Role: "clerk", Purposes: purposes, View: minimize.Reveal, Right: minimize.Change, Classes: []minimize.Class{minimize.Name}},
		{Role: "clerk", Purposes: purposes, View: minimize.Mask, Right: minimize.Change, Classes: []minimize.Class{minimize.SSN, minimize.Phone}},
		{Role: "clerk", Purposes: purposes, View: minimize.Generalise, Right: minimize.Change, Classes: []minimize.Class{minimize.DOB}},
		{Role: "clerk", Purposes: purposes, View: minimize.Withhold, Right: minimize.Change, Classes: []minimize.Class{minimize.Psychotherapy}},
	})
	if err != nil {
		t.Fatal(err)
	}
	columns := []string{"whole", "masked", "coarse", "hidden", "nought", "damaged"}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.Minimize = accesstest.Allow(), policy }, &part{})
		clinician := accesstest.As(t, t.Context(), "clinician", access.Treatment)
		clerk := accesstest.As(t, t.Context(), "clerk", access.Treatment)
		raw := admin(t, d)
		for mask := range 1 << len(columns) { // every set of columns that are not selected
			p := part{Whole: storage.Seal("Jane Roe"), Masked: storage.Seal("123-45-6789"), Coarse: storage.Seal("1980-02-03"),
				Hidden: storage.Seal("dreams"), Damaged: storage.Seal("damaged"), Clear: "555-0100"}
			if err := db.WithContext(clinician).Create(&p).Error; err != nil {
				t.Fatal(err)
			}
			lost := storagetest.RawColumn(t, db.DB, "shown_parts", "damaged", p.ID)
			lost[len(lost)-1] ^= 1
			if _, err := raw.Exec(mark(d.Name(), "UPDATE shown_parts SET damaged = ? WHERE id = ?"), lost, p.ID); err != nil {
				t.Fatal(err)
			}
			var before [][]byte
			for _, c := range columns {
				before = append(before, storagetest.RawColumn(t, db.DB, "shown_parts", c, p.ID))
			}
			var omit []string
			for i, c := range columns {
				if mask&(1<<i) != 0 {
					omit = append(omit, c)
				}
			}
			for _, reveal := range []bool{false, true} {
				var q part
				if err := db.WithContext(clerk).Omit(omit...).Take(&q, "id = ?", p.ID).Error; err != nil {
					t.Fatal(err)
				}
				if reveal {
					var rerr *storage.RevealError
					if err := storage.Reveal(clerk, &q); err != nil && !errors.As(err, &rerr) {
						t.Fatal(err)
					}
				}
				q.Note = fmt.Sprintf("revealed %v", reveal)
				if err := db.WithContext(clerk).Save(&q).Error; err != nil {
					t.Fatalf("Save with %v left out, revealed %v = %v", omit, reveal, err)
				}
			}
			for i, c := range columns {
				if got := storagetest.RawColumn(t, db.DB, "shown_parts", c, p.ID); string(got) != string(before[i]) {
					t.Errorf("with %v left out %s was written", omit, c)
				}
			}
			var q part
			if err := db.WithContext(clinician).Take(&q, "id = ?", p.ID).Error; err != nil || q.Clear != "555-0100" || q.Version != 3 || q.Note != "revealed true" {
				t.Errorf("with %v left out: %q in version %d, %v", omit, q.Clear, q.Version, err)
			}
		}
	})
}

// The models of the differential test have no PHI.
type (
	shop struct {
		ID        uint
		Name      string `gorm:"size:40;uniqueIndex"`
		Stars     int    `gorm:"default:3"`
		Owner     *keeper
		Goods     []good
		Tags      []tag `gorm:"many2many:shop_tags"`
		Log       string
		CreatedAt time.Time
		DeletedAt gorm.DeletedAt
	}
	keeper struct {
		ID     uint
		ShopID uint
		Name   string
	}
	good struct {
		ID     uint
		ShopID uint
		Shop   *shop
		Name   string
		Price  *int
	}
	tag struct {
		ID   uint
		Text string `gorm:"size:40;uniqueIndex"`
	}
)

func (s *shop) BeforeSave(*gorm.DB) error   { s.Log += "b"; return nil }
func (s *shop) AfterCreate(*gorm.DB) error  { s.Log += "c"; return nil }
func (s *shop) AfterFind(*gorm.DB) error    { s.Log += "f"; return nil }
func (s *shop) BeforeDelete(*gorm.DB) error { return nil }

// dump is a result with all that it points to.
func dump(v any) string {
	b, err := json.Marshal(v)
	return fmt.Sprintf("%s %v", b, err)
}

// Models without phi tags behave with storage as with plain GORM: the same SQL,
// rows, counts and errors.
func TestModelsWithoutPHIAreAsWithPlainGORM(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	models := []any{&tag{}, &shop{}, &keeper{}, &good{}}
	price := 7
	script := []struct {
		name string
		run  func(db *gorm.DB) (any, *gorm.DB)
	}{
		{"create with associations", func(db *gorm.DB) (any, *gorm.DB) {
			s := shop{Name: "a", Owner: &keeper{Name: "k"}, Goods: []good{{Name: "g", Price: &price}, {Name: "h"}}, Tags: []tag{{Text: "t"}, {Text: "u"}}}
			return &s, db.Create(&s)
		}},
		{"create a batch", func(db *gorm.DB) (any, *gorm.DB) {
			s := []shop{{Name: "b", Stars: 1}, {Name: "c"}}
			return &s, db.Create(&s)
		}},
		{"create by map", func(db *gorm.DB) (any, *gorm.DB) { return nil, db.Model(&shop{}).Create(map[string]any{"name": "m"}) }},
		{"a duplicate", func(db *gorm.DB) (any, *gorm.DB) { return nil, db.Create(&shop{Name: "a"}) }},
		{"DoNothing", func(db *gorm.DB) (any, *gorm.DB) {
			return nil, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&shop{Name: "a"})
		}},
		{"an upsert", func(db *gorm.DB) (any, *gorm.DB) {
			return nil, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"stars"})}).Create(&shop{Name: "a", Stars: 5})
		}},
		{"belongs to", func(db *gorm.DB) (any, *gorm.DB) {
			g := good{Name: "i", Shop: &shop{Name: "d"}}
			return &g, db.Create(&g)
		}},
		{"find", func(db *gorm.DB) (any, *gorm.DB) {
			var s []shop
			return &s, db.Preload("Goods").Preload("Tags").Preload("Owner").Order("id").Find(&s)
		}},
		{"joins", func(db *gorm.DB) (any, *gorm.DB) {
			var g []good
			return &g, db.Joins("Shop").Joins("LEFT JOIN keepers ON keepers.shop_id = goods.shop_id").Order("goods.id").Find(&g)
		}},
		{"nested joins", func(db *gorm.DB) (any, *gorm.DB) {
			var g []good
			return &g, db.Joins("Shop.Owner").Order("goods.id").Find(&g)
		}},
		{"not found", func(db *gorm.DB) (any, *gorm.DB) { return nil, db.First(&shop{}, "name = ?", "nobody") }},
		{"a map", func(db *gorm.DB) (any, *gorm.DB) {
			m := map[string]any{}
			return &m, db.Model(&good{}).Select("id", "name").Take(&m)
		}},
		{"pluck and scan", func(db *gorm.DB) (any, *gorm.DB) {
			var names []string
			if err := db.Model(&shop{}).Order("id").Pluck("name", &names).Error; err != nil {
				return err.Error(), db
			}
			var n struct{ N int }
			return []any{names, &n}, db.Model(&good{}).Select("count(*) AS n").Scan(&n)
		}},
		{"group", func(db *gorm.DB) (any, *gorm.DB) {
			var rows []struct{ ShopID, N int }
			return &rows, db.Model(&good{}).Select("shop_id, count(*) AS n").Group("shop_id").Having("count(*) > 0").Order("shop_id").Find(&rows)
		}},
		{"a subquery", func(db *gorm.DB) (any, *gorm.DB) {
			var s []shop
			return &s, db.Where("id IN (?)", db.Model(&good{}).Select("shop_id")).Or("name = ?", "c").Order("id").Find(&s)
		}},
		{"save", func(db *gorm.DB) (any, *gorm.DB) {
			var s shop
			db.Preload("Goods").First(&s, "name = ?", "a")
			s.Stars, s.Goods[0].Name = 9, "changed"
			return &s, db.Session(&gorm.Session{FullSaveAssociations: true}).Save(&s)
		}},
		{"save of a slice", func(db *gorm.DB) (any, *gorm.DB) {
			var s []shop
			db.Where("name IN ?", []string{"b", "c"}).Order("id").Find(&s)
			s[0].Stars = 8
			return &s, db.Save(&s)
		}},
		{"updates", func(db *gorm.DB) (any, *gorm.DB) {
			return nil, db.Model(&shop{}).Where("stars > ?", 1).Updates(map[string]any{"stars": gorm.Expr("stars + ?", 1)})
		}},
		{"update of nothing", func(db *gorm.DB) (any, *gorm.DB) { return nil, db.Model(&shop{}).Update("stars", 1) }},
		{"update columns", func(db *gorm.DB) (any, *gorm.DB) {
			return nil, db.Model(&shop{}).Where("name = ?", "b").UpdateColumns(shop{Stars: 2})
		}},
		{"first or create", func(db *gorm.DB) (any, *gorm.DB) {
			var s shop
			return &s, db.Where(shop{Name: "e"}).Attrs(shop{Stars: 4}).Assign(shop{Log: "x"}).FirstOrCreate(&s)
		}},
		{"associations", func(db *gorm.DB) (any, *gorm.DB) {
			var s shop
			db.First(&s, "name = ?", "b")
			as := db.Model(&s).Association("Tags")
			err := errors.Join(as.Append(&tag{Text: "v"}), db.Model(&s).Association("Goods").Append(&good{Name: "j"}), db.Model(&s).Association("Tags").Replace(&tag{Text: "w"}))
			return []any{&s, db.Model(&s).Association("Tags").Count(), fmt.Sprint(err)}, db
		}},
		{"delete", func(db *gorm.DB) (any, *gorm.DB) { return nil, db.Where("name = ?", "c").Delete(&shop{}) }},
		{"delete with associations", func(db *gorm.DB) (any, *gorm.DB) {
			var s shop
			db.First(&s, "name = ?", "a")
			return nil, db.Select("Goods", "Tags", "Owner").Unscoped().Delete(&s)
		}},
		{"raw", func(db *gorm.DB) (any, *gorm.DB) {
			var n int
			return &n, db.Raw("SELECT count(*) FROM goods").Scan(&n)
		}},
		{"exec", func(db *gorm.DB) (any, *gorm.DB) { return nil, db.Exec("UPDATE goods SET name = 'raw'") }},
		{"a nested transaction", func(db *gorm.DB) (any, *gorm.DB) {
			err := db.Transaction(func(tx *gorm.DB) error {
				tx.Create(&tag{Text: "kept"})
				_ = tx.Transaction(func(tx *gorm.DB) error { tx.Create(&tag{Text: "gone"}); return errors.New("no") })
				return nil
			})
			return fmt.Sprint(err), db
		}},
		{"all of it", func(db *gorm.DB) (any, *gorm.DB) {
			var s []shop
			var g []good
			var tags []tag
			db.Unscoped().Order("id").Find(&s)
			db.Order("id").Find(&g)
			return []any{&s, &g, &tags}, db.Order("text").Find(&tags)
		}},
	}
	open := map[string]func(*testing.T) gorm.Dialector{"SQLite": openSQLite, "PostgreSQL": openPostgres, "MariaDB": openMariaDB}
	for name, dialector := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logs [2][]string
			run := func(i int, db *gorm.DB) {
				var texts []string
				note := func(db *gorm.DB) {
					if db.Statement.SQL.Len() > 0 {
						text := db.Statement.SQL.String()
						if head, name, ok := strings.Cut(text, "SAVEPOINT "); ok {
							text = head + "SAVEPOINT " + strings.TrimRight(name, "0123456789")
						}
						texts = append(texts, fmt.Sprintf("%s %v", text, len(db.Statement.Vars)))
					}
				}
				cb := db.Callback()
				for _, err := range []error{
					cb.Create().After("gorm:create").Register("note", note), cb.Query().After("gorm:query").Register("note", note),
					cb.Update().After("gorm:update").Register("note", note), cb.Delete().After("gorm:delete").Register("note", note),
					cb.Row().After("gorm:row").Register("note", note), cb.Raw().After("gorm:raw").Register("note", note),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				for _, step := range script {
					texts = nil
					result, tx := step.run(db)
					slices.Sort(texts) // GORM goes through maps of associations
					logs[i] = append(logs[i], fmt.Sprintf("%s: %s\n%d rows, error %v\n%s", step.name, dump(result), tx.RowsAffected, tx.Error, strings.Join(texts, "\n")))
				}
			}
			plain, err := gorm.Open(dialector(t), &gorm.Config{NowFunc: func() time.Time { return now }, Logger: logger.Discard})
			if err != nil {
				t.Fatal(err)
			}
			if err := plain.AutoMigrate(models...); err != nil {
				t.Fatal(err)
			}
			if c, err := plain.DB(); err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			run(0, plain)
			db := storagetest.Open(t, dialector(t), func(c *storage.Config) { c.Now = func() time.Time { return now } }, models...)
			run(1, db.DB)
			for i, want := range logs[0] {
				if got := logs[1][i]; got != want {
					t.Errorf("plain GORM:\n%s\n\nwith storage:\n%s", want, got)
				}
			}
		})
	}
}
