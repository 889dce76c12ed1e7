// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/again"
	"github.com/part164/part164/storage/internal/table"
)

// grantsTx is where a context carries the transaction of a store of grants.
type grantsTx struct{ of *gorm.DB }

// on returns the database for ctx: the open transaction of the store, or of who
// asks, where ctx is that of one.
func (s grants) on(ctx context.Context) *gorm.DB {
	if tx, ok := ctx.Value(grantsTx{s.db}).(*gorm.DB); ok {
		return tx.WithContext(ctx)
	}
	return table.Quiet(storage.Within(ctx, s.db)).WithContext(ctx)
}

// transaction runs f in a transaction, within the one of ctx where there is one.
// f may run more than once. The context that f gets is that of the transaction.
func (s grants) transaction(ctx context.Context, what string, f func(ctx context.Context, tx *gorm.DB) error) error {
	if _, _, err := s.sign.get(ctx, false); err != nil { // not in the transaction: it may take a connection of its own
		return err
	}
	return do(ctx, what, func() error {
		return s.on(ctx).Transaction(func(tx *gorm.DB) error {
			return f(storage.InTx(context.WithValue(ctx, grantsTx{s.db}, tx), tx), tx)
		})
	})
}

// do runs f until it is no deadlock's victim.
func do(ctx context.Context, what string, f func() error) error {
	err := again.Do(ctx, f)
	var own *ownError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.error
	}
	return fmt.Errorf("accessstore: %s: %w", what, err)
}

// An ownError is one that the database did not make.
type ownError struct{ error }
