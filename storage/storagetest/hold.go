// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/internal/fault"
	"github.com/part164/part164/storage"
)

// Holds is a [storage.Hold] that says what it was told. It is safe for
// concurrent use.
type Holds struct {
	faults fault.Faults
	mu     sync.Mutex
	held   map[[2]string]bool
}

var _ storage.Hold = (*Holds)(nil)

// Hold holds a patient.
func (h *Holds) Hold(tenant, subject string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		h.held = map[[2]string]bool{}
	}
	h.held[[2]string{tenant, subject}] = true
}

// Release lifts the hold of a patient.
func (h *Holds) Release(tenant, subject string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, [2]string{tenant, subject})
}

// Fail makes every later call fail with err, until Fail(nil).
func (h *Holds) Fail(err error) { h.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (h *Holds) FailAfter(n int, err error) { h.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (h *Holds) Delay(d time.Duration) { h.faults.Delay(d) }

// Held implements [storage.Hold].
func (h *Holds) Held(ctx context.Context, tenant, subject string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := h.faults.Call(ctx); err != nil {
		return false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[[2]string{tenant, subject}], nil
}

// TestHold runs the contract of [storage.Hold]. open is called once a subtest
// and returns a Hold that holds nobody, and functions that hold a patient and
// lift that hold; lift may be nil where a hold is for ever.
func TestHold(t *testing.T, open func(t *testing.T) (h storage.Hold, hold, lift func(tenant, subject string))) {
	const subject, other = "0190f2d4-7c1e-7000-8000-000000000001", "0190f2d4-7c1e-7000-8000-000000000002"
	want := func(t *testing.T, h storage.Hold, tenant, subject string, want bool) {
		t.Helper()
		if got, err := h.Held(t.Context(), tenant, subject); got != want || err != nil {
			t.Errorf("Held(%s, %s) = %t, %v; want %t", tenant, subject, got, err, want)
		}
	}
	t.Run("nobody is held", func(t *testing.T) {
		h, _, _ := open(t)
		want(t, h, "t-1", subject, false)
	})
	t.Run("one patient of one tenant is held", func(t *testing.T) {
		h, hold, lift := open(t)
		hold("t-1", subject)
		want(t, h, "t-1", subject, true)
		want(t, h, "t-1", other, false)
		want(t, h, "t-2", subject, false)
		if lift != nil {
			lift("t-1", subject)
			want(t, h, "t-1", subject, false)
		}
	})
	t.Run("a cancelled context is an error", func(t *testing.T) {
		h, _, _ := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if held, err := h.Held(ctx, "t-1", subject); !held && err == nil {
			t.Error("Held(cancelled) = false, nil: who cannot tell must not let it be destroyed")
		}
	})
	t.Run("concurrent use", func(t *testing.T) {
		h, hold, _ := open(t)
		hold("t-1", subject)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 10 {
					want(t, h, "t-1", subject, true)
				}
			})
		}
		wg.Wait()
	})
}
