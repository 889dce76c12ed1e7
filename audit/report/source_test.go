// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"path/filepath"
	"testing"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/reporttest"
	"github.com/part164/part164/crypto"
)

// The journal of this process, and the folder of another one.
func TestSourcesKeepTheContract(t *testing.T) {
	t.Parallel()
	t.Run("Journal", func(t *testing.T) {
		reporttest.TestSource(t, func(t *testing.T) (audit.Recorder, func(*testing.T) report.Source) {
			j := journal(t)
			return j, func(*testing.T) report.Source { return j }
		})
	})
	t.Run("Reader", func(t *testing.T) {
		reporttest.TestSource(t, func(t *testing.T) (audit.Recorder, func(*testing.T) report.Source) {
			dir := audittest.Dir(t)
			j, err := audit.Open(dir, audit.Config{Development: true, SegmentSize: 256 << 10})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = j.Close() })
			return j, func(t *testing.T) report.Source {
				kek, err := crypto.LocalKEK(filepath.Clean(dir) + ".kek")
				if err != nil {
					t.Fatal(err)
				}
				r, err := audit.OpenReader(dir, kek)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
		})
	})
}
