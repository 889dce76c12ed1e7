// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// stays reads the encounters of a patient, as text.
func stays(t testing.TB, db *storagetest.DB, id string) []string {
	t.Helper()
	ctx := physician(t)
	var es []Encounter
	if err := db.WithContext(ctx).Find(&es, "patient_id = ?", id).Error; err != nil {
		t.Fatal(err)
	}
	if err := storage.Reveal(ctx, &es); err != nil {
		t.Errorf("Reveal = %v", err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Reason.Text(ctx))
	}
	slices.Sort(out)
	return out
}

func TestMergeAndUnmerge(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 4)
		ctx := physician(t)
		into, dup := w.patients[0], w.patients[1]
		for i := range 7 {
			if err := w.db.WithContext(ctx).Create(&Encounter{PatientID: dup, Reason: storage.Seal(fmt.Sprintf("fever %d", i))}).Error; err != nil {
				t.Fatal(err)
			}
		}
		var old []Encounter // read before the merge
		if err := w.db.WithContext(ctx).Find(&old, "patient_id = ?", dup).Error; err != nil {
			t.Fatal(err)
		}
		theirs, mine := stays(t, w.db, dup), stays(t, w.db, into)
		from := len(w.db.Trail.Events())
		job := storage.Job{Kind: storage.MergePatients, Subject: dup, Into: into, Batch: 3}
		if r := runJob(t, w.db, job); r.Changed != 9 {
			t.Errorf("report %+v, want 8 encounters and the duplicate itself", r)
		}
		var merged []audit.Stored
		for _, ev := range w.db.Trail.Events()[from:] {
			if ev.Type == audit.Merged {
				merged = append(merged, ev)
			}
		}
		if len(merged) != 1 || merged[0].Reason != audit.ReasonMerge || len(merged[0].Objects) != 2 || merged[0].Objects[0].Patient != dup || merged[0].Objects[1].Patient != into {
			t.Errorf("merged events %+v, want one that names both", merged)
		}
		if err := storage.Reveal(ctx, &old); err != nil {
			t.Errorf("what was read before the merge = %v", err)
		}
		if err := w.db.WithContext(ctx).Save(&old[0]).Error; !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrRefused) {
			t.Errorf("Save of what was read before the merge = %v", err)
		}
		both := append(slices.Clone(theirs), mine...)
		slices.Sort(both)
		if got := stays(t, w.db, into); !slices.Equal(got, both) || len(stays(t, w.db, dup)) != 0 {
			t.Errorf("encounters after the merge: %v and %v, want %v and none", got, stays(t, w.db, dup), both)
		}
		p := reread(t, w.db, ctx, dup)
		if p.MergedInto != into || reread(t, w.db, ctx, into).MergedInto != "" {
			t.Errorf("MergedInto = %q, want the other patient", p.MergedInto)
		}
		if err := storage.Reveal(ctx, &p); err != nil {
			t.Errorf("the duplicate's own record = %v", err)
		}
		w.check(t) // the duplicate is still found by its MRN
		for what, err := range map[string]error{
			"Create": w.db.WithContext(ctx).Create(&Encounter{PatientID: dup, Reason: storage.Seal("new")}).Error,
			"Update": w.db.WithContext(ctx).Model(&p).Updates(Patient{Name: storage.Seal("New")}).Error,
		} {
			if !errors.Is(err, crypto.ErrClosed) {
				t.Errorf("%s for the duplicate = %v, want ErrClosed", what, err)
			}
		}
		p.MergedInto = ""
		if err := w.db.WithContext(ctx).Save(&p).Error; err != nil || reread(t, w.db, ctx, dup).MergedInto != into {
			t.Errorf("an app changes MergedInto: %v", err)
		}
		for what, j := range map[string]storage.Job{
			"into a duplicate":          {Kind: storage.MergePatients, Subject: w.patients[2], Into: dup},
			"of a duplicate into third": {Kind: storage.MergePatients, Subject: dup, Into: w.patients[2]},
			"of nobody":                 {Kind: storage.MergePatients, Subject: "00000000-0000-4000-8000-000000000000", Into: into},
			"undo of another":           {Kind: storage.UnmergePatients, Subject: dup, Into: w.patients[2]},
		} {
			if _, err := storage.RunJob(maintenance(t), w.db.DB, j); !errors.Is(err, storage.ErrRefused) {
				t.Errorf("merge %s = %v, want ErrRefused", what, err)
			}
		}
		// Keys turn over, and a new encounter comes in, before it is undone.
		runJob(t, w.db, storage.Job{Kind: storage.RotateSubjectKeys, Grace: grace})
		if err := w.db.WithContext(ctx).Create(&Encounter{PatientID: into, Reason: storage.Seal("since")}).Error; err != nil {
			t.Fatal(err)
		}
		runJob(t, w.db, storage.Job{Kind: storage.UnmergePatients, Subject: dup, Into: into, Batch: 3})
		mine = append(mine, "since")
		slices.Sort(mine)
		if got := stays(t, w.db, dup); !slices.Equal(got, theirs) {
			t.Errorf("encounters of the duplicate after the unmerge: %v, want %v", got, theirs)
		}
		if got := stays(t, w.db, into); !slices.Equal(got, mine) {
			t.Errorf("encounters of the other after the unmerge: %v, want %v", got, mine)
		}
		if p := reread(t, w.db, ctx, dup); p.MergedInto != "" {
			t.Errorf("MergedInto = %q after the unmerge", p.MergedInto)
		}
		if err := w.db.WithContext(ctx).Create(&Encounter{PatientID: dup, Reason: storage.Seal("new")}).Error; err != nil {
			t.Errorf("Create after the unmerge = %v", err)
		}
		if n := w.count(t, "phi_merges", "1 = 1"); n != 0 {
			t.Errorf("%d rows of phi_merges are left", n)
		}
	})
}

