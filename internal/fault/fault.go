// SPDX-License-Identifier: Apache-2.0

// Package fault is how the fakes of every test kit fail and are slow: one
// mechanism, so that Fail, FailAfter and Delay mean the same on each.
package fault

import (
	"context"
	"sync"
	"time"
)

// Faults are what a test asks of a fake. The zero Faults ask nothing. They are
// safe for concurrent use.
type Faults struct {
	mu    sync.Mutex
	err   error
	after int
	delay time.Duration
}

// FailAfter lets n more calls through and makes every later one fail with err,
// until it is called again; nil ends it.
func (f *Faults) FailAfter(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after, f.err = n, err
}

// Delay makes every later call take at least d; 0 ends it.
func (f *Faults) Delay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// Call is what a fake asks at the beginning of each call: it waits as long as
// [Faults.Delay] says, or until ctx is done, which is its error then, and fails
// as [Faults.FailAfter] says.
func (f *Faults) Call(ctx context.Context) error {
	f.mu.Lock()
	delay := f.delay
	f.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return nil
	}
	if f.after <= 0 {
		return f.err
	}
	f.after--
	return nil
}
