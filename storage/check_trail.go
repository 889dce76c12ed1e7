// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A trails is what the histories know of a tenant's records, as far as a check
// needs it.
type trails struct {
	c         *checker
	histories []*trail
	models    map[string]int // model by resource name, as an index into checker.models
	deletes   [][]string     // of each model, the fields that mark a row as deleted
	writes    int64
}

// A trail is one history.
type trail struct {
	h        audit.History
	records  map[string]*known // by pseudonym of the record
	open     map[string][]*openWrite
	shredded map[string]bool       // pseudonyms of patients
	merges   map[string]mergeEvent // by pseudonym of the duplicate, the newest
}

// A known is what one history says of one record.
type known struct {
	model   int    // index into checker.models; -1: none of this process
	patient string // pseudonym of whom it was made about, or moved to by a merge or unmerge
	by      *trail // whose pseudonym that is; nil where no write is known
	home    int64  // version at which it was; 0 where only later writes are known
	moved   bool   // by a merge that was not undone
	marks   *marks // nil where no write has set or cleared one
	version int64
	at      time.Time
	end     ending // how the newest write left it
	created bool
	seen    bool            // a stored row was found
	cells   []knownCell     // one for each of the model's sealed fields
	other   []string        // digests of fields that the model does not have by that name, newest a name
	names   []string        // of other
	all     map[string]bool // every committed digest; kept of suspects only
	open    []*openWrite    // newest first
}

type ending uint8

const (
	written ending = iota
	deleted        // and the row is gone
)

// A knownCell is the newest digest of one field; "" where there is none.
type knownCell struct {
	digest  string
	version int64
	at      time.Time
}

// An openWrite is an attempt of which the history does not say how it ended.
type openWrite struct {
	action access.Action
	reason audit.Reason
	object audit.Object
	by     *trail
	at     time.Time
	outbox bool // its row is in the outbox: it has committed
}

// readTrails replays the histories. Newest first, a write's end comes before
// its attempt, so that only those under way are held in memory.
func (c *checker) readTrails(only *suspects) (*trails, error) {
	t := &trails{c: c, models: map[string]int{}}
	for i, m := range c.models {
		t.models[m.name] = i
		var names []string
		for _, column := range deletedColumns(m) {
			names = append(names, m.schema.LookUpField(column).Name)
		}
		t.deletes = append(t.deletes, names)
	}
	for i, h := range c.histories {
		tr := &trail{h: h, records: map[string]*known{}, open: map[string][]*openWrite{}, shredded: map[string]bool{}, merges: map[string]mergeEvent{}}
		t.histories = append(t.histories, tr)
		committed, rolledBack := map[string]bool{}, map[string]bool{}
		for ev, err := range h.Replay(c.ctx, c.tenant, audit.WriteAttempt, audit.Committed, audit.RolledBack, audit.Shredded, audit.Merged) {
			if err != nil {
				return nil, fmt.Errorf("read the trail: %w", err)
			}
			switch ev.Type {
			case audit.Committed:
				committed[ev.Attempt] = true
			case audit.RolledBack:
				rolledBack[ev.Attempt] = true
			case audit.Shredded:
				for _, o := range ev.Objects {
					if ev.Reason == audit.ReasonPending && o.Patient != "" && o.Tenant == c.tenant {
						tr.shredded[o.Patient] = true
					}
				}
			case audit.Merged:
				if from, into, ok := mergeOf(&ev, c.tenant); ok {
					if _, seen := tr.merges[from]; !seen {
						tr.merges[from] = mergeEvent{tr, into, ev.Reason == audit.ReasonUnmerge, ev.Time}
					}
				}
			case audit.WriteAttempt:
				id := ev.ID
				if ev.Batch != "" {
					id = ev.Batch
				}
				done, undone := committed[id], rolledBack[id]
				if ev.Part <= 1 { // the last of its lines to come
					delete(committed, id)
					delete(rolledBack, id)
				}
				if undone {
					continue
				}
				t.attempt(i, tr, &ev, id, done, only)
			}
		}
	}
	return t, nil
}

