// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// A function that runs a string as SQL, as PostgreSQL's query_to_xml does,
// would read past the scope.
func TestGuardLooksIntoStringsAndCalls(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{}, &Encounter{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	if err := db.WithContext(ctx).Create(&Patient{Active: true}).Error; err != nil {
		t.Fatal(err)
	}
	var all []Patient
	for name, err := range map[string]error{
		"raw string":       db.WithContext(ctx).Raw("SELECT f('select next_visit from patients')").Scan(&all).Error,
		"raw comment":      db.WithContext(ctx).Exec("SELECT 1 /* patients */").Error,
		"call":             db.WithContext(ctx).Where("f('select 1') = 1").Find(&all).Error,
		"call, quoted":     db.WithContext(ctx).Where(`"f" ('select 1') = 1`).Find(&all).Error,
		"call, order":      db.WithContext(ctx).Order("f('select 1')").Find(&all).Error,
		"call, expression": db.WithContext(ctx).Model(&Patient{}).Where("active = ?", true).Update("active", gorm.Expr("f('x')")).Error,
	} {
		if !errors.Is(err, storage.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	if err := db.WithContext(ctx).Where("lower(tenant_id) = ? AND (active = ? OR active = ?)", "t-test", true, false).Find(&all).Error; err != nil {
		t.Errorf("a common function: %v", err)
	}
}

// A process that has not used or migrated a model knows its table all the same.
func TestGuardKnowsTablesOfAnEarlierMigrate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	cfg := storage.Config{KEK: cryptotest.NewKEK(), Audit: audittest.New(t), Access: rbac.Starter(), Minimize: minimize.Starter()}
	db, err := storage.Open(sqlite.Open(path), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(storage.Migrate(t.Context(), db, &Patient{}, &Encounter{}), storage.Close(db)); err != nil {
		t.Fatal(err)
	}
	if db, err = storage.Open(sqlite.Open(path), cfg); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := storage.Close(db); err != nil {
			t.Error(err)
		}
	}()
	if err := db.Exec("UPDATE patients SET active = 1").Error; !errors.Is(err, storage.ErrRefused) {
		t.Errorf("raw SQL before the model was used: %v, want ErrRefused", err)
	}
}

// patientStub is a second model of Patient's table.
type patientStub struct {
	storage.PatientRecord
	Name storage.Sealed[string] `phi:"name"`
}

func (patientStub) TableName() string    { return "patients" }
func (patientStub) ResourceType() string { return "patient" }

// A second type for a table would not know of the first one's PHI.
func TestOneModelForATable(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{}, &Encounter{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	var all []patientStub
	if err := db.WithContext(ctx).Where("next_visit IS NOT NULL").Find(&all).Error; err == nil {
		t.Error("a stub of the table was read")
	}
	if err := db.WithContext(ctx).Find(&[]Patient{}).Error; err != nil {
		t.Errorf("the model itself, afterwards: %v", err)
	}
}

// What can be reached from a patient by following pointers holds no key, and
// nothing of GORM's, whose schemas lead to each other: a dump would not end.
func TestNoKeyIsReachedFromAModel(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{}, &Encounter{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe")}
	if err := errors.Join(db.WithContext(ctx).Create(&p).Error, storage.Reveal(ctx, &p)); err != nil {
		t.Fatal(err)
	}
	seen := map[uintptr]bool{}
	var walk func(v reflect.Value, path string, depth int)
	walk = func(v reflect.Value, path string, depth int) {
		if depth > 40 {
			return
		}
		if strings.Contains(v.Type().PkgPath(), "part164/crypto") || strings.Contains(v.Type().PkgPath(), "fips140/aes") || strings.Contains(v.Type().PkgPath(), "gorm.io/") {
			t.Errorf("%s leads to a %v", path, v.Type())
			return
		}
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && !seen[v.Pointer()] {
				seen[v.Pointer()] = true
				walk(v.Elem(), path, depth+1)
			}
		case reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem(), path, depth+1)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name, depth+1)
			}
		case reflect.Slice, reflect.Array:
			for i := range min(v.Len(), 50) {
				walk(v.Index(i), path+"[]", depth+1)
			}
		case reflect.Map:
			for it := v.MapRange(); it.Next(); {
				walk(it.Value(), path+"{}", depth+1)
			}
		}
	}
	walk(reflect.ValueOf(&p), "Patient", 0)
	if len(seen) < 5 {
		t.Errorf("only %d pointers were followed", len(seen))
	}
}
