// SPDX-License-Identifier: Apache-2.0

package minimizetest_test

import (
	"context"
	"testing"

	"github.com/part164/part164/minimize"
	"github.com/part164/part164/minimize/minimizetest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	minimizetest.TestValue(t, minimizetest.Subject{
		Seal: func(_ *testing.T, _ context.Context, c minimize.Class, text string) (minimize.Value, func(context.Context) minimize.Value) {
			v := minimizetest.Seal(c, text)
			return v, func(ctx context.Context) minimize.Value { return v.Reveal(ctx) }
		},
		Null: func(_ *testing.T, ctx context.Context, _ minimize.Class) minimize.Value {
			return minimizetest.Value{}.Reveal(ctx)
		},
		Broken: func(_ *testing.T, ctx context.Context, c minimize.Class) minimize.Value {
			return minimizetest.Broken(c).Reveal(ctx)
		},
	})
}