// attempt takes one line of an attempt that did not roll back.
func (t *trails) attempt(i int, tr *trail, ev *audit.Stored, id string, done bool, only *suspects) {
	if ev.Action == access.Shred {
		for _, o := range ev.Objects {
			if done && o.Patient != "" && o.Tenant == t.c.tenant {
				tr.shredded[o.Patient] = true
			}
		}
		return
	}
	if done && ev.Part <= 1 {
		t.writes++
	}
	for n := range ev.Objects {
		o := &ev.Objects[n]
		if o.Tenant != t.c.tenant || o.Record == "" || ofLink(ev.Action, o) || !only.hasPseudonym(i, o.Record) {
			continue
		}
		k := tr.records[o.Record]
		if k == nil {
			k = t.newKnown(o.Type)
			if only != nil {
				k.all = map[string]bool{}
			}
			tr.records[o.Record] = k
		}
		if !done {
			w := &openWrite{action: ev.Action, reason: ev.Reason, object: *o, by: tr, at: ev.Time}
			k.open = append(k.open, w)
			tr.open[id] = append(tr.open[id], w)
			continue
		}
		t.replayed(k, &openWrite{action: ev.Action, reason: ev.Reason, object: *o, by: tr, at: ev.Time})
	}
}

func (t *trails) newKnown(typ string) *known {
	k := &known{model: -1}
	if m, ok := t.models[typ]; ok {
		k.model = m
		k.cells = make([]knownCell, len(t.c.models[m].sealed))
	}
	return k
}

// replayed takes a committed write of a record, the newest first: what is known
// already stays, and what was before its creation is another life.
func (t *trails) replayed(k *known, w *openWrite) {
	o := &w.object
	if k.all != nil {
		for _, d := range o.Digests {
			k.all[d] = k.all[d] || d != noDigest
		}
	}
	if k.created {
		return
	}
	if k.at.IsZero() {
		k.version, k.at, k.end = o.Version, w.at, endOf(w.action, o)
	}
	k.created = w.action == access.Create
	if k.home == 0 { // of those that do not move it, the oldest: a later one tells where the row was by then
		k.settles(w)
	}
	k.marks = t.marked(k, w)
	t.eachDigest(k, o, func(i int, digest string) {
		if k.cells[i].digest == "" {
			k.cells[i] = knownCell{digest, o.Version, w.at}
		}
	})
}

// settled takes a write that turns out to have committed.
func (t *trails) settled(k *known, w *openWrite) {
	o := &w.object
	if newer(o.Version, w.at, k.version, k.at) {
		k.version, k.at, k.end = o.Version, w.at, endOf(w.action, o)
	}
	k.created = k.created || w.action == access.Create
	if k.by == nil || w.moves() && o.Version >= k.home {
		k.settles(w)
	}
	k.marks = t.marked(k, w)
	t.eachDigest(k, o, func(i int, digest string) {
		if c := &k.cells[i]; c.digest == "" || newer(o.Version, w.at, c.version, c.at) {
			*c = knownCell{digest, o.Version, w.at}
		}
	})
}

// inOutboxOnly is what is known with the writes that the outbox says have
// committed.
func (t *trails) inOutboxOnly(k *known) *known {
	out := *k
	out.cells = slices.Clone(k.cells)
	for _, w := range slices.Backward(k.open) {
		if w.outbox {
			t.settled(&out, w)
		}
	}
	return &out
}

func endOf(action access.Action, o *audit.Object) ending {
	switch {
	case action != access.Delete:
		return written
	case len(o.Fields) > 0: // the columns that mark it: the row stays
		return written
	}
	return deleted
}

