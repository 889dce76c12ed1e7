// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

// exampleTB lets the examples use the kits of tests.
type exampleTB struct {
	testing.TB
	cleanup []func()
	dir     string
}

func (*exampleTB) Helper()                   {}
func (e *exampleTB) Cleanup(f func())        { e.cleanup = append(e.cleanup, f) }
func (*exampleTB) Context() context.Context  { return context.Background() }
func (*exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (*exampleTB) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }

func (e *exampleTB) TempDir() string {
	if e.dir == "" {
		dir, err := os.MkdirTemp("", "example")
		if err != nil {
			panic(err)
		}
		e.dir = dir
		e.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	return e.dir
}

func (e *exampleTB) end() {
	for i := len(e.cleanup) - 1; i >= 0; i-- {
		e.cleanup[i]()
	}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	kek, err := crypto.LocalKEK(filepath.Join(dir, "keys", "kek.json"))
	if err != nil {
		fmt.Println(err)
		return
	}
	tb := &exampleTB{}
	defer tb.end()
	db, err := storage.Open(sqlite.Open(filepath.Join(dir, "data", "app.db")), storage.Config{
		Development: true, // makes the key file; production takes a KMS
		KEK:         kek,
		Audit:       audittest.New(tb), // production: audit.Open
		Access:      rbac.Starter(),
		Minimize:    minimize.Starter(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer storage.Close(db)
	ctx := context.Background()
	if err := storage.Migrate(ctx, db, &Patient{}, &Encounter{}); err != nil {
		fmt.Println(err)
		return
	}
	doctor := access.Principal{ID: "u-7", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician"}}
	ctx = access.With(ctx, doctor, access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe")}
	fmt.Println(db.WithContext(ctx).Create(&p).Error, p.Name)
	fmt.Println(errors.Is(db.WithContext(context.Background()).Find(&[]Patient{}).Error, access.ErrNoPrincipal))
	// Output:
	// <nil> [PHI:name]
	// true
}

func ExampleReveal() {
	tb := &exampleTB{}
	defer tb.end()
	db := storagetest.NewDB(tb, &Patient{}, &Encounter{})
	doctor := access.Principal{ID: "u-7", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician"}}
	ctx := access.With(context.Background(), doctor, access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe"), SSN: storage.Seal("123-45-6789"), Notes: storage.Sealed[string]{}}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		fmt.Println(err)
		return
	}
	var q Patient
	if err := db.WithContext(ctx).First(&q, "id = ?", p.ID).Error; err != nil {
		fmt.Println(err)
		return
	}
	_, err := q.Name.Get(ctx)
	fmt.Println(err)
	if err := storage.Reveal(ctx, &q); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(q.Name.Get(ctx))
	fmt.Println(q.SSN.Text(ctx))
	_, err = q.Notes.Get(ctx)
	fmt.Println(errors.Is(err, storage.ErrWithheld))
	fmt.Println(q.Name.Text(context.Background()), q.Name)
	// Output:
	// storage: sealed: call storage.Reveal first
	// Jane Roe <nil>
	// ***-**-6789
	// true
	// [PHI:name] [PHI:name]
}

func ExampleMatch() {
	tb := &exampleTB{}
	defer tb.end()
	db := storagetest.NewDB(tb, &Patient{}, &Encounter{})
	doctor := access.Principal{ID: "u-7", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician"}}
	ctx := access.With(context.Background(), doctor, access.Treatment)
	for _, name := range []string{"Jane Smith", "James Smithson", "José Ng"} {
		if err := db.WithContext(ctx).Create(&Patient{Name: storage.Seal(name)}).Error; err != nil {
			fmt.Println(err)
			return
		}
	}
	for _, query := range []string{"smi ja", "ng jose", "roe"} {
		var n int64
		if err := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", query)).Count(&n).Error; err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(query, n)
	}
	var n int64
	err := db.WithContext(ctx).Model(&Patient{}).Where(storage.SoundsLike("Name", "jane smyth")).Count(&n).Error
	fmt.Println("sounds like jane smyth", n, err)
	fmt.Println(db.WithContext(ctx).Where("name = ?", "Jane Smith").Find(&[]Patient{}).Error != nil)
	// Output:
	// smi ja 2
	// ng jose 1
	// roe 0
	// sounds like jane smyth 1 <nil>
	// true
}

func ExampleList() {
	tb := &exampleTB{}
	defer tb.end()
	db := storagetest.NewDB(tb, &Patient{}, &Encounter{})
	doctor := access.Principal{ID: "u-7", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician"}}
	ctx := access.With(context.Background(), doctor, access.Treatment)
	for _, name := range []string{"Smith", "Ångström", "Roe", "de la Cruz", "adams"} {
		if err := db.WithContext(ctx).Create(&Patient{Name: storage.Seal(name), Active: true}).Error; err != nil {
			fmt.Println(err)
			return
		}
	}
	page := storage.Page{Size: 3}
	for {
		patients, next, err := storage.List[Patient](ctx, db.Where("active = ?", true), "Name", page)
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := storage.Reveal(ctx, &patients); err != nil {
			fmt.Println(err)
			return
		}
		for _, p := range patients {
			fmt.Println(p.Name.Text(ctx))
		}
		if next == "" {
			return
		}
		fmt.Println("--")
		page.After = next
	}
	// Output:
	// adams
	// Ångström
	// de la Cruz
	// --
	// Roe
	// Smith
}

func ExampleShred() {
	tb := &exampleTB{}
	defer tb.end()
	db := storagetest.NewDB(tb, &Patient{}, &Encounter{})
	doctor := access.Principal{ID: "u-7", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician"}}
	ctx := access.With(context.Background(), doctor, access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe"), NextVisit: time.Date(2026, 5, 6, 0, 0, 0, 0, time.UTC)}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		fmt.Println(err)
		return
	}
	officer := access.With(context.Background(), access.Principal{ID: "u-9", Tenant: "t-1", Kind: access.Human, Roles: []string{"privacy-officer"}}, access.Operations)
	_, err := storage.Shred(officer, db.DB, p.ID, storage.Authority{Basis: storage.RetentionOver, Approver: "u-31", Reference: "schedule-2031"})
	fmt.Println(errors.Is(err, storage.ErrRetained))
	c, err := storage.Shred(officer, db.DB, p.ID, storage.Authority{Basis: storage.CourtOrder, Approver: "u-31", Reference: "order-17"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.State, c.Keys, c.Clear)
	var q Patient
	if err := db.WithContext(ctx).First(&q, "id = ?", p.ID).Error; err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(errors.Is(storage.Reveal(ctx, &q), crypto.ErrShredded))
	// Output:
	// true
	// pending 1 [patients.next_visit]
	// true
}

func ExampleCheck() {
	tb := &exampleTB{}
	defer tb.end()
	db := storagetest.NewDB(tb, &Patient{}, &Encounter{})
	doctor := access.Principal{ID: "u-7", Tenant: "t-1", Kind: access.Human, Roles: []string{"physician"}}
	ctx := access.With(context.Background(), doctor, access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe"), MRN: storage.Seal("MRN-123456")}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		fmt.Println(err)
		return
	}
	// Somebody gets around the SDK.
	raw, err := db.DB.DB()
	if err == nil {
		_, err = raw.Exec("UPDATE patients SET mrn = NULL")
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	service := access.Principal{ID: "svc-check", Tenant: "t-1", Kind: access.Service, Roles: []string{"maintenance"}}
	job, end := access.Job(context.Background(), service, access.SystemAdmin)
	defer end()
	r, err := storage.Check(job, db.DB, os.Stderr)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range r.Findings {
		fmt.Println(f.Kind, f.Table, f.Field, f.Record == p.ID)
	}
	// Output:
	// cell.nulled patients MRN true
}
