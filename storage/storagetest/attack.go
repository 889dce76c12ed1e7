// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
)

// The models that are attacked.
type (
	chart struct {
		storage.PatientRecord
		MRN     storage.Sealed[string] `phi:"mrn,search=exact,unique"`
		Name    storage.Sealed[string] `phi:"name,search=name"`
		SSN     storage.Sealed[string] `phi:"ssn"`
		Notes   storage.Sealed[string] `phi:"psychotherapy"`
		Phone   string                 `phi:"phone,clear" gorm:"size:40"`
		Status  string                 `phi:"operational,clear" gorm:"size:40"`
		Entries []entry                `phi:"-" gorm:"foreignKey:ChartID;constraint:-"`
	}
	entry struct {
		storage.Record
		ChartID string                 `phi:"subject" gorm:"size:36;index"`
		Finding storage.Sealed[string] `phi:"clinical"`
	}
)

func (chart) TableName() string { return "attack_charts" }
func (entry) TableName() string { return "attack_entries" }

// attackPolicy has a clerk who may change what they do not see: only then is
// it the value that is refused, and not the right to write it.
func attackPolicy(t testing.TB) *minimize.Policy {
	t.Helper()
	treat, pay := []access.Purpose{access.Treatment}, []access.Purpose{access.Payment}
	p, err := minimize.New([]minimize.Rule{
		{Role: "clinician", Purposes: treat, View: minimize.Reveal, Right: minimize.Change, Classes: minimize.Classes()},
		{Role: "clerk", Purposes: pay, View: minimize.Reveal, Right: minimize.Change, Classes: []minimize.Class{minimize.Name, minimize.Operational, minimize.MRN, minimize.Clinical}},
		{Role: "clerk", Purposes: pay, View: minimize.Mask, Right: minimize.Change, Classes: []minimize.Class{minimize.SSN, minimize.Phone}},
		{Role: "clerk", Purposes: pay, View: minimize.Withhold, Right: minimize.Change, Classes: []minimize.Class{minimize.Psychotherapy}},
	})
	if err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	return p
}

// An arena is two tenants with charts, for one attack.
type arena struct {
	*testing.T
	db            *DB
	plain         *sql.DB
	mine, theirs  string          // tenants
	ctx           context.Context // a clinician of mine
	clerk         context.Context // of mine
	other         context.Context // a clinician of theirs
	alice, bob    chart           // of mine; bob is the neighbour
	foreign       chart           // of theirs
	entry, theirE entry           // of alice, of foreign
}

// A blow is what the attacker sends: the record as their program holds it, the
// columns that they mean to set, and the condition of a write without an ID.
type blow struct {
	ctx   context.Context
	row   chart
	set   map[string]any
	where string
	args  []any
}

// An attackPath is a way of writing.
type attackPath struct {
	name string
	send func(a *arena, b *blow) *gorm.DB
}

// An attack makes the blow.
type attack struct {
	name  string
	blow  func(a *arena) *blow
	wants map[string]string // by path: what comes of it, and which fields of which rows it changes; no others apply
}

