// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/table"
)

type relationRow struct {
	Tenant    key    `gorm:"primaryKey;index:phi_relations_principal,priority:1;index:phi_relations_patient,priority:1"`
	ID        key    `gorm:"primaryKey"`
	Patient   key    `gorm:"not null;index:phi_relations_patient,priority:2;index:phi_relations_principal,priority:3"`
	Principal key    `gorm:"not null;index:phi_relations_principal,priority:2"`
	Kind      string `gorm:"not null;size:16"`
	Begun     int64  `gorm:"not null"`
	Ended     int64  `gorm:"not null"`
	Void      bool   `gorm:"not null"`
	Version   int64  `gorm:"not null"`
	MAC       []byte `gorm:"column:mac;not null;size:64"`
}

func (relationRow) TableName() string { return relationTable }

const relationTable = "phi_relations"

func (r *relationRow) relation() relation.Relation {
	return relation.Relation{ID: string(r.ID), Tenant: string(r.Tenant), Patient: string(r.Patient), Principal: string(r.Principal),
		Kind: relation.Kind(r.Kind), From: fromMicros(r.Begun), Until: fromUntil(r.Ended), Void: r.Void, Version: r.Version}
}

func (r *relationRow) signed() (field, text string, mac []byte) {
	s := statement(nil).text(string(r.Tenant), string(r.ID), string(r.Patient), string(r.Principal), r.Kind).number(r.Begun, r.Ended, r.Version).yes(r.Void)
	return relationField, string(s), r.MAC
}

func (r *relationRow) object() audit.Object {
	return audit.Object{Type: relation.Resource, Tenant: string(r.Tenant), Record: string(r.ID), Patient: string(r.Patient), Version: r.Version}
}

// Relations returns the store of relations.
func (s *Store) Relations() relation.Store { return relations{s} }

type relations struct{ s *Store }

// Add implements relation.Store.
func (s relations) Add(ctx context.Context, r relation.Relation, ev audit.Event) error {
	row := relationRow{Tenant: key(r.Tenant), ID: key(r.ID), Patient: key(r.Patient), Principal: key(r.Principal),
		Kind: string(r.Kind), Begun: micros(r.From), Ended: untilMicros(r.Until), Void: r.Void, Version: 1}
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
		return done.Error
	})
	return failed("add relation", err)
}

// Change implements relation.Store.
func (s relations) Change(ctx context.Context, tenant, id string, change func(*relation.Relation) error, event func(relation.Relation) audit.Event) error {
	err := s.s.transaction(ctx, func(tx *gorm.DB) error {
		// What changes nothing locks the row, on every database.
		one := tx.Model(&relationRow{}).Where("tenant = ? AND id = ?", key(tenant), key(id)).Session(&gorm.Session{})
		if err := one.Update("begun", gorm.Expr("begun")).Error; err != nil {
			return err
		}
		var rows []relationRow
		if err := one.Limit(1).Find(&rows).Error; err != nil {
			return err
		}
		if len(rows) == 0 {
			return relation.ErrNotFound
		}
		row := &rows[0]
		if ok, err := s.s.sign.genuine(ctx, row); !ok {
			return errors.Join(ErrForged, err)
		}
		r := row.relation()
		if err := change(&r); err != nil {
			return err
		}
		row.Ended, row.Void, row.Version = untilMicros(r.Until), r.Void, row.Version+1
		mac, err := s.s.sign.of(ctx, row)
		if err != nil {
			return err
		}
		if err := storage.Attempt(ctx, tx, changed(event(row.relation()), row, mac)); err != nil {
			return err
		}
		return one.Updates(map[string]any{"ended": row.Ended, "void": row.Void, "version": row.Version, "mac": mac}).Error
	})
	return failed("change relation", err)
}

// List implements relation.Store.
func (s relations) List(ctx context.Context, tenant string, q relation.Query) ([]relation.Relation, error) {
	db := storage.Within(ctx, table.Quiet(s.s.db)).Where("tenant = ?", key(tenant))
	for column, id := range map[string]string{"id": q.ID, "patient": q.Patient, "principal": q.Principal} {
		if id != "" {
			db = db.Where(clause.Eq{Column: clause.Column{Name: column}, Value: key(id)})
		}
	}
	if len(q.Kinds) > 0 {
		db = db.Where("kind IN ?", q.Kinds)
	}
	var rows []relationRow
	if err := db.Order("id").Find(&rows).Error; err != nil {
		return nil, failed("list relations", err)
	}
	rows, err := genuine(ctx, s.s.sign, rows)
	if err != nil {
		return nil, failed("list relations", err)
	}
	out := make([]relation.Relation, len(rows))
	for i := range rows {
		out[i] = rows[i].relation()
	}
	return out, nil
}

// Set implements relation.Store. The set is a storage.SetCondition.
func (s relations) Set(q relation.Reach) access.Set {
	q.Kinds = maps.Clone(q.Kinds)
	return relationSet{s.s, q}
}

// A relationSet is the patients to whom a principal is related.
type relationSet struct {
	s *Store
	q relation.Reach
}

var _ storage.SetCondition = relationSet{}

// Database implements storage.SetCondition.
func (s relationSet) Database() *gorm.DB { return s.s.db }

// live is the condition on phi_relations that a row is one of the set: false
// where the set of one tenant is asked about another's.
func (s relationSet) live(tenant string) (sql string, vars []any) {
	if tenant != s.q.Tenant || len(s.q.Kinds) == 0 {
		return "1 = 0", nil
	}
	by := map[relation.Window][]string{}
	for k, w := range s.q.Kinds {
		by[w] = append(by[w], string(k))
	}
	windows := slices.SortedFunc(maps.Keys(by), func(a, b relation.Window) int { // one text for one reach
		if a.Before != b.Before {
			return int(max(-1, min(1, a.Before-b.Before)))
		}
		return int(max(-1, min(1, a.After-b.After)))
	})
	var kinds []string
	for _, w := range windows {
		slices.Sort(by[w])
		kinds = append(kinds, "kind IN ? AND begun <= ? AND ended > ?")
		vars = append(vars, by[w], micros(s.q.At.Add(w.Before)), endAfter(s.q.At, w.After))
	}
	sql = "tenant = ? AND principal = ? AND void = ? AND (" + strings.Join(kinds, " OR ") + ")"
	vars = append([]any{key(tenant), key(s.q.Principal), false}, vars...)
	if s.q.Patient != "" {
		sql, vars = "patient = ? AND "+sql, append([]any{key(s.q.Patient)}, vars...)
	}
	return sql, vars
}

// endAfter is what the end of a relation is later than.
func endAfter(at time.Time, after time.Duration) int64 { return micros(at.Add(-after)) }

// Condition implements storage.SetCondition.
func (s relationSet) Condition(tenant string, column clause.Column) (clause.Expression, error) {
	sql, vars := s.live(tenant)
	return within(s.s.db, column, "patient", relationTable, sql, vars), nil
}

// Has implements access.Set.
func (s relationSet) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sql, vars := s.live(tenant)
	in, err := has(ids, func(some []key) (found []key, err error) {
		var rows []relationRow
		if err := storage.Within(ctx, table.Quiet(s.s.db)).Where(sql, vars...).Where("patient IN ?", some).Find(&rows).Error; err != nil {
			return nil, err
		}
		if rows, err = genuine(ctx, s.s.sign, rows); err != nil {
			return nil, err
		}
		for i := range rows {
			found = append(found, rows[i].Patient)
		}
		return found, nil
	})
	return in, failed("ask relations", err)
}

// failed says what could not be done; the errors that callers know pass.
func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("accessstore: %s: %w", what, err)
}
