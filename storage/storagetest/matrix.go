// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"database/sql"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
)

// A Database is one that a suite runs on.
type Database struct {
	Name string // such as "PostgreSQL": a column of the matrix

	// Open returns an empty database, which is the test's own, and a second
	// connection to it by sql.Open, which knows neither GORM nor storage.
	// Where the database is not there, it skips the test by name.
	Open func(t *testing.T) (gorm.Dialector, *sql.DB)
}

// A matrix is what came of each path on each database. A path that is absent
// from a database that is there fails the suite: a suite that runs half is not
// a suite that passes.
type matrix struct {
	title string
	paths []string

	mu    sync.Mutex
	names []string          // of the databases
	up    map[string]bool   // databases that are there
	cells map[string]string // database + "\x00" + path
}

// absent stands where a path did not run.
const absent = "absent"

// onMatrix runs a suite on each database side by side, and prints the matrix
// when all are done.
func onMatrix(t *testing.T, title string, paths []string, dbs []Database, run func(t *testing.T, m *matrix, db Database)) {
	m := &matrix{title: title, paths: paths, up: map[string]bool{}, cells: map[string]string{}}
	for i, p := range paths {
		if slices.Contains(paths[:i], p) {
			t.Errorf("two paths are called %s", p)
		}
	}
	t.Cleanup(func() { // after the parallel subtests
		t.Log(m)
		for _, a := range m.absences(flag.Lookup("test.run").Value.String()) {
			t.Error(a)
		}
	})
	for _, db := range dbs {
		m.names = append(m.names, db.Name)
		t.Run(db.Name, func(t *testing.T) {
			t.Parallel()
			run(t, m, db)
		})
	}
}

// there notes that a database is there.
func (m *matrix) there(db string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up[db] = true
}

// set notes what came of a path.
func (m *matrix) set(t *testing.T, db, path, outcome string) {
	if t.Failed() {
		outcome = "FAILED"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cells[db+"\x00"+path] = outcome
}

// cell is what came of a path: "-" where the database is not there.
func (m *matrix) cell(db, path string) string {
	switch c := m.cells[db+"\x00"+path]; {
	case c != "":
		return c
	case m.up[db]:
		return absent
	}
	return "-"
}

// absences names the paths that did not run, unless the pattern of go test
// -run asked for some subtests only.
func (m *matrix) absences(pattern string) (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if strings.Contains(pattern, "/") {
		return nil
	}
	for _, db := range m.names {
		for _, p := range m.paths {
			if m.cell(db, p) == absent {
				out = append(out, db+": the path "+p+" did not run")
			}
		}
	}
	return out
}

// String is the matrix as text: a line a path, a column a database.
func (m *matrix) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	wide := 0
	for _, p := range m.paths {
		wide = max(wide, len(p))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d paths\n", m.title, len(m.paths))
	line := func(head string, cell func(db string) string) {
		var l strings.Builder
		fmt.Fprintf(&l, "%-*s", wide, head)
		for _, db := range m.names {
			fmt.Fprintf(&l, "  %-*s", max(len(db), len("duplicate")), cell(db))
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line("", func(db string) string { return db })
	for _, p := range m.paths {
		line(p, func(db string) string { return m.cell(db, p) })
	}
	return b.String()
}
