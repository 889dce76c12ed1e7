// SPDX-License-Identifier: Apache-2.0

package sessionstore

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/part164/part164/session"
	"github.com/part164/part164/storage/internal/again"
)

// exec runs one statement and reports whether it changed a row.
func (s *Store) exec(ctx context.Context, what string, f func(db *gorm.DB) *gorm.DB) (changed bool, err error) {
	err = s.again(ctx, what, func() error {
		db := f(s.db.WithContext(ctx))
		changed = db.RowsAffected > 0
		return db.Error
	})
	return changed && err == nil, err
}

// transaction runs f in a transaction of its own. f may run more than once.
func (s *Store) transaction(ctx context.Context, what string, f func(in *Store) error) error {
	return s.again(ctx, what, func() error {
		return s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return f(&Store{db: tx, inTx: true}) })
	})
}

// first reads one row, or reports that there is none.
func first[T any](q *gorm.DB, what string) (row T, ok bool, err error) {
	rows, err := some[T](q, 1, what)
	if len(rows) == 0 {
		return row, false, err
	}
	return rows[0], true, nil
}

// some reads up to limit rows.
func some[T any](q *gorm.DB, limit int, what string) ([]T, error) {
	var rows []T
	if err := q.Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("sessionstore: %s: %w", what, err)
	}
	return rows, nil
}

// again runs f until it is no deadlock's victim. Inside a transaction the
// victim is the whole of it, and the transaction is what runs again.
func (s *Store) again(ctx context.Context, what string, f func() error) error {
	if s.inTx {
		return f()
	}
	err := again.Do(ctx, f)
	if err == nil || errors.Is(err, session.ErrNotFound) {
		return err
	}
	return fmt.Errorf("sessionstore: %s: %w", what, err)
}
