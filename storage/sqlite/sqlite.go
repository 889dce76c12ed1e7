// SPDX-License-Identifier: Apache-2.0

// Package sqlite is the embedded default database of storage, well set up:
//
//	db, err := storage.Open(sqlite.Open("data/app.db"), cfg)
//
// It is pure Go. The write-ahead log lets readers go on beside one writer,
// transactions take the write lock at their beginning (a later upgrade fails
// with SQLITE_BUSY_SNAPSHOT, which waiting does not cure), foreign keys are
// enforced, deleted pages are overwritten, and a commit is durable when it
// returns. Only files are supported: an in-memory database is another one in
// each connection.
//
// It is one file and easily replaced by another GORM dialector.
package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
)

// busyTimeout is how long a statement waits for another process's write, in
// milliseconds.
const busyTimeout = 10_000

// Open returns a dialector for the database file at path, which is made with
// its folder (0700) when the database is opened.
func Open(path string) gorm.Dialector {
	q := url.Values{
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", busyTimeout),
			"journal_mode(WAL)",
			"synchronous(FULL)",
			"foreign_keys(1)",
			"secure_delete(1)",
		},
		"_txlock": {"immediate"},
	}
	dsn := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + q.Encode()
	return &dialector{Dialector: sqlite.Dialector{DSN: dsn}, path: path}
}

type dialector struct {
	sqlite.Dialector
	path string
}

// Initialize implements gorm.Dialector.
func (d *dialector) Initialize(db *gorm.DB) error {
	if d.path == "" || strings.Contains(d.path, ":memory:") || strings.Contains(d.path, "mode=memory") {
		return fmt.Errorf("sqlite: open: give the path of a file: an in-memory database is another one in each connection")
	}
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return fmt.Errorf("sqlite: open: %w", err)
	}
	// Only where it is missing: a close of the file gives up every lock that this
	// process has on it, those of SQLite's other connections, too
	// (sqlite.org/howtocorrupt.html, 2.2).
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("sqlite: open: %w", err)
	}
	return d.Dialector.Initialize(db)
}
