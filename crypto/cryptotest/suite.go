// SPDX-License-Identifier: Apache-2.0

package cryptotest

import (
	"context"

	"github.com/part164/part164/crypto"
)

// DB is the database whose key tables [TestKeyRows] tests. [Store] is one.
type DB interface {
	// Rows returns the key tables outside any transaction.
	Rows() crypto.KeyRows

	// Begin begins a transaction.
	Begin(ctx context.Context) (Tx, error)

	// Shred deletes the subject's keys, leaves a tombstone and changes the
	// generation, in a transaction of its own.
	Shred(ctx context.Context, tenant, subject string) error
}

// Tx is the key tables inside one transaction.
type Tx interface {
	crypto.KeyRows
	Savepoint(name string) error
	RollbackTo(name string) error
	Commit() error
	Rollback() error
}

var _ DB = (*Store)(nil)
