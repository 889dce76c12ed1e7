// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/crypto"
)

// A checkRound is one look at everything, or at what did not fit before.
type checkRound struct {
	*checker
	t     *trails
	only  *suspects
	bar   *progress // nil in later rounds
	index []*crypto.IndexKey
	found []found

	noKey   map[crypto.KeyRef]bool // keys that are missing
	noStone map[string]bool        // patients whose tombstone is missing
}

func (r *checkRound) add(kind, table, field, record string) {
	r.found = append(r.found, found{Finding: Finding{kind, table, field, record}})
}

// addRow adds a finding about a stored row.
func (r *checkRound) addRow(kind string, s *storedRow, field string) {
	r.found = append(r.found, found{Finding: Finding{kind, s.model.table, field, s.record}, model: s.model, row: s.record, version: s.version})
}

// rows looks at every row of every model.
func (r *checkRound) rows() error {
	r.noKey, r.noStone = map[crypto.KeyRef]bool{}, map[string]bool{}
	for _, m := range r.models {
		sel := selection{m: m, tenant: r.tenant, limit: checkPage, extra: deletedColumns(m)}
		ids := []string(nil)
		if r.only != nil {
			ids = slices.Clone(r.only.rows[m])
			slices.Sort(ids)
		}
		for {
			if r.only != nil {
				if len(ids) == 0 {
					break
				}
				n := min(checkPage, len(ids))
				sel.records, ids = ids[:n], ids[n:]
			}
			page, err := r.stored(r.ctx, r.conn(), sel)
			if err != nil {
				return err
			}
			if err := r.page(m, page); err != nil {
				return err
			}
			if r.bar != nil {
				r.bar.add(int64(len(page)))
				r.report.Records += int64(len(page))
				r.report.Cells += int64(len(page) * len(m.sealed))
			}
			if r.only == nil {
				if len(page) < checkPage {
					break
				}
				sel.after = page[len(page)-1].record
			}
		}
	}
	return nil
}

// deletedColumns are the columns by which a model marks rows as deleted.
func deletedColumns(m *model) []string {
	var out []string
	for _, f := range m.schema.Fields {
		if f.DBName == "" {
			continue
		}
		if _, ok := reflect.New(f.IndirectFieldType).Interface().(schema.DeleteClausesInterface); ok {
			out = append(out, f.DBName)
		}
	}
	return out
}

// marked reports whether a row is marked as deleted.
func marked(s *storedRow) bool {
	for _, v := range s.extra {
		if v == nil {
			continue
		}
		if n := reflect.ValueOf(v); !n.CanInt() || n.Int() != 0 {
			return true
		}
	}
	return false
}

// page looks at some rows: their cells with one look-up of keys, their tokens
// with one query.
func (r *checkRound) page(m *model, page []*storedRow) error {
	keys, err := r.lookup(page)
	if err != nil {
		return err
	}
	texts := make([]map[*field]*string, len(page)) // of cells that are as they should be
	for i, s := range page {
		if texts[i], err = r.row(s, keys); err != nil {
			return err
		}
	}
	return r.tokens(m, page, texts)
}

// lookup reads the keys of the rows' cells, once a patient and version.
func (r *checkRound) lookup(page []*storedRow) (map[crypto.KeyRef]crypto.Found, error) {
	out := map[crypto.KeyRef]crypto.Found{}
	var refs []crypto.KeyRef
	for _, s := range page {
		for _, raw := range s.cells {
			h, err := crypto.ParseHeader(raw)
			if err != nil {
				continue
			}
			ref := crypto.KeyRef{Subject: s.subject, Version: h.KeyVersion}
			if _, seen := out[ref]; !seen {
				out[ref] = crypto.Found{}
				refs = append(refs, ref)
			}
		}
	}
	if len(refs) == 0 {
		return out, nil
	}
	got, err := r.ring.Lookup(r.ctx, &keyRows{plugin: r.plugin, conn: r.conn()}, r.tenant, refs)
	if err != nil {
		return nil, err
	}
	for i, ref := range refs {
		out[ref] = got[i]
	}
	return out, nil
}

