// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/part164/part164/internal/fault"
	"github.com/part164/part164/storage/tombstone"
)

// Tombstones is a [tombstone.Log] in memory. It is safe for concurrent use.
type Tombstones struct {
	faults  fault.Faults
	mu      sync.Mutex
	entries []tombstone.Entry
}

var _ tombstone.Log = (*Tombstones)(nil)

// Fail makes every later call fail with err, until Fail(nil).
func (l *Tombstones) Fail(err error) { l.FailAfter(0, err) }

// FailAfter lets n more calls through and makes every later one fail with err,
// until Fail(nil).
func (l *Tombstones) FailAfter(n int, err error) { l.faults.FailAfter(n, err) }

// Delay makes every later call take at least d, or until its context is done,
// which is its error then. Delay(0) ends it.
func (l *Tombstones) Delay(d time.Duration) { l.faults.Delay(d) }

func (l *Tombstones) call(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.faults.Call(ctx)
}

// Append implements [tombstone.Log].
func (l *Tombstones) Append(ctx context.Context, e tombstone.Entry) error {
	if err := l.call(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Subject, e.MAC = slices.Clone(e.Subject), slices.Clone(e.MAC)
	l.entries = append(l.entries, e)
	return nil
}

// Entries implements [tombstone.Log].
func (l *Tombstones) Entries(ctx context.Context) iter.Seq2[tombstone.Entry, error] {
	return func(yield func(tombstone.Entry, error) bool) {
		err := l.call(ctx)
		l.mu.Lock()
		entries := slices.Clone(l.entries)
		l.mu.Unlock()
		if err != nil {
			yield(tombstone.Entry{}, err)
			return
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// TestTombstones runs the contract of [tombstone.Log]. open is called once a
// subtest and returns an empty log and a function that opens it again.
func TestTombstones(t *testing.T, open func(t *testing.T) (tombstone.Log, func() tombstone.Log)) {
	entry := func(n uint64) tombstone.Entry {
		return tombstone.Entry{Database: "d-1", Count: n, Subject: bytes.Repeat([]byte{byte(n)}, 32),
			Time: time.Unix(1_800_000_000+int64(n), 0).UTC(), MAC: bytes.Repeat([]byte{byte(n), 1}, 16)}
	}
	read := func(t *testing.T, l tombstone.Log) (out []tombstone.Entry) {
		t.Helper()
		for e, err := range l.Entries(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		return out
	}
	equal := func(a, b tombstone.Entry) bool {
		return a.Database == b.Database && a.Count == b.Count && bytes.Equal(a.Subject, b.Subject) && a.Time.Equal(b.Time) && bytes.Equal(a.MAC, b.MAC)
	}
	t.Run("what was appended is there after opening it again", func(t *testing.T) {
		l, again := open(t)
		if got := read(t, l); len(got) != 0 {
			t.Fatalf("an empty log has %v", got)
		}
		want := []tombstone.Entry{entry(1), entry(2), entry(2)} // twice is legal
		for _, e := range want {
			if err := l.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range []tombstone.Log{l, again()} {
			if got := read(t, l); !slices.EqualFunc(got, want, equal) {
				t.Errorf("Entries() = %v, want %v", got, want)
			}
		}
		for range l.Entries(t.Context()) {
			break // ends the iteration
		}
	})
	t.Run("concurrent writers", func(t *testing.T) {
		l, again := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 5 {
					if err := l.Append(t.Context(), entry(uint64(1+5*i+j))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[uint64]bool{}
		for _, e := range read(t, again()) {
			seen[e.Count] = equal(e, entry(e.Count))
		}
		for n := range uint64(40) {
			if !seen[n+1] {
				t.Errorf("entry %d is lost or torn", n+1)
			}
		}
	})
	t.Run("a cancelled context", func(t *testing.T) {
		l, _ := open(t)
		if err := l.Append(t.Context(), entry(1)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Append(ctx, entry(2)); err == nil {
			t.Error("Append(cancelled) = nil")
		}
		for _, err := range l.Entries(ctx) {
			if err == nil {
				t.Error("Entries(cancelled) yields an entry")
			}
		}
	})
}
