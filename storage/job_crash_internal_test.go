// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/sqlite"
)

// The tables of the crash tests as an app without storage has them, and on
// their way into storage.
type (
	oldCrash struct {
		ID   string `gorm:"primaryKey;size:36"`
		Name string
		MRN  string
	}
	oldCrashNote struct {
		ID        string `gorm:"primaryKey;size:36"`
		PatientID string `gorm:"size:36"`
		Text      string
	}
	crash struct {
		PatientRecord
		Name Sealed[string] `gorm:"column:name_sealed" phi:"name,from=name,search=name"`
		MRN  Sealed[string] `gorm:"column:mrn_sealed" phi:"mrn,from=mrn,search=exact,unique"`
	}
	crashNote struct {
		Record
		PatientID string         `phi:"subject" gorm:"size:36"`
		Text      Sealed[string] `gorm:"column:text_sealed" phi:"text,from=text"`
	}
)

func (oldCrash) TableName() string     { return "crashes" }
func (oldCrashNote) TableName() string { return "crash_notes" }

const (
	crashDir  = "PART164_TEST_JOB_DIR"  // in the environment of a child: its folder
	crashJob  = "PART164_TEST_JOB"      // its Job, in JSON
	crashAt   = "PART164_TEST_JOB_KILL" // the point of the job at which it kills itself; 0 is none
	crashDSN  = "PART164_TEST_JOB_DSN"  // its PostgreSQL; empty is a SQLite file in the folder
	crashSize = 14                      // patients, with one note each
)

// crashParams are those of a Job that go to another process.
type crashParams struct {
	Kind                string
	Name, Subject, Into string
	Adopt               bool
}

func (p crashParams) job() Job {
	return Job{Kind: p.Kind, Name: p.Name, Subject: p.Subject, Into: p.Into, Adopt: p.Adopt, Batch: 4, Lease: 150 * time.Millisecond, Grace: time.Millisecond}
}

func openCrash(dir, dsn string) (*gorm.DB, *audit.Journal, error) {
	journal, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{Development: true})
	if err != nil {
		return nil, nil, err
	}
	kek, err := crypto.LocalKEK(filepath.Join(dir, "kek.json"))
	if err != nil {
		return nil, nil, err
	}
	d := sqlite.Open(filepath.Join(dir, "app.db"))
	if dsn != "" {
		d = postgres.Open(dsn)
	}
	db, err := Open(d, Config{Development: true, KEK: kek, Audit: journal, Access: accesstest.Allow(), Minimize: minimize.Starter(), KeyBound: 5 * time.Millisecond})
	if err == nil {
		err = Migrate(context.Background(), db, &crash{}, &crashNote{})
	}
	return db, journal, err
}

func closeCrash(db *gorm.DB, j *audit.Journal) error { return errors.Join(Close(db), j.Close()) }

func service() access.Principal {
	p := accesstest.Principal(accesstest.Tenant, "maintenance")
	p.Kind = access.Service
	return p
}

// TestJobChild is the process that the crash tests kill.
func TestJobChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("run by the crash tests")
	}
	var params crashParams
	if err := json.Unmarshal([]byte(os.Getenv(crashJob)), &params); err != nil {
		t.Fatal(err)
	}
	job := params.job()
	var at int
	_, _ = fmt.Sscan(os.Getenv(crashAt), &at)
	job.hook = func(string) {
		if at--; at == 0 {
			p, _ := os.FindProcess(os.Getpid())
			_ = p.Kill()
			select {}
		}
	}
	db, journal, err := openCrash(dir, os.Getenv(crashDSN))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := access.Job(t.Context(), service(), access.RecordManagement)
	defer end()
	r, err := RunJob(ctx, db, job)
	if err != nil || !r.Done {
		t.Errorf("%+v, %v", r, err)
	}
	if err := closeCrash(db, journal); err != nil {
		t.Error(err)
	}
}

// A crasher is a database whose jobs are killed.
type crasher struct {
	*testing.T
	dir, dsn string
	patients []string
	notes    []string
	kills    int
}

// job runs a job in processes that are killed, at a point of the work or at
// any time, until one comes to the end.
func (c *crasher) job(job crashParams, kills int) {
	c.Helper()
	for try := 0; ; try++ {
		text, err := json.Marshal(job)
		if err != nil {
			c.Fatal(err)
		}
		at, after := 0, time.Hour
		if try < kills {
			if at = 1 + rand.IntN(50); rand.IntN(3) == 0 {
				at, after = 0, time.Duration(rand.IntN(400))*time.Millisecond
			}
		}
		ctx, cancel := context.WithTimeout(c.Context(), after)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestJobChild$", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), crashDir+"="+c.dir, crashJob+"="+string(text), crashAt+"="+fmt.Sprint(at), crashDSN+"="+c.dsn)
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil {
			return
		}
		if cmd.ProcessState == nil && errors.Is(err, context.DeadlineExceeded) {
			kills++ // its time was over before it was started
			continue
		}
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1 {
			c.Fatalf("%s, try %d: %v\n%s", job.Kind, try, err, out)
		}
		c.kills++
	}
}

