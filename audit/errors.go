// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io/fs"
)

// Errors of [Open].
var (
	// ErrLocked means that another process, or another Journal of this one,
	// writes to the folder. The error's text says which.
	ErrLocked = errors.New("the journal is in use")

	// ErrFolder means that the folder cannot hold a journal: it is no folder,
	// cannot be written, or lies on a file system that forgets.
	ErrFolder = errors.New("the folder cannot hold a journal")

	// ErrKEK means that the journal's keys do not open with Config.KEK.
	ErrKEK = errors.New("the journal's keys do not open")
)

// ErrNewer means that a newer release of this module wrote what cannot be read
// here. It is not damaged: use that release, or its auditctl.
var ErrNewer = errors.New("a newer release wrote it: use that release, or its auditctl")

// A CorruptError says where a journal is damaged: bytes that were acknowledged
// are not there any more. Nothing is repaired; keep the folder as it is, run
// auditctl verify, and restore it from a copy.
type CorruptError struct {
	File    string // name in the journal's folder
	Offset  int64  // in bytes
	Seq     uint64 // sequence of the line, as far as it is known
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d (sequence %d): %s: run auditctl verify, and restore the folder from a copy",
		e.File, e.Offset, e.Seq, e.Problem)
}

// unreadable says that the line at off of file cannot be read: it is damaged,
// or of a newer release.
func unreadable(file string, off int64, seq uint64, err error) error {
	var system *fs.PathError
	switch {
	case errors.As(err, &system): // says nothing about the line
		return err
	case errors.Is(err, ErrNewer):
		return fmt.Errorf("%s: offset %d: sequence %d: %w", file, off, seq, err)
	}
	return &CorruptError{File: file, Offset: off, Seq: seq, Problem: err.Error()}
}
