// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

type Patient struct {
	storage.PatientRecord
	Name storage.Sealed[string] `phi:"name"`
	SSN  storage.Sealed[string] `phi:"ssn"`
}

func TestNewDBIsTheWholeStack(t *testing.T) {
	t.Parallel()
	var ids []string
	for range 2 {
		db := storagetest.NewDB(t, &Patient{})
		ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
		p := Patient{Name: storage.Seal("Jane Roe")}
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
		raw := storagetest.RawColumn(t, db.DB, "patients", "name", p.ID)
		if len(raw) < 34 || strings.Contains(string(raw), "Jane") {
			t.Errorf("RawColumn = %d bytes", len(raw))
		}
		if raw := storagetest.RawColumn(t, db.DB, "patients", "ssn", p.ID); raw != nil {
			t.Errorf("RawColumn of NULL = %x", raw)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.WriteAttempt, Objects: []audit.Object{{Record: p.ID, Fields: []string{"Name"}}}})
	}
	if ids[0] != ids[1] {
		t.Error("record IDs differ from run to run")
	}
}

func TestNewDBWithAnotherPolicy(t *testing.T) {
	t.Parallel()
	pol, err := minimize.New([]minimize.Rule{{Role: "physician", Purposes: []access.Purpose{access.Treatment}, View: minimize.Mask, Right: minimize.Change, Classes: []minimize.Class{minimize.Name}}})
	if err != nil {
		t.Fatal(err)
	}
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Minimize = pol }, &Patient{})
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	p := Patient{Name: storage.Seal("Jane Roe")}
	if err := db.WithContext(ctx).Create(&p).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &p); err != nil || p.Name.Text(ctx) != "J*** R***" {
		t.Errorf("Text = %q, %v", p.Name.Text(ctx), err)
	}
}

func TestSeededIDs(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b, c := storagetest.SeededIDs(1), storagetest.SeededIDs(1), storagetest.SeededIDs(2)
	seen := map[string]bool{}
	for range 1000 {
		x, y, z := a(), b(), c()
		if x != y || x == z {
			t.Fatal("the seed does not decide")
		}
		if !form.MatchString(x) {
			t.Fatalf("%s is no UUID", x)
		}
		if seen[x] || seen[z] {
			t.Fatal("an ID came twice")
		}
		seen[x], seen[z] = true, true
	}
	shared := storagetest.SeededIDs(3)
	var mu sync.Mutex
	var all []string
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				id := shared()
				mu.Lock()
				all = append(all, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	if len(slices.Compact(all)) != 800 {
		t.Error("an ID came twice")
	}
}
