// SPDX-License-Identifier: Apache-2.0

package directive_test

import (
	"testing"

	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/directive/directivetest"
	"github.com/part164/part164/audit/audittest"
)

func TestMemoryIsAStore(t *testing.T) {
	t.Parallel()
	directivetest.TestStore(t, func(t *testing.T) (directive.Store, func(error)) {
		trail := audittest.New(t)
		return directive.NewMemory(trail), trail.Fail
	})
}
