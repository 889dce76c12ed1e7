// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A bedStay is what an app keeps of encounters: it has PHI of its own.
type bedStay struct {
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:64;index"`
	Doctor    string                 `phi:"-" gorm:"size:64"`
	Begun     int64                  `phi:"-"`
	Ended     int64                  `phi:"-"`
	Reason    storage.Sealed[string] `phi:"clinical"`
	DeletedAt gorm.DeletedAt         `phi:"-"`
}

func TestMembersIsASet(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		storagetest.TestSet(t, func(t *testing.T, a access.Authorizer, models ...any) storagetest.Sets {
			db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = a }, append(models, &bedStay{})...)
			raw, err := db.DB.DB()
			if err != nil {
				t.Fatal(err)
			}
			ids := storagetest.SeededIDs(7)
			put := func(t *testing.T, tenant, id, doctor string, over int64, deleted any) {
				query := "INSERT INTO bed_stays (id, tenant_id, version, patient_id, doctor, begun, ended, deleted_at) VALUES (?, ?, 1, ?, ?, 0, ?, ?)"
				if db.Name() == "postgres" {
					query = "INSERT INTO bed_stays (id, tenant_id, version, patient_id, doctor, begun, ended, deleted_at) VALUES ($1, $2, 1, $3, $4, 0, $5, $6)"
				}
				if _, err := raw.Exec(query, ids(), tenant, id, doctor, over, deleted); err != nil {
					t.Fatal(err)
				}
			}
			return storagetest.Sets{
				DB: db.DB,
				Set: func(string) access.Set {
					return storage.Members(db.DB, &bedStay{}, "PatientID", "doctor = ? AND begun <= ? AND ended > ?", "u-1", 5, 5)
				},
				Put: func(t *testing.T, tenant string, members ...string) {
					for _, id := range members {
						put(t, tenant, id, "u-1", 6, nil)
					}
				},
			}
		})
	})
}

// putStay writes a stay by hand.
func putStay(t *testing.T, db *gorm.DB, id, tenant, patient, doctor string, ended int64, deleted any) {
	t.Helper()
	raw, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	query := "INSERT INTO bed_stays (id, tenant_id, version, patient_id, doctor, begun, ended, deleted_at) VALUES (?, ?, 1, ?, ?, 0, ?, ?)"
	if _, err := raw.Exec(query, id, tenant, patient, doctor, ended, deleted); err != nil {
		t.Fatal(err)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &bedStay{})
	set := storage.Members(db.DB, &bedStay{}, "PatientID", "doctor = ? AND ended > ?", "u-1", 5)
	putStay(t, db.DB, "s-1", "t-1", "p-1", "u-1", 6, nil)
	putStay(t, db.DB, "s-2", "t-1", "p-2", "u-1", 5, nil)             // over
	putStay(t, db.DB, "s-3", "t-1", "p-3", "u-2", 6, nil)             // another's
	putStay(t, db.DB, "s-4", "t-1", "p-4", "u-1", 6, time.Unix(1, 0)) // soft-deleted
	putStay(t, db.DB, "s-5", "t-2", "p-5", "u-1", 6, nil)             // elsewhere
	in, err := set.Has(t.Context(), "t-1", []string{"p-1", "p-2", "p-3", "p-4", "p-5", ""})
	if want := []bool{true, false, false, false, false, false}; err != nil || !slices.Equal(in, want) {
		t.Errorf("Has = %v, %v; want %v", in, err, want)
	}
}

