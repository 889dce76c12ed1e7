// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"slices"
	"testing"
)

func TestMatrixTellsWhatIsAbsent(t *testing.T) {
	t.Parallel()
	m := &matrix{title: "attacks", paths: []string{"a", "long/path"}, names: []string{"SQLite", "MariaDB", "PostgreSQL"}, up: map[string]bool{}, cells: map[string]string{}}
	m.there("SQLite")
	m.there("MariaDB")
	m.set(t, "SQLite", "a", "ok")
	m.set(t, "SQLite", "long/path", "refused")
	m.set(t, "MariaDB", "a", "denied")
	want := "attacks: 2 paths\n" +
		"           SQLite     MariaDB    PostgreSQL\n" +
		"a          ok         denied     -\n" +
		"long/path  refused    absent     -\n"
	if got := m.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if got := m.absences("TestEveryPath"); !slices.Equal(got, []string{"MariaDB: the path long/path did not run"}) {
		t.Errorf("absences = %q", got)
	}
	if got := m.absences("TestEveryPath/SQLite"); got != nil {
		t.Errorf("asked for a part, absences = %q", got)
	}
}
