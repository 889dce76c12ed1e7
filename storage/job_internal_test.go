// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/sqlite"
)

type jobbed struct {
	PatientRecord
	Name Sealed[string] `phi:"name,search=name"`
	MRN  Sealed[string] `phi:"mrn,search=exact,unique"`
}

type jobbedNote struct {
	Record
	PatientID string         `phi:"subject" gorm:"size:36"`
	Text      Sealed[string] `phi:"text"`
}

// A shop is a database with a few patients for jobs to work on.
type shop struct {
	db       *gorm.DB
	trail    *audittest.Trail
	patients []string
}

func newShop(t *testing.T, n int) *shop {
	t.Helper()
	s := &shop{trail: audittest.New(t)}
	var err error
	s.db, err = Open(sqlite.Open(filepath.Join(t.TempDir(), "test.db")), Config{KEK: cryptotest.NewKEK(), Audit: s.trail, Access: accesstest.Allow(), Minimize: minimize.Starter(), KeyBound: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Close(s.db) })
	if err := Migrate(t.Context(), s.db, &jobbed{}, &jobbedNote{}); err != nil {
		t.Fatal(err)
	}
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	for i := range n {
		p := jobbed{Name: Seal(fmt.Sprintf("Jane Roe%d", i)), MRN: Seal(fmt.Sprintf("MRN-%04d", i))}
		if err := s.db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		if err := s.db.WithContext(ctx).Create(&jobbedNote{PatientID: p.ID, Text: Seal("note")}).Error; err != nil {
			t.Fatal(err)
		}
		s.patients = append(s.patients, p.ID)
	}
	return s
}

func (s *shop) run(t *testing.T, job Job) (JobReport, error) {
	t.Helper()
	ctx, end := access.Job(t.Context(), service(), access.RecordManagement)
	defer end()
	return RunJob(ctx, s.db, job)
}

// opens reveals everything.
func (s *shop) opens(t *testing.T) {
	t.Helper()
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	var ps []jobbed
	var ns []jobbedNote
	err := errors.Join(s.db.WithContext(ctx).Find(&ps).Error, s.db.WithContext(ctx).Find(&ns).Error)
	if err == nil {
		err = errors.Join(Reveal(ctx, &ps), Reveal(ctx, &ns))
	}
	if err != nil || len(ps) != len(s.patients) || len(ns) != len(s.patients) {
		t.Errorf("%d patients, %d notes: %v", len(ps), len(ns), err)
	}
}

// written counts how often each field of each record was written by committed
// attempts with a reason.
func (s *shop) written(t *testing.T, reason audit.Reason) map[string]int {
	t.Helper()
	if err := Settle(t.Context(), s.db); err != nil {
		t.Fatal(err)
	}
	committed := map[string]bool{}
	for _, ev := range s.trail.Events() {
		if ev.Type == audit.Committed {
			committed[ev.Attempt] = true
		}
	}
	out := map[string]int{}
	for _, ev := range s.trail.Events() {
		if ev.Type == audit.WriteAttempt && ev.Reason == reason && committed[ev.ID] {
			for _, o := range ev.Objects {
				for _, f := range o.Fields {
					out[o.Record+" "+f]++
				}
			}
		}
	}
	return out
}

type crashed struct{}

