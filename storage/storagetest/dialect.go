// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// The models of the suite: a patient, something about a patient, and something
// that is about nobody.
type (
	person struct {
		storage.PatientRecord
		MRN     storage.Sealed[string]  `phi:"mrn,search=exact,unique"`
		Name    storage.Sealed[string]  `phi:"name,search=name"`
		SSN     storage.Sealed[string]  `phi:"ssn"`
		Notes   storage.Sealed[string]  `phi:"psychotherapy"`
		Nick    *storage.Sealed[string] `phi:"name"`
		Home    place                   `gorm:"embedded;embeddedPrefix:home_"`
		Work    *place                  `gorm:"embedded;embeddedPrefix:work_"`
		Seen    time.Time               `phi:"date,clear"`
		Status  string                  `phi:"operational,clear" gorm:"size:40"`
		Active  bool                    `phi:"-"`
		Visits  []visit                 `phi:"-" gorm:"foreignKey:PersonID;constraint:-"`
		Contact *contact                `phi:"-" gorm:"foreignKey:PersonID;constraint:-"`
		Files   []attachment            `phi:"-" gorm:"polymorphic:Owner"`
		Labels  []label                 `phi:"-" gorm:"many2many:dialect_person_labels;constraint:-"`
		Team    []carer                 `phi:"-" gorm:"many2many:dialect_person_carers;constraint:-"`
	}
	place struct {
		Street storage.Sealed[string] `phi:"street"`
		Rooms  storage.Sealed[int]    `phi:"operational"`
		Geo    point                  `gorm:"embedded;embeddedPrefix:geo_"`
	}
	point struct {
		Lat storage.Sealed[float64] `phi:"geo"`
	}
	visit struct {
		storage.Record
		PersonID  string                 `phi:"subject" gorm:"size:36;index"`
		Person    *person                `phi:"-" gorm:"foreignKey:PersonID;constraint:-"`
		Reason    storage.Sealed[string] `phi:"clinical"`
		Ward      string                 `phi:"operational,clear" gorm:"size:40"`
		Remarks   []remark               `phi:"-" gorm:"foreignKey:VisitID;constraint:-"`
		DeletedAt gorm.DeletedAt         `phi:"-" gorm:"index"`
	}
	remark struct { // of a visit: its patient is not in its foreign key
		storage.Record
		PersonID string                 `phi:"subject" gorm:"size:36;index"`
		VisitID  string                 `phi:"-" gorm:"size:36;index"`
		Visit    *visit                 `phi:"-" gorm:"foreignKey:VisitID;constraint:-"`
		Text     storage.Sealed[string] `phi:"text"`
	}
	contact struct {
		storage.Record
		PersonID string                 `phi:"subject" gorm:"size:36;index"`
		Phone    storage.Sealed[string] `phi:"phone"`
	}
	attachment struct {
		storage.Record
		PersonID  string                 `phi:"subject" gorm:"size:36;index"`
		OwnerID   string                 `phi:"-" gorm:"size:36"`
		OwnerType string                 `phi:"-" gorm:"size:40"`
		Title     storage.Sealed[string] `phi:"text"`
	}
	carer struct { // about no patient
		storage.Record
		Name storage.Sealed[string] `phi:"name"`
	}
	label struct {
		ID   uint
		Text string `gorm:"size:80;uniqueIndex"`
	}
	gadget struct { // without PHI, of a person
		ID       uint
		PersonID string  `gorm:"size:36"`
		Person   *person `gorm:"foreignKey:PersonID;constraint:-"`
		Label    string
	}
	widget struct {
		ID    uint
		Label string `gorm:"size:40;uniqueIndex"`
		Count int
		Parts []part `gorm:"foreignKey:WidgetID"`
	}
	part struct {
		ID       uint
		WidgetID uint
		Label    string
	}
)

func (person) TableName() string     { return "dialect_people" }
func (visit) TableName() string      { return "dialect_visits" }
func (remark) TableName() string     { return "dialect_remarks" }
func (contact) TableName() string    { return "dialect_contacts" }
func (attachment) TableName() string { return "dialect_attachments" }
func (carer) TableName() string      { return "dialect_carers" }
func (label) TableName() string      { return "dialect_labels" }
func (widget) TableName() string     { return "dialect_widgets" }
func (gadget) TableName() string     { return "dialect_gadgets" }
func (part) TableName() string       { return "dialect_parts" }

