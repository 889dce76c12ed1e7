// SPDX-License-Identifier: Apache-2.0

// Package lock is what the tests of mutate break.
package lock

// Open reports whether key opens the lock.
func Open(key string) bool {
	if key == "" {
		return false
	}
	return key == "right"
}
