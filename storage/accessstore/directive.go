// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/table"
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

	// The lists, separated by spaces, which nothing in them has. Those of terms
	// are the same for SQL.
	Principals string `gorm:"not null;type:text"`
	Roles      string `gorm:"not null;type:text"`
	Purposes   string `gorm:"not null;type:text"`
	Types      string `gorm:"not null;type:text"`

	Version int64  `gorm:"not null"`
	MAC     []byte `gorm:"column:mac;not null;size:64"`

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
		Document: r.Document, Ended: directive.Ending(r.Ending), Void: r.Void, Version: r.Version,
		Principals: strings.Fields(r.Principals), Roles: strings.Fields(r.Roles), Purposes: list[access.Purpose](r.Purposes), Types: strings.Fields(r.Types)}
}

func list[S ~string](text string) (out []S) {
	for _, v := range strings.Fields(text) {
		out = append(out, S(v))
	}
	return out
}

func joined[S ~string](list []S) string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return strings.Join(out, " ")
}

func (r *directiveRow) signed() (field, text string, mac []byte) {
	s := statement(nil).text(string(r.Tenant), string(r.ID), string(r.Patient), string(r.Record), r.Kind, r.Basis, string(r.Recipient), r.Ending, r.Event, r.Document).
		text(r.Principals, r.Roles, r.Purposes, r.Types).number(r.Begun, r.Ended, r.Version).yes(r.Void, r.Anybody, r.AnyPurpose, r.AnyType)
	return directiveField, string(s), r.MAC
}

func (r *directiveRow) object() audit.Object {
	return audit.Object{Type: directive.Resource, Tenant: string(r.Tenant), Record: string(r.ID), Patient: string(r.Patient), Version: r.Version}
}

// Directives returns the store of directives.
func (s *Store) Directives() directive.Store { return directives{s} }

type directives struct{ s *Store }

// Add implements directive.Store.
func (s directives) Add(ctx context.Context, d directive.Directive, ev audit.Event) error {
	row := directiveRow{Tenant: key(d.Tenant), ID: key(d.ID), Patient: key(d.Patient), Record: key(d.Record), Kind: string(d.Kind), Basis: string(d.Basis),
		Recipient: key(d.Recipient), Begun: micros(d.From), Ended: untilMicros(d.Until), Ending: string(d.Ended), Void: d.Void, Event: string(d.Event), Document: d.Document,
		Principals: joined(d.Principals), Roles: joined(d.Roles), Purposes: joined(d.Purposes), Types: joined(d.Types), Version: 1,
		Anybody: len(d.Principals)+len(d.Roles) == 0, AnyPurpose: len(d.Purposes) == 0, AnyType: len(d.Types) == 0}
	of := terms(d)
	err := s.s.transaction(ctx, func(tx *gorm.DB) (err error) {
		if row.MAC, err = s.s.sign.of(ctx, &row); err != nil {
			return err
		}
		if err = storage.Attempt(ctx, tx, changed(ev, &row, row.MAC)); err != nil {
			return err
		}
		done := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if done.Error == nil && done.RowsAffected == 0 {
			return errors.New("the ID is taken")
		}
		if done.Error != nil {
			return done.Error
		}
		if len(of) > 0 {
			return tx.Create(&of).Error
		}
		return nil
	})
	return failed("add directive", err)
}

// Change implements directive.Store.
func (s directives) Change(ctx context.Context, tenant, id string, change func(*directive.Directive) error, event func(directive.Directive) audit.Event) error {
	err := s.s.transaction(ctx, func(tx *gorm.DB) error {
		// What changes nothing locks the row, on every database.
		one := tx.Model(&directiveRow{}).Where("tenant = ? AND id = ?", key(tenant), key(id)).Session(&gorm.Session{})
		if err := one.Update("begun", gorm.Expr("begun")).Error; err != nil {
			return err
		}
		var rows []directiveRow
		if err := one.Limit(1).Find(&rows).Error; err != nil {
			return err
		}
		if len(rows) == 0 {
			return directive.ErrNotFound
		}
		row := &rows[0]
		if ok, err := s.s.sign.genuine(ctx, row); !ok {
			return errors.Join(ErrForged, err)
		}
		d := row.directive()
		if err := change(&d); err != nil {
			return err
		}
		row.Ended, row.Ending, row.Void, row.Version = untilMicros(d.Until), string(d.Ended), d.Void, row.Version+1
		mac, err := s.s.sign.of(ctx, row)
		if err != nil {
			return err
		}
		if err := storage.Attempt(ctx, tx, changed(event(row.directive()), row, mac)); err != nil {
			return err
		}
		return one.Updates(map[string]any{"ended": row.Ended, "ending": row.Ending, "void": row.Void, "version": row.Version, "mac": mac}).Error
	})
	return failed("change directive", err)
}

// List implements directive.Store.
func (s directives) List(ctx context.Context, tenant, patient, id string) ([]directive.Directive, error) {
	db := storage.Within(ctx, table.Quiet(s.s.db)).Where("tenant = ?", key(tenant))
	if id != "" {
		db = db.Where("id = ?", key(id))
	}
	if id == "" || patient != "" {
		db = db.Where("patient = ?", key(patient))
	}
	var rows []directiveRow
	err := db.Order("id").Find(&rows).Error
	if err == nil {
		rows, err = genuine(ctx, s.s.sign, rows)
	}
	if err != nil {
		return nil, failed("list directives", err)
	}
	out := make([]directive.Directive, len(rows))
	for i := range rows {
		out[i] = rows[i].directive()
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

// Has implements access.Set. It reads every row of the patients or records, what
// it says included, so that one that was edited to say nothing any more is found:
// as if it denied, where the question is about what denies.
func (s directiveSet) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if tenant != s.q.Tenant || len(s.q.Kinds) == 0 {
		return make([]bool, len(ids)), nil
	}
	denies := slices.ContainsFunc(s.q.Kinds, func(k directive.Kind) bool { return k == directive.Restriction || k == directive.Hold })
	in, err := has(ids, func(some []key) (found []key, err error) {
		var rows []directiveRow
		if err := storage.Within(ctx, table.Quiet(s.s.db)).Where("tenant = ?", key(tenant)).Where(s.column+" IN ?", some).Find(&rows).Error; err != nil {
			return nil, err
		}
		for i := range rows {
			r := &rows[i]
			id := r.Patient
			if s.column == "record" {
				id = r.Record
			}
			ok, err := s.s.sign.genuine(ctx, r)
			if err != nil {
				return nil, err
			}
			if !ok && denies || ok && (r.Record != "") == (s.column == "record") && s.q.About(r.directive()) {
				found = append(found, id)
			}
		}
		return found, nil
	})
	return in, failed("ask directives", err)
}