// A file of a merged patient follows, and survives a rotation of the keys.
func TestFilesFollowJobs(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 2)
		files, err := storage.OpenFiles(w.db.DB, storage.FilesConfig{Folder: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		ctx := physician(t)
		dup, into := w.patients[0], w.patients[1]
		id, err := files.Put(ctx, dup, minimize.Clinical, strings.NewReader("a scan"))
		if err != nil {
			t.Fatal(err)
		}
		read := func(when string, subject string) {
			t.Helper()
			r, err := files.Open(ctx, id)
			if err != nil {
				t.Errorf("%s: Open = %v", when, err)
				return
			}
			b, err := io.ReadAll(r)
			if string(b) != "a scan" || errors.Join(err, r.Close()) != nil {
				t.Errorf("%s: %q, %v", when, b, err)
			}
			if list, err := files.List(ctx, subject); err != nil || len(list) != 1 {
				t.Errorf("%s: %d files of the patient, %v", when, len(list), err)
			}
		}
		runJob(t, w.db, storage.Job{Kind: storage.MergePatients, Subject: dup, Into: into})
		read("merged", into)
		runJob(t, w.db, storage.Job{Kind: storage.RotateSubjectKeys, Grace: time.Millisecond})
		read("under a new key", into)
		runJob(t, w.db, storage.Job{Kind: storage.UnmergePatients, Subject: dup, Into: into})
		read("unmerged", dup)
		clean(t, w.db)
	})
}

