// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"container/list"
	"hash/fnv"
	"math"
	"math/bits"
	"time"

	"github.com/part164/part164/audit"
)

// actors keeps the state of those seen last.
type actors struct {
	max   int
	by    map[actorKey]*list.Element
	order *list.List // of *actor, the one seen last in front
}

type actorKey struct{ tenant, id string }

func newActors(max int) actors {
	return actors{max: max, by: map[actorKey]*list.Element{}, order: list.New()}
}

// of returns the state of an actor, a new one where there is none.
func (as *actors) of(tenant, id string) *actor {
	key := actorKey{tenant, id}
	if e, ok := as.by[key]; ok {
		as.order.MoveToFront(e)
		return e.Value.(*actor)
	}
	if as.order.Len() >= as.max {
		oldest := as.order.Back()
		delete(as.by, oldest.Value.(*actor).key)
		as.order.Remove(oldest)
	}
	a := &actor{key: key}
	as.by[key] = as.order.PushFront(a)
	return a
}

// An actor is what is known of one principal: of the same size for everybody.
type actor struct {
	key  actorKey
	seen time.Time // the last use of the account

	tries int       // failed sign-ins
	since time.Time // the first of them

	hours    week
	patients sketch    // of the hour
	hour     time.Time // which
	levels   levels    // of the hours before

	strangers few       // patients of the day without relation
	day       time.Time // which
	usual     levels    // of the days before: one more than the strangers, so that none counts

	batch string // the event under way, and how many records its lines had
	rows  int

	lately [32]raised // a ring
	at     int
}

// raised remembers an alert.
type raised struct {
	what uint32 // hash of rule and patient
	when uint32 // Unix time in seconds
}

// dormant returns for how many days the account was not used; 0 where it was.
func (a *actor) dormant(now time.Time, limit time.Duration) int {
	if a.seen.IsZero() || now.Sub(a.seen) < limit {
		return 0
	}
	return int(now.Sub(a.seen) / (24 * time.Hour))
}

func (a *actor) fail(now time.Time, n int, within time.Duration) {
	if a.tries == 0 || now.Sub(a.since) > within {
		a.tries, a.since = 0, now
	}
	a.tries += n
}

func (a *actor) failed(now time.Time, within time.Duration) int {
	if now.Sub(a.since) > within {
		return 0
	}
	return a.tries
}

// roll begins a new hour, and keeps how busy the last one was.
func (a *actor) roll(now time.Time) {
	hour := now.Truncate(time.Hour)
	if hour.Equal(a.hour) {
		return
	}
	if !a.hour.IsZero() {
		a.levels.add(a.patients.count())
	}
	a.hour, a.patients = hour, sketch{}
}

func (a *actor) limit(least int, factor float64) int {
	return max(least, int(factor*float64(a.levels.exceeded(20))))
}

// estranged counts patients without relation, and reports whether there are new
// ones among them and now more in the day than is usual for the actor: than in
// nine of ten days before, or any where the history has fewer than 20 days.
func (a *actor) estranged(now time.Time, strangers []string) bool {
	a.dawn(now)
	before := a.strangers.count()
	for _, p := range strangers {
		a.strangers.add(p)
	}
	n := a.strangers.count()
	return n > before && n > a.usual.exceeded(10)-1
}

// dawn begins a new day, and keeps how many strangers the last one had.
func (a *actor) dawn(now time.Time) {
	day := midnight(now)
	if day.Equal(a.day) {
		return
	}
	if !a.day.IsZero() {
		a.usual.add(a.strangers.count() + 1)
	}
	a.day, a.strangers = day, few{}
}

func midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// records returns how many records an event had so far, over all its lines.
func (a *actor) records(ev *audit.Stored) int {
	n := max(len(ev.Objects), ev.Count)
	if ev.Type == audit.Searched {
		n = len(ev.Objects) // Count is of candidates that nobody saw
	}
	if ev.Batch == "" {
		return n
	}
	if a.batch != ev.Batch {
		a.batch, a.rows = ev.Batch, 0
	}
	a.rows += len(ev.Objects)
	return a.rows
}

