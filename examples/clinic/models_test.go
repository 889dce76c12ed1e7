// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/part164/part164/storage/storagetest"
)

// TestModels turns red where a field loses its tag or its seal.
func TestModels(t *testing.T) {
	t.Parallel()
	for _, m := range models() {
		storagetest.CheckModel(t, m)
	}
}
