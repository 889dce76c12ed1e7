// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// A Page says which part of a list [List] returns.
type Page struct {
	// Size is how many records a page has, at most 1,000. Zero means 50.
	Size int

	// After is what List returned beside the page before; empty is the first
	// page. It is opaque and holds nothing in clear: the place is sealed under
	// the key of the patient who stands there.
	After string
}

const (
	pageSize    = 50
	maxPageSize = 1000
)

// List returns a page of the records that q finds, sorted by sealed fields, and
// where the next page begins, empty after the last one. q is a database with
// conditions of Where, Match and Scopes; the records come back sealed, for
// Reveal.
//
//	patients, next, err := storage.List[Patient](ctx, db.Where("active"), "Name, BirthDate desc", storage.Page{})
//
// order names the fields to sort by, the first one first, each with desc behind
// it for the other direction. Strings sort as in a telephone book, whatever
// their case and accents, with numbers in them by value; dates and times by the
// calendar. What is NULL, or does not open, comes last in both directions.
//
// A database cannot sort what is sealed. List opens the fields to sort by of
// every record in scope, at most 10,000 (else it is refused: narrow q), and
// shows nobody what it opened. The caller must see those fields in full, else
// the answer is [ErrFilterOnHidden]. It counts as one search against
// Config.SearchLimits, and makes one event that names the patients of the page
// and counts the records that were sorted.
//
// Each page sorts anew: a record that changed its place meanwhile may be missed
// or come twice, as with any paging by keys.
func List[T any](ctx context.Context, q *gorm.DB, order string, page Page) (rows []T, next string, err error) {
	p, err := pluginOf(q)
	if err != nil {
		return nil, "", err
	}
	var target T
	if t := reflect.TypeFor[T](); t.Kind() != reflect.Struct {
		return nil, "", &RefusedError{Op: "list", Why: "the rows are to be a " + t.String() + ", which is no struct", Mend: "name the model itself: storage.List[Patient]"}
	}
	stmt := &gorm.Statement{DB: q}
	if err := stmt.Parse(&target); err != nil {
		return nil, "", fmt.Errorf("storage: list: %w", err)
	}
	m, err := p.modelOf(&gorm.DB{Config: q.Config, Statement: stmt})
	if err != nil {
		return nil, "", err
	}
	if m == nil {
		return nil, "", &RefusedError{Op: "list", Table: stmt.Table, Why: "the model has no phi tags", Mend: "sort with GORM's Order"}
	}
	l := &listing{p: p, m: m, order: order, size: page.Size, search: &search{}}
	if err := l.prepare(ctx, q); err != nil {
		return nil, "", err
	}
	var candidates []T
	err = q.Session(&gorm.Session{Context: ctx, SkipHooks: true}).Set(listSetting, l).Model(&target).Select(l.columns()).Limit(maxRows + 1).Find(&candidates).Error
	if err != nil {
		return nil, "", err
	}
	entries, err := l.sorted(ctx, q, reflect.ValueOf(candidates))
	if err != nil {
		return nil, "", err
	}
	from := 0
	if page.After != "" {
		if from, err = l.after(ctx, q, page.After, entries); err != nil {
			return nil, "", err
		}
	}
	end := min(from+l.size, len(entries))
	shown := entries[from:end]
	if end < len(entries) {
		if next, err = l.cursor(shown[len(shown)-1]); err != nil {
			return nil, "", err
		}
	}
	if len(shown) == 0 {
		return nil, "", l.record(ctx)
	}
	l.page = true
	ids := make([]string, len(shown))
	for i, e := range shown {
		ids[i] = e.row.record
	}
	db := q.Session(&gorm.Session{NewDB: true, Context: ctx}).Set(listSetting, l)
	if q.Statement.Unscoped {
		db = db.Unscoped()
	}
	id := clause.Column{Table: clause.CurrentTable, Name: m.column("ID")}
	if err := db.Where(clause.IN{Column: id, Values: anys(ids)}).Find(&rows).Error; err != nil {
		return nil, "", err
	}
	place := make(map[string]int, len(ids))
	for i, id := range ids {
		place[id] = i
	}
	slices.SortFunc(rows, func(a, b T) int {
		return place[m.recordOf(reflect.ValueOf(&a).Elem()).ID] - place[m.recordOf(reflect.ValueOf(&b).Elem()).ID]
	})
	return rows, next, nil
}

