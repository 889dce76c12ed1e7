// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A segment that was wiped, the newest or the only one, is nowhere taken for a
// journal in which nothing happened.
func TestAWipedJournalIsNotAnEmptyOne(t *testing.T) {
	t.Parallel()
	for name, wipe := range map[string]func(path string, size int64) error{
		"cut to nothing": func(path string, _ int64) error { return os.Truncate(path, 0) },
		"zeros":          func(path string, size int64) error { return os.WriteFile(path, make([]byte, size), 0o600) },
	} {
		dir := journal(t)
		path := filepath.Join(dir, "00000001.jsonl")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := wipe(path, info.Size()); err != nil {
			t.Fatal(err)
		}
		keyed := []string{"--kek", filepath.Clean(dir) + ".kek", "--tenant", "t-1", "--purpose", "HCOMPL"}
		for _, args := range [][]string{
			append([]string{"report", "review", dir}, keyed...), append([]string{"hold", dir}, keyed...), append([]string{"purge", dir, "--before", "2001-01-01"}, keyed...),
			{"verify", dir}, {"tail", dir}, {"export", dir}, {"export", dir, "--format", "fhir"}} {
			if code, out, errs := ctl(t, args...); code != exitBroken {
				t.Errorf("%s: %v: exit %d: %s%s", name, args, code, out, errs)
			}
		}
	}
}
