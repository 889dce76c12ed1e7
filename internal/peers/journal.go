// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto/cryptotest"
)

// journalFigures compare audit's journal with the bare limit of group commit,
// lines of the same length, on the same disk.
func journalFigures() []figure {
	return []figure{
		{"audit Record / bare group-commit limit, 1 writer", goal{least: 0.85}, recordRate(1)},
		{"audit Record / bare group-commit limit, 64 writers", goal{least: 0.90}, recordRate(64)},
		{"audit Record, 99th percentile of its latency / the limit's, 64 writers", goal{most: 1.3}, recordTail(64)},
		{"audit Record, CPU per event / the limit's, 64 writers", goal{most: 2}, recordCPU(64)},
	}
}

// A recorder makes one event durable.
type recorder func(context.Context) error

// roundTime is how long one side records in one round.
const roundTime = 150 * time.Millisecond

// recordRate is the journal's throughput as a share of the limit's.
func recordRate(writers int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		return withLimit(ctx, dir, func(journal, bare recorder) (value, error) {
			return ratio(ctx, 31, perEvent(writers, bare), perEvent(writers, journal))
		})
	}
}

// recordCPU is the processor time of an event, the whole process counted, as a
// multiple of the limit's.
func recordCPU(writers int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		return withLimit(ctx, dir, func(journal, bare recorder) (value, error) {
			return ratio(ctx, 15, cpuPerEvent(writers, journal), cpuPerEvent(writers, bare))
		})
	}
}

// recordTail is the 99th percentile of the journal's latency as a multiple of
// the limit's.
func recordTail(writers int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		return withLimit(ctx, dir, func(journal, bare recorder) (value, error) {
			return ratio(ctx, 31, tail(writers, journal), tail(writers, bare))
		})
	}
}

// withLimit calls compare with a journal and a limit, both in dir, whose lines
// are equally long.
func withLimit(ctx context.Context, dir string, compare func(journal, bare recorder) (value, error)) (value, error) {
	return withJournal(ctx, dir, func(journal recorder, size int) (_ value, err error) {
		bare, err := newLimit(dir, size)
		if err != nil {
			return value{}, err
		}
		defer func() { err = errors.Join(err, bare.close()) }()
		return compare(journal, bare.record)
	})
}

// withJournal calls compare with a journal in dir and the length of its lines.
func withJournal(ctx context.Context, dir string, compare func(journal recorder, size int) (value, error)) (_ value, err error) {
	journal, err := audit.Open(filepath.Join(dir, "journal"), audit.Config{KEK: cryptotest.NewKEK()})
	if err != nil {
		return value{}, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	as := access.With(ctx, access.Principal{
		ID: "u-4711", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"nurse"}, Session: "s-2207",
		Assurance: 2, AuthTime: time.Now(), Addr: netip.MustParseAddr("192.0.2.7"),
	}, access.Treatment)
	const patient = "01998ab1-5a4e-7d3c-9f10-8f6f1c3a2b10"
	event := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{{
		Type: "patient", Record: patient, Patient: patient, Fields: []string{"name", "dob", "mrn"},
	}}}
	record := func(context.Context) error { _, err := journal.Record(as, event); return err }
	if err := record(ctx); err != nil {
		return value{}, err
	}
	size, err := lineLength(filepath.Join(dir, "journal"), `"type":"`+string(audit.Revealed)+`"`)
	if err != nil {
		return value{}, err
	}
	return compare(record, size)
}

// lineLength returns the length of the first line in a file of dir that holds
// what, newline included.
func lineLength(dir, what string) (int, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(text) {
			if bytes.Contains(line, []byte(what)) {
				return len(line), nil
			}
		}
	}
	return 0, fmt.Errorf("no line with %s in the journal", what)
}

// perEvent is the time that an event takes while writers record without pause.
func perEvent(writers int, record recorder) side {
	return func(ctx context.Context) (float64, error) {
		begin := time.Now()
		n, err := recordFor(ctx, roundTime, writers, record)
		return float64(time.Since(begin).Nanoseconds()) / float64(n), err
	}
}

// tail is the 99th percentile of the time that an event takes while writers
// record without pause, in nanoseconds.
func tail(writers int, record recorder) side {
	return func(ctx context.Context) (float64, error) {
		var mu sync.Mutex
		var all []time.Duration
		_, err := recordFor(ctx, 2*roundTime, writers, func(ctx context.Context) error {
			begin := time.Now()
			err := record(ctx)
			took := time.Since(begin)
			mu.Lock()
			all = append(all, took)
			mu.Unlock()
			return err
		})
		if err != nil || len(all) == 0 {
			return 0, errors.Join(err, errors.New("no event was recorded"))
		}
		slices.Sort(all)
		return float64(all[len(all)*99/100].Nanoseconds()), nil
	}
}

// cpuPerEvent is the processor time of an event, in nanoseconds.
func cpuPerEvent(writers int, record recorder) side {
	return func(ctx context.Context) (float64, error) {
		begin, err := processorTime()
		if err != nil {
			return 0, err
		}
		n, err := recordFor(ctx, roundTime, writers, record)
		if err != nil {
			return 0, err
		}
		end, err := processorTime()
		return float64((end - begin).Nanoseconds()) / float64(n), err
	}
}

// recordFor has writers record one event after the other for a time, and
// returns how many were acknowledged.
func recordFor(ctx context.Context, d time.Duration, writers int, record recorder) (int, error) {
	var acknowledged atomic.Int64
	errs := make([]error, writers)
	until := time.Now().Add(d)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for time.Now().Before(until) {
				if errs[i] = record(ctx); errs[i] != nil {
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	wg.Wait()
	return int(acknowledged.Load()), errors.Join(errs...)
}
