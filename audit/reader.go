// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"slices"

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
	r.journal.disk, r.journal.keys = folder(dir), k
	return r, nil
}

// Writer identifies the journal.
func (r *Reader) Writer() string { return r.journal.Writer() }

// Pseudonym is [Journal.Pseudonym].
func (r *Reader) Pseudonym(tenant, id string) string { return r.journal.Pseudonym(tenant, id) }

// Events is [Journal.Events], up to the last whole line in the folder.
func (r *Reader) Events(ctx context.Context, q Query) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		m, err := r.journal.matcher(q)
		if err == nil {
			err = r.scan(ctx, m, yield)
		}
		if err != nil {
			yield(Stored{}, fmt.Errorf("audit: read events: %w", err))
		}
	}
}

// scan yields what m selects of the segments that are there.
func (r *Reader) scan(ctx context.Context, m *matcher, yield func(Stored, error) bool) error {
	names, err := r.journal.disk.List()
	if err != nil {
		return err
	}
	indexes, err := segments(names)
	if err != nil || len(indexes) == 0 {
		return err
	}
	for _, index := range slices.Backward(indexes) { // the newest may not have its first line yet
		end, err := r.end(index)
		if err != nil {
			return err
		}
		if end > 0 {
			return r.journal.scanFrom(ctx, index, end, m, yield)
		}
	}
	return nil
}

// end returns how much of the newest segment holds whole lines: a writer may
// be at the next one, and the rest is zeros.
func (r *Reader) end(index int) (int64, error) {
	f, err := r.journal.disk.Open(segmentName(index))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	data, err := r.journal.readSegment(index, size)
	if err != nil {
		return 0, err
	}
	end := int64(bytes.LastIndexByte(data, '\n') + 1)
	for lines := newLineWriter(); end > 0; { // a torn line may hold the newline of one that is not whole
		start := int64(bytes.LastIndexByte(data[:end-1], '\n') + 1)
		if wholeLine(lines, data[start:end-1]) {
			break
		}
		end = start
	}
	return end, nil
}
