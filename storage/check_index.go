// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/crypto"
)

// readIndexKeys reads the tenant's live index keys, the newest first.
func (r *checkRound) readIndexKeys() error {
	keys, err := r.ring.IndexKeys(r.ctx, &keyRows{plugin: r.plugin, conn: r.conn()}, r.tenant)
	if errors.Is(err, crypto.ErrNoKey) { // nothing was ever indexed
		return nil
	}
	r.index = keys
	return err
}

// A fieldTokens is what the index holds of one field of one record.
type fieldTokens struct {
	row    *storedRow
	field  *field
	stored []indexRow
	text   *string // the field's value; nil is NULL, or a field without an index
}

// A padToken is a token that stands for no value of its record.
type padToken struct {
	row   *storedRow
	field *field
}

// tokens holds the tokens of some rows against their values.
func (r *checkRound) tokens(m *model, page []*storedRow, texts []map[*field]*string) error {
	if len(page) == 0 {
		return nil
	}
	ids := make([]string, len(page))
	at := map[string]int{}
	for i, s := range page {
		ids[i], at[s.record] = s.record, i
	}
	var rows []indexRow
	if err := r.own(r.ctx, r.conn()).Where("tenant_id = ? AND record_id IN ?", r.tenant, ids).Find(&rows).Error; err != nil {
		return fmt.Errorf("storage: read phi_index: %w", err)
	}
	if r.bar != nil {
		r.report.Tokens += int64(len(rows))
	}
	type place struct {
		record int
		field  string
	}
	stored := map[place][]indexRow{}
	for _, row := range rows {
		p := place{at[row.RecordID], row.Field}
		stored[p] = append(stored[p], row)
	}
	pads := map[string]map[string]padToken{} // logical field, token
	for i, s := range page {
		if texts[i] == nil { // the row is not what it should be: its tokens cannot be
			continue
		}
		for _, f := range m.sealed {
			p := place{i, f.logical}
			text, good := texts[i][f]
			if good || !f.indexed() {
				r.fieldTokens(&fieldTokens{s, f, stored[p], text}, pads)
			} else if len(stored[p]) > 0 && r.shredded(s) {
				r.addRow(ExtraToken, s, f.Name)
			}
			delete(stored, p)
		}
	}
	for p := range stored {
		if texts[p.record] != nil { // of no field of the model
			r.addRow(ExtraToken, page[p.record], "")
		}
	}
	return r.pads(pads)
}

// shredded reports whether the row's patient has a tombstone or had one.
func (r *checkRound) shredded(s *storedRow) bool { return r.t.wasShredded(s.subject) }

// fieldTokens holds the tokens of one field against its value, a key at a time.
// While two keys live, a record may lack those of one as a whole: the rotation
// has not reached it.
func (r *checkRound) fieldTokens(t *fieldTokens, pads map[string]map[string]padToken) {
	var plainly, named []term
	unique := ""
	if t.text != nil {
		plainly, named, unique = indexTerms(t.field, *t.text)
	}
	rest := t.stored
	missing, extra, complete := false, false, false
	for _, key := range r.index {
		var of []indexRow
		of, rest = split(rest, func(row indexRow) bool { return row.KeyVersion == key.Version() })
		if len(of) == 0 && len(r.index) > 1 {
			continue
		}
		complete = true
		want := map[string]bool{}
		names := tokensOf(key, t.field, named)
		size := 0
		if t.field.named() && t.text != nil {
			size = padded(len(names))
			names = names[:min(len(names), size)]
		}
		plain := tokensOf(key, t.field, plainly)
		for _, token := range slices.Concat(names, plain) {
			want[string(token)] = true
		}
		var token []byte
		if unique != "" {
			token = key.Token(t.field.logical, kindUnique, unique)
		}
		others, carriers := 0, 0
		for _, row := range of {
			switch {
			case row.UniqueToken == nil:
			case token != nil && bytes.Equal(row.UniqueToken, token):
				carriers++
			default:
				extra = true
			}
			if row.SubjectID != t.row.subject {
				extra = true
			}
			if want[string(row.Token)] {
				delete(want, string(row.Token))
				continue
			}
			others++
			if pads[t.field.logical] == nil {
				pads[t.field.logical] = map[string]padToken{}
			}
			pads[t.field.logical][string(row.Token)] = padToken{t.row, t.field}
		}
		room := size - len(names) // for random ones
		missing = missing || len(want) > 0 || others < room || token != nil && carriers == 0
		extra = extra || others > room || carriers > 1
	}
	if !complete && t.text != nil {
		missing = t.field.named() || len(plainly) > 0
	}
	if missing {
		r.addRow(MissingToken, t.row, t.field.Name)
	}
	if extra {
		r.addRow(ExtraToken, t.row, t.field.Name)
	}
	if len(rest) > 0 {
		r.addRow(OldToken, t.row, t.field.Name)
	}
}

// padded is how many tokens a name with n of its own has.
func padded(n int) int {
	size := minPad
	for size < n && size < maxPad {
		size *= 2
	}
	return size
}

func split(rows []indexRow, is func(indexRow) bool) (yes, no []indexRow) {
	for _, row := range rows {
		if is(row) {
			yes = append(yes, row)
		} else {
			no = append(no, row)
		}
	}
	return yes, no
}

// pads looks whether a token that stands for no value of its record stands for
// one of another: random ones never meet.
func (r *checkRound) pads(all map[string]map[string]padToken) error {
	for field, of := range all {
		tokens := make([][]byte, 0, len(of))
		for token := range of {
			tokens = append(tokens, []byte(token))
		}
		for len(tokens) > 0 {
			n := min(keyChunk, len(tokens))
			var rows []indexRow
			err := r.own(r.ctx, r.conn()).Select("token", "record_id").Where("tenant_id = ? AND field = ? AND token IN ?", r.tenant, field, tokens[:n]).Find(&rows).Error
			if err != nil {
				return fmt.Errorf("storage: read phi_index: %w", err)
			}
			for _, row := range rows {
				if p := of[string(row.Token)]; p.row.record != row.RecordID {
					r.addRow(ExtraToken, p.row, p.field.Name)
				}
			}
			tokens = tokens[n:]
		}
	}
	return nil
}

// orphans looks for tokens of records that no table has.
func (r *checkRound) orphans() error {
	known := []string{}
	for _, m := range r.models {
		var fields []string
		for _, f := range m.sealed {
			fields = append(fields, f.logical)
		}
		if len(fields) == 0 {
			continue
		}
		known = append(known, fields...)
		if err := r.orphansOf(m.table, func(db *gorm.DB) *gorm.DB {
			live := r.own(r.ctx, r.conn()).Table(m.table).Select(m.column("ID")).Where(clause.Eq{Column: clause.Column{Name: m.column("TenantID")}, Value: r.tenant})
			return db.Where("field IN ? AND record_id NOT IN (?)", fields, live)
		}); err != nil {
			return err
		}
	}
	return r.orphansOf("phi_index", func(db *gorm.DB) *gorm.DB {
		if len(known) > 0 {
			db = db.Where("field NOT IN ?", known)
		}
		return db
	})
}

func (r *checkRound) orphansOf(table string, where func(*gorm.DB) *gorm.DB) error {
	var records []string
	q := where(r.own(r.ctx, r.conn()).Model(&indexRow{}).Where("tenant_id = ?", r.tenant))
	if err := q.Distinct().Order("record_id").Pluck("record_id", &records).Error; err != nil {
		return fmt.Errorf("storage: read phi_index: %w", err)
	}
	for _, id := range records {
		r.add(OrphanToken, table, "", id)
	}
	return nil
}
