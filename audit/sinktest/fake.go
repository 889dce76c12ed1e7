// SPDX-License-Identifier: Apache-2.0

// Package sinktest holds a [Fake] receiver for users' tests and the
// conformance suite [TestSink] that it and every sink pass.
package sinktest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/sink"
	"github.com/part164/part164/internal/fault"
)

// A Fake is a sink whose receiver is in memory. Its zero value works; it is
// safe for concurrent use.
type Fake struct {
	faults fault.Faults

	mu     sync.Mutex
	name   string
	poison map[string]bool
	lose   int
	got    []audit.Line // in the order of arrival, repetitions too
}

var _ sink.Sink = (*Fake)(nil)

// Named returns a Fake with that name; the zero Fake's is "fake".
func Named(name string) *Fake { return &Fake{name: name} }

// Fail makes every later delivery fail with err, and take nothing, until
// Fail(nil).
func (f *Fake) Fail(err error) { f.FailAfter(0, err) }

// FailAfter lets n more deliveries through and makes every later one fail as
// Fail does, until Fail(nil).
func (f *Fake) FailAfter(n int, err error) { f.faults.FailAfter(n, err) }

// Delay makes every later delivery take at least d. Delay(0) ends it.
func (f *Fake) Delay(d time.Duration) { f.faults.Delay(d) }

// Poison makes the receiver refuse the event for good, or take it again.
func (f *Fake) Poison(id string, refuse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.poison == nil {
		f.poison = make(map[string]bool)
	}
	f.poison[id] = refuse
}

// refuse makes it refuse that event only; with "" none.
func (f *Fake) refuse(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.poison = map[string]bool{id: true}
}

// Lose makes the receiver accept the next n events and forget them.
func (f *Fake) Lose(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = n
}

// Received returns what arrived, in that order, repetitions too.
func (f *Fake) Received() []audit.Line {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// Name implements [sink.Sink].
func (f *Fake) Name() string {
	if f.name == "" {
		return "fake"
	}
	return f.name
}

// Recipient implements [sink.Sink].
func (f *Fake) Recipient() string { return "ba-fake" }

// Deliver implements [sink.Sink].
func (f *Fake) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	if err := f.faults.Call(ctx); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, l := range lines {
		if f.poison[l.ID] {
			return i, fmt.Errorf("fake sink: %w", sink.ErrPoison)
		}
		if f.lose > 0 {
			f.lose--
			continue
		}
		l.Raw = slices.Clone(l.Raw)
		f.got = append(f.got, l)
	}
	return len(lines), nil
}

// tamper changes what was received of one event.
func (f *Fake) tamper(writer string, seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.got {
		if f.got[i].Position.Writer == writer && f.got[i].Position.Seq == seq {
			f.got[i].Leaf[0] ^= 1
		}
	}
}
