// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"errors"
	"log"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	var refused *storage.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("%s: %v, want a RefusedError", what, err)
	}
}

// hint is what plugins for optimizer hints do: it puts a text behind a clause.
type hint struct{ clause, sql string }

func (h hint) Build(clause.Builder) {}

func (h hint) ModifyStatement(s *gorm.Statement) {
	c := s.Clauses[h.clause]
	c.AfterExpression = clause.Expr{SQL: h.sql}
	s.Clauses[h.clause] = c
}

// A modifier would replace or keep rows that storage does not know of, of other
// tenants too.
func TestNoModifierOrHintInAWrite(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{})
		one := accesstest.AsIn(t, t.Context(), "t-one", "physician", access.Treatment)
		two := accesstest.AsIn(t, t.Context(), "t-two", "physician", access.Treatment)
		p := jane()
		if err := db.WithContext(one).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{"OR REPLACE", "OR IGNORE", "IGNORE"} {
			q := jane()
			q.ID = p.ID
			wantRefused(t, m, db.WithContext(two).Clauses(clause.Insert{Modifier: m}).Create(&q).Error)
			wantRefused(t, "UPDATE "+m, db.WithContext(one).Clauses(clause.Update{Modifier: m}).Model(&p).Update("active", true).Error)
			wantRefused(t, "DELETE "+m, db.WithContext(one).Clauses(clause.Delete{Modifier: m}).Delete(&p).Error)
		}
		wantRefused(t, "another table", db.WithContext(one).Clauses(clause.Insert{Table: clause.Table{Name: "patients"}}).Create(&Patient{Name: storage.Seal("x")}).Error)
		for _, h := range []hint{{"SET", ", tenant_id = 't-two'"}, {"WHERE", " OR 1 = 1"}, {"UPDATE", "/* hint */"}} {
			wantRefused(t, "behind "+h.clause, db.WithContext(one).Clauses(h).Model(&p).Update("active", true).Error)
		}
		wantRefused(t, "behind VALUES", db.WithContext(one).Clauses(hint{"VALUES", " ON CONFLICT DO NOTHING"}).Create(&Patient{Name: storage.Seal("x")}).Error)
		if raw := storagetest.RawColumn(t, db.DB, "patients", "tenant_id", p.ID); string(raw) != "t-one" {
			t.Errorf("the row belongs to %s now", raw)
		}
	})
}

// A session may bring another logger than the one that was looked at when the
// database was opened.
func TestNoLoggerOfASessionPrintsArguments(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDB(t, &Patient{})
	ctx := physician(t)
	var buf bytes.Buffer
	loud := db.Session(&gorm.Session{Logger: logger.New(log.New(&buf, "", 0), logger.Config{LogLevel: logger.Info})}).WithContext(ctx)
	p := jane()
	p.NextVisit = time.Date(1999, 8, 7, 6, 5, 4, 0, time.UTC)
	wantRefused(t, "Create", loud.Create(&p).Error)
	wantRefused(t, "Find", loud.Where("next_visit < ?", p.NextVisit).Find(&[]Patient{}).Error)
	wantRefused(t, "Updates", loud.Model(&Patient{}).Where("active").Updates(map[string]any{"next_visit": p.NextVisit}).Error)
	if strings.Contains(buf.String(), "1999") && !strings.Contains(buf.String(), "storage:") {
		t.Errorf("printed: %s", buf.String())
	}
	quiet := db.Session(&gorm.Session{Logger: logger.New(log.New(&buf, "", 0), logger.Config{LogLevel: logger.Info, ParameterizedQueries: true})}).WithContext(ctx)
	buf.Reset()
	if err := quiet.Create(&p).Error; err != nil {
		t.Error(err)
	}
	var got []string // GORM's Scan has a logger of its own
	raw := quiet.WithContext(storage.Outside(ctx, audit.ReasonRepair)).Raw("SELECT id FROM patients WHERE next_visit = ?", p.NextVisit)
	if err := raw.Scan(&got).Error; err != nil || len(got) != 1 {
		t.Errorf("Scan: %d, %v", len(got), err)
	}
	if buf.Len() == 0 || strings.Contains(buf.String(), "1999") {
		t.Errorf("printed: %s", buf.String())
	}
}

