// SPDX-License-Identifier: Apache-2.0

// Package tombstone remembers which patients were shredded, apart from the
// database: whoever restores an older copy of the database, its key table
// included, brings back keys that were destroyed. A [Log] that was not restored
// with it tells, and storage.Reapply destroys them again.
//
// A log holds no patient's ID: each entry has a keyed pseudonym under a key of
// the database, and a MAC.
package tombstone

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// An Entry says that one patient of one database was shredded.
type Entry struct {
	Database string    `json:"database"` // ID of the database
	Count    uint64    `json:"count"`    // shredded patients of the database by then, this one included
	Subject  []byte    `json:"subject"`  // keyed pseudonym of tenant and patient, 32 bytes
	Time     time.Time `json:"time"`
	MAC      []byte    `json:"mac"` // over the fields above
}

// A Log keeps entries. Implementations are safe for concurrent use, also by
// several processes. The conformance suite is storagetest.TestTombstones.
type Log interface {
	// Append returns when e is durable. Appending an entry twice is legal.
	Append(ctx context.Context, e Entry) error

	// Entries yields what was appended, oldest first, and ends after the
	// first error.
	Entries(ctx context.Context) iter.Seq2[Entry, error]
}

// A FileLog is a Log in one file of JSON lines. Keep it on another device than
// the database, and out of its backups: restored together with the database it
// knows no more than the database does.
type FileLog struct{ path string }

var _ Log = FileLog{}

// File names the log at path, which is made, readable by its owner only, at the
// first Append.
func File(path string) FileLog { return FileLog{path} }

// maxLine is far more than an entry takes.
const maxLine = 4 << 10

// Append implements [Log].
func (l FileLog) Append(ctx context.Context, e Entry) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("tombstone: append: %w", err)
	}
	if len(line) >= maxLine {
		return errors.New("tombstone: append: the entry is too long")
	}
	_, missing := os.Stat(l.path)
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("tombstone: append: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("tombstone: append: %w", cerr)
		}
	}()
	// Its own newline in front: what a crash cut short ends there.
	line = append(append([]byte{'\n'}, line...), '\n')
	if _, err := f.Write(line); err != nil {
		return fmt.Errorf("tombstone: append: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("tombstone: append: %w", err)
	}
	if errors.Is(missing, fs.ErrNotExist) && runtime.GOOS != "windows" { // which cannot sync a folder
		dir, err := os.Open(filepath.Dir(l.path))
		if err != nil {
			return fmt.Errorf("tombstone: append: %w", err)
		}
		if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
			return fmt.Errorf("tombstone: append: %w", err)
		}
	}
	return nil
}

// Entries implements [Log]. A file that is not there has no entries. A line
// that is no entry is an error, save a beginning of one: a crash left it.
func (l FileLog) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := os.Open(l.path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(Entry{}, fmt.Errorf("tombstone: read: %w", err))
			return
		}
		defer func() { _ = f.Close() }()
		for r, n := bufio.NewReaderSize(f, maxLine), 1; ; n++ {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, fmt.Errorf("tombstone: read: %w", err))
				return
			}
			line, err := r.ReadSlice('\n')
			if err != nil && err != io.EOF {
				yield(Entry{}, fmt.Errorf("tombstone: read: line %d: %w", n, err))
				return
			}
			if text := bytes.TrimSpace(line); len(text) > 0 {
				e, perr := parse(text)
				if perr != nil && bytes.HasSuffix(text, []byte("}")) {
					yield(Entry{}, fmt.Errorf("tombstone: read: line %d is no entry: restore the file from its copy", n))
					return
				}
				if perr == nil && !yield(e, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
		}
	}
}

// parse decodes one line.
func parse(line []byte) (Entry, error) {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Entry{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return Entry{}, errors.New("more than one value")
	}
	if e.Database == "" || e.Count == 0 || len(e.Subject) == 0 || len(e.MAC) == 0 {
		return Entry{}, errors.New("a field is empty")
	}
	return e, nil
}
