// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// InTheWay reports whether the database asks for a transaction to be done again,
// which it may of any two that write at once. For the tests of both packages.
func InTheWay(err error) bool { return inTheWay(err) }

func TestAgain(t *testing.T) {
	t.Parallel()
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	other := errors.New("no")
	for _, c := range []struct {
		name  string
		ctx   context.Context
		errs  []error // of the calls in turn; the last one's repeats
		calls int
		err   bool
	}{
		{"nothing in the way", t.Context(), []error{nil}, 1, false},
		{"a deadlock", t.Context(), []error{stateError("40P01"), nil}, 2, false},
		{"a conflict in a wrapper", t.Context(), []error{fmt.Errorf("x: %w", errors.Join(stateError("40001"), other)), nil}, 2, false},
		{"what storage made of it", t.Context(), []error{&databaseError{state: "40001"}, nil}, 2, false},
		{"a deadlock for ever", t.Context(), []error{stateError("40P01")}, ownTries, true},
		{"another state", t.Context(), []error{stateError("23505"), nil}, 1, true},
		{"another error", t.Context(), []error{other, nil}, 1, true},
		{"an ended context", stop, []error{stateError("40P01"), nil}, 1, true},
	} {
		calls := 0
		err := again(c.ctx, func() error {
			calls++
			return c.errs[min(calls, len(c.errs))-1]
		})
		if calls != c.calls || (err != nil) != c.err {
			t.Errorf("%s: %d calls, %v; want %d", c.name, calls, err, c.calls)
		}
	}
}
