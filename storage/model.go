// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/minimize"
)

// A model is what the plugin knows of a Go type with phi tags.
type model struct {
	plugin  func() *plugin // a function, which no dumper of a model's value follows to the keys
	typ     reflect.Type
	schema  *schema.Schema
	name    string // resource type for access and audit, such as "patient"
	table   string
	record  []int         // index path of the embedded Record
	subject *schema.Field // the patient's record ID; nil for a model about no patient
	own     bool          // embeds PatientRecord: its subject is its own ID

	sealed  []*field          // in the order of the schema
	clear   []*field          // PHI stored in clear
	columns map[string]*field // both, by lower-case column name
}

// A field is one PHI field of a model.
type field struct {
	*schema.Field
	tag     minimize.Tag
	logical string // table.column, or the tag's as=: what cells are bound to
	sealed  bool
	unique  bool          // in clear, and in a unique index of the table
	self    func() *field // what cells keep of it
	former  *field        // the same field under the logical name of was=; nil: none
}

// sealedType is the field's Sealed type, of a pointer the one that it points to.
func (f *field) sealedType() reflect.Type {
	if f.FieldType.Kind() == reflect.Pointer {
		return f.FieldType.Elem()
	}
	return f.FieldType
}

func (f *field) indexed() bool { return len(f.tag.Search) > 0 }

// named reports whether the field has a name index, whose tokens are padded.
func (f *field) named() bool { return slices.Contains(f.tag.Search, minimize.SearchName) }

// ref reaches the Sealed of the field in a row.
func (f *field) ref(ctx context.Context, rv reflect.Value) sealedField {
	return refOf(f.ReflectValueOf(ctx, rv))
}

// refOf is a Sealed, or a pointer to one, as a sealedField.
func refOf(v reflect.Value) sealedField {
	if v.Kind() == reflect.Pointer {
		return pointerField{reflect.New(v.Type().Elem()).Interface().(sealedField), v}
	}
	return v.Addr().Interface().(sealedField)
}

// A pointerField is a *Sealed of a struct: nil is NULL. It puts a new Sealed in
// place of the old one, which copies of the struct may share.
type pointerField struct {
	sealedField // an empty one of the type
	at          reflect.Value
}

func (p pointerField) cell() *cell {
	if p.at.IsNil() {
		return nil
	}
	return p.at.Interface().(sealedField).cell()
}

func (p pointerField) setCell(c *cell) {
	if c == nil {
		p.at.SetZero()
		return
	}
	v := reflect.New(p.at.Type().Elem())
	v.Interface().(sealedField).setCell(c)
	p.at.Set(v)
}

// recordOf returns the row's embedded Record.
func (m *model) recordOf(rv reflect.Value) *Record {
	return rv.FieldByIndex(m.record).Addr().Interface().(*Record)
}

// subjectOf returns the row's subject ID, "" where it has none.
func (m *model) subjectOf(ctx context.Context, rv reflect.Value) string {
	switch {
	case m.own:
		return m.recordOf(rv).ID
	case m.subject != nil:
		id, _ := m.subject.ReflectValueOf(ctx, rv).Interface().(string)
		return id
	}
	return ""
}

func (m *model) rowOf(ctx context.Context, rv reflect.Value) *row {
	r := m.recordOf(rv)
	return &row{model: m, tenant: r.TenantID, record: r.ID, subject: m.subjectOf(ctx, rv), version: r.Version}
}

var (
	recordType        = reflect.TypeFor[Record]()
	patientRecordType = reflect.TypeFor[PatientRecord]()
	sealedFieldType   = reflect.TypeFor[sealedField]()
)

// models caches what is known of each Go type; nil for types without phi tags.
type models struct {
	byType sync.Map // reflect.Type -> *model

	mu     sync.RWMutex
	tables map[string]*model // by bare name; nil where only phi_tables tells of it
	links  map[string]*link  // join tables, by name in lower case
}

func newModels() models {
	return models{tables: make(map[string]*model), links: make(map[string]*link)}
}

// of returns the model of a statement, or nil where its type has no phi tags.
func (p *plugin) modelOf(db *gorm.DB) (*model, error) { return p.modelFor(db.Statement.Schema) }

func (p *plugin) modelFor(s *schema.Schema) (*model, error) {
	if s == nil {
		return nil, nil
	}
	if m, ok := p.models.byType.Load(s.ModelType); ok {
		return m.(*model), nil
	}
	m, err := p.parse(s)
	if err != nil {
		return nil, err
	}
	if err := p.learn(m); err != nil {
		return nil, err
	}
	p.models.byType.Store(s.ModelType, m)
	return m, p.learnLinks(s)
}

