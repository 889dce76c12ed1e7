// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
)

// A remote keeps lines as a database would.
type remote struct {
	mu    sync.Mutex
	seqs  map[string][]byte
	lines [][]byte
	fail  func(lines [][]byte) (kept int, err error) // asked first, where set
	calls int
	busy  atomic.Bool
}

var seqOf = regexp.MustCompile(`^\{"seq":(\d+),`)

func (r *remote) Deliver(ctx context.Context, writer string, lines [][]byte) error {
	if r.busy.Swap(true) {
		return errors.New("two deliveries at once")
	}
	defer r.busy.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if !strings.HasPrefix(writer, "j") || len(writer) != 33 {
		return fmt.Errorf("writer %q", writer)
	}
	var err error
	if r.fail != nil {
		var kept int
		if kept, err = r.fail(lines); err != nil {
			lines = lines[:min(kept, len(lines))]
		}
	}
	for _, line := range lines {
		m := seqOf.FindSubmatch(line)
		if m == nil {
			return fmt.Errorf("no line: %s", line)
		}
		if have, ok := r.seqs[string(m[1])]; ok {
			if !bytes.Equal(have, line) {
				return errors.New("forked: another line has this sequence")
			}
			continue
		}
		if r.seqs == nil {
			r.seqs = make(map[string][]byte)
		}
		if n := len(r.lines); string(m[1]) != fmt.Sprint(n) {
			return fmt.Errorf("sequence %s comes after %d lines", m[1], n)
		}
		line = bytes.Clone(line)
		r.seqs[string(m[1])] = line
		r.lines = append(r.lines, line)
	}
	return err
}

