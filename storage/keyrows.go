// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/crypto"
)

// The SDK's own tables. None holds PHI in clear; phi_index and
// phi_subject_keys are as sensitive as the data.
type (
	tenantKey struct {
		TenantID  string `gorm:"primaryKey;size:64"`
		Purpose   string `gorm:"primaryKey;size:16"` // "wrap" or "index"
		Wrapped   []byte `gorm:"not null"`
		CreatedAt time.Time
	}
	subjectKey struct {
		TenantID  string `gorm:"primaryKey;size:64"`
		SubjectID string `gorm:"primaryKey;size:64"`
		Version   uint32 `gorm:"primaryKey;autoIncrement:false"`
		Wrapped   []byte
		Shredded  bool `gorm:"not null"`
		Closed    bool `gorm:"not null;default:false"` // of a duplicate that was merged: opens, seals nothing new
		CreatedAt time.Time
	}
	outboxRow struct {
		Attempt string `gorm:"primaryKey;size:64"`
		Writer  string `gorm:"size:64;not null;index"`
		Digest  []byte `gorm:"not null"`
		MAC     []byte `gorm:"column:mac;not null"`
	}
	tableRow struct { // a table with PHI, for processes that have not used its model yet
		Name string `gorm:"primaryKey;size:64"`
	}
	metaRow struct {
		ID         int    `gorm:"primaryKey;autoIncrement:false"`
		DatabaseID string `gorm:"size:36;not null"`
		Generation uint64 `gorm:"not null"`           // of the keys: changes with every one shredded or retired
		Tombstones uint64 `gorm:"not null;default:0"` // shredded patients so far
		Absent     uint64 `gorm:"not null;default:0"` // those of them without a tombstone, because this copy is older than the patient
		MAC        []byte `gorm:"column:mac"`         // over all but Generation; NULL before the first Migrate
	}
)

func (tenantKey) TableName() string  { return "phi_tenant_keys" }
func (subjectKey) TableName() string { return "phi_subject_keys" }
func (outboxRow) TableName() string  { return "phi_outbox" }
func (tableRow) TableName() string   { return "phi_tables" }
func (metaRow) TableName() string    { return "phi_meta" }

// ownModels are the SDK's own tables. A change here needs its step in migrations/.
func ownModels() []any {
	return []any{&metaRow{}, &tenantKey{}, &subjectKey{}, &outboxRow{}, &indexRow{}, &tableRow{}, &jobRow{}, &mergeRow{}, &fileRecord{}}
}

var ownTables = map[string]bool{"phi_tenant_keys": true, "phi_subject_keys": true, "phi_outbox": true, "phi_meta": true, "phi_tables": true, "phi_index": true, "phi_jobs": true, "phi_merges": true, filesTable: true, refusedTable: true}

// keyRows reads and writes key rows on one connection. It implements
// crypto.KeyRows.
type keyRows struct {
	plugin *plugin
	conn   gorm.ConnPool
}

var _ crypto.KeyRows = (*keyRows)(nil)

func (k *keyRows) db(ctx context.Context) *gorm.DB { return k.plugin.own(ctx, k.conn) }

// TenantKeyset implements crypto.KeyRows.
func (k *keyRows) TenantKeyset(ctx context.Context, tenant, use string, lock bool) ([]byte, error) {
	var r tenantKey
	q := k.db(ctx).Where("tenant_id = ? AND purpose = ?", tenant, use)
	if lock {
		q = q.Clauses(share())
	}
	err := q.Take(&r).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storage: read phi_tenant_keys: %w", err)
	}
	return r.Wrapped, nil
}

// InsertTenantKeyset implements crypto.KeyRows.
func (k *keyRows) InsertTenantKeyset(ctx context.Context, tenant, use string, wrapped []byte) error {
	r := tenantKey{TenantID: tenant, Purpose: use, Wrapped: wrapped}
	if err := k.db(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&r).Error; err != nil {
		return fmt.Errorf("storage: insert into phi_tenant_keys: %w", err)
	}
	return nil
}

// keyChunk is how many subjects one statement asks for: SQLite takes 32,766
// parameters, PostgreSQL 65,535.
const keyChunk = 1000

// SubjectKeys implements crypto.KeyRows.
func (k *keyRows) SubjectKeys(ctx context.Context, tenant string, subjects []string, lock bool) ([]crypto.KeyRow, error) {
	var out []crypto.KeyRow
	if lock && len(subjects) > 0 {
		if err := k.lock(ctx, tenant); err != nil {
			return nil, err
		}
	}
	for len(subjects) > 0 {
		n := min(keyChunk, len(subjects))
		var rows []subjectKey
		q := k.db(ctx).Where("tenant_id = ? AND subject_id IN ?", tenant, subjects[:n]).Order("subject_id, version")
		if lock {
			q = q.Clauses(share())
		}
		if err := q.Find(&rows).Error; err != nil {
			return nil, fmt.Errorf("storage: read phi_subject_keys: %w", err)
		}
		for _, r := range rows {
			out = append(out, crypto.KeyRow{Tenant: r.TenantID, Subject: r.SubjectID, Version: r.Version, Wrapped: r.Wrapped, Shredded: r.Shredded, Closed: r.Closed})
		}
		subjects = subjects[n:]
	}
	return out, nil
}

