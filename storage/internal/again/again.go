// SPDX-License-Identifier: Apache-2.0

// Package again does a transaction again that the database undid in favour of
// another, as the victim of a deadlock for instance.
package again

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	tries   = 100                    // one of any that wait for each other goes through, so that each round has a winner
	longest = 100 * time.Millisecond // between two tries
)

// Do runs f, and runs it again where its error is [InTheWay] of another, until
// ctx ends. It returns the last error of f.
func Do(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || try == tries || !InTheWay(err) || ctx.Err() != nil {
			return err
		}
		// Of two that meet, one waits longer.
		timer := time.NewTimer(rand.N(min(time.Duration(try)*5*time.Millisecond, longest)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// Classes of ISO/IEC 9075 and PostgreSQL for a transaction that was rolled back
// in favour of another. MariaDB has the first for its deadlocks (error 1213).
const (
	SerializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// InTheWay reports whether the database undid a transaction so that another goes
// through, and asks for it to be done again. MariaDB's driver gives the state in
// its text only.
func InTheWay(err error) bool {
	if err == nil {
		return false
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState() == SerializationFailure || state.SQLState() == deadlockDetected
	}
	return strings.Contains(err.Error(), "Error 1213 ("+SerializationFailure+")")
}
