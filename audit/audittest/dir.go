// SPDX-License-Identifier: Apache-2.0

package audittest

import (
	"os"
	"testing"
)

// Dir returns an empty folder on a disk for a journal, removed when the test
// ends. Where the system's folder for temporary files lies in memory, which
// [audit.Open] refuses, it is made under the working directory.
func Dir(t testing.TB) string {
	t.Helper()
	if !inMemory(os.TempDir()) {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(".", "journal-*.tmp")
	if err != nil {
		t.Fatalf("audittest: make a folder: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
