// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"

	"github.com/part164/part164/storage/storagetest"
)

func TestAttacks(t *testing.T) {
	t.Parallel()
	on := databases()
	if testing.Short() {
		on = on[:1]
	}
	storagetest.TestAttacks(t, on...)
}
