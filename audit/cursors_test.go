// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/part164/part164/audit"
)

// TestAPurgeWaitsForEverySink: also where nobody named it, and before it has
// taken anything.
func TestAPurgeWaitsForEverySink(t *testing.T) {
	t.Parallel()
	j, dir, _, _ := aged(t)
	cursor := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "sink-"+name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var second uint64 // the first event of the second segment
	for l, err := range j.Read(t.Context(), audit.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Position.Segment == 2 {
			second = l.Seq
			break
		}
	}
	cursor("ahead", fmt.Sprintf(`{"writer":%q,"seq":%d}`, j.Writer(), 1<<40))
	purge := func(want int) {
		t.Helper()
		r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true})
		if err != nil || r.Segments != want {
			t.Errorf("Purge = %+v, %v; want %d segments", r, err, want)
		}
	}
	cursor("new", `{"writer":"","seq":0}`)
	purge(0)
	cursor("new", fmt.Sprintf(`{"writer":"j1","seq":%d}`, 1<<40)) // of another journal
	purge(0)
	cursor("new", "nonsense")
	if r, err := j.Purge(officer(t), audit.Purge{ClockChecked: true}); err == nil || r.Segments != 0 {
		t.Errorf("with a damaged cursor: Purge = %+v, %v", r, err)
	}
	cursor("new", fmt.Sprintf(`{"writer":%q,"seq":%d}`, j.Writer(), second))
	purge(1)
	if err := os.Remove(filepath.Join(dir, "sink-new.json")); err != nil {
		t.Fatal(err)
	}
	purge(4)
}
