// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A Journal is the local record of a process: a folder of append-only
// segments. What Record returns for is on the disk. It is safe for concurrent
// use.
type Journal struct {
	cfg  Config
	dir  string
	disk Disk
	keys *keys
	log  *zap.Logger

	release func() error // gives up the folder's lock
	kick    chan struct{}
	quit    chan struct{}
	running sync.WaitGroup

	// next delivers the segment in the making; nil where none is. Only the
	// committer uses it.
	next chan prepared

	folding sync.Mutex // held by whoever replaces tree; taken before mu

	mu      sync.Mutex
	lines   *lineWriter
	clock   []byte   // scratch
	spare   []byte   // the buffer of the last group, for the next
	seg     *segment // the one that is written
	head    head     // of the chain, with the group in the making
	durable head     // of what is on the disk
	group   *group   // in the making
	tree    tree     // of the first lines
	tail    []leaf   // of the lines from tree.size() to head.seq
	roll    *roll    // asked for, or under way
	sealed  bool     // seg has its last checkpoint
	suspect bool     // a sync of seg failed: nothing more is written to it
	grown   bool     // there are lines since the last checkpoint, or in its group
	signed  time.Time
	closed  bool
	fatal   error // nothing is written any more

	last     time.Time // the time of the newest line
	based    time.Time // monotonic: when baseWall was read off the clock
	baseWall time.Time
	compared []compared // one for each of Config.Clocks
	health   health

	outbound outbound
	undone   undone
	flood    flood
	ring     ring

	rotating  sync.Mutex // held by RotateKeys
	retaining sync.Mutex // held by whoever holds, releases, erases or purges
}

var (
	_ Trail   = (*Journal)(nil)
	_ History = (*Journal)(nil)
	_ Details = (*Journal)(nil)
)

// A head is where a chain stands.
type head struct {
	seq  uint64 // of the next line
	prev leaf   // of the line before it
	off  int64  // of the next line in its segment
}

// A segment is the one that is written.
type segment struct {
	index int
	size  int64
	file  File
}

// Record implements [Recorder]. It returns after the sync of its group.
func (j *Journal) Record(ctx context.Context, ev Event) (Receipt, error) {
	if err := ev.Type.CheckRecord(); err != nil {
		return Receipt{}, err
	}
	s, err := Stamp(ctx, ev)
	if err != nil {
		return Receipt{}, err
	}
	if s.Type.BestEffort() || s.refusal() {
		if j.isClosed() {
			return Receipt{}, ErrClosed
		}
		return j.recordBestEffort(&s)
	}
	deadline := time.Now().Add(j.cfg.Timeout)
	seq, _, err := j.record(&s, ev.Detail)
	if errors.Is(err, ErrUnavailable) && ev.Detail == nil {
		return Receipt{}, j.keep(s, err, deadline)
	}
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{ID: eventID(j.keys.writer, seq)}, nil
}

func (j *Journal) isClosed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// Attempt implements [Trail].
func (j *Journal) Attempt(ctx context.Context, ev Event) (Ticket, error) {
	if err := ev.Type.CheckAttempt(); err != nil {
		return Ticket{}, err
	}
	s, err := Stamp(ctx, ev)
	if err != nil {
		return Ticket{}, err
	}
	seq, l, err := j.record(&s, ev.Detail)
	if err != nil {
		return Ticket{}, err
	}
	t := Ticket{Attempt: eventID(j.keys.writer, seq), Writer: j.keys.writer, Digest: l[:]}
	if t.MAC, err = j.keys.now.Load().mac.ComputeMAC(ticketInput(t)); err != nil {
		return Ticket{}, fmt.Errorf("%w: MAC of a ticket: %w", ErrUnavailable, err)
	}
	return t, nil
}

// Commit implements [Trail].
func (j *Journal) Commit(ctx context.Context, tickets []Ticket) (refused []Ticket, err error) {
	return j.settle(Committed, tickets)
}

// Rollback implements [Trail].
func (j *Journal) Rollback(ctx context.Context, tickets []Ticket) error {
	refused, err := j.settle(RolledBack, tickets)
	if err == nil && len(refused) > 0 {
		err = fmt.Errorf("%w: %d of the tickets to roll back were not issued by this trail", ErrEvent, len(refused))
	}
	return err
}

// Writer implements [Trail]: it is a random identifier of the folder.
func (j *Journal) Writer() string { return j.keys.writer }

// Pseudonym returns what stands in the journal for a patient's or record's ID
// in tenant, under the newest key: so do Events and Replay, whatever key a line
// was written under. It is empty where the key does not serve.
func (j *Journal) Pseudonym(tenant, id string) string {
	p, err := j.keys.pseudonym(tenant, id)
	if err != nil {
		return ""
	}
	return p
}

