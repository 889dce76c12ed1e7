// SPDX-License-Identifier: Apache-2.0

package again

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
)

type stateError string

func (e stateError) Error() string    { return "refused" }
func (e stateError) SQLState() string { return string(e) }

func TestDo(t *testing.T) {
	t.Parallel()
	other := errors.New("no")
	for _, c := range []struct {
		name  string
		ended bool
		errs  []error // of the calls in turn; the last one's repeats
		calls int
		err   bool
	}{
		{"nothing in the way", false, []error{nil}, 1, false},
		{"a deadlock", false, []error{stateError("40P01"), nil}, 2, false},
		{"a conflict in a wrapper", false, []error{fmt.Errorf("x: %w", errors.Join(stateError("40001"), other)), nil}, 2, false},
		{"MariaDB's deadlock", false, []error{errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), nil}, 2, false},
		{"a deadlock for ever", false, []error{stateError("40P01")}, tries, true},
		{"another state", false, []error{stateError("23505"), nil}, 1, true},
		{"another error of MariaDB", false, []error{errors.New("Error 1062 (23000): Duplicate entry"), nil}, 1, true},
		{"another error", false, []error{other, nil}, 1, true},
		{"an ended context", true, []error{stateError("40P01"), nil}, 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.ended {
				cancel()
			}
			calls := 0
			err := Do(ctx, func() error {
				calls++
				return c.errs[min(calls, len(c.errs))-1]
			})
			if calls != c.calls || (err != nil) != c.err {
				t.Errorf("%s: %d calls, %v; want %d", c.name, calls, err, c.calls)
			}
		})
	}
}

// TestDoEndsWithItsContext: while it waits, too.
func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		done := make(chan error)
		go func() {
			done <- Do(ctx, func() error {
				if calls++; calls == 3 {
					go cancel()
				}
				return stateError("40001")
			})
		}()
		if err := <-done; err == nil || calls != 3 {
			t.Errorf("%d calls, %v; want 3", calls, err)
		}
	})
}
