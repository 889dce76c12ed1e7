// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Group commit. Lines are chained into the group in the making as they come.
// One goroutine, the committer, writes a group and syncs it; whoever comes
// meanwhile forms the next one. There is no timer: a lone writer waits for its
// own sync only.

// A group is what one write and one sync make durable.
type group struct {
	buf  []byte
	last int  // where its last line starts
	sign bool // its last line is a checkpoint
	from head // before its first line
	to   head // after its last
	done chan struct{}
	err  error // set before done is closed

	refused bool     // its lines are not in the journal: set before done is closed
	lost    []func() // called where it is refused
}

// A roll is one try to go on in a new segment.
type roll struct {
	done chan struct{}
	err  error // set before done is closed
}

// An entry is one event, or a checkpoint.
type entry struct {
	bodies     [][]byte
	checkpoint bool
	last       bool // Close's own: admitted after the journal is closed
	yields     bool // it leaves the reserve to others

	turn *keyState // the keys to go on with behind it, and behind a checkpoint
}

// submit chains entries and returns when they are durable, with the sequence
// and leaf hash of the first line. It does not look at any context: what was
// done must be recorded even if nobody waits for the answer any more.
func (j *Journal) submit(entries ...entry) (seq uint64, first leaf, err error) {
	timer := time.NewTimer(j.cfg.Timeout)
	defer timer.Stop()

	var groups []*group
	started := false
	j.mu.Lock()
	for _, e := range entries {
		lines, b := max(1, len(e.bodies)), batch{}
		for i := range lines {
			room := e.room(i)
			if room > maxLine {
				j.mu.Unlock()
				return 0, leaf{}, fmt.Errorf("%w: it does not fit a line", ErrEvent)
			}
			for {
				wait, r, err := j.admit(room, &e)
				if err != nil {
					j.mu.Unlock()
					return 0, leaf{}, err
				}
				if wait == nil {
					break
				}
				j.mu.Unlock()
				j.wake()
				select {
				case <-wait:
				case <-timer.C:
					return 0, leaf{}, j.late()
				}
				if r != nil && r.err != nil {
					return 0, leaf{}, fmt.Errorf("%w: %w", ErrUnavailable, r.err)
				}
				j.mu.Lock()
			}
			var s uint64
			var l leaf
			if e.checkpoint {
				s, l, err = j.addCheckpoint()
				if err != nil {
					j.mu.Unlock()
					return 0, leaf{}, fmt.Errorf("%w: sign: %w", ErrUnavailable, err)
				}
			} else {
				j.stamp() // may chain a line of its own
				if i == 0 {
					b.first, b.parts = j.head.seq, lines
				}
				b.part = i + 1
				s, l = j.add(b, e.bodies[i])
				if e.turn != nil {
					if err := j.turn(e.turn); err != nil {
						j.mu.Unlock()
						return 0, leaf{}, fmt.Errorf("%w: sign: %w", ErrUnavailable, err)
					}
				}
			}
			if !started {
				seq, first, started = s, l, true
			}
			if len(groups) == 0 || groups[len(groups)-1] != j.group {
				groups = append(groups, j.group)
			}
		}
	}
	j.mu.Unlock()
	j.wake()
	for _, g := range groups {
		select {
		case <-g.done:
		case <-timer.C:
			return 0, leaf{}, chainedError{j.late(), groups}
		}
		if g.err != nil {
			return 0, leaf{}, chainedError{fmt.Errorf("%w: %w", ErrUnavailable, g.err), groups}
		}
		if seq+1 == g.to.seq { // the line ended its group
			first = g.to.prev
		}
	}
	return seq, first, nil
}

// A chainedError is why submit does not say that lines are durable which it has
// chained: what becomes of them their groups say.
type chainedError struct {
	error
	groups []*group
}

func (e chainedError) Unwrap() error { return e.error }

func (j *Journal) late() error {
	return fmt.Errorf("%w: not durable within %v", ErrUnavailable, j.cfg.Timeout)
}

// admit says whether a line of at most room bytes can be added now. If not it
// returns what to wait for. j.mu is held.
func (j *Journal) admit(room int, e *entry) (wait <-chan struct{}, r *roll, err error) {
	end := j.head.off + int64(room) + checkpointRoom + stepRoom
	switch {
	case j.closed && !e.last:
		return nil, nil, ErrClosed
	case j.fatal != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, j.fatal)
	case e.yields && j.health.next != nil && end+j.seg.size/4 > j.seg.size:
		return nil, nil, fmt.Errorf("%w: what room is left is kept for access to records: %w", ErrUnavailable, j.health.next)
	case j.roll == nil && (j.sealed || j.suspect || end > j.seg.size):
		j.roll = &roll{done: make(chan struct{})}
	}
	if j.roll != nil {
		return j.roll.done, j.roll, nil
	}
	most := maxGroup
	if e.yields {
		most /= 2
	}
	if n := len(j.group.buf); n > 0 && n+room > most {
		return j.group.done, nil, nil
	}
	return nil, nil, nil
}