func (p *plugin) learn(m *model) error {
	if m == nil {
		return nil
	}
	p.models.mu.Lock()
	defer p.models.mu.Unlock()
	// A stub of a table would not know of its other columns with PHI.
	if old := p.models.tables[m.bare()]; old != nil && old.typ != m.typ {
		return fmt.Errorf("storage: model %s: the table %s has the model %s already: use that, with Select", m.schema.Name, m.table, old.schema.Name)
	}
	p.models.tables[m.bare()] = m
	return nil
}

// phi reports whether a word of a statement is the name of a table that only
// storage may name.
func (p *plugin) phi(word string) bool {
	p.models.mu.RLock()
	defer p.models.mu.RUnlock()
	_, ok := p.models.tables[word]
	return ok || ownTables[word] || p.models.links[word] != nil
}

// bare is the table's name in lower case, without its schema's.
func (m *model) bare() string {
	return strings.ToLower(m.table[strings.LastIndexByte(m.table, '.')+1:])
}

// named reports whether a statement is on the model's own table.
func (m *model) named(stmt *gorm.Statement) bool {
	if stmt.TableExpr == nil {
		return stmt.Table == m.table
	}
	return stmt.TableExpr.SQL == stmt.Quote(m.table) && len(stmt.TableExpr.Vars) == 0
}

// areModels refuses what GORM would panic at, or name the cause of badly.
func areModels(verb string, values ...any) error {
	for _, v := range values {
		t := reflect.TypeOf(v)
		for t != nil && t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t == nil || t.Kind() != reflect.Struct {
			return &RefusedError{Op: verb, Why: fmt.Sprintf("a %T is no model", v), Mend: "pass a pointer to each, such as &Patient{}"}
		}
	}
	return nil
}

// parse reads the tags of a type and says what is wrong with them.
func (p *plugin) parse(s *schema.Schema) (*model, error) {
	m := &model{plugin: func() *plugin { return p }, typ: s.ModelType, schema: s, table: s.Table, name: resourceName(s), columns: map[string]*field{}}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("storage: model %s: %s", s.Name, fmt.Sprintf(format, args...))
	}
	m.record, m.own = findRecord(s.ModelType)
	if m.record == nil && s.ModelType.Name() == "" && !slices.ContainsFunc(s.Fields, func(f *schema.Field) bool { return f.DBName != "" && !f.PrimaryKey }) {
		return nil, nil // a join table of GORM's making, whose fields have the tags of the keys that they hold
	}
	tagged, untagged := false, ""
	for _, f := range s.Fields {
		text, ok := f.Tag.Lookup("phi")
		isSealed := isSealedType(f.FieldType)
		if !ok {
			if isSealed {
				return nil, fail("field %s: Sealed without a phi tag: add one such as `phi:\"name\"`", f.Name)
			}
			if f.DBName != "" || f.EmbeddedSchema == nil {
				untagged = cmp.Or(untagged, f.Name)
			}
			continue
		}
		tag, err := minimize.ParseTag(text)
		if err != nil {
			return nil, fail("field %s: %v", f.Name, err)
		}
		inRecord := m.record != nil && len(f.StructField.Index) > 0 && (hasPrefix(f.StructField.Index, m.record) || m.isMergedInto(f))
		switch {
		case inRecord:
			continue
		case tag.None:
			tagged = true
			if isSealed {
				return nil, fail("field %s: Sealed with `phi:\"-\"`: give it a class", f.Name)
			}
			continue
		case tag.Subject:
			tagged = true
			if f.FieldType.Kind() != reflect.String {
				return nil, fail("field %s: `phi:\"subject\"` is for a string that holds the patient's record ID", f.Name)
			}
			if m.subject != nil || m.own {
				return nil, fail("field %s: a second subject", f.Name)
			}
			m.subject = f
			continue
		}
		tagged = true
		if f.Serializer != nil && isSealed {
			return nil, fail("field %s: a sealed column takes no gorm serializer: remove it", f.Name)
		}
		if !isSealed && f.DBName != "" && holdsSealed(f.FieldType, nil) {
			return nil, fail("field %s: it holds Sealed values, which would be stored as placeholders: give each a field of its own, or a Sealed of the whole", f.Name)
		}
		if isSealed {
			t := reflect.New((&field{Field: f}).sealedType()).Interface().(sealedField).valueType()
			if why := cannotSeal(t); why != "" {
				return nil, fail("field %s: a Sealed[%s] could not be read back: %s", f.Name, t, why)
			}
		}
		if tag.From != "" && !isSealed {
			return nil, fail("field %s: from= on what is no Sealed: make it a storage.Sealed", f.Name)
		}
		if f.DBName == "" {
			return nil, fail("field %s: has a phi class but no column", f.Name)
		}
		fd := &field{Field: f, tag: tag, sealed: isSealed, logical: cmp.Or(tag.As, s.Table+"."+f.DBName)}
		fd.self = func() *field { return fd }
		if tag.Was != "" {
			if tag.Was == fd.logical || !isSealed {
				return nil, fail("field %s: was=%s is the field's own name, or it is no Sealed: was= is the logical name that the sealed field had", f.Name, tag.Was)
			}
			former := *fd
			former.logical = tag.Was
			fd.former = &former
		}
		switch {
		case isSealed && tag.Clear:
			return nil, fail("field %s: Sealed and clear at once: drop one", f.Name)
		case isSealed:
			if f.PrimaryKey || f.TagSettings["INDEX"] != "" || f.TagSettings["UNIQUEINDEX"] != "" || f.TagSettings["UNIQUE"] != "" || f.TagSettings["CHECK"] != "" {
				return nil, fail("field %s: a sealed column cannot be a key, indexed, unique or checked by a gorm tag: use search=exact or unique in the phi tag", f.Name)
			}
			if why := fd.lintSearch(); why != "" {
				return nil, fail("field %s: %s", f.Name, why)
			}
			m.sealed = append(m.sealed, fd)
		case tag.Clear:
			if fd.indexed() {
				return nil, fail("field %s: search and unique are for sealed fields: index a clear column with a gorm tag", f.Name)
			}
			fd.unique = inUnique(f)
			m.clear = append(m.clear, fd)
		default:
			return nil, fail("field %s: PHI in clear: make it a storage.Sealed, or add the option clear and read what that means", f.Name)
		}
		m.columns[strings.ToLower(f.DBName)] = fd
	}
	if !tagged && (m.record == nil || untagged == "") {
		return nil, nil
	}
	if m.record == nil {
		return nil, fail("embed storage.Record, or storage.PatientRecord in the patient itself")
	}
	if untagged != "" {
		return nil, fail("field %s has no phi tag: give it a class, or `phi:\"-\"` if it is not about a person", untagged)
	}
	if pk := s.PrioritizedPrimaryField; len(s.PrimaryFields) != 1 || pk == nil || pk.Name != "ID" || !hasPrefix(pk.StructField.Index, m.record) {
		return nil, fail("the primary key is not Record.ID: cells are bound to an ID made before the insert, so auto-increment and composite keys do not do")
	}
	if err := m.addOlds(); err != nil {
		return nil, fail("%v", err)
	}
	for _, name := range append([]string{m.bare()}, slices.Collect(maps.Keys(m.columns))...) {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < 0x80 && !isWord(byte(r)) }) {
			return nil, fail("the name %q of a table or column: the guard over raw SQL looks for whole words: use letters, digits and _", name)
		}
	}
	return m, nil
}