func TestMembersThatAreRefused(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &bedStay{})
	plain, err := gorm.Open(openSQLite(t))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := plain.DB(); err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	type bare struct {
		ID      uint
		Patient string
	}
	for name, set := range map[string]storage.SetCondition{
		"no condition":    storage.Members(db.DB, &bedStay{}, "PatientID", " "),
		"no such field":   storage.Members(db.DB, &bedStay{}, "Patient", "doctor = ?", "u-1"),
		"a sealed field":  storage.Members(db.DB, &bedStay{}, "Reason", "doctor = ?", "u-1"),
		"a sealed column": storage.Members(db.DB, &bedStay{}, "PatientID", "reason = ?", "u-1"),
		"another column":  storage.Members(db.DB, &bedStay{}, "PatientID", "name = ?", "u-1"),
		"another table":   storage.Members(db.DB, &bedStay{}, "PatientID", "doctor IN (SELECT doctor FROM bed_stays)"),
		"a call":          storage.Members(db.DB, &bedStay{}, "PatientID", "load_extension(doctor)"),
		"a comment":       storage.Members(db.DB, &bedStay{}, "PatientID", "doctor = 'x' -- "),
		"out of brackets": storage.Members(db.DB, &bedStay{}, "PatientID", "doctor = ?) OR (1 = 1", "u-1"),
		"no tenant":       storage.Members(db.DB, &bare{}, "Patient", "id > ?", 0),
		"no model":        storage.Members(db.DB, "bed_stays", "PatientID", "doctor = ?", "u-1"),
		"no storage":      storage.Members(plain, &bedStay{}, "PatientID", "doctor = ?", "u-1"),
		"no database":     storage.Members(nil, &bedStay{}, "PatientID", "doctor = ?", "u-1"),
	} {
		if in, err := set.Has(t.Context(), "t-1", []string{"p-1"}); err == nil {
			t.Errorf("%s: Has = %v", name, in)
		}
		if e, err := set.Condition("t-1", clause.Column{Name: "id"}); err == nil {
			t.Errorf("%s: Condition = %v", name, e)
		}
	}
}

// A given authorizer answers by one filter.
type given struct{ f access.Filter }

func (g given) Filter(context.Context, access.Action, string) (access.Filter, error) { return g.f, nil }

func (g given) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	in, err := g.f.Match(ctx, req.Resources...)
	d := access.Decision{ID: "0123456789abcdef0123456789abcdef", Verdicts: make([]access.Verdict, len(req.Resources))}
	for i := range d.Verdicts {
		d.Verdicts[i] = access.Verdict{Allow: err == nil && in[i], Code: access.AllowRule}
	}
	return d, err
}

// A custom set is an app's, with any condition.
type custom struct {
	db  *gorm.DB
	sql clause.Expression
	err error
}

func (c custom) Has(_ context.Context, _ string, ids []string) ([]bool, error) {
	return make([]bool, len(ids)), nil
}
func (c custom) Database() *gorm.DB                                         { return c.db }
func (c custom) Condition(string, clause.Column) (clause.Expression, error) { return c.sql, c.err }

// A memory is a set that has no SQL.
type memory struct{}

func (memory) Has(_ context.Context, _ string, ids []string) ([]bool, error) {
	return make([]bool, len(ids)), nil
}

// What cannot be told in SQL, or not in this database, lets nothing be read,
// wherever it stands in the filter.
func TestSetsThatAreRefused(t *testing.T) {
	t.Parallel()
	var db *storagetest.DB
	gate := &given{}
	db = storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = gate }, &bedStay{})
	other := storagetest.NewDB(t, &bedStay{})
	ctx := accesstest.AsIn(t, t.Context(), "t-1", "physician", access.Treatment)
	putStay(t, db.DB, "s-1", "t-1", "p-1", "u-1", 6, nil)
	for name, set := range map[string]access.Set{
		"nil":                 nil,
		"a set in memory":     memory{},
		"in a union":          access.Union{memory{}},
		"another database":    storage.Members(other.DB, &bedStay{}, "PatientID", "doctor = ?", "u-1"),
		"no database":         custom{sql: clause.Expr{SQL: "1 = 1"}},
		"no condition":        custom{db: db.DB},
		"an empty one":        custom{db: db.DB, sql: clause.Expr{SQL: ""}},
		"out of brackets":     custom{db: db.DB, sql: clause.Expr{SQL: "1 = 0) OR (1 = 1"}},
		"a comment":           custom{db: db.DB, sql: clause.Expr{SQL: "1 = 1 -- "}},
		"an error":            custom{db: db.DB, sql: clause.Expr{SQL: "1 = 1"}, err: errors.New("no")},
		"a refused condition": storage.Members(db.DB, &bedStay{}, "PatientID", " "),
	} {
		for where, f := range map[string]access.Filter{
			"In": {In: []access.Set{set}}, "Only": {AllSubjects: true, Only: []access.Set{set}}, "NotIn": {AllSubjects: true, NotIn: []access.Set{set}},
			"NotRecords": {AllSubjects: true, NotRecords: []access.Set{set}}, "Or": {Nobody: true, Or: []access.Filter{{Tenant: "t-1", In: []access.Set{set}}}},
		} {
			f.Tenant = "t-1"
			gate.f = f
			var rows []bedStay
			var n int64
			if err := db.WithContext(ctx).Find(&rows).Error; err == nil || len(rows) > 0 {
				t.Errorf("%s in %s: %d rows, %v", name, where, len(rows), err)
			}
			if err := db.WithContext(ctx).Model(&bedStay{}).Count(&n).Error; err == nil || n > 0 {
				t.Errorf("%s in %s: counted %d, %v", name, where, n, err)
			}
			if err := db.WithContext(ctx).Model(&bedStay{}).Where("id = ?", "s-1").Update("ended", 9).Error; err == nil {
				t.Errorf("%s in %s: updated", name, where)
			}
		}
	}
	for name, or := range map[string]access.Filter{"another tenant": {Tenant: "t-2", AllSubjects: true}, "an Or of its own": {Tenant: "t-1", Or: []access.Filter{{Tenant: "t-1"}}}} {
		gate.f = access.Filter{Tenant: "t-1", Or: []access.Filter{or}}
		var rows []bedStay
		if err := db.WithContext(ctx).Find(&rows).Error; !errors.Is(err, storage.ErrRefused) || len(rows) > 0 {
			t.Errorf("%s in Or: %d rows, %v", name, len(rows), err)
		}
	}
}

