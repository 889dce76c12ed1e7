// SPDX-License-Identifier: Apache-2.0

// Package guide_test runs what docs/guide-storage.md shows after its five steps.
package guide_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

type Patient struct {
	storage.PatientRecord
	MRN       storage.Sealed[string] `phi:"mrn,search=exact,unique"`
	Name      storage.Sealed[string] `phi:"name,search=name"`
	SSN       storage.Sealed[string] `phi:"ssn"`
	NextVisit time.Time              `phi:"date,clear"`
}

type fixture struct {
	*testing.T
	db  *gorm.DB
	ctx context.Context // a physician
	id  string          // of Jane Roe
}

func setup(t *testing.T) (*fixture, *storagetest.DB) {
	t.Helper()
	db := storagetest.NewDB(t, &Patient{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	p := Patient{MRN: storage.Seal("MRN-0007"), Name: storage.Seal("Jane Roe"), SSN: storage.Seal("219-09-9999"), NextVisit: time.Date(2027, 1, 5, 9, 0, 0, 0, time.UTC)}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	return &fixture{t, db.DB, ctx, p.ID}, db
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func TestReading(t *testing.T) {
	t.Parallel()
	f, _ := setup(t)
	ctx, db, id := f.ctx, f.db, f.id
	var w bytes.Buffer
	show := func() error {
		var p Patient
		if err := db.WithContext(ctx).First(&p, "id = ?", id).Error; err != nil {
			return err
		}
		if err := storage.Reveal(ctx, &p); err != nil {
			return err
		}
		name, err := p.Name.Get(ctx) // the value, or why not: ErrMasked, ErrWithheld, ErrSealed, ErrUnavailable
		if err != nil {
			return err
		}
		w.WriteString(name + " " + p.SSN.Text(ctx) + " ") // what this role may see: here ***-**-9999
		return minimize.WriteJSON(ctx, &w, p)             // the same for the whole record
	}
	f.must(show())
	if out := w.String(); !strings.HasPrefix(out, "Jane Roe ***-**-9999 {") || strings.Contains(out, "219") {
		t.Errorf("shown: %s", out)
	}
}

func TestWriting(t *testing.T) {
	t.Parallel()
	f, _ := setup(t)
	ctx, db, id := f.ctx, f.db, f.id
	edit := func() error {
		var p Patient
		if err := db.WithContext(ctx).First(&p, "id = ?", id).Error; err != nil {
			return err
		}
		p.Name = storage.Seal("Jane Doe")
		err := db.WithContext(ctx).Save(&p).Error // only what was read and has changed
		if errors.Is(err, storage.ErrConflict) {
			return err // somebody else was faster: read again, and ask the user
		}
		return err
	}
	f.must(edit())
	one := func() error {
		return db.WithContext(ctx).Model(&Patient{}).Where("id = ?", id).
			Updates(map[string]any{"name": storage.Seal("Jane Poe"), "ssn": nil}).Error
	}
	f.must(one())
	if err := db.WithContext(ctx).Model(&Patient{}).Where("id = ?", id).Update("name", "Jane Poe").Error; !errors.Is(err, storage.ErrRefused) {
		t.Errorf("a bare value: %v", err)
	}
}

func TestSearching(t *testing.T) {
	t.Parallel()
	f, _ := setup(t)
	ctx, db := f.ctx, f.db
	var found []Patient
	search := func() error {
		return db.WithContext(ctx).
			Where(storage.Match("Name", "ro jan")).
			Where("next_visit > ?", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)).
			Find(&found).Error
	}
	f.must(search())
	if len(found) != 1 {
		t.Errorf("%d found", len(found))
	}
	list := func() (string, error) {
		page, next, err := storage.List[Patient](ctx, db.WithContext(ctx), "Name", storage.Page{Size: 50})
		if err == nil {
			err = storage.Reveal(ctx, page)
		}
		found = page
		return next, err // where the next page begins: for Page.After
	}
	if _, err := list(); err != nil || len(found) != 1 {
		t.Errorf("listed %d, %v", len(found), err)
	}
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	f, _ := setup(t)
	ctx, db := f.ctx, f.db
	register := func(p *Patient) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(p).Error; err != nil {
				return err
			}
			return storage.Reveal(storage.InTx(ctx, tx), p) // sees the keys that the transaction has made
		})
	}
	f.must(register(&Patient{Name: storage.Seal("Wei Ng")}))
}

func TestFiles(t *testing.T) {
	t.Parallel()
	f, _ := setup(t)
	ctx, db, id := f.ctx, f.db, f.id
	files, err := storage.OpenFiles(db, storage.FilesConfig{Folder: t.TempDir()})
	f.must(err)
	scan := strings.NewReader("a scan of any size")
	var w bytes.Buffer
	keep := func() error {
		file, err := files.Put(ctx, id, minimize.Clinical, scan) // sealed under a key of its own, under the patient's
		if err != nil {
			return err
		}
		r, err := files.Open(ctx, file) // authorised and recorded; seeks
		if err != nil {
			return err
		}
		_, err = io.Copy(&w, r)
		return errors.Join(err, r.Close())
	}
	f.must(keep())
	if w.String() != "a scan of any size" {
		t.Errorf("read %q", w.String())
	}
}

