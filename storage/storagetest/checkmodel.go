// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// CheckModel tests a model of yours: a pointer to it, such as &Patient{}. It
// fills the model with values that are told from all others, sends them
// through GORM by every way that could get around the seal, and looks for them
// in the database, in what the model prints, in the log, in errors and in the
// trail. The test fails with the name of each field and what to do about it.
//
// It fails too where the model is not sealed as it should be: no phi tags at
// all, a field that lost its tag, or a direct identifier in clear (what 45 CFR
// 164.514(e)(2) takes out of a limited data set, free text and psychotherapy
// notes).
//
// What the model holds already is kept: set there what your database insists
// on, such as a status of a fixed list. More models are migrated beside it:
// those that it refers to.
//
// The database is SQLite in a temporary folder; for another see
// [CheckModelOn].
func CheckModel(t testing.TB, model any, more ...any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check.db")
	c := newChecked(t, unsynced(path), model, more)
	c.files = []string{path, path + "-wal"}
	c.run()
}

// CheckModelOn is [CheckModel] on another database, such as a PostgreSQL that
// the test has started. It must be empty and the test's own.
func CheckModelOn(t testing.TB, d gorm.Dialector, model any, more ...any) {
	t.Helper()
	newChecked(t, d, model, more).run()
}

// A checked is a model under test.
type checked struct {
	testing.TB
	dialector gorm.Dialector
	model     any
	more      []any
	files     []string // that hold the database, where they can be read

	typ    reflect.Type
	path   string // what is being tried
	schema *schema.Schema
	sealed []*checkedField
	clear  []*checkedField
	fill   filler

	inHidden, inClear needleSearch

	db    *gorm.DB
	trail *audittest.Trail
	plain *sql.DB // past GORM and storage
	log   syncBuffer

	ctx    context.Context // sees and changes everything
	hidden context.Context // sees nothing, changes everything
	masked context.Context // sees masks where a class has one, changes everything
	other  context.Context // as ctx, of another tenant

	only   string         // the one path that the kit's own tests run,
	doctor func(*checked) // and what they break before
}

// A checkedField is one with PHI.
type checkedField struct {
	*schema.Field
	tag minimize.Tag
}

// A syncBuffer collects a log.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newChecked(t testing.TB, d gorm.Dialector, model any, more []any) *checked {
	t.Helper()
	return &checked{TB: t, dialector: d, model: model, more: more}
}

// fault fails the test: what was tried, on which field, what came of it, and
// what to do.
func (c *checked) fault(field, what, mend string) {
	c.Helper()
	name := c.typ.Name()
	if field != "" {
		name += "." + field
	}
	c.Errorf("CheckModel: %s: %s: %s\n\tmend: %s", c.path, name, what, mend)
}

const report = "if the model's own methods and hooks are not the cause, this is a defect of part164: please report it"

func (c *checked) run() {
	c.Helper()
	c.typ = reflect.TypeOf(c.model)
	if c.typ == nil || c.typ.Kind() != reflect.Pointer || c.typ.Elem().Kind() != reflect.Struct {
		c.Fatalf("CheckModel: want a pointer to a model, such as &Patient{}; got %T", c.model)
	}
	c.typ = c.typ.Elem()
	c.path = "tags"
	if !c.tags() || !c.open() {
		return
	}
	if c.doctor != nil {
		c.doctor(c)
	}
	paths := checkPaths()
	for _, p := range paths {
		if c.path = p.name; c.only == "" || c.only == p.name {
			p.run(c)
		}
	}
	c.Logf("CheckModel %s on %s: %d paths, %d sealed fields, %d in clear", c.typ.Name(), c.db.Name(), len(paths), len(c.sealed), len(c.clear))
}

// directIdentifiers are what 45 CFR 164.514(e)(2) takes out of a limited data
// set, and the two classes of text that may hold any of them.
func directIdentifiers() []minimize.Class {
	return []minimize.Class{
		minimize.Name, minimize.Street, minimize.Phone, minimize.Fax, minimize.Email, minimize.SSN, minimize.MRN, minimize.Plan, minimize.Account,
		minimize.License, minimize.Vehicle, minimize.Device, minimize.URL, minimize.IP, minimize.Biometric, minimize.Photo,
		minimize.Text, minimize.Psychotherapy,
	}
}

