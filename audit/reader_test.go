// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/crypto/cryptotest"
)

// A Reader sees what the Journal says is durable, while that goes on, and
// changes nothing.
func TestReaderReadsALiveFolder(t *testing.T) {
	t.Parallel()
	dir, kek := audittest.Dir(t), cryptotest.NewKEK()
	j, err := audit.Open(dir, audit.Config{KEK: kek, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}, access.Treatment)
	ids := func(events iter.Seq2[audit.Stored, error]) (out []string) {
		t.Helper()
		for ev, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, ev.ID)
		}
		return out
	}
	r, err := audit.OpenReader(dir, kek)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 6 {
		for range 200 { // a segment holds some 600
			if _, err := j.Record(ctx, audit.Event{Type: audit.Revealed, Outcome: audit.Success,
				Objects: []audit.Object{{Type: "patient", Record: "r-a", Patient: "r-a", Fields: []string{"name"}}, {Type: "patient", Record: "r-b", Patient: "r-b"}}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []audit.Query{
			{Tenant: "t-1", Patient: "r-a"}, {Tenant: "t-1", Pseudonyms: []string{j.Pseudonym("t-1", "r-b")}}, {Tenant: "t-1", Limit: 7},
		} {
			want, got := ids(j.Events(t.Context(), q)), ids(r.Events(t.Context(), q))
			if !slices.Equal(got, want) || q.Limit == 0 && len(got) != (round+1)*200 {
				t.Fatalf("round %d: %d events, the journal has %d", round, len(got), len(want))
			}
		}
	}
	if r.Writer() != j.Writer() || r.Pseudonym("t-1", "r-a") != j.Pseudonym("t-1", "r-a") {
		t.Error("the reader has another writer or other pseudonyms")
	}
}

// A torn line at the end, which only a crash leaves, is not read.
func TestReaderStopsAtATornLine(t *testing.T) {
	t.Parallel()
	dir, kek := audittest.Dir(t), cryptotest.NewKEK()
	j, err := audit.Open(dir, audit.Config{KEK: kek, SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "00000001.jsonl")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(data, "{\"seq\":99,\"type\":\"reveal\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := audit.OpenReader(dir, kek)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Events(t.Context(), audit.Query{Tenant: "t-1"}) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	dir, kek := audittest.Dir(t), cryptotest.NewKEK()
	j, err := audit.Open(dir, audit.Config{KEK: kek})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dir  string
		kek  crypto.KEK
		want error
	}{
		"another KEK":     {dir, cryptotest.NewKEK(), audit.ErrKEK},
		"no KEK":          {dir, nil, audit.ErrKEK},
		"no folder":       {filepath.Join(dir, "none"), kek, audit.ErrFolder},
		"a file":          {filepath.Join(dir, "keys.json"), kek, audit.ErrFolder},
		"an empty folder": {audittest.Dir(t), kek, audit.ErrFolder},
	} {
		if _, err := audit.OpenReader(tt.dir, tt.kek); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// A Reader waits for a write of which it has seen some pages, and not for ever.
func TestReaderWaitsForAWriteInTheMaking(t *testing.T) {
	for _, comes := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			dir, kek := audittest.Dir(t), cryptotest.NewKEK()
			j, err := audit.Open(dir, audit.Config{KEK: kek})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := j.Record(doctor(t), wide(20)); err != nil {
					t.Fatal(err)
				}
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, firstSegment)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			half := slices.Clone(whole)
			begin := bytes.LastIndex(bytes.TrimRight(half, "\x00\n"), []byte("\n")) // of the last line
			clear(half[begin+11 : begin+101])
			if err := os.WriteFile(path, half, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := audit.OpenReader(dir, kek)
			if err != nil {
				t.Fatal(err)
			}
			n, ended := 0, make(chan error, 1)
			go func() {
				for _, err := range r.Events(t.Context(), audit.Query{Tenant: "t-1"}) {
					if err != nil {
						ended <- err
						return
					}
					n++
				}
				ended <- nil
			}()
			synctest.Wait()
			if comes {
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var corrupt *audit.CorruptError
			if err := <-ended; comes && (err != nil || n != 3) || !comes && !errors.As(err, &corrupt) {
				t.Errorf("it comes: %t: %d events, %v", comes, n, err)
			}
		})
	}
}
