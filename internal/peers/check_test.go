// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/part164/part164/access"
)

// TestTheFullCheckOfEachHousing: what is measured of a full Check answers alike
// from memory and from SQLite, by every stage, also where the tables are longer
// than those who are asked about need.
func TestTheFullCheckOfEachHousing(t *testing.T) {
	t.Parallel()
	w := newWorld(1500, 100)
	memory, err := inMemory(t.Context(), w, "")
	if err != nil {
		t.Fatal(err)
	}
	file, err := inSQLite(t.Context(), w, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.close(); err != nil {
			t.Error(err)
		}
	})
	if err := file.verified(t.Context(), tableRequests); err != nil {
		t.Error(err)
	}
	seen := make(map[access.Code]int)
	for n := range tableRequests {
		a, err1 := memory.check(t.Context(), n)
		b, err2 := file.check(t.Context(), n)
		if a.Code != b.Code || err1 != nil || err2 != nil {
			t.Errorf("question %d: %+v, %v in memory; %+v, %v from SQLite", n, a, err1, b, err2)
		}
		seen[b.Code]++
	}
	t.Log(seen)
}