type asking struct {
	gorm.Dialector
	ask func(*gorm.DB)
}

func (a asking) Initialize(db *gorm.DB) error {
	return errors.Join(a.Dialector.Initialize(db),
		db.Callback().Query().After("gorm:query").Register("app:ask", a.ask),
		db.Callback().Create().After("gorm:create").Register("app:ask", a.ask))
}

// What another plugin's callback asks for during storage's own statements is
// scoped like everything else.
func TestCallbacksOfAnotherPluginAreScoped(t *testing.T) {
	t.Parallel()
	var ask func(*gorm.DB)
	var asks atomic.Bool
	// Before anything runs: GORM's registry is not safe beside statements.
	db := storagetest.Open(t, asking{openSQLite(t), func(tx *gorm.DB) {
		if asks.Load() {
			ask(tx)
		}
	}}, nil, &Patient{})
	one := accesstest.AsIn(t, t.Context(), "t-one", "physician", access.Treatment)
	two := accesstest.AsIn(t, t.Context(), "t-two", "physician", access.Treatment)
	p, q := jane(), jane()
	if err := errors.Join(db.WithContext(one).Create(&p).Error, db.WithContext(two).Create(&q).Error); err != nil {
		t.Fatal(err)
	}
	var calls, busy atomic.Int32 // the relay's statements run it too
	ask = func(tx *gorm.DB) {
		if !busy.CompareAndSwap(0, 1) {
			return
		}
		defer busy.Store(0)
		calls.Add(1)
		var all []Patient
		_ = tx.Session(&gorm.Session{NewDB: true}).Find(&all).Error
		for _, x := range all {
			if x.TenantID != "t-two" {
				t.Errorf("a callback saw a record of %s", x.TenantID)
			}
		}
	}
	asks.Store(true)
	if err := db.WithContext(two).Model(&q).Update("active", true).Error; err != nil {
		t.Fatal(err)
	}
	if calls.Load() == 0 {
		t.Error("the callback was not called")
	}
}

// The text of a whole row holds the columns that the caller must not see.
func TestNoWholeRowOfAJoinedTable(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &stay{})
		ctx := physician(t)
		p := jane()
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.WithContext(ctx).Create(&stay{PatientID: p.ID}).Error; err != nil {
			t.Fatal(err)
		}
		q := func(s string) string { return strings.ReplaceAll(s, "@", db.Statement.Quote("Patient")) }
		var got []stay
		if err := db.WithContext(ctx).Joins("Patient").Where(q("@.active = ?"), false).Find(&got).Error; err != nil || len(got) > 1 {
			t.Errorf("a column of the joined table: %d, %v", len(got), err)
		}
		for _, cond := range []string{"@::text LIKE '%Jane%'", "@ IS NOT NULL", "CAST(@ AS CHAR) LIKE '%1%'"} {
			wantRefused(t, cond, db.WithContext(ctx).Joins("Patient").Where(q(cond)).Find(&got).Error)
		}
		wantRefused(t, "ORDER BY", db.WithContext(ctx).Joins("Patient").Order(q("@")).Find(&got).Error)
	})
}

type stay struct {
	storage.Record
	PatientID string  `phi:"subject" gorm:"size:36"`
	Patient   Patient `phi:"-" gorm:"constraint:-"`
}

func (stay) ResourceType() string { return "encounter" }

// MariaDB compares text without regard to case.
func TestTenantsThatDifferInCaseAreApart(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{})
		lower := accesstest.AsIn(t, t.Context(), "acme", "physician", access.Treatment)
		upper := accesstest.AsIn(t, t.Context(), "ACME", "physician", access.Treatment)
		p := jane()
		if err := db.WithContext(lower).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		var got []Patient
		err := db.WithContext(upper).Find(&got).Error
		if len(got) > 0 {
			t.Errorf("ACME sees %d records of acme", len(got))
		}
		q := jane()
		cerr := db.WithContext(upper).Create(&q).Error
		if db.Name() == "mysql" {
			wantRefused(t, "Find", err)
			wantRefused(t, "Create", cerr)
		} else if err != nil || cerr != nil {
			t.Error(err, cerr)
		}
	})
}
