// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTheLimitDoesTheWork: a limit that skipped the chain or the file would
// make every journal look slow.
func TestTheLimitDoesTheWork(t *testing.T) {
	t.Parallel()
	const size = 420
	dir := t.TempDir()
	l, err := newLimit(dir, size)
	if err != nil {
		t.Fatal(err)
	}
	n, err := recordFor(t.Context(), 100*time.Millisecond, 8, l.record)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "limit"))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != limitFile {
		t.Errorf("the file has %d bytes, want %d from the start", len(text), limitFile)
	}
	lines, rest := 0, bytes.TrimRight(text, "\x00")
	prev := make([]byte, sha256.Size)
	for line := range bytes.Lines(rest) {
		var event struct{ Prev, Event string }
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		if event.Prev != hex.EncodeToString(prev) {
			t.Fatalf("line %d is not chained", lines)
		}
		if len(line) != size {
			t.Fatalf("line %d has %d bytes, want %d", lines, len(line), size)
		}
		sum := sha256.Sum256(line)
		prev = sum[:]
		lines++
	}
	if n == 0 || lines != n {
		t.Errorf("%d lines in the file, %d acknowledged", lines, n)
	}
}