// isSealedType reports whether a field's type is a Sealed or a pointer to one.
func isSealedType(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(sealedFieldType) || t.Kind() == reflect.Pointer && t.Implements(sealedFieldType)
}

// holdsSealed reports whether a Sealed is somewhere in values of the type.
func holdsSealed(t reflect.Type, above []reflect.Type) bool {
	if reflect.PointerTo(t).Implements(sealedFieldType) {
		return true
	}
	if slices.Contains(above, t) {
		return false
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsSealed(t.Elem(), above)
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsSealed(t.Field(i).Type, above) {
				return true
			}
		}
	}
	return false
}

// findRecord returns the index path of the embedded Record, and whether it
// stands in a PatientRecord.
func findRecord(t reflect.Type) (path []int, own bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous {
			continue
		}
		switch {
		case f.Type == recordType:
			return []int{i}, false
		case f.Type == patientRecordType:
			return []int{i, 0}, true
		case f.Type.Kind() == reflect.Struct:
			if sub, own := findRecord(f.Type); sub != nil {
				return append([]int{i}, sub...), own
			}
		}
	}
	return nil, false
}

// isMergedInto reports whether a field is PatientRecord.MergedInto.
func (m *model) isMergedInto(f *schema.Field) bool {
	above := m.record[:len(m.record)-1]
	return m.own && f.Name == "MergedInto" && len(f.StructField.Index) == len(m.record) && hasPrefix(f.StructField.Index, above)
}

func hasRecord(t reflect.Type) bool {
	path, _ := findRecord(t)
	return path != nil
}

func hasPrefix(path, prefix []int) bool {
	return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// resourceName is the snake-case name of the type, or what its ResourceType
// method says.
func resourceName(s *schema.Schema) string {
	if n, ok := reflect.New(s.ModelType).Interface().(interface{ ResourceType() string }); ok {
		return n.ResourceType()
	}
	var b strings.Builder
	for i, r := range s.Name {
		if unicode.IsUpper(r) && i > 0 && !strings.HasSuffix(b.String(), "_") {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
