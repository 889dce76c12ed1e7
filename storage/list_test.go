// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Sortable has a field of each type that sorts.
type Sortable struct {
	storage.PatientRecord
	Name    storage.Sealed[string]    `phi:"name,search=name"`
	Born    storage.Sealed[string]    `phi:"dob"`
	Seen    storage.Sealed[time.Time] `phi:"date"`
	Weight  storage.Sealed[float64]   `phi:"clinical"`
	Visits  storage.Sealed[int]       `phi:"clinical"`
	Smokes  storage.Sealed[bool]      `phi:"clinical"`
	Aliases storage.Sealed[[]string]  `phi:"name,search=name"`
	SSN     storage.Sealed[string]    `phi:"ssn"`
	Next    time.Time                 `phi:"date,clear"`
	Ward    string                    `phi:"-"`
	Deleted gorm.DeletedAt            `phi:"-"`
}

func (Sortable) ResourceType() string { return "patient" }

// pages reads a list to its end.
func pages(t *testing.T, q *gorm.DB, order string, size int) (all []Sortable) {
	t.Helper()
	after := ""
	for range 100 {
		rows, next, err := storage.List[Sortable](q.Statement.Context, q, order, storage.Page{Size: size, After: after})
		if err != nil {
			t.Fatalf("List(%s) = %v", order, err)
		}
		if len(rows) > size || len(rows) == 0 && next != "" {
			t.Fatalf("List(%s) gives %d rows and %q", order, len(rows), next)
		}
		all = append(all, rows...)
		if after = next; next == "" {
			return all
		}
	}
	t.Fatal("the list has no end")
	return nil
}

