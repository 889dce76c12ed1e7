// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// ownTries bounds how often a transaction of storage's own is done. One of any
// two that wait for each other goes through, so that each round has a winner.
const ownTries = 10

// again does f, a transaction of storage's own, and does it again where the
// database rolled it back in favour of another and asks for that. Transactions
// of the app are the app's to do again: their error has a method SQLState.
func again(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || try == ownTries || !inTheWay(err) {
			return err
		}
		// Of two that meet, one waits longer.
		if ctx.Err() != nil || sleep(ctx, rand.N(time.Duration(try)*10*time.Millisecond)) != nil {
			return err
		}
	}
}

// inTheWay reports whether a transaction was rolled back in favour of another.
func inTheWay(err error) bool {
	state, _, _ := answer(err)
	if refused, ok := errors.AsType[*databaseError](err); ok {
		state = refused.state
	}
	return state == serializationFailure || state == deadlockDetected
}

// transaction does f in a transaction of storage's own.
func (p *plugin) transaction(ctx context.Context, f func(tx *txConn) error) error {
	return again(ctx, func() error {
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
