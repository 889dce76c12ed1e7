// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// What a write did to a mark: that of a deleted row, or that of a duplicate.
type markState uint8

const (
	markNone markState = iota
	markSet
	markCleared
	markUnclear // set to what only the database knows
)

// A marking is the newest write of one mark.
type marking struct {
	mark    markState
	version int64
	at      time.Time
}

// A marks is what a trail knows of a record's marks.
type marks struct{ deletion, merge marking }

func (m *marks) deleted() markState {
	if m == nil {
		return markNone
	}
	return m.deletion.mark
}

func (m *marks) merged() bool { return m != nil && m.merge.mark == markSet }

// join returns the newer of each.
func (m *marks) join(o *marks) *marks {
	if m == nil || o == nil {
		return cmp.Or(m, o)
	}
	out := *m
	out.deletion.take(o.deletion)
	out.merge.take(o.merge)
	return &out
}

func (m *marking) take(o marking) {
	if o.mark != markNone && (m.mark == markNone || newer(o.version, o.at, m.version, m.at)) {
		*m = o
	}
}

// deletedText stands in an event for the value of a column that marks a row as
// deleted: the value itself says nothing that Check needs.
const (
	deletedText = "deleted"
	unclearText = "expression"
)

// mark returns what an event says of a value that is set in a column that marks
// rows as deleted: nothing where it marks nothing.
func (m *model) mark(ctx context.Context, f *schema.Field, value any) []byte {
	if !m.softDeletes(f.DBName) {
		return nil
	}
	if _, ok := value.(clause.Expression); ok {
		return []byte(unclearText)
	}
	rv := reflect.New(m.typ).Elem()
	if err := f.Set(ctx, rv, value); err != nil {
		return []byte(unclearText)
	}
	if _, zero := f.ValueOf(ctx, rv); zero {
		return nil
	}
	return []byte(deletedText)
}

// moves reports whether a write says whom the record is about from then on:
// every other finds it where it is.
func (w *openWrite) moves() bool {
	return w.action == access.Create || w.reason == audit.ReasonMerge || w.reason == audit.ReasonUnmerge
}

// settles takes from a write whom the record is about.
func (k *known) settles(w *openWrite) {
	k.patient, k.by = w.object.Patient, w.by
	k.home, k.moved = 0, false
	if w.moves() {
		k.home, k.moved = max(1, w.object.Version), w.reason == audit.ReasonMerge && w.object.Record != w.object.Patient
	}
}

// marked returns the record's marks with what a write did to them.
func (t *trails) marked(k *known, w *openWrite) *marks {
	o := &w.object
	now := marks{
		deletion: marking{markNone, o.Version, w.at},
		merge:    marking{markNone, o.Version, w.at},
	}
	if o.Record == o.Patient {
		switch w.reason {
		case audit.ReasonMerge:
			now.merge.mark = markSet
		case audit.ReasonUnmerge:
			now.merge.mark = markCleared
		}
	}
	if k.model >= 0 {
		now.deletion.mark = deletionOf(w, t.deletes[k.model])
	}
	if now.deletion.mark == markNone && now.merge.mark == markNone {
		return k.marks
	}
	return k.marks.join(&now)
}

// deletionOf says what a write did to the columns that mark a row as deleted.
// Of several, one that is cleared does not say what the row is then.
func deletionOf(w *openWrite, columns []string) markState {
	out := markNone
	for j, name := range w.object.Fields {
		if !slices.Contains(columns, name) || j >= len(w.object.Digests) {
			continue
		}
		switch d := w.object.Digests[j]; {
		case w.action == access.Delete, d == digest([]byte(deletedText)):
			return markSet
		case d == noDigest && len(columns) == 1:
			out = markCleared
		default:
			out = markUnclear
		}
	}
	return out
}

// ofLink reports whether an object of a write is a record that was linked to
// another, or is no more: nothing of its row was written.
func ofLink(action access.Action, o *audit.Object) bool {
	return action == access.Update && o.Version == 0
}

// A mergeEvent is the newest that a trail says of a duplicate. It is recorded
// when the merge or unmerge begins.
type mergeEvent struct {
	by     *trail
	into   string // pseudonym
	undone bool
	at     time.Time
}

// merge returns the newest of what the histories say of a duplicate.
func (t *trails) merge(subject string) (out mergeEvent, ok bool) {
	for _, tr := range t.histories {
		if len(tr.merges) == 0 {
			continue
		}
		if e, seen := tr.merges[tr.h.Pseudonym(t.c.tenant, subject)]; seen && (!ok || e.at.After(out.at)) {
			out, ok = e, true
		}
	}
	return out, ok
}

func (e mergeEvent) isInto(tenant, subject string) bool {
	return e.by.h.Pseudonym(tenant, subject) == e.into
}

