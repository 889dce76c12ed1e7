// SPDX-License-Identifier: Apache-2.0

package audittest_test

import (
	"testing"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	audittest.TestTrail(t, func(t *testing.T) (audit.Trail, func() []audit.Stored) {
		tr := audittest.New(t)
		return tr, tr.Events
	})
}
