// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/part164/part164/access"
)

// A purge takes the events of six years ago and before; the records that they
// were about live on. What [Journal.Replay] is for would go with them: the
// newest digests that a database is held against, the patients who were
// shredded, the records that were merged. So a purge first carries these
// forward, in a file beside the segments whose SHA-256 the signed record holds.
// It has no actor, purpose or request, and no report shows it.
//
// It has the lines of a segment, newest first, each only what Replay yields of
// an event. They are no part of the chain.

const carriedPrefix = "carried-"

// carriedFile names what the purge up to segment number last carried forward.
func carriedFile(last int) string { return carriedPrefix + strconv.Itoa(last) }

// carriedTypes are the events that outlast a purge.
func carriedTypes() []Type {
	return []Type{WriteAttempt, PolicyChanged, RelationChanged, DirectiveChanged, Committed, RolledBack, Shredded, Merged}
}

// A carrying writes what a purge carries forward.
type carrying struct {
	writer string
	keys   *keyState // for pseudonyms as they are
	lines  *lineWriter
	out    io.Writer
	count  int

	ends    map[string]bool         // of attempts that are still to come: whether they were committed
	records map[string]*carriedLast // by pseudonym
	deleted map[string][]byte       // lines of deletions of records that nobody here has created
}

// A carriedLast is what was met of a record.
type carriedLast struct {
	gone    bool // its newest write deleted it
	created bool // what is older is of another life
	fields  map[string]bool
}