// tags looks at what Migrate cannot know to be wrong: a model without any tag
// is to it a model without PHI, and clear is a choice.
func (c *checked) tags() bool {
	c.Helper()
	s, err := schema.Parse(c.model, &sync.Map{}, schema.NamingStrategy{})
	if err != nil {
		c.Errorf("CheckModel: %s: gorm does not take it as a model: %v", c.typ.Name(), err)
		return false
	}
	tagged, ok := false, true
	for _, f := range s.Fields {
		tag, has, err := minimize.FieldTag(f.StructField)
		if !has || c.fromRecord(f) {
			continue
		}
		tagged = true
		if err == nil && tag.Clear && slices.Contains(directIdentifiers(), tag.Class) {
			c.fault(f.Name, fmt.Sprintf("%s is stored in clear, where everybody with a copy of the database reads it", tag.Class),
				"make it a storage.Sealed and drop clear; search it with search=exact or search=name")
			ok = false
		}
	}
	if !tagged {
		c.fault("", "it has no phi tags, so that every field is stored in clear, for everybody, and nothing of it is recorded",
			"embed storage.PatientRecord or storage.Record, and give each field a phi tag; a model that holds nothing about a person needs no CheckModel")
		return false
	}
	return ok
}

// fromRecord reports whether a field is one of storage.Record.
func (c *checked) fromRecord(f *schema.Field) bool {
	t := c.typ
	for _, i := range f.StructField.Index {
		if t.Kind() != reflect.Struct || i < 0 || i >= t.NumField() {
			return false
		}
		if t = t.Field(i).Type; t == reflect.TypeFor[storage.Record]() || t == reflect.TypeFor[storage.PatientRecord]() {
			return true
		}
	}
	return false
}

// open migrates the model on a database that logs what it runs.
func (c *checked) open() bool {
	c.Helper()
	c.trail = audittest.New(c)
	plugin, err := storage.New(storage.Config{
		KEK: cryptotest.NewKEK(), Audit: c.trail, Access: accesstest.Allow(), Minimize: checkPolicy(c), NewID: SeededIDs(1640),
	})
	if err != nil {
		c.Fatalf("CheckModel: %v", err)
	}
	c.db, err = gorm.Open(c.dialector, &gorm.Config{Logger: logger.New(log.New(&c.log, "", 0), logger.Config{LogLevel: logger.Info, ParameterizedQueries: true, SlowThreshold: time.Hour})})
	if err == nil {
		err = c.db.Use(plugin)
	}
	if err != nil {
		c.Fatalf("CheckModel: %v", err)
	}
	c.Cleanup(func() { _ = storage.Close(c.db) })
	if err := storage.Migrate(c.Context(), c.db, append(slices.Clone(c.more), c.model)...); err != nil {
		c.fault("", fmt.Sprintf("Migrate refuses it: %v", err), "what the error says")
		return false
	}
	second, err := gorm.Open(c.dialector, &gorm.Config{Logger: logger.Discard})
	if err == nil {
		c.plain, err = second.DB()
	}
	if err != nil {
		c.Fatalf("CheckModel: second connection: %v", err)
	}
	c.Cleanup(func() { _ = c.plain.Close() })

	stmt := &gorm.Statement{DB: c.db}
	if err := stmt.Parse(c.model); err != nil {
		c.Fatalf("CheckModel: %v", err)
	}
	c.schema = stmt.Schema
	for _, f := range c.schema.Fields {
		tag, has, err := minimize.FieldTag(f.StructField)
		if !has || err != nil || tag.None || tag.Subject || f.DBName == "" {
			continue
		}
		if tag.Clear {
			c.clear = append(c.clear, &checkedField{f, tag})
		} else {
			c.sealed = append(c.sealed, &checkedField{f, tag})
		}
	}
	c.ctx = accesstest.As(c, c.Context(), "all", access.Treatment)
	c.hidden = accesstest.As(c, c.Context(), "blind", access.Treatment)
	c.masked = accesstest.As(c, c.Context(), "dim", access.Treatment)
	c.other = accesstest.AsIn(c, c.Context(), "t-other", "all", access.Treatment)
	return true
}