// room is what line i of e takes at most.
func (e *entry) room(i int) int {
	if e.checkpoint {
		return checkpointRoom
	}
	if e.turn != nil {
		return len(e.bodies[i]) + lineFrame + checkpointRoom
	}
	return len(e.bodies[i]) + lineFrame
}

// errBusy is why offer did not take something that it may take later.
var errBusy = errors.New("the journal is busy")

// offer chains entries, none of them a checkpoint, into one group if that can
// be done at once. It returns the group and the sequence of the first line.
// Where the group is refused later, lost is called, once; it may not call the
// journal.
func (j *Journal) offer(lost func(), entries ...entry) (*group, uint64, error) {
	room := 0
	for i := range entries {
		for n := range entries[i].bodies {
			r := entries[i].room(n)
			if r > maxLine {
				return nil, 0, errBusy
			}
			room += r
		}
	}
	if room > maxGroup {
		return nil, 0, errBusy
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	wait, _, err := j.admit(room, &entries[0])
	if err != nil {
		return nil, 0, err
	}
	defer j.wake()
	if wait != nil {
		return nil, 0, errBusy
	}
	var first uint64
	for i := range entries {
		b := batch{parts: len(entries[i].bodies)}
		for n, body := range entries[i].bodies {
			b.part = n + 1
			if n == 0 {
				j.stamp() // may chain a line of its own
				b.first = j.head.seq
			}
			seq, _ := j.add(b, body)
			if i == 0 && n == 0 {
				first = seq
			}
		}
	}
	if lost != nil {
		j.group.lost = append(j.group.lost, lost)
	}
	return j.group, first, nil
}

// add chains one line into the group in the making. j.mu is held, the line
// was admitted and its time set.
func (j *Journal) add(b batch, body []byte) (uint64, leaf) {
	j.grown = true
	return j.chain(b, body)
}

func (j *Journal) addCheckpoint() (uint64, leaf, error) {
	j.stamp()
	t, err := j.tree.clone()
	if err != nil {
		return 0, leaf{}, err
	}
	if err := t.addAll(j.tail); err != nil {
		return 0, leaf{}, err
	}
	body, err := j.keys.signCheckpoint(t, j.clock)
	if err != nil {
		return 0, leaf{}, err
	}
	// One that shares its group with lines before it does not tell a reader of
	// the folder that they are durable: another follows, which does.
	j.grown, j.signed = len(j.group.buf) > 0, time.Now()
	seq, l := j.chain(batch{}, body)
	j.group.sign = true
	return seq, l, nil
}

func (j *Journal) chain(b batch, body []byte) (uint64, leaf) {
	g, seq, before := j.group, j.head.seq, len(j.group.buf)
	var l leaf
	g.buf, l = j.lines.append(g.buf, seq, before == 0, &j.head.prev, j.clock, b, body)
	g.last, g.sign = before, false
	j.head = head{seq: seq + 1, prev: l, off: j.head.off + int64(len(g.buf)-before)}
	j.tail = append(j.tail, l)
	return seq, l
}

// end puts the MAC into the last line of the group in the making, which nothing
// is chained to yet. j.mu is held.
func (j *Journal) end() error {
	g := j.group
	if len(g.buf) == 0 || g.sign {
		return nil
	}
	before := len(g.buf)
	buf, l, err := j.lines.end(g.buf, g.last, j.keys.endGroup)
	if err != nil {
		return fmt.Errorf("%w: MAC of a group: %w", ErrUnavailable, err)
	}
	g.buf = buf
	j.head.prev = l
	j.head.off += int64(len(buf) - before)
	j.tail[len(j.tail)-1] = l
	return nil
}

// wake tells the committer that there is something to do.
func (j *Journal) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// commit is the committer.
func (j *Journal) commit() {
	for {
		select {
		case <-j.kick:
		case <-j.quit:
			return
		}
		for j.commitOne() {
		}
	}
}

// commitOne writes the group in the making and rolls the segment where that
// was asked for. It reports whether there was anything to do.
func (j *Journal) commitOne() bool {
	j.mu.Lock()
	rolling, remake := j.roll != nil, j.health.remake
	if len(j.group.buf) == 0 && !rolling && !remake {
		j.mu.Unlock()
		return false
	}
	j.health.remake = false
	j.mu.Unlock()
	if remake {
		j.prepareAgain()
	}
	var err error
	if rolling {
		err = j.fold()
	}
	j.mu.Lock()
	g, r := j.group, j.roll
	sealing := r != nil && !j.sealed && !j.suspect
	if sealing && err == nil {
		_, _, err = j.addCheckpoint()
	}
	ended := j.end()
	g.to = j.head
	j.group = &group{buf: j.spare, from: g.to, done: make(chan struct{})}
	j.spare = nil
	j.mu.Unlock()

	if len(g.buf) > 0 {
		kept, werr := false, ended
		if ended == nil {
			j.busy(time.Now())
			kept, werr = j.write(g)
			j.busy(time.Time{})
		}
		if !kept {
			j.fail(g, werr)
		} else {
			j.mu.Lock()
			j.durable, j.health.failed = g.to, werr
			if werr == nil {
				j.spare = g.buf[:0]
			}
			j.sealed = j.sealed || sealing && err == nil
			j.mu.Unlock()
		}
		g.err = werr
		close(g.done)
		err = errors.Join(err, werr)
	}
	if r != nil {
		if err == nil {
			err = j.rollOver()
		}
		if err != nil {
			j.log.Error("audit: the journal cannot go on in a new segment", zap.Error(err))
		}
		r.err = err
		j.mu.Lock()
		if err != nil {
			j.health.failed, j.grown = err, true // the next checkpoint tries again
		}
		j.roll = nil
		j.mu.Unlock()
		close(r.done)
	}
	return true
}

// write makes g durable, first on the disk and then where else it has to be.
// After a failed write the bytes are taken back; after a failed sync the
// segment is given up, since a second sync of the same file may well succeed
// without having written anything. What the remote does not confirm is kept.
func (j *Journal) write(g *group) (kept bool, err error) {
	if j.outbound.failed {
		if err := j.forward(nil); err != nil {
			return false, err
		}
	}
	f := j.seg.file
	n, err := f.WriteAt(g.buf, g.from.off)
	if err == nil {
		if err = f.Datasync(); err == nil {
			return true, j.forward(g.buf)
		}
		j.giveUp(err)
		return false, fmt.Errorf("sync: %w", err)
	}
	if n > 0 {
		_, zerr := f.WriteAt(make([]byte, n), g.from.off)
		if zerr == nil {
			zerr = f.Datasync()
		}
		if zerr != nil {
			j.giveUp(zerr)
		}
	}
	return false, fmt.Errorf("write: %w", err)
}

func (j *Journal) giveUp(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.suspect = true
	j.log.Error("audit: a segment is given up after a failed sync", zap.String("segment", segmentName(j.seg.index)), zap.Error(err))
}

// fail refuses g and what was chained to it, and sets the chain back.
func (j *Journal) fail(g *group, err error) {
	j.mu.Lock()
	next := j.group
	j.head = g.from
	j.tail = j.tail[:g.from.seq-j.tree.size()]
	j.group = &group{from: j.head, done: make(chan struct{})}
	j.grown = true
	j.health.failed = err
	j.mu.Unlock()
	next.err = err
	for _, g := range []*group{g, next} {
		g.refused = true
		for _, lost := range g.lost {
			lost()
		}
	}
	close(next.done)
	j.log.Error("audit: events were refused", zap.Error(err))
}

// fold moves the durable leaves of the tail into the tree, so that a
// checkpoint finds little to do while writers wait.
func (j *Journal) fold() error {
	j.folding.Lock()
	defer j.folding.Unlock()
	j.mu.Lock()
	n := j.durable.seq - j.tree.size()
	leaves := append([]leaf(nil), j.tail[:n]...)
	t, err := j.tree.clone()
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := t.addAll(leaves); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tree = t
	j.tail = append(j.tail[:0], j.tail[n:]...)
	return nil
}

// rollOver goes on in the prepared segment. Only the committer calls it, with
// no group in the making.
func (j *Journal) rollOver() error {
	if err := j.forward(nil); err != nil {
		return err
	}
	f, err := j.takeNext()
	if err != nil {
		return err
	}
	if err := j.startSegment(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// startSegment writes the head of a new segment into f, gives it its name and
// makes it the one that is written.
func (j *Journal) startSegment(f File) error {
	if err := j.fold(); err != nil {
		return err
	}
	j.mu.Lock()
	old, from := j.seg, j.head
	header := segmentHeader{
		Format: segmentFormat, Segment: 1, Size: j.cfg.SegmentSize,
		Writer: j.keys.writer, Origin: j.keys.origin, Range: rangeText(j.tree),
	}
	if old != nil {
		header.Segment = old.index + 1
	}
	if j.suspect {
		header.Cut = from.off
	}
	t, err := j.tree.clone()
	when := j.cfg.Now().UTC()
	if when.Before(j.last) { // a step back is the next line's to tell
		when = j.last
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}

	w := newLineWriter()
	now := appendTime(nil, when)
	buf, first := w.append(nil, from.seq, true, &from.prev, now, batch{}, header.body())
	if err := t.add(&first); err != nil {
		return err
	}
	body, err := j.keys.signCheckpoint(t, now)
	if err != nil {
		return err
	}
	buf, second := w.append(buf, from.seq+1, false, &first, now, batch{}, body)
	name := segmentName(header.Segment)
	if _, err := f.WriteAt(buf, 0); err != nil {
		return fmt.Errorf("start segment: %w", err)
	}
	if err := f.Datasync(); err != nil {
		return fmt.Errorf("start segment: sync: %w", err)
	}
	if err := j.disk.Rename(nextFile, name); err != nil {
		return fmt.Errorf("start segment: %w", err)
	}
	if err := j.disk.Sync(); err != nil {
		return fmt.Errorf("start segment: sync folder: %w", err)
	}

	j.mu.Lock()
	suspect := j.suspect
	j.seg = &segment{index: header.Segment, size: header.Size, file: f}
	j.head = head{seq: from.seq + 2, prev: second, off: int64(len(buf))}
	j.durable = j.head
	j.tail = append(j.tail, first, second)
	j.group = &group{from: j.head, done: make(chan struct{})}
	j.sealed, j.suspect, j.grown, j.signed, j.last = false, false, false, time.Now(), when
	j.health.failed = nil
	j.mu.Unlock()
	if j.cfg.Durability != nil { // with the lines that follow
		j.outbound.pending = append(j.outbound.pending, buf...)
	}
	j.prepare()
	if old != nil {
		j.running.Go(func() { j.retire(old, from.off, suspect) })
	}
	return nil
}

// retire trims a sealed segment to its end and makes it read-only. A segment
// that was given up is only closed.
func (j *Journal) retire(old *segment, end int64, suspect bool) {
	var err error
	if !suspect {
		if err = old.file.Truncate(end); err == nil {
			err = old.file.Datasync()
		}
		err = errors.Join(err, j.disk.ReadOnly(segmentName(old.index)))
	}
	if err = errors.Join(err, old.file.Close()); err != nil {
		j.log.Warn("audit: a full segment could not be trimmed", zap.String("segment", segmentName(old.index)), zap.Error(err))
	}
}

// prepared is a segment in the making, or why there is none.
type prepared struct {
	file File
	err  error
}

// prepare makes the next segment while this one is written.
func (j *Journal) prepare() {
	next := make(chan prepared, 1)
	j.next = next
	j.running.Go(func() {
		f, err := j.makeNext()
		if err != nil && !errors.Is(err, ErrClosed) {
			j.mu.Lock()
			j.health.next, j.health.tried = err, time.Now()
			j.mu.Unlock()
			j.log.Error("audit: the next segment cannot be made: events are refused once this one is full", zap.Error(err))
		}
		if err == nil {
			j.mu.Lock()
			j.health.next = nil
			j.mu.Unlock()
		}
		next <- prepared{f, err}
	})
}

// prepareAgain makes the next segment, where that failed before. Only the
// committer calls it.
func (j *Journal) prepareAgain() {
	select {
	case p := <-j.next:
		if p.err == nil { // it was made in the meantime
			j.next <- p
			return
		}
		j.prepare()
	default: // under way
	}
}

// takeNext returns the prepared segment. Where making it failed it tries
// again, so that the journal goes on as soon as there is room.
func (j *Journal) takeNext() (File, error) {
	if j.next != nil {
		p := <-j.next
		j.next = nil
		if p.err == nil {
			return p.file, nil
		}
	}
	return j.makeNext()
}

// makeNext fills a new file with zeros and syncs it bit by bit, so that
// writing it needs neither room nor a change of metadata, and no writer waits
// behind one great sync.
func (j *Journal) makeNext() (_ File, err error) {
	if free, err := j.disk.Free(); err != nil {
		return nil, err
	} else if free < j.cfg.SegmentSize {
		return nil, fmt.Errorf("make next segment: %d bytes are needed, %d are free: %w", j.cfg.SegmentSize, free, syscall.ENOSPC)
	}
	f, err := j.disk.Create(nextFile)
	if err != nil {
		return nil, fmt.Errorf("make next segment: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), j.disk.Remove(nextFile))
		}
	}()
	zeros := make([]byte, min(1<<20, j.cfg.SegmentSize))
	for off := int64(0); off < j.cfg.SegmentSize; off += int64(len(zeros)) {
		select {
		case <-j.quit:
			return nil, ErrClosed
		default:
		}
		zeros = zeros[:min(int64(len(zeros)), j.cfg.SegmentSize-off)]
		if _, err := f.WriteAt(zeros, off); err != nil {
			return nil, fmt.Errorf("make next segment: %w", err)
		}
		if err := f.Datasync(); err != nil {
			return nil, fmt.Errorf("make next segment: sync: %w", err)
		}
	}
	return f, nil
}
