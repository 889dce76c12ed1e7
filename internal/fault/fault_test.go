// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/internal/fault"
)

var errDown = errors.New("down")

func TestFailAfter(t *testing.T) {
	t.Parallel()
	var f fault.Faults
	call := func(want error) {
		t.Helper()
		if err := f.Call(t.Context()); err != want {
			t.Errorf("Call = %v, want %v", err, want)
		}
	}
	call(nil)
	f.FailAfter(2, errDown)
	call(nil)
	call(nil)
	call(errDown)
	call(errDown)
	f.FailAfter(1, errDown) // counts anew
	call(nil)
	call(errDown)
	f.FailAfter(0, nil)
	call(nil)
	f.FailAfter(0, errDown)
	call(errDown)
}

func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f fault.Faults
		f.Delay(time.Minute)
		start := time.Now()
		if err := f.Call(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Call = %v after %v, want nil after a minute", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := f.Call(ctx); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Call = %v after %v, want the deadline's error after a second", err, time.Since(start))
		}
		f.Delay(0)
		start = time.Now()
		if err := f.Call(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("Call = %v after %v, want nil at once", err, time.Since(start))
		}
	})
}

func TestExactlyNCallsGoThrough(t *testing.T) {
	t.Parallel()
	var f fault.Faults
	f.FailAfter(50, errDown)
	var through atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if f.Call(context.Background()) == nil {
					through.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := through.Load(); n != 50 {
		t.Errorf("%d calls went through, want 50", n)
	}
}