// Count, then Find, on one chain: what the first has added to it stands beside
// the second's.
func TestASetOnOneChain(t *testing.T) {
	t.Parallel()
	gate := &given{}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = gate }, &bedStay{})
	gate.f = access.Filter{Tenant: "t-1", In: []access.Set{storage.Members(db.DB, &bedStay{}, "PatientID", "doctor = ?", "u-1")}}
	putStay(t, db.DB, "s-1", "t-1", "p-1", "u-1", 6, nil)
	putStay(t, db.DB, "s-2", "t-1", "p-2", "u-2", 6, nil)
	q := db.WithContext(accesstest.AsIn(t, t.Context(), "t-1", "physician", access.Treatment)).Model(&bedStay{}).Where("ended > ?", 1)
	var n int64
	var rows []bedStay
	if err := q.Count(&n).Error; err != nil || n != 1 {
		t.Fatalf("counted %d, %v", n, err)
	}
	if err := q.Find(&rows).Error; err != nil || len(rows) != 1 || rows[0].ID != "s-1" {
		t.Errorf("found %d rows, %v", len(rows), err)
	}
}

// A statement's transaction is asked, so that it sees what it wrote, and waits
// for no connection beside its own.
func TestASetSeesTheTransactionThatAsks(t *testing.T) {
	t.Parallel()
	gate := &given{}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = gate }, &bedStay{}, &bedWatch{})
	gate.f = access.Filter{Tenant: "t-1", In: []access.Set{watched{db.DB}}}
	ctx := accesstest.AsIn(t, t.Context(), "t-1", "physician", access.Treatment)
	putStay(t, db.DB, "0190f2d4-7c1e-7000-8000-000000000001", "t-1", "p-1", "u-1", 6, nil)
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&bedWatch{Patient: "p-1"}).Error; err != nil {
			return err
		}
		return tx.Model(&bedStay{}).Where("doctor = ?", "u-1").Update("doctor", "u-2").Error
	})
	if err != nil {
		t.Error(err)
	}
}

// A bedWatch is a table without PHI that a set reads.
type bedWatch struct {
	ID      uint
	Patient string `gorm:"size:64"`
}

type watched struct{ db *gorm.DB }

func (w watched) Database() *gorm.DB { return w.db }

func (w watched) Condition(_ string, column clause.Column) (clause.Expression, error) {
	return clause.Expr{SQL: "? IN (SELECT patient FROM bed_watches)", Vars: []any{column}}, nil
}

func (w watched) Has(ctx context.Context, _ string, ids []string) ([]bool, error) {
	var found []string
	err := storage.Within(ctx, w.db).Model(&bedWatch{}).Where("patient IN ?", ids).Pluck("patient", &found).Error
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = slices.Contains(found, id)
	}
	return out, err
}
