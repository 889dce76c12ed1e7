// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"fmt"
	"slices"

	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// A write to a unique field asks a question: ErrDuplicate says that some record
// has the value, also to who may not search, and also where a transaction that
// rolls back leaves no row behind. So that answer counts as a search, and is
// recorded as one.

// asked is a question of an op: which unique fields it writes.
type asked struct {
	tokens  []string       // names of the sealed ones
	columns []string       // names of those in clear
	index   bool           // the table took the rows; the tokens are next
	found   []audit.Object // records that have the tokens
}

// ask collects the unique fields that the op writes.
func (o *op) ask() {
	for _, f := range o.m.sealed {
		if f.tag.Unique && slices.ContainsFunc(o.rows, func(r *row) bool {
			return slices.ContainsFunc(o.tokens[r], func(t indexRow) bool { return t.Field == f.logical && t.UniqueToken != nil })
		}) {
			o.asked.tokens = append(o.asked.tokens, f.Name)
		}
	}
	for _, r := range o.rows {
		for _, c := range o.changes[r] {
			if c.field != nil && c.field.unique && !slices.Contains(o.asked.columns, c.name) {
				o.asked.columns = append(o.asked.columns, c.name)
			}
		}
	}
}

// inUnique reports whether a column in clear is in a unique index of the
// database's own.
func inUnique(f *schema.Field) bool {
	return f.Unique || slices.ContainsFunc(f.Schema.ParseIndexes(), func(i *schema.Index) bool {
		return i.Class == "UNIQUE" && slices.ContainsFunc(i.Fields, func(o schema.IndexOption) bool { return o.Field.Name == f.Name })
	})
}

// mayAsk refuses a write to a unique field, whether the value is taken or not,
// where the principal has been told of one in the last hour and has reached its
// limit of searches.
func (o *op) mayAsk() error {
	o.ask()
	fields := slices.Concat(o.asked.tokens, o.asked.columns)
	if len(fields) == 0 {
		return nil
	}
	who := o.scope.Principal()
	most := o.searchLimit(who.Roles)
	return o.counted(o.ctx, o.m, fields, who, most, o.searchers.barred(searcherOf(who), most, o.now()))
}

// taken looks for records that have one of the unique values to be written, and
// returns ErrDuplicate where there is one. The index would refuse it too, but
// not say which record it is, and on PostgreSQL end the transaction.
func (o *op) taken(rows []indexRow) error {
	mine := map[string]map[string]string{} // field, token, record
	for _, r := range slices.Concat(rows, o.formerly) {
		if r.UniqueToken == nil {
			continue
		}
		if mine[r.Field] == nil {
			mine[r.Field] = map[string]string{}
		}
		mine[r.Field][string(r.UniqueToken)] = r.RecordID
	}
	tenant := o.scope.Principal().Tenant
	for field, records := range mine {
		tokens := make([][]byte, 0, len(records))
		for t := range records {
			tokens = append(tokens, []byte(t))
		}
		for part := range slices.Chunk(tokens, keyChunk) {
			var there []indexRow
			err := o.own(o.ctx, o.tx.Tx).Select("record_id", "subject_id", "unique_token").
				Where("tenant_id = ? AND field = ? AND unique_token IN ?", tenant, field, part).Find(&there).Error
			if err != nil {
				return fmt.Errorf("storage: read phi_index: %w", err)
			}
			for _, t := range there {
				if t.RecordID != records[string(t.UniqueToken)] {
					o.asked.found = append(o.asked.found, audit.Object{Type: o.m.name, Tenant: tenant, Record: t.RecordID, Patient: t.SubjectID, Fields: o.asked.tokens})
				}
			}
		}
	}
	if len(o.asked.found) > 0 {
		return ErrDuplicate
	}
	return nil
}

// answered counts and records the search that a duplicate is the answer of. The
// caller gets another error where it may not be told.
func (o *op) answered(duplicate error) error {
	fields, found := o.asked.columns, o.asked.found
	if o.asked.index {
		fields = o.asked.tokens
	}
	if len(fields) == 0 {
		return duplicate // of an ID
	}
	who := o.scope.Principal()
	most := o.searchLimit(who.Roles)
	st := o.searchers.told(searcherOf(who), most, o.now())
	q := search{warn: st.warning || st.refused > 0}
	ev := audit.Event{Type: audit.Searched, Outcome: audit.Success, Reason: q.reason(), Action: access.Search, Count: max(1, len(found)), Objects: found}
	if len(found) == 0 { // another transaction's, or in clear
		ev.Objects = []audit.Object{{Type: o.m.name, Fields: fields}}
	}
	if _, err := o.cfg.Audit.Record(o.ctx, ev); err != nil {
		return fmt.Errorf("storage: %s %s: %w", o.action, o.m.table, err)
	}
	return cmp.Or(o.counted(o.ctx, o.m, fields, who, most, st), duplicate)
}