func checkPolicy(t testing.TB) *minimize.Policy {
	t.Helper()
	treat := []access.Purpose{access.Treatment}
	rules := []minimize.Rule{
		{Role: "all", Purposes: treat, View: minimize.Reveal, Right: minimize.Change, Classes: minimize.Classes()},
		{Role: "blind", Purposes: treat, View: minimize.Withhold, Right: minimize.Change, Classes: minimize.Classes()},
	}
	for _, class := range minimize.Classes() {
		dim := minimize.Rule{Role: "dim", Purposes: treat, View: minimize.Mask, Right: minimize.Change, Classes: []minimize.Class{class}}
		if _, err := minimize.New([]minimize.Rule{dim}); err != nil {
			dim.View = minimize.Withhold // the class has no mask
		}
		rules = append(rules, dim)
	}
	p, err := minimize.New(rules)
	if err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	return p
}

func (c *checked) as(ctx context.Context) *gorm.DB { return c.db.WithContext(ctx) }

// A made is a record of the model and what went into it.
type made struct {
	v    reflect.Value  // a pointer to the model
	want map[string]any // by field name: sealed and clear PHI
}

func (m *made) record() any { return m.v.Interface() }

// id is the record's ID.
func (c *checked) id(v reflect.Value) string {
	id, _ := c.schema.PrioritizedPrimaryField.ValueOf(c.ctx, v.Elem())
	return fmt.Sprint(id)
}

// newRecord fills a record; nothing is written yet.
func (c *checked) newRecord() *made {
	c.Helper()
	m := &made{reflect.New(c.typ), map[string]any{}}
	m.v.Elem().Set(reflect.ValueOf(c.model).Elem())
	for _, f := range c.sealed {
		if !f.Creatable || !f.Readable {
			continue
		}
		value, err := c.fillSealed(f.ReflectValueOf(c.ctx, m.v.Elem()), f)
		if err != nil {
			c.fault(f.Name, err.Error(), "set a value in the model given to CheckModel")
			continue
		}
		m.want[f.Name] = value
	}
	for _, f := range c.clear {
		v := f.ReflectValueOf(c.ctx, m.v.Elem())
		if !f.Creatable || !f.Readable {
			continue
		}
		c.fillClear(v, f)
		m.want[f.Name] = v.Interface()
	}
	c.refer(m.v, 0)
	return m
}

// given is the field as the model given to CheckModel has it.
func (c *checked) given(f *checkedField) reflect.Value {
	return f.ReflectValueOf(c.ctx, reflect.ValueOf(c.model).Elem())
}

// fillSealed puts a new value into a sealed field and returns it; where the
// model given has one, that: only its type can make another.
func (c *checked) fillSealed(v reflect.Value, f *checkedField) (any, error) {
	if g := c.given(f); !g.Addr().MethodByName("IsNull").Call(nil)[0].Bool() {
		v.Set(g)
		return unknown{}, nil
	}
	return c.fill.seal(v, f.tag.Class)
}

// unknown is a value that CheckModel did not make.
type unknown struct{}

// fillClear fills a field in clear within its size.
func (c *checked) fillClear(v reflect.Value, f *checkedField) {
	if g := c.given(f); !g.IsZero() {
		v.Set(g)
		return
	}
	c.fill.fill(v, f.tag.Class, false)
	if v.Kind() == reflect.String && f.Size > 0 && v.Len() > f.Size {
		v.SetString(v.String()[v.Len()-f.Size:])
	}
}

