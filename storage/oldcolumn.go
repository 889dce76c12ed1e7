// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// A field with from=column is being sealed: what the old column holds in clear
// is shown by Reveal like a sealed value, and every write to the field sets
// the old column to NULL. The job SealColumns moves the rest.

// olds returns the model's fields with an old column.
func (m *model) olds() []*field {
	var out []*field
	for _, f := range m.sealed {
		if f.tag.From != "" {
			out = append(out, f)
		}
	}
	return out
}

func oldColumns(fields []*field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, f.tag.From)
	}
	return out
}

// addOlds checks the from= options of a model. An old column takes no part in
// conditions or orders: it answers as its field does.
func (m *model) addOlds() error {
	for _, f := range m.olds() {
		from := strings.ToLower(f.tag.From)
		if f.FieldType.Kind() == reflect.Pointer {
			return fmt.Errorf("field %s: from= on a pointer to a Sealed: use the Sealed itself, whose zero value is NULL", f.Name)
		}
		if _, ok := m.schema.FieldsByDBName[f.tag.From]; ok || m.columns[from] != nil {
			return fmt.Errorf("field %s: from=%s names a column that a field of the model has: give the sealed field a new column, such as gorm:\"column:%s_sealed\", and drop the old field", f.Name, f.tag.From, from)
		}
		m.columns[from] = f
	}
	return nil
}

// isOlder reports whether the value, if there is one, is in the old column.
func (c *cell) isOlder() bool { return c != nil && c.shown != nil && c.shown.kind == older }

// emptyOlds sets the old columns of a patient who is being shredded to NULL:
// what they hold is under no key. It returns of how many rows it did so.
func (p *plugin) emptyOlds(ctx context.Context, conn gorm.ConnPool, models []*model, tenant, subject string) (n int64, err error) {
	for _, m := range models {
		if !m.own && m.subject == nil {
			continue
		}
		fields, err := p.heldOlds(ctx, conn, m)
		if err != nil {
			return n, err
		}
		if len(fields) == 0 {
			continue
		}
		sets := map[string]any{}
		for _, f := range fields {
			sets[f.tag.From] = nil
		}
		s := selection{m: m, tenant: tenant, subject: subject, held: oldColumns(fields)}
		db := p.rowsOf(ctx, conn, s).Updates(sets)
		if db.Error != nil {
			return n, fmt.Errorf("storage: update %s: its old columns could not be set to NULL: see that they take it", m.table) // the driver's text may quote values
		}
		n += db.RowsAffected
	}
	return n, nil
}

// A heldOld is what a Reveal found in the old column.
type heldOld struct {
	record int
	field  *field
}

// older reads the old columns of the rows whose sealed column is NULL and that
// the policy shows, after the act was recorded.
func (b *batch) older() (map[heldOld]any, error) {
	want := map[*model]map[string]int{}
	for _, s := range b.found {
		if r := b.records[s.record]; s.c.isOlder() && r.allowed && s.view != minimize.Withhold {
			if want[r.model] == nil {
				want[r.model] = map[string]int{}
			}
			want[r.model][r.row.record] = s.record
		}
	}
	out := map[heldOld]any{}
	if len(want) == 0 {
		return out, nil
	}
	conn := inner(b.p.pool)
	if tx, ok := b.ctx.Value(txKey{}).(*txConn); ok && tx.plugin == b.p {
		conn = tx.Tx
	}
	// No key is looked up, which would tell that the database is too old.
	if _, err := (&keyRows{plugin: b.p, conn: conn}).Generation(b.ctx); err != nil {
		return nil, err
	}
	for m, records := range want {
		fields, err := b.p.heldOlds(b.ctx, conn, m)
		if err != nil {
			return nil, err
		}
		if len(fields) == 0 {
			continue
		}
		ids := make([]string, 0, len(records))
		for id := range records {
			ids = append(ids, id)
		}
		for part := range slices.Chunk(ids, keyChunk) {
			rows, err := b.p.stored(b.ctx, conn, selection{m: m, tenant: b.scope.Principal().Tenant, records: part, extra: oldColumns(fields)})
			if err != nil {
				return nil, err
			}
			// After the values: what was written since the patient was shredded
			// is not shown either.
			gone, err := b.p.tombstoned(b.ctx, conn, b.scope.Principal().Tenant, rows)
			if err != nil {
				return nil, err
			}
			for _, r := range rows {
				for i, f := range fields {
					if gone[r.subject] && r.extra[i] != nil {
						b.shredded[r.record] = true
						r.extra[i] = crypto.ErrShredded
					}
					if n := records[r.record]; r.extra[i] != nil && r.subject == b.records[n].subject {
						out[heldOld{n, f}] = r.extra[i]
					}
				}
			}
		}
	}
	return out, nil
}

// tombstoned returns those of the rows' subjects that were shredded.
func (p *plugin) tombstoned(ctx context.Context, conn gorm.ConnPool, tenant string, rows []*storedRow) (map[string]bool, error) {
	var subjects, gone []string
	for _, r := range rows {
		subjects = append(subjects, r.subject)
	}
	out := map[string]bool{}
	err := p.own(ctx, conn).Model(&subjectKey{}).Where("tenant_id = ? AND subject_id IN ? AND shredded = ?", tenant, unique(subjects), true).Pluck("subject_id", &gone).Error
	if err != nil {
		return nil, fmt.Errorf("storage: read phi_subject_keys: %w", err)
	}
	for _, s := range gone {
		out[s] = true
	}
	return out, nil
}