// TestAJobMayEndAnywhere ends a job at each of its points in turn, and goes on
// with it: every record is done once.
func TestAJobMayEndAnywhere(t *testing.T) {
	t.Parallel()
	for kind, fields := range map[string]int{RebuildIndex: 2, RotateSubjectKeys: 3} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 5)
			p, _ := pluginOf(s.db)
			stride := 1
			if os.Getenv("PART164_TEST_LONG") == "" {
				stride = 4
			}
			runs := 0
			for n := 1 + rand.IntN(stride); ; n += stride {
				runs++
				s.trail.Reset()
				job := Job{Kind: kind, Name: fmt.Sprint("run-", n), Batch: 2, Lease: time.Millisecond, Grace: time.Millisecond}
				at := n
				job.hook = func(string) {
					if at--; at == 0 {
						panic(crashed{})
					}
				}
				ended := func() (ended bool) {
					defer func() {
						if x := recover(); x != nil {
							if _, ok := x.(crashed); !ok {
								panic(x)
							}
							ended = true
						}
					}()
					if r, err := s.run(t, job); err != nil || !r.Done {
						t.Fatalf("point %d: %+v, %v", n, r, err)
					}
					return false
				}()
				job.hook = nil
				r, err := s.run(t, job)
				if err != nil || !r.Done || r.Changed == 0 {
					t.Fatalf("after point %d: %+v, %v", n, r, err)
				}
				reason := audit.ReasonRebuild
				if kind == RotateSubjectKeys {
					reason = audit.ReasonRotation
				}
				got := s.written(t, reason)
				for what, times := range got {
					if times != 1 {
						t.Errorf("after point %d %s was written %d times", n, what, times)
					}
				}
				if want := fields * len(s.patients); len(got) != want {
					t.Errorf("after point %d %d fields were written, want %d", n, len(got), want)
				}
				if kind == RotateSubjectKeys {
					var versions []uint32
					if err := p.own(t.Context(), inner(p.pool)).Model(&subjectKey{}).Distinct("version").Where("tenant_id = ? AND subject_id <> ''", accesstest.Tenant).Pluck("version", &versions).Error; err != nil || len(versions) != 1 || versions[0] != uint32(runs+1) {
						t.Errorf("after point %d the keys have versions %d, %v; want %d", n, versions, err, runs+1)
					}
				}
				if !ended {
					break
				}
			}
			s.opens(t)
		})
	}
}

// A row that changes between its reading and its writing stops the batch,
// whatever the database's locks do.
func TestAJobWritesOnlyWhatItRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"the version": "UPDATE jobbeds SET version = version + 1 WHERE id = ?",
		"the cell":    "UPDATE jobbeds SET name = mrn WHERE id = ?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 3)
			p, _ := pluginOf(s.db)
			ctx, end := access.Job(t.Context(), service(), access.RecordManagement)
			defer end()
			j := &jobRun{plugin: p, ctx: ctx, job: Job{Kind: RotateSubjectKeys, Grace: time.Millisecond}}
			if err := j.prepare(); err != nil {
				t.Fatal(err)
			}
			if err := j.claim(); err != nil {
				t.Fatal(err)
			}
			walk := j.plan.steps[2]
			if walk.rows == nil {
				t.Fatal("the third step of a rotation is no walk")
			}
			if err := errors.Join(j.step(j.plan.steps[0]), j.step(j.plan.steps[1])); err != nil {
				t.Fatal(err)
			}
			reseal := walk.rows
			walk.rows = func(b *jobBatch, rows []*storedRow) error {
				if b.o.m.table == "jobbeds" {
					if err := b.own(b.ctx, b.tx.Tx).Exec(change, s.patients[1]).Error; err != nil {
						return err
					}
				}
				return reseal(b, rows)
			}
			if err := j.step(walk); !errors.Is(err, ErrConflict) {
				t.Errorf("the walk = %v, want ErrConflict", err)
			}
			if err := j.release(); err != nil {
				t.Fatal(err)
			}
			s.opens(t)
		})
	}
}

// Of two processes one runs the job.
func TestOneProcessRunsAJob(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4)
	entered, leave := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	beat := 50 * time.Millisecond
	go func() {
		once := false
		_, err := s.run(t, Job{Kind: RebuildIndex, Name: "one", Batch: 1, Lease: beat, Pause: beat, Progress: func(JobReport) {
			if !once {
				once = true
				close(entered)
			}
		}})
		first <- err
		close(leave)
	}()
	<-entered
	if _, err := s.run(t, Job{Kind: RebuildIndex, Name: "one", Lease: 3 * beat}); !errors.Is(err, ErrJobRunning) {
		t.Errorf("the second process = %v, want ErrJobRunning", err)
	}
	<-leave
	if err := <-first; err != nil {
		t.Error(err)
	}
	r, err := s.run(t, Job{Kind: RebuildIndex, Name: "one"})
	if err != nil || !r.Done || r.Changed != 4 {
		t.Errorf("a run of that name once more: %+v, %v", r, err)
	}
	for what, n := range s.written(t, audit.ReasonRebuild) {
		if n != 1 {
			t.Errorf("%s was written %d times", what, n)
		}
	}
}