func attackPaths() []attackPath {
	conflict := func(how clause.OnConflict) func(*arena, *blow) *gorm.DB {
		return func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Clauses(how).Create(&b.row) }
	}
	association := func(f func(*gorm.Association, *arena, *blow) error) func(*arena, *blow) *gorm.DB {
		return func(a *arena, b *blow) *gorm.DB {
			tx := a.as(b.ctx).Model(&b.row)
			err := f(tx.Association("Entries"), a, b)
			return &gorm.DB{Error: err, RowsAffected: -1}
		}
	}
	byID := []clause.Column{{Name: "id"}}
	return []attackPath{
		{"Save", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Save(&b.row) }},
		{"Save a slice", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Save(&[]chart{b.row}) }},
		{"Save with FullSaveAssociations", func(a *arena, b *blow) *gorm.DB {
			b.row.Entries = []entry{{Record: storage.Record{ID: a.theirE.ID}, Finding: storage.Seal(nameNew)}}
			return a.as(b.ctx).Session(&gorm.Session{FullSaveAssociations: true}).Save(&b.row)
		}},
		{"Create", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Create(&b.row) }},
		{"upsert DoNothing", conflict(clause.OnConflict{DoNothing: true})},
		{"upsert UpdateAll", conflict(clause.OnConflict{UpdateAll: true})},
		{"upsert DoUpdates", conflict(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"name", "status"})})},
		{"Updates a map", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Model(&b.row).Updates(b.set) }},
		{"Updates a struct", func(a *arena, b *blow) *gorm.DB {
			return a.as(b.ctx).Model(&b.row).Updates(chart{Name: b.row.Name, SSN: b.row.SSN, Notes: b.row.Notes, Phone: b.row.Phone, Status: b.row.Status})
		}},
		{"UpdateColumns", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Model(&b.row).UpdateColumns(b.set) }},
		{"Where and Updates", func(a *arena, b *blow) *gorm.DB {
			return a.as(b.ctx).Model(&chart{}).Where(b.where, b.args...).Updates(b.set)
		}},
		{"Delete", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Delete(&b.row) }},
		{"Where and Delete", func(a *arena, b *blow) *gorm.DB { return a.as(b.ctx).Where(b.where, b.args...).Delete(&chart{}) }},
		{"Association Append", association(func(as *gorm.Association, a *arena, b *blow) error {
			return as.Append(&entry{Record: storage.Record{ID: a.theirE.ID}, Finding: storage.Seal(nameNew)})
		})},
		{"Association Replace", association(func(as *gorm.Association, a *arena, b *blow) error {
			return as.Replace(&entry{Record: storage.Record{ID: a.theirE.ID}, Finding: storage.Seal(nameNew)})
		})},
		{"Association Delete", association(func(as *gorm.Association, a *arena, b *blow) error {
			return as.Delete(&entry{Record: storage.Record{ID: a.theirE.ID}})
		})},
		{"Association Clear", association(func(as *gorm.Association, a *arena, b *blow) error { return as.Clear() })},
	}
}

// change puts what the attacker means to set into the record too.
func (b *blow) change() *blow {
	b.row.Status = "moved"
	b.row.Name = storage.Seal(nameNew)
	b.set = map[string]any{"status": "moved", "name": storage.Seal(nameNew)}
	return b
}

// The ways of writing, by kind.
const (
	saving   = "Save, Save with FullSaveAssociations"
	updating = "Updates a map, Updates a struct, UpdateColumns"
	creating = "Create, Save a slice, upsert DoNothing, upsert UpdateAll, upsert DoUpdates"
	linking  = "Association Append, Association Replace"
	clearing = "Association Delete, Association Clear"
	over     = "Save a slice, upsert UpdateAll, upsert DoUpdates"
)

// comesTo reads "path, path = outcome" lines.
func comesTo(lines ...string) map[string]string {
	out := map[string]string{}
	for _, l := range lines {
		paths, outcome, _ := strings.Cut(l, " = ")
		for p := range strings.SplitSeq(paths, ", ") {
			out[p] = outcome
		}
	}
	return out
}

