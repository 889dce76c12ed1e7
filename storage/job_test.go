// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/sqlite"
	"github.com/part164/part164/storage/storagetest"
)

func TestAJobIsAuthorised(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = rbac.Starter() }, &Patient{}, &Encounter{})
	created(t, db, physician(t), jane())
	job := storage.Job{Kind: storage.RebuildIndex}
	db.Trail.Reset()
	for name, ctx := range map[string]context.Context{
		"nobody":            t.Context(),
		"a person":          accesstest.As(t, t.Context(), "maintenance", access.RecordManagement),
		"another role":      jobAs(t, "physician", access.RecordManagement),
		"another purpose":   jobAs(t, "maintenance", access.Treatment),
		"an ended scope":    ended(t),
		"a cancelled scope": cancelled(t),
	} {
		if r, err := storage.RunJob(ctx, db.DB, job); err == nil || r.Done || r.Rows > 0 {
			t.Errorf("RunJob by %s = %+v, %v", name, r, err)
		}
	}
	for _, ev := range db.Trail.Events() {
		if ev.Type != audit.Denied {
			t.Errorf("a denied job has recorded %s", ev.Type)
		}
	}
	audittest.Want(t, db.Trail, audit.Event{Type: audit.Denied, Action: access.Maintain})
	if _, err := storage.RunJob(jobAs(t, "maintenance", access.SystemAdmin), db.DB, job); err != nil {
		t.Errorf("RunJob by maintenance = %v", err)
	}
	// Another tenant's records are not walked.
	r, err := storage.RunJob(maintenanceIn(t, "t-other"), db.DB, job)
	if err != nil || r.Rows != 0 {
		t.Errorf("RunJob in another tenant = %+v, %v", r, err)
	}
}

func jobAs(t testing.TB, role string, purpose access.Purpose) context.Context {
	t.Helper()
	p := accesstest.Principal(accesstest.Tenant, role)
	p.Kind = access.Service
	ctx, end := access.Job(t.Context(), p, purpose)
	t.Cleanup(end)
	return ctx
}

func ended(t testing.TB) context.Context {
	t.Helper()
	p := accesstest.Principal(accesstest.Tenant, "maintenance")
	p.Kind = access.Service
	ctx, end := access.Job(t.Context(), p, access.RecordManagement)
	end()
	return ctx
}

func cancelled(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(jobAs(t, "maintenance", access.RecordManagement))
	cancel()
	return ctx
}

func TestAJobNamesTheBadField(t *testing.T) {
	t.Parallel()
	db := storagetest.NewDBWith(t, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Patient{}, &Encounter{})
	id, other := storagetest.SeededIDs(1)(), storagetest.SeededIDs(2)()
	type plain struct{ ID uint }
	for want, job := range map[string]storage.Job{
		"Job.Kind":                     {},
		"Job.Batch":                    {Kind: storage.RebuildIndex, Batch: -1},
		"Job.Pause, Grace or Lease":    {Kind: storage.RebuildIndex, Lease: -1},
		"Job.Name":                     {Kind: storage.RebuildIndex, Name: "jane@example.org"},
		"Job.Subject and Job.Into":     {Kind: storage.MergePatients, Subject: id, Into: id},
		"Job.Into":                     {Kind: storage.RebuildIndex, Into: id},
		"Job.Subject is for":           {Kind: storage.RebuildIndex, Subject: id},
		"Job.Subject is no record":     {Kind: storage.RotateSubjectKeys, Subject: "jane"},
		"Job.Adopt":                    {Kind: storage.RebuildIndex, Adopt: true},
		"Job.Model has no phi tags":    {Kind: storage.RebuildIndex, Model: &plain{}},
		"one of the two is no patient": {Kind: storage.MergePatients, Subject: id, Into: other},
	} {
		if _, err := storage.RunJob(maintenance(t), db.DB, job); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("RunJob = %v, want %q", err, want)
		}
	}
}

func TestAJobFindsEveryModel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	kek := cryptotest.NewKEK()
	open := func(models ...any) *storagetest.DB {
		return storagetest.Open(t, sqlite.Open(path), func(c *storage.Config) { c.Access, c.KEK = accesstest.Allow(), kek }, models...)
	}
	open(&Patient{}, &Encounter{})
	db := open(&Patient{})
	var re *storage.RefusedError
	if _, err := storage.RunJob(maintenance(t), db.DB, storage.Job{Kind: storage.RotateSubjectKeys, Grace: grace}); !errors.As(err, &re) || re.Table != "encounters" {
		t.Errorf("RunJob without the model of encounters = %v, want a RefusedError that names the table", err)
	}
}

