// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// grants are live for everybody.
type grants []pdp.Grant

func (g *grants) Live(context.Context, access.Principal, time.Time) ([]pdp.Grant, error) {
	return *g, nil
}
func (*grants) Requestable(context.Context, access.Principal) []string { return nil }

// A role that somebody holds for a time, for one patient, shows and changes what
// that role may, of that patient only. Each use is on record with its grant.
func TestGrantedRole(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		held := &grants{}
		point, err := pdp.New(pdp.Config{Policy: rbac.Starter(), Grants: held})
		if err != nil {
			t.Fatal(err)
		}
		trail := audittest.New(t)
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.Audit = point, trail }, &Patient{}, &Encounter{})
		a, b := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
		ctx := accesstest.As(t, t.Context(), "admin", access.Treatment)
		var all []Patient
		if err := db.WithContext(ctx).Find(&all).Error; !errors.Is(err, access.ErrDenied) {
			t.Fatalf("without a grant: %d rows, %v", len(all), err)
		}
		const id = "01890a5d-ac96-774b-bcce-b302099a8058"
		*held = grants{{ID: id, Role: "physician", Patient: a.ID, Purposes: []access.Purpose{access.Treatment}, Until: time.Now().Add(time.Hour)}}
		if err := db.WithContext(ctx).Find(&all).Error; err != nil || len(all) != 1 || all[0].ID != a.ID {
			t.Fatalf("with a grant: %d rows, %v", len(all), err)
		}
		if err := storage.Reveal(ctx, &all); err != nil {
			t.Fatal(err)
		}
		if name, err := all[0].Name.Get(ctx); err != nil || name != "Roe" {
			t.Errorf("the name is %q, %v", name, err)
		}
		if err := db.WithContext(ctx).Model(&all[0]).Update("name", storage.Seal("Roe-Doe")).Error; err != nil {
			t.Errorf("Update = %v", err)
		}
		if err := db.WithContext(ctx).Model(&Patient{}).Where("id = ?", b.ID).Update("name", storage.Seal("Poe")).Error; err == nil && string(storagetest.RawColumn(t, db.DB, "patients", "name", b.ID)) == "Poe" {
			t.Error("the other patient was changed")
		}
		if err := storage.Settle(ctx, db.DB); err != nil {
			t.Fatal(err)
		}
		seen := map[audit.Type]int{}
		for _, ev := range trail.Events() {
			if ev.Code != access.AllowGrant {
				continue
			}
			if ev.Grant != id || slices.ContainsFunc(ev.Objects, func(o audit.Object) bool { return o.Type == "grant" }) {
				t.Errorf("%s does not name the grant, or does so twice: %q, %+v", ev.Type, ev.Grant, ev.Objects)
			}
			seen[ev.Type]++
		}
		for _, typ := range []audit.Type{audit.Revealed, audit.WriteAttempt} {
			if seen[typ] == 0 {
				t.Errorf("no %s is on record as by a grant: %v", typ, seen)
			}
		}

		// It ends, and what was read under it cannot be read again.
		*held = nil
		var one Patient
		if err := db.WithContext(ctx).Take(&one, "id = ?", a.ID).Error; !errors.Is(err, access.ErrDenied) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// What rests on two grants at once names both.
func TestTwoGrantsOfOneReveal(t *testing.T) {
	t.Parallel()
	held := &grants{}
	point, err := pdp.New(pdp.Config{Policy: rbac.Starter(), Grants: held})
	if err != nil {
		t.Fatal(err)
	}
	db := storagetest.Open(t, openSQLite(t), func(c *storage.Config) { c.Access = point }, &Patient{}, &Encounter{})
	a, b := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
	ctx := accesstest.As(t, t.Context(), "nurse", access.BreakGlass)
	const one, two = "01890a5d-ac96-774b-bcce-b302099a8051", "01890a5d-ac96-774b-bcce-b302099a8052"
	for id, patient := range map[string]string{one: a.ID, two: b.ID} {
		*held = append(*held, pdp.Grant{ID: id, BreakGlass: true, Patient: patient, Purposes: []access.Purpose{access.BreakGlass}, Until: time.Now().Add(time.Hour)})
	}
	var all []Patient
	if err := db.WithContext(ctx).Find(&all, "id IN ?", []string{a.ID, b.ID}).Error; err != nil || len(all) != 2 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	if err := storage.Reveal(ctx, &all); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{one, two} {
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Revealed, Code: access.AllowBreakGlass, Objects: []audit.Object{{Type: "grant", Record: id}}})
	}
}

// Emergency access shows one patient, and changes nothing; each use says so.
func TestBrokenGlass(t *testing.T) {
	t.Parallel()
	held := &grants{}
	point, err := pdp.New(pdp.Config{Policy: rbac.Starter(), Grants: held})
	if err != nil {
		t.Fatal(err)
	}
	trail := audittest.New(t)
	db := storagetest.Open(t, openSQLite(t), func(c *storage.Config) { c.Access, c.Audit = point, trail }, &Patient{}, &Encounter{})
	a, b := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe")
	ctx := accesstest.As(t, t.Context(), "nurse", access.BreakGlass)
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	*held = grants{{ID: id, BreakGlass: true, Patient: a.ID, Purposes: []access.Purpose{access.BreakGlass}, Until: time.Now().Add(time.Hour)}}
	var all []Patient
	if err := db.WithContext(ctx).Find(&all, "id IN ?", []string{a.ID, b.ID}).Error; err != nil || len(all) != 1 || all[0].ID != a.ID {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	if err := storage.Reveal(ctx, &all); err != nil {
		t.Fatal(err)
	}
	if name, err := all[0].Name.Get(ctx); err != nil || name != "Roe" {
		t.Errorf("the name is %q, %v", name, err)
	}
	if err := db.WithContext(ctx).Model(&all[0]).Update("name", storage.Seal("Poe")).Error; !errors.Is(err, access.ErrDenied) {
		t.Errorf("Update = %v", err)
	}
	n := 0
	for _, ev := range trail.Events() {
		if ev.Type == audit.Revealed && ev.Code == access.AllowBreakGlass && ev.Purpose == access.BreakGlass && ev.Grant == id {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d reveals are on record as emergency access, want 1", n)
	}
}