// A process that was taken over writes nothing more.
func TestAJobThatWasTakenOverStops(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4)
	taken := false
	_, err := s.run(t, Job{Kind: RebuildIndex, Batch: 1, hook: func(point string) {
		if point == "committed" && !taken {
			taken = true
			if r, err := s.run(t, Job{Kind: RebuildIndex, Batch: 1, Lease: time.Millisecond}); err != nil || !r.Done || !r.Resumed {
				t.Errorf("the other process: %+v, %v", r, err)
			}
		}
	}})
	if !errors.Is(err, ErrJobRunning) {
		t.Errorf("the first process = %v, want ErrJobRunning", err)
	}
	for what, n := range s.written(t, audit.ReasonRebuild) {
		if n != 1 {
			t.Errorf("%s was written %d times", what, n)
		}
	}
}

// What was read before a rotation can be revealed until the grace has passed.
func TestARetiredKeyHasItsGrace(t *testing.T) {
	t.Parallel()
	s := newShop(t, 2)
	ctx := accesstest.As(t, t.Context(), "physician", access.Treatment)
	read := func() (p jobbed) {
		if err := s.db.WithContext(ctx).Take(&p, "id = ?", s.patients[0]).Error; err != nil {
			t.Fatal(err)
		}
		return p
	}
	before, late := read(), read()
	const grace = 200 * time.Millisecond
	var steps []time.Time
	r, err := s.run(t, Job{Kind: RotateSubjectKeys, Grace: grace, hook: func(point string) {
		if point != "step" {
			return
		}
		if steps = append(steps, time.Now()); len(steps) == 6 { // retiring comes next
			if err := Reveal(ctx, &before); err != nil {
				t.Errorf("Reveal after the grace, before the key goes = %v", err)
			}
		}
	}})
	if err != nil || !r.Done || len(steps) != 6 {
		t.Fatalf("%+v, %v, %d steps", r, err, len(steps))
	}
	if d := steps[4].Sub(steps[3]); d < grace {
		t.Errorf("the grace lasted %v, want %v", d, grace)
	}
	time.Sleep(2 * time.Millisecond) // the bound of a cached key
	var re *RevealError
	if err := Reveal(ctx, &late); !errors.As(err, &re) {
		t.Errorf("Reveal of what was read before the rotation = %v, want a RevealError", err)
	}
	s.opens(t)
}

type jobbedOld struct {
	PatientRecord
	Name Sealed[string] `gorm:"column:name_sealed" phi:"name,from=name"`
}

// Without its columns a job reads no rows, which it would take for ones
// without anything to seal.
func TestALostCatalogueEndsTheJob(t *testing.T) {
	t.Parallel()
	s := newShop(t, 0)
	if err := Migrate(t.Context(), s.db, &jobbedOld{}); err != nil {
		t.Fatal(err)
	}
	p, err := pluginOf(s.db)
	if err != nil {
		t.Fatal(err)
	}
	lost, cancel := context.WithCancel(t.Context())
	cancel()
	sel := selection{m: p.models.tables["jobbed_olds"], tenant: accesstest.Tenant}
	(&jobRun{plugin: p, ctx: lost}).held(&sel)
	if rows, err := p.stored(t.Context(), inner(p.pool), sel); !errors.Is(err, context.Canceled) {
		t.Errorf("stored = %d rows, %v; want what the catalogue gave", len(rows), err)
	}
	if n, err := p.countStored(t.Context(), inner(p.pool), sel); !errors.Is(err, context.Canceled) {
		t.Errorf("countStored = %d, %v; want what the catalogue gave", n, err)
	}
}
