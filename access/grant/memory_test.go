// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"testing"

	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/grant/granttest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	granttest.TestStore(t, func(*testing.T) grant.Store { return grant.NewMemory() })
}

func TestDeskOnMemory(t *testing.T) {
	t.Parallel()
	granttest.TestDesk(t, func(*testing.T) grant.Store { return grant.NewMemory() })
}
