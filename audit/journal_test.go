// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"slices"
	"testing"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// open returns a journal for development in a folder of its own.
func open(t testing.TB, cfg audit.Config) (*audit.Journal, string) {
	t.Helper()
	dir := audittest.Dir(t) + "/audit"
	return reopen(t, dir, cfg), dir
}

func reopen(t testing.TB, dir string, cfg audit.Config) *audit.Journal {
	t.Helper()
	cfg.Development = true
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = 256 << 10
	}
	j, err := audit.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return j
}

func TestJournalKeepsTheContract(t *testing.T) {
	t.Parallel()
	audittest.TestTrail(t, func(t *testing.T) (audit.Trail, func() []audit.Stored) {
		j, dir := open(t, audit.Config{})
		return j, func() []audit.Stored {
			events := everything(t, dir)
			slices.Reverse(events)
			return events
		}
	})
}
