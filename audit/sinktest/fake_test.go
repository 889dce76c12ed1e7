// SPDX-License-Identifier: Apache-2.0

package sinktest_test

import (
	"testing"

	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/sinktest"
)

func TestFakeIsASink(t *testing.T) {
	t.Parallel()
	sinktest.TestSink(t, audittest.Dir, func(testing.TB) *sinktest.Target { return sinktest.Of(new(sinktest.Fake)) })
}
