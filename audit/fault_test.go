// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

const (
	minSegment   = 256 << 10
	firstSegment = "00000001.jsonl"
)

// onDisk returns a disk with faults, and the folder that it is over.
func onDisk(t testing.TB) (*audittest.Disk, string) {
	t.Helper()
	dir := audittest.Dir(t) + "/audit"
	return powerOn(t, dir), dir
}

// powerOn returns the disk as it comes up again.
func powerOn(t testing.TB, dir string) *audittest.Disk {
	t.Helper()
	d, err := audittest.NewDisk(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openOn(t testing.TB, d *audittest.Disk, dir string, cfg audit.Config) *audit.Journal {
	t.Helper()
	cfg.Development, cfg.SegmentSize, cfg.Disk = true, minSegment, d
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second // a loaded machine is no fault
	}
	j, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// oneAtATime makes a fault safe where several files are synced at once.
func oneAtATime(fault func(op audittest.Op, name string) (int, error)) func(audittest.Op, string) (int, error) {
	var mu sync.Mutex
	return func(op audittest.Op, name string) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return fault(op, name)
	}
}

func doctor(t testing.TB) context.Context {
	return access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
}

func search(n int) audit.Event {
	return audit.Event{Type: audit.Searched, Outcome: audit.Success, Count: n}
}

// wide is an event with so many objects, to fill segments with.
func wide(objects int) audit.Event {
	ev := audit.Event{Type: audit.Revealed, Outcome: audit.Success}
	for i := range objects {
		id := "r-" + strconv.Itoa(i)
		ev.Objects = append(ev.Objects, audit.Object{Type: "patient", Record: id, Patient: id, Fields: []string{"name"}})
	}
	return ev
}

func sound(t testing.TB, dir string) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Defects {
		t.Errorf("verify: %v", d)
	}
	return r
}

// kept returns the IDs of the events that a reader of j sees.
func kept(t testing.TB, j *audit.Journal) map[string]audit.Stored {
	t.Helper()
	ids := make(map[string]audit.Stored)
	for s, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids[s.ID] = s
	}
	return ids
}

// ofType returns the events of a type in dir, oldest first.
func ofType(t testing.TB, dir string, typ audit.Type) (out []audit.Stored) {
	t.Helper()
	all := everything(t, dir)
	for i := range all {
		if s := all[len(all)-1-i]; s.Type == typ {
			out = append(out, s)
		}
	}
	return out
}

