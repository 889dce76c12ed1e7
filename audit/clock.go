// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Within a second or so clocks agree that are set by NTP; over two seconds
// something is wrong with one of them, and over thirty an expiry of minutes,
// such as that of an emergency access, means something else here than there.
const (
	clockNote  = 2 * time.Second
	clockLimit = 30 * time.Second

	// clockEvery is the time between two comparisons, well under the few
	// minutes for which an emergency access is given.
	clockEvery = time.Minute

	// stepRoom is what the line of a changed clock takes at most.
	stepRoom = 512
)

// A Clock is another clock that the journal's is compared with, once a minute:
// the database's, or a witness's. Over 2 seconds of difference are recorded as
// a [ClockOff] event; over 30 the journal is not ready ([Journal.Ready]).
type Clock struct {
	Name string // an opaque ID, such as "database"; it stands in the event as its Node

	// Now asks the clock. It gives up when ctx ends. A clock that does not
	// answer is logged and no reason not to be ready.
	Now func(ctx context.Context) (time.Time, error)
}

func (c *Clock) validate() error {
	switch {
	case c.Name == "" || !isName(c.Name):
		return errors.New("Name is not an identifier")
	case c.Now == nil:
		return errors.New("Now is nil")
	}
	return nil
}

type clockLevel int

const (
	clockGood clockLevel = iota
	clockOff             // over clockNote
	clockFar             // over clockLimit
)

func levelOf(off time.Duration) clockLevel {
	switch off = off.Abs(); {
	case off > clockLimit:
		return clockFar
	case off > clockNote:
		return clockOff
	}
	return clockGood
}

// A compared is what is known of one of Config.Clocks.
type compared struct {
	name  string
	level clockLevel
	off   time.Duration // the journal's clock minus the other
	noted time.Time     // monotonic: when it was recorded last
}

// err says that the journal's clock is off by this one.
func (c *compared) err() error {
	return fmt.Errorf("%w: it differs from that of %s by %v: set it", ErrClock, c.name, c.off.Round(time.Millisecond))
}

// compareClocks compares the clocks until quit.
func (j *Journal) compareClocks() {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		for i := range j.cfg.Clocks {
			j.compare(i)
		}
		select {
		case <-j.quit:
			return
		case <-tick.C:
		}
	}
}

// compare asks one clock.
func (j *Journal) compare(i int) {
	ctx, cancel := context.WithTimeout(context.Background(), j.cfg.Timeout)
	defer cancel()
	type answer struct {
		off time.Duration
		err error
	}
	answered := make(chan answer, 1)
	go func() { // it may take no notice of ctx
		before, began := j.cfg.Now(), time.Now()
		theirs, err := j.cfg.Clocks[i].Now(ctx)
		took := time.Since(began)
		// The other clock was read somewhere in between: what the way took is
		// no difference.
		off := before.Add(took / 2).Sub(theirs)
		answered <- answer{max(0, off.Abs()-took/2) * sign(off), err}
	}()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = ctx.Err()
	case <-j.quit:
		return
	}
	if a.err != nil {
		j.log.Warn("audit: a clock does not answer", zap.String("clock", j.cfg.Clocks[i].Name), zap.Error(a.err))
		return
	}
	j.mu.Lock()
	c := &j.compared[i]
	level := levelOf(a.off)
	turned := level > clockGood && (a.off > 0) != (c.off > 0) // from ahead to behind, or back
	note := level != c.level || turned || level > clockGood && time.Since(c.noted) >= heartbeat
	c.level, c.off = level, a.off
	if note {
		c.noted = time.Now()
	}
	j.mu.Unlock()
	if !note {
		return
	}
	s := Stored{Type: ClockOff, Outcome: Failure, Node: c.name, Count: int(a.off.Abs().Milliseconds()), Reason: ReasonBehind}
	if a.off > 0 {
		s.Reason = ReasonAhead
	}
	if level == clockGood {
		s.Outcome = Success
	}
	j.log.Warn("audit: the clock differs from another", zap.String("clock", c.name), zap.Duration("ahead", a.off))
	if _, err := j.recordBestEffort(&s); err != nil {
		j.log.Error("audit: a difference of clocks could not be recorded", zap.Error(err))
	}
}

func sign(d time.Duration) time.Duration {
	if d < 0 {
		return -1
	}
	return 1
}

// stamp sets the time of the next line. Times never go back from one line to
// the next, so that checkpoints bound the times of what stands between them;
// a small step back is waited out, and a larger one is a line of its own,
// which alone may have an earlier time than the line before it. j.mu is held.
func (j *Journal) stamp() {
	t := j.cfg.Now().UTC().Truncate(time.Microsecond)
	switch back := j.last.Sub(t); {
	case back > clockNote:
		j.last = t
		j.clock = appendTime(j.clock[:0], t)
		j.grown = true
		j.chain(batch{}, stepBody(back, ReasonSetBack))
		j.based = time.Time{}
	case back > 0:
		t = j.last
	}
	j.last = t
	j.clock = appendTime(j.clock[:0], t)
}

// stepBody is the event of a clock that was set.
func stepBody(by time.Duration, reason Reason) []byte {
	body := appendString(nil, "type", string(ClockOff))
	body = appendString(body, "outcome", string(Failure))
	body = appendString(body, "reason", string(reason))
	return fmt.Appendf(body, `,"count":%d`, by.Milliseconds())
}

// checkStep records that the clock went on by more than the time that passed:
// it was set, or the machine stood still. A step back is recorded with the
// next line.
func (j *Journal) checkStep() {
	j.mu.Lock()
	wall, passed := j.cfg.Now(), time.Since(j.based)
	step := wall.Sub(j.baseWall) - passed
	fresh := j.based.IsZero()
	if fresh || step.Abs() > clockNote {
		j.based, j.baseWall = time.Now(), wall
	}
	j.mu.Unlock()
	if fresh || step <= clockNote {
		return
	}
	j.log.Warn("audit: the clock was set forward, or the machine stood still", zap.Duration("by", step))
	_, _, err := j.offer(func() { j.flood.drop(1, wall, wall) }, entry{bodies: [][]byte{stepBody(step, ReasonSetForward)}, yields: true})
	if err != nil {
		j.flood.drop(1, wall, wall)
	}
}

// isStep reports whether f may have an earlier time than the line before it.
func (f *frame) isStep() bool {
	c := cursor{b: f.rest}
	return Type(f.typ) == ClockOff && c.skip(`,"outcome":"`+string(Failure)+`","reason":"`+string(ReasonSetBack)+`"`)
}
