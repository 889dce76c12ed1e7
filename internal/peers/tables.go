// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
)

// tableFigures report what writing, searching and sorting cost beside the same
// in clear. They have no goals.
func tableFigures() []figure {
	return []figure{
		{"insert of 1,000 rows x 8 columns, sealed / plain", goal{}, insertRows},
		{"search of 1 record in 100,000, match / plain index", goal{}, searchOne},
		{"list of 50 in 10,000, sorted by a sealed name / ORDER BY without index", goal{}, listSorted},
		{"memory of a sealed field of 32 B, not revealed, beyond a string's", goal{}, fieldMemory},
	}
}

// A bench is a database of the SDK and a plain one, in files of one folder.
type bench struct {
	ctx   context.Context // of a physician
	db    *gorm.DB
	plain *gorm.DB
	close func() error
}

func newBench(ctx context.Context, dir string, sealed, plain any) (_ *bench, err error) {
	journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		return nil, err
	}
	b := &bench{close: journal.Close}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	b.db, err = storage.Open(sqlite.Open(filepath.Join(dir, "sealed.db")), storage.Config{
		KEK: cryptotest.NewKEK(), Audit: journal, Access: rbac.Starter(), Minimize: minimize.Starter(),
		SearchLimits: map[string]int{"physician": 1 << 30},
	})
	if err != nil {
		return nil, err
	}
	b.close = func() error { return errors.Join(storage.Close(b.db), journal.Close()) }
	b.ctx = access.With(ctx, access.Principal{ID: "u-1", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"physician"}}, access.Treatment)
	if err := storage.Migrate(b.ctx, b.db, sealed); err != nil {
		return nil, err
	}
	if b.plain, err = gorm.Open(sqlite.Open(filepath.Join(dir, "plain.db")), &gorm.Config{Logger: logger.Discard}); err != nil {
		return nil, err
	}
	b.close = func() error { return errors.Join(closePlain(b.plain), storage.Close(b.db), journal.Close()) }
	return b, b.plain.WithContext(ctx).AutoMigrate(plain)
}

func insertRows(ctx context.Context, dir string) (_ value, err error) {
	b, err := newBench(ctx, dir, &Patient{}, &plainPatient{})
	if err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	round := 0
	return ratio(ctx, 15,
		timed(1, func(context.Context) error {
			all := make([]Patient, rows)
			for i := range all {
				s := func(c int) storage.Sealed[string] { return storage.Seal(text(i, c)) }
				all[i].A, all[i].B, all[i].C, all[i].D = s(0), s(1), s(2), s(3)
				all[i].E, all[i].F, all[i].G, all[i].H = s(4), s(5), s(6), s(7)
			}
			return b.db.WithContext(b.ctx).CreateInBatches(&all, 100).Error
		}),
		timed(1, func(ctx context.Context) error {
			round++
			all := make([]plainPatient, rows)
			for i := range all {
				s := func(c int) string { return text(i, c) }
				all[i] = plainPatient{
					ID: fmt.Sprintf("01998ab1-%04d-7d3c-9f10-%012d", round, i), TenantID: "clinic-7", Version: 1,
					A: s(0), B: s(1), C: s(2), D: s(3), E: s(4), F: s(5), G: s(6), H: s(7),
				}
			}
			return b.plain.WithContext(ctx).CreateInBatches(&all, 100).Error
		}))
}

// A Chart is a patient who is searched and sorted.
type Chart struct {
	storage.PatientRecord
	MRN  storage.Sealed[string] `phi:"mrn,search=exact"`
	Name storage.Sealed[string] `phi:"name"`
}

// ResourceType is the one that the starter policy knows.
func (Chart) ResourceType() string { return "patient" }

type plainChart struct {
	ID                   string `gorm:"primaryKey;size:36"`
	TenantID             string `gorm:"size:64;not null;index"`
	Version              int64
	CreatedAt, UpdatedAt time.Time
	MRN                  string `gorm:"index"`
	Name                 string
}

func mrn(i int) string  { return fmt.Sprintf("MRN-%08d", i) }
func name(i int) string { return fmt.Sprintf("Name %05d", i*7919%100_003) }

