// SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage"
)

// A Sets is a database with sets of one kind, for [TestSet].
type Sets struct {
	DB  *gorm.DB                                             // of storage
	Set func(tenant string) access.Set                       // the set under test, of somebody in the tenant
	Put func(t *testing.T, tenant string, members ...string) // makes the IDs members of the tenant's set
}

// A noteRow is what the suite reads: something about a patient, or about nobody.
type noteRow struct {
	storage.Record
	About string `phi:"subject" gorm:"size:64"`
	Ward  string `phi:"-" gorm:"size:20"`
}

func (noteRow) TableName() string { return "set_notes" }

// TestSet holds that what a set answers is what the database finds: Has and the
// condition of [storage.SetCondition] agree over random worlds, through GORM and
// under every part of an [access.Filter]. open is called once, with the
// authorizer that the database of storage takes and the models of the suite; the
// sets of a tenant that it returns begin empty.
func TestSet(t *testing.T, open func(t *testing.T, a access.Authorizer, models ...any) Sets) {
	gate := &gate{}
	s := open(t, gate, &noteRow{})
	raw, err := s.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	b := &setBench{Sets: s, gate: gate, raw: raw, rnd: rand.New(rand.NewPCG(164, 522))}
	worlds, many := 2, 1200
	if os.Getenv("PART164_TEST_LONG") == "1" {
		worlds, many = 100, 5000
	}
	t.Run("what is answered is what is found", func(t *testing.T) {
		for w := range worlds {
			b.world(t, fmt.Sprintf("t-%d", w))
		}
	})
	t.Run("many", func(t *testing.T) {
		const tenant = "t-many"
		ids := make([]string, many+100)
		for i := range ids {
			ids[i] = fmt.Sprintf("p-%05d", i)
		}
		b.rows(t, tenant, ids)
		b.Put(t, tenant, ids[50:50+many]...)
		for _, f := range []access.Filter{{Tenant: tenant, In: []access.Set{b.Set(tenant)}}, {Tenant: tenant, AllSubjects: true, NotIn: []access.Set{b.Set(tenant)}}} {
			if n := b.agree(t, f, tenant); n != many && n != 100 {
				t.Errorf("%d rows of %d", n, len(ids))
			}
		}
	})
	t.Run("nobody is in it", func(t *testing.T) {
		in, err := b.Set("t-many").Has(t.Context(), "t-many", []string{"", "p-00050", ""})
		if err != nil || !slices.Equal(in, []bool{false, true, false}) {
			t.Errorf("Has = %v, %v", in, err)
		}
		if in, err = b.Set("t-many").Has(t.Context(), "t-many", nil); err != nil || len(in) != 0 {
			t.Errorf("Has of nothing = %v, %v", in, err)
		}
		if in, err = b.Set("t-many").Has(t.Context(), "", []string{"p-00050"}); err == nil && (len(in) != 1 || in[0]) {
			t.Errorf("Has without a tenant = %v", in)
		}
	})
	t.Run("a cancelled context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if in, err := b.Set("t-many").Has(ctx, "t-many", []string{"p-00050"}); err == nil {
			t.Errorf("Has = %v, want an error", in)
		}
	})
	t.Run("concurrent use", func(t *testing.T) {
		set := b.Set("t-many")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					in, err := set.Has(context.Background(), "t-many", []string{"p-00050", "p-00000"})
					if err != nil || !slices.Equal(in, []bool{true, false}) {
						t.Errorf("Has = %v, %v", in, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

type setBench struct {
	Sets
	gate *gate
	raw  *sql.DB
	rnd  *rand.Rand
	n    int
}

// spellings are IDs that a database may take for one another.
func (b *setBench) spellings() []string {
	ids := []string{"", "p-1", "P-1", "p-1.", "p-10", "p-", "p_1", "ab", "aB", "AB", "a-b", "A.b"}
	for i := range 12 {
		ids = append(ids, fmt.Sprintf("0190f2d4-7c1e-7000-8000-%012x", i*7))
	}
	return ids
}

// world fills two tenants and asks every question of both.
func (b *setBench) world(t *testing.T, tenant string) {
	t.Helper()
	other := tenant + ".b"
	ids := b.spellings()
	for _, tn := range []string{tenant, other} {
		var about, members []string
		for range 40 {
			about = append(about, ids[b.rnd.IntN(len(ids))])
		}
		for _, id := range ids {
			if id != "" && b.rnd.IntN(2) == 0 {
				members = append(members, id)
			}
		}
		b.rows(t, tn, about)
		b.Put(t, tn, members...)
	}
	some := []string{ids[1+b.rnd.IntN(11)], ids[0], ids[12+b.rnd.IntN(12)]}
	for _, of := range []string{tenant, other} {
		for _, in := range []string{tenant, other} {
			set := []access.Set{b.Set(of)}
			union := []access.Set{access.Union{b.Set(of), b.Set(in)}}
			for _, f := range []access.Filter{
				{},
				{Subjects: some},
				{Nobody: true},
				{In: set},
				{In: set, Nobody: true},
				{In: set, Subjects: some},
				{In: union},
				{In: []access.Set{access.Union{}}},
				{AllSubjects: true, In: set},
				{AllSubjects: true, Only: set},
				{AllSubjects: true, Only: []access.Set{b.Set(of), b.Set(in)}},
				{AllSubjects: true, NotIn: set},
				{Nobody: true, Subjects: some, NotIn: set},
				{AllSubjects: true, NotRecords: set},
				{AllSubjects: true, NotRecords: []access.Set{access.AllBut(b.spellings()[:9])}},
				{AllSubjects: true, NotRecords: []access.Set{access.AllBut(b.spellings()[12:])}, Only: []access.Set{access.AllBut{"p-1", "AB"}}},
				{Nobody: true, In: []access.Set{access.AllBut{}}, NotIn: []access.Set{access.AllBut{"p-1", "p-10"}}},
				{In: set, NotIn: []access.Set{b.Set(in)}, NotRecords: set},
				{Nobody: true, Or: []access.Filter{{In: set}, {Subjects: some, NotRecords: set}}},
				{AllSubjects: true, NotIn: set, Or: []access.Filter{{Subjects: some}}},
			} {
				f.Tenant = in
				f.Or = slices.Clone(f.Or)
				for i := range f.Or {
					f.Or[i].Tenant = in
				}
				b.agree(t, f, in)
			}
		}
	}
}

// rows adds a note about each of the IDs, by hand: some of those about nobody
// have NULL. A record's ID may be that of a member, too.
func (b *setBench) rows(t *testing.T, tenant string, about []string) {
	t.Helper()
	names, mark := []string{"id", "tenant_id", "version", "about", "ward"}, func(int) string { return "?" }
	if b.DB.Name() == "postgres" {
		mark = func(n int) string { return fmt.Sprintf("$%d", n) }
	}
	free := slices.DeleteFunc(b.spellings(), func(id string) bool { return id == "" })
	if b.n > 0 { // IDs are unique in the table
		free = nil
	}
	for len(about) > 0 {
		var sql strings.Builder
		var vars []any
		fmt.Fprintf(&sql, "INSERT INTO set_notes (%s) VALUES ", strings.Join(names, ", "))
		n := min(200, len(about))
		for i, id := range about[:n] {
			b.n++
			record := fmt.Sprintf("r-%06d", b.n)
			if i < len(free) && !b.folds() {
				record = free[i]
			} else if i < len(free) && strings.HasPrefix(free[i], "0190") {
				record = free[i]
			}
			var subject any = id
			if id == "" && i%2 == 0 {
				subject = nil
			}
			if i > 0 {
				sql.WriteString(", ")
			}
			sql.WriteByte('(')
			for j, v := range []any{record, tenant, 1, subject, "3W"} {
				if j > 0 {
					sql.WriteString(", ")
				}
				vars = append(vars, v)
				sql.WriteString(mark(len(vars)))
			}
			sql.WriteByte(')')
		}
		about = about[n:]
		if _, err := b.raw.ExecContext(t.Context(), sql.String(), vars...); err != nil {
			t.Fatalf("storagetest: %v", err)
		}
	}
}

// folds reports whether the database takes IDs of other spellings for one.
func (b *setBench) folds() bool { return b.DB.Name() == "mysql" }

// agree reads the rows that a filter reaches, and wants those that it matches.
func (b *setBench) agree(t *testing.T, f access.Filter, tenant string) int {
	t.Helper()
	b.gate.set(f)
	ctx := access.With(t.Context(), access.Principal{ID: "u-1", Tenant: tenant, Kind: access.Human, Roles: []string{"physician"}}, access.Treatment)
	var found []noteRow
	if err := b.DB.WithContext(ctx).Find(&found).Error; err != nil {
		t.Errorf("%s: %v", describe(f), err)
		return -1
	}
	var counted int64
	if err := b.DB.WithContext(ctx).Model(&noteRow{}).Where("ward = ? OR ward IS NULL", "3W").Count(&counted).Error; err != nil || counted != int64(len(found)) {
		t.Errorf("%s: counted %d, found %d, %v", describe(f), counted, len(found), err)
	}
	reached := make(map[string]bool, len(found))
	for _, r := range found {
		reached[r.ID] = true
	}
	all, err := b.raw.QueryContext(t.Context(), "SELECT id, tenant_id, COALESCE(about, '') FROM set_notes")
	if err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	defer all.Close()
	var rows []access.Resource
	for all.Next() {
		r := access.Resource{Type: "note_row"}
		if err := all.Scan(&r.ID, &r.Tenant, &r.Patient); err != nil {
			t.Fatalf("storagetest: %v", err)
		}
		rows = append(rows, r)
	}
	if err := all.Err(); err != nil {
		t.Fatalf("storagetest: %v", err)
	}
	want, err := f.Match(ctx, rows...)
	if err != nil {
		t.Errorf("%s: Match: %v", describe(f), err)
		return -1
	}
	for i, r := range rows {
		if want[i] != reached[r.ID] {
			t.Errorf("%s: record %q of %s about %q: Match says %v, the database %v", describe(f), r.ID, r.Tenant, r.Patient, want[i], reached[r.ID])
		}
	}
	return len(found)
}

// describe names a filter without what its sets hold.
func describe(f access.Filter) string {
	return fmt.Sprintf("Filter{%s all %v nobody %v subjects %q in %d only %d not %d notrecords %d or %d}",
		f.Tenant, f.AllSubjects, f.Nobody, f.Subjects, len(f.In), len(f.Only), len(f.NotIn), len(f.NotRecords), len(f.Or))
}

// A gate is an [access.Authorizer] that answers by one filter.
type gate struct {
	mu sync.Mutex
	f  access.Filter
}

func (g *gate) set(f access.Filter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.f = f
}

// Filter implements [access.Authorizer].
func (g *gate) Filter(context.Context, access.Action, string) (access.Filter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.f, nil
}

// Check implements [access.Authorizer].
func (g *gate) Check(ctx context.Context, req access.Request) (access.Decision, error) {
	f, _ := g.Filter(ctx, req.Action, "")
	in, err := f.Match(ctx, req.Resources...)
	if err != nil {
		return access.Decision{}, errors.Join(errors.New("storagetest: gate"), err)
	}
	d := access.Decision{ID: strings.Repeat("a", 32), Verdicts: make([]access.Verdict, len(in))}
	for i, ok := range in {
		d.Verdicts[i] = access.Verdict{Allow: ok, Code: access.DenySubject}
		if ok {
			d.Verdicts[i].Code = access.AllowRule
		}
	}
	return d, nil
}
