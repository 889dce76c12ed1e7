// SPDX-License-Identifier: Apache-2.0

package relation_test

import (
	"testing"

	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/access/relation/relationtest"
	"github.com/part164/part164/audit/audittest"
)

func TestMemoryIsAStore(t *testing.T) {
	t.Parallel()
	relationtest.TestStore(t, func(t *testing.T) (relation.Store, func(error)) {
		trail := audittest.New(t)
		return relation.NewMemory(trail), trail.Fail
	})
}
