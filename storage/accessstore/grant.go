// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/storage/internal/table"
)

// Grants returns the store of grants.
func (s *Store) Grants() grant.Store { return grants{s.db, s.sign} }

type grants struct {
	db   *gorm.DB
	sign *signer
}

const (
	byID    = "tenant = ? AND id = ?"
	inForce = "state = 'active' AND until_at > ? AND (max_uses = 0 OR uses < max_uses)" // takes the time
)

func locked() clause.Locking { return clause.Locking{Strength: clause.LockingStrengthUpdate} }

// Create implements [grant.Store].
func (s grants) Create(ctx context.Context, g grant.Grant, keep func(grant.Grant) bool) (out grant.Grant, made bool, err error) {
	g.Version = 1
	err = s.transaction(ctx, "create grant", func(ctx context.Context, tx *gorm.DB) error {
		for {
			row := grantRowOf(&g)
			if row.MAC, err = s.sign.of(ctx, &row); err != nil {
				return err
			}
			done := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
			if done.Error != nil {
				return done.Error
			}
			if done.RowsAffected > 0 {
				out, made = g, true
				return s.addSteps(ctx, tx, &g, 0, g.Steps)
			}
			var old grantRow
			found := tx.Clauses(locked()).Where("open_key = ?", *row.OpenKey).Limit(1).Find(&old)
			if found.Error != nil {
				return found.Error
			}
			if found.RowsAffected == 0 {
				var same int64
				if err := tx.Model(&grantRow{}).Where(byID, row.Tenant, row.ID).Count(&same).Error; err != nil {
					return err
				}
				if same > 0 {
					return &ownError{fmt.Errorf("accessstore: create grant: there is one with this ID")}
				}
				continue // it lost its key meanwhile
			}
			ok, err := s.sign.genuine(ctx, &old)
			if err != nil {
				return err
			}
			if was := old.grant(); ok && keep(was) {
				out, made = was, false
				return nil
			}
			if err := tx.Model(&grantRow{}).Where(byID, old.Tenant, old.ID).Update("open_key", nil).Error; err != nil {
				return err
			}
		}
	})
	if err != nil {
		return grant.Grant{}, false, err
	}
	return out, made, nil
}

func (s grants) addSteps(ctx context.Context, tx *gorm.DB, g *grant.Grant, from int, steps []grant.Step) (err error) {
	for i := range steps {
		row := stepRowOf(g.Tenant, g.ID, from+i, &steps[i])
		if row.MAC, err = s.sign.of(ctx, &row); err != nil {
			return err
		}
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
	}
	return nil
}

// Grant implements [grant.Store].
func (s grants) Grant(ctx context.Context, tenant, id string) (grant.Grant, error) {
	out, err := s.read(ctx, "read grant", s.on(ctx).Where(byID, key(tenant), key(id)).Limit(1))
	if err != nil {
		return grant.Grant{}, err
	}
	if len(out) == 0 {
		return grant.Grant{}, grant.ErrNotFound
	}
	return out[0], nil
}

// edit makes of a grant what f makes of its row, which no other transaction
// changes meanwhile, unless f says that nothing is to change.
func (s grants) edit(ctx context.Context, tx *gorm.DB, tenant, id key, f func(row *grantRow) (bool, error)) (changed bool, err error) {
	// What changes nothing locks the row, on every database.
	one := tx.Model(&grantRow{}).Where(byID, tenant, id).Session(&gorm.Session{})
	if err := one.Update("version", gorm.Expr("version")).Error; err != nil {
		return false, err
	}
	var rows []grantRow
	if err := one.Limit(1).Find(&rows).Error; err != nil {
		return false, err
	}
	if len(rows) == 0 {
		return false, &ownError{grant.ErrNotFound}
	}
	row := &rows[0]
	if ok, err := s.sign.genuine(ctx, row); !ok {
		return false, errors.Join(&ownError{ErrForged}, err)
	}
	if changed, err = f(row); err != nil || !changed {
		return false, err
	}
	if row.MAC, err = s.sign.of(ctx, row); err != nil {
		return false, err
	}
	return true, one.Select("state", "from_at", "until_at", "ended", "review_by", "reviewed", "finding", "alert_at", "uses", "version", "mac").Updates(row).Error
}