// refer gives a record its subject and the records that it belongs to.
func (c *checked) refer(v reflect.Value, depth int) {
	c.Helper()
	stmt := &gorm.Statement{DB: c.db}
	if err := stmt.Parse(v.Interface()); err != nil {
		c.Fatalf("CheckModel: %v", err)
	}
	set := map[string]bool{}
	for _, rel := range stmt.Schema.Relationships.BelongsTo {
		if depth > 3 || len(rel.References) != 1 || !slices.ContainsFunc(c.more, func(m any) bool { return reflect.TypeOf(m).Elem() == rel.FieldSchema.ModelType }) {
			continue
		}
		ref := rel.References[0]
		parent := reflect.New(rel.FieldSchema.ModelType)
		c.refer(parent, depth+1)
		if err := c.as(c.ctx).Create(parent.Interface()).Error; err != nil {
			c.Errorf("CheckModel: create the %s that a %s belongs to: %v\n\tmend: give CheckModel a model that refers to one which exists", rel.FieldSchema.Name, stmt.Schema.Name, err)
			continue
		}
		key, _ := ref.PrimaryKey.ValueOf(c.ctx, parent.Elem())
		_ = ref.ForeignKey.Set(c.ctx, v.Elem(), key)
		set[ref.ForeignKey.Name] = true
	}
	ids := SeededIDs(uint64(c.fill.n + 7))
	for _, f := range stmt.Schema.Fields {
		if tag, _, err := minimize.FieldTag(f.StructField); err == nil && tag.Subject && !set[f.Name] {
			if _, zero := f.ValueOf(c.ctx, v.Elem()); zero {
				_ = f.Set(c.ctx, v.Elem(), ids())
			}
		}
	}
}

// create writes a filled record.
func (c *checked) create() *made {
	c.Helper()
	m := c.newRecord()
	if err := c.as(c.ctx).Create(m.record()).Error; err != nil {
		c.Fatalf("CheckModel: %s: create a %s: %v\n\tmend: set in the model given to CheckModel what the database insists on", c.path, c.typ.Name(), err)
	}
	return m
}

// read reads a record anew.
func (c *checked) read(ctx context.Context, id string) (reflect.Value, error) {
	v := reflect.New(c.typ)
	return v, c.as(ctx).Take(v.Interface(), c.column(c.schema.PrioritizedPrimaryField)+" = ?", id).Error
}

func (c *checked) column(f *schema.Field) string { return quote(c.db, f.DBName) }

// holds reads a record, reveals it, and compares it with what went in.
func (c *checked) holds(id string, want map[string]any) {
	c.Helper()
	v, err := c.read(c.ctx, id)
	if err != nil {
		c.fault("", fmt.Sprintf("the record cannot be read: %v", err), report)
		return
	}
	if err := storage.Reveal(c.ctx, v.Interface()); err != nil {
		c.fault("", fmt.Sprintf("Reveal: %v", err), report)
	}
	for _, f := range c.sealed {
		w, ok := want[f.Name]
		if !ok {
			continue
		}
		switch got, err := get(c.ctx, f.ReflectValueOf(c.ctx, v.Elem())); {
		case err != nil:
			c.fault(f.Name, fmt.Sprintf("revealed, Get fails: %v", err), report)
		case w != any(unknown{}) && !same(w, got):
			c.fault(f.Name, "what is revealed is not what was sealed", "the type loses something in its JSON: unexported or `json:\"-\"` fields, or a MarshalJSON that UnmarshalJSON does not undo")
		}
	}
	for _, f := range c.clear {
		w, ok := want[f.Name]
		if got := f.ReflectValueOf(c.ctx, v.Elem()).Interface(); ok && !sameClear(w, got) {
			c.fault(f.Name, "what is read is not what was written", report)
		}
	}
}

// sameClear compares what was written to a plain column with what it gives
// back: databases round times.
func sameClear(a, b any) bool {
	x, y := reflect.Indirect(reflect.ValueOf(a)), reflect.Indirect(reflect.ValueOf(b))
	if !x.IsValid() || !y.IsValid() {
		return x.IsValid() == y.IsValid()
	}
	at, okA := x.Interface().(time.Time)
	bt, okB := y.Interface().(time.Time)
	if okA && okB {
		return at.Sub(bt).Abs() < time.Second
	}
	return same(x.Interface(), y.Interface())
}

