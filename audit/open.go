// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/part164/part164/crypto"
)

// Open opens the journal in dir, or makes it. It recovers from a crash by
// dropping the one group that was being written and never acknowledged, and
// refuses a journal that is damaged otherwise.
//
// Errors wrap [ErrFolder], [ErrLocked], [ErrKEK] or a [CorruptError], or name
// the bad field of cfg.
func Open(dir string, cfg Config) (*Journal, error) {
	if cfg.Disk == nil {
		cfg.Disk = folder(dir)
	}
	j, err := open(dir, cfg, cfg.Disk)
	if err != nil {
		return nil, fmt.Errorf("audit: open %s: %w", dir, err)
	}
	return j, nil
}

func open(dir string, cfg Config, d Disk) (_ *Journal, err error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, fmt.Errorf("%w: its name is empty", ErrFolder)
	}
	release, err := claimFolder(dir, &cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()
	names, err := d.List()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	have, err := segments(names)
	if err != nil {
		return nil, err
	}
	keys, fresh, keyFile, err := openKeys(dir, &cfg, len(have) > 0)
	if err != nil {
		return nil, err
	}
	if !fresh && len(have) == 0 {
		return nil, &CorruptError{File: segmentName(1), Problem: "all segments of the journal are gone"}
	}
	if have, err = finishPurge(dir, d, have, keys); err != nil {
		return nil, err
	}

	j := &Journal{
		cfg: cfg, dir: dir, disk: d, keys: keys, log: cfg.Log, release: release,
		kick: make(chan struct{}, 1), quit: make(chan struct{}), lines: newLineWriter(),
	}
	for _, c := range cfg.Clocks {
		j.compared = append(j.compared, compared{name: c.Name})
	}
	dropped := 0
	if len(have) == 0 {
		err = j.create()
	} else {
		dropped, err = j.recover(have[len(have)-1])
	}
	if err != nil {
		return nil, err
	}
	if err := j.publish(); err != nil {
		return nil, errors.Join(err, j.abandon())
	}
	if fresh {
		err := os.Rename(filepath.Join(dir, newKeysFile), filepath.Join(dir, keysFile))
		if err = errors.Join(err, syncFolder(dir)); err != nil {
			return nil, errors.Join(err, j.abandon())
		}
	}
	j.running.Go(j.commit)
	if err := j.begin(dropped, keyFile); err != nil {
		return nil, errors.Join(err, j.abandon())
	}
	if err := j.settleDetails(); err != nil {
		return nil, errors.Join(err, j.abandon())
	}
	j.running.Go(j.tend)
	if cfg.EmergencyOpen != nil {
		j.ring.notices = make(chan *notice, maxNotices)
		go j.printNotices() // not among the running: Stderr may block for ever
	}
	if len(cfg.Clocks) > 0 {
		j.running.Go(j.compareClocks)
	}
	return j, nil
}

// abandon stops a journal that did not open; open itself gives up the lock.
func (j *Journal) abandon() error {
	j.release = func() error { return nil }
	return j.stop()
}

// openKeys reads the journal's keys, or makes them. fresh means that the
// journal was never opened before.
func openKeys(dir string, cfg *Config, segments bool) (_ *keys, fresh, keyFile bool, err error) {
	wrapped, fresh, err := readKeys(dir)
	if err != nil {
		return nil, false, false, err
	}
	if wrapped == nil && segments {
		return nil, false, false, &CorruptError{File: keysFile, Problem: "the keys of the journal are gone"}
	}
	kek := cfg.KEK
	if kek == nil {
		file, err := crypto.LocalKEK(filepath.Clean(dir) + ".kek")
		if err != nil {
			return nil, false, false, fmt.Errorf("%w: %w", ErrKEK, err)
		}
		kek, keyFile = file, true
	}
	if file, ok := kek.(*crypto.FileKEK); ok {
		if err := file.Ensure(wrapped != nil, cfg.Development); err != nil {
			return nil, false, false, fmt.Errorf("%w: %w", ErrKEK, err)
		}
	}
	if wrapped == nil {
		if wrapped, err = newKeys(kek); err != nil {
			return nil, false, false, err
		}
		if err := wrapped.write(dir, newKeysFile); err != nil {
			return nil, false, false, fmt.Errorf("%w: %w", ErrFolder, err)
		}
	}
	k, err := wrapped.unwrap(kek)
	if err != nil {
		return nil, false, false, err
	}
	return k, fresh, keyFile, nil
}