// row looks at one row, and returns the texts of its good cells of indexed
// fields. A field without an entry was not good; NULL is nil.
func (r *checkRound) row(s *storedRow, keys map[crypto.KeyRef]crypto.Found) (map[*field]*string, error) {
	k := r.t.of(s.record)
	k = r.settle(k, s)
	whole := true // as a whole the row is what the trail knows
	switch {
	case k == nil || k.version == 0 && !k.created:
		r.addRow(ExtraRow, s, "")
		whole = false
	case k.end == deleted, k.end == softly && !marked(s), s.version < k.version:
		r.addRow(OldRow, s, "")
		whole = false
	case s.version > k.version:
		r.addRow(UnrecordedRow, s, "")
		whole = false
	}
	texts := map[*field]*string{}
	for i, f := range s.model.sealed {
		raw := s.cells[i]
		state, text := r.open(s, f, raw, keys)
		want := ""
		if whole && i < len(k.cells) {
			want = k.cells[i].digest
		}
		switch {
		case state == cellBad:
			r.addRow(BadCell, s, f.Name)
			continue
		case !whole:
			continue
		case raw == nil && (want == "" || want == noDigest):
		case raw == nil:
			r.addRow(NulledCell, s, f.Name)
			continue
		case want == "" && slices.Contains(k.other, digest(raw)): // the field has had another name
		case want != digest(raw) && k.all[digest(raw)]:
			r.addRow(OldCell, s, f.Name)
			continue
		case want != digest(raw) && state == cellLost: // nobody can open it, or has written it
			r.addRow(BadCell, s, f.Name)
			continue
		case want != digest(raw):
			r.addRow(UnrecordedCell, s, f.Name)
			continue
		}
		switch {
		case !f.indexed() || state == cellLost:
		case raw == nil:
			texts[f] = nil
		default:
			texts[f] = &text
		}
	}
	if !whole {
		return nil, nil
	}
	return texts, nil
}

// How a cell is.
type cellState uint8

const (
	cellGood cellState = iota
	cellBad            // does not open with its key
	cellLost           // its key is gone
)

// open tries a cell.
func (r *checkRound) open(s *storedRow, f *field, raw []byte, keys map[crypto.KeyRef]crypto.Found) (cellState, string) {
	if raw == nil {
		return cellGood, ""
	}
	h, err := crypto.ParseHeader(raw)
	if err != nil {
		return cellBad, ""
	}
	ref := crypto.KeyRef{Subject: s.subject, Version: h.KeyVersion}
	k := keys[ref]
	switch {
	case errors.Is(k.Err, crypto.ErrShredded):
		return cellLost, ""
	case k.Key == nil && r.t.wasShredded(s.subject):
		if !r.noStone[s.subject] {
			r.noStone[s.subject] = true
			r.addKey(MissingTombstone, s)
		}
		return cellLost, ""
	case k.Key == nil && !r.noKey[ref]:
		r.noKey[ref] = true
		r.addKey(MissingKey, s)
		return cellLost, ""
	case k.Key == nil:
		return cellLost, ""
	}
	opened, err := k.Key.Open(nil, raw, s.binding(f))
	if err != nil {
		return cellBad, ""
	}
	defer clear(opened)
	if !f.indexed() {
		return cellGood, ""
	}
	text, err := textOf(reflect.New(f.FieldType).Interface().(sealedField), opened)
	if err != nil {
		return cellBad, ""
	}
	return cellGood, text
}

// addKey adds a finding about the key of a row's patient.
func (r *checkRound) addKey(kind string, s *storedRow) {
	r.found = append(r.found, found{Finding: Finding{kind, "phi_subject_keys", "", s.subject}, model: s.model, row: s.record})
}

// settle decides the writes of a record of which the trail does not say how
// they ended, by looking. Where their data is there and no outbox row is,
// somebody removed it.
func (r *checkRound) settle(k *known, s *storedRow) *known {
	if k == nil || len(k.open) == 0 {
		return k
	}
	out := *k
	out.cells = slices.Clone(k.cells)
	for _, w := range slices.Backward(k.open) { // oldest first
		if !w.outbox && !isThere(&out, w, s) {
			continue
		}
		if !w.outbox {
			r.addRow(OutboxRemoved, s, "")
		}
		r.t.settled(&out, w)
	}
	return &out
}

// isThere reports whether the data of a write of which the trail does not say
// how it ended is in the row, and no write that has committed explains it.
func isThere(k *known, w *openWrite, s *storedRow) bool {
	o := &w.object
	if w.action == access.Delete {
		return k.end == written && marked(s)
	}
	if s.version != o.Version {
		return false
	}
	changed := o.Version > k.version
	for j, name := range o.Fields {
		i := slices.IndexFunc(s.model.sealed, func(f *field) bool { return f.Name == name })
		if i < 0 || j >= len(o.Digests) {
			continue
		}
		if o.Digests[j] != digest(s.cells[i]) {
			return false
		}
		changed = changed || i < len(k.cells) && k.cells[i].digest != o.Digests[j]
	}
	return changed
}

