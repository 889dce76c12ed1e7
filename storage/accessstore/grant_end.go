// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/table"
)

// Terminate ends every grant and request of a user on the open transaction tx,
// and returns how many: the store is a policystore.Holder. The steps are recorded
// in the trail by grant.Desk.Run.
func (s *Store) Terminate(ctx context.Context, tx *gorm.DB, tenant, user string, at time.Time) (int, error) {
	ended, err := s.endGrants(ctx, table.Quiet(tx).WithContext(ctx), key(tenant), key(user), at)
	if err != nil {
		return 0, fmt.Errorf("accessstore: terminate: %w", err)
	}
	return ended, nil
}

func (s *Store) endGrants(ctx context.Context, tx *gorm.DB, tenant, user key, at time.Time) (ended int, err error) {
	by, ok := access.PrincipalFrom(ctx)
	if !ok || by.Tenant != string(tenant) {
		by = access.Principal{} // an operator of another tenant: the policy's history names it
	}
	var rows []grantRow
	open := []key{key(grant.Requested), key(grant.Approved), key(grant.Active)}
	if err := tx.Clauses(locked()).Where("tenant = ? AND holder = ? AND state IN ?", tenant, user, open).Find(&rows).Error; err != nil {
		return 0, err
	}
	for i := range rows {
		r := &rows[i]
		g := r.grant()
		if s := g.At(at); s == grant.Expired || s == grant.UsedUp {
			continue // the sweep says so
		}
		ok, err := s.sign.genuine(ctx, r)
		if err != nil {
			return 0, err
		}
		r.State, r.Ended, r.Version = key(grant.Revoked), table.Nanos(at), r.Version+1
		if ok { // a forged row stays one
			if r.MAC, err = s.sign.of(ctx, r); err != nil {
				return 0, err
			}
		}
		done := tx.Model(r).Select("state", "ended", "version", "mac").Updates(r)
		if done.Error != nil {
			return 0, done.Error
		}
		var n int64
		if err := tx.Model(&stepRow{}).Where("tenant = ? AND grant_id = ?", r.Tenant, r.ID).Count(&n).Error; err != nil {
			return 0, err
		}
		step := grant.Step{Act: grant.ActEnd, By: by, At: at, Reason: audit.ReasonRevoked, Owed: at}
		if err := s.Grants().(grants).addSteps(ctx, tx, &g, int(n), []grant.Step{step}); err != nil {
			return 0, err
		}
		ended++
	}
	return ended, nil
}

// LockRoles waits until no other transaction is about to change which roles
// somebody of the tenant holds, and keeps others waiting until tx ends. Grants
// take this lock where they come into force; for separation of duties whoever
// assigns roles takes it too, before it asks duty.Separation:
// policystore.Config.Validate, for instance.
func (s *Store) LockRoles(ctx context.Context, tx *gorm.DB, tenant string) error {
	if err := lockTenant(table.Quiet(tx).WithContext(ctx), key(tenant)); err != nil {
		return fmt.Errorf("accessstore: lock roles: %w", err)
	}
	return nil
}
