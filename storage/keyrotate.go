// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/crypto"
)

// LockKeys implements crypto.KeyRows. SQLite's transactions are immediate and
// need no lock.
func (k *keyRows) LockKeys(ctx context.Context, tenant, use string) error {
	var r tenantKey
	err := k.db(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("tenant_id = ? AND purpose = ?", tenant, use).Take(&r).Error
	if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
		return fmt.Errorf("storage: lock phi_tenant_keys: %w", err)
	}
	return nil
}

// ReplaceTenantKeyset implements crypto.KeyRows.
func (k *keyRows) ReplaceTenantKeyset(ctx context.Context, tenant, use string, old, wrapped []byte) error {
	db := k.db(ctx).Model(&tenantKey{}).Where("tenant_id = ? AND purpose = ? AND wrapped = ?", tenant, use, old).Update("wrapped", wrapped)
	return replaced(db, "phi_tenant_keys")
}

// ReplaceSubjectKey implements crypto.KeyRows.
func (k *keyRows) ReplaceSubjectKey(ctx context.Context, row crypto.KeyRow, old []byte) error {
	db := k.db(ctx).Model(&subjectKey{}).Where("tenant_id = ? AND subject_id = ? AND version = ? AND wrapped = ?", row.Tenant, row.Subject, row.Version, old).Update("wrapped", row.Wrapped)
	return replaced(db, "phi_subject_keys")
}

func replaced(db *gorm.DB, table string) error {
	if db.Error != nil {
		return fmt.Errorf("storage: update %s: %w", table, db.Error)
	}
	if db.RowsAffected != 1 {
		return fmt.Errorf("storage: update %s: %w", table, crypto.ErrKeyLost)
	}
	return nil
}

// DeleteSubjectKey implements crypto.KeyRows.
func (k *keyRows) DeleteSubjectKey(ctx context.Context, tenant, subject string, version uint32) error {
	err := k.db(ctx).Where("tenant_id = ? AND subject_id = ? AND version = ? AND shredded = ?", tenant, subject, version, false).Delete(&subjectKey{}).Error
	if err != nil {
		return fmt.Errorf("storage: delete from phi_subject_keys: %w", err)
	}
	return nil
}

// CountOthers implements crypto.KeyRows.
func (k *keyRows) CountOthers(ctx context.Context, tenant string, prefix []byte) (int64, error) {
	var n int64
	err := k.db(ctx).Model(&subjectKey{}).Where("tenant_id = ? AND shredded = ? AND (wrapped IS NULL OR substr(wrapped, 1, ?) <> ?)", tenant, false, len(prefix), prefix).Count(&n).Error
	if err != nil {
		return 0, fmt.Errorf("storage: count phi_subject_keys: %w", err)
	}
	return n, nil
}

// BumpGeneration implements crypto.KeyRows.
func (k *keyRows) BumpGeneration(ctx context.Context) error {
	db := k.db(ctx).Model(&metaRow{}).Where("id = ?", 1).Update("generation", gorm.Expr("generation + 1"))
	return replaced(db, "phi_meta")
}