func attacks() []attack {
	return []attack{
		{"another tenant's ID in one's own record", func(a *arena) *blow {
			b := (&blow{ctx: a.ctx, row: a.load(a.ctx, a.alice.ID), where: "id = ?", args: []any{a.foreign.ID}}).change()
			b.row.ID = a.foreign.ID
			return b
		}, comesTo(saving+", "+updating+", Delete = conflict", creating+" = refused", "Where and Updates, Where and Delete = none", linking+" = conflict", clearing+" = refused")},
		{"another tenant's ID in a new record", func(a *arena) *blow {
			b := (&blow{ctx: a.ctx, where: "id IN ? OR tenant_id = ? AND 1 = 1", args: []any{[]string{a.foreign.ID}, a.theirs}}).change()
			b.row.ID = a.foreign.ID
			return b
		}, comesTo(saving+" = refused", updating+", Where and Updates, Delete, Where and Delete = none", over+" = refused", "Create = duplicate", "upsert DoNothing = none",
			linking+" = duplicate", clearing+" = refused")},
		{"another tenant's record as it was read there", func(a *arena) *blow {
			return (&blow{ctx: a.ctx, row: a.load(a.other, a.foreign.ID), where: "tenant_id = ?", args: []any{a.theirs}}).change()
		}, comesTo(saving+", "+updating+", Delete = conflict", "Create, upsert DoNothing = denied", over+" = refused",
			"Where and Updates, Where and Delete = none", linking+" = conflict", clearing+" = refused")},
		{"another tenant's record under one's own TenantID", func(a *arena) *blow {
			b := (&blow{ctx: a.ctx, row: a.load(a.other, a.foreign.ID), where: "1 = 0 OR id = ?", args: []any{a.foreign.ID}}).change()
			b.row.TenantID = a.mine
			return b
		}, comesTo(saving+", "+updating+", Delete = conflict", creating+" = refused", "Where and Updates, Where and Delete = none", linking+" = conflict", clearing+" = refused")},
		{"another tenant's TenantID in a new record", func(a *arena) *blow {
			b := (&blow{ctx: a.ctx}).change()
			b.row.TenantID = a.theirs
			return b
		}, comesTo("Create, Save, upsert DoNothing = denied", over+" = refused")},
		{"a record that was not read", func(a *arena) *blow {
			b := (&blow{ctx: a.ctx}).change()
			b.row.ID = a.alice.ID
			return b
		}, comesTo(saving+", "+over+" = refused", "Create = duplicate", "upsert DoNothing = none")},
		{"a stale version", func(a *arena) *blow {
			b := &blow{ctx: a.ctx, row: a.load(a.ctx, a.alice.ID), where: "id = ? AND version = ?", args: []any{a.alice.ID, a.alice.Version}}
			a.must(a.as(a.ctx).Model(&chart{}).Where("id = ?", a.alice.ID).Update("status", "elsewhere").Error)
			return b.change()
		}, comesTo(saving+", "+updating+", Delete = conflict", creating+" = refused", "Where and Updates, Where and Delete = none")},
		{"a withheld column", func(a *arena) *blow {
			b := &blow{ctx: a.clerk, row: a.load(a.clerk, a.alice.ID), where: "status = ?", args: []any{"admitted"}}
			a.must(storage.Reveal(a.clerk, &b.row))
			if _, err := b.row.Notes.Get(a.clerk); !errors.Is(err, storage.ErrWithheld) {
				a.Fatalf("the notes are not withheld: %v", err)
			}
			b.change()
			b.set["notes"] = b.row.Notes // what the client was shown, sent back
			return b
		}, comesTo("Save, "+updating+", Where and Updates = ok: ~alice Name,Status", creating+" = refused")},
		{"a column that was not selected", func(a *arena) *blow {
			b := &blow{ctx: a.ctx, where: "status = ?", args: []any{"admitted"}}
			a.must(a.as(a.ctx).Omit("Notes", "SSN", "Phone").Take(&b.row, "id = ?", a.alice.ID).Error)
			b.change()
			b.set["notes"], b.set["ssn"] = b.row.Notes, b.row.SSN
			return b
		}, comesTo("Save, "+updating+", Where and Updates = ok: ~alice Name,Status", creating+" = refused")},
		{"a mask sent back", func(a *arena) *blow {
			b := &blow{ctx: a.clerk, row: a.load(a.clerk, a.alice.ID), where: "status = ?", args: []any{"admitted"}}
			a.must(storage.Reveal(a.clerk, &b.row))
			mask := b.row.SSN.Text(a.clerk)
			if mask != "***-**-9999" {
				a.Fatalf("the mask is %q", mask)
			}
			b.change()
			b.row.SSN = storage.Seal(mask)
			b.set["ssn"] = storage.Seal(mask)
			return b
		}, comesTo(saving + ", " + updating + ", Where and Updates = refused")},
		{"a mask sent back to a clear column", func(a *arena) *blow {
			b := &blow{ctx: a.clerk, row: a.load(a.clerk, a.alice.ID), where: "status = ?", args: []any{"admitted"}}
			b.change()
			b.row.Phone = minimize.Apply(minimize.Mask, minimize.Phone, phoneAlice)
			b.set["phone"] = b.row.Phone
			return b
		}, comesTo(saving + ", " + updating + ", Where and Updates = refused")},
		{"a mask in a new record", func(a *arena) *blow {
			b := (&blow{ctx: a.clerk}).change()
			b.row.SSN = storage.Seal("***-**-9999")
			return b
		}, comesTo("Save, " + creating + " = refused")},
		{"another record's unique value in a new record", func(a *arena) *blow {
			b := (&blow{ctx: a.ctx}).change()
			b.row.MRN = storage.Seal(" mrn 777-0014 ") // bob's
			return b
		}, comesTo("Create, Save = duplicate", over+" = refused", "upsert DoNothing = none")},
		{"another record's unique value in one's own", func(a *arena) *blow {
			b := &blow{ctx: a.ctx, row: a.load(a.ctx, a.alice.ID), where: "status = ?", args: []any{"admitted"}}
			b.change()
			b.row.MRN = storage.Seal("MRN7770014")
			b.set["mrn"] = storage.Seal("MRN7770014")
			return b
		}, comesTo("Save, Updates a map, UpdateColumns, Where and Updates = duplicate")},
	}
}

