// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"io"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// TestBadInput gives each exported function, and GORM's finishers on a model with
// PHI, what they cannot work with: each says so, and none panics. (What panics
// in GORM before storage sees it is not here.)
func TestBadInput(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
	ctx := physician(t)
	p := created(t, db, ctx, jane())
	g := db.WithContext(ctx)
	var nilCtx context.Context
	bare, err := gorm.Open(sqlite.Open(t.TempDir()+"/bare.db"), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var x any
	var np *Patient
	var ns *[]Patient
	authority := storage.Authority{Basis: storage.CourtOrder, Approver: "u-2", Reference: "r-1"}
	files, err := storage.OpenFiles(db.DB, storage.FilesConfig{Folder: t.TempDir() + "/files"})
	if err != nil {
		t.Fatal(err)
	}
	job := storage.Job{Kind: storage.RebuildIndex}
	e1 := func(_ any, err error) error { return err }
	list := func(_ any, _ string, err error) error { return err }
	for name, f := range map[string]func() error{
		"Bind nil rows":           func() error { return storage.Bind(ctx, g.Model(&Patient{}), nil) },
		"Bind nil rows no model":  func() error { return storage.Bind(ctx, g, nil) },
		"Bind nil *Patient":       func() error { return storage.Bind(ctx, g, np) },
		"Bind nil *Patient model": func() error { return storage.Bind(ctx, g.Model(&Patient{}), np) },
		"Bind nil *[]Patient":     func() error { return storage.Bind(ctx, g, ns) },
		"Bind *any":               func() error { return storage.Bind(ctx, g.Model(&Patient{}), &x) },
		"Bind struct by value":    func() error { return storage.Bind(ctx, g.Model(&Patient{}), p) },
		"Bind []any":              func() error { return storage.Bind(ctx, g.Model(&Patient{}), &[]any{p}) },
		"Bind map[string]string":  func() error { return storage.Bind(ctx, g.Model(&Patient{}), map[string]string{}) },
		"Bind nil map":            func() error { var m map[string]any; return storage.Bind(ctx, g.Model(&Patient{}), &m) },
		"Bind nil maps":           func() error { return storage.Bind(ctx, g.Model(&Patient{}), &[]map[string]any{nil}) },
		"Bind func":               func() error { return storage.Bind(ctx, g.Model(&Patient{}), func() {}) },
		"Bind int":                func() error { return storage.Bind(ctx, g.Model(&Patient{}), 7) },
		"Bind nil db":             func() error { return storage.Bind(ctx, nil, &p) },
		"Bind zero db":            func() error { return storage.Bind(ctx, &gorm.DB{}, &p) },
		"Bind bare db":            func() error { return storage.Bind(ctx, bare, &p) },
		"Bind nil ctx":            func() error { return storage.Bind(nilCtx, g, &p) },
		"Bind model int":          func() error { return storage.Bind(ctx, g.Model(7), &p) },
		"Bind model no phi":       func() error { return storage.Bind(ctx, g.Model(&struct{ ID int }{}), &p) },

		"List pointer":    func() error { return list(storage.List[*Patient](ctx, g, "Name", storage.Page{})) },
		"List int":        func() error { return list(storage.List[int](ctx, g, "Name", storage.Page{})) },
		"List any":        func() error { return list(storage.List[any](ctx, g, "Name", storage.Page{})) },
		"List slice":      func() error { return list(storage.List[[]Patient](ctx, g, "Name", storage.Page{})) },
		"List map":        func() error { return list(storage.List[map[string]any](ctx, g, "Name", storage.Page{})) },
		"List struct{}":   func() error { return list(storage.List[struct{}](ctx, g, "Name", storage.Page{})) },
		"List nil db":     func() error { return list(storage.List[Patient](ctx, nil, "Name", storage.Page{})) },
		"List zero db":    func() error { return list(storage.List[Patient](ctx, &gorm.DB{}, "Name", storage.Page{})) },
		"List bare db":    func() error { return list(storage.List[Patient](ctx, bare, "Name", storage.Page{})) },
		"List nil ctx":    func() error { return list(storage.List[Patient](nilCtx, g, "Name", storage.Page{})) },
		"List no order":   func() error { return list(storage.List[Patient](ctx, g, "", storage.Page{})) },
		"List bad order":  func() error { return list(storage.List[Patient](ctx, g, "Name; drop", storage.Page{})) },
		"List bad after":  func() error { return list(storage.List[Patient](ctx, g, "Name", storage.Page{After: "%%"})) },
		"List after null": func() error { return list(storage.List[Patient](ctx, g, "Name", storage.Page{After: "bnVsbA"})) },
		"List size":       func() error { return list(storage.List[Patient](ctx, g, "Name", storage.Page{Size: -1})) },

		"Check nil db":    func() error { return e1(storage.Check(maintainer(t), nil, io.Discard)) },
		"Check zero db":   func() error { return e1(storage.Check(maintainer(t), &gorm.DB{}, io.Discard)) },
		"Check bare db":   func() error { return e1(storage.Check(maintainer(t), bare, io.Discard)) },
		"Check nil ctx":   func() error { return e1(storage.Check(nilCtx, db.DB, io.Discard)) },
		"Check nil other": func() error { return e1(storage.Check(maintainer(t), db.DB, io.Discard, nil)) },
		"Shred nil db":    func() error { return e1(storage.Shred(officer(t), nil, p.ID, authority)) },
		"Shred zero db":   func() error { return e1(storage.Shred(officer(t), &gorm.DB{}, p.ID, authority)) },
		"Shred nil ctx":   func() error { return e1(storage.Shred(nilCtx, db.DB, p.ID, authority)) },
		"Shred subject":   func() error { return e1(storage.Shred(officer(t), db.DB, "", authority)) },
		"Shred authority": func() error { return e1(storage.Shred(officer(t), db.DB, p.ID, storage.Authority{})) },
		"Confirm zero":    func() error { return e1(storage.Certificate{}.Confirm(ctx, db.DB)) },
		"Confirm nil db":  func() error { return e1(storage.Certificate{}.Confirm(ctx, nil)) },
		"Confirm nil ctx": func() error { return e1(storage.Certificate{}.Confirm(nilCtx, db.DB)) },
		"RunJob nil db":   func() error { return e1(storage.RunJob(maintenance(t), nil, job)) },
		"RunJob zero db":  func() error { return e1(storage.RunJob(maintenance(t), &gorm.DB{}, job)) },
		"RunJob nil ctx":  func() error { return e1(storage.RunJob(nilCtx, db.DB, job)) },
		"RunJob no kind":  func() error { return e1(storage.RunJob(maintenance(t), db.DB, storage.Job{})) },
		"RunJob negative": func() error {
			return e1(storage.RunJob(maintenance(t), db.DB, storage.Job{Kind: storage.RebuildIndex, Batch: -1}))
		},
		"Reapply nil db":         func() error { return e1(storage.Reapply(maintainer(t), nil)) },
		"Reapply nil ctx":        func() error { return e1(storage.Reapply(nilCtx, db.DB)) },
		"Reapply nil history":    func() error { return e1(storage.Reapply(maintainer(t), db.DB, nil)) },
		"Reveal nil":             func() error { return storage.Reveal(ctx, nil) },
		"Reveal np":              func() error { return storage.Reveal(ctx, np) },
		"Reveal ns":              func() error { return storage.Reveal(ctx, ns) },
		"Reveal value":           func() error { return storage.Reveal(ctx, p) },
		"Reveal any":             func() error { return storage.Reveal(ctx, &x) },
		"Reveal int":             func() error { return storage.Reveal(ctx, 7) },
		"Reveal nil ctx":         func() error { return storage.Reveal(nilCtx, &p) },
		"Reveal nil sealed":      func() error { var s *storage.Sealed[string]; return storage.Reveal(ctx, s) },
		"Sealer nil":             func() error { return e1(storage.Sealer(nil)) },
		"Sealer zero":            func() error { return e1(storage.Sealer(&gorm.DB{})) },
		"Settle nil db":          func() error { return storage.Settle(ctx, nil) },
		"Settle zero db":         func() error { return storage.Settle(ctx, &gorm.DB{}) },
		"Close nil":              func() error { return storage.Close(nil) },
		"Close zero":             func() error { return storage.Close(&gorm.DB{}) },
		"Migrate nil db":         func() error { return storage.Migrate(ctx, nil, &Patient{}) },
		"Migrate zero db":        func() error { return storage.Migrate(ctx, &gorm.DB{}, &Patient{}) },
		"Migrate bare db":        func() error { return storage.Migrate(ctx, bare, &Patient{}) },
		"Migrate nil ctx":        func() error { return storage.Migrate(nilCtx, db.DB, &Patient{}) },
		"Migrate nil":            func() error { return storage.Migrate(ctx, db.DB, nil) },
		"Migrate int":            func() error { return storage.Migrate(ctx, db.DB, 7) },
		"Migrate string":         func() error { return storage.Migrate(ctx, db.DB, "patients") },
		"Migrate any":            func() error { return storage.Migrate(ctx, db.DB, &x) },
		"Migrate func":           func() error { return storage.Migrate(ctx, db.DB, func() {}) },
		"MigrationSQL nil":       func() error { return e1(storage.MigrationSQL(nil, &Patient{})) },
		"MigrationSQL model nil": func() error { return e1(storage.MigrationSQL(postgres.Open(""), nil)) },
		"MigrationSQL model int": func() error { return e1(storage.MigrationSQL(postgres.Open(""), 7)) },
		"New zero":               func() error { return e1(storage.New(storage.Config{})) },
		"Open zero":              func() error { return e1(storage.Open(sqlite.Open(t.TempDir()+"/x.db"), storage.Config{})) },
		"RootPool none":          func() error { return e1(storage.RootPool()) },
		"RootPool missing":       func() error { return e1(storage.RootPool(t.TempDir() + "/none.pem")) },
		"OpenFiles nil":          func() error { return e1(storage.OpenFiles(nil, storage.FilesConfig{Folder: t.TempDir()})) },
		"OpenFiles zero":         func() error { return e1(storage.OpenFiles(&gorm.DB{}, storage.FilesConfig{Folder: t.TempDir()})) },
		"OpenFiles twice":        func() error { return e1(storage.OpenFiles(db.DB, storage.FilesConfig{Folder: t.TempDir()})) },
		"OpenFiles none":         func() error { return e1(storage.OpenFiles(db.DB, storage.FilesConfig{})) },
		"files.Put nil":          func() error { return e1(files.Put(ctx, p.ID, "clinical", nil)) },
		"files.Put nil ctx":      func() error { return e1(files.Put(nilCtx, p.ID, "clinical", nil)) },
		"files.Put class":        func() error { return e1(files.Put(ctx, p.ID, "", nil)) },
		"files.Open nil ctx":     func() error { return e1(files.Open(nilCtx, p.ID)) },
		"files.Open none":        func() error { return e1(files.Open(ctx, "")) },
		"files.List nil ctx":     func() error { return e1(files.List(nilCtx, p.ID)) },
		"files.Delete nil ctx":   func() error { return files.Delete(nilCtx, p.ID) },
		"files.Sweep nil ctx":    func() error { return e1(files.Sweep(nilCtx)) },
		"zero Files Put":         func() error { return e1((&storage.Files{}).Put(ctx, p.ID, "clinical", nil)) },
		"zero Files Open":        func() error { return e1((&storage.Files{}).Open(ctx, p.ID)) },
		"nil Files Open":         func() error { return e1((*storage.Files)(nil).Open(ctx, p.ID)) },
		"zero Files List":        func() error { return e1((&storage.Files{}).List(ctx, p.ID)) },
		"zero Files Delete":      func() error { return (&storage.Files{}).Delete(ctx, p.ID) },
		"zero Files Sweep":       func() error { return e1((&storage.Files{}).Sweep(ctx)) },
		"Outside nil ctx": func() error {
			return g.WithContext(storage.Outside(nilCtx, audit.ReasonRepair)).Exec("SELECT 1 FROM patients").Error
		},
		"Outside no reason": func() error { return g.WithContext(storage.Outside(ctx, "")).Exec("SELECT 1 FROM patients").Error },
		"Match empty":       func() error { return g.Where(storage.Match("", "")).Find(&[]Patient{}).Error },
		"SoundsLike empty":  func() error { return g.Where(storage.SoundsLike("", "")).Find(&[]Patient{}).Error },
		"Get nil ctx":       func() error { return e1(p.Name.Get(nilCtx)) },
		"Scan nil Sealed":   func() error { return new(storage.Sealed[string]).Scan(7) },

		"Scan any":                 func() error { return g.Model(&Patient{}).Scan(&x).Error },
		"Find any":                 func() error { return g.Model(&Patient{}).Find(&x).Error },
		"Take any":                 func() error { return g.Model(&Patient{}).Take(&x).Error },
		"Scan []any":               func() error { return g.Model(&Patient{}).Scan(&[]any{}).Error },
		"Scan nil":                 func() error { return g.Model(&Patient{}).Scan(nil).Error },
		"Find np":                  func() error { return g.Find(np).Error },
		"Find ns":                  func() error { return g.Find(ns).Error },
		"First np":                 func() error { return g.First(np).Error },
		"Find value":               func() error { return g.Find(Patient{}).Error },
		"Find slice":               func() error { return g.Find([]Patient{}).Error },
		"Find func":                func() error { return g.Model(&Patient{}).Find(func() {}).Error },
		"Find *func":               func() error { f := func() {}; return g.Model(&Patient{}).Find(&f).Error },
		"Find *chan":               func() error { f := make(chan int); return g.Model(&Patient{}).Find(&f).Error },
		"Find map nil":             func() error { var m map[string]any; return g.Model(&Patient{}).Find(m).Error },
		"Find map[int]":            func() error { return g.Model(&Patient{}).Find(&map[int]int{}).Error },
		"Find []map[string]string": func() error { return g.Model(&Patient{}).Find(&[]map[string]string{}).Error },
		"Pluck any":                func() error { return g.Model(&Patient{}).Pluck("id", &x).Error },
		"Pluck ''":                 func() error { return g.Model(&Patient{}).Pluck("", &[]string{}).Error },
		"Create nil":               func() error { return g.Create(nil).Error },
		"Create np":                func() error { return g.Create(np).Error },
		"Create ns":                func() error { return g.Create(ns).Error },
		"Create value":             func() error { return g.Create(Patient{}).Error },
		"Create []":                func() error { return g.Create(&[]Patient{}).Error },
		"Create [nil]":             func() error { return g.Create(&[]*Patient{nil}).Error },
		"Create nil map":           func() error { var m map[string]any; return g.Model(&Patient{}).Create(m).Error },
		"Create *nil map":          func() error { var m map[string]any; return g.Model(&Patient{}).Create(&m).Error },
		"Create [nil map]":         func() error { return g.Model(&Patient{}).Create([]map[string]any{nil}).Error },
		"Create map any":           func() error { return g.Model(&Patient{}).Create(map[string]any{"MRN": nil, "x": x}).Error },
		"Save nil":                 func() error { return g.Save(nil).Error },
		"Save np":                  func() error { return g.Save(np).Error },
		"Save ns":                  func() error { return g.Save(ns).Error },
		"Save value":               func() error { return g.Save(Patient{}).Error },
		"Save [nil]":               func() error { return g.Save(&[]*Patient{nil}).Error },
		"Updates np":               func() error { return g.Model(&p).Updates(np).Error },
		"Updates any":              func() error { return g.Model(&p).Updates(&x).Error },
		"Updates map any":          func() error { return g.Model(&p).Updates(map[any]any{1: 2}).Error },
		"Updates nil *Sealed": func() error {
			var s *storage.Sealed[string]
			return g.Model(&p).Updates(map[string]any{"Name": s, "y": 1}).Error
		},
		"Updates int": func() error { return g.Model(&p).Updates(7).Error },
		"Updates model np": func() error {
			return g.Model(np).Where("id = ?", p.ID).Updates(map[string]any{"Name": x, "z": 1}).Error
		},
		"Update nil":          func() error { return g.Model(nil).Update("Name", nil).Error },
		"Update model np":     func() error { return g.Model(np).Update("Name", nil).Error },
		"Update model [nil]":  func() error { return g.Model(&[]*Patient{nil}).Update("Name", nil).Error },
		"Delete nil":          func() error { return g.Delete(nil).Error },
		"Delete np":           func() error { return g.Delete(np).Error },
		"Delete ns":           func() error { return g.Delete(ns).Error },
		"Delete [nil]":        func() error { return g.Delete(&[]*Patient{nil}).Error },
		"nil ctx find":        func() error { return db.WithContext(nilCtx).Find(&[]Patient{}).Error },
		"nil ctx create":      func() error { return db.WithContext(nilCtx).Create(&Patient{}).Error },
		"nil ctx raw":         func() error { return db.WithContext(nilCtx).Exec("SELECT * FROM patients").Error },
		"Where nil":           func() error { return g.Where(nil).Where(np).Delete(&Patient{}).Error },
		"Preload ''":          func() error { return g.Preload("").Find(&[]Patient{}).Error },
		"Association replace": func() error { return g.Model(&p).Association("Encounters").Replace((*Encounter)(nil)) },
		"FirstOrCreate np":    func() error { return g.FirstOrCreate(np).Error },
		"FirstOrInit nil":     func() error { return g.FirstOrInit(nil).Error },
	} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("%s panics: %v", name, r) // its transaction may be open: the others would wait for it
				}
			}()
			if err := f(); err == nil || err.Error() == "" {
				t.Errorf("%s is taken", name)
			}
		}()
	}

	// What has no error to return goes on with nothing.
	for name, ctx := range map[string]context.Context{"nil database": storage.InTx(ctx, nil), "zero database": storage.InTx(ctx, &gorm.DB{}), "nil context": storage.InTx(nilCtx, db.DB)} {
		if ctx == nil {
			t.Errorf("InTx of a %s returns nil", name)
		}
	}
	if got := p.Name.Text(nilCtx); got != "[PHI:name]" {
		t.Errorf("Text without a context = %q", got)
	}
	if err := storage.Reveal(ctx, []*Patient{nil}); err != nil {
		t.Errorf("Reveal of no records = %v", err)
	}
}