// listSetting is where GORM's statements carry the List that they are part of.
// (Their context would carry it into the app's hooks.)
const listSetting = "part164:list"

// listingOf returns the List that a statement is a part of, nil for others.
func listingOf(db *gorm.DB) *listing {
	v, _ := db.Get(listSetting)
	l, _ := v.(*listing)
	return l
}

// A listing is one call of List. It runs two statements, of the candidates and
// of the page, which are counted and recorded as one search.
type listing struct {
	p      *plugin
	m      *model
	order  string
	size   int
	by     []sortBy
	search *search // of the statement that read the candidates
	page   bool    // the second statement
	count  int     // candidates
}

// A sortBy is one field to sort by.
type sortBy struct {
	*schema.Field
	phi  *field // nil: no PHI
	desc bool
}

// newSearch returns what a statement begins its search with.
func newSearch(db *gorm.DB) *search {
	switch l := listingOf(db); {
	case l == nil:
		return &search{}
	case l.page:
		return &search{fields: l.search.fields, warn: l.search.warn}
	default:
		return l.search
	}
}

// prepare reads the order, and refuses what List cannot do.
func (l *listing) prepare(ctx context.Context, q *gorm.DB) error {
	m, stmt := l.m, q.Statement
	switch {
	case l.size == 0:
		l.size = pageSize
	case l.size < 0 || l.size > maxPageSize:
		return fmt.Errorf("storage: list: Page.Size is %d: give 1 to %d, or 0 for %d", l.size, maxPageSize, pageSize)
	}
	if q.Error != nil {
		return q.Error
	}
	if len(stmt.Joins) > 0 || len(stmt.Preloads) > 0 || len(stmt.Selects) > 0 || len(stmt.Omits) > 0 || stmt.Distinct || stmt.SQL.Len() > 0 || stmt.TableExpr != nil {
		return m.refuse("list", "joins, preloads, selected columns or raw SQL", "give conditions only, and read associations of the page afterwards")
	}
	for name := range stmt.Clauses {
		if name != "WHERE" {
			return m.refuse("list", "the clause "+name, "give conditions only: the order and the page are List's own")
		}
	}
	for part := range strings.SplitSeq(l.order, ",") {
		name, direction, _ := strings.Cut(strings.TrimSpace(part), " ")
		f := m.schema.LookUpField(name)
		direction = strings.ToLower(strings.TrimSpace(direction))
		if f == nil || f.DBName == "" || direction != "" && direction != "asc" && direction != "desc" {
			return m.refuse("list", "an order by something that is no field of the model", "name its fields, with commas between them and desc behind those that go down")
		}
		by := sortBy{Field: f, phi: m.phi(f), desc: direction == "desc"}
		if by.phi != nil {
			if l.p.view(ctx, by.phi) != minimize.Reveal {
				return m.filterOnHidden(ctx, by.phi)
			}
			l.search.fields = append(l.search.fields, f.Name)
		}
		t := f.FieldType
		if by.phi != nil && by.phi.sealed {
			t = by.phi.valueType()
		}
		if _, ok := newSorter().key("", reflect.Zero(t)); !ok {
			return m.refuse("list", "an order by "+f.Name+", a "+t.String()+", which has none", "sort by a text, number, date, time or yes and no")
		}
		l.by = append(l.by, by)
	}
	if len(l.search.fields) == 0 {
		return m.refuse("list", "an order by columns that are stored in clear", "sort with GORM's Order")
	}
	return l.p.limit(ctx, m, l.search)
}