const phoneAlice = "212-555-0142"

// TestAttacks sends what a client could send to write what it must not: the ID
// of another tenant's record, a version that is out of date, a column that it
// was not shown, the mask that it was shown. Each goes by every way of
// writing, on each database, and the matrix of what came of it is printed.
// Held against each other are the stored bytes of the record attacked, of its
// neighbour and of the other tenant, read through a connection that knows
// neither GORM nor storage; and what changed against what the trail says.
func TestAttacks(t *testing.T, dbs ...Database) {
	type bout struct {
		attack
		attackPath
		want string
	}
	var bouts []bout
	var names []string
	for _, at := range attacks() {
		for _, p := range attackPaths() {
			if want, ok := at.wants[p.name]; ok {
				bouts = append(bouts, bout{at, p, want})
				names = append(names, at.name+": "+p.name)
			}
		}
	}
	onMatrix(t, "attacks", names, dbs, func(t *testing.T, m *matrix, on Database) {
		d, plain := on.Open(t)
		m.there(on.Name)
		db := Open(t, d, func(c *storage.Config) {
			c.Access = accesstest.Allow()
			c.Minimize = attackPolicy(t)
		}, &chart{}, &entry{})
		t.Run("attacks", func(t *testing.T) {
			for i, b := range bouts {
				t.Run(names[i], func(t *testing.T) {
					t.Parallel()
					a := newArena(t, db, plain, i)
					m.set(t, on.Name, names[i], a.fight(b.blow, b.send, b.want))
				})
			}
		})
	})
}

func newArena(t *testing.T, db *DB, plain *sql.DB, i int) *arena {
	a := &arena{T: t, db: db, plain: plain, mine: fmt.Sprintf("mine-%d", i), theirs: fmt.Sprintf("theirs-%d", i)}
	a.ctx = accesstest.AsIn(t, t.Context(), a.mine, "clinician", access.Treatment)
	a.clerk = accesstest.AsIn(t, t.Context(), a.mine, "clerk", access.Payment)
	a.other = accesstest.AsIn(t, t.Context(), a.theirs, "clinician", access.Treatment)
	a.alice = chart{MRN: storage.Seal(mrnAlice), Name: storage.Seal(nameAlice), SSN: storage.Seal(ssnAlice), Notes: storage.Seal(notesAlice), Phone: phoneAlice, Status: "admitted"}
	a.bob = chart{MRN: storage.Seal(mrnBob), Name: storage.Seal(nameBob), SSN: storage.Seal("078-05-1120"), Notes: storage.Seal(notesAlice), Status: "discharged"}
	a.foreign = chart{MRN: storage.Seal(mrnAlice), Name: storage.Seal(nameForeign), SSN: storage.Seal(ssnAlice), Notes: storage.Seal(notesAlice), Status: "admitted"}
	a.must(a.as(a.ctx).Create(&a.alice).Error)
	a.must(a.as(a.ctx).Create(&a.bob).Error)
	a.must(a.as(a.other).Create(&a.foreign).Error)
	a.entry = entry{ChartID: a.alice.ID, Finding: storage.Seal(reasonAlice)}
	a.must(a.as(a.ctx).Create(&a.entry).Error)
	a.theirE = entry{ChartID: a.foreign.ID, Finding: storage.Seal(reasonAlice)}
	a.must(a.as(a.other).Create(&a.theirE).Error)
	return a
}

func (a *arena) as(ctx context.Context) *gorm.DB { return a.db.WithContext(ctx) }

func (a *arena) must(err error) {
	a.Helper()
	if err != nil {
		a.Fatalf("setting up: %v", err)
	}
}

