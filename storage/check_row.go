// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

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

	shut []string // duplicates whose keys must be closed
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
		if m.own {
			sel.extra = append(sel.extra, m.column("MergedInto")) // the last: see mergedInto
		}
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
	marks := s.extra
	if s.model.own {
		marks = marks[:len(marks)-1]
	}
	return slices.ContainsFunc(marks, isMark)
}

// isMark reports whether what is stored in a column marks its row as deleted.
func isMark(v any) bool {
	if v == nil {
		return false
	}
	n := reflect.ValueOf(v)
	return !n.CanInt() || n.Int() != 0
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
	if err := r.moved(m, page); err != nil {
		return err
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
	case k.end == deleted, k.marks.deleted() == markSet && !marked(s), s.version < k.version:
		r.addRow(OldRow, s, "")
		whole = false
	case s.version > k.version:
		r.addRow(UnrecordedRow, s, "")
		whole = false
	default:
		r.place(k, s)
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
	opened, err := s.openCell(nil, k.Key, f, raw)
	if err != nil {
		return cellBad, ""
	}
	defer clear(opened)
	if !f.indexed() {
		return cellGood, ""
	}
	text, err := textOf(reflect.New(f.sealedType()).Interface().(sealedField), opened)
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
		return len(o.Fields) > 0 && k.end == written && k.marks.deleted() != markSet && marked(s)
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
//
// A row that one node made and another deleted has two pseudonyms, and with the
// row its ID is gone. So a deletion of a record that its own trail did not make
// stands for one row of the same model and patient that another trail made.
// Where somebody removed one more, its patient is sure; which one it is, only
// where the index still knows it.
func (r *checkRound) missing() error {
	type gone struct {
		found
		model   int
		patient string
		known   bool // by ID
	}
	ids, err := r.ids()
	if err != nil {
		return err
	}
	type place struct {
		model   int
		patient string
	}
	foreign := map[place]int{}
	var all []gone
	for i, tr := range r.t.histories {
		for pseudonym, k := range tr.records {
			if k.seen || k.model < 0 || r.only != nil && !r.only.pseudonyms[i][pseudonym] {
				continue
			}
			// A row that is not there may be a deletion of which the trail does
			// not know how it ended, or somebody's: its outbox row tells.
			k = r.t.inOutboxOnly(k)
			patient := ids[i][k.patient]
			switch {
			case k.end == deleted && !k.created:
				foreign[place{k.model, patient}]++
			case k.end == deleted, k.version == 0:
			case !k.created && len(r.t.histories) > 1: // the trail that made it tells
			default:
				g := gone{found{Finding: Finding{MissingRow, r.models[k.model].table, "", pseudonym}, trail: i + 1, pseudonym: pseudonym}, k.model, patient, false}
				if id, ok := ids[i][pseudonym]; ok {
					g.Record, g.known = id, true
				}
				all = append(all, g)
			}
		}
	}
	slices.SortFunc(all, func(a, b gone) int { // those that are known are no deletions of ours, which take the tokens along
		if a.known != b.known {
			return btoi(b.known) - btoi(a.known)
		}
		return strings.Compare(b.pseudonym, a.pseudonym)
	})
	for _, g := range slices.Backward(all) {
		if at := (place{g.model, g.patient}); foreign[at] > 0 {
			foreign[at]--
			continue
		}
		r.found = append(r.found, g.found)
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ids returns, for each history, the IDs behind pseudonyms, as far as the index
// and the key table know them. It reads them only where a row is missing.
func (r *checkRound) ids() ([]map[string]string, error) {
	out := make([]map[string]string, len(r.t.histories))
	if !slices.ContainsFunc(r.t.histories, func(tr *trail) bool {
		for _, k := range tr.records {
			if !k.seen && k.end != deleted {
				return true
			}
		}
		return false
	}) {
		return out, nil
	}
	for i := range out {
		out[i] = map[string]string{}
	}
	for _, q := range []struct {
		table  any
		column string
	}{{&indexRow{}, "record_id"}, {&subjectKey{}, "subject_id"}} {
		var some []string
		if err := r.own(r.ctx, r.conn()).Model(q.table).Where("tenant_id = ?", r.tenant).Distinct().Pluck(q.column, &some).Error; err != nil {
			return nil, fmt.Errorf("storage: read phi_index and phi_subject_keys: %w", err)
		}
		for _, id := range some {
			for i, tr := range r.t.histories {
				out[i][tr.h.Pseudonym(r.tenant, id)] = id
			}
		}
	}
	return out, nil
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
