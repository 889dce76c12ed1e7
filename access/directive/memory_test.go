// SPDX-License-Identifier: Apache-2.0

package directive_test

import (
	"testing"

	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/directive/directivetest"
)

func TestMemoryIsAStore(t *testing.T) {
	t.Parallel()
	directivetest.TestStore(t, func(*testing.T) directive.Store { return directive.NewMemory() })
}