// eachDigest calls f for the digest of each sealed field, and keeps those of
// fields that the model does not have by that name.
func (t *trails) eachDigest(k *known, o *audit.Object, f func(field int, digest string)) {
	if k.model < 0 {
		return
	}
	m := t.c.models[k.model]
	for j, name := range o.Fields {
		if j >= len(o.Digests) {
			return
		}
		d := o.Digests[j]
		i := slices.IndexFunc(m.sealed, func(f *field) bool { return f.Name == name })
		switch {
		case i >= 0:
			f(i, d)
		case d != noDigest && m.schema.LookUpField(name) == nil && !slices.Contains(k.names, name):
			k.names, k.other = append(k.names, name), append(k.other, d)
		}
	}
}

// newer reports whether a write came after another: by version, and by time
// where a job rewrote a cell without a new one.
func newer(version int64, at time.Time, than int64, thanAt time.Time) bool {
	return version > than || version == than && at.After(thanAt)
}

// inOutbox notes that an attempt has committed: its outbox row is there.
func (t *trails) inOutbox(attempt string) {
	for _, tr := range t.histories {
		for _, w := range tr.open[attempt] {
			w.outbox = true
		}
	}
}

// of returns what all histories together know of a record; nil where that is
// nothing. It marks the record as found.
func (t *trails) of(record string) *known {
	var out *known
	for _, tr := range t.histories {
		k := tr.records[tr.h.Pseudonym(t.c.tenant, record)]
		if k == nil {
			continue
		}
		k.seen = true
		if out == nil {
			out = k
			continue
		}
		out = merge(out, k)
	}
	return out
}

// merge joins what two histories know of one record.
func merge(a, b *known) *known {
	out := *a
	if newer(b.version, b.at, a.version, a.at) {
		out.version, out.at, out.end = b.version, b.at, b.end
	}
	out.created = a.created || b.created
	if b.home > a.home || a.by == nil {
		out.patient, out.by, out.home, out.moved = b.patient, b.by, b.home, b.moved
	}
	out.marks = a.marks.join(b.marks)
	out.cells = slices.Clone(a.cells)
	for i := range b.cells {
		if i < len(out.cells) && newer(b.cells[i].version, b.cells[i].at, out.cells[i].version, out.cells[i].at) {
			out.cells[i] = b.cells[i]
		}
	}
	out.other = append(slices.Clone(a.other), b.other...)
	out.open = append(slices.Clone(a.open), b.open...)
	if a.all != nil || b.all != nil {
		out.all = map[string]bool{}
		for _, m := range []map[string]bool{a.all, b.all} {
			for d := range m {
				out.all[d] = true
			}
		}
	}
	return &out
}

// wasShredded reports whether a history knows that the patient was shredded.
func (t *trails) wasShredded(subject string) bool {
	if subject == "" {
		return false
	}
	for _, tr := range t.histories {
		if len(tr.shredded) > 0 && tr.shredded[tr.h.Pseudonym(t.c.tenant, subject)] {
			return true
		}
	}
	return false
}

// A suspects is what did not fit in the round before.
type suspects struct {
	rows       map[*model][]string
	pseudonyms []map[string]bool // a history
}

func newSuspects(c *checker, all []found) *suspects {
	s := &suspects{rows: map[*model][]string{}, pseudonyms: make([]map[string]bool, len(c.histories))}
	for i := range s.pseudonyms {
		s.pseudonyms[i] = map[string]bool{}
	}
	type place struct {
		model *model
		row   string
	}
	seen := map[place]bool{}
	for _, f := range all {
		switch {
		case f.trail > 0:
			s.pseudonyms[f.trail-1][f.pseudonym] = true
		case f.row != "":
			for _, m := range c.models {
				if at := (place{m, f.row}); (m == f.model || f.model == nil && m.own) && !seen[at] {
					seen[at] = true
					s.rows[m] = append(s.rows[m], f.row)
				}
			}
			for i, h := range c.histories {
				s.pseudonyms[i][h.Pseudonym(c.tenant, f.row)] = true
			}
		}
	}
	return s
}

func (s *suspects) hasPseudonym(history int, record string) bool {
	return s == nil || s.pseudonyms[history][record]
}
