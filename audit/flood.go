// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/part164/part164/access"
)

const (
	// floodWindow is the time whose refusals of one lane become one event.
	floodWindow = time.Minute

	// maxLanes bounds the lanes that are open at a time. The refusals of
	// further ones are counted by their type alone, but for those of a program:
	// it is named by whoever had its key, and a flood of strangers must not hide
	// that a key is tried which is no more.
	maxLanes = 1024

	// bestEffort bounds how long an event that is not required holds up its
	// caller.
	bestEffort = 100 * time.Millisecond

	// Who sends from one network can use all of its addresses: refusals are
	// counted by networks of the size that one site is given, RFC 6177 for
	// IPv6.
	laneBits4, laneBits6 = 24, 48
)

// A lane is what the refusals of one event have in common.
type lane struct {
	typ    Type
	reason Reason
	action access.Action
	code   access.Code
	tenant string
	actor  string
	kind   access.Kind
	net    netip.Addr // the first address of the network
}

// A tally counts the refusals of a lane which are not recorded yet.
type tally struct {
	n           int
	first, last time.Time
	opened      time.Time // monotonic: the window's begin
}

func (t *tally) count(n int, first, last time.Time) {
	if t.n == 0 || first.Before(t.first) {
		t.first = first
	}
	if last.After(t.last) {
		t.last = last
	}
	t.n += n
}

// event is what t counted of events that were dropped.
func (t tally) event() Stored {
	return Stored{Type: Dropped, Outcome: Failure, Count: t.n, Since: t.first, Until: t.last}
}

// A flood holds what was refused and is not recorded yet, and counts the other
// events that were dropped.
type flood struct {
	mu      sync.Mutex
	lanes   map[lane]*tally
	dropped tally
}

func laneOf(s *Stored) lane {
	l := lane{typ: s.Type, reason: s.Reason, action: s.Action, code: s.Code, tenant: s.Actor.Tenant, actor: s.Actor.ID, kind: s.Actor.Kind}
	if a := s.Actor.Addr.Unmap(); a.IsValid() {
		bits := laneBits6
		if a.Is4() {
			bits = laneBits4
		}
		if p, err := a.Prefix(bits); err == nil {
			l.net = p.Addr()
		}
	}
	return l
}

// beyond is the lane in which l is counted beyond maxLanes.
func (l lane) beyond() lane {
	if l.kind == access.Service {
		return lane{typ: l.typ, reason: l.reason, tenant: l.tenant, actor: l.actor, kind: l.kind}
	}
	return lane{typ: l.typ}
}

// event is what t counted in l.
func (l lane) event(t tally) Stored {
	return Stored{
		Type: l.typ, Outcome: Failure, Reason: l.reason, Action: l.action, Code: l.code, Count: t.n, Since: t.first, Until: t.last,
		Actor: access.Principal{ID: l.actor, Tenant: l.tenant, Kind: l.kind, Addr: l.net},
	}
}

// enter takes one refusal at time now. It returns nil where the refusal was
// counted, and else the lane that it opened: it is to be recorded by itself.
func (f *flood) enter(s *Stored, now time.Time) *lane {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lanes == nil {
		f.lanes = make(map[lane]*tally)
	}
	l := laneOf(s)
	t := f.lanes[l]
	if t == nil && len(f.lanes) >= maxLanes {
		l = l.beyond()
		t = f.lanes[l]
	}
	if t == nil {
		f.lanes[l] = &tally{opened: time.Now()}
		return &l
	}
	t.count(1, now, now)
	return nil
}

// again counts what could not be recorded.
func (f *flood) again(l lane, n int, first, last time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.lanes[l]
	if t == nil {
		t = &tally{opened: time.Now()}
		f.lanes[l] = t
	}
	t.count(n, first, last)
}

// drop counts n best-effort events that are not recorded.
func (f *flood) drop(n int, first, last time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped.count(n, first, last)
}

// due takes the lanes whose window is over, all where last is set, and what
// was dropped. A lane in which nothing happened for a window is closed.
func (f *flood) due(last bool) (lanes map[lane]tally, dropped tally) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lanes = make(map[lane]tally)
	for _, l := range slices.Collect(maps.Keys(f.lanes)) {
		t := f.lanes[l]
		if !last && time.Since(t.opened) < floodWindow {
			continue
		}
		if t.n == 0 {
			delete(f.lanes, l)
			continue
		}
		lanes[l] = *t
		*t = tally{opened: time.Now()}
	}
	dropped, f.dropped = f.dropped, tally{}
	return lanes, dropped
}

// recordBestEffort records s, where that takes no longer than a short while,
// and counts it otherwise. Its receipt names no event then.
func (j *Journal) recordBestEffort(s *Stored) (Receipt, error) {
	now := j.cfg.Now()
	lost := func() { j.flood.drop(1, now, now) }
	if s.refusal() {
		l := j.flood.enter(s, now)
		if l == nil {
			return Receipt{}, nil
		}
		lost = func() { j.flood.again(*l, 1, now, now) }
	}
	bodies, err := j.keys.bodies(s)
	if err != nil {
		lost()
		return Receipt{}, nil
	}
	g, seq, err := j.offer(lost, entry{bodies: bodies, yields: true})
	if err != nil {
		lost()
		return Receipt{}, nil
	}
	timer := time.NewTimer(min(bestEffort, j.cfg.Timeout))
	defer timer.Stop()
	select {
	case <-g.done:
		if g.err == nil {
			return Receipt{ID: eventID(j.keys.writer, seq)}, nil
		}
	case <-timer.C: // it may still become durable; if not, lost is called
	}
	return Receipt{}, nil
}

// settleFlood records what was counted. It does not wait: what cannot be
// recorded stays counted.
func (j *Journal) settleFlood() {
	lanes, dropped := j.flood.due(false)
	record := func(s Stored, lost func()) {
		bodies, err := j.keys.bodies(&s)
		if err == nil {
			_, _, err = j.offer(lost, entry{bodies: bodies, yields: true})
		}
		if err != nil {
			lost()
		}
	}
	for l, t := range lanes {
		record(l.event(t), func() { j.flood.again(l, t.n, t.first, t.last) })
	}
	if dropped.n > 0 {
		record(dropped.event(), func() { j.flood.drop(dropped.n, dropped.first, dropped.last) })
	}
}

// lastOfFlood returns what was counted, for Close.
func (j *Journal) lastOfFlood() (entries []entry) {
	lanes, dropped := j.flood.due(true)
	var events []Stored
	for l, t := range lanes {
		events = append(events, l.event(t))
	}
	if dropped.n > 0 {
		events = append(events, dropped.event())
	}
	for _, s := range events {
		more, err := j.enter(entries, s)
		if err != nil {
			j.log.Error("audit: counted refusals are not recorded", zap.Int("refusals", s.Count), zap.Error(err))
			continue
		}
		entries = more
	}
	return entries
}
