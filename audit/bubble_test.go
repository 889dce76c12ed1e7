// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"crypto/rand"
	"testing"
	"testing/synctest"
)

// bubble is synctest.Test for what draws random bytes: in a process that allows
// FIPS 140-3 algorithms only, the first take entropy from a clock that runs, and
// that of a bubble stands still.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	rand.Text()
	synctest.Test(t, f)
}
