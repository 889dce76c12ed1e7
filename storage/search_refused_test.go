// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A sealed column is searched by Match and sorted by List. Every other way of
// filtering, sorting or grouping by it is refused with a hint of these two, or
// does not get as far as the database; none finds, sorts or counts anything.
func TestSealedColumnsAreNoConditions(t *testing.T) {
	t.Parallel()
	name := storage.Seal("Jane Roe")
	col := func(n string) clause.Column { return clause.Column{Table: clause.CurrentTable, Name: n} }
	tries := map[string]func(q *gorm.DB) *gorm.DB{
		"text":                       func(q *gorm.DB) *gorm.DB { return q.Where("name = ?", "Jane Roe") },
		"text with a Sealed":         func(q *gorm.DB) *gorm.DB { return q.Where("name = ?", name) },
		"text with a pointer":        func(q *gorm.DB) *gorm.DB { return q.Where("name = ?", &name) },
		"inequality":                 func(q *gorm.DB) *gorm.DB { return q.Where("name <> ?", "x") },
		"upper case":                 func(q *gorm.DB) *gorm.DB { return q.Where("NAME > ?", "A") },
		"quoted":                     func(q *gorm.DB) *gorm.DB { return q.Where(q.Statement.Quote("name")+" = ?", "x") },
		"qualified":                  func(q *gorm.DB) *gorm.DB { return q.Where("patients.name = ?", "x") },
		"NULL":                       func(q *gorm.DB) *gorm.DB { return q.Where("name IS NULL") },
		"NOT NULL":                   func(q *gorm.DB) *gorm.DB { return q.Where("name IS NOT NULL") },
		"LIKE":                       func(q *gorm.DB) *gorm.DB { return q.Where("name LIKE ?", "%") },
		"IN":                         func(q *gorm.DB) *gorm.DB { return q.Where("name IN ?", []string{"x"}) },
		"BETWEEN":                    func(q *gorm.DB) *gorm.DB { return q.Where("name BETWEEN ? AND ?", "a", "z") },
		"length":                     func(q *gorm.DB) *gorm.DB { return q.Where("length(name) > 40") },
		"CASE":                       func(q *gorm.DB) *gorm.DB { return q.Where("CASE WHEN name IS NULL THEN 1 ELSE 0 END = 1") },
		"against another column":     func(q *gorm.DB) *gorm.DB { return q.Where("name = ssn") },
		"behind a true one":          func(q *gorm.DB) *gorm.DB { return q.Where("1 = 1 OR name = ?", "x") },
		"a named argument":           func(q *gorm.DB) *gorm.DB { return q.Where("name = @n", sql.Named("n", "x")) },
		"named by a map":             func(q *gorm.DB) *gorm.DB { return q.Where("name = @n", map[string]any{"n": "x"}) },
		"a map":                      func(q *gorm.DB) *gorm.DB { return q.Where(map[string]any{"name": "Jane Roe"}) },
		"a map with a Sealed":        func(q *gorm.DB) *gorm.DB { return q.Where(map[string]any{"name": name}) },
		"a map with nil":             func(q *gorm.DB) *gorm.DB { return q.Where(map[string]any{"name": nil}) },
		"a map of field names":       func(q *gorm.DB) *gorm.DB { return q.Where(map[string]any{"Name": "x"}) },
		"a struct":                   func(q *gorm.DB) *gorm.DB { return q.Where(&Patient{Name: name}) },
		"a struct with named fields": func(q *gorm.DB) *gorm.DB { return q.Where(&Patient{}, "Name") },
		"the model itself":           func(q *gorm.DB) *gorm.DB { return q.Where(Patient{SSN: storage.Seal("x")}) },
		"Eq":                         func(q *gorm.DB) *gorm.DB { return q.Where(clause.Eq{Column: "name", Value: "x"}) },
		"Eq with a column":           func(q *gorm.DB) *gorm.DB { return q.Where(clause.Eq{Column: col("name"), Value: name}) },
		"Eq with nil":                func(q *gorm.DB) *gorm.DB { return q.Where(clause.Eq{Column: col("name"), Value: nil}) },
		"Neq":                        func(q *gorm.DB) *gorm.DB { return q.Where(clause.Neq{Column: col("name"), Value: "x"}) },
		"Gt":                         func(q *gorm.DB) *gorm.DB { return q.Where(clause.Gt{Column: col("name"), Value: "x"}) },
		"clause.IN":                  func(q *gorm.DB) *gorm.DB { return q.Where(clause.IN{Column: col("name"), Values: []any{"x", "y"}}) },
		"clause.Like":                func(q *gorm.DB) *gorm.DB { return q.Where(clause.Like{Column: col("name"), Value: "%"}) },
		"clause.Expr":                func(q *gorm.DB) *gorm.DB { return q.Where(clause.Expr{SQL: "name = ?", Vars: []any{"x"}}) },
		"gorm.Expr with a column":    func(q *gorm.DB) *gorm.DB { return q.Where(gorm.Expr("? = ?", col("name"), "x")) },
		"NamedExpr": func(q *gorm.DB) *gorm.DB {
			return q.Where(clause.NamedExpr{SQL: "name = @n", Vars: []any{sql.Named("n", "x")}})
		},
		"AND":            func(q *gorm.DB) *gorm.DB { return q.Where(clause.And(clause.Eq{Column: col("name"), Value: "x"})) },
		"Or":             func(q *gorm.DB) *gorm.DB { return q.Where("active = ?", true).Or("name = ?", "x") },
		"clause.Or":      func(q *gorm.DB) *gorm.DB { return q.Where(clause.Or(clause.Eq{Column: col("name"), Value: "x"})) },
		"Not":            func(q *gorm.DB) *gorm.DB { return q.Not("name = ?", "x") },
		"Not with a map": func(q *gorm.DB) *gorm.DB { return q.Not(map[string]any{"name": "x"}) },
		"a group": func(q *gorm.DB) *gorm.DB {
			return q.Where(q.Session(&gorm.Session{NewDB: true}).Where("name = ?", "x").Or("active"))
		},
		"a scope": func(q *gorm.DB) *gorm.DB {
			return q.Scopes(func(q *gorm.DB) *gorm.DB { return q.Where("name = ?", "x") })
		},
		"beside a Match": func(q *gorm.DB) *gorm.DB { return q.Where(storage.Match("Name", "jane")).Where("name = ?", "x") },
		"in the parameters of a Match": func(q *gorm.DB) *gorm.DB {
			return q.Where("active OR ? AND name IS NULL", storage.Match("Name", "jane"))
		},
		"Order":                  func(q *gorm.DB) *gorm.DB { return q.Order("name") },
		"Order desc":             func(q *gorm.DB) *gorm.DB { return q.Order("active, name desc") },
		"Order by an expression": func(q *gorm.DB) *gorm.DB { return q.Order("name IS NULL") },
		"OrderByColumn": func(q *gorm.DB) *gorm.DB {
			return q.Order(clause.OrderByColumn{Column: clause.Column{Name: "name"}, Desc: true})
		},
		"clause.OrderBy": func(q *gorm.DB) *gorm.DB {
			return q.Clauses(clause.OrderBy{Columns: []clause.OrderByColumn{{Column: col("name")}}})
		},
		"an expression order": func(q *gorm.DB) *gorm.DB { return q.Clauses(clause.OrderBy{Expression: clause.Expr{SQL: "name"}}) },
		"Group":               func(q *gorm.DB) *gorm.DB { return q.Group("name") },
		"Having":              func(q *gorm.DB) *gorm.DB { return q.Group("id").Having("max(name) > ?", "x") },
		"Distinct":            func(q *gorm.DB) *gorm.DB { return q.Distinct("lower(name)") },
		"a subquery": func(q *gorm.DB) *gorm.DB {
			return q.Where("id IN (?)", q.Session(&gorm.Session{NewDB: true, Context: q.Statement.Context}).Model(&Patient{}).Select("id").Where("name = ?", "x"))
		},
		"a subquery in text": func(q *gorm.DB) *gorm.DB { return q.Where("id IN (SELECT id FROM patients WHERE name IS NULL)") },
		"the index itself":   func(q *gorm.DB) *gorm.DB { return q.Where("id IN (SELECT record_id FROM phi_index)") },
		"ON of a join":       func(q *gorm.DB) *gorm.DB { return q.Joins("LEFT JOIN patients p2 ON p2.name = patients.name") },
		"a join's condition": func(q *gorm.DB) *gorm.DB { return q.Joins("JOIN encounters e ON e.reason IS NULL") },
		"a Match in HAVING":  func(q *gorm.DB) *gorm.DB { return q.Group("id").Having(storage.Match("Name", "jane")) },
		"a Match in Order":   func(q *gorm.DB) *gorm.DB { return q.Clauses(clause.OrderBy{Expression: storage.Match("Name", "jane")}) },
		"a Match in Select":  func(q *gorm.DB) *gorm.DB { return q.Clauses(clause.Select{Expression: storage.Match("Name", "jane")}) },
		"a Match in a NamedExpr": func(q *gorm.DB) *gorm.DB {
			return q.Where(clause.NamedExpr{SQL: "@m", Vars: []any{map[string]any{"m": storage.Match("Name", "jane")}}})
		},
	}
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		ctx := physician(t)
		p := created(t, db, ctx, jane())
		created(t, db, ctx, Patient{})
		for what, try := range tries {
			var rows []Patient
			err := try(db.WithContext(ctx)).Find(&rows).Error
			if !errors.Is(err, storage.ErrRefused) || len(rows) > 0 {
				t.Errorf("%s: Find gives %d rows, %v; want ErrRefused", what, len(rows), err)
			}
			if err != nil && (strings.Contains(err.Error(), "Jane") || strings.Contains(err.Error(), p.ID)) {
				t.Errorf("%s: the error quotes a value: %v", what, err)
			}
			if strings.Contains(what, "Select") || strings.Contains(what, "Distinct") || strings.Contains(what, "rder") {
				continue // Count has a select list of its own, and drops the order
			}
			var n int64
			if err := try(db.WithContext(ctx).Model(&Patient{})).Count(&n).Error; !errors.Is(err, storage.ErrRefused) || n > 0 {
				t.Errorf("%s: Count gives %d, %v; want ErrRefused", what, n, err)
			}
			if r := try(db.WithContext(ctx).Model(&Patient{})).Updates(map[string]any{"active": true}); r.Error == nil || r.RowsAffected > 0 {
				t.Errorf("%s: Updates touches %d rows, %v", what, r.RowsAffected, r.Error)
			}
			if r := try(db.WithContext(ctx)).Delete(&Patient{}); r.Error == nil || r.RowsAffected > 0 {
				t.Errorf("%s: Delete touches %d rows, %v", what, r.RowsAffected, r.Error)
			}
		}
		var names []string
		for what, err := range map[string]error{
			"Pluck":           db.WithContext(ctx).Model(&Patient{}).Order("name").Pluck("id", &names).Error,
			"Pluck of itself": db.WithContext(ctx).Model(&Patient{}).Pluck("name", &names).Error,
			"First's order":   db.WithContext(ctx).Order("name").First(&Patient{}).Error,
			"inline":          db.WithContext(ctx).First(&Patient{}, "name = ?", "x").Error,
			"FirstOrInit":     db.WithContext(ctx).FirstOrInit(&Patient{}, Patient{Name: name}).Error,
			"FirstOrCreate":   db.WithContext(ctx).Where(Patient{Name: name}).FirstOrCreate(&Patient{}).Error,
			"Preload":         db.WithContext(ctx).Preload("Encounters", "reason IS NULL").Find(&[]Patient{}).Error,
			"Preload's order": db.WithContext(ctx).Preload("Encounters", func(q *gorm.DB) *gorm.DB { return q.Order("reason") }).Find(&[]Patient{}).Error,
			"the generic API": func() error { _, err := gorm.G[Patient](db.DB).Where("name = ?", "x").Find(ctx); return err }(),
			"a generic order": func() error { _, err := gorm.G[Patient](db.DB).Order("name").Find(ctx); return err }(),
			"Rows": func() error {
				r, err := db.WithContext(ctx).Model(&Patient{}).Where("name = ?", "x").Rows()
				closeRows(r)
				return err
			}(),
			"raw SQL":       db.WithContext(ctx).Raw("SELECT * FROM patients ORDER BY name").Find(&[]Patient{}).Error,
			"FindInBatches": db.WithContext(ctx).Where("name = ?", "x").FindInBatches(&[]Patient{}, 1, func(*gorm.DB, int) error { return nil }).Error,
		} {
			if !errors.Is(err, storage.ErrRefused) || len(names) > 0 {
				t.Errorf("%s: %v, want ErrRefused", what, err)
			}
		}
		// The hint names what to do instead.
		err := db.WithContext(ctx).Order("name").Find(&[]Patient{}).Error
		if err == nil || !strings.Contains(err.Error(), "storage.Match") || !strings.Contains(err.Error(), "storage.List") {
			t.Errorf("the hint is %v", err)
		}
	})
}

