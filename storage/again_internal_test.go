// SPDX-License-Identifier: Apache-2.0

package storage

import "github.com/part164/part164/storage/internal/again"

// InTheWay reports whether the database asks for a transaction to be done again,
// which it may of any two that write at once. For the tests of both packages.
func InTheWay(err error) bool { return again.InTheWay(err) }
