// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Errors of [Journal.Ready], beside [ErrUnavailable] and [ErrClosed].
var (
	// ErrDiskFull means that the segment after the next cannot be made: the
	// journal takes what fits the segments that there are, and refuses then.
	ErrDiskFull = errors.New("audit: the disk is nearly full")

	// ErrClock means that the journal's clock is more than 30 seconds off.
	ErrClock = errors.New("audit: the clock is off")
)

// health is what Ready reports. It is guarded by Journal.mu.
type health struct {
	failed  error     // why the last group was refused; nil once one was taken
	busy    time.Time // since when the committer waits; zero while it does not
	next    error     // why the next segment cannot be made
	tried   time.Time // when that was tried last
	remake  bool      // the committer is asked to try again
	watches map[*watch]struct{}
}

// A watch is a condition that somebody else looks after.
type watch struct {
	name  string
	check func() error
}

// Ready says why this process should get no requests; nil means that it may.
// Plug it into the readiness endpoint. It answers at once, from what is known:
//
//   - [ErrUnavailable]: events are refused, or the disk (or Config.Durability)
//     has not answered for Config.Timeout;
//   - [ErrDiskFull]: the disk is nearly full, a whole segment before events
//     are refused;
//   - [ErrClock]: one of Config.Clocks differs by more than 30 seconds;
//   - [ErrClosed];
//   - what the functions given to [Journal.Require] say: how far a sink or a
//     witness lags.
//
// The error holds every reason and no PHI.
func (j *Journal) Ready() error {
	j.mu.Lock()
	h := j.health
	watches := slices.Collect(maps.Keys(h.watches))
	closed, fatal := j.closed, j.fatal
	var off []error
	for _, c := range j.compared {
		if c.level == clockFar {
			off = append(off, c.err())
		}
	}
	j.mu.Unlock()

	if closed {
		return ErrClosed
	}
	var errs []error
	switch {
	case fatal != nil:
		errs = append(errs, fmt.Errorf("%w: %w", ErrUnavailable, fatal))
	case h.failed != nil:
		errs = append(errs, fmt.Errorf("%w: %w", ErrUnavailable, h.failed))
	case !h.busy.IsZero() && time.Since(h.busy) > j.cfg.Timeout:
		errs = append(errs, fmt.Errorf("%w: a write has not come back for %v", ErrUnavailable, time.Since(h.busy).Round(time.Second)))
	}
	if h.next != nil {
		err := fmt.Errorf("%w: make room for a segment of %d bytes: %w", ErrDiskFull, j.cfg.SegmentSize, h.next)
		if !errors.Is(h.next, syscall.ENOSPC) {
			err = fmt.Errorf("%w: the next segment cannot be made: %w", ErrUnavailable, h.next)
		}
		errs = append(errs, err)
	}
	errs = append(errs, off...)
	slices.SortFunc(watches, func(a, b *watch) int { return strings.Compare(a.name, b.name) })
	for _, w := range watches {
		if err := w.check(); err != nil {
			errs = append(errs, fmt.Errorf("audit: %s: %w", w.name, err))
		}
	}
	return errors.Join(errs...)
}

// Require makes Ready ask check too, until stop is called: a required sink or
// a witness says there how far it lags. name is for people; check must answer
// at once, without PHI, and may be called concurrently.
func (j *Journal) Require(name string, check func() error) (stop func()) {
	w := &watch{name, check}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.health.watches == nil {
		j.health.watches = make(map[*watch]struct{})
	}
	j.health.watches[w] = struct{}{}
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.health.watches, w)
	}
}

// nextRetry is how long after a failed try the next segment is tried again.
const nextRetry = time.Second

// retryNext asks the committer to make the next segment, where that failed.
func (j *Journal) retryNext() {
	j.mu.Lock()
	due := j.health.next != nil && !j.health.remake && time.Since(j.health.tried) >= nextRetry
	if due {
		j.health.remake = true
	}
	j.mu.Unlock()
	if due {
		j.wake()
	}
}
