// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
)

// maxEmergency bounds Emergency.Events: they are in memory.
const maxEmergency = 100_000

// Emergency lets break-glass go on while the journal cannot record (45 CFR
// 164.312(a)(2)(ii), emergency access procedure): see Config.EmergencyOpen.
//
// Only what is done for [access.BreakGlass] is let through, and no write: an
// attempt needs its line. Each event is kept in memory, printed to Stderr, and
// Alarm is called; Record then returns a Receipt without an ID. Once the
// journal records again it gets a [Gap] event that says from when to when and
// how many, and the events, each with its own time as Since; one whose line the
// disk took after all, only later than Config.Timeout, is there already. What is
// kept when the process dies is on Stderr only.
type Emergency struct {
	// Events is how many events are kept at most; further ones are refused.
	// Zero means 1,000; at most 100,000.
	Events int

	// Alarm is called after each event that is kept, with how many are: page
	// somebody. It must return at once. Required.
	Alarm func(kept int)

	// Stderr gets each event as one JSON line, IDs of patients and records as
	// pseudonyms. One that blocks holds Record up to Config.Timeout, and no
	// longer; then the next 1,024 lines wait for it. Nil means os.Stderr.
	Stderr io.Writer
}

func (e *Emergency) complete() error {
	if e.Events == 0 {
		e.Events = 1000
	}
	if e.Stderr == nil {
		e.Stderr = os.Stderr
	}
	switch {
	case e.Events < 0 || e.Events > maxEmergency:
		return fmt.Errorf("Events is not between 1 and %d", maxEmergency)
	case e.Alarm == nil:
		return fmt.Errorf("Alarm is nil: give what pages somebody")
	}
	return nil
}

// A ring holds the events of an emergency.
type ring struct {
	mu    sync.Mutex
	kept  []keptEvent
	taken int    // of kept, from the front, that group holds
	group *group // being written; nil where none is

	notices chan *notice // to Stderr
}

type keptEvent struct {
	at     time.Time
	bodies [][]byte
	groups []*group // where its lines were chained; nil once they are known to be refused
}

// recorded waits for the event's groups until the timer fires, and reports
// whether its lines are in the journal after all: a disk may be slower than
// Config.Timeout and work.
func (k *keptEvent) recorded(timer *time.Timer) (yes, known bool) {
	for _, g := range k.groups {
		select {
		case <-g.done:
		default:
			select {
			case <-g.done:
			case <-timer.C:
				timer.Reset(0)
				return false, false
			}
		}
		if g.refused {
			return false, true
		}
	}
	return len(k.groups) > 0, true
}

// keep takes s in memory. It returns cause where that is not allowed.
func (j *Journal) keep(s Stored, cause error, deadline time.Time) error {
	e := j.cfg.EmergencyOpen
	if e == nil || s.Purpose != access.BreakGlass || s.Actor.ID == "" || s.Type.attempts() {
		return cause
	}
	now := j.cfg.Now()
	s.Since = now
	bodies, err := j.keys.bodies(&s)
	if err != nil {
		return cause
	}
	var text []byte
	for _, body := range bodies {
		if len(text)+len(body)+lineFrame > maxGroup/2 {
			return cause // break-glass is for one patient
		}
		text = append(text, `{"emergency":"not in the journal yet","writer":"`...)
		text = append(text, j.keys.writer...)
		text = append(text, `","time":"`...)
		text = appendTime(text, now)
		text = append(append(append(text, '"'), body...), '}', '\n')
	}
	r := &j.ring
	r.mu.Lock()
	if len(r.kept) >= e.Events {
		r.mu.Unlock()
		return fmt.Errorf("%w: and %d events of the emergency are kept, no more are", cause, e.Events)
	}
	var chained chainedError
	errors.As(cause, &chained)
	r.kept = append(r.kept, keptEvent{now, bodies, chained.groups})
	n := len(r.kept)
	r.mu.Unlock()
	j.notify(&notice{text: text, kept: n, cause: cause, done: make(chan struct{})}, deadline)
	e.Alarm(n)
	return nil
}

// maxNotices bounds what waits for a Stderr that blocks.
const maxNotices = 1024

// A notice is what one event of an emergency prints.
type notice struct {
	text  []byte
	kept  int
	cause error
	done  chan struct{}
}

// notify has n printed, and waits for that until the deadline: a Stderr that
// blocks holds nobody up for longer.
func (j *Journal) notify(n *notice, deadline time.Time) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case j.ring.notices <- n:
	default:
		select {
		case j.ring.notices <- n:
		case <-timer.C:
			return
		}
	}
	select {
	case <-n.done:
	case <-timer.C:
	}
}

// printNotices prints until quit, and then what is left.
func (j *Journal) printNotices() {
	for {
		select {
		case n := <-j.ring.notices:
			j.print(n)
			continue
		case <-j.quit:
		}
		select {
		case n := <-j.ring.notices:
			j.print(n)
		default:
			return
		}
	}
}

func (j *Journal) print(n *notice) {
	_, err := j.cfg.EmergencyOpen.Stderr.Write(n.text)
	close(n.done)
	if err != nil {
		j.log.Error("audit: emergency: stderr takes nothing", zap.Error(err))
	}
	j.log.Error("audit: emergency: break-glass went on without a record", zap.Int("kept", n.kept), zap.Error(n.cause))
}

// settleEmergency records what was kept, and the gap, as soon as that is
// possible. It does not wait: tend calls it again.
func (j *Journal) settleEmergency() {
	r := &j.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled(0) {
		// One group holds a gap and its events: all are there, or none.
		entries, n := j.gap(maxGroup / 2)
		if n == 0 {
			return
		}
		if g, _, err := j.offer(nil, entries...); err == nil {
			r.group, r.taken = g, n
		}
	}
}

// lastOfEmergency returns what is kept, for Close.
func (j *Journal) lastOfEmergency() []entry {
	r := &j.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.settled(j.cfg.Timeout) {
		return nil
	}
	entries, _ := j.gap(math.MaxInt)
	return entries
}

// settled waits so long for the group in the making and for those of which
// nobody knew, and reports whether there is something left to record: what is in
// the journal after all is not. r.mu is held.
func (r *ring) settled(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	if r.group != nil {
		made := keptEvent{groups: []*group{r.group}}
		yes, known := made.recorded(timer)
		if !known {
			return false
		}
		if yes {
			r.kept = r.kept[r.taken:]
		}
		r.group, r.taken = nil, 0
	}
	var left []keptEvent
	for _, k := range r.kept {
		yes, known := k.recorded(timer)
		if known {
			k.groups = nil
		}
		if !yes {
			left = append(left, k)
		}
	}
	r.kept = left
	return len(left) > 0 && left[0].groups == nil
}

// gap returns the Gap event and the oldest events that are kept, of at most so
// many bytes, and how many these are. The ring's mu is held.
func (j *Journal) gap(most int) (entries []entry, n int) {
	r := &j.ring
	room := stepRoom
	entries = make([]entry, 1)
	for _, k := range r.kept {
		for _, body := range k.bodies {
			room += len(body) + lineFrame
		}
		if n > 0 && (room > most || k.groups != nil) {
			break
		}
		entries = append(entries, entry{bodies: k.bodies, last: true})
		n++
	}
	gap := Stored{Type: Gap, Outcome: Failure, Count: n, Since: r.kept[0].at, Until: r.kept[n-1].at}
	bodies, err := j.keys.bodies(&gap)
	if err != nil { // no ID in it needs a pseudonym
		return nil, 0
	}
	entries[0] = entry{bodies: bodies, last: true}
	return entries, n
}
