// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto/cryptotest"
)

// verifyFigures compare audit.Verify, which hashes each line, joins it to the
// tree, and checks signatures, with SHA-256 of the same bytes in memory, and
// with itself over a longer journal. A journal of ten million events takes 4 GB
// and minutes to write: it is measured where PART164_TEST_LONG is 1.
func verifyFigures() []figure {
	const few, many, most = 100_000, 1_000_000, 10_000_000
	const several = 500_000 // segments of 64 MiB: three, which cores can share
	return []figure{
		{"verify / SHA-256 of the same bytes, both on one core", goal{least: 0.5}, verifyRate(several, 1)},
		{"verify on all cores / SHA-256 of the same bytes on one", goal{least: 0.5}, verifyRate(several, runtime.NumCPU())},
		{"verify, time an event, 1,000,000 events / 100,000", goal{most: 1.2}, verifyGrowth(few, many, verifyTime)},
		{"verify, peak memory, 1,000,000 events / 100,000", goal{most: 1.2}, verifyGrowth(few, many, verifyMemory)},
		{"verify, time an event, 10,000,000 events / 100,000", goal{most: 1.2}, long(verifyGrowth(few, most, verifyTime))},
		{"verify, peak memory, 10,000,000 events / 100,000", goal{most: 1.2}, long(verifyGrowth(few, most, verifyMemory))},
	}
}

// long measures only where there is time for it.
func long(measure func(context.Context, string) (value, error)) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		if os.Getenv("PART164_TEST_LONG") != "1" {
			return value{}, absent("PART164_TEST_LONG is not 1")
		}
		return measure(ctx, dir)
	}
}

// fill records events in a journal in dir.
func fill(ctx context.Context, dir string, events int) (err error) {
	journal, err := audit.Open(dir, audit.Config{KEK: cryptotest.NewKEK(), Timeout: time.Minute})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	as := access.With(ctx, access.Principal{
		ID: "u-4711", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"nurse"}, Session: "s-2207", Assurance: 2, AuthTime: time.Now(),
	}, access.Treatment)
	const writers = 1000 // share their syncs
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			patient := "p-" + strconv.Itoa(w)
			event := audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{{
				Type: "patient", Record: patient, Patient: patient, Fields: []string{"name", "dob", "mrn"},
			}}}
			for range events / writers {
				if _, errs[w] = journal.Record(as, event); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// verifyRate is Verify's throughput on so many cores as a share of SHA-256's.
func verifyRate(events, cores int) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		journal := filepath.Join(dir, "journal")
		if err := fill(ctx, journal, events); err != nil {
			return value{}, err
		}
		files, err := filepath.Glob(filepath.Join(journal, "*.jsonl"))
		if err != nil {
			return value{}, err
		}
		var all []byte
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				return value{}, err
			}
			all = append(all, bytes.TrimRight(data, "\x00")...)
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		hash := timed(1, func(context.Context) error { sha256.Sum256(all); return nil })
		return ratio(ctx, 15, hash, timed(1, func(ctx context.Context) error { return sound(ctx, journal) }))
	}
}

// sound verifies a journal.
func sound(ctx context.Context, dir string) error {
	r, err := audit.Verify(ctx, dir, audit.VerifyConfig{})
	if err == nil && r.Broken() {
		err = fmt.Errorf("the journal is broken: %v", r.Defects)
	}
	return err
}

// verifyGrowth compares a journal of many events with one of few.
func verifyGrowth(few, many int, measure func(ctx context.Context, dir, journal string, events int) (side, error)) func(context.Context, string) (value, error) {
	return func(ctx context.Context, dir string) (value, error) {
		var sides []side
		for _, events := range []int{many, few} {
			journal := filepath.Join(dir, "journal"+strconv.Itoa(events))
			if err := fill(ctx, journal, events); err != nil {
				return value{}, err
			}
			s, err := measure(ctx, dir, journal, events)
			if err != nil {
				return value{}, err
			}
			sides = append(sides, s)
		}
		return ratio(ctx, 5, sides[0], sides[1])
	}
}

// verifyTime is the time that Verify takes an event, on all cores.
func verifyTime(_ context.Context, _, journal string, events int) (side, error) {
	verify := timed(1, func(ctx context.Context) error { return sound(ctx, journal) })
	return func(ctx context.Context) (float64, error) {
		took, err := verify(ctx)
		return took / float64(events), err
	}, nil
}

// verifyMemory is the most memory that auditctl verify had at a time.
func verifyMemory(ctx context.Context, dir, journal string, _ int) (side, error) {
	program := filepath.Join(dir, "auditctl")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/part164/part164/audit/cmd/auditctl").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build auditctl: %w: %s", err, text)
	}
	return func(ctx context.Context) (float64, error) {
		cmd := exec.CommandContext(ctx, program, "verify", journal)
		if text, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("auditctl verify: %w: %s", err, text)
		}
		return peakMemory(cmd.ProcessState)
	}, nil
}