// A merge that was cut off before it moved anything leaves nothing behind that
// names it. The other patient is shredded then: the duplicate opens again.
func TestAMergeCutOffIsUndone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := newWard(t, d, 3)
		ctx := physician(t)
		into, dup := w.patients[0], w.patients[1]
		merge := storage.Job{Kind: storage.MergePatients, Subject: dup, Into: into, Lease: time.Millisecond}
		cut, cancel := context.WithCancel(maintenance(t))
		cutOff := merge
		cutOff.Progress = func(storage.JobReport) { cancel() }
		if _, err := storage.RunJob(cut, w.db.DB, cutOff); !errors.Is(err, context.Canceled) {
			t.Fatalf("RunJob, cancelled = %v", err)
		}
		if n := w.count(t, "phi_merges", "1 = 1"); n != 0 {
			t.Fatalf("%d records were moved", n)
		}
		fresh := func() error {
			return w.db.WithContext(ctx).Create(&Encounter{PatientID: dup, Reason: storage.Seal("new")}).Error
		}
		if err := fresh(); !errors.Is(err, crypto.ErrClosed) {
			t.Fatalf("Create for the duplicate = %v, want ErrClosed", err)
		}
		unmerge := storage.Job{Kind: storage.UnmergePatients, Subject: dup, Into: into}
		never := unmerge
		never.Subject = w.patients[2]
		if _, err := storage.RunJob(maintenance(t), w.db.DB, never); !errors.Is(err, storage.ErrRefused) {
			t.Errorf("unmerge of a patient who was never merged = %v, want ErrRefused", err)
		}
		if _, err := storage.Shred(officer(t), w.db.DB, into, order); err != nil {
			t.Fatal(err)
		}
		runJob(t, w.db, unmerge)
		if err := fresh(); err != nil {
			t.Errorf("Create after the unmerge = %v", err)
		}
		if _, err := storage.RunJob(maintenance(t), w.db.DB, merge); !errors.Is(err, crypto.ErrShredded) || !strings.Contains(err.Error(), "UnmergePatients") {
			t.Errorf("merge into the shredded patient = %v, want ErrShredded and the way out", err)
		}
		if err := fresh(); err != nil {
			t.Errorf("Create after the refused merge = %v", err)
		}
	})
}

// Rows of phi_merges that somebody wrote who can write SQL are followed by
// nothing: no record of another patient moves, and nobody else is shredded.
func TestForgedMergesAreRefused(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
		ctx := physician(t)
		dup, into, victim := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe"), newPatient(t, db.DB, "Poe")
		e := &Encounter{PatientID: dup.ID, Reason: storage.Seal("ache")}
		theirs := &Encounter{PatientID: into.ID, Reason: storage.Seal("fever")}
		if err := errors.Join(db.WithContext(ctx).Create(e).Error, db.WithContext(ctx).Create(theirs).Error); err != nil {
			t.Fatal(err)
		}
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, storage.ErrRefused) || !strings.Contains(err.Error(), "phi_merges") || !strings.Contains(err.Error(), "storage.Check") {
				t.Errorf("%s = %v, want ErrRefused and the mend", what, err)
			}
		}
		shred := func() error { _, err := storage.Shred(officer(t), db.DB, into.ID, order); return err }
		alive := func(when string, p *Patient) {
			t.Helper()
			if n := count(t, db.DB, "SELECT count(*) FROM phi_subject_keys WHERE subject_id = ? AND shredded = ?", p.ID, true); n != 0 {
				t.Fatalf("%s: another patient was shredded", when)
			}
		}
		forge := func(from, entity, record string) {
			t.Helper()
			var mac []byte
			if err := plain(t, db.DB).QueryRow("SELECT mac FROM phi_merges ORDER BY record_id LIMIT 1").Scan(&mac); err != nil && !errors.Is(err, sql.ErrNoRows) {
				t.Fatal(err)
			}
			run(t, db.DB, "INSERT INTO phi_merges (tenant_id, from_id, entity, record_id, into_id, mac) VALUES (?, ?, ?, ?, ?, ?)", accesstest.Tenant, from, entity, record, into.ID, mac)
		}
		forge(victim.ID, "patients", victim.ID) // without a MAC: there is none yet
		refused("Shred", shred())
		alive("no MAC", victim)
		run(t, db.DB, "DELETE FROM phi_merges")

		merge := storage.Job{Kind: storage.MergePatients, Subject: dup.ID, Into: into.ID}
		unmerge := storage.Job{Kind: storage.UnmergePatients, Subject: dup.ID, Into: into.ID}
		runJob(t, db, merge)
		forge(victim.ID, "patients", victim.ID) // under another row's
		refused("Shred", shred())
		alive("another row's MAC", victim)
		run(t, db.DB, "DELETE FROM phi_merges WHERE from_id = ?", victim.ID)

		forge(dup.ID, "encounters", theirs.ID)
		_, err := storage.RunJob(maintenance(t), db.DB, unmerge)
		refused("unmerge", err)
		if got := stays(t, db, into.ID); !slices.Equal(got, []string{"ache", "cough", "cough", "fever"}) || len(stays(t, db, dup.ID)) != 0 {
			t.Errorf("encounters after the refused unmerge: %v", got)
		}
		run(t, db.DB, "DELETE FROM phi_merges WHERE record_id = ?", theirs.ID)

		// Written while the unmerge runs, after its look at the rows.
		race := unmerge
		race.Progress = func(r storage.JobReport) {
			if r.Rows == 0 && count(t, db.DB, "SELECT count(*) FROM phi_merges WHERE record_id = ?", theirs.ID) == 0 {
				forge(dup.ID, "encounters", theirs.ID)
			}
		}
		_, err = storage.RunJob(maintenance(t), db.DB, race)
		refused("unmerge, raced", err)
		if got := stays(t, db, dup.ID); len(got) != 0 {
			t.Errorf("encounters of the duplicate after the refused unmerge: %v", got)
		}
		run(t, db.DB, "DELETE FROM phi_merges WHERE record_id = ?", theirs.ID)

		// One that was true, put back after the unmerge.
		run(t, db.DB, "CREATE TABLE kept AS SELECT * FROM phi_merges")
		runJob(t, db, unmerge)
		if got := stays(t, db, dup.ID); !slices.Equal(got, []string{"ache", "cough"}) {
			t.Errorf("encounters of the duplicate after the unmerge: %v", got)
		}
		run(t, db.DB, "INSERT INTO phi_merges SELECT * FROM kept")
		refused("Shred", shred())
		alive("an undone merge", dup)
		run(t, db.DB, "DELETE FROM phi_merges")
		if err := shred(); err != nil {
			t.Errorf("Shred = %v", err)
		}
		alive("after all", dup)
		alive("after all", victim)
		clean(t, db)
	})
}