// read returns the grants that q selects, with their steps.
func (s grants) read(ctx context.Context, what string, q *gorm.DB) ([]grant.Grant, error) {
	var rows []grantRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("accessstore: %s: %w", what, err)
	}
	rows, err := genuine(ctx, s.sign, rows)
	if err != nil {
		return nil, err
	}
	out := make([]grant.Grant, len(rows))
	at := make(map[[2]key]int, len(rows))
	byTenant := make(map[key][]key)
	for i := range rows {
		out[i] = rows[i].grant()
		at[[2]key{rows[i].Tenant, rows[i].ID}] = i
		byTenant[rows[i].Tenant] = append(byTenant[rows[i].Tenant], rows[i].ID)
	}
	for tenant, ids := range byTenant {
		var steps []stepRow
		if err := s.on(ctx).Where("tenant = ? AND grant_id IN ?", tenant, ids).Order("grant_id, n").Find(&steps).Error; err != nil {
			return nil, fmt.Errorf("accessstore: %s: %w", what, err)
		}
		if steps, err = genuine(ctx, s.sign, steps); err != nil {
			return nil, err
		}
		for i := range steps {
			g := &out[at[[2]key{tenant, steps[i].GrantID}]]
			g.Steps = append(g.Steps, steps[i].step())
		}
	}
	return out, nil
}

// Change implements [grant.Store]. A check queues at the tenant's lock.
func (s grants) Change(ctx context.Context, g grant.Grant, step *grant.Step, check func(context.Context) error) (ok bool, err error) {
	row := grantRowOf(&g)
	err = s.transaction(ctx, "change grant", func(ctx context.Context, tx *gorm.DB) error {
		ok = false
		if check != nil {
			if err := lockTenant(tx, row.Tenant); err != nil {
				return err
			}
			if err := check(ctx); err != nil {
				return &ownError{err}
			}
		}
		ok, err = s.edit(ctx, tx, row.Tenant, row.ID, func(r *grantRow) (bool, error) {
			if r.Version != row.Version {
				return false, nil
			}
			r.State, r.From, r.Until, r.Ended, r.ReviewBy, r.Reviewed = row.State, row.From, row.Until, row.Ended, row.ReviewBy, row.Reviewed
			r.Finding, r.AlertAt, r.Version = row.Finding, row.AlertAt, row.Version+1
			return true, nil
		})
		if err != nil || !ok {
			return err
		}
		if step == nil {
			return nil
		}
		var there int64
		if err := tx.Model(&stepRow{}).Where("tenant = ? AND grant_id = ?", row.Tenant, row.ID).Count(&there).Error; err != nil {
			return err
		}
		return s.addSteps(ctx, tx, &g, int(there), []grant.Step{*step})
	})
	return ok && err == nil, err
}

// lockTenant waits until no other transaction holds the tenant's lock, and holds
// it until tx ends.
func lockTenant(tx *gorm.DB, tenant key) error {
	if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&lockRow{tenant}).Error; err != nil {
		return err
	}
	return tx.Clauses(locked()).Where("tenant = ?", tenant).Take(&lockRow{}).Error
}

// Use implements [grant.Store]. Inside a transaction the use counts with it.
func (s grants) Use(ctx context.Context, tenant, id string, at time.Time) (used bool, err error) {
	err = s.transaction(ctx, "use grant", func(ctx context.Context, tx *gorm.DB) error {
		used, err = s.edit(ctx, tx, key(tenant), key(id), func(r *grantRow) (bool, error) {
			if g := r.grant(); g.At(at) != grant.Active {
				return false, nil
			}
			r.Uses++
			return true, nil
		})
		return err
	})
	if errors.Is(err, grant.ErrNotFound) {
		return false, nil
	}
	return used && err == nil, err
}

// Settle implements [grant.Store]. The grant's row is locked first: of two steps
// that are settled at once the later one sees that nothing is owed any more.
func (s grants) Settle(ctx context.Context, tenant, id string, n int) error {
	return s.transaction(ctx, "settle grant", func(ctx context.Context, tx *gorm.DB) error {
		steps := tx.Model(&stepRow{}).Where("tenant = ? AND grant_id = ?", key(tenant), key(id)).Session(&gorm.Session{})
		_, err := s.edit(ctx, tx, key(tenant), key(id), func(r *grantRow) (bool, error) {
			var there, owed int64
			if err := steps.Where("n = ?", n).Count(&there).Error; err != nil {
				return false, err
			}
			if there == 0 {
				return false, &ownError{grant.ErrNotFound}
			}
			if err := steps.Where("n = ?", n).Update("owed", 0).Error; err != nil {
				return false, err
			}
			if err := steps.Where("owed <> 0").Count(&owed).Error; err != nil || owed > 0 || r.State != key(grant.Approved) {
				return false, err
			}
			r.State, r.Version = key(grant.Active), r.Version+1
			return true, nil
		})
		return err
	})
}