func dialectModels() []any {
	return []any{&person{}, &visit{}, &remark{}, &contact{}, &attachment{}, &carer{}, &label{}, &gadget{}, &widget{}, &part{}}
}

// What the suite stores in sealed fields, and what must be nowhere else.
const (
	nameAlice   = "Alice Quillfeather"
	nameBob     = "Robert Zanzibarra"
	nameForeign = "Walburga Xanthippe"
	nameNew     = "Hieronymus Kettledrum"
	ssnAlice    = "219-09-9999"
	mrnAlice    = "MRN-7770013"
	mrnBob      = "MRN-7770014"
	notesAlice  = "dreams of xylophones"
	streetAlice = "17 Wobblegate Lane"
	reasonAlice = "hiccoughs since Michaelmas"
)

// words that no stored byte and no event may hold.
func needles() []string {
	return []string{"Quillfeather", "Zanzibarra", "Walburga", "Xanthippe", "Hieronymus", "Kettledrum", "quillfeather",
		"zanzibarra", "kettledrum", ssnAlice, "219099999", mrnAlice, "MRN7770013", "mrn7770013", mrnBob, "xylophones", "Wobblegate", "hiccoughs"}
}

func seenAt() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

// The tables of the suite and their sealed columns.
func sealedColumns() map[string][]string {
	return map[string][]string{
		"dialect_people":      {"mrn", "name", "ssn", "notes", "nick", "home_street", "home_rooms", "home_geo_lat", "work_street", "work_rooms", "work_geo_lat"},
		"dialect_visits":      {"reason"},
		"dialect_remarks":     {"text"},
		"dialect_contacts":    {"phone"},
		"dialect_attachments": {"title"},
		"dialect_carers":      {"name"},
	}
}

// What a path is to do.
type outcome int

const (
	works   outcome = iota // it does what GORM does
	refused                // it fails with an error that says the mend, and changes nothing
	denied                 // the policies refuse it, and it changes nothing
)

func (o outcome) String() string { return [...]string{"ok", "refused", "denied"}[o] }

// A path is one way that an app may go through GORM.
type path struct {
	name string
	want outcome
	run  func(w *world) error
}

// A world is two tenants on the database, one path's own.
type world struct {
	*testing.T
	db     *DB
	raw    *sql.DB // past storage
	tenant string
	ctx    context.Context // a clinician: sees and changes everything of the tenant
	clerk  context.Context // sees names, a mask of the SSN, and neither notes nor dates
	other  context.Context // a clinician of another tenant

	alice, bob, foreign person
	visit               visit  // of alice
	theirs              string // the other tenant's rows as they are to stay
}

// as returns the database for ctx.
func (w *world) as(ctx context.Context) *gorm.DB { return w.db.WithContext(ctx) }

// do returns the database for the clinician.
func (w *world) do() *gorm.DB { return w.as(w.ctx) }

// minPaths is how many paths there are, at least: each runs on each database,
// or the matrix says which did not.
const minPaths = 120

// TestDialect sends every path of GORM that an app may take through storage on
// each database, and prints a matrix of what came of them. Each path leaves
// only cells in sealed columns and no plaintext anywhere, reads what it wrote,
// or is refused with an error that says what to do instead, and leaves the
// other tenant's rows as they were. What is stored is read through a second
// connection that knows nothing of storage.
func TestDialect(t *testing.T, dbs ...Database) {
	paths := slices.Concat(createPaths(), associationPaths(), readPaths(), targetPaths(), joinPaths(), hiddenPaths(), updatePaths(), deletePaths(), txPaths(), plainPaths())
	if len(paths) < minPaths {
		t.Errorf("the suite has %d paths, want %d at least", len(paths), minPaths)
	}
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = p.name
	}
	onMatrix(t, "paths", names, dbs, func(t *testing.T, m *matrix, on Database) {
		d, raw := on.Open(t)
		m.there(on.Name)
		db := Open(t, d, func(c *storage.Config) {
			c.Access = accesstest.Allow()
			c.Minimize = suitePolicy(t)
		}, dialectModels()...)
		t.Run("paths", func(t *testing.T) {
			for i, p := range paths {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					runPath(t, db, raw, i, p)
					m.set(t, on.Name, p.name, p.want.String())
				})
			}
		})
		for _, ev := range db.Trail.Events() {
			if leaks := audittest.NewSearcher(needles()...).Search(fmt.Appendf(nil, "%+v", ev)); len(leaks) > 0 {
				t.Fatalf("an event of type %s holds plaintext: %v", ev.Type, leaks)
			}
		}
	})
}

