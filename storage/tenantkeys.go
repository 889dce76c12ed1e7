// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage/internal/again"
)

// firstKeys makes the keys of a tenant that has none in a transaction of their
// own, before the first that writes. MariaDB needs it: there, the writers that
// wait for another's first keys deadlock if it rolls back. It is a help only:
// where it fails, the writing transaction makes the keys, or says why not.
func (c *pool) firstKeys(ctx context.Context) {
	s, err := access.From(ctx)
	if err != nil {
		return
	}
	tenant := s.Principal().Tenant
	if _, done := c.tenants.Load(tenant); done {
		return
	}
	select { // one at a time in this process
	case c.making <- struct{}{}:
		defer func() { <-c.making }()
	case <-ctx.Done():
		return
	}
	if again.Do(ctx, func() error { return c.makeFirstKeys(ctx, tenant) }) == nil {
		c.tenants.Store(tenant, nil)
	}
}

func (c *pool) makeFirstKeys(ctx context.Context, tenant string) error {
	rows := &keyRows{plugin: c.plugin, conn: c.ConnPool}
	var n int64
	if err := rows.db(ctx).Model(&tenantKey{}).Where("tenant_id = ?", tenant).Count(&n).Error; err != nil {
		return err
	}
	var subjects int64
	if n == 0 { // a lost key is not replaced while what it wraps is there
		if err := rows.db(ctx).Model(&subjectKey{}).Where("tenant_id = ?", tenant).Limit(1).Count(&subjects).Error; err != nil {
			return err
		}
	}
	if n >= 2 || subjects > 0 {
		return nil
	}
	tx, err := c.start(ctx, nil)
	if err != nil {
		return err
	}
	keys := c.plugin.keys.Begin(&keyRows{plugin: c.plugin, conn: tx})
	if n == 0 {
		_, err = keys.SealingKeys(ctx, tenant, nil)
	}
	if err == nil {
		_, err = keys.IndexingKeys(ctx, tenant)
	}
	if err == nil {
		err = keys.Precommit(ctx)
	}
	if err != nil {
		_ = tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	keys.Publish()
	return nil
}