// place looks whether a row that is as the trail knows it is also where it
// should be: seen or hidden, about its patient, merged or not.
func (r *checkRound) place(k *known, s *storedRow) {
	if d := k.marks.deleted(); marked(s) && (d == markNone || d == markCleared) {
		r.addRow(HiddenRow, s, "")
	}
	if s.model.subject != nil && k.by != nil && k.by.h.Pseudonym(r.tenant, s.subject) != k.patient {
		r.addRow(MovedRow, s, "")
	}
	if !s.model.own {
		return
	}
	into := ""
	switch v := s.extra[len(s.extra)-1].(type) {
	case string:
		into = v
	case []byte:
		into = string(v)
	}
	e, known := r.t.merge(s.record)
	switch {
	case !k.marks.merged():
		if into != "" {
			r.addRow(UnrecordedMerge, s, "MergedInto")
		}
	case into == "", known && !e.isInto(r.tenant, into):
		r.addRow(UnrecordedMerge, s, "MergedInto")
	}
	if k.marks.merged() && known && !e.undone {
		r.shut = append(r.shut, s.record)
	}
}

// moved looks whether each row that a merge moved, or marked, can go back.
func (r *checkRound) moved(m *model, page []*storedRow) error {
	if m.subject == nil && !m.own {
		return nil
	}
	var ids []string
	for _, s := range page {
		k := r.t.of(s.record)
		if k == nil {
			continue
		}
		if len(k.open) > 0 {
			k = r.t.inOutboxOnly(k)
		}
		if k.moved || m.own && k.marks.merged() {
			ids = append(ids, s.record)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var rows []mergeRow
	if err := r.own(r.ctx, r.conn()).Where("tenant_id = ? AND entity = ? AND record_id IN ?", r.tenant, m.bare(), ids).Find(&rows).Error; err != nil {
		return fmt.Errorf("storage: read phi_merges: %w", err)
	}
	for _, s := range page {
		if slices.Contains(ids, s.record) && !slices.ContainsFunc(rows, func(row mergeRow) bool { return row.RecordID == s.record && (m.own || row.IntoID == s.subject) }) {
			r.addRow(MissingMerge, s, "")
		}
	}
	return nil
}

// closed looks at the mark on the keys of duplicates: nothing new is sealed
// under them. While a merge or unmerge is cut off, either may be.
func (r *checkRound) closed() error {
	stored := &keyRows{plugin: r.plugin, conn: r.conn()}
	keys, err := stored.SubjectKeys(r.ctx, r.tenant, r.shut, false)
	if err != nil {
		return err
	}
	bad := func(subject string) {
		r.found = append(r.found, found{Finding: Finding{UnrecordedMerge, "phi_subject_keys", "", subject}, row: subject})
	}
	for _, row := range keys {
		if !row.Closed && !row.Shredded {
			bad(row.Subject)
		}
	}
	for after, first := "", true; ; first = false {
		var ids []string
		q := stored.db(r.ctx).Model(&subjectKey{}).Where("tenant_id = ? AND closed = ? AND shredded = ?", r.tenant, true, false)
		if !first {
			q = q.Where("subject_id > ?", after)
		}
		err := q.Distinct().Order("subject_id").Limit(keyChunk).Pluck("subject_id", &ids).Error
		if err != nil {
			return fmt.Errorf("storage: read phi_subject_keys: %w", err)
		}
		for _, id := range ids {
			after = id
			if !r.only.hasPseudonym(0, r.histories[0].Pseudonym(r.tenant, id)) {
				continue
			}
			if e, ok := r.t.merge(id); !ok || e.undone && !r.merged(id) {
				bad(id)
			}
		}
		if len(ids) < keyChunk {
			return nil
		}
	}
}

// merged reports whether a duplicate's own record is marked as merged.
func (r *checkRound) merged(subject string) bool {
	k := r.t.of(subject)
	return k != nil && r.t.inOutboxOnly(k).marks.merged()
}

// merges looks at the rows of phi_merges.
func (r *checkRound) merges() error {
	keys, err := r.ring.IndexKeys(r.ctx, &keyRows{plugin: r.plugin, conn: r.conn()}, metaTenant)
	if err != nil && !errors.Is(err, crypto.ErrNoKey) {
		return err
	}
	mac := metaMAC{keys}
	var last mergeRow
	for first := true; ; first = false {
		var rows []mergeRow
		q := r.own(r.ctx, r.conn()).Where("tenant_id = ?", r.tenant)
		if !first {
			q = q.Where("from_id > ? OR from_id = ? AND (entity > ? OR entity = ? AND record_id > ?)", last.FromID, last.FromID, last.Entity, last.Entity, last.RecordID)
		}
		if err := q.Order("from_id, entity, record_id").Limit(keyChunk).Find(&rows).Error; err != nil {
			return fmt.Errorf("storage: read phi_merges: %w", err)
		}
		for i := range rows {
			last = rows[i]
			e, ok := r.t.merge(last.FromID)
			switch {
			case !last.signed(mac):
				r.add(MergeForged, "phi_merges", "", last.RecordID)
			case !ok, e.undone, !e.isInto(r.tenant, last.IntoID):
				r.add(OldMerge, "phi_merges", "", last.RecordID)
			}
		}
		if len(rows) < keyChunk {
			return nil
		}
	}
}

// tables looks whether phi_tables has every model that this process knows.
func (r *checkRound) tables() error {
	var names []string
	if err := r.own(r.ctx, r.conn()).Model(&tableRow{}).Pluck("name", &names).Error; err != nil {
		return fmt.Errorf("storage: read phi_tables: %w", err)
	}
	for _, m := range r.models {
		if !slices.Contains(names, m.bare()) {
			r.add(UnlistedTable, m.bare(), "", "")
		}
	}
	return nil
}
