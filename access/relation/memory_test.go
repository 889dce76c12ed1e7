// SPDX-License-Identifier: Apache-2.0

package relation_test

import (
	"testing"

	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/access/relation/relationtest"
)

func TestMemoryIsAStore(t *testing.T) {
	t.Parallel()
	relationtest.TestStore(t, func(*testing.T) relation.Store { return relation.NewMemory() })
}