// columns are what the candidates are read with.
func (l *listing) columns() []string {
	columns := []string{l.m.column("ID"), l.m.column("TenantID"), l.m.column("Version")}
	if l.m.subject != nil {
		columns = append(columns, l.m.subject.DBName)
	}
	for _, by := range l.by {
		if !slices.Contains(columns, by.DBName) {
			columns = append(columns, by.DBName)
		}
	}
	return columns
}

// An entry is one candidate with what it is sorted by.
type entry struct {
	row  *row
	keys [][]byte    // one a sortBy; nil is NULL, or did not open
	key  *crypto.Key // of its patient; nil where nothing was opened
}

// sorted opens the fields to sort by, of the candidates that the caller may
// read, and sorts them.
func (l *listing) sorted(ctx context.Context, q *gorm.DB, candidates reflect.Value) ([]*entry, error) {
	n := candidates.Len()
	if n > maxRows {
		return nil, l.m.refuse("list", fmt.Sprintf("more than %d records are in scope", maxRows), "narrow the conditions, or search with storage.Match")
	}
	if n == 0 {
		return nil, nil
	}
	resources := make([]access.Resource, n)
	rows := make([]*row, n)
	for i := range n {
		r := l.m.rowOf(ctx, candidates.Index(i))
		rows[i] = r
		resources[i] = access.Resource{Type: l.m.name, ID: r.record, Patient: r.subject, Tenant: r.tenant}
	}
	d, err := l.p.cfg.Access.Check(l.p.asking(ctx, q.Statement.ConnPool), access.Request{Action: access.Read, Resources: resources})
	if err != nil {
		return nil, fmt.Errorf("storage: list %s: %w", l.m.table, err)
	}
	var entries []*entry
	var values []reflect.Value
	for i, r := range rows {
		if d.Allow(i) {
			entries = append(entries, &entry{row: r, keys: make([][]byte, len(l.by))})
			values = append(values, candidates.Index(i))
		}
	}
	l.count = len(entries)
	found, err := l.subjectKeys(ctx, q, entries, values)
	if err != nil {
		return nil, fmt.Errorf("storage: list %s: %w", l.m.table, err)
	}
	var failed []audit.Object
	var opened []byte
	keys := newSorter()
	for i, e := range entries {
		var bad []string
		for k, by := range l.by {
			value := by.ReflectValueOf(ctx, values[i])
			class := minimize.Class("")
			if by.phi != nil {
				class = by.phi.tag.Class
			}
			if by.phi != nil && by.phi.sealed {
				raw := by.phi.ref(ctx, values[i]).cell()
				if raw == nil || raw.raw == nil {
					continue
				}
				var ok bool
				if value, opened, ok = l.open(by, e, raw.raw, found, opened); !ok {
					bad = append(bad, by.Name)
					continue
				}
			}
			e.keys[k], _ = keys.key(class, value)
		}
		if len(bad) > 0 {
			failed = append(failed, audit.Object{Type: l.m.name, Tenant: e.row.tenant, Record: e.row.record, Patient: e.row.subject, Version: e.row.version, Fields: bad})
		}
	}
	clear(opened[:cap(opened)])
	if len(failed) > 0 {
		ev := audit.Event{Type: audit.RevealFailed, Outcome: audit.Failure, Reason: audit.ReasonCell, Action: access.Search, Objects: failed}
		if _, err := l.p.cfg.Audit.Record(ctx, ev); err != nil {
			return nil, fmt.Errorf("storage: list %s: %w", l.m.table, err)
		}
	}
	slices.SortFunc(entries, l.compare)
	return entries, nil
}

