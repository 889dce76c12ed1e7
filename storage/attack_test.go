// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"

	"github.com/part164/part164/storage/storagetest"
)

func TestAttacks(t *testing.T) {
	if testing.Short() && haveServices() {
		t.Skip("-short: nothing in it is concurrent")
	}
	t.Parallel()
	storagetest.TestAttacks(t, databases()...)
}