// charts fills both databases with n patients.
func charts(ctx context.Context, dir string, n int) (*bench, error) {
	b, err := newBench(ctx, dir, &Chart{}, &plainChart{})
	if err != nil {
		return nil, err
	}
	const batch = 500
	for begin := 0; begin < n; begin += batch {
		var sealed []Chart
		var plain []plainChart
		for i := begin; i < min(begin+batch, n); i++ {
			sealed = append(sealed, Chart{MRN: storage.Seal(mrn(i)), Name: storage.Seal(name(i))})
			plain = append(plain, plainChart{ID: fmt.Sprintf("01998ab1-5a4e-7d3c-9f10-%012d", i), TenantID: "clinic-7", Version: 1, MRN: mrn(i), Name: name(i)})
		}
		err := errors.Join(b.db.WithContext(b.ctx).Create(&sealed).Error, b.plain.WithContext(ctx).Create(&plain).Error)
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

func searchOne(ctx context.Context, dir string) (_ value, err error) {
	const n = 100_000
	b, err := charts(ctx, dir, n)
	if err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	i := 0
	return ratio(ctx, 301,
		timed(1, func(context.Context) error {
			i = (i + 7919) % n
			var found []Chart
			if err := b.db.WithContext(b.ctx).Where(storage.Match("MRN", mrn(i))).Find(&found).Error; err != nil || len(found) != 1 {
				return fmt.Errorf("%d found: %w", len(found), err)
			}
			return nil
		}),
		timed(1, func(ctx context.Context) error {
			var found []plainChart
			if err := b.plain.WithContext(ctx).Where("mrn = ?", mrn(i)).Find(&found).Error; err != nil || len(found) != 1 {
				return fmt.Errorf("%d found in clear: %w", len(found), err)
			}
			return nil
		}))
}

func listSorted(ctx context.Context, dir string) (_ value, err error) {
	b, err := charts(ctx, dir, 10_000)
	if err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return ratio(ctx, 31,
		timed(1, func(context.Context) error {
			list, _, err := storage.List[Chart](b.ctx, b.db, "Name", storage.Page{})
			if err != nil || len(list) != 50 {
				return fmt.Errorf("%d listed: %w", len(list), err)
			}
			return nil
		}),
		timed(1, func(ctx context.Context) error {
			var list []plainChart
			if err := b.plain.WithContext(ctx).Order("name").Limit(50).Find(&list).Error; err != nil || len(list) != 50 {
				return fmt.Errorf("%d listed in clear: %w", len(list), err)
			}
			return nil
		}))
}

// fieldMemory reads the same rows both ways, and weighs what is held of them.
func fieldMemory(ctx context.Context, dir string) (_ value, err error) {
	b, err := newBench(ctx, dir, &Patient{}, &plainPatient{})
	if err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := fillSealed(b.ctx, b.db); err != nil {
		return value{}, err
	}
	var all []Patient
	if err := b.db.WithContext(b.ctx).Find(&all).Error; err != nil {
		return value{}, err
	}
	plain := make([]plainPatient, 0, rows)
	for i, p := range all {
		s := func(c int) string { return text(i, c) }
		plain = append(plain, plainPatient{ID: p.ID, TenantID: p.TenantID, Version: 1, A: s(0), B: s(1), C: s(2), D: s(3), E: s(4), F: s(5), G: s(6), H: s(7)})
	}
	if err := b.plain.WithContext(ctx).CreateInBatches(&plain, 100).Error; err != nil {
		return value{}, err
	}
	all, plain = nil, nil
	sealed := func() (any, error) {
		var all []Patient
		err := b.db.WithContext(b.ctx).Find(&all).Error
		return &all, err
	}
	clear := func() (any, error) {
		var all []plainPatient
		err := b.plain.WithContext(ctx).Find(&all).Error
		return &all, err
	}
	v := value{unit: " B"}
	var over []float64
	for range 7 {
		heavy, err := held(sealed)
		if err != nil {
			return value{}, err
		}
		light, err := held(clear)
		if err != nil {
			return value{}, err
		}
		over = append(over, (heavy-light)/(rows*8))
	}
	v.median = median(over)
	v.best = over[0]
	for _, o := range over {
		v.best = min(v.best, o)
	}
	return v, nil
}

// held is how many bytes of the heap are in use for what f returns.
func held(f func() (any, error)) (float64, error) {
	if _, err := f(); err != nil { // caches fill
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept, err := f()
	if err != nil {
		return 0, err
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc), nil
}