// subjectKeys looks up the keys of all cells at once.
func (l *listing) subjectKeys(ctx context.Context, q *gorm.DB, entries []*entry, values []reflect.Value) (map[crypto.KeyRef]crypto.Found, error) {
	found := map[crypto.KeyRef]crypto.Found{}
	var refs []crypto.KeyRef
	for i, e := range entries {
		for _, by := range l.by {
			if by.phi == nil || !by.phi.sealed {
				continue
			}
			c := by.phi.ref(ctx, values[i]).cell()
			if c == nil {
				continue
			}
			h, err := crypto.ParseHeader(c.raw)
			if err != nil {
				continue
			}
			ref := crypto.KeyRef{Subject: e.row.subject, Version: h.KeyVersion}
			if _, ok := found[ref]; !ok {
				found[ref] = crypto.Found{}
				refs = append(refs, ref)
			}
		}
	}
	if len(refs) == 0 {
		return found, nil
	}
	keys, err := l.lookup(ctx, q, refs)
	if err != nil {
		return nil, err
	}
	for i, ref := range refs {
		found[ref] = keys[i]
	}
	return found, nil
}

func (l *listing) lookup(ctx context.Context, q *gorm.DB, refs []crypto.KeyRef) ([]crypto.Found, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	tenant := scope.Principal().Tenant
	if tx, ok := unwrap(q.Statement.ConnPool).(*txConn); ok {
		return tx.keys.Lookup(ctx, tenant, refs)
	}
	return l.p.keys.Lookup(ctx, &keyRows{plugin: l.p, conn: inner(l.p.pool)}, tenant, refs)
}

// open opens one cell to sort by.
func (l *listing) open(by sortBy, e *entry, raw []byte, found map[crypto.KeyRef]crypto.Found, buf []byte) (reflect.Value, []byte, bool) {
	h, err := crypto.ParseHeader(raw)
	if err != nil {
		return reflect.Value{}, buf, false
	}
	f := found[crypto.KeyRef{Subject: e.row.subject, Version: h.KeyVersion}]
	if f.Key == nil || f.Err != nil {
		return reflect.Value{}, buf, false
	}
	e.key = f.Key
	plain, err := e.row.openCell(buf[:0], f.Key, by.phi, raw)
	if err != nil {
		return reflect.Value{}, buf, false
	}
	value, err := reflect.New(by.phi.sealedType()).Interface().(sealedField).open(plain)
	if err != nil {
		return reflect.Value{}, plain, false
	}
	return reflect.ValueOf(value).Call(nil)[0], plain, true
}

// compare compares two entries, and at last their IDs, so that the order is one.
func (l *listing) compare(a, b *entry) int {
	for i, by := range l.by {
		x, y := a.keys[i], b.keys[i]
		switch {
		case x == nil && y == nil:
			continue
		case x == nil:
			return 1
		case y == nil:
			return -1
		}
		if c := bytes.Compare(x, y); c != 0 {
			if by.desc {
				return -c
			}
			return c
		}
	}
	return strings.Compare(a.row.record, b.row.record)
}

// A sorter makes sort keys.
type sorter struct {
	collator *collate.Collator
	buf      collate.Buffer
}

func newSorter() *sorter { return &sorter{collator: collate.New(language.Und, collate.Numeric)} }

// key returns bytes that sort as the value does, nil for one that is absent,
// and whether its type has an order.
func (s *sorter) key(class minimize.Class, v reflect.Value) (key []byte, ok bool) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			_, ok = s.key(class, reflect.Zero(v.Type().Elem()))
			return nil, ok
		}
		v = v.Elem()
	}
	number := func(bits uint64) ([]byte, bool) { return binary.BigEndian.AppendUint64(nil, bits), true }
	switch x := v.Interface().(type) {
	case time.Time:
		key = binary.BigEndian.AppendUint64(nil, uint64(x.Unix())^1<<63)
		return binary.BigEndian.AppendUint32(key, uint32(x.Nanosecond())), true
	case Date:
		if x == (Date{}) {
			return nil, true
		}
		return []byte(x.String()), true
	}
	switch {
	case v.Kind() == reflect.String && (class == minimize.Date || class == minimize.DOB):
		return append([]byte{}, normalOf(class, v.String())...), true
	case v.Kind() == reflect.String:
		s.buf.Reset()
		return append([]byte{}, s.collator.KeyFromString(&s.buf, v.String())...), true
	case v.CanInt():
		return number(uint64(v.Int()) ^ 1<<63)
	case v.CanUint():
		return number(v.Uint())
	case v.CanFloat():
		bits := math.Float64bits(v.Float())
		if bits>>63 == 1 {
			return number(^bits)
		}
		return number(bits | 1<<63)
	case v.Kind() == reflect.Bool && v.Bool():
		return number(1)
	case v.Kind() == reflect.Bool:
		return number(0)
	}
	return nil, false
}