func closeRows(r *sql.Rows) {
	if r != nil {
		_ = r.Err()
		_ = r.Close()
	}
}

// Models whose fields must not be searched unsaid, or cannot be.
type (
	searchSex struct {
		storage.PatientRecord
		Sex storage.Sealed[string] `phi:"uid,search=exact"`
	}
	searchGender struct {
		storage.PatientRecord
		LegalGender storage.Sealed[string] `phi:"uid,search=exact"`
	}
	searchState struct {
		storage.PatientRecord
		HomeState storage.Sealed[string] `phi:"uid,search=name"`
	}
	searchZIP3 struct {
		storage.PatientRecord
		Zip3 storage.Sealed[string] `phi:"uid,search=exact"`
	}
	searchZIP struct {
		storage.PatientRecord
		Post storage.Sealed[string] `phi:"zip,search=exact"`
	}
	searchCity struct {
		storage.PatientRecord
		Town storage.Sealed[string] `phi:"city,search=name"`
	}
	searchBool struct {
		storage.PatientRecord
		Consent storage.Sealed[bool] `phi:"uid,search=exact"`
	}
	searchYear struct {
		storage.PatientRecord
		Born storage.Sealed[string] `phi:"dob,search=exact,search=year"`
	}
	searchDiagnosis struct {
		storage.PatientRecord
		Code storage.Sealed[string] `phi:"problem,search=exact"`
	}
	searchStruct struct {
		storage.PatientRecord
		Address storage.Sealed[struct{ Street string }] `phi:"street,search=exact"`
	}
	searchNumber struct {
		storage.PatientRecord
		Number storage.Sealed[int] `phi:"uid,search=name"`
	}
	searchUnique struct {
		storage.PatientRecord
		Numbers storage.Sealed[[]string] `phi:"mrn,search=exact,unique"`
	}
)

