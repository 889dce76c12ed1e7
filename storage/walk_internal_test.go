// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/sqlite"
)

type walked struct {
	PatientRecord
	Name Sealed[string] `phi:"name"`
	SSN  Sealed[string] `phi:"ssn"`
	Gone gorm.DeletedAt `phi:"-"`
}

type walkedNote struct {
	Record
	PatientID string         `phi:"subject" gorm:"size:36"`
	Text      Sealed[string] `phi:"text"`
}

func openWalked(t *testing.T, path string, models ...any) *gorm.DB {
	t.Helper()
	db, err := Open(sqlite.Open(path), Config{KEK: walkKEK, Audit: audittest.New(t), Access: accesstest.Allow(), Minimize: minimize.Starter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Close(db) })
	if err := Migrate(t.Context(), db, models...); err != nil {
		t.Fatal(err)
	}
	return db
}

var walkKEK = cryptotest.NewKEK()

func TestAWalkSeesEveryRowOnce(t *testing.T) {
	t.Parallel()
	db := openWalked(t, filepath.Join(t.TempDir(), "test.db"), &walked{}, &walkedNote{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	want := map[string]bool{}
	for i := range 25 {
		w := walked{Name: Seal("Jane Roe")}
		if err := db.WithContext(ctx).Create(&w).Error; err != nil {
			t.Fatal(err)
		}
		want[w.ID] = true
		if i%5 == 0 {
			if err := db.WithContext(ctx).Delete(&w).Error; err != nil {
				t.Fatal(err)
			}
		}
		if err := db.WithContext(ctx).Create(&walkedNote{PatientID: w.ID, Text: Seal("note")}).Error; err != nil {
			t.Fatal(err)
		}
	}
	p, _ := pluginOf(db)
	models, err := p.allModels(t.Context())
	if err != nil || len(models) != 2 {
		t.Fatalf("allModels: %d, %v", len(models), err)
	}
	s := selection{m: models[1], tenant: accesstest.Tenant, limit: 7, extra: []string{"gone"}}
	if s.m.table != "walkeds" {
		s.m = models[0]
	}
	if n, err := p.countStored(t.Context(), inner(p.pool), s); n != 25 || err != nil {
		t.Errorf("count = %d, %v, want 25 with the softly deleted ones", n, err)
	}
	seen := map[string]bool{}
	for {
		page, err := p.stored(t.Context(), inner(p.pool), s)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if seen[r.record] || !want[r.record] || r.subject != r.record || r.tenant != accesstest.Tenant || r.version != 1 {
				t.Errorf("row %+v", r.row)
			}
			if len(r.cells) != 2 || len(r.cells[0]) == 0 || r.cells[1] != nil || bytes.Contains(r.cells[0], []byte("Jane")) {
				t.Error("cells are not as stored")
			}
			seen[r.record] = true
		}
		s.after = page[len(page)-1].record
	}
	if len(seen) != len(want) {
		t.Errorf("%d rows seen, want %d", len(seen), len(want))
	}
	for _, tt := range []struct {
		s    selection
		want int
	}{
		{selection{m: s.m, tenant: "t-other"}, 0},
		{selection{m: s.m, tenant: accesstest.Tenant, subject: s.after}, 1},
		{selection{m: s.m, tenant: accesstest.Tenant, records: []string{}}, 0},
		{selection{m: s.m, tenant: accesstest.Tenant, records: []string{s.after}, lock: true}, 1},
	} {
		if page, err := p.stored(t.Context(), inner(p.pool), tt.s); err != nil || len(page) != tt.want {
			t.Errorf("%+v: %d rows, %v; want %d", tt.s, len(page), err, tt.want)
		}
	}
}

func TestAForgottenModelIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	if err := Close(openWalked(t, path, &walked{}, &walkedNote{})); err != nil {
		t.Fatal(err)
	}
	p, _ := pluginOf(openWalked(t, path, &walked{}))
	_, err := p.allModels(t.Context())
	var re *RefusedError
	if !errors.As(err, &re) || re.Table != "walked_notes" {
		t.Errorf("allModels = %v, want a RefusedError that names walked_notes", err)
	}
}

func TestProgressSaysHowLong(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var out bytes.Buffer
	g := startProgress(&out, func() time.Time { return now }, "check", 100, 400)
	now = now.Add(10 * time.Second)
	g.add(100)
	if g.rate() != 10 || g.left() != 20*time.Second {
		t.Errorf("rate %v, left %v; want 10 rows/s and 20s", g.rate(), g.left())
	}
	g.end()
	if out.Len() > 0 {
		t.Error("something that is no terminal was written to")
	}
	g.out = &out // as a terminal
	now = now.Add(time.Second)
	g.add(100)
	g.end()
	if s := out.String(); strings.Count(s, "\r") < 2 || !strings.Contains(s, "check: 300 of 400 rows, 18 rows/s, 5s left") || strings.Count(s, "\n") != 1 {
		t.Errorf("on a terminal: %q", s)
	}
}
