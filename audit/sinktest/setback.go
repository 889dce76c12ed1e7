// SPDX-License-Identifier: Apache-2.0

package sinktest

import (
	"os"
	"path/filepath"
	"testing"
)

// setBack puts the cursor of a sink back to the first event, as a restore of an
// older folder would: everything is delivered again.
func setBack(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "sink-"+name+".json")); err != nil {
		t.Fatal(err)
	}
}