// A cursor is where a page ended. What its last record was sorted by is sealed
// under that patient's key: it is PHI, and dies with the patient's.
type cursor struct {
	Record  string `json:"r"`
	Subject string `json:"s"`
	Cell    []byte `json:"c"` // the keys of the record, sealed; empty for one that has none
}

// binding binds a cursor to the list that it is of. No field is called so.
func (l *listing) binding(r *row) crypto.Binding {
	return crypto.Binding{Tenant: r.tenant, Field: "part164/list:" + l.m.table + ":" + l.order, Record: r.record, Subject: r.subject}
}

func (l *listing) cursor(e *entry) (string, error) {
	c := cursor{Record: e.row.record, Subject: e.row.subject}
	keys, err := json.Marshal(e.keys)
	if err == nil && e.key != nil {
		c.Cell, err = e.key.Seal(nil, keys, l.binding(e.row))
	}
	if err != nil {
		return "", fmt.Errorf("storage: list %s: %w", l.m.table, err)
	}
	b, err := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(b), err
}

// after returns the index of the first entry behind a cursor.
func (l *listing) after(ctx context.Context, q *gorm.DB, text string, entries []*entry) (int, error) {
	lost := l.m.refuse("list", "Page.After is not of this list, or its record is gone", "begin with the first page")
	b, err := base64.RawURLEncoding.DecodeString(text)
	var c cursor
	if err != nil || json.Unmarshal(b, &c) != nil {
		return 0, lost
	}
	if len(c.Cell) == 0 {
		at := slices.IndexFunc(entries, func(e *entry) bool { return e.row.record == c.Record })
		if at < 0 {
			return 0, lost
		}
		return at + 1, nil
	}
	scope, err := access.From(ctx)
	if err != nil {
		return 0, err
	}
	h, err := crypto.ParseHeader(c.Cell)
	if err != nil {
		return 0, lost
	}
	found, err := l.lookup(ctx, q, []crypto.KeyRef{{Subject: c.Subject, Version: h.KeyVersion}})
	if err != nil {
		return 0, fmt.Errorf("storage: list %s: %w", l.m.table, err)
	}
	if found[0].Err != nil {
		return 0, lost
	}
	last := &entry{row: &row{tenant: scope.Principal().Tenant, record: c.Record, subject: c.Subject}}
	plain, err := found[0].Key.Open(nil, c.Cell, l.binding(last.row))
	if err != nil || json.Unmarshal(plain, &last.keys) != nil || len(last.keys) != len(l.by) {
		return 0, lost
	}
	at := slices.IndexFunc(entries, func(e *entry) bool { return l.compare(e, last) > 0 })
	if at < 0 {
		at = len(entries)
	}
	return at, nil
}

// record records a list without records.
func (l *listing) record(ctx context.Context) error {
	ev := audit.Event{Type: audit.Searched, Outcome: audit.Success, Reason: l.search.reason(), Action: access.Search, Count: l.count,
		Objects: []audit.Object{{Type: l.m.name, Fields: l.search.fields}}}
	if _, err := l.p.cfg.Audit.Record(ctx, ev); err != nil {
		return fmt.Errorf("storage: list %s: %w", l.m.table, err)
	}
	return nil
}
