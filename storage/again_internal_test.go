// SPDX-License-Identifier: Apache-2.0

package storage

import "errors"

// InTheWay reports whether the database asks for a transaction to be done again,
// which it may of any two that write at once. For the tests of both packages.
func InTheWay(err error) bool {
	var refused *databaseError
	return errors.As(err, &refused) && (refused.state == serializationFailure || refused.state == deadlockDetected)
}
