// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"errors"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// How many rows a write touches tells what its Match found, also where nothing
// is written: nothing found, or all as it was.
func TestMatchInAWriteIsRecorded(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe"), Active: true}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int64{"jane": 1, "bob": 0} {
		db.Trail.Reset()
		r := db.WithContext(ctx).Model(&Patient{}).Where(storage.Match("Name", query)).Updates(map[string]any{"Active": true})
		if r.Error != nil || r.RowsAffected != want {
			t.Errorf("update by Match touches %d rows, %v; want %d", r.RowsAffected, r.Error, want)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Searched, Action: access.Search})
	}
}

// A refused question is a try: it is recorded.
func TestFilterOnAHiddenFieldIsRecorded(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := accesstest.As(t, t.Context(), "privacy-officer", access.Compliance)
	for name, where := range map[string]any{"clear": "next_visit > '2026-01-01'", "match": storage.Match("BirthDate", "1980-01-01")} {
		db.Trail.Reset()
		var n int64
		err := db.WithContext(ctx).Model(&Patient{}).Where(where).Count(&n).Error
		if !errors.Is(err, storage.ErrFilterOnHidden) {
			t.Errorf("%s: %v, want ErrFilterOnHidden", name, err)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Denied, Reason: audit.ReasonMinimum, Action: access.Search})
	}
}

// PostgreSQL makes one text of a row: of all its columns, the hidden ones
// included.
func TestTheWholeRowIsNoCondition(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := accesstest.As(t, t.Context(), "privacy-officer", access.Compliance)
	for _, where := range []string{
		"ROW(patients.*)::text LIKE '%2026%'", "patients.*::text LIKE '%2026%'", "to_jsonb(patients . *)->>'next_visit' LIKE '2026%'",
		`("patients".*)::text LIKE '%2026%'`, "patients::text LIKE '%2026%'",
	} {
		var n int64
		if err := db.WithContext(ctx).Model(&Patient{}).Where(where).Count(&n).Error; !errors.Is(err, storage.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", where, err)
		}
	}
	var found []Patient
	if err := db.WithContext(ctx).Select("id", "tenant_id").Where("patients.active = ?", true).Find(&found).Error; err != nil {
		t.Errorf("a column behind its table: %v", err)
	}
}

// Reveal is the only door: a Sealer has the key of models about no patient, and
// does not open their cells.
func TestSealerOpensNoCellOfAModel(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Clinician{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	c := Clinician{SSN: storage.Seal("123-45-6789")}
	if err := db.WithContext(ctx).Create(&c).Error; err != nil {
		t.Fatal(err)
	}
	raw, err := c.SSN.Value()
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.Sealer(db.DB)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"clinicians.ssn", "ssn", ""} {
		p, err := s.Open(ctx, crypto.Binding{Tenant: accesstest.Tenant, Field: field, Record: c.ID}, raw.([]byte))
		if err == nil || p != nil {
			t.Errorf("it opens as %q without a decision and a record", field)
		}
	}
}

// A Clinician is about no patient.
type Clinician struct {
	storage.Record
	SSN storage.Sealed[string] `phi:"ssn"`
}
