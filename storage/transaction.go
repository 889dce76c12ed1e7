// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"

	"github.com/part164/part164/storage/internal/again"
)

// Transactions of storage's own are done again where another was in their way.
// Those of the app are the app's to do again: their error has a method SQLState.

// transaction does f in a transaction of storage's own.
func (p *plugin) transaction(ctx context.Context, f func(tx *txConn) error) error {
	return again.Do(ctx, func() error {
		tx, err := p.pool.begin(ctx, nil)
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	})
}
