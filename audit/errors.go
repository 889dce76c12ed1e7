// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
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