func (j *Journal) record(s *Stored, detail *Detail) (seq uint64, first leaf, err error) {
	if detail != nil {
		if err := j.keepsDetails(); err != nil {
			return 0, leaf{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err := j.sealDetail(s, detail); err != nil {
			return 0, leaf{}, fmt.Errorf("%w: seal the detail: %w", ErrUnavailable, err)
		}
		defer func() {
			if err == nil {
				j.keepDetail(s.Detail)
			}
		}()
	}
	bodies, err := j.keys.bodies(s)
	if errors.Is(err, ErrEvent) {
		return 0, leaf{}, err
	}
	if err != nil {
		return 0, leaf{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return j.submit(entry{bodies: bodies, yields: s.yields()})
}

func (j *Journal) settle(as Type, tickets []Ticket) (refused []Ticket, err error) {
	var entries []entry
	forged := 0
	for _, t := range tickets {
		seq, own := attemptSeq(t.Attempt, j.keys.writer)
		switch {
		case !own || !j.Issued(t):
			refused = append(refused, t)
			forged++
			continue
		case as == Committed && j.undone.has(seq):
			refused = append(refused, t)
			continue
		}
		if entries, err = j.enter(entries, Stored{Type: as, Outcome: Success, Attempt: t.Attempt}); err != nil {
			return nil, err
		}
	}
	for _, r := range []struct {
		reason Reason
		count  int
		log    string
	}{
		{ReasonForged, forged, "audit: tickets that this journal never issued were refused"},
		{ReasonUndone, len(refused) - forged, "audit: tickets of attempts that were rolled back were refused"},
	} {
		if r.count == 0 {
			continue
		}
		if entries, err = j.enter(entries, Stored{Type: OutboxRefused, Outcome: Failure, Reason: r.reason, Count: r.count}); err != nil {
			return nil, err
		}
		j.log.Error(r.log, zap.Int("count", r.count))
	}
	if _, _, err = j.submit(entries...); err != nil {
		return refused, err
	}
	if as == RolledBack {
		for _, t := range tickets {
			if seq, own := attemptSeq(t.Attempt, j.keys.writer); own && j.Issued(t) {
				j.undone.add(seq)
			}
		}
	}
	return refused, nil
}

// enter adds an event of the journal's own to entries.
func (j *Journal) enter(entries []entry, s Stored) ([]entry, error) {
	bodies, err := j.keys.bodies(&s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return append(entries, entry{bodies: bodies}), nil
}

// Close records the end, signs a last checkpoint, and gives up the folder.
// Every method called after it fails with [ErrClosed]; a second Close does
// nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()

	entries := append(j.lastOfEmergency(), j.lastOfFlood()...)
	entries, err := j.enter(entries, Stored{Type: Closed, Outcome: Success})
	if err == nil {
		for i := range entries {
			entries[i].last = true
		}
		_, _, err = j.submit(append(entries, entry{checkpoint: true, last: true})...)
	}
	err = errors.Join(err, j.stop())
	if err != nil {
		return fmt.Errorf("audit: close %s: %w", j.dir, err)
	}
	return nil
}

// stop ends the journal's goroutines and releases what it holds. Where the
// disk does not answer it gives up after Config.Timeout and keeps the lock.
func (j *Journal) stop() error {
	close(j.quit)
	ended := make(chan struct{})
	go func() {
		j.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(j.cfg.Timeout):
		return errors.New("the disk does not answer: the folder stays locked until this process ends")
	}
	var err error
	if j.next != nil {
		if p := <-j.next; p.file != nil {
			err = errors.Join(p.file.Close(), j.disk.Remove(nextFile))
		}
	}
	return errors.Join(err, j.seg.file.Close(), j.release())
}

// tend signs checkpoints and looks after the segment's file until quit.
func (j *Journal) tend() {
	tick := time.NewTicker(j.cfg.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-j.quit:
			return
		case <-tick.C:
		}
		if err := j.watch(); err != nil {
			continue
		}
		j.mu.Lock()
		closed := j.closed
		due := !closed && (j.grown || time.Since(j.signed) >= heartbeat)
		j.mu.Unlock()
		if !closed {
			j.settleEmergency()
			j.settleFlood()
			j.checkStep()
			j.retryNext()
		}
		if !due {
			continue
		}
		if err := j.fold(); err != nil {
			j.log.Error("audit: the journal's tree is broken", zap.Error(err))
			continue
		}
		if _, _, err := j.submit(entry{checkpoint: true}); err != nil && !errors.Is(err, ErrClosed) {
			j.log.Error("audit: no checkpoint could be signed", zap.Error(err))
		}
	}
}

// watch stops the journal for good once its segment is not where it was: what
// is written to a removed file is lost when it is closed.
func (j *Journal) watch() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fatal == nil && !j.suspect {
		name := segmentName(j.seg.index)
		if err := j.disk.Same(name, j.seg.file); err != nil {
			j.fatal = fmt.Errorf("%s is not the file that was opened: %w: put it back and restart", name, err)
			j.log.Error("audit: the journal stops", zap.Error(j.fatal))
		}
	}
	return j.fatal
}