// suitePolicy shows a clinician everything and a clerk a part.
func suitePolicy(t testing.TB) *minimize.Policy {
	t.Helper()
	treat, pay := []access.Purpose{access.Treatment}, []access.Purpose{access.Payment}
	p, err := minimize.New([]minimize.Rule{
		{Role: "clinician", Purposes: treat, View: minimize.Reveal, Right: minimize.Change, Classes: minimize.Classes()},
		{Role: "clerk", Purposes: pay, View: minimize.Reveal, Right: minimize.Change, Classes: []minimize.Class{minimize.Name, minimize.Operational}},
		{Role: "clerk", Purposes: pay, View: minimize.Reveal, Classes: []minimize.Class{minimize.MRN}},
		{Role: "clerk", Purposes: pay, View: minimize.Mask, Right: minimize.Set, Classes: []minimize.Class{minimize.SSN}},
	})
	if err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	return p
}

func runPath(t *testing.T, db *DB, raw *sql.DB, i int, p path) {
	w := &world{T: t, db: db, raw: raw, tenant: fmt.Sprintf("t-%d", i)}
	w.ctx = accesstest.AsIn(t, t.Context(), w.tenant, "clinician", access.Treatment)
	w.clerk = accesstest.AsIn(t, t.Context(), w.tenant, "clerk", access.Payment)
	foreign := fmt.Sprintf("x-%d", i)
	w.other = accesstest.AsIn(t, t.Context(), foreign, "clinician", access.Treatment)
	w.seed()
	own := w.snapshot(w.tenant)
	w.theirs = w.snapshot(foreign)

	err := p.run(w)
	switch p.want {
	case works:
		if err != nil {
			t.Errorf("failed: %v", err)
		}
	case refused:
		var r *storage.RefusedError
		switch {
		case err == nil:
			t.Error("was not refused")
		case errors.As(err, &r) && r.Mend != "" && r.Why != "",
			errors.Is(err, storage.ErrFilterOnHidden), errors.Is(err, storage.ErrConflict), errors.Is(err, gorm.ErrMissingWhereClause):
		default:
			t.Errorf("refused without a mend: %v", err)
		}
	case denied:
		if !errors.Is(err, access.ErrDenied) && !errors.Is(err, storage.ErrNotPermitted) && !errors.Is(err, access.ErrNoPrincipal) {
			t.Errorf("not denied: %v", err)
		}
	}
	if err != nil {
		if leaks := audittest.NewSearcher(needles()...).Search([]byte(err.Error())); len(leaks) > 0 {
			t.Errorf("the error holds plaintext: %v", leaks)
		}
	}
	if p.want != works {
		if got := w.snapshot(w.tenant); got != own {
			t.Errorf("it changed rows all the same: %s", differs(own, got))
		}
	}
	if got := w.snapshot(foreign); got != w.theirs {
		t.Errorf("it changed another tenant's rows: %s", differs(w.theirs, got))
	}
	w.onlyCells()
	w.noPlaintext()
}

// differs names the rows in which two snapshots differ.
func differs(a, b string) string {
	var out []string
	before, after := strings.Split(a, "\n"), strings.Split(b, "\n")
	short := func(sign, line string) { out = append(out, sign+line[:min(len(line), 70)]) }
	for _, line := range before {
		if !slices.Contains(after, line) {
			short("-", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			short("+", line)
		}
	}
	return strings.Join(out[:min(len(out), 6)], " ")
}

func (w *world) seed() {
	w.Helper()
	w.alice = person{
		MRN: storage.Seal(mrnAlice), Name: storage.Seal(nameAlice), SSN: storage.Seal(ssnAlice), Notes: storage.Seal(notesAlice),
		Home: place{Street: storage.Seal(streetAlice), Rooms: storage.Seal(4)}, Seen: seenAt(), Status: "admitted", Active: true,
	}
	w.bob = person{MRN: storage.Seal(mrnBob), Name: storage.Seal(nameBob), Seen: seenAt().AddDate(1, 0, 0), Status: "discharged"}
	w.foreign = person{MRN: storage.Seal(mrnAlice), Name: storage.Seal(nameForeign), Seen: seenAt(), Status: "admitted", Active: true}
	w.must(w.do().Create(&w.alice).Error)
	w.must(w.do().Create(&w.bob).Error)
	w.must(w.as(w.other).Create(&w.foreign).Error)
	w.visit = visit{PersonID: w.alice.ID, Reason: storage.Seal(reasonAlice)}
	w.must(w.do().Create(&w.visit).Error)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("setting up: %v", err)
	}
}