func TestFewValuesAreNotSearchedUnsaid(t *testing.T) {
	t.Parallel()
	guess := "guessable"
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() })
	for _, tt := range []struct {
		model any
		says  string
	}{
		{&searchSex{}, guess}, {&searchGender{}, guess}, {&searchState{}, guess}, {&searchZIP3{}, guess}, {&searchZIP{}, guess}, {&searchCity{}, guess},
		{&searchBool{}, guess}, {&searchYear{}, guess}, {&searchDiagnosis{}, guess},
		{&searchStruct{}, "no one value"}, {&searchNumber{}, "strings and lists"}, {&searchUnique{}, "single values"},
	} {
		if err := storage.Migrate(t.Context(), db.DB, tt.model); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Migrate(%T) = %v, want an error with %q", tt.model, err, tt.says)
		}
		// At plan time too, for those who do not call Migrate.
		if err := db.WithContext(physician(t)).Create(tt.model).Error; err == nil {
			t.Errorf("Create(%T) goes through", tt.model)
		}
	}
	// Said, it is done.
	if err := storage.Migrate(t.Context(), db.DB, &searchSaid{}); err != nil {
		t.Fatal(err)
	}
	ctx := physician(t)
	for _, v := range []bool{true, false} {
		if err := db.WithContext(ctx).Create(&searchSaid{Sex: storage.Seal("female"), Consent: storage.Seal(v)}).Error; err != nil {
			t.Fatal(err)
		}
	}
	var n int64
	if err := db.WithContext(ctx).Model(&searchSaid{}).Where(storage.Match("Consent", "true")).Count(&n).Error; err != nil || n != 1 {
		t.Errorf("Match counts %d, %v; want 1", n, err)
	}
}

type searchSaid struct {
	storage.PatientRecord
	Sex     storage.Sealed[string] `phi:"uid,search=exact,guessable"`
	Consent storage.Sealed[bool]   `phi:"uid,search=exact,guessable"`
}