func (a *arena) load(ctx context.Context, id string) chart {
	a.Helper()
	var c chart
	a.must(a.as(ctx).Take(&c, "id = ?", id).Error)
	return c
}

// fight sends one blow and looks at what it did.
func (a *arena) fight(blow func(*arena) *blow, send func(*arena, *blow) *gorm.DB, want string) string {
	b := blow(a)
	a.must(storage.Settle(a.ctx, a.db.DB))
	mine, theirs := a.stored(a.mine), a.stored(a.theirs)
	events := len(a.db.Trail.Events())

	tx := send(a, b)
	a.must(storage.Settle(a.ctx, a.db.DB))
	outcome := a.outcome(tx)
	after := a.stored(a.mine)
	changed := a.changes(mine, after)
	if got := strings.TrimSuffix(outcome+": "+strings.Join(changed.list, " "), ": "); got != want {
		a.Errorf("came to %q, want %q (%v)", got, want, tx.Error)
	}
	if got := a.stored(a.theirs); !maps.EqualFunc(got, theirs, maps.Equal) {
		a.Errorf("another tenant's rows changed: %v", a.changes(theirs, got).list)
	}
	if outcome != "ok" && !maps.EqualFunc(after, mine, maps.Equal) {
		a.Errorf("it came to %s and left something behind: %v", outcome, differing(mine, after))
	}
	if tx.Error != nil {
		audittest.NoPHI(a, tx.Error.Error(), needles()...)
	}
	a.journal(a.db.Trail.Events()[events:], outcome, changed, after)
	return outcome
}

// outcome names what came of a statement.
func (a *arena) outcome(tx *gorm.DB) string {
	err := tx.Error
	var r *storage.RefusedError
	var w *storage.WriteError
	switch {
	case err == nil && tx.RowsAffected == 0:
		return "none"
	case err == nil:
		return "ok"
	case errors.As(err, &r) && r.Why != "" && r.Mend != "":
		return "refused"
	case errors.As(err, &w) && w.Masked:
		return "refused" // the value, not the writer
	case errors.Is(err, storage.ErrConflict):
		return "conflict"
	case errors.Is(err, storage.ErrDuplicate):
		return "duplicate"
	case errors.Is(err, access.ErrDenied), errors.Is(err, storage.ErrNotPermitted):
		return "denied"
	}
	a.Errorf("failed without saying the mend: %v", err)
	return "error"
}

// A storedRow is a row by column, as bytes.
type storedRow map[string]string

// stored reads all that is stored for a tenant, past GORM and storage.
func (a *arena) stored(tenant string) map[string]storedRow {
	a.Helper()
	mark := "?"
	if a.db.Name() == "postgres" {
		mark = "$1"
	}
	out := map[string]storedRow{}
	for _, table := range []string{"attack_charts", "attack_entries", "phi_index", "phi_subject_keys", "phi_tenant_keys"} {
		rows, err := a.plain.QueryContext(a.Context(), "SELECT * FROM "+table+" WHERE tenant_id = "+mark, tenant)
		if err != nil {
			a.Fatalf("second connection: %v", err)
		}
		columns, err := rows.Columns()
		if err != nil {
			a.Fatalf("second connection: %v", err)
		}
		for rows.Next() {
			values, dest := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				dest[i] = &values[i]
			}
			if err := rows.Scan(dest...); err != nil {
				a.Fatalf("second connection: %v", err)
			}
			row := storedRow{}
			for i, c := range columns {
				switch v := values[i].(type) {
				case nil: // NULL: no entry
				case []byte:
					row[c] = string(v)
				case time.Time:
					row[c] = v.UTC().Format(time.RFC3339Nano)
				default:
					row[c] = fmt.Sprint(v)
				}
			}
			key := table + "/" + row["id"]
			if row["id"] == "" { // the SDK's own: every column is the key
				key = table + "/" + fmt.Sprintf("%q", row)
			}
			out[key] = row
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			a.Fatalf("second connection: %v", err)
		}
	}
	return out
}