// Live implements [grant.Store].
func (s grants) Live(ctx context.Context, tenant, holder string, at time.Time) ([]grant.Grant, error) {
	var rows []grantRow
	err := s.on(ctx).Where("tenant = ? AND holder = ? AND "+inForce, key(tenant), key(holder), table.Nanos(at)).Order("created, id").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("accessstore: live grants: %w", err)
	}
	if rows, err = genuine(ctx, s.sign, rows); err != nil {
		return nil, err
	}
	out := make([]grant.Grant, len(rows))
	for i := range rows {
		out[i] = rows[i].grant()
	}
	return out, nil
}

// List implements [grant.Store].
func (s grants) List(ctx context.Context, q grant.Query) ([]grant.Grant, error) {
	db := s.on(ctx).Where("tenant = ?", key(q.Tenant))
	if q.ToReview {
		db = db.Order("review_by")
	}
	db = db.Order("created DESC, id DESC")
	for _, c := range []struct {
		column string
		value  key
	}{{"holder", key(q.Holder)}, {"role", key(q.Role)}, {"kind", key(q.Kind)}} {
		if c.value != "" {
			db = db.Where(c.column+" = ?", c.value)
		}
	}
	if len(q.States) > 0 {
		var states []key
		for _, s := range q.States {
			states = append(states, key(s))
		}
		db = db.Where("state IN ?", states)
	}
	if q.ToReview {
		db = db.Where("review_by <> 0 AND reviewed = 0")
	}
	if !q.Since.IsZero() {
		db = db.Where("created >= ?", table.Nanos(q.Since))
	}
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	return s.read(ctx, "list grants", db.Limit(q.Limit))
}

// Owed implements [grant.Store].
func (s grants) Owed(ctx context.Context, before, at time.Time, limit int) ([]grant.Grant, error) {
	const what = "owed steps"
	const due = "owed <> 0 AND owed <= ?"
	var of []stepRow
	if err := s.on(ctx).Distinct("tenant", "grant_id").Where(due, table.Nanos(before)).Limit(limit).Find(&of).Error; err != nil {
		return nil, fmt.Errorf("accessstore: %s: %w", what, err)
	}
	var out []grant.Grant
	for _, r := range of {
		err := s.transaction(ctx, what, func(ctx context.Context, tx *gorm.DB) error {
			mine := tx.Model(&stepRow{}).Where("tenant = ? AND grant_id = ?", r.Tenant, r.GrantID).Session(&gorm.Session{})
			var rows []stepRow
			if err := mine.Clauses(locked()).Where(due, table.Nanos(before)).Find(&rows).Error; err != nil || len(rows) == 0 {
				return err
			}
			if err := mine.Where("owed <> 0").Update("owed", table.Nanos(at)).Error; err != nil {
				return err
			}
			g, err := s.Grant(ctx, string(r.Tenant), string(r.GrantID))
			if err == nil {
				out = append(out, g)
			}
			return err
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// Alerts implements [grant.Store]. Each row is claimed by a transaction of its
// own, so that nodes hardly wait for each other.
func (s grants) Alerts(ctx context.Context, at, again time.Time, limit int) ([]grant.Grant, error) {
	const what = "due alerts"
	due, err := s.read(ctx, what, s.on(ctx).Where("alert_at <> 0 AND alert_at <= ?", table.Nanos(at)).Order("alert_at").Limit(limit))
	var out []grant.Grant
	for i := range due {
		ok, err := s.realert(ctx, what, due[i].Tenant, due[i].ID, due[i].AlertAt, again)
		if err != nil {
			return out, err
		}
		if ok {
			due[i].AlertAt = again
			out = append(out, due[i])
		}
	}
	return out, err
}

// Alerted implements [grant.Store].
func (s grants) Alerted(ctx context.Context, tenant, id string, again, next time.Time) error {
	_, err := s.realert(ctx, "settle alert", tenant, id, again, next)
	return err
}

func (s grants) realert(ctx context.Context, what, tenant, id string, old, at time.Time) (bool, error) {
	changed := false
	err := s.transaction(ctx, what, func(ctx context.Context, tx *gorm.DB) (err error) {
		changed, err = s.edit(ctx, tx, key(tenant), key(id), func(r *grantRow) (bool, error) {
			was := r.AlertAt
			r.AlertAt = table.Nanos(at)
			return was == table.Nanos(old), nil
		})
		return err
	})
	if errors.Is(err, grant.ErrNotFound) {
		return false, nil
	}
	return changed && err == nil, err
}

// Over implements [grant.Store].
func (s grants) Over(ctx context.Context, at time.Time, limit int) ([]grant.Grant, error) {
	return s.read(ctx, "grants that are over", s.on(ctx).
		Where("state IN ('requested', 'approved', 'active') AND (until_at <= ? OR max_uses > 0 AND uses >= max_uses)", table.Nanos(at)).Order("until_at").Limit(limit))
}
