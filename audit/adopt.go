// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"
)

// defaultLease is longer than the heartbeat of an idle journal, so that a
// journal whose last segment was not written to for so long has nobody who
// writes it, even where its lock is not seen: on some network file systems.
const defaultLease = heartbeat + 5*time.Minute

// An Orphan is the journal of a writer that is gone, held so that nobody opens
// it while its events are delivered. It is safe for concurrent use.
type Orphan struct {
	dir, writer, origin string
	size                uint64
	root                []byte
	release             func() error
}

// Adopt takes hold of the journal in dir, whose writer is gone, and records in
// this one what it found: its origin, its size and its Merkle root ([Adopted]).
// It changes nothing of it. The other journal's keys must open with this one's
// KEK, or the error wraps [ErrKEK]: nodes that adopt each other's journals share a
// KEK, and a folder that somebody else has put there is not adopted.
//
// A writer is taken for gone when the folder's lock is free and its last
// segment was not written to for the lease; zero means 20 minutes. Otherwise
// the error wraps [ErrLocked]. A [CorruptError] says that the journal is
// damaged: nothing of it is delivered.
func (j *Journal) Adopt(dir string, lease time.Duration) (*Orphan, error) {
	o, err := j.adopt(dir, lease)
	if err != nil {
		return nil, fmt.Errorf("audit: adopt %s: %w", dir, err)
	}
	return o, nil
}

func (j *Journal) adopt(dir string, lease time.Duration) (_ *Orphan, err error) {
	if lease == 0 {
		lease = defaultLease
	}
	if lease < 0 {
		return nil, errors.New("the lease is negative")
	}
	release, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()
	wrapped, _, err := readKeys(dir)
	if err != nil {
		return nil, err
	}
	if wrapped == nil {
		return nil, fmt.Errorf("%w: it has no %s", ErrFolder, keysFile)
	}
	names, err := folder(dir).List()
	if err != nil {
		return nil, err
	}
	have, err := segments(names)
	if err != nil {
		return nil, err
	}
	if len(have) == 0 {
		return nil, &CorruptError{File: segmentName(1), Problem: "all segments of the journal are gone"}
	}
	name := segmentName(have[len(have)-1])
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	if idle := time.Since(info.ModTime()); idle < lease {
		return nil, fmt.Errorf("%w: it was written to %v ago: try again later", ErrLocked, idle.Round(time.Second))
	}
	k, err := wrapped.unwrap(j.keys.kek)
	if err != nil {
		return nil, err
	}
	s, err := settleTail(dir, name, k)
	if err != nil {
		return nil, err
	}
	root, err := s.tree.root()
	if err != nil {
		return nil, err
	}
	o := &Orphan{dir: dir, writer: wrapped.Writer, origin: s.header.Origin, size: s.head.seq, root: root, release: release}
	entries, err := j.enter(nil, Stored{
		Type: Adopted, Outcome: Success, About: eventID(o.writer, o.size-1), Root: base64.RawURLEncoding.EncodeToString(root),
	})
	if err == nil {
		_, _, err = j.submit(entries...)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// settleTail reads the last segment of a journal that nobody writes, and makes
// durable what stands in it: what is delivered must not be gone after the next
// crash, or its sequence would be given to another event.
func settleTail(dir, name string, k *keys) (*scanned, error) {
	f, err := folder(dir).Open(name)
	if err != nil {
		return nil, err
	}
	s, err := func() (*scanned, error) {
		size, err := f.Size()
		if err != nil {
			return nil, err
		}
		if size > maxSegment {
			return nil, &CorruptError{File: name, Problem: "it is larger than any segment"}
		}
		data := make([]byte, size)
		if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
			return nil, err
		}
		s, err := scan(name, data, k.writer, k.ended, k.verifiers()...)
		if err != nil {
			return nil, err
		}
		if s.header.Origin != k.origin {
			return nil, &CorruptError{File: name, Problem: "the segment is of another journal"}
		}
		return s, f.Datasync()
	}()
	return s, errors.Join(err, f.Close())
}

// Dir is the journal's folder.
func (o *Orphan) Dir() string { return o.dir }

// Writer is the journal's.
func (o *Orphan) Writer() string { return o.writer }

// Read is [Journal.Read] of the journal that was adopted.
func (o *Orphan) Read(ctx context.Context, from Position) iter.Seq2[Line, error] {
	return read(ctx, o.dir, from, &o.size)
}

// Release lets go of the journal: its writer may come back.
func (o *Orphan) Release() error {
	if err := o.release(); err != nil {
		return fmt.Errorf("audit: release %s: %w", o.dir, err)
	}
	return nil
}