func differing(before, after map[string]storedRow) (out []string) {
	for _, pair := range [][2]map[string]storedRow{{before, after}, {after, before}} {
		for key, row := range pair[0] {
			if other, ok := pair[1][key]; !ok || !maps.Equal(row, other) {
				out = append(out, key[:min(len(key), 60)])
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// changed is what became other in the models' tables.
type changed struct {
	list   []string            // such as "~alice Name,Status", "-bob", "+entry Finding"
	fields map[string][]string // record ID: fields written
}

var fieldOf = map[string]string{
	"mrn": "MRN", "name": "Name", "ssn": "SSN", "notes": "Notes", "phone": "Phone", "status": "Status", "finding": "Finding", "chart_id": "ChartID",
}

func (a *arena) changes(before, after map[string]storedRow) changed {
	names := map[string]string{a.alice.ID: "alice", a.bob.ID: "bob", a.foreign.ID: "foreign", a.entry.ID: "alice's entry", a.theirE.ID: "foreign's entry"}
	ch := changed{fields: map[string][]string{}}
	keys := slices.Sorted(maps.Keys(before))
	for key := range after {
		if _, ok := before[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		table, id, _ := strings.Cut(key, "/")
		if !strings.HasPrefix(table, "attack_") {
			continue
		}
		old, was := before[key]
		now, is := after[key]
		name := cmp.Or(names[id], strings.TrimSuffix(strings.TrimPrefix(table, "attack_"), "s"))
		switch {
		case was && !is:
			ch.list = append(ch.list, "-"+name)
			ch.fields[id] = nil
			continue
		case maps.Equal(old, now):
			continue
		}
		var fields []string
		for column, field := range fieldOf {
			if old[column] != now[column] {
				fields = append(fields, field)
			}
		}
		slices.Sort(fields)
		sign := "~"
		if !was {
			sign = "+"
		}
		ch.list = append(ch.list, sign+name+" "+strings.Join(fields, ","))
		ch.fields[id] = fields
	}
	return ch
}

// journal holds what the trail says against what happened: every committed
// attempt names a record that changed, with exactly the fields, the version
// and the digests of the cells that are now stored; and the other way round.
func (a *arena) journal(events []audit.Stored, outcome string, did changed, after map[string]storedRow) {
	a.Helper()
	committed := map[string]bool{}
	for _, ev := range events {
		if ev.Type == audit.Committed {
			committed[ev.Attempt] = true
		}
	}
	said := map[string][]string{}
	denied := false
	for _, ev := range events {
		if ev.Actor.Tenant != a.mine && ev.Actor.Tenant != a.theirs {
			continue // of a fight beside this one
		}
		if ev.Actor.Tenant == a.theirs {
			a.Errorf("an event of type %s in the name of the other tenant", ev.Type)
		}
		denied = denied || ev.Type == audit.Denied
		for _, o := range ev.Objects {
			if o.Tenant != a.mine {
				a.Errorf("an event of type %s names tenant %s", ev.Type, o.Tenant)
			}
			if ev.Type != audit.WriteAttempt || !committed[ev.ID] {
				continue
			}
			said[o.Record] = append(said[o.Record], o.Fields...)
			row := cmpRow(after["attack_charts/"+o.Record], after["attack_entries/"+o.Record])
			if row == nil {
				continue // deleted
			}
			if row["version"] != fmt.Sprint(o.Version) {
				a.Errorf("the trail says version %d, stored is %s", o.Version, row["version"])
			}
			for i, f := range o.Fields {
				want := noDigest
				if raw, ok := row[columnOf(f)]; ok && sealedIn(f) {
					sum := sha256.Sum256([]byte(raw))
					want = hex.EncodeToString(sum[:8])
				}
				if o.Digests[i] != want {
					a.Errorf("the digest of %s is not that of the stored bytes", f)
				}
			}
		}
	}
	for id, fields := range said {
		slices.Sort(fields)
		said[id] = slices.Compact(fields)
	}
	if !maps.EqualFunc(said, did.fields, slices.Equal) {
		a.Errorf("the trail says that %v was written; stored as changed is %v", said, did.fields)
	}
	if outcome == "denied" && !denied {
		a.Error("denied, and no event says so")
	}
}

const noDigest = "0000000000000000"

func cmpRow(a, b storedRow) storedRow {
	if a != nil {
		return a
	}
	return b
}

func columnOf(field string) string {
	for c, f := range fieldOf {
		if f == field {
			return c
		}
	}
	return ""
}

func sealedIn(field string) bool { return field != "Phone" && field != "Status" && field != "ChartID" }
