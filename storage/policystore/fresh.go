// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A freshness knows when the database was last asked, and when it last
// answered.
type freshness struct {
	cfg     *Config
	success atomic.Pointer[time.Time] // the beginning of the last poll that succeeded
	tried   atomic.Pointer[time.Time] // the beginning of the last poll that ended
	wake    chan struct{}

	mu    sync.Mutex
	ended chan struct{} // closed at the end of a poll, and then made anew
	err   error         // of the last poll
}

func (f *freshness) init(cfg *Config) {
	f.cfg, f.wake, f.ended = cfg, make(chan struct{}, 1), make(chan struct{})
}

// age is how long ago t was, by the clock that says more: the monotonic one
// stands still while a machine is suspended.
func (f *freshness) age(t *time.Time) time.Duration {
	if t == nil {
		return 1<<63 - 1
	}
	now := f.cfg.Now()
	return max(now.Sub(*t), now.Round(0).Sub(t.Round(0)))
}

// stale reports whether the policy is too old to decide by.
func (f *freshness) stale() bool { return f.age(f.success.Load()) > f.cfg.MaxStale }

// timeout bounds one read of the revision.
func (f *freshness) timeout() time.Duration { return min(max(f.cfg.Poll, time.Second), 5*time.Second) }

// late reports whether no poll has begun and ended for longer than two of them
// take where the database does not answer: this process was stopped, or starved.
func (f *freshness) late() bool { return f.age(f.tried.Load()) > 2*(f.cfg.Poll+f.timeout()) }

// await asks for a poll now and waits for its end, for Config.Wait at most. One
// that began before this process stood still does not count.
func (f *freshness) await(ctx context.Context) {
	timer := time.NewTimer(f.cfg.Wait)
	defer timer.Stop()
	for {
		f.mu.Lock()
		ended := f.ended
		f.mu.Unlock()
		if !f.late() {
			return
		}
		f.kick()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		}
	}
}

// kick asks for a poll now.
func (f *freshness) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *freshness) succeeded(began time.Time) {
	f.success.Store(&began)
	f.end(began, nil)
}

func (f *freshness) failed(began time.Time, err error) { f.end(began, err) }

func (f *freshness) end(began time.Time, err error) {
	f.tried.Store(&began)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	close(f.ended)
	f.ended = make(chan struct{})
}

func (f *freshness) lastErr() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Ready says why this process should get no requests: there is no policy, or
// none that is fresh enough to decide by. It is nil where decisions are made.
func (s *Store) Ready() error {
	switch {
	case !s.opened.Load():
		return ErrClosed
	case s.fresh.stale():
		return errors.Join(errors.New("policystore: the policy is stale: everything but emergency access is denied"), s.fresh.lastErr())
	case s.revision.Load() == 0:
		return errors.New("policystore: the database has no policy: call Store.Init")
	}
	return nil
}