// fresh reports whether the rule was not raised about that patient within the
// time, and remembers that it is now.
func (a *actor) fresh(r Rule, patient string, now time.Time, within time.Duration) bool {
	what := uint32(hash(string(r) + "\x00" + patient))
	for _, p := range a.lately {
		if p.what == what && now.Sub(time.Unix(int64(p.when), 0)).Abs() < within {
			return false
		}
	}
	a.lately[a.at] = raised{what, uint32(now.Unix())}
	a.at = (a.at + 1) % len(a.lately)
	return true
}

// off reports whether the actor hardly ever works at this hour of the week, by
// a history that is long enough.
func (a *actor) off(now time.Time, history int, share float64) bool {
	total, near := a.hours.total(), a.hours.near(now)
	return total >= uint32(history) && float64(near) < share*float64(total)
}

// A week counts events by hour of the day, on workdays and at weekends.
type week [2][24]uint16

func (w *week) slot(t time.Time) (*[24]uint16, int) {
	t = t.UTC()
	if d := t.Weekday(); d == time.Saturday || d == time.Sunday {
		return &w[1], t.Hour()
	}
	return &w[0], t.Hour()
}

// add counts; where a counter is full, all are halved, so that what is long ago
// counts less.
func (w *week) add(t time.Time) {
	day, hour := w.slot(t)
	if day[hour] == math.MaxUint16 {
		for d := range w {
			for h := range w[d] {
				w[d][h] /= 2
			}
		}
	}
	day[hour]++
}

func (w *week) total() (n uint32) {
	for d := range w {
		for _, c := range w[d] {
			n += uint32(c)
		}
	}
	return n
}

// near counts the hour and two on either side: who stays late does not stand out.
func (w *week) near(t time.Time) (n uint32) {
	day, hour := w.slot(t)
	for h := hour + 22; h <= hour+26; h++ {
		n += uint32(day[h%24])
	}
	return n
}

// hash is FNV-1a with the finaliser of MurmurHash3, so that every bit counts.
func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// A sketch counts distinct patients: linear counting (Whang and others, 1990)
// over 2,048 bits; few does over 512.
type (
	sketch [32]uint64
	few    [8]uint64
)

func (s *sketch) add(patient string) { mark(s[:], patient) }
func (s *sketch) count() int         { return distinct(s[:]) }
func (s *few) add(patient string)    { mark(s[:], patient) }
func (s *few) count() int            { return distinct(s[:]) }

func mark(words []uint64, patient string) {
	x := hash(patient)
	words[x/64%uint64(len(words))] |= 1 << (x % 64)
}

func distinct(words []uint64) int {
	size := len(words) * 64
	zero := size
	for _, word := range words {
		zero -= bits.OnesCount64(word)
	}
	return int(math.Round(float64(size) * math.Log(float64(size)/float64(max(zero, 1)))))
}

// levels is a histogram of how busy hours, or days, were, in steps of a quarter
// of an octave.
type levels struct {
	n     [40]uint16
	total uint32
}

func level(patients int) int { return min(int(4*math.Log2(float64(max(patients, 1)))), 39) }

func (l *levels) add(patients int) {
	if patients == 0 {
		return
	}
	if l.total >= 1000 { // halve: some months of work
		l.total = 0
		for i := range l.n {
			l.n[i] /= 2
			l.total += uint32(l.n[i])
		}
	}
	l.n[level(patients)]++
	l.total++
}

// exceeded returns what one in n of them exceeds at the most; 0 before there
// are twenty.
func (l *levels) exceeded(n uint32) int {
	if l.total < 20 {
		return 0
	}
	above := uint32(0)
	for i := len(l.n) - 1; i >= 0; i-- {
		if above += uint32(l.n[i]); above*n > l.total {
			return int(math.Exp2(float64(i+1) / 4))
		}
	}
	return 0
}
