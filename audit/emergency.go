// SPDX-License-Identifier: Apache-2.0

package audit

import (
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
// how many, and the events, each with its own time as Since. What is kept when
// the process dies is on Stderr only.
type Emergency struct {
	// Events is how many events are kept at most; further ones are refused.
	// Zero means 1,000; at most 100,000.
	Events int

	// Alarm is called after each event that is kept, with how many are: page
	// somebody. It must return at once. Required.
	Alarm func(kept int)

	// Stderr gets each event as one JSON line, IDs of patients and records as
	// pseudonyms. Nil means os.Stderr.
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
}

type keptEvent struct {
	at     time.Time
	bodies [][]byte
}

// keep takes s in memory. It returns cause where that is not allowed.
func (j *Journal) keep(s Stored, cause error) error {
	e := j.cfg.EmergencyOpen
	if e == nil || s.Purpose != access.BreakGlass || s.Actor.ID == "" || s.Type == WriteAttempt {
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
	r.kept = append(r.kept, keptEvent{now, bodies})
	n := len(r.kept)
	_, err = e.Stderr.Write(text)
	r.mu.Unlock()
	if err != nil {
		j.log.Error("audit: emergency: stderr takes nothing", zap.Error(err))
	}
	j.log.Error("audit: emergency: break-glass went on without a record", zap.Int("kept", n), zap.Error(cause))
	e.Alarm(n)
	return nil
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

// settled waits so long for the group in the making, and reports whether there
// is something left to record. r.mu is held.
func (r *ring) settled(wait time.Duration) bool {
	if r.group != nil {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-r.group.done:
		default:
			select {
			case <-r.group.done:
			case <-timer.C:
				return false // nobody knows yet
			}
		}
		if !r.group.refused {
			r.kept = r.kept[r.taken:]
		}
		r.group, r.taken = nil, 0
	}
	return len(r.kept) > 0
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
		if n > 0 && room > most {
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
