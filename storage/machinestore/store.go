// SPDX-License-Identifier: Apache-2.0

package machinestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/storage/internal/again"
	"github.com/part164/part164/storage/internal/table"
)

// Store is a machine.Store in a database. Make it with [New]; it is safe for
// concurrent use.
type Store struct{ db *gorm.DB }

var _ machine.Store = (*Store)(nil)

// New returns the store in db, whose tables [Migrate] made. Statements are not
// logged.
func New(db *gorm.DB) *Store { return &Store{table.Quiet(db)} }

// CreateKey implements machine.Store.
func (s *Store) CreateKey(ctx context.Context, k machine.Key) error {
	return s.again(ctx, "create key", func(db *gorm.DB) error { return insert(db, &k) })
}

func insert(db *gorm.DB, k *machine.Key) error {
	done := db.Clauses(clause.OnConflict{DoNothing: true}).Create(rowOf(k))
	if done.Error == nil && done.RowsAffected == 0 {
		return machine.ErrExists
	}
	return done.Error
}

// Key implements machine.Store.
func (s *Store) Key(ctx context.Context, keyID string) (machine.Key, error) {
	var rows []keyRow
	err := s.again(ctx, "read key", func(db *gorm.DB) error {
		return db.Where("id = ?", table.ID(keyID)).Limit(1).Find(&rows).Error
	})
	if err != nil {
		return machine.Key{}, err
	}
	if len(rows) == 0 {
		return machine.Key{}, machine.ErrNotFound
	}
	return rows[0].key()
}

// Keys implements machine.Store.
func (s *Store) Keys(ctx context.Context, tenant string) ([]machine.Key, error) {
	var rows []keyRow
	err := s.again(ctx, "list keys", func(db *gorm.DB) error {
		return db.Where("tenant = ?", table.ID(tenant)).Order("created, id").Find(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	var out []machine.Key
	for i := range rows {
		k, err := rows[i].key()
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// RotateKey implements machine.Store. The old key's row is changed first: other
// rotations and revocations of it queue there.
func (s *Store) RotateKey(ctx context.Context, tenant, keyID string, next machine.Key, until, at time.Time) error {
	return s.again(ctx, "rotate key", func(db *gorm.DB) error {
		return db.Transaction(func(tx *gorm.DB) error {
			old := tx.Model(&keyRow{}).
				Where("id = ? AND tenant = ? AND revoked = 0 AND next_key = ''", table.ID(keyID), table.ID(tenant)).
				Where("created <= ? AND expires > ?", table.Nanos(at), table.Nanos(at)).
				Updates(map[string]any{
					"next_key": table.ID(next.ID),
					"expires":  gorm.Expr("CASE WHEN expires > ? THEN ? ELSE expires END", table.Nanos(until), table.Nanos(until)),
				})
			if old.Error != nil {
				return old.Error
			}
			if old.RowsAffected == 0 {
				return machine.ErrNotFound
			}
			return insert(tx, &next)
		})
	})
}

// RevokeKey implements machine.Store.
func (s *Store) RevokeKey(ctx context.Context, tenant, keyID string, at time.Time) (ok bool, err error) {
	err = s.again(ctx, "revoke key", func(db *gorm.DB) error {
		done := db.Model(&keyRow{}).Where("id = ? AND tenant = ? AND revoked = 0", table.ID(keyID), table.ID(tenant)).Update("revoked", table.Nanos(at))
		ok = done.RowsAffected > 0
		return done.Error
	})
	return ok && err == nil, err
}

// RevokeService implements machine.Store. A rotation that had begun inserts a key
// that the statement may not have seen; it holds the row of one that the statement
// waits for, so that the next round finds the new one.
func (s *Store) RevokeService(ctx context.Context, tenant, service string, at time.Time) (n int, err error) {
	for {
		var more int
		err := s.again(ctx, "revoke service", func(db *gorm.DB) (err error) {
			more, err = revokeService(db, tenant, service, at)
			return err
		})
		if err != nil || more == 0 {
			return n, err
		}
		n += more
	}
}

// Terminate revokes every key of a service, on the open transaction tx of the same
// database, so that it is one step with what else the service held: see
// policystore.Config.Holders. It returns how many it revoked. A certificate ends
// with the service's entry (machine.Certificates.Load), or by itself
// (RevokeCertificate).
func (s *Store) Terminate(ctx context.Context, tx *gorm.DB, tenant, service string, at time.Time) (ended int, err error) {
	for db := table.Quiet(tx).WithContext(ctx); ; {
		more, err := revokeService(db, tenant, service, at)
		if err != nil {
			return 0, fmt.Errorf("machinestore: terminate: %w", err)
		}
		if more == 0 {
			return ended, nil
		}
		ended += more
	}
}

func revokeService(db *gorm.DB, tenant, service string, at time.Time) (int, error) {
	done := db.Model(&keyRow{}).Where("tenant = ? AND service = ? AND revoked = 0", table.ID(tenant), table.ID(service)).Update("revoked", table.Nanos(at))
	return int(done.RowsAffected), done.Error
}

// TouchKey implements machine.Store.
func (s *Store) TouchKey(ctx context.Context, keyID string, at time.Time) error {
	return s.again(ctx, "touch key", func(db *gorm.DB) error {
		return db.Model(&keyRow{}).Where("id = ? AND last_used < ?", table.ID(keyID), table.Nanos(at)).Update("last_used", table.Nanos(at)).Error
	})
}

// RevokeCertificate implements machine.Store.
func (s *Store) RevokeCertificate(ctx context.Context, cert machine.CertificateID, at time.Time) error {
	return s.again(ctx, "revoke certificate", func(db *gorm.DB) error {
		return db.Clauses(clause.OnConflict{DoNothing: true}).Create(&revokedRow{ID: table.ID(cert.String()), Revoked: table.Nanos(at)}).Error
	})
}

// CertificateRevoked implements machine.Store.
func (s *Store) CertificateRevoked(ctx context.Context, certs ...machine.CertificateID) (bool, error) {
	if len(certs) == 0 {
		return false, nil
	}
	ids := make([]table.ID, len(certs))
	for i, c := range certs {
		ids[i] = table.ID(c.String())
	}
	var n int64
	err := s.again(ctx, "look up certificate", func(db *gorm.DB) error {
		return db.Model(&revokedRow{}).Where("id IN ?", ids).Count(&n).Error
	})
	return n > 0, err
}

// again runs f until it is no deadlock's victim.
func (s *Store) again(ctx context.Context, what string, f func(db *gorm.DB) error) error {
	err := again.Do(ctx, func() error { return f(s.db.WithContext(ctx)) })
	if err == nil || errors.Is(err, machine.ErrNotFound) || errors.Is(err, machine.ErrExists) {
		return err
	}
	return fmt.Errorf("machinestore: %s: %w", what, err)
}
