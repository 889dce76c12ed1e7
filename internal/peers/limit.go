// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// A limit is the least that a durable, chained journal can do: a JSON line with
// the hash of the line before, SHA-256 over it, group commit without a timer,
// one write and one fdatasync a group, into a file that was zero-filled before.
// It has no segments, no tree, no signatures, no pseudonyms, no checks.
type limit struct {
	file *os.File
	off  int64  // the committer's
	body []byte // the line behind the hash, with its newline
	kick chan struct{}
	done chan struct{} // the committer has ended

	mu   sync.Mutex
	prev [sha256.Size]byte
	open *limitGroup
}

type limitGroup struct {
	buf  []byte
	done chan struct{}
	err  error
}

// limitFile is the size of a limit's file. At its end it begins anew: what it
// overwrites then is no longer zero, which makes no difference to a disk.
const limitFile = 64 << 20

// newLimit makes a limit whose lines have size bytes.
func newLimit(dir string, size int) (*limit, error) {
	f, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range limitFile / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	const frame = len(`{"prev":"","event":""}`) + 2*sha256.Size + 1
	body := make([]byte, max(1, size-frame))
	for i := range body {
		body[i] = 'a' + byte(i%26)
	}
	l := &limit{file: f, body: append(body, "\"}\n"...), kick: make(chan struct{}, 1), done: make(chan struct{}), open: newLimitGroup()}
	go l.commit()
	return l, nil
}

func newLimitGroup() *limitGroup { return &limitGroup{done: make(chan struct{})} }

// record returns when one line is durable.
func (l *limit) record(context.Context) error {
	l.mu.Lock()
	g := l.open
	start := len(g.buf)
	g.buf = append(g.buf, `{"prev":"`...)
	g.buf = hex.AppendEncode(g.buf, l.prev[:])
	g.buf = append(g.buf, `","event":"`...)
	g.buf = append(g.buf, l.body...)
	l.prev = sha256.Sum256(g.buf[start:])
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
	<-g.done
	return g.err
}

// commit writes and syncs one group after the other; what comes meanwhile forms
// the next one.
func (l *limit) commit() {
	defer close(l.done)
	for range l.kick {
		l.mu.Lock()
		g := l.open
		l.open = newLimitGroup()
		l.mu.Unlock()
		if len(g.buf) > 0 {
			if l.off+int64(len(g.buf)) > limitFile {
				l.off = 0
			}
			if _, g.err = l.file.WriteAt(g.buf, l.off); g.err == nil {
				g.err = datasync(l.file)
			}
			l.off += int64(len(g.buf))
		}
		close(g.done)
	}
}

// close ends the limit. Nobody may be recording.
func (l *limit) close() error {
	close(l.kick)
	<-l.done
	return l.file.Close()
}