// q writes a query with ? for the database.
func (w *world) q(query string) string {
	if w.db.Name() != "postgres" {
		return query
	}
	for i := 1; strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

// rows reads a whole result past storage, one text a row.
func (w *world) rows(query string, args ...any) []string {
	w.Helper()
	rows, err := w.raw.QueryContext(w.Context(), w.q(query), args...)
	if err != nil {
		w.Fatalf("second connection: %v", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		w.Fatalf("second connection: %v", err)
	}
	var out []string
	for rows.Next() {
		values, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			w.Fatalf("second connection: %v", err)
		}
		var b strings.Builder
		for i, v := range values {
			if raw, ok := v.([]byte); ok {
				v = string(raw)
			}
			fmt.Fprintf(&b, "%s=%v;", columns[i], v)
		}
		out = append(out, b.String())
	}
	if err := rows.Err(); err != nil {
		w.Fatalf("second connection: %v", err)
	}
	return out
}

// snapshot is every row of a tenant as it is stored.
func (w *world) snapshot(tenant string) string {
	w.Helper()
	var b strings.Builder
	for _, table := range append(slices.Sorted(maps.Keys(sealedColumns())), "phi_index", "phi_subject_keys") {
		order := "id"
		switch table {
		case "phi_index":
			order = "record_id, field, token"
		case "phi_subject_keys":
			order = "subject_id, version"
		}
		for _, r := range w.rows("SELECT * FROM "+table+" WHERE tenant_id = ? ORDER BY "+order, tenant) {
			fmt.Fprintf(&b, "%s: %q\n", table, r)
		}
	}
	for _, l := range []string{"label", "carer"} {
		for _, r := range w.rows("SELECT * FROM dialect_person_"+l+"s WHERE person_id IN (SELECT id FROM dialect_people WHERE tenant_id = ?) ORDER BY person_id, "+l+"_id", tenant) {
			fmt.Fprintf(&b, "links: %q\n", r)
		}
	}
	return b.String()
}

// stored returns the bytes of one column, nil for NULL.
func (w *world) stored(table, column, id string) []byte {
	w.Helper()
	var raw []byte
	if err := w.raw.QueryRowContext(w.Context(), w.q("SELECT "+column+" FROM "+table+" WHERE id = ?"), id).Scan(&raw); err != nil {
		w.Fatalf("second connection: %s.%s: %v", table, column, err)
	}
	return raw
}

// count counts the rows of a table for a tenant, past storage.
func (w *world) count(table, where string, args ...any) int {
	w.Helper()
	var n int
	if err := w.raw.QueryRowContext(w.Context(), w.q("SELECT count(*) FROM "+table+" WHERE "+where), args...).Scan(&n); err != nil {
		w.Fatalf("second connection: %s: %v", table, err)
	}
	return n
}

// onlyCells holds that sealed columns hold cells or NULL.
func (w *world) onlyCells() {
	w.Helper()
	for table, columns := range sealedColumns() {
		for _, c := range columns {
			rows, err := w.raw.QueryContext(w.Context(), w.q("SELECT id, "+c+" FROM "+table+" WHERE tenant_id = ?"), w.tenant)
			if err != nil {
				w.Fatalf("second connection: %v", err)
			}
			for rows.Next() {
				var id string
				var raw []byte
				if err := rows.Scan(&id, &raw); err != nil {
					w.Errorf("second connection: %v", err)
				}
				if raw == nil {
					continue
				}
				if _, err := crypto.ParseHeader(raw); err != nil {
					w.Errorf("%s.%s holds %d bytes that are no cell", table, c, len(raw))
				}
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				w.Errorf("second connection: %v", err)
			}
		}
	}
}

// noPlaintext searches all that is stored for the tenant.
func (w *world) noPlaintext() {
	w.Helper()
	if leaks := audittest.NewSearcher(needles()...).Search([]byte(w.snapshot(w.tenant))); len(leaks) > 0 {
		w.Errorf("plaintext is stored: %v", leaks)
	}
}

// read reads one record anew and reveals it.
func (w *world) read(id string) person {
	w.Helper()
	var p person
	w.must(w.do().Take(&p, "id = ?", id).Error)
	w.must(storage.Reveal(w.ctx, &p))
	return p
}

// wants compares a revealed value.
func wants[T comparable](w *world, what string, s storage.Sealed[T], want T) {
	w.Helper()
	if got, err := s.Get(w.ctx); err != nil || got != want {
		w.Errorf("%s: revealed %v, %v", what, got == want, err)
	}
}

// isAlice holds that p is alice as she was stored.
func (w *world) isAlice(p *person) {
	w.Helper()
	if p.ID != w.alice.ID || p.TenantID != w.tenant {
		w.Errorf("read another record")
	}
	if _, err := p.Name.Get(w.ctx); !errors.Is(err, storage.ErrSealed) {
		w.Errorf("before Reveal Get = %v, want ErrSealed", err)
	}
	if err := storage.Reveal(w.ctx, p); err != nil {
		w.Errorf("Reveal: %v", err)
	}
	wants(w, "MRN", p.MRN, mrnAlice)
	wants(w, "Name", p.Name, nameAlice)
	wants(w, "SSN", p.SSN, ssnAlice)
	wants(w, "Notes", p.Notes, notesAlice)
	wants(w, "Home.Street", p.Home.Street, streetAlice)
	wants(w, "Home.Rooms", p.Home.Rooms, 4)
	if !p.Seen.Equal(seenAt()) || p.Status != "admitted" || !p.Active {
		w.Errorf("clear fields: %v %s %v", p.Seen, p.Status, p.Active)
	}
}

// ids holds that the people read are exactly these.
func (w *world) ids(got []person, want ...string) {
	w.Helper()
	var have []string
	for _, p := range got {
		have = append(have, p.ID)
		if p.TenantID != w.tenant {
			w.Errorf("a row of tenant %s", p.TenantID)
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		w.Errorf("read %d rows, want %d others", len(have), len(want))
	}
}

// kept holds that alice is stored as she was seeded, but for the columns named.
func (w *world) kept(except ...string) {
	w.Helper()
	p := w.read(w.alice.ID)
	for name, ok := range map[string]bool{
		"mrn":    is(w, p.MRN, mrnAlice),
		"name":   is(w, p.Name, nameAlice),
		"ssn":    is(w, p.SSN, ssnAlice),
		"notes":  is(w, p.Notes, notesAlice),
		"street": is(w, p.Home.Street, streetAlice),
		"rooms":  is(w, p.Home.Rooms, 4),
		"seen":   p.Seen.Equal(seenAt()),
		"status": p.Status == "admitted",
		"active": p.Active,
	} {
		if !ok && !slices.Contains(except, name) {
			w.Errorf("%s is lost or changed", name)
		}
	}
}

func is[T comparable](w *world, s storage.Sealed[T], want T) bool {
	got, err := s.Get(w.ctx)
	return err == nil && got == want
}

// found holds that a name search finds exactly these records.
func (w *world) found(query string, want ...string) {
	w.Helper()
	var got []person
	if err := w.do().Where(storage.Match("Name", query)).Find(&got).Error; err != nil {
		w.Errorf("search: %v", err)
	}
	w.ids(got, want...)
}

// sameBytes holds that a stored column did not change while f ran.
func (w *world) sameBytes(table, column, id string, f func() error) error {
	w.Helper()
	before := w.stored(table, column, id)
	err := f()
	if !bytes.Equal(before, w.stored(table, column, id)) {
		w.Errorf("%s.%s was written again", table, column)
	}
	return err
}

// recorded counts the events of a type that name a record.
func (w *world) recorded(typ audit.Type, record string) int {
	n := 0
	for _, ev := range w.db.Trail.Events() {
		if ev.Type == typ && slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Record == record }) {
			n++
		}
	}
	return n
}

// zero reports whether a model was left, or put back, empty.
func zero(p person) bool { return p.ID == "" && reflect.ValueOf(p.Name).IsZero() && p.Seen.IsZero() }