// heldOlds are the fields whose old column is still there.
func (p *plugin) heldOlds(ctx context.Context, conn gorm.ConnPool, m *model) ([]*field, error) {
	fields := m.olds()
	if len(fields) == 0 {
		return nil, nil
	}
	columns, err := p.columnsOf(ctx, conn, m)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(fields, func(f *field) bool { return !columns[strings.ToLower(f.tag.From)] }), nil
}

// columnsOf returns the names of the table's columns, in lower case. It asks
// the catalogue: a SELECT * would be prepared, and fail when a column goes.
func (p *plugin) columnsOf(ctx context.Context, conn gorm.ConnPool, m *model) (map[string]bool, error) {
	in, bare := "", m.table
	if i := strings.LastIndexByte(bare, '.'); i >= 0 {
		in, bare = bare[:i], bare[i+1:]
	}
	var names []string
	db := p.own(ctx, conn)
	switch p.db.Name() {
	case "sqlite":
		db = db.Raw("SELECT name FROM pragma_table_info(?, ?)", bare, cmp.Or(in, "main"))
	case "postgres":
		db = db.Raw("SELECT attname FROM pg_attribute WHERE attrelid = CAST(? AS regclass) AND attnum > 0 AND NOT attisdropped", p.quote(m.table))
	default:
		db = db.Raw("SELECT column_name FROM information_schema.columns WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?", in, bare)
	}
	if err := db.Scan(&names).Error; err != nil {
		return nil, fmt.Errorf("storage: columns of %s: %w", m.table, err)
	}
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[strings.ToLower(n)] = true
	}
	return out, nil
}

// clearOlds adds to the columns that an UPDATE sets the old ones of sealed
// fields among them.
func (o *op) clearOlds(values map[string]any) ([]string, error) {
	fields, err := o.heldOlds(o.ctx, o.tx.Tx, o.m)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range fields {
		if _, ok := values[f.DBName]; ok {
			out = append(out, f.tag.From)
		}
	}
	return out, nil
}

// hasOlder reports whether the row's old column holds something, which setting
// the field to NULL must clear.
func (o *op) hasOlder(r *row, f *field) (bool, error) {
	if f.tag.From == "" {
		return false, nil
	}
	fields, err := o.heldOlds(o.ctx, o.tx.Tx, o.m)
	if err != nil || !slices.Contains(fields, f) {
		return false, err
	}
	rows, err := o.stored(o.ctx, o.tx.Tx, selection{m: o.m, tenant: r.tenant, records: []string{r.record}, extra: []string{f.tag.From}})
	return err == nil && len(rows) == 1 && rows[0].extra[0] != nil, err
}

// fromColumn makes a fresh cell of what a driver gives for a column that holds
// a T in clear.
func (s *Sealed[T]) fromColumn(v any) (*cell, error) {
	bad := func() (*cell, error) {
		return nil, fmt.Errorf("storage: seal: the old column does not hold a %s", s.valueType()) // the cause would quote the value
	}
	if t, ok := v.(time.Time); ok && s.valueType().Kind() == reflect.String && t.Equal(t.Truncate(24*time.Hour)) {
		v = t.Format(time.DateOnly) // of a DATE column
	}
	var n sql.Null[T]
	if err := n.Scan(v); err == nil && n.Valid {
		return Seal(n.V).c, nil
	}
	var b []byte
	switch v := v.(type) {
	case []byte:
		b = v
	case string:
		b = []byte(v)
	default:
		return bad()
	}
	if p, ok := any(&n.V).(*time.Time); ok { // SQLite stores times as text
		for _, layout := range []string{"2006-01-02 15:04:05.999999999-07:00", "2006-01-02 15:04:05.999999999Z07:00", time.RFC3339Nano, "2006-01-02 15:04:05.999999999", time.DateOnly} {
			if t, err := time.Parse(layout, string(b)); err == nil {
				*p = t
				return Seal(n.V).c, nil
			}
		}
		return bad()
	}
	if plain, err := decode[T](b); err == nil {
		return Seal(plain).c, nil
	}
	if err := json.Unmarshal(b, &n.V); err != nil {
		return bad()
	}
	return Seal(n.V).c, nil
}

// toColumn is what a column that holds a T in clear takes for an opened cell.
func (s *Sealed[T]) toColumn(opened []byte) (any, error) {
	f, err := s.open(opened)
	if err != nil {
		return nil, err
	}
	v := f.(func() T)()
	if _, err := driver.DefaultParameterConverter.ConvertValue(v); err == nil {
		return v, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, errors.New("storage: back out: a value has no form that a column in clear takes")
	}
	return string(b), nil
}

// openOld returns the value of an old column as open does that of a cell.
func openOld(s sealedField, v any) (any, error) {
	if err, ok := v.(error); ok { // it is not to be shown
		return nil, err
	}
	c, err := s.fromColumn(v)
	if err != nil {
		return nil, err
	}
	plain, err := s.plain(c)
	if err != nil {
		return nil, err
	}
	return s.open(frame(plain, 0))
}

// empty returns a Sealed of the field's type, to reach its T.
func (f *field) empty() sealedField {
	return reflect.New(f.sealedType()).Interface().(sealedField)
}
