// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// What a [Sink] goes by.
const (
	sinkName  = "watch"
	learnFor  = 30 * 24 * time.Hour // of history: older than that teaches, and raises nothing
	tickEvery = 5 * time.Minute
)

// A Sink passes the events of a journal to a Watcher, as they come: give it to
// sink.Open of package audit/sink. Its cursor sees to it that every event is
// observed, also after a crash, and holds a purge back until it was.
type Sink struct {
	w    *Watcher
	as   access.Principal
	stop context.CancelFunc
	done chan struct{}
}

// NewSink returns a sink that observes the events of j. It first learns the last
// 30 days of what it had observed before this start, and calls [Watcher.Tick]
// from then on. as is the service that records the alerts. An event that is more
// than 30 days old when it comes is learnt and raises nothing.
func NewSink(ctx context.Context, w *Watcher, j *audit.Journal, as access.Principal) (*Sink, error) {
	if as.Kind != access.Service {
		return nil, errors.New("watch: the principal that records alerts is no service")
	}
	if err := as.Validate(); err != nil {
		return nil, fmt.Errorf("watch: the principal that records alerts: %w", err)
	}
	if err := w.remember(ctx, j); err != nil {
		return nil, fmt.Errorf("watch: learn the history: %w", err)
	}
	ticking, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Sink{w: w, as: as, stop: stop, done: make(chan struct{})}
	go s.tick(ticking)
	return s, nil
}

// remember learns what the journal's sink had observed, and hears what was
// raised after that: the cursor may lag behind.
func (w *Watcher) remember(ctx context.Context, j *audit.Journal) error {
	cursors, err := audit.Cursors(j.Dir())
	if err != nil {
		return err
	}
	passed, ok := cursors[sinkName]
	if !ok {
		return nil
	}
	var from audit.Position
	begin := time.Now().Add(-learnFor)
	for ev, err := range j.Replay(ctx, "") { // newest first
		if err != nil {
			return err
		}
		if ev.Time.Before(begin) {
			from = audit.Position{Writer: j.Writer(), Seq: ev.Seq}
			break
		}
	}
	for line, err := range j.Read(ctx, from) {
		switch {
		case err != nil:
			return err
		case line.Seq <= passed.Seq:
			if err := w.Learn(ctx, line.Stored); err != nil {
				return err
			}
		case line.Type == audit.Alerted:
			w.mu.Lock()
			w.heard(&line.Stored)
			w.mu.Unlock()
		}
	}
	return nil
}

// Name implements sink.Sink.
func (s *Sink) Name() string { return sinkName }

// Recipient implements sink.Sink: the events stay in this process.
func (s *Sink) Recipient() string { return "" }

// Deliver implements sink.Sink. It accepts an event once its alerts are
// recorded.
func (s *Sink) Deliver(ctx context.Context, lines []audit.Line) (accepted int, err error) {
	ctx = access.With(ctx, s.as, access.Compliance)
	for i := range lines {
		if time.Since(lines[i].Time) > learnFor {
			err = s.w.Learn(ctx, lines[i].Stored)
		} else {
			_, err = s.w.Observe(ctx, lines[i].Stored)
		}
		if err != nil {
			return i, err
		}
	}
	return len(lines), nil
}

// tick raises what only time tells. What could not be recorded comes with the
// next event, or the next tick.
func (s *Sink) tick(ctx context.Context) {
	defer close(s.done)
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			_, _ = s.w.Tick(access.With(ctx, s.as, access.Compliance), now)
		}
	}
}

// Close ends the ticks. A pipe calls it when it closes.
func (s *Sink) Close() error {
	s.stop()
	<-s.done
	return nil
}
