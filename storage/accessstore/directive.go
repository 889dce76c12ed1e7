// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/storage"
)

type directiveRow struct {
	Tenant    key    `gorm:"primaryKey;index:phi_directives_patient,priority:1;index:phi_directives_record,priority:1"`
	ID        key    `gorm:"primaryKey"`
	Patient   key    `gorm:"not null;index:phi_directives_patient,priority:2"`
	Record    key    `gorm:"not null;index:phi_directives_record,priority:2"` // empty: about all of the patient's
	Kind      string `gorm:"not null;size:16"`
	Basis     string `gorm:"not null;size:16"`
	Recipient key    `gorm:"not null"`
	Begun     int64  `gorm:"not null"`
	Ended     int64  `gorm:"not null"`
	Ending    string `gorm:"not null;size:16"`
	Void      bool   `gorm:"not null"`
	Event     string `gorm:"not null;size:64"`
	Document  string `gorm:"not null;size:64"`

	// Whether a list is empty, so that it means any.
	Anybody    bool `gorm:"not null"`
	AnyPurpose bool `gorm:"not null"`
	AnyType    bool `gorm:"not null"`
}

func (directiveRow) TableName() string { return directiveTable }

// A termRow is one entry of a directive's lists.
type termRow struct {
	Tenant    key    `gorm:"primaryKey"`
	Directive key    `gorm:"primaryKey"`
	Dim       string `gorm:"primaryKey;size:16"`
	Value     key    `gorm:"primaryKey"`
	Place     int    `gorm:"not null"`
}

func (termRow) TableName() string { return termTable }

const (
	directiveTable = "phi_directives"
	termTable      = "phi_directive_terms"
)

// The dimensions of a term.
const (
	byPrincipal = "principal"
	byRole      = "role"
	byPurpose   = "purpose"
	byType      = "type"
)

func terms(d directive.Directive) (out []termRow) {
	add := func(dim, value string) {
		row := termRow{Tenant: key(d.Tenant), Directive: key(d.ID), Dim: dim, Value: key(value), Place: len(out)}
		if !slices.ContainsFunc(out, func(o termRow) bool { return o.Dim == dim && o.Value == row.Value }) {
			out = append(out, row)
		}
	}
	for _, v := range d.Principals {
		add(byPrincipal, v)
	}
	for _, v := range d.Roles {
		add(byRole, v)
	}
	for _, v := range d.Purposes {
		add(byPurpose, string(v))
	}
	for _, v := range d.Types {
		add(byType, v)
	}
	return out
}

func (r *directiveRow) directive() directive.Directive {
	return directive.Directive{ID: string(r.ID), Tenant: string(r.Tenant), Patient: string(r.Patient), Kind: directive.Kind(r.Kind), Basis: directive.Basis(r.Basis),
		Record: string(r.Record), Recipient: string(r.Recipient), From: fromMicros(r.Begun), Until: fromUntil(r.Ended), Event: directive.Event(r.Event),
		Document: r.Document, Ended: directive.Ending(r.Ending), Void: r.Void}
}

// Directives returns the store of directives.
func (s *Store) Directives() directive.Store { return directives{s} }

type directives struct{ s *Store }

// Add implements directive.Store.
func (s directives) Add(ctx context.Context, d directive.Directive, record func(context.Context) error) error {
	row := directiveRow{Tenant: key(d.Tenant), ID: key(d.ID), Patient: key(d.Patient), Record: key(d.Record), Kind: string(d.Kind), Basis: string(d.Basis),
		Recipient: key(d.Recipient), Begun: micros(d.From), Ended: untilMicros(d.Until), Ending: string(d.Ended), Void: d.Void, Event: string(d.Event), Document: d.Document,
		Anybody: len(d.Principals)+len(d.Roles) == 0, AnyPurpose: len(d.Purposes) == 0, AnyType: len(d.Types) == 0}
	of := terms(d)
	err := s.s.transaction(ctx, func(tx *gorm.DB) error {
		done := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if done.Error == nil && done.RowsAffected == 0 {
			return errors.New("the ID is taken")
		}
		if done.Error != nil {
			return done.Error
		}
		if len(of) > 0 {
			if err := tx.Create(&of).Error; err != nil {
				return err
			}
		}
		return record(ctx)
	})
	return failed("add directive", err)
}

// Change implements directive.Store.
func (s directives) Change(ctx context.Context, tenant, id string, change func(*directive.Directive) error, record func(context.Context, directive.Directive) error) error {
	err := s.s.transaction(ctx, func(tx *gorm.DB) error {
		// What changes nothing locks the row, on every database.
		one := tx.Model(&directiveRow{}).Where("tenant = ? AND id = ?", key(tenant), key(id)).Session(&gorm.Session{})
		if err := one.Update("begun", gorm.Expr("begun")).Error; err != nil {
			return err
		}
		kept, err := find(one)
		if err != nil {
			return err
		}
		if len(kept) == 0 {
			return directive.ErrNotFound
		}
		d := kept[0]
		if err := change(&d); err != nil {
			return err
		}
		if err := one.Updates(map[string]any{"ended": untilMicros(d.Until), "ending": string(d.Ended), "void": d.Void}).Error; err != nil {
			return err
		}
		will := kept[0]
		will.Until, will.Ended, will.Void = d.Until, d.Ended, d.Void
		return record(ctx, will)
	})
	return failed("change directive", err)
}

