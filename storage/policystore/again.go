// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"errors"
	"strings"
)

// maxRetries bounds how often a transaction is done again that the database
// undid to resolve a deadlock or a conflict. Each time at least one other went
// through.
const maxRetries = 100

// again runs f until the database does not ask for it to be done again.
func again(ctx context.Context, f func() error) error {
	err := f()
	for range maxRetries {
		if !rolledBack(err) || ctx.Err() != nil {
			break
		}
		err = f()
	}
	return err
}

// rolledBack reports whether the database undid a transaction so that another
// goes through: SQLSTATE 40001 and 40P01, which MariaDB's driver gives in its
// text only.
func rolledBack(err error) bool {
	if err == nil {
		return false
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState() == "40001" || state.SQLState() == "40P01"
	}
	return strings.Contains(err.Error(), "(40001)")
}