func TestList(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(c *storage.Config) { c.SearchLimits = map[string]int{"": 10_000} }, &Sortable{})
		ctx := physician(t)
		// As they are to stand.
		names := []string{"Aaron", "Åsa", "Bo 2", "Bo 10", "de la Cruz", "dela Rosa", "Émile", "jane roe", "Jane Roe", "Jané Roe", "Müller", "Ng", "O'Brien", "Obrien", "Ødegård", "smith", "Smith", "Smithson", "Zoë", "李小龍"}
		people := map[string]string{}
		var list []Sortable
		at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		for i, n := range names {
			list = append(list, Sortable{Name: storage.Seal(n), Born: storage.Seal(fmt.Sprintf("%d/2/1980", i%12+1)), Seen: storage.Seal(at.AddDate(0, 0, -i)), Weight: storage.Seal(float64(i) - 7.5),
				Visits: storage.Seal(i - 7), Smokes: storage.Seal(i%2 == 0), Next: at.AddDate(0, 0, i), Ward: fmt.Sprint(i % 3)})
		}
		list = append(list, Sortable{Ward: "9"}, Sortable{Ward: "9"})
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if err := db.WithContext(ctx).Create(&list).Error; err != nil {
			t.Fatal(err)
		}
		if err := storage.Settle(ctx, db.DB); err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if err := storage.Reveal(ctx, &list[i]); err != nil {
				t.Fatal(err)
			}
			people[list[i].ID] = list[i].Name.Text(ctx)
		}
		named := func(rows []Sortable) (out []string) {
			for _, r := range rows {
				if _, err := r.Name.Get(ctx); !r.Name.IsNull() && !errors.Is(err, storage.ErrSealed) {
					t.Errorf("a row of the list is not sealed: %v", err)
				}
				out = append(out, people[r.ID])
			}
			return out
		}
		down := slices.Clone(names)
		slices.Reverse(down)
		for _, tt := range []struct {
			order string
			want  []string
		}{
			{"Name", append(slices.Clone(names), "", "")},
			{"name desc", append(down, "", "")},
			{"Weight", append(slices.Clone(names), "", "")},
			{"Visits desc", append(down, "", "")},
			{"Seen", append(down, "", "")},
			{"Seen desc,Name", append(slices.Clone(names), "", "")},
		} {
			for _, size := range []int{1, 7, 22, 50} {
				rows := pages(t, db.WithContext(ctx), tt.order, size)
				if got := named(rows); !slices.Equal(got, tt.want) {
					t.Errorf("List(%s) in pages of %d:\n%q\nwant\n%q", tt.order, size, got, tt.want)
				}
			}
		}
		// Several keys: the first one first.
		rows := pages(t, db.WithContext(ctx), "Smokes, Born desc, Next", 5)
		for i := 1; i < 20; i++ {
			a, b := slices.Index(names, people[rows[i-1].ID]), slices.Index(names, people[rows[i].ID])
			x, y := [3]int{1 - a%2, -(a % 12), a}, [3]int{1 - b%2, -(b % 12), b}
			if slices.Compare(x[:], y[:]) >= 0 {
				t.Errorf("%q stands before %q", people[rows[i-1].ID], people[rows[i].ID])
			}
		}

		// With conditions, scopes, Match, in a transaction, softly deleted.
		ward := func(q *gorm.DB) *gorm.DB { return q.Where("ward = ?", "1") }
		if got := named(pages(t, db.WithContext(ctx).Scopes(ward), "Name", 3)); len(got) != 7 || got[0] != "Åsa" {
			t.Errorf("with a scope it lists %q", got)
		}
		if got := named(pages(t, db.WithContext(ctx).Where(storage.Match("Name", "roe")).Where("ward <> ?", "1"), "Name desc", 3)); !slices.Equal(got, []string{"Jané Roe", "Jane Roe"}) {
			t.Errorf("with Match it lists %q", got)
		}
		_ = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Sortable{Name: storage.Seal("Aaa"), Ward: "t"}).Error; err != nil {
				t.Error(err)
			}
			rows, _, err := storage.List[Sortable](ctx, tx, "Name", storage.Page{Size: 2})
			if err != nil || len(rows) != 2 || rows[0].Ward != "t" {
				t.Errorf("in a transaction it lists %v, %v", rows, err)
			}
			return errors.New("no")
		})
		if rows, next, err := storage.List[Sortable](accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment), db.DB, "Name", storage.Page{}); err != nil || len(rows) != 0 || next != "" {
			t.Errorf("another tenant lists %d, %q, %v", len(rows), next, err)
		}

		// One event: the patients of the page, and how many were sorted.
		db.Trail.Reset()
		page, next, err := storage.List[Sortable](ctx, db.Where("ward IN ?", []string{"0", "1"}), "Born, Name", storage.Page{Size: 2})
		if err != nil || len(page) != 2 {
			t.Fatal(page, err)
		}
		want := audit.Event{Type: audit.Searched, Outcome: audit.Success, Action: access.Search, Count: 14}
		for _, r := range page {
			want.Objects = append(want.Objects, audit.Object{Record: r.ID, Patient: r.ID, Fields: []string{"Born", "Name", "Next"}})
		}
		audittest.Want(t, db.Trail, want)
		if n := len(db.Trail.Events()); n != 1 {
			t.Errorf("%d events of one page", n)
		}
		dump, err := base64.RawURLEncoding.DecodeString(next)
		if err != nil {
			t.Fatal(err)
		}
		audittest.NoPHI(t, dump, "Aaron", "aaron", "1980", "Bo 2")
		audittest.NoPHI(t, next, "Aaron", "1980")

		// A cursor serves its own list only.
		other := accesstest.AsIn(t, t.Context(), "t-other", "physician", access.Treatment)
		for name, try := range map[string]func() error{
			"another order": func() error {
				_, _, err := storage.List[Sortable](ctx, db.DB, "Name, Born", storage.Page{After: next})
				return err
			},
			"another tenant": func() error {
				_, _, err := storage.List[Sortable](other, db.DB, "Born, Name", storage.Page{After: next})
				return err
			},
			"another record": func() error {
				_, _, err := storage.List[Sortable](ctx, db.DB, "Born, Name", storage.Page{After: base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(dump), page[1].ID, page[0].ID, 1)))})
				return err
			},
			"cut": func() error {
				_, _, err := storage.List[Sortable](ctx, db.DB, "Born, Name", storage.Page{After: next[:len(next)-4]})
				return err
			},
			"text": func() error {
				_, _, err := storage.List[Sortable](ctx, db.DB, "Born, Name", storage.Page{After: "Jane Roe"})
				return err
			},
		} {
			if err := try(); !errors.Is(err, storage.ErrRefused) {
				t.Errorf("a cursor of %s: %v, want ErrRefused", name, err)
			}
		}
	})
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Sortable{}, &Plain{})
	ctx := physician(t)
	for _, n := range []string{"A", "B", "C"} {
		if err := db.WithContext(ctx).Create(&Sortable{Name: storage.Seal(n), SSN: storage.Seal("123-45-6789")}).Error; err != nil {
			t.Fatal(err)
		}
	}
	if err := storage.Settle(ctx, db.DB); err != nil {
		t.Fatal(err)
	}
	q := db.WithContext(ctx)
	for name, try := range map[string]struct {
		q     *gorm.DB
		order string
		page  storage.Page
	}{
		"no order":                       {q: q},
		"an unknown field":               {q: q, order: "Nickname"},
		"an expression":                  {q: q, order: "lower(name)"},
		"an unknown way":                 {q: q, order: "Name sideways"},
		"a list":                         {q: q, order: "Aliases"},
		"clear columns":                  {q: q, order: "Ward"},
		"a clear PHI column":             {q: q.Joins("Ward"), order: "Name"},
		"a preload":                      {q: q.Preload("Ward"), order: "Name"},
		"a limit":                        {q: q.Limit(1), order: "Name"},
		"an offset":                      {q: q.Offset(1), order: "Name"},
		"another order":                  {q: q.Order("ward"), order: "Name"},
		"a group":                        {q: q.Group("ward"), order: "Name"},
		"selected columns":               {q: q.Select("id"), order: "Name"},
		"omitted columns":                {q: q.Omit("ssn"), order: "Name"},
		"distinct":                       {q: q.Distinct("ward"), order: "Name"},
		"another table":                  {q: q.Table("plains"), order: "Name"},
		"raw SQL":                        {q: q.Raw("SELECT * FROM sortables"), order: "Name"},
		"a lock":                         {q: q.Clauses(clause.Locking{Strength: "UPDATE"}), order: "Name"},
		"a condition on a sealed column": {q: q.Where("name IS NULL"), order: "Name"},
		"a subquery":                     {q: q.Where("id IN (SELECT record_id FROM phi_index)"), order: "Name"},
	} {
		if rows, _, err := storage.List[Sortable](ctx, try.q, try.order, try.page); !errors.Is(err, storage.ErrRefused) || len(rows) > 0 {
			t.Errorf("%s: %d rows, %v; want ErrRefused", name, len(rows), err)
		}
	}
	for _, size := range []int{-1, 1001} {
		if _, _, err := storage.List[Sortable](ctx, q, "Name", storage.Page{Size: size}); err == nil {
			t.Errorf("a page of %d", size)
		}
	}
	if _, _, err := storage.List[Plain](ctx, q, "Text", storage.Page{}); !errors.Is(err, storage.ErrRefused) {
		t.Errorf("a model without PHI: %v", err)
	}
	if _, _, err := storage.List[Sortable](t.Context(), db.DB, "Name", storage.Page{}); err == nil {
		t.Error("a list without a principal")
	}

	// A field that the caller does not see in full is no order, and the try is
	// recorded.
	db.Trail.Reset()
	if _, _, err := storage.List[Sortable](ctx, db.DB, "SSN", storage.Page{}); !errors.Is(err, storage.ErrFilterOnHidden) {
		t.Errorf("an order by a masked field: %v, want ErrFilterOnHidden", err)
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Denied, Reason: audit.ReasonMinimum, Action: access.Search, Objects: []audit.Object{{Fields: []string{"SSN"}}}})

	// What cannot be recorded is not shown.
	db.Trail.Fail(errors.New("disk full"))
	if rows, next, err := storage.List[Sortable](ctx, db.DB, "Name", storage.Page{Size: 2}); err == nil || len(rows) > 0 || next != "" {
		t.Errorf("without a record: %d rows, %q, %v", len(rows), next, err)
	}
	if rows, _, err := storage.List[Sortable](ctx, db.Where("ward = ?", "none"), "Name", storage.Page{Size: 2}); err == nil || len(rows) > 0 {
		t.Errorf("an empty list without a record: %v", err)
	}
	db.Trail.Fail(nil)
}

