// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/audit"
)

// A Journal is what is witnessed: an [audit.Journal], or a [Folder].
type Journal interface {
	Dir() string // its folder
	LastCheckpoint(ctx context.Context) (audit.Checkpoint, error)
	Consistency(ctx context.Context, from, to uint64) ([][]byte, error)
}

// A Folder is a journal's folder, for another process than its writer's.
type Folder string

// Dir implements [Journal].
func (f Folder) Dir() string { return string(f) }

// LastCheckpoint implements [Journal].
func (f Folder) LastCheckpoint(ctx context.Context) (audit.Checkpoint, error) {
	return audit.LastCheckpoint(ctx, string(f))
}

// Consistency implements [Journal].
func (f Folder) Consistency(ctx context.Context, from, to uint64) ([][]byte, error) {
	return audit.Consistency(ctx, string(f), from, to)
}

// RunConfig configures [Run]. Its zero value is the production setting.
type RunConfig struct {
	// Every is the time between two submissions. Zero means a minute: what is
	// cut off a journal may be as young as that and go unseen. At least a
	// second.
	Every time.Duration

	// Report is told how each submission went, on Run's own goroutine; nil
	// tells nobody.
	Report func(Status)

	// Log is told of failures. Nil is silent.
	Log *zap.Logger
}

// A Status says how far the witness is.
type Status struct {
	Size uint64    // lines that the witness has seen; 0 where that is not known
	Time time.Time // when it saw them, by this clock; zero before the first
	Lag  uint64    // lines under the journal's newest checkpoint that it has not seen
	Err  error     // why the last submission failed; nil where it did not
}

const (
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
)

// Run submits the journal's newest checkpoint to w now and then, until ctx is
// done; it returns an error only where cfg is wrong. Run it beside the journal,
// one for each witness. What fails is tried again, later each time, up to 5
// minutes; a finding such as [ErrFork] is logged as an error each time, and
// does not end it.
//
// What the witness cosigned last is kept in the journal's folder, in a file
// named witness-, the witness's key hash, and .jsonl, which [Read] reads: with
// it the journal can be verified and events proved while the witness cannot be
// asked. It shows what the witness saw, and not that it saw nothing later:
// whoever can cut the journal can set that file back as well. Where the
// journal's key was rotated, the proof of it is shown first.
func Run(ctx context.Context, j Journal, w Submitter, cfg RunConfig) error {
	switch {
	case cfg.Every == 0:
		cfg.Every = time.Minute
	case cfg.Every < time.Second:
		return errors.New("witness: run: RunConfig.Every is under a second")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	var s Status
	for wait, backoff := time.Duration(0), minBackoff; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		seen := s.Size
		if s.Err != nil {
			seen = 0 // ask again: what it answered may have been wrong
		}
		size, lag, err := submit(ctx, j, w, seen)
		if ctx.Err() != nil {
			return nil
		}
		s.Size, s.Lag, s.Err = size, lag, err
		if err == nil {
			s.Time, wait, backoff = time.Now(), cfg.Every, minBackoff
		} else {
			cfg.Log.Error("witness: the journal is not witnessed", zap.Uint64("lag", lag), zap.Error(err))
			wait, backoff = jitter(backoff), min(2*backoff, maxBackoff)
		}
		if cfg.Report != nil {
			cfg.Report(s)
		}
	}
}

// jitter returns between a half and one and a half of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// Submit shows w the journal's newest checkpoint once, and returns the number
// of lines that it has then seen; what it cosigned is kept as by [Run]. Call it
// before a journal is closed or copied away.
func Submit(ctx context.Context, j Journal, w Submitter) (uint64, error) {
	size, _, err := submit(ctx, j, w, 0)
	return size, err
}

// submit shows w the newest checkpoint, of which it saw seen lines before, and
// keeps what it cosigned.
func submit(ctx context.Context, j Journal, w Submitter, seen uint64) (size, lag uint64, err error) {
	cp, err := j.LastCheckpoint(ctx)
	if err != nil {
		return seen, 0, err
	}
	before := kept(j.Dir(), cp.Origin, w)
	seen = max(seen, before)
	from, cosignatures, err := show(ctx, j, w, seen, cp)
	if errors.Is(err, ErrSignature) {
		first, now, ferr := follow(ctx, j, w, seen)
		if ferr != nil {
			err = fmt.Errorf("%w (%w)", err, ferr)
		} else {
			from, cosignatures, err = show(ctx, j, w, now, cp)
			from = min(first, from)
		}
	}
	if err != nil {
		return from, cp.Size - min(from, cp.Size), fmt.Errorf("witness: submit %d lines: %w", cp.Size, err)
	}
	if err := keep(j.Dir(), cp.Note, cosignatures); err != nil {
		return cp.Size, 0, fmt.Errorf("witness: keep what was cosigned: %w", err)
	}
	if from < before {
		return cp.Size, 0, fmt.Errorf("%w: it cosigned %d lines, and knew of %d", ErrSetBack, before, from)
	}
	return cp.Size, 0, nil
}

// show submits one checkpoint of the journal to w, which is thought to have
// seen its first lines, and returns how many it had seen and its cosignatures.
func show(ctx context.Context, j Journal, w Submitter, seen uint64, cp audit.Checkpoint) (from uint64, cosignatures []byte, err error) {
	// The first answer may be that it saw another size; the second may be a
	// race with another submitter.
	for range 3 {
		if seen > cp.Size {
			return seen, nil, fmt.Errorf("%w: %d lines, of which it saw %d", ErrTruncated, cp.Size, seen)
		}
		proof, err := j.Consistency(ctx, seen, cp.Size)
		if err != nil {
			return seen, nil, err
		}
		cosignatures, err := w.AddCheckpoint(ctx, seen, proof, cp.Note)
		var other *SizeError
		if errors.As(err, &other) && other.Size != seen {
			seen = other.Size
			continue
		}
		return seen, cosignatures, err
	}
	return seen, nil, errors.New("its size changes with each answer")
}

// Lines is a [Submitter] that only writes checkpoints, a JSON line each, to a
// place that keeps what it is given: a log collector, a printer, a bucket with
// object lock. It refuses and signs nothing; [Read] reads its lines.
type Lines struct {
	mu sync.Mutex
	w  io.Writer
}

// NewLines returns a Lines that writes to w, each line with one Write.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

// AddCheckpoint implements [Submitter]. It returns no cosignature.
func (l *Lines) AddCheckpoint(_ context.Context, _ uint64, _ [][]byte, signed []byte) ([]byte, error) {
	text, err := line{Checkpoint: string(signed)}.bytes()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.w.Write(text); err != nil {
		return nil, fmt.Errorf("witness: write line: %w", err)
	}
	return nil, nil
}
