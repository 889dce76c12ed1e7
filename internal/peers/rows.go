// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
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
	"github.com/part164/part164/storage/storagetest"
)

// rowFigures compare reading 1,000 rows of 8 sealed columns through storage with
// reading the same strings in clear through GORM alone, both from SQLite files.
func rowFigures() []figure {
	return []figure{
		{"GORM read of 1,000 rows x 8 columns, sealed / plain", goal{most: 1.6}, readRows(false)},
		{"GORM read of 1,000 rows x 8 columns, revealed / plain", goal{most: 1.9}, readRows(true)},
		{"storagetest.NewDB, set-up time", goal{}, newDB},
	}
}

const rows = 1000

// A Patient has a key of its own. It is called so because the starter policy
// knows that name.
type Patient struct {
	storage.PatientRecord
	A storage.Sealed[string] `phi:"clinical"`
	B storage.Sealed[string] `phi:"clinical"`
	C storage.Sealed[string] `phi:"clinical"`
	D storage.Sealed[string] `phi:"clinical"`
	E storage.Sealed[string] `phi:"clinical"`
	F storage.Sealed[string] `phi:"clinical"`
	G storage.Sealed[string] `phi:"clinical"`
	H storage.Sealed[string] `phi:"clinical"`
}

// A plainPatient has the same columns, as an app without the SDK would keep them.
type plainPatient struct {
	ID                     string `gorm:"primaryKey;size:36"`
	TenantID               string `gorm:"size:64;not null;index"`
	Version                int64
	CreatedAt, UpdatedAt   time.Time
	A, B, C, D, E, F, G, H string
}

// text is what column c of row i holds: 32 bytes.
func text(i, c int) string { return fmt.Sprintf("row %06d column %d of 32 bytes..", i, c)[:32] }

func readRows(reveal bool) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (_ value, err error) {
		journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{KEK: cryptotest.NewKEK()})
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, journal.Close()) }()
		db, err := storage.Open(sqlite.Open(filepath.Join(dir, "sealed.db")), storage.Config{
			KEK: cryptotest.NewKEK(), Audit: journal, Access: rbac.Starter(), Minimize: minimize.Starter(),
		})
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, storage.Close(db)) }()
		as := access.With(ctx, access.Principal{ID: "u-1", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"physician"}}, access.Treatment)
		if err := fillSealed(as, db); err != nil {
			return value{}, err
		}
		plain, err := plainDB(ctx, filepath.Join(dir, "plain.db"))
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, closePlain(plain)) }()

		ours := func(context.Context) error {
			var all []Patient
			if err := db.WithContext(as).Find(&all).Error; err != nil {
				return err
			}
			if len(all) != rows {
				return fmt.Errorf("%d rows", len(all))
			}
			if !reveal {
				return nil
			}
			return storage.Reveal(as, &all)
		}
		base := func(ctx context.Context) error {
			var all []plainPatient
			if err := plain.WithContext(ctx).Find(&all).Error; err != nil {
				return err
			}
			if len(all) != rows {
				return fmt.Errorf("%d plain rows", len(all))
			}
			return nil
		}
		if err := checkReveal(as, db); err != nil {
			return value{}, err
		}
		return ratio(ctx, 151, timed(1, ours), timed(1, base))
	}
}

func fillSealed(ctx context.Context, db *gorm.DB) error {
	if err := storage.Migrate(ctx, db, &Patient{}); err != nil {
		return err
	}
	all := make([]Patient, rows)
	for i := range all {
		s := func(c int) storage.Sealed[string] { return storage.Seal(text(i, c)) }
		all[i].A, all[i].B, all[i].C, all[i].D = s(0), s(1), s(2), s(3)
		all[i].E, all[i].F, all[i].G, all[i].H = s(4), s(5), s(6), s(7)
	}
	return db.WithContext(ctx).CreateInBatches(&all, 100).Error
}

// checkReveal makes sure that the rows really open to what went in.
func checkReveal(ctx context.Context, db *gorm.DB) error {
	var all []Patient
	if err := db.WithContext(ctx).Order("created_at, id").Find(&all).Error; err != nil {
		return err
	}
	if err := storage.Reveal(ctx, &all); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for i := range all {
		h, err := all[i].H.Get(ctx)
		if err != nil {
			return err
		}
		seen[h] = true
	}
	for i := range rows {
		if !seen[text(i, 7)] {
			return fmt.Errorf("row %d did not come back", i)
		}
	}
	return nil
}

func plainDB(ctx context.Context, path string) (*gorm.DB, error) {
	db, err := gorm.Open(sqlite.Open(path), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	if err := db.WithContext(ctx).AutoMigrate(&plainPatient{}); err != nil {
		return nil, err
	}
	all := make([]plainPatient, rows)
	id := storagetest.SeededIDs(1)
	for i := range all {
		s := func(c int) string { return text(i, c) }
		all[i] = plainPatient{
			ID: id(), TenantID: "clinic-7", Version: 1,
			A: s(0), B: s(1), C: s(2), D: s(3), E: s(4), F: s(5), G: s(6), H: s(7),
		}
	}
	return db, db.WithContext(ctx).CreateInBatches(&all, 100).Error
}

func closePlain(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}

// newDB times what each test of a user pays for its database.
func newDB(context.Context, string) (value, error) {
	var took []float64
	failed := false
	testing.Benchmark(func(b *testing.B) {
		failed = true // until it comes back from NewDB, which ends a bad run
		for range b.N {
			begin := time.Now()
			storagetest.NewDB(b, &Patient{})
			took = append(took, float64(time.Since(begin).Microseconds())/1000)
		}
		failed = false
	})
	if failed || len(took) == 0 {
		return value{}, errors.New("storagetest.NewDB failed")
	}
	return value{median: median(took), best: slices.Min(took), unit: " ms"}, nil
}