func TestShredding(t *testing.T) {
	t.Parallel()
	f, db := setup(t)
	officer := accesstest.As(t, t.Context(), "privacy-officer", access.Operations)
	forget := func(ctx context.Context, db *gorm.DB, id string) (storage.Certificate, error) {
		return storage.Shred(ctx, db, id, storage.Authority{Basis: storage.PatientRight, Approver: "u-31", Reference: "request-2027-004"})
	}
	cert, err := forget(officer, f.db, f.id)
	if err != nil || cert.Subject != f.id {
		t.Fatalf("Shred = %+v, %v", cert, err)
	}
	var p Patient
	f.must(f.db.WithContext(f.ctx).First(&p, "id = ?", f.id).Error)
	_ = storage.Reveal(f.ctx, &p)
	if _, err := p.Name.Get(f.ctx); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("after the shred: %v", err)
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Shredded})
}

func TestChecking(t *testing.T) {
	t.Parallel()
	f, _ := setup(t)
	service := access.Principal{ID: "checker", Tenant: accesstest.Tenant, Kind: access.Service, Roles: []string{"maintenance"}}
	check := func(db *gorm.DB) (storage.Report, error) {
		ctx, end := access.Job(context.Background(), service, access.RecordManagement)
		defer end()
		return storage.Check(ctx, db, nil) // names every cell, row, token and merge that is not as the trail has it
	}
	if r, err := check(f.db); err != nil || len(r.Findings) != 0 || r.Records != 1 {
		t.Errorf("Check = %+v, %v", r, err)
	}
}

type OldPatient struct { // as it was, with a number as its ID
	ID        uint
	Name      string
	NextVisit time.Time
}

func (OldPatient) TableName() string { return "old_patients" }

type Person struct {
	storage.PatientRecord
	OldID     uint                   `gorm:"uniqueIndex" phi:"uid,clear"` // what other tables refer to
	Name      storage.Sealed[string] `phi:"name,search=name"`
	NextVisit time.Time              `phi:"date,clear"`
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &OldPatient{}, &Person{}).DB
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	var old []OldPatient
	for p := range storagetest.Patients(1, 250) {
		old = append(old, OldPatient{Name: p.Name(), NextVisit: time.Date(2027, 1, 5, 9, 0, 0, 0, time.UTC)})
	}
	if err := db.Create(&old).Error; err != nil {
		t.Fatal(err)
	}
	// It goes on where it was, if it is run again.
	copyAll := func() error {
		var last Person
		if err := db.WithContext(ctx).Order("old_id DESC").Limit(1).Find(&last).Error; err != nil {
			return err
		}
		var batch []OldPatient
		return db.Where("id > ?", last.OldID).FindInBatches(&batch, 100, func(*gorm.DB, int) error {
			people := make([]Person, len(batch))
			for i, o := range batch {
				people[i] = Person{OldID: o.ID, Name: storage.Seal(o.Name), NextVisit: o.NextVisit}
			}
			return db.WithContext(ctx).Create(&people).Error
		}).Error
	}
	for range 2 {
		if err := copyAll(); err != nil {
			t.Fatal(err)
		}
	}
	var n int64
	if err := db.WithContext(ctx).Model(&Person{}).Count(&n).Error; err != nil || n != 250 {
		t.Errorf("%d copied, %v", n, err)
	}
}

func TestRawSQL(t *testing.T) {
	t.Parallel()
	f, db := setup(t)
	ctx, id := f.ctx, f.id
	var rows []Patient
	raw := func(db *gorm.DB) error {
		out := storage.Outside(ctx, audit.ReasonRepair) // recorded once, with the principal and the reason
		err := db.WithContext(out).Raw("SELECT * FROM patients WHERE version = ?", 1).Scan(&rows).Error
		if err == nil {
			err = storage.Bind(ctx, db, &rows) // only what is in reach: before, Reveal opens nothing
		}
		if err == nil {
			err = storage.Reveal(ctx, rows)
		}
		return err
	}
	f.must(raw(f.db))
	if len(rows) != 1 || rows[0].ID != id || rows[0].Name.Text(ctx) != "Jane Roe" {
		t.Errorf("read %d rows", len(rows))
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Outside, Reason: audit.ReasonRepair})
}

func TestAssociations(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{}, &Visit{}).DB
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	v := Visit{Patient: &Patient{Name: storage.Seal("Jane Roe")}, Reason: storage.Seal("cough")}
	if err := db.WithContext(ctx).Create(&v).Error; err != nil {
		t.Fatal(err)
	}
	var visits []Visit
	read := func() error {
		err := db.WithContext(ctx).Joins("Patient").Find(&visits).Error // or Preload
		var patients []*Patient
		for _, v := range visits {
			patients = append(patients, v.Patient)
		}
		return errors.Join(err, storage.Reveal(ctx, visits), storage.Reveal(ctx, patients))
	}
	if err := read(); err != nil || len(visits) != 1 || visits[0].Patient.Name.Text(ctx) != "Jane Roe" || visits[0].Reason.Text(ctx) != "cough" {
		t.Errorf("read %d visits, %v: %q %q", len(visits), err, visits[0].Reason.Text(ctx), visits[0].Patient.Name.Text(ctx))
	}
}

type Visit struct {
	storage.Record
	PatientID string                 `gorm:"size:36;not null;index" phi:"subject"`
	Patient   *Patient               `phi:"-"`
	Reason    storage.Sealed[string] `phi:"clinical"`
}