// missing looks at the records that the trail knows and no table has.
func (r *checkRound) missing() error {
	type kind struct {
		model   int
		version int64
	}
	// A row that one node created and another deleted has two pseudonyms, and
	// with the row its ID is gone: the deletion of a record that its own trail
	// did not create stands for one such row.
	foreign := map[kind]int{}
	if len(r.t.histories) > 1 {
		for _, tr := range r.t.histories {
			for _, k := range tr.records {
				if !k.seen && k.end == deleted && !k.created {
					foreign[kind{k.model, k.version}]++
				}
			}
		}
	}
	for i, tr := range r.t.histories {
		for pseudonym, k := range tr.records {
			if k.seen || k.model < 0 || r.only != nil && !r.only.pseudonyms[i][pseudonym] {
				continue
			}
			// A row that is not there may be a deletion of which the trail does
			// not know how it ended, or somebody's: its outbox row tells.
			k := r.t.inOutboxOnly(k)
			if k.end == deleted || k.version == 0 {
				continue
			}
			if key := (kind{k.model, k.version}); foreign[key] > 0 {
				foreign[key]--
				continue
			}
			m := r.models[k.model]
			r.found = append(r.found, found{Finding: Finding{MissingRow, m.table, "", pseudonym}, trail: i + 1, pseudonym: pseudonym})
		}
	}
	return r.nameMissing()
}

// nameMissing puts the ID in the place of a missing row's pseudonym, where the
// index or the key table still has it.
func (r *checkRound) nameMissing() error {
	wanted := map[string]*found{}
	for i := range r.found {
		if f := &r.found[i]; f.trail > 0 {
			wanted[f.pseudonym] = f
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	var ids []string
	for _, q := range []struct {
		table  any
		column string
	}{{&indexRow{}, "record_id"}, {&subjectKey{}, "subject_id"}} {
		var some []string
		if err := r.own(r.ctx, r.conn()).Model(q.table).Where("tenant_id = ?", r.tenant).Distinct().Pluck(q.column, &some).Error; err != nil {
			return fmt.Errorf("storage: read phi_index and phi_subject_keys: %w", err)
		}
		ids = append(ids, some...)
	}
	for _, id := range ids {
		for i, tr := range r.t.histories {
			if f := wanted[tr.h.Pseudonym(r.tenant, id)]; f != nil && f.trail == i+1 {
				f.Record = id
			}
		}
	}
	return nil
}

// keys looks at the tombstones: those that the trail knows must be there.
func (r *checkRound) keys() error {
	missing := map[string]int{} // pseudonym to history
	for i, tr := range r.t.histories {
		for ps := range tr.shredded {
			missing[ps] = i
		}
	}
	if len(missing) == 0 {
		return nil
	}
	stones := map[string]bool{}
	after, first := "", true
	for {
		var ids []string
		q := r.own(r.ctx, r.conn()).Model(&subjectKey{}).Where("tenant_id = ?", r.tenant)
		if !first {
			q = q.Where("subject_id > ?", after)
		}
		if err := q.Distinct().Order("subject_id").Limit(keyChunk).Pluck("subject_id", &ids).Error; err != nil {
			return fmt.Errorf("storage: read phi_subject_keys: %w", err)
		}
		all, err := (&keyRows{plugin: r.plugin, conn: r.conn()}).SubjectKeys(r.ctx, r.tenant, ids, false)
		if err != nil {
			return err
		}
		for _, row := range all {
			stones[row.Subject] = stones[row.Subject] || row.Shredded
		}
		for _, id := range ids {
			if r.t.wasShredded(id) {
				for _, tr := range r.t.histories {
					delete(missing, tr.h.Pseudonym(r.tenant, id))
				}
				if !stones[id] && !r.noStone[id] {
					r.noStone[id] = true
					r.add(MissingTombstone, "phi_subject_keys", "", id)
				}
			}
			after = id
		}
		first = false
		clear(stones)
		if len(ids) < keyChunk {
			break
		}
	}
	for id := range r.noStone {
		for _, tr := range r.t.histories {
			delete(missing, tr.h.Pseudonym(r.tenant, id))
		}
	}
	meta, _, err := r.readMeta(r.ctx, r.conn())
	if err != nil {
		return err
	}
	absent := meta.Absent // this copy of the database is older than these patients
	for ps := range missing {
		if absent > 0 {
			absent--
			continue
		}
		r.add(MissingTombstone, "phi_subject_keys", "", ps)
	}
	return nil
}