// check reads everything, and holds the journal against the tables: each cell
// that the job wrote was written once. names are the fields that it wrote.
func (c *crasher) check(reason audit.Reason, fields map[string]int, owner func(i int) string) {
	c.Helper()
	db, journal, err := openCrash(c.dir, c.dsn)
	if err != nil {
		c.Fatal(err)
	}
	defer func() {
		if err := closeCrash(db, journal); err != nil {
			c.Error(err)
		}
	}()
	ctx := accesstest.As(c.T, c.Context(), "physician", access.Treatment)
	var ps []crash
	var ns []crashNote
	if err := errors.Join(db.WithContext(ctx).Order("id").Find(&ps).Error, db.WithContext(ctx).Order("id").Find(&ns).Error); err != nil {
		c.Fatal(err)
	}
	if err := errors.Join(Reveal(ctx, &ps), Reveal(ctx, &ns)); err != nil {
		c.Errorf("after %s: %v", reason, err)
	}
	if len(ps) != crashSize || len(ns) != crashSize {
		c.Fatalf("after %s: %d patients and %d notes, want %d", reason, len(ps), len(ns), crashSize)
	}
	for i := range ps {
		if ps[i].Name.Text(ctx) != fmt.Sprintf("Secretname%d", i) || ps[i].MRN.Text(ctx) != fmt.Sprintf("MRN-%04d", i) || ns[i].Text.Text(ctx) != fmt.Sprintf("Secretnote%d", i) {
			c.Errorf("after %s: patient %d is %q, %q with the note %q", reason, i, ps[i].Name.Text(ctx), ps[i].MRN.Text(ctx), ns[i].Text.Text(ctx))
		}
		if ns[i].PatientID != owner(i) {
			c.Errorf("after %s: note %d is about another patient", reason, i)
		}
		var n int64
		if err := db.WithContext(ctx).Model(&crash{}).Where(Match("MRN", fmt.Sprintf("MRN-%04d", i))).Count(&n).Error; err != nil || n != 1 && reason != audit.ReasonBackOut {
			c.Errorf("after %s: MRN %d finds %d records, %v", reason, i, n, err)
		}
	}
	if err := Settle(ctx, db); err != nil {
		c.Fatal(err)
	}
	committed := map[string]bool{}
	written := map[string][]string{} // record and field to digests, newest first
	for ev, err := range journal.Replay(ctx, accesstest.Tenant, audit.WriteAttempt, audit.Committed) {
		if err != nil {
			c.Fatal(err)
		}
		if ev.Type == audit.Committed {
			committed[ev.Attempt] = true
		} else if ev.Reason == reason && committed[ev.ID] {
			for _, o := range ev.Objects {
				for i, f := range o.Fields {
					written[o.Record+f] = append(written[o.Record+f], o.Digests[i])
				}
			}
		}
	}
	p, _ := pluginOf(db)
	models, err := p.allModels(ctx)
	if err != nil {
		c.Fatal(err)
	}
	checked := 0
	for _, m := range models {
		rows, err := p.stored(ctx, inner(p.pool), selection{m: m, tenant: accesstest.Tenant})
		if err != nil {
			c.Fatal(err)
		}
		for _, r := range rows {
			for i, f := range m.sealed {
				times, ok := fields[f.Name]
				got := written[journal.Pseudonym(r.tenant, r.record)+f.Name]
				if !ok {
					continue
				}
				if times >= 0 && len(got) != times {
					c.Errorf("after %s: %s of a record was written %d times, want %d", reason, f.Name, len(got), times)
				}
				if len(got) > 0 && got[0] != digest(r.cells[i]) {
					c.Errorf("after %s: the journal has another digest of %s than the table", reason, f.Name)
				}
				checked++
			}
		}
	}
	maintain, end := access.Job(c.Context(), service(), access.RecordManagement)
	defer end()
	if r, err := Check(maintain, db, nil); err != nil || len(r.Findings) > 0 {
		c.Errorf("after %s: Check: %+v, %v", reason, r, err)
	}
	if checked != crashSize*len(fields) {
		c.Errorf("after %s: %d cells were looked at", reason, checked)
	}
}

