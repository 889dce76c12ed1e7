// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/part164/part164/crypto"
)

// A Reader reads the folder of a journal that it does not write: of a process
// that runs, or of one that is gone. It takes no lock and changes nothing.
//
// Unlike a [Journal], it does not know which lines were acknowledged: it yields
// every whole line that is in the folder. It is safe for concurrent use.
type Reader struct {
	journal Journal // never opened: its disk and its keys only
}

// OpenReader opens the keys of the journal in dir with the KEK that it was made
// with. The error wraps [ErrFolder], [ErrKEK] or a [*CorruptError].
func OpenReader(dir string, kek crypto.KEK) (*Reader, error) {
	r, err := openReader(dir, kek)
	if err != nil {
		return nil, fmt.Errorf("audit: read journal: %w", err)
	}
	return r, nil
}

func openReader(dir string, kek crypto.KEK) (*Reader, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%w: it is no folder: name one that a journal was opened in", ErrFolder)
	}
	wrapped, _, err := readKeys(dir)
	switch {
	case err != nil:
		return nil, err
	case wrapped == nil:
		return nil, fmt.Errorf("%w: it has no %s: name one that a journal was opened in", ErrFolder, keysFile)
	case kek == nil:
		return nil, fmt.Errorf("%w: no KEK is given: use the KEK that the journal was made with", ErrKEK)
	}
	k, err := wrapped.unwrap(kek)
	if err != nil {
		return nil, err
	}
	r := new(Reader)
	r.journal.dir, r.journal.disk, r.journal.keys = dir, folder(dir), k
	return r, nil
}

// Writer identifies the journal.
func (r *Reader) Writer() string { return r.journal.Writer() }

// Pseudonym is [Journal.Pseudonym].
func (r *Reader) Pseudonym(tenant, id string) string { return r.journal.Pseudonym(tenant, id) }

// Events is [Journal.Events], up to the last line in the folder that is known to
// be the journal's. It ends with a [CorruptError] where the folder is damaged.
func (r *Reader) Events(ctx context.Context, q Query) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		m, err := r.journal.matcher(q)
		var e end
		if err == nil {
			e, err = r.newest(ctx)
		}
		if err == nil {
			err = r.journal.scan(ctx, e, m, yield)
		}
		if err != nil {
			yield(Stored{}, fmt.Errorf("audit: read events: %w", err))
		}
	}
}

// newest is the end of what is in the folder. What looks like damage is looked
// at again: it may be a write in the making, of which pages are seen as they
// come.
func (r *Reader) newest(ctx context.Context) (end, error) {
	const tries, pause = 20, 50 * time.Millisecond
	for try := 1; ; try++ {
		e, err := r.newestNow()
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || try == tries {
			return e, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return end{}, ctx.Err()
		}
	}
}

// newestNow is newest by the newest segment as it is now.
func (r *Reader) newestNow() (end, error) {
	names, err := r.journal.disk.List()
	if err != nil {
		return end{}, err
	}
	indexes, err := segments(names)
	if err != nil {
		return end{}, err
	}
	if len(indexes) == 0 {
		return end{}, &CorruptError{File: segmentName(1), Problem: "all segments of the journal are gone"}
	}
	index := indexes[len(indexes)-1]
	data, err := r.journal.readSegment(index, maxSegment)
	if err != nil {
		return end{}, err
	}
	k := r.journal.keys
	s, err := scan(segmentName(index), data, k.writer, k.ended, k.verifiers()...)
	if err != nil {
		return end{}, err
	}
	return end{index, s.head}, nil
}
