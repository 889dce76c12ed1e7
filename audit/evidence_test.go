// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
)

// A segment has its header and checkpoint before it has its name: one without
// them was wiped, the newest as any other, and no reader passes over it.
func TestAWipedSegmentIsFound(t *testing.T) {
	t.Parallel()
	whole := rolled(t)
	for name, wipe := range map[string]func(data []byte, header int) []byte{
		"cut to nothing":       func([]byte, int) []byte { return nil },
		"zeros":                func(data []byte, _ int) []byte { return make([]byte, len(data)) },
		"zeros from its start": func(data []byte, _ int) []byte { return append(make([]byte, 4096), data[4096:]...) },
		"cut behind its header": func(data []byte, header int) []byte {
			return data[:header]
		},
		"zeros behind its header": func(data []byte, header int) []byte {
			return append(bytes.Clone(data[:header]), make([]byte, len(data)-header)...)
		},
		"zeros in its checkpoint": func(data []byte, header int) []byte {
			return append(bytes.Clone(data[:header+20]), make([]byte, len(data)-header-20)...)
		},
	} {
		for _, segments := range []int{1, 5} {
			dir := copied(t, whole)
			for i := segments + 1; i <= 5; i++ {
				if err := os.Remove(segmentFile(dir, i)); err != nil {
					t.Fatal(err)
				}
			}
			file := segmentFile(dir, segments)
			data, err := os.ReadFile(segmentFile(whole, 5)) // the one that has its zeros
			if segments == 1 {
				data, err = os.ReadFile(segmentFile(whole, 1))
			}
			if err != nil {
				t.Fatal(err)
			}
			data = append(data, make([]byte, 8192)...)
			put(t, file, wipe(data, bytes.IndexByte(data, '\n')+1))
			r := verify(t, dir)
			if len(r.Defects) == 0 || r.Defects[0].File != filepath.Base(file) || len(r.Defects) > 1 && name == "cut to nothing" {
				t.Errorf("%s, the newest of %d: Verify = %v", name, segments, r.Defects)
			}
			var corrupt *audit.CorruptError
			if _, err := readAll(t, dir, audit.Position{}); !errors.As(err, &corrupt) || corrupt.File != filepath.Base(file) {
				t.Errorf("%s, the newest of %d: Read = %v", name, segments, err)
			}
			if j, err := audit.Open(dir, audit.Config{Development: true}); err == nil {
				t.Errorf("%s, the newest of %d: opened", name, segments)
				_ = j.Close()
			}
		}
	}
}

// What a copy does to modes says nothing about a journal: neither that a
// segment is missing, nor that none is.
func TestVerifyAsksNoFileModes(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]string{"closed": small(t), "crashed": abandoned(t)} {
		for _, mode := range []os.FileMode{0o400, 0o444, 0o600, 0o644} {
			dir := copied(t, whole)
			if err := os.Chmod(segmentFile(dir, 1), mode); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, dir); r.Broken() {
				t.Errorf("%s, the only segment has mode %v: %v", name, mode, r.Defects)
			}
		}
	}
	whole := rolled(t)
	closed := copied(t, whole)
	put(t, segmentFile(closed, 5), readSegment(t, closed, 5)) // without its zeros
	if fast, slow, err := audit.VerifyBothWays(t.Context(), closed, nil); err != nil || fast.Broken() || slow.Broken() {
		t.Errorf("closed, and its zeros were lost: %v %v %v", fast.Defects, slow.Defects, err)
	}
	for last := 1; last < 5; last++ {
		dir := copied(t, whole)
		for i := 1; i <= 5; i++ {
			if i > last {
				if err := os.Remove(segmentFile(dir, i)); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Chmod(segmentFile(dir, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want := filepath.Base(segmentFile(dir, last+1))
		if r := verify(t, dir); len(r.Defects) != 1 || r.Defects[0].File != want || !strings.Contains(r.Defects[0].Problem, "the one before it was completed") {
			t.Errorf("the tail is cut behind segment %d, with modes of a copy: %v", last, r.Defects)
		}
	}
}

// abandoned makes a journal as a kill leaves it, once all it has is signed.
func abandoned(t testing.TB) string {
	t.Helper()
	j, dir := open(t, audit.Config{CheckpointEvery: 5 * time.Millisecond})
	record(t, j, reveal("r-1"))
	for r := verify(t, dir); r.Unsigned > 0; r = verify(t, dir) {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	return copied(t, dir)
}