// carry writes the file of what r takes with it, and puts its hash into r. The
// file counts once the signed record names it.
func (j *Journal) carry(ctx context.Context, r *PurgeRecord) (err error) {
	name := filepath.Join(j.dir, carriedFile(r.Segments))
	f, err := os.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	to := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	c := &carrying{
		writer: j.keys.writer, keys: j.keys.now.Load().asIs(), lines: newLineWriter(), out: to,
		ends: make(map[string]bool), records: make(map[string]*carriedLast), deleted: make(map[string][]byte),
	}
	err = c.run(ctx, j, r.Segments)
	err = errors.Join(err, to.Flush())
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err != nil || c.count == 0 {
		return errors.Join(err, os.Remove(name+".tmp"))
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	r.Carried = sum.Sum(nil)
	return syncFolder(j.dir)
}

func (c *carrying) run(ctx context.Context, j *Journal, last int) error {
	e, err := j.newest()
	if err != nil {
		return err
	}
	m := j.replayer("", carriedTypes())
	err = j.backward(ctx, e, func(index int, data []byte, _ head) (more bool, err error) {
		if index > last {
			return true, nil
		}
		for text := range linesBackward(data) {
			s, ok, err := m.match(text)
			if err == nil && ok {
				err = c.event(&s)
			}
			if err != nil {
				return false, unreadable(segmentName(index), 0, 0, err)
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	var failed error
	err = j.carried(ctx, m, func(s Stored, _ error) bool {
		failed = c.event(&s)
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	for _, record := range slices.Sorted(maps.Keys(c.deleted)) {
		if _, err := c.out.Write(c.deleted[record]); err != nil {
			return err
		}
		c.count++
	}
	return nil
}

// event takes an event that goes, newest first.
func (c *carrying) event(s *Stored) error {
	switch s.Type {
	case Committed, RolledBack:
		if _, ok := attemptSeq(s.Attempt, c.writer); ok {
			c.ends[s.Attempt] = s.Type == Committed
		}
		return nil
	case WriteAttempt, PolicyChanged:
		return c.attempt(s)
	case RelationChanged, DirectiveChanged: // of themselves: the record that a directive names has not changed
		own := *s
		own.Objects = own.Objects[:min(1, len(own.Objects))]
		return c.attempt(&own)
	}
	return c.put(s)
}

func (c *carrying) attempt(s *Stored) error {
	id := s.ID
	if s.Batch != "" {
		id = s.Batch
	}
	done, ended := c.ends[id]
	if s.Part <= 1 { // the last of its lines to come
		delete(c.ends, id)
	}
	switch {
	case ended && !done:
		return nil
	case !ended: // it is told behind what goes, or somebody else decides
		return c.put(s)
	case s.Action == access.Shred, s.Type == PolicyChanged:
		return c.commit(id, s)
	}
	kept := *s
	kept.Objects = nil
	for _, o := range s.Objects {
		one := kept
		one.Objects = []Object{o}
		switch keep, deletion := c.keeps(s, &o); {
		case deletion:
			b, err := c.append(nil, c.committed(id, s))
			if err == nil {
				b, err = c.append(b, &one)
			}
			if err != nil {
				return err
			}
			c.deleted[o.Record] = b
		case keep:
			kept.Objects = append(kept.Objects, o)
		}
	}
	if len(kept.Objects) == 0 {
		return nil
	}
	return c.commit(id, &kept)
}

// keeps reports whether something of the write of o by s is not known from
// newer writes; or that it deleted the record, which is kept unless the trail
// made that record, too.
func (c *carrying) keeps(s *Stored, o *Object) (keep, deletion bool) {
	if o.Record == "" || s.Action == access.Update && o.Version == 0 { // who is linked to whom is held against nothing
		return false, false
	}
	last := c.records[o.Record]
	first := last == nil
	if first {
		last = &carriedLast{fields: make(map[string]bool)}
		c.records[o.Record] = last
	}
	if last.created {
		return false, false
	}
	last.created = s.Action == access.Create
	if last.gone {
		if last.created {
			delete(c.deleted, o.Record)
		}
		return false, false
	}
	if first && s.Action == access.Delete && len(o.Fields) == 0 {
		last.gone = true
		return false, true
	}
	keep = first || last.created || s.Reason == ReasonMerge || s.Reason == ReasonUnmerge
	for _, name := range o.Fields {
		keep = keep || !last.fields[name]
		last.fields[name] = true
	}
	return keep, false
}

func (c *carrying) committed(id string, s *Stored) *Stored {
	return &Stored{Type: Committed, Outcome: Success, Attempt: id, Seq: s.Seq, Time: s.Time}
}

// commit writes an attempt and, before it, that it was committed.
func (c *carrying) commit(id string, s *Stored) error {
	if err := c.put(c.committed(id, s)); err != nil {
		return err
	}
	return c.put(s)
}

func (c *carrying) put(s *Stored) error {
	b, err := c.append(nil, s)
	if err != nil {
		return err
	}
	c.count++
	_, err = c.out.Write(b)
	return err
}

// append adds the lines of what is carried of s.
func (c *carrying) append(dst []byte, s *Stored) ([]byte, error) {
	bodies, err := c.keys.bodies(&Stored{
		Type: s.Type, Outcome: s.Outcome, Reason: s.Reason, Action: s.Action, Attempt: s.Attempt, Count: s.Count, Objects: s.Objects,
	})
	if err != nil {
		return nil, err
	}
	b := batch{part: s.Part, parts: s.Parts}
	if s.Batch != "" {
		b.first, _ = attemptSeq(s.Batch, c.writer)
	}
	for _, body := range bodies {
		dst, _ = c.lines.append(dst, s.Seq, false, new(leaf), appendTime(nil, s.Time), b, body)
	}
	return dst, nil
}

// carried yields what m selects of what the last purge carried forward, newest
// first.
func (j *Journal) carried(ctx context.Context, m *matcher, yield func(Stored, error) bool) error {
	var r *PurgeRecord
	var name string
	var f *os.File
	var info fs.FileInfo
	var err error
	for try := 0; ; try++ {
		r, err = readPurge(j.dir, j.keys.origin, j.keys.verifiers())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return &CorruptError{File: purgedFile, Problem: err.Error()}
		case r.Carried == nil:
			return nil
		}
		name = carriedFile(r.Segments)
		f, info, err = openRegular(j.dir, name)
		if try == 10 || !errors.Is(err, fs.ErrNotExist) { // a purge may have gone on meanwhile
			break
		}
	}
	if err != nil {
		return &CorruptError{File: name, Problem: "what the purge carried forward cannot be read: " + err.Error()}
	}
	defer f.Close()
	if err := checkCarried(ctx, f, r.Carried); err != nil {
		return &CorruptError{File: name, Problem: err.Error()}
	}
	lines := newLineReader(f, info.Size(), make([]byte, 0, 1<<20))
	for {
		at := lines.offset()
		text, state, err := lines.next()
		if err != nil || state == atEnd {
			return err
		}
		if state == atRemains {
			return &CorruptError{File: name, Offset: at, Problem: errFrame.Error()}
		}
		s, ok, err := m.match(text)
		if err != nil {
			return unreadable(name, at, s.Seq, err)
		}
		if ok && !yield(s, nil) {
			return nil
		}
	}
}

// checkCarried says what is wrong with a file whose SHA-256 was signed.
func checkCarried(ctx context.Context, f io.ReaderAt, signed []byte) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(contextReader{ctx, f}, 0, 1<<62)); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), signed) {
		return errors.New("what the purge carried forward was changed: its hash is not the one that was signed")
	}
	return nil
}

// A contextReader stops at the end of a context.
type contextReader struct {
	ctx context.Context
	io.ReaderAt
}

func (r contextReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// explainCarried finds what is wrong with what r carried forward.
func explainCarried(ctx context.Context, dir string, r *PurgeRecord) string {
	if r.Carried == nil {
		return ""
	}
	f, _, err := openRegular(dir, carriedFile(r.Segments))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "what the purge carried forward is missing"
	case err != nil:
		return fmt.Sprintf("what the purge carried forward cannot be read: %v", err)
	}
	defer f.Close()
	if err := checkCarried(ctx, f, r.Carried); err != nil {
		return err.Error()
	}
	return ""
}

// dropCarried removes what purges before the one up to segment number last
// carried forward: the last has taken what it needs of it.
func dropCarried(dir string, last int) error {
	names, err := folder(dir).List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, carriedPrefix) && name != carriedFile(last) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