// everything returns all events of a journal, newest first. One that is open may
// be writing its last line just now.
func everything(t testing.TB, dir string) []audit.Stored {
	t.Helper()
	all, err := audit.All(dir)
	for try := 0; err != nil && try < 1000; try++ { // not by the clock, which stands still in a bubble
		runtime.Gosched()
		all, err = audit.All(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAcknowledgedEventsSurviveAPowerCut(t *testing.T) {
	t.Parallel()
	journals := 1
	if long() {
		journals = 40
	}
	torn := 0
	for range journals {
		torn += powerCuts(t, 25)
	}
	if torn == 0 {
		t.Error("no crash left a torn tail: the test proves little")
	}
}

// powerCuts puts one journal through so many power cuts and returns how many
// torn bytes were dropped.
func powerCuts(t *testing.T, rounds int) (recovered int) {
	d, dir := onDisk(t)
	acked := make(map[string]bool)
	for round := range rounds {
		j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Millisecond})
		have := kept(t, j)
		for id := range acked {
			if _, ok := have[id]; !ok {
				t.Fatalf("round %d: acknowledged event %s is lost", round, id)
			}
		}
		// The power goes while a sync is under way: what was written since the
		// last one is there in part, and not acknowledged.
		syncs, keep := 1+rand.IntN(40), []float64{0, 0.5, 0.9, 1}[rand.IntN(4)]
		disk := d
		disk.Fail(oneAtATime(func(op audittest.Op, name string) (int, error) {
			if op != audittest.DiskSync {
				return 0, nil
			}
			syncs--
			if n := disk.Unsynced(name); syncs <= 0 && (n > 4 || syncs < -20) {
				_ = disk.Cut(keep) // an error where it was cut before
			}
			return 0, nil
		}))
		var mu sync.Mutex
		var wg sync.WaitGroup
		ctx := doctor(t)
		for w := range 8 {
			wg.Go(func() {
				for {
					ev := search(1)
					if w%2 == 0 {
						ev = wide(10 + 100*w)
					}
					receipt, err := j.Record(ctx, ev)
					if err != nil {
						return
					}
					mu.Lock()
					acked[receipt.ID] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		_ = j.Close()
		d = powerOn(t, dir)
	}
	j := openOn(t, d, dir, audit.Config{})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range ofType(t, dir, audit.Recovered) {
		recovered += s.Count
	}
	r := sound(t, dir)
	t.Logf("%d rounds, %d acknowledged, %d segments, %d torn bytes dropped", rounds, len(acked), r.Segments, recovered)
	return recovered
}

func TestFaultsAreRefusedAndForgotten(t *testing.T) {
	t.Parallel()
	journals := 1
	if long() {
		journals = 25
	}
	for range journals {
		faults(t, 60)
	}
}

// faults puts one journal through so many faults.
func faults(t *testing.T, rounds int) {
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Millisecond})
	ctx := doctor(t)
	acked := make(map[string]bool)
	refused := 0
	for round := range rounds {
		op := []audittest.Op{audittest.DiskWrite, audittest.DiskSync, audittest.DiskRename, audittest.DiskSyncDir, audittest.DiskCreate}[rand.IntN(5)]
		fault := []error{syscall.EIO, syscall.ENOSPC}[rand.IntN(2)]
		after, times, short := rand.IntN(4), 1+rand.IntN(3), rand.IntN(600)
		d.Fail(oneAtATime(func(o audittest.Op, _ string) (int, error) {
			if o != op {
				return 0, nil
			}
			if after--; after >= 0 || times <= 0 {
				return 0, nil
			}
			times--
			return short, fault
		}))
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for range 3 {
					ev := search(round)
					if w == 0 {
						ev = wide(700)
					}
					receipt, err := j.Record(ctx, ev)
					mu.Lock()
					switch {
					case err == nil:
						acked[receipt.ID] = true
					case !errors.Is(err, audit.ErrUnavailable):
						t.Errorf("Record = %v, want ErrUnavailable", err)
					default:
						refused++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		d.Fail(nil)
		receipt, err := j.Record(ctx, search(1))
		if err != nil {
			if receipt, err = j.Record(ctx, search(1)); err != nil {
				t.Fatalf("round %d (%s %v): the journal does not go on: %v", round, op, fault, err)
			}
		}
		acked[receipt.ID] = true
	}
	have := kept(t, j)
	for id := range acked {
		if _, ok := have[id]; !ok {
			t.Errorf("acknowledged event %s is lost", id)
		}
	}
	for _, name := range d.SyncedAfterFailure() {
		t.Errorf("%s was synced again after a failed sync", name)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r := sound(t, dir)
	again := openOn(t, d, dir, audit.Config{})
	if got := kept(t, again); len(got) != len(have) {
		t.Errorf("%d events after reopening, %d before", len(got), len(have))
	}
	t.Logf("%d acknowledged, %d refused, %d segments, %d given up", len(acked), refused, r.Segments, r.GivenUp)
	if refused == 0 || r.GivenUp == 0 {
		t.Error("the faults had no effect")
	}
}

func TestAFailedSyncGivesTheSegmentUp(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: time.Minute})
	ctx := doctor(t)
	first, err := j.Record(ctx, search(1))
	if err != nil {
		t.Fatal(err)
	}
	failed := false
	d.Fail(func(op audittest.Op, name string) (int, error) {
		if op == audittest.DiskSync && name == firstSegment {
			failed = true
			return 0, syscall.EIO
		}
		return 0, nil
	})
	if _, err := j.Record(ctx, search(2)); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, syscall.EIO) || !failed {
		t.Fatalf("Record(sync fails) = %v, want ErrUnavailable and EIO", err)
	}
	third, err := j.Record(ctx, search(3))
	if err != nil {
		t.Fatalf("Record after a failed sync = %v", err)
	}
	have := kept(t, j)
	if _, ok := have[first.ID]; !ok || len(have) != 2 || have[third.ID].Count != 3 {
		t.Errorf("kept %v", have)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if r := sound(t, dir); r.GivenUp != 1 || r.Segments != 2 {
		t.Errorf("report: %+v", r)
	}
}

func TestDiskFullRefusesAndResumes(t *testing.T) {
	t.Parallel()
	d, dir := onDisk(t)
	j := openOn(t, d, dir, audit.Config{CheckpointEvery: 10 * time.Millisecond})
	d.SetFree(1000)
	ctx := doctor(t)
	acked := 0
	var err error
	for err == nil {
		if _, err = j.Record(ctx, wide(700)); err == nil {
			acked++
		}
		if acked > 100 {
			t.Fatal("a full disk takes everything")
		}
	}
	if !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Record(disk full) = %v, want ErrUnavailable and ENOSPC", err)
	}
	if acked == 0 {
		t.Error("nothing was taken though the segments were there")
	}
	d.SetFree(1 << 40)
	if _, err := j.Record(ctx, search(1)); err != nil {
		t.Fatalf("Record(room again) = %v", err)
	}
	if got := len(kept(t, j)); got != acked+1 {
		t.Errorf("%d events are kept, want %d", got, acked+1)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	sound(t, dir)
}

// hang lets no write to the first segment end until answers is called.
func hang(d *audittest.Disk) (answers func()) {
	release := make(chan struct{})
	d.Fail(func(op audittest.Op, name string) (int, error) {
		if op == audittest.DiskSync && name == firstSegment {
			<-release
		}
		return 0, nil
	})
	return func() { close(release); d.Fail(nil) }
}

func TestRecordIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, dir := onDisk(t)
		j := openOn(t, d, dir, audit.Config{Timeout: 100 * time.Millisecond, CheckpointEvery: time.Minute})
		answers := hang(d)
		start := time.Now()
		if _, err := j.Record(doctor(t), search(1)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Record(disk hangs) = %v, want ErrUnavailable", err)
		}
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("Record took %v, want its Timeout", took)
		}
		answers()
		synctest.Wait() // the hanging write ends
		if _, err := j.Record(doctor(t), search(2)); err != nil {
			t.Errorf("Record(disk answers again) = %v", err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}