// Plain has no PHI.
type Plain struct {
	ID   int
	Text string
}

// More than 10,000 records are not opened for a page.
func TestListOfTooMany(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(*storage.Config) {}, &Sortable{})
	exec(t, admin(t, d), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10001)
		INSERT INTO sortables (id, tenant_id, version, ward) SELECT printf('0190f2d4-7c1e-7000-8000-%012d', i), 't-test', 1, CASE WHEN i = 1 THEN 'x' ELSE 'y' END FROM n`)
	ctx := physician(t)
	if rows, _, err := storage.List[Sortable](ctx, db.DB, "Name", storage.Page{}); !errors.Is(err, storage.ErrRefused) || !strings.Contains(err.Error(), "10000") || len(rows) > 0 {
		t.Errorf("of 10,001 records: %d rows, %v", len(rows), err)
	}
	if rows, next, err := storage.List[Sortable](ctx, db.Where("ward = ?", "y"), "Name", storage.Page{Size: 3}); err != nil || len(rows) != 3 || next == "" {
		t.Errorf("of 10,000: %d rows, %v", len(rows), err)
	}
}

// Records that the policy denies, cells that do not open and shredded patients
// stop no list.
func TestListWithWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	d := openSQLite(t)
	db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Sortable{})
	ctx := physician(t)
	var ids []string
	for _, n := range []string{"A", "B", "C", "D"} {
		p := Sortable{Name: storage.Seal(n)}
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
	}
	if err := storage.Settle(ctx, db.DB); err != nil {
		t.Fatal(err)
	}
	raw := admin(t, d)
	exec(t, raw, "UPDATE sortables SET name = (SELECT name FROM sortables WHERE id = '"+ids[2]+"') WHERE id = '"+ids[0]+"'") // a foreign cell
	exec(t, raw, "UPDATE sortables SET deleted = '2026-01-01' WHERE id = '"+ids[3]+"'")
	db.Trail.Reset()
	var got []string
	for after := ""; ; {
		rows, next, err := storage.List[Sortable](ctx, db.DB, "Name", storage.Page{Size: 1, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			got = append(got, r.ID)
		}
		if after = next; next == "" {
			break
		}
	}
	if want := []string{ids[1], ids[2], ids[0]}; !slices.Equal(got, want) {
		t.Errorf("it lists %v, want %v: what does not open last, what is deleted not", got, want)
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.RevealFailed, Reason: audit.ReasonCell, Action: access.Search, Objects: []audit.Object{{Record: ids[0], Patient: ids[0], Fields: []string{"Name"}}}})
	if rows, _, err := storage.List[Sortable](ctx, db.Unscoped(), "Name", storage.Page{}); err != nil || len(rows) != 4 {
		t.Errorf("Unscoped lists %d, %v; want 4", len(rows), err)
	}
}