func (r *remote) setFail(fail func([][]byte) (int, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

func (r *remote) all() iter.Seq2[[]byte, error] {
	r.mu.Lock()
	lines := r.lines
	r.mu.Unlock()
	return func(yield func([]byte, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	}
}

// A container's disk goes in mid-stream. Nothing acknowledged is lost, and with
// the KEK the journal is whole again: readable by patient, sound, and open for
// more.
func TestTheDiskIsDeletedInMidStream(t *testing.T) {
	t.Parallel()
	kek, sink := cryptotest.NewKEK(), &remote{}
	memory := "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		memory = t.TempDir()
	}
	tmp, err := os.MkdirTemp(memory, "part164-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	dir := filepath.Join(tmp, "audit")
	cfg := audit.Config{KEK: kek, Durability: sink, SegmentSize: minSegment, CheckpointEvery: 5 * time.Millisecond, Timeout: 10 * time.Second}
	j, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := doctor(t)
	detailed := search(1)
	detailed.Detail = &audit.Detail{Description: "visit notes"}
	if _, err := j.Record(ctx, detailed); memory == "/dev/shm" && !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Record(a detail that would be lost) = %v, want ErrUnavailable", err)
	}
	var mu sync.Mutex
	acked := make(map[string]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				receipt, err := j.Record(ctx, wide(20))
				if err != nil {
					if !errors.Is(err, audit.ErrUnavailable) {
						t.Errorf("Record(disk gone) = %v, want ErrUnavailable", err)
					}
					return
				}
				mu.Lock()
				acked[receipt.ID] = true
				if len(acked) == 400 { // over more than one segment
					if err := os.RemoveAll(dir); err != nil {
						t.Error(err)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := j.Ready(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Ready(disk gone) = %v, want ErrUnavailable", err)
	}
	_ = j.Close()

	again := audittest.Dir(t) + "/restored"
	if err := audit.Restore(again, sink.all()); err != nil {
		t.Fatal(err)
	}
	if r := sound(t, again); r.Segments < 2 {
		t.Errorf("%d segments: the test does not roll", r.Segments)
	}
	j, err = audit.Open(again, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	have := kept(t, j)
	for id := range acked {
		if _, ok := have[id]; !ok {
			t.Errorf("acknowledged event %s is lost", id)
		}
	}
	n := 0
	for s, err := range j.Events(t.Context(), audit.Query{Tenant: "t-1", Patient: "r-3"}) {
		if err != nil || len(s.Objects) != 1 {
			t.Fatal(s, err)
		}
		n++
	}
	if n != len(have) {
		t.Errorf("%d of %d events are found by their patient", n, len(have))
	}
	if _, err := j.Record(ctx, search(1)); err != nil {
		t.Errorf("Record(restored) = %v", err)
	}
	if err := j.Close(); err != nil { // nothing is delivered any more
		t.Error(err)
	}
	t.Logf("%d acknowledged, %d lines at the remote in %d deliveries", len(acked), len(sink.lines), sink.calls)
}

// Many writers share one delivery.
func TestARemoteIsGivenGroups(t *testing.T) {
	t.Parallel()
	sink := &remote{}
	sink.setFail(func([][]byte) (int, error) { time.Sleep(2 * time.Millisecond); return 0, nil })
	j, _ := open(t, audit.Config{Durability: sink})
	ctx := doctor(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 5 {
				if _, err := j.Record(ctx, search(1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if sink.calls > 160 {
		t.Errorf("%d deliveries for 320 events of 64 writers", sink.calls)
	}
}

// An outage refuses within the timeout. What the remote may have got all the
// same is not written again by another name, and nothing is out of order.
func TestAnOutageOfTheRemoteRefuses(t *testing.T) {
	t.Parallel()
	sink := &remote{}
	j, dir := open(t, audit.Config{Durability: sink, CheckpointEvery: time.Millisecond, Timeout: 5 * time.Second})
	ctx := doctor(t)
	acked := make(map[string]bool)
	var mu sync.Mutex
	refused := 0
	for round := range 30 {
		down := fmt.Errorf("down %d", round)
		left := round % 5
		sink.setFail(func(lines [][]byte) (int, error) {
			if left--; left >= 0 {
				return 0, nil
			}
			return round % (len(lines) + 1), down // it keeps some of them
		})
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for range 3 {
					receipt, err := j.Record(ctx, wide(60))
					mu.Lock()
					if err == nil {
						acked[receipt.ID] = true
					} else if refused++; !errors.Is(err, audit.ErrUnavailable) {
						t.Errorf("Record(remote down) = %v, want ErrUnavailable", err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if round%10 == 9 {
			// However few deliveries the writers shared, the remote is down now.
			sink.setFail(func([][]byte) (int, error) { return 0, down })
			if _, err := j.Record(ctx, search(1)); !errors.Is(err, down) {
				t.Errorf("Record(remote down) = %v, want its error", err)
			}
			if err := j.Ready(); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("Ready(remote down) = %v, want ErrUnavailable", err)
			}
		}
		sink.setFail(nil)
		waitFor(t, func() bool { // a delivery that began before may still fail
			receipt, err := j.Record(ctx, search(1))
			if err == nil {
				acked[receipt.ID] = true
			}
			return err == nil
		})
	}
	if err := j.Ready(); err != nil {
		t.Errorf("Ready(remote up) = %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if refused == 0 {
		t.Error("the outages had no effect")
	}
	sound(t, dir)
	there := string(bytes.Join(sink.lines, []byte("\n")))
	for id := range acked {
		seq := id[strings.LastIndexByte(id, '.')+1:]
		if !strings.Contains(there, `{"seq":`+seq+`,`) {
			t.Errorf("acknowledged event %s is not at the remote", id)
		}
	}
	again := audittest.Dir(t) + "/restored"
	if err := audit.Restore(again, sink.all()); err != nil {
		t.Fatal(err)
	}
	if a, b := sound(t, again), sound(t, dir); a.Lines != b.Lines {
		t.Errorf("%d lines at the remote, %d in the folder", a.Lines, b.Lines)
	}
}

// A remote that hangs holds nobody up for longer than the timeout.
func TestARemoteThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := &remote{}
		j, _ := open(t, audit.Config{Durability: sink, CheckpointEvery: time.Minute, Timeout: 200 * time.Millisecond})
		release := make(chan struct{})
		sink.setFail(func([][]byte) (int, error) { <-release; return 0, nil })
		begin := time.Now()
		if _, err := j.Record(doctor(t), search(1)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Record(remote hangs) = %v, want ErrUnavailable", err)
		}
		if took := time.Since(begin); took != 200*time.Millisecond {
			t.Errorf("Record took %v, want its Timeout", took)
		}
		time.Sleep(time.Nanosecond) // of the bubble's clock: longer than Timeout
		if err := j.Ready(); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Ready(remote hangs) = %v, want ErrUnavailable", err)
		}
		close(release)
		synctest.Wait() // the delivery ends
		if _, err := j.Record(doctor(t), search(1)); err != nil {
			t.Errorf("Record(remote answers again) = %v", err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The process dies with lines that the remote has not confirmed: the next one
// delivers them before anything else.
func TestWhatWasNotConfirmedIsDeliveredAtOpen(t *testing.T) {
	t.Parallel()
	for _, roll := range []bool{false, true} {
		sink := &remote{}
		d, dir := onDisk(t)
		j := openOn(t, d, dir, audit.Config{Durability: sink, CheckpointEvery: time.Minute, Timeout: 5 * time.Second})
		ctx := doctor(t)
		down := errors.New("down")
		want := `"count":7`
		if roll { // with the next segment's header
			want = `"type":"segment"`
			sink.setFail(func(lines [][]byte) (int, error) {
				for _, line := range lines {
					if bytes.Contains(line, []byte(`"type":"segment","format":1,"segment":2`)) {
						return 0, down
					}
				}
				return 0, nil
			})
			var err error
			for n := 0; err == nil && n < 100; n++ {
				_, err = j.Record(ctx, wide(300))
			}
			if !errors.Is(err, audit.ErrUnavailable) {
				t.Fatalf("Record(remote down) = %v", err)
			}
			sink.setFail(func([][]byte) (int, error) { return 0, down })
		} else {
			sink.setFail(func([][]byte) (int, error) { return 0, down })
			if _, err := j.Record(ctx, search(7)); !errors.Is(err, audit.ErrUnavailable) {
				t.Fatalf("Record(remote down) = %v", err)
			}
		}
		if err := d.Cut(0); err != nil {
			t.Fatal(err)
		}
		_ = j.Close()
		before := len(sink.lines)
		if _, err := audit.Open(dir, audit.Config{Development: true, Durability: sink, SegmentSize: minSegment}); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("Open(remote down) = %v, want ErrUnavailable", err)
		}
		sink.setFail(nil)
		reopen(t, dir, audit.Config{Durability: sink})
		if n := len(sink.lines); n <= before+1 || !bytes.Contains(sink.lines[before], []byte(want)) {
			t.Errorf("roll %v: %d lines at the remote, %d before; want the unconfirmed ones next", roll, n, before)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	sink := &remote{}
	j, dir := open(t, audit.Config{Durability: sink})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	of := func(lines ...[]byte) iter.Seq2[[]byte, error] {
		return (&remote{lines: lines}).all()
	}
	for name, lines := range map[string]iter.Seq2[[]byte, error]{
		"nothing":            of(),
		"no header first":    of(sink.lines[1:]...),
		"no line":            of([]byte("hello")),
		"the source failing": func(yield func([]byte, error) bool) { yield(nil, errors.New("down")) },
	} {
		if err := audit.Restore(t.TempDir()+"/x", lines); err == nil {
			t.Errorf("Restore(%s) succeeds", name)
		}
	}
	if err := audit.Restore(dir, sink.all()); !errors.Is(err, os.ErrExist) {
		t.Errorf("Restore(over a journal) = %v, want ErrExist", err)
	}
}