func TestNothingIsDoneUnrecorded(t *testing.T) {
	t.Parallel()
	w := newWard(t, openSQLite(t), 3)
	before := storagetest.RawColumn(t, w.db.DB, "patients", "name", w.patients[0])
	down := errors.New("disk full")
	for after := range 3 { // the beginning, and the batches
		w.db.Trail.FailAfter(after, down)
		_, err := storage.RunJob(maintenance(t), w.db.DB, storage.Job{Kind: storage.RotateSubjectKeys, Name: "r", Grace: time.Millisecond, Batch: 1, Lease: time.Millisecond})
		if !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("RunJob with the trail down after %d events = %v, want ErrUnavailable", after, err)
		}
		w.db.Trail.FailAfter(0, nil)
		if after == 0 && string(before) != string(storagetest.RawColumn(t, w.db.DB, "patients", "name", w.patients[0])) {
			t.Error("a cell was written although nothing could be recorded")
		}
	}
	runJob(t, w.db, storage.Job{Kind: storage.RotateSubjectKeys, Name: "r", Grace: time.Millisecond})
	w.check(t)
}

func TestBackOut(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		const n = 23
		ids := oldClients(t, d, n)
		kek := cryptotest.NewKEK()
		open := func(change func(*storage.Config)) *storagetest.DB {
			return storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.KEK = accesstest.Allow(), kek; change(c) }, &Client{})
		}
		db := open(func(*storage.Config) {})
		runJob(t, db, storage.Job{Kind: storage.SealColumns, Adopt: true})
		if _, err := storage.RunJob(maintenance(t), db.DB, storage.Job{Kind: storage.BackOut}); !errors.Is(err, storage.ErrRefused) {
			t.Errorf("BackOut in production = %v, want ErrRefused", err)
		}
		db = open(func(c *storage.Config) {
			c.Deviations = []access.Deviation{{Citation: "164.312(a)(2)(iv)", Reason: "moving to another product", Alternative: "the volume is encrypted", Owner: "security", ReviewBy: time.Now().AddDate(0, 1, 0)}}
		})
		db.Trail.Reset()
		r := runJob(t, db, storage.Job{Kind: storage.BackOut, Batch: 10})
		if r.Changed != n {
			t.Errorf("report %+v", r)
		}
		audittest.Want(t, db.Trail, audit.Event{Type: audit.Sealed}, audit.Event{Type: audit.WriteAttempt, Reason: audit.ReasonBackOut})
		readClients(t, db, ids) // through the old columns
		plain, err := gorm.Open(d, &gorm.Config{})
		if err != nil {
			t.Fatal(err)
		}
		var c oldClient
		if err := plain.Take(&c, "id = ?", ids[7]).Error; err != nil || c.Name != "Secretname0007" || c.Visits != 7 || !c.Seen.Equal(seen) || c.Plan == nil || *c.Plan != "PLAN-0007" {
			t.Errorf("the app without storage reads %+v, %v", c, err)
		}
		if c, err := plain.DB(); err == nil {
			_ = c.Close()
		}
		runJob(t, db, storage.Job{Kind: storage.SealColumns})
		readClients(t, db, ids)
		if got := plaintexts(t, db); got != 0 {
			t.Errorf("%d values in clear after sealing once more", got)
		}
	})
}

func TestWhatCannotBeSealedStaysAndIsNamed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		ids := oldClients(t, d, 23)
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access = accesstest.Allow() }, &Client{})
		raw, err := db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Exec("UPDATE clients SET plan = 'PLAN-0001' WHERE id = '" + ids[2] + "'"); err != nil { // a second one
			t.Fatal(err)
		}
		r, err := storage.RunJob(maintenance(t), db.DB, storage.Job{Kind: storage.SealColumns, Adopt: true, Batch: 4})
		if err == nil || len(r.Skipped) != 1 || r.Skipped[0] != ids[2] || r.Done {
			t.Errorf("with a duplicate: %+v, %v", r, err)
		}
		if got := plaintexts(t, db); got != 5 {
			t.Errorf("%d values in clear are left, want the 5 of one row", got)
		}
		if _, err := storage.RunJob(maintenance(t), db.DB, storage.Job{Kind: storage.DropColumns}); !errors.Is(err, storage.ErrRefused) {
			t.Errorf("DropColumns with values in clear = %v, want ErrRefused", err)
		}
		if _, err := raw.Exec("UPDATE clients SET plan = 'PLAN-0002' WHERE id = '" + ids[2] + "'"); err != nil {
			t.Fatal(err)
		}
		runJob(t, db, storage.Job{Kind: storage.SealColumns, Adopt: true})
		readClients(t, db, ids)
		runJob(t, db, storage.Job{Kind: storage.DropColumns})
	})
}

func TestProgressOfAJob(t *testing.T) {
	t.Parallel()
	w := newWard(t, openSQLite(t), 6)
	pipe, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pipe.Close() }()
	var seen []storage.JobReport
	r := runJob(t, w.db, storage.Job{Kind: storage.RebuildIndex, Batch: 2, Pause: time.Millisecond, Output: pipe, Progress: func(r storage.JobReport) { seen = append(seen, r) }})
	if r.Rows != 6 || r.Total != 6 || r.Changed != 6 || r.Rate <= 0 {
		t.Errorf("report %+v, want 6 of 6 rows", r)
	}
	if len(seen) < 3 || seen[0].Rows != 2 || seen[0].Total != 6 || seen[0].Done {
		t.Errorf("progress %+v", seen)
	}
	if info, err := pipe.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes were written to what is no terminal, %v", info.Size(), err)
	}
}
