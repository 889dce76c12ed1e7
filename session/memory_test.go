// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"testing"

	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	sessiontest.TestStore(t, func(*testing.T) session.Store { return session.NewMemory() })
}