// A row that somebody has put where a merge will write is overwritten; one of
// the duplicate that is there before stops the merge.
func TestMergeOverForgedRows(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
		dup, into, other := newPatient(t, db.DB, "Roe"), newPatient(t, db.DB, "Doe"), newPatient(t, db.DB, "Poe")
		forge := func() {
			t.Helper()
			run(t, db.DB, "INSERT INTO phi_merges (tenant_id, from_id, entity, record_id, into_id) VALUES (?, ?, 'patients', ?, ?)", accesstest.Tenant, dup.ID, dup.ID, other.ID)
		}
		forge()
		merge := storage.Job{Kind: storage.MergePatients, Subject: dup.ID, Into: into.ID}
		if _, err := storage.RunJob(maintenance(t), db.DB, merge); !errors.Is(err, storage.ErrRefused) {
			t.Errorf("merge over a forged row = %v, want ErrRefused", err)
		}
		run(t, db.DB, "DELETE FROM phi_merges")
		raced := false
		merge.Progress = func(storage.JobReport) {
			if !raced {
				raced = true
				forge()
			}
		}
		runJob(t, db, merge)
		clean(t, db)
		c, err := storage.Shred(officer(t), db.DB, into.ID, order)
		if err != nil || !slices.Equal(c.Merged, []string{dup.ID}) {
			t.Errorf("Shred = %+v, %v", c, err)
		}
	})
}

// A database of before the MACs gets the column.
func TestMigrateAddsTheMACOfMerges(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, func(*storage.Config) {}, &Patient{}, &Encounter{})
		run(t, db.DB, "ALTER TABLE phi_merges DROP COLUMN mac")
		if err := storage.Migrate(t.Context(), db.DB, &Patient{}, &Encounter{}); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db.DB, "SELECT count(*) FROM phi_merges WHERE mac IS NULL"); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}