// TestJobsSurviveKill kills the processes that run jobs, of every kind, at
// random points: each job comes to its end, nothing is lost, and nothing is
// done twice.
func TestJobsSurviveKill(t *testing.T) {
	t.Parallel()
	want := 8
	if os.Getenv("PART164_TEST_LONG") != "" {
		want = 100
	}
	t.Run("SQLite", func(t *testing.T) { killJobs(t, "", want) })
	t.Run("PostgreSQL", func(t *testing.T) {
		if os.Getenv("PART164_TEST_LONG") == "" {
			t.Skip("in the long run only: PART164_TEST_LONG is empty")
		}
		killJobs(t, os.Getenv("PART164_TEST_POSTGRES"), want)
	})
}

func killJobs(t *testing.T, admin string, want int) {
	if admin == "" && t.Name() != "TestJobsSurviveKill/SQLite" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	for kills, round := 0, 0; kills < want; round++ {
		c := &crasher{T: t, dir: t.TempDir()}
		if admin != "" {
			c.dsn = crashSchema(t, admin)
		}
		c.seed()
		self := func(i int) string { return c.patients[i] }
		one := map[string]int{"Name": 1, "MRN": 1, "Text": 1}

		c.job(crashParams{Kind: SealColumns, Adopt: true, Name: "one"}, 2)
		c.check(audit.ReasonMigration, one, self)
		if c.dsn == "" {
			for _, name := range []string{"app.db", "app.db-wal"} {
				if b, _ := os.ReadFile(filepath.Join(c.dir, name)); bytes.Contains(b, []byte("Secretn")) {
					t.Errorf("%s still holds plaintext", name)
				}
			}
		}
		c.job(crashParams{Kind: RotateSubjectKeys, Name: "one"}, 1)
		c.check(audit.ReasonRotation, one, self)
		c.job(crashParams{Kind: RotateTenantKey, Name: "one"}, 1)
		c.check(audit.ReasonRotation, one, self)
		c.job(crashParams{Kind: RotateIndexKey, Name: "one"}, 1)
		c.check(audit.ReasonRotation, map[string]int{"Name": 2, "MRN": 2, "Text": 1}, self)
		c.job(crashParams{Kind: RebuildIndex, Name: "one"}, 1)
		c.check(audit.ReasonRebuild, map[string]int{"Name": 1, "MRN": 1}, self)
		merged := func(i int) string {
			if i == 3 {
				return c.patients[5]
			}
			return c.patients[i]
		}
		two := crashParams{Kind: MergePatients, Subject: c.patients[3], Into: c.patients[5], Name: "one"}
		c.job(two, 1)
		c.check(audit.ReasonMerge, map[string]int{"Text": -1}, merged)
		two.Kind = UnmergePatients
		c.job(two, 1)
		c.check(audit.ReasonUnmerge, map[string]int{"Text": -1}, self)
		c.job(crashParams{Kind: BackOut, Name: "one"}, 1)
		c.check(audit.ReasonBackOut, one, self)
		kills += c.kills
		if round > 3*want {
			t.Fatalf("%d kills in %d rounds: the points are not reached", kills, round)
		}
	}
}

// seed fills the old tables.
func (c *crasher) seed() {
	c.Helper()
	d := sqlite.Open(filepath.Join(c.dir, "app.db"))
	if c.dsn != "" {
		d = postgres.Open(c.dsn)
	}
	db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		c.Fatal(err)
	}
	if err := db.AutoMigrate(&oldCrash{}, &oldCrashNote{}); err != nil {
		c.Fatal(err)
	}
	c.patients, c.notes = nil, nil
	for range crashSize {
		c.patients = append(c.patients, uuid.Must(uuid.NewV7()).String())
		c.notes = append(c.notes, uuid.Must(uuid.NewV7()).String())
	}
	slices.Sort(c.patients)
	slices.Sort(c.notes)
	for i := range crashSize {
		err := errors.Join(db.Create(&oldCrash{c.patients[i], fmt.Sprintf("Secretname%d", i), fmt.Sprintf("MRN-%04d", i)}).Error,
			db.Create(&oldCrashNote{c.notes[i], c.patients[i], fmt.Sprintf("Secretnote%d", i)}).Error)
		if err != nil {
			c.Fatal(err)
		}
	}
	sqlDB, err := db.DB()
	if err == nil {
		err = sqlDB.Close()
	}
	if err != nil {
		c.Fatal(err)
	}
}

// crashSchema makes an empty schema.
func crashSchema(t *testing.T, dsn string) string {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t_crash_%d", rand.Uint64())
	if err := db.Exec("CREATE SCHEMA " + name).Error; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = db.Exec("DROP SCHEMA " + name + " CASCADE").Error
		if c, err := db.DB(); err == nil {
			_ = c.Close()
		}
	})
	return dsn + " search_path=" + name
}