// List implements directive.Store.
func (s directives) List(ctx context.Context, tenant, patient, id string) ([]directive.Directive, error) {
	db := storage.Within(ctx, quiet(s.s.db)).Where("tenant = ?", key(tenant))
	if id != "" {
		db = db.Where("id = ?", key(id))
	}
	if id == "" || patient != "" {
		db = db.Where("patient = ?", key(patient))
	}
	out, err := find(db.Session(&gorm.Session{}))
	return out, failed("list directives", err)
}

// find reads directives with their lists.
func find(db *gorm.DB) ([]directive.Directive, error) {
	var rows []directiveRow
	if err := db.Order("id").Find(&rows).Error; err != nil || len(rows) == 0 {
		return nil, err
	}
	out := make([]directive.Directive, len(rows))
	at := map[key]*directive.Directive{}
	ids := make([]key, len(rows))
	for i := range rows {
		out[i] = rows[i].directive()
		at[rows[i].ID] = &out[i]
		ids[i] = rows[i].ID
	}
	for from := 0; from < len(ids); from += chunk {
		var of []termRow
		err := db.Session(&gorm.Session{NewDB: true}).Where("tenant = ? AND directive IN ?", rows[0].Tenant, ids[from:min(from+chunk, len(ids))]).Order("place").Find(&of).Error
		if err != nil {
			return nil, err
		}
		for _, t := range of {
			d, v := at[t.Directive], string(t.Value)
			switch t.Dim {
			case byPrincipal:
				d.Principals = append(d.Principals, v)
			case byRole:
				d.Roles = append(d.Roles, v)
			case byPurpose:
				d.Purposes = append(d.Purposes, access.Purpose(v))
			case byType:
				d.Types = append(d.Types, v)
			}
		}
	}
	return out, nil
}

// Patients implements directive.Store. The set is a storage.SetCondition.
func (s directives) Patients(q directive.Ask) access.Set { return directiveSet{s.s, q, "patient"} }

// Records implements directive.Store. The set is a storage.SetCondition.
func (s directives) Records(q directive.Ask) access.Set { return directiveSet{s.s, q, "record"} }

// A directiveSet is the patients, or the records, of the directives that a
// question is about.
type directiveSet struct {
	s      *Store
	q      directive.Ask
	column string
}

var _ storage.SetCondition = directiveSet{}

// Database implements storage.SetCondition.
func (s directiveSet) Database() *gorm.DB { return s.s.db }

// about is directive.Ask.About as a condition on phi_directives: false where the
// set of one tenant is asked about another's.
func (s directiveSet) about(tenant string) (sql string, vars []any) {
	q := s.q
	if tenant != q.Tenant || len(q.Kinds) == 0 {
		return "1 = 0", nil
	}
	const term = "id IN (SELECT directive FROM " + termTable + " WHERE " + termTable + ".tenant = ? AND "
	now := micros(q.At)
	sql = "tenant = ? AND kind IN ? AND void = ? AND begun <= ? AND ended > ? AND recipient = ? AND record "
	if s.column == "record" {
		sql += "<> ''"
	} else {
		sql += "= ''"
	}
	sql += " AND (anybody = ? OR " + term + "(dim = ? AND value = ? OR dim = ? AND value IN ?)))" +
		" AND (any_purpose = ? OR " + term + "dim = ? AND value IN ?))" +
		" AND (any_type = ? OR " + term + "dim = ? AND value = ?))"
	kinds := make([]string, len(q.Kinds))
	for i, k := range q.Kinds {
		kinds[i] = string(k)
	}
	roles, purposes := make([]key, len(q.Roles)), make([]key, len(q.Purposes))
	for i, r := range q.Roles {
		roles[i] = key(r)
	}
	for i, p := range q.Purposes {
		purposes[i] = key(p)
	}
	return sql, []any{key(tenant), kinds, false, now, now, key(q.Recipient),
		true, key(tenant), byPrincipal, key(q.Principal), byRole, roles,
		true, key(tenant), byPurpose, purposes,
		true, key(tenant), byType, key(q.Type)}
}

// Condition implements storage.SetCondition.
func (s directiveSet) Condition(tenant string, column clause.Column) (clause.Expression, error) {
	sql, vars := s.about(tenant)
	return within(s.s.db, column, s.column, directiveTable, sql, vars), nil
}

// Has implements access.Set.
func (s directiveSet) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sql, vars := s.about(tenant)
	in, err := has(ids, func(some []key) (found []key, err error) {
		err = storage.Within(ctx, quiet(s.s.db)).Model(&directiveRow{}).Where(sql, vars...).Where(s.column+" IN ?", some).Distinct().Pluck(s.column, &found).Error
		return found, err
	})
	return in, failed("ask directives", err)
}