// raw reads a row past GORM and storage: bytes by column, nil for NULL.
func (c *checked) raw(id string) map[string][]byte {
	c.Helper()
	mark := "?"
	if c.db.Name() == "postgres" {
		mark = "$1"
	}
	rows, err := c.plain.QueryContext(c.Context(), fmt.Sprintf("SELECT * FROM %s WHERE %s = %s", quote(c.db, c.schema.Table), c.column(c.schema.PrioritizedPrimaryField), mark), id)
	if err != nil {
		c.Fatalf("CheckModel: second connection: %v", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil
	}
	values, dest := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	if err := rows.Scan(dest...); err != nil {
		c.Fatalf("CheckModel: second connection: %v", err)
	}
	out := map[string][]byte{}
	for i, name := range columns {
		switch v := values[i].(type) {
		case nil:
		case []byte:
			out[name] = append([]byte{}, v...)
		default:
			out[name] = fmt.Append(nil, v)
		}
	}
	return out
}

// stored is all that the database holds, as far as it can be read.
func (c *checked) stored() []byte {
	c.Helper()
	var out []byte
	for _, f := range c.files {
		b, err := os.ReadFile(f)
		if err != nil && !os.IsNotExist(err) {
			c.Fatalf("CheckModel: %v", err)
		}
		out = append(out, b...)
	}
	for _, table := range []string{c.schema.Table, "phi_index", "phi_outbox", "phi_subject_keys"} {
		rows, err := c.plain.QueryContext(c.Context(), "SELECT * FROM "+quote(c.db, table))
		if err != nil {
			c.Fatalf("CheckModel: second connection: %v", err)
		}
		columns, _ := rows.Columns()
		for rows.Next() {
			values, dest := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
			for i := range values {
				dest[i] = &values[i]
			}
			if err := rows.Scan(dest...); err != nil {
				c.Fatalf("CheckModel: second connection: %v", err)
			}
			for _, v := range values {
				out = append(append(out, v...), 0)
			}
		}
		_ = rows.Close()
	}
	return out
}

// leaks says what of a sealed field is in a text.
func (c *checked) leaks(data []byte) string { return c.find(&c.inHidden, c.fill.hidden, data) }

// clearLeak says what of a field in clear is in a text.
func (c *checked) clearLeak(data []byte) string { return c.find(&c.inClear, c.fill.clear, data) }

// A needleSearch is a searcher for the first n of a list that grows.
type needleSearch struct {
	n int
	*audittest.Searcher
}

func (c *checked) find(s *needleSearch, needles []string, data []byte) string {
	if s.Searcher == nil || s.n != len(needles) {
		s.n, s.Searcher = len(needles), audittest.NewSearcher(needles...)
	}
	for _, l := range s.Search(data) {
		if l.Encoding != "utf-8" || alone(data, l.Needle, l.Offset) {
			return l.String()
		}
	}
	return ""
}

// alone reports whether needle stands in data, from an offset on, as told from
// all others: a short number among other digits is there by chance. Of the days
// of a few records one is in some hundred databases, in their UUIDs.
func alone(data []byte, needle string, from int) bool {
	if len(needle) > 8 || strings.Trim(needle, "0123456789") != "" {
		return true
	}
	const digits = "0123456789"
	notHex := func(r rune) bool { return !strings.ContainsRune(digits+"abcdefABCDEF", r) }
	for {
		before, after := data[:from], data[from+len(needle):]
		before = before[bytes.LastIndexFunc(before, notHex)+1:]
		if end := bytes.IndexFunc(after, notHex); end >= 0 {
			after = after[:end]
		}
		if !bytes.ContainsAny(before, digits) && !bytes.ContainsAny(after, digits) {
			return true
		}
		next := bytes.Index(data[from+1:], []byte(needle))
		if next < 0 {
			return false
		}
		from += 1 + next
	}
}