// publish makes verifier.pub the public keys of the journal, oldest first. One
// that has fewer, or more, is of a rotation that a crash cut short.
func (j *Journal) publish() error {
	s := j.keys.now.Load()
	public, all := s.verifiers(), s.allVerifiers()
	have, err := readSmall(j.dir, verifierFile)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && bytes.Equal(have, public):
		return nil
	case err == nil && !(bytes.HasPrefix(all, have) && bytes.HasSuffix(have, []byte("\n"))):
		return &CorruptError{File: verifierFile, Problem: "the public key is not that of the journal"}
	}
	if err := writeFile(j.dir, verifierFile, public, 0o644); err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	return nil
}

// create makes the first segment.
func (j *Journal) create() error {
	t, err := newTree(0, nil)
	if err != nil {
		return err
	}
	j.tree = t
	j.group = &group{done: make(chan struct{})}
	f, err := j.makeNext()
	if err == nil {
		if err = j.startSegment(f); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// recover goes on in the last segment.
func (j *Journal) recover(index int) (dropped int, err error) {
	name := segmentName(index)
	f, err := j.disk.Open(name)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if size > maxSegment {
		return 0, &CorruptError{File: name, Problem: "it is larger than any segment"}
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	s, err := scan(name, data, j.keys.writer, j.keys.ended, j.keys.verifiers()...)
	if err != nil {
		return 0, err
	}
	if s.header.Origin != j.keys.origin {
		return 0, &CorruptError{File: name, Problem: "the segment is of another journal"}
	}
	if err := j.keys.resume(s); err != nil {
		return 0, err
	}
	if err := mend(f, s, size); err != nil {
		return 0, fmt.Errorf("%w: recover %s: %w", ErrUnavailable, name, err)
	}
	if err := j.redeliver(data[:s.head.off]); err != nil {
		return 0, err
	}
	if s.dropped > 0 {
		j.log.Warn("audit: dropped a write that was never acknowledged", zap.String("segment", name), zap.Int("bytes", s.dropped))
	}
	j.seg = &segment{index: index, size: s.header.Size, file: f}
	j.head, j.durable, j.tree, j.last = s.head, s.head, s.tree, s.last
	j.group = &group{from: j.head, done: make(chan struct{})}
	if err := j.disk.Remove(nextFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	j.prepare()
	return s.dropped, nil
}

// mend zeroes the dropped tail and fills a shortened segment up again.
func mend(f File, s *scanned, size int64) error {
	changed := false
	write := func(b []byte, off int64) error {
		changed = true
		_, err := f.WriteAt(b, off)
		return err
	}
	if s.dropped > 0 {
		if err := write(make([]byte, s.dropped), s.head.off); err != nil {
			return err
		}
	}
	for size < s.header.Size {
		n := min(1<<20, s.header.Size-size)
		if err := write(make([]byte, n), size); err != nil {
			return err
		}
		size += n
	}
	if !changed {
		return nil
	}
	return f.Datasync()
}

// begin records how the journal was opened and signs it.
func (j *Journal) begin(dropped int, keyFile bool) error {
	events := []Stored{{Type: Opened, Outcome: Success, Node: j.cfg.Node}}
	if dropped > 0 {
		events = append([]Stored{{Type: Recovered, Outcome: Success, Count: dropped}}, events...)
	}
	if j.cfg.Development {
		events = append(events, Stored{Type: Deviation, Outcome: Success, Reason: ReasonDevelopment})
	}
	if keyFile {
		events = append(events, Stored{Type: Deviation, Outcome: Success, Reason: ReasonKeyLocation, Citation: "164.312(a)(2)(iv)"})
	}
	for _, d := range j.cfg.Deviations {
		events = append(events, Stored{Type: Deviation, Outcome: Success, Citation: d.Citation})
	}
	var entries []entry
	for _, s := range events {
		var err error
		if entries, err = j.enter(entries, s); err != nil {
			return err
		}
	}
	if j.cfg.Durability != nil {
		e, err := j.keysEvent()
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	_, _, err := j.submit(append(entries, entry{checkpoint: true})...)
	return err
}
