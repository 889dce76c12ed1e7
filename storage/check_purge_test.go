// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
)

// An aged is a database whose journal began seven years ago.
type aged struct {
	*checked
	journal *audit.Journal
	by      atomic.Int64 // what its clock is off
}

func newAged(t *testing.T, d gorm.Dialector, seed uint64) *aged {
	t.Helper()
	a := new(aged)
	a.by.Store(int64(-7 * 366 * 24 * time.Hour))
	var err error
	a.journal, err = audit.Open(filepath.Join(audittest.Dir(t), "journal"), audit.Config{
		Development: true, SegmentSize: 256 << 10, Timeout: time.Minute, Now: func() time.Time { return time.Now().Add(time.Duration(a.by.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.journal.Close() })
	a.checked = newCheckedWith(t, d, seed, func(cfg *storage.Config) { cfg.Audit.(*lossyTrail).follower = a.journal })
	return a
}

func (a *aged) officer() (ctx func() error, purge func() audit.PurgeRecord) {
	as := access.With(a.Context(), access.Principal{ID: "u-9", Tenant: accesstest.Tenant, Kind: access.Human}, access.Compliance)
	return func() error { return a.journal.RotateKeys(as) }, func() audit.PurgeRecord {
		a.Helper()
		r, err := a.journal.Purge(as, audit.Purge{ClockChecked: true})
		a.must(err)
		return r
	}
}

// purge lets seven years pass, and removes what is old.
func (a *aged) purge() {
	a.Helper()
	a.must(storage.Settle(a.Context(), a.DB.DB))
	var many []audit.Object
	for i := range 1000 {
		id := fmt.Sprint("r-", i)
		many = append(many, audit.Object{Type: "patient", Record: id, Patient: id})
	}
	for range 4 { // more than a segment, so that what was written before is in a complete one
		_, err := a.journal.Record(a.ctx, audit.Event{Type: audit.Searched, Outcome: audit.Success, Objects: many})
		a.must(err)
	}
	a.by.Add(int64(7 * 366 * 24 * time.Hour))
	_, purge := a.officer()
	if r := purge(); r.Segments == 0 || r.Carried == nil {
		a.Fatalf("Purge = %+v", r)
	}
	v, err := audit.Verify(a.Context(), a.journal.Dir(), audit.VerifyConfig{})
	if err != nil || v.Purged == nil || slices.ContainsFunc(v.Defects, func(d audit.Defect) bool { return d.File != "" && v.Unsigned == 0 }) {
		a.Fatalf("Verify = %v, %v", v.Defects, err)
	}
}

// A purge takes the events of old writes, and neither makes Check see what is
// not there nor hides what is.
func TestCheckAfterAPurge(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		a := newAged(t, d, 7)
		for range 15 {
			a.legal()
		}
		flipped, nulled, older := a.newPatient(a.g()), a.newPatient(a.g()), a.newPatient(a.g())
		gone := a.newChart(a.g(), flipped)
		deleted := a.newChart(a.g(), flipped)
		back := a.keep("charts", deleted.ID)
		a.must(a.g().Unscoped().Delete(&Chart{}, "id = ?", deleted.ID).Error)
		was := a.raw("patients", "name", older.ID)
		a.must(a.g().Model(&Patient{}).Where("id = ?", older.ID).Update("name", storage.Seal("Poe")).Error)
		from, into, moved := a.merged()
		a.wantClean("before")
		a.purge()
		a.wantClean("after a purge")

		// Written to on both sides of it.
		a.must(a.g().Model(&Patient{}).Where("id = ?", into.ID).Update("ssn", storage.Seal("987-65-4321")).Error)
		for range 5 {
			a.legal()
		}
		a.wantClean("after more writes")
		a.purge()
		a.wantClean("after a second purge")

		raw := a.raw("patients", "name", flipped.ID)
		raw[len(raw)-1] ^= 1
		a.sql("UPDATE patients SET name = ? WHERE id = ?", raw, flipped.ID)
		a.sql("UPDATE patients SET mrn = NULL WHERE id = ?", nulled.ID)
		a.sql("UPDATE patients SET name = ? WHERE id = ?", was, older.ID)
		a.sql("DELETE FROM charts WHERE id = ?", gone.ID)
		back()
		a.sql("UPDATE charts SET patient_id = ? WHERE id = ?", from.ID, moved.ID)
		want := sortFindings([]storage.Finding{
			find(storage.BadCell, "patients", "Name", flipped.ID),
			find(storage.NulledCell, "patients", "MRN", nulled.ID),
			find(storage.OldCell, "patients", "Name", older.ID),
			find(storage.MissingRow, "charts", "", gone.ID),
			find(storage.OrphanToken, "charts", "", gone.ID),
			find(storage.ExtraRow, "charts", "", deleted.ID), // and nothing of a record that was deleted
		})
		var got []storage.Finding
		moves := 0
		for _, f := range a.check().Findings {
			if f.Record == moved.ID {
				moves++
				continue
			}
			if !slices.Contains(got, f) {
				got = append(got, f)
			}
		}
		if got = sortFindings(got); !slices.Equal(got, want) || moves == 0 {
			t.Errorf("got %v (%d of the record that was moved)\nwant %v", got, moves, want)
		}
		// Keys that go on change nothing of it.
		before := a.check().Findings
		rotate, _ := a.officer()
		a.must(rotate())
		if after := a.check().Findings; !slices.Equal(after, before) {
			t.Errorf("after a rotation of the journal's keys\n%v\nbefore\n%v", after, before)
		}
	})
}

// Every defect that Check names, it names with a journal that was purged and
// whose keys were rotated.
func TestCheckNamesEachDefectAfterAPurgeAndARotation(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		a := newAged(t, d, 8)
		for range 5 {
			a.legal()
		}
		a.newPatient(a.g())
		a.purge()
		rotate, _ := a.officer()
		a.must(rotate())
		a.wantClean("purged and rotated")
		names := slices.Sorted(maps.Keys(attacks))
		var before []storage.Finding
		for i, name := range names {
			if os.Getenv("PART164_TEST_LONG") == "" && i%4 != 0 {
				continue
			}
			want := sortFindings(append(attacks[name](a.checked), before...))
			// A row of which nothing else is left has its pseudonym.
			id := map[string]string{}
			for _, f := range want {
				id[a.journal.Pseudonym(accesstest.Tenant, f.Record)] = f.Record
			}
			got := a.check().Findings
			for i := range got {
				if record, ok := id[got[i].Record]; ok {
					got[i].Record = record
				}
			}
			sortFindings(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s:\n got %v\nwant %v", name, got, want)
			}
			before = slices.DeleteFunc(got, func(f storage.Finding) bool { return f.Kind == storage.OutboxForged })
		}
	})
}

// A database from before a shred is refused also when the shred's event was
// purged.
func TestAShredOutlastsAPurge(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		a := newAged(t, d, 9)
		p := a.newPatient(a.g())
		_, err := storage.Shred(officer(t), a.DB.DB, p.ID, storage.Authority{Basis: storage.CourtOrder, Approver: "u-2", Reference: "r-1"})
		a.must(err)
		a.purge()
		a.wantClean("after a shred and a purge")
		a.sql("DELETE FROM phi_subject_keys WHERE subject_id = ?", p.ID)
		if f := a.check().Findings; !slices.ContainsFunc(f, func(f storage.Finding) bool { return f.Kind == storage.MissingTombstone }) {
			t.Errorf("a tombstone that is gone: %v", f)
		}
	})
}