// lock conflicts with shredding and retiring keys of the tenant's subjects,
// those without a row included: writers share the tenant's row, and a shred
// takes it for itself. SQLite's transactions are immediate and need no lock.
func (k *keyRows) lock(ctx context.Context, tenant string) error {
	var r tenantKey
	err := k.db(ctx).Clauses(share()).Where("tenant_id = ? AND purpose = ?", tenant, "wrap").Take(&r).Error
	if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
		return fmt.Errorf("storage: lock phi_tenant_keys: %w", err)
	}
	_, err = k.Generation(ctx) // of an older copy nothing may be sealed
	return err
}

func share() clause.Locking { return clause.Locking{Strength: "SHARE"} }

// InsertSubjectKey implements crypto.KeyRows.
func (k *keyRows) InsertSubjectKey(ctx context.Context, row crypto.KeyRow) error {
	var tombstones int64
	err := k.db(ctx).Model(&subjectKey{}).Where("tenant_id = ? AND subject_id = ? AND shredded = ?", row.Tenant, row.Subject, true).Count(&tombstones).Error
	if err != nil {
		return fmt.Errorf("storage: read phi_subject_keys: %w", err)
	}
	if tombstones > 0 {
		return nil
	}
	r := subjectKey{TenantID: row.Tenant, SubjectID: row.Subject, Version: row.Version, Wrapped: row.Wrapped, Closed: row.Closed}
	if err := k.db(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&r).Error; err != nil {
		return fmt.Errorf("storage: insert into phi_subject_keys: %w", err)
	}
	return nil
}

// Generation implements crypto.KeyRows. The error wraps [ErrRestored] where it
// went back.
func (k *keyRows) Generation(ctx context.Context) (uint64, error) {
	before := k.plugin.restore.generation()
	m, err := k.meta(ctx)
	if err != nil {
		return 0, err
	}
	_, inTx := k.conn.(gorm.TxCommitter)
	return m.Generation, k.plugin.restore.read(before, m.Generation, inTx)
}

func (k *keyRows) meta(ctx context.Context) (m metaRow, err error) {
	if err := k.db(ctx).Take(&m, 1).Error; err != nil {
		return m, fmt.Errorf("storage: read phi_meta: %w", err)
	}
	return m, nil
}

// checkKEK finds a wrong or missing key before the first record is asked for,
// and makes the key file of a new development database.
func (p *plugin) checkKEK(ctx context.Context) error {
	conn := inner(p.pool)
	var keys []tenantKey
	if p.own(ctx, conn).Migrator().HasTable(&tenantKey{}) {
		if err := p.own(ctx, conn).Where("purpose = ?", "wrap").Limit(1).Find(&keys).Error; err != nil {
			return fmt.Errorf("storage: open: read phi_tenant_keys: %w", err)
		}
	}
	if file, ok := p.cfg.KEK.(*crypto.FileKEK); ok {
		if err := file.Ensure(len(keys) > 0, p.cfg.Development); err != nil {
			return fmt.Errorf("storage: open: %w", err)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	err := p.keys.Check(ctx, &keyRows{plugin: p, conn: conn}, keys[0].TenantID)
	if errors.Is(err, crypto.ErrUnwrap) {
		return fmt.Errorf("storage: open: Config.KEK is not the key that this database was sealed with, or it does not answer: %w", err)
	}
	return err
}

// knownTables learns from the database which tables hold PHI, so that the guard
// knows them before their models are used.
func (p *plugin) knownTables(ctx context.Context) error {
	conn := inner(p.pool)
	if !p.own(ctx, conn).Migrator().HasTable(&tableRow{}) {
		return nil
	}
	var rows []tableRow
	if err := p.own(ctx, conn).Find(&rows).Error; err != nil {
		return fmt.Errorf("storage: open: read phi_tables: %w", err)
	}
	for _, r := range rows {
		if r.Name == filesTable { // its model is ours, whoever opened the files
			if _, err := p.fileModel(); err != nil {
				return err
			}
		}
	}
	p.models.mu.Lock()
	defer p.models.mu.Unlock()
	for _, r := range rows {
		if _, ok := p.models.tables[r.Name]; !ok {
			p.models.tables[r.Name] = nil
		}
	}
	return nil
}
