// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/minimize"
)

// A jobRow is the checkpoint of a job. It holds record IDs and no PHI.
type jobRow struct {
	ID        string `gorm:"primaryKey;size:64"`
	TenantID  string `gorm:"size:64;not null"`
	Kind      string `gorm:"size:32;not null"`
	Name      string `gorm:"size:64;not null"`
	State     string `gorm:"size:16;not null"` // jobRunning or jobDone
	Holder    string `gorm:"size:36;not null"` // of the process that runs it; empty where none does
	Beat      int64  `gorm:"not null"`         // counts up while the holder lives
	Step      int    `gorm:"not null"`
	AtTable   string `gorm:"size:64;not null"` // the walk is in this table
	AfterID   string `gorm:"size:64;not null"` // and behind this ID
	Total     int64  `gorm:"not null"`
	Rows      int64  `gorm:"not null"`
	Changed   int64  `gorm:"not null"`
	Skipped   int64  `gorm:"not null"` // in the walk under way
	CreatedAt time.Time
	UpdatedAt time.Time
}

func (jobRow) TableName() string { return "phi_jobs" }

const (
	jobRunning = "running"
	jobDone    = "done"

	jobTries = 3 // of a batch: a deadlock or a full disk may pass
)

// A jobRun is one call of RunJob.
type jobRun struct {
	*plugin
	ctx    context.Context
	scope  *access.Scope
	tenant string
	job    Job
	models []*model
	plan   jobPlan
	row    jobRow
	report JobReport
	bar    *progress
}

// A jobPlan is what a kind of job does, in order.
type jobPlan struct {
	event  audit.Type // of its beginning and its end; empty where a step records its own
	reason audit.Reason
	steps  []jobStep
}

// A jobStep is one part of a job. It has rows, ids, once, alter or wait.
type jobStep struct {
	models []*model // whose rows to walk
	narrow func(*selection)
	rows   func(*jobBatch, []*storedRow) error

	page func(ctx context.Context, conn gorm.ConnPool, after string, limit int) ([]string, error) // of IDs to walk
	ids  func(*jobBatch, []string) error

	once  func(*jobBatch) error       // in one transaction
	alter func(context.Context) error // outside one; it may run twice
	wait  time.Duration

	back bool // here the job begins anew where records were skipped, or written past it
}

// errAgain means that there is more to walk since the last walk.
var errAgain = errors.New("storage: job: rows were written past it: run it again, with every process on the new version of the app")

// prepare checks the job and makes its plan.
func (j *jobRun) prepare() error {
	var err error
	if j.scope, err = access.From(j.ctx); err != nil {
		return err
	}
	who := j.scope.Principal()
	j.tenant = who.Tenant
	if who.Kind != access.Service {
		return errors.Join(&access.DeniedError{Action: access.Maintain, Resource: "job", Code: access.DenyInvalid}, errors.New("storage: job: the principal is no service: run it in an access.Job context"))
	}
	if err := j.job.validate(); err != nil {
		return err
	}
	j.job.Batch = cmp.Or(j.job.Batch, 100)
	j.job.Lease = cmp.Or(j.job.Lease, 15*time.Second)
	j.job.Grace = cmp.Or(j.job.Grace, j.cfg.RevealTTL)
	if j.models, err = j.allModels(j.ctx); err != nil {
		return err
	}
	minimize.Pin(j.scope, j.cfg.Minimize)
	if err := j.allow(); err != nil {
		return err
	}
	chosen := j.models
	if j.job.Model != nil {
		m, err := j.modelNamed(j.job.Model)
		if err != nil {
			return err
		}
		chosen = []*model{m}
	}
	j.plan, err = j.planOf(chosen)
	return err
}

func (j Job) validate() error {
	two := j.Kind == MergePatients || j.Kind == UnmergePatients
	switch {
	case j.Batch < 0 || j.Batch > maxRows:
		return fmt.Errorf("storage: job: Job.Batch is not between 0 and %d", maxRows)
	case j.Pause < 0 || j.Grace < 0 || j.Lease < 0:
		return errors.New("storage: job: Job.Pause, Grace or Lease is negative")
	case len(j.Name) > 60 || j.Name != "" && access.CheckID(j.Name) != nil:
		return errors.New("storage: job: Job.Name is not at most 60 letters, digits, '-', '_' and '.'")
	case two && (!isUUID(j.Subject) || !isUUID(j.Into) || j.Subject == j.Into):
		return errors.New("storage: job: Job.Subject and Job.Into are not the record IDs of two patients")
	case !two && j.Into != "":
		return errors.New("storage: job: Job.Into is for merge and unmerge")
	case j.Subject != "" && !two && j.Kind != RotateSubjectKeys:
		return errors.New("storage: job: Job.Subject is for RotateSubjectKeys, merge and unmerge")
	case j.Subject != "" && !isUUID(j.Subject):
		return errors.New("storage: job: Job.Subject is no record ID")
	case j.Adopt && j.Kind != SealColumns:
		return errors.New("storage: job: Job.Adopt is for SealColumns")
	}
	return nil
}

// modelNamed returns the model of a value.
func (j *jobRun) modelNamed(v any) (*model, error) {
	stmt := &gorm.Statement{DB: j.db}
	if err := stmt.Parse(v); err != nil {
		return nil, fmt.Errorf("storage: job: Job.Model: %w", err)
	}
	m, err := j.modelOf(&gorm.DB{Config: j.db.Config, Statement: stmt})
	if err == nil && m == nil {
		err = errors.New("storage: job: Job.Model has no phi tags")
	}
	return m, err
}

// allow asks whether the principal may maintain every kind of record.
func (j *jobRun) allow() error {
	resources := []access.Resource{{Type: "job", Tenant: j.tenant}}
	for _, m := range j.models {
		resources = append(resources, access.Resource{Type: m.name, Tenant: j.tenant})
	}
	d, err := j.cfg.Access.Check(j.ctx, access.Request{Action: access.Maintain, Resources: resources})
	if err == nil && d.AllowAll(len(resources)) {
		return nil
	}
	if err == nil {
		err = &access.DeniedError{Action: access.Maintain, Resource: "job", Code: firstDenial(d, len(resources)), Decision: d.ID}
	}
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Maintain, Code: codeOf(err), Decision: d.ID}
	_, rerr := j.cfg.Audit.Record(j.ctx, ev)
	return errors.Join(err, rerr)
}

// planOf returns the steps of the job's kind.
func (j *jobRun) planOf(models []*model) (jobPlan, error) {
	switch j.job.Kind {
	case SealColumns:
		return j.planSeal(models)
	case DropColumns:
		return j.planDrop(models)
	case BackOut:
		return j.planBackOut(models)
	case RotateKEK:
		return j.planKEK(), nil
	case RotateTenantKey:
		return j.planTenantKey(), nil
	case RotateSubjectKeys:
		return j.planSubjectKeys(), nil
	case RotateIndexKey:
		return j.planIndexKey(), nil
	case RenameFields:
		return j.planRename(models)
	case RebuildIndex:
		return j.planRebuild(models), nil
	case MergePatients:
		return j.planMerge(), nil
	case UnmergePatients:
		return j.planUnmerge(), nil
	}
	return jobPlan{}, errors.New("storage: job: Job.Kind is none of the kinds of job")
}

// id names the job: the same parameters are the same job.
func (j *jobRun) id() string {
	h := sha256.New()
	model := ""
	if j.job.Model != nil {
		model = fmt.Sprintf("%T", j.job.Model)
	}
	tenant := j.tenant
	if j.job.Kind == RotateKEK {
		tenant = ""
	}
	for _, s := range []string{tenant, j.job.Kind, j.job.Name, model, j.job.Subject, j.job.Into} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s)))
		_, _ = io.WriteString(h, s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (j *jobRun) jobs() *gorm.DB { return j.own(j.ctx, inner(j.pool)) }

// claim makes this process the one that runs the job.
func (j *jobRun) claim() error {
	me := uuid.NewString()
	fresh := jobRow{ID: j.id(), TenantID: j.tenant, Kind: j.job.Kind, Name: j.job.Name, State: jobRunning, Holder: me}
	db := j.jobs().Clauses(clause.OnConflict{DoNothing: true}).Create(&fresh)
	if db.Error != nil {
		return fmt.Errorf("storage: job: insert into phi_jobs: %w", db.Error)
	}
	began := db.RowsAffected == 1
	if !began {
		if err := j.take(me); err != nil || j.report.Done {
			return err
		}
	} else {
		j.row = fresh
	}
	j.report.Resumed = !began && (j.row.Rows > 0 || j.row.Step > 0)
	if !j.report.Resumed {
		total, err := j.total()
		if err != nil {
			return errors.Join(err, j.release())
		}
		j.row.Total = total
		if err := j.announce(audit.ReasonPending, 0); err != nil {
			return errors.Join(err, j.release())
		}
	}
	j.begin("job")
	return nil
}

// take takes over a job that nobody runs.
func (j *jobRun) take(me string) error {
	var seen jobRow
	for waited := false; ; waited = true {
		var row jobRow
		if err := j.jobs().Take(&row, "id = ?", j.id()).Error; err != nil {
			return fmt.Errorf("storage: job: read phi_jobs: %w", err)
		}
		next := row
		next.Holder, next.Beat = me, row.Beat+1
		switch {
		case row.State == jobDone && row.Name != "":
			j.row = row
			j.show()
			j.report.Done = true
			return nil
		case row.State == jobDone: // a new run
			next.State, next.Step, next.AtTable, next.AfterID = jobRunning, 0, "", ""
			next.Total, next.Rows, next.Changed, next.Skipped = 0, 0, 0, 0
		case row.Holder == "":
		case waited && (row.Beat != seen.Beat || row.Holder != seen.Holder):
			return ErrJobRunning
		case !waited: // is it alive?
			seen = row
			if err := sleep(j.ctx, j.job.Lease); err != nil {
				return err
			}
			continue
		}
		// Compare and swap: of two who wait, one gets it.
		db := j.jobs().Model(&jobRow{}).Where("id = ? AND holder = ? AND beat = ?", row.ID, row.Holder, row.Beat).Select("*").Updates(&next)
		if db.Error != nil {
			return fmt.Errorf("storage: job: update phi_jobs: %w", db.Error)
		}
		if db.RowsAffected == 1 {
			j.row = next
			return nil
		}
		if waited {
			return ErrJobRunning
		}
	}
}

// release lets go of the job, so that the next call need not wait.
func (j *jobRun) release() error {
	ctx := context.WithoutCancel(j.ctx)
	err := j.own(ctx, inner(j.pool)).Model(&jobRow{}).Where("id = ? AND holder = ?", j.row.ID, j.row.Holder).Update("holder", "").Error
	if err != nil {
		return fmt.Errorf("storage: job: update phi_jobs: %w", err)
	}
	return nil
}

// announce records that the job begins or has ended.
func (j *jobRun) announce(reason audit.Reason, count int64) error {
	if j.plan.event == "" {
		return nil
	}
	ev := audit.Event{Type: j.plan.event, Outcome: audit.Success, Reason: reason, Action: access.Maintain, Count: int(count)}
	if _, err := j.cfg.Audit.Record(j.ctx, ev); err != nil {
		return fmt.Errorf("storage: job %s: %w", j.job.Kind, err)
	}
	return nil
}

// total counts the rows of all walks.
func (j *jobRun) total() (int64, error) {
	var total int64
	for _, s := range j.plan.steps {
		for _, m := range s.models {
			n, err := j.countStored(j.ctx, inner(j.pool), j.selection(s, m))
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

func (j *jobRun) selection(s jobStep, m *model) selection {
	sel := selection{m: m, tenant: j.tenant}
	if s.narrow != nil {
		s.narrow(&sel)
	}
	return sel
}

func (j *jobRun) begin(what string) {
	j.bar = startProgress(j.job.Output, j.cfg.Now, what+" "+j.job.Kind, j.row.Rows, j.row.Total)
	j.show()
}

// show puts the checkpoint into the report.
func (j *jobRun) show() {
	j.report.Rows, j.report.Total, j.report.Changed = j.row.Rows, max(j.row.Total, j.row.Rows), j.row.Changed
	if j.bar != nil {
		j.bar.total = j.report.Total
		j.report.Rate, j.report.Left = j.bar.rate(), j.bar.left()
	}
}

func (j *jobRun) at(point string) {
	if j.job.hook != nil {
		j.job.hook(point)
	}
}

// run does what is left of the plan.
func (j *jobRun) run() error {
	defer j.bar.end()
	again := 0
	for j.row.Step < len(j.plan.steps) {
		s := j.plan.steps[j.row.Step]
		err := j.step(s)
		if errors.Is(err, errAgain) && again < jobTries {
			again++
			err = j.rewind()
		}
		if err != nil {
			return err
		}
	}
	if err := j.announce(j.plan.reason, j.row.Changed); err != nil {
		return err
	}
	next := j.row
	next.State = jobDone
	if err := j.checkpoint(j.ctx, inner(j.pool), next); err != nil {
		return err
	}
	j.report.Done = true
	j.show()
	return nil
}

// step does one step, and moves on to the next.
func (j *jobRun) step(s jobStep) error {
	j.at("step")
	next := j.row
	next.Step, next.AtTable, next.AfterID = j.row.Step+1, "", ""
	switch {
	case s.rows != nil:
		if err := j.walk(s); err != nil {
			return err
		}
		next = j.row
		next.Step, next.AtTable, next.AfterID = j.row.Step+1, "", ""
		if j.row.Skipped > 0 {
			n := j.row.Skipped
			if err := j.rewind(); err != nil {
				return err
			}
			return fmt.Errorf("storage: job %s: %d records could not be done and are as they were; see JobReport.Skipped: mend them, or shred or delete them, and run the job again", j.job.Kind, n)
		}
	case s.ids != nil:
		if err := j.pages(s); err != nil {
			return err
		}
		next = j.row
		next.Step, next.AtTable, next.AfterID = j.row.Step+1, "", ""
	case s.once != nil:
		return j.batch(next, s.once)
	case s.alter != nil:
		if err := s.alter(j.ctx); err != nil {
			return err
		}
	case s.wait > 0:
		if err := j.pause(s.wait); err != nil {
			return err
		}
		next.Beat = j.row.Beat
	}
	return j.checkpoint(j.ctx, inner(j.pool), next)
}

// rewind goes back to the step that is marked for it.
func (j *jobRun) rewind() error {
	next := j.row
	next.Step = max(0, slices.IndexFunc(j.plan.steps, func(s jobStep) bool { return s.back }))
	next.AtTable, next.AfterID, next.Skipped, next.Rows = "", "", 0, 0
	return j.checkpoint(j.ctx, inner(j.pool), next)
}

// walk reads the rows of the step's models, batch by batch.
func (j *jobRun) walk(s jobStep) error {
	for _, m := range s.models {
		if m.table < j.row.AtTable {
			continue
		}
		for {
			sel := j.selection(s, m)
			sel.limit, sel.lock = j.job.Batch, true
			if m.table == j.row.AtTable {
				sel.after = j.row.AfterID
			}
			n := 0
			next := j.row
			err := j.batch(next, func(b *jobBatch) error {
				rows, err := j.stored(b.ctx, b.tx.Tx, sel)
				if err != nil {
					return err
				}
				j.at("read")
				if n = len(rows); n == 0 {
					return nil
				}
				b.next.AtTable, b.next.AfterID = m.table, rows[n-1].record
				b.next.Rows += int64(n)
				b.o.m = m
				if err := b.lookup(rows); err != nil {
					return err
				}
				return s.rows(b, rows)
			})
			if err != nil {
				return err
			}
			j.bar.add(int64(n))
			if n < j.job.Batch {
				break
			}
			if err := j.pause(j.job.Pause); err != nil {
				return err
			}
		}
	}
	return nil
}

// pages reads the IDs of the step, batch by batch.
func (j *jobRun) pages(s jobStep) error {
	for {
		ids, err := s.page(j.ctx, inner(j.pool), j.row.AfterID, j.job.Batch)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		next := j.row
		next.AfterID = ids[len(ids)-1]
		if err := j.batch(next, func(b *jobBatch) error { return s.ids(b, ids) }); err != nil {
			return err
		}
		if err := j.pause(j.job.Pause); err != nil {
			return err
		}
	}
}

// pause waits, and shows meanwhile that the job is alive.
func (j *jobRun) pause(d time.Duration) error {
	for d > 0 {
		part := min(d, j.job.Lease/3)
		if err := sleep(j.ctx, part); err != nil {
			return err
		}
		if d -= part; d > 0 {
			if err := j.checkpoint(j.ctx, inner(j.pool), j.row); err != nil {
				return err
			}
		}
	}
	return j.ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// checkpoint stores how far the job is, if this process still runs it.
func (j *jobRun) checkpoint(ctx context.Context, conn gorm.ConnPool, next jobRow) error {
	next.Beat++
	next.UpdatedAt = time.Time{} // set by GORM
	db := j.own(ctx, conn).Model(&jobRow{}).Where("id = ? AND holder = ?", next.ID, next.Holder).Select("*").Updates(&next)
	if db.Error != nil {
		return fmt.Errorf("storage: job: update phi_jobs: %w", db.Error)
	}
	if db.RowsAffected != 1 {
		return ErrJobRunning // it was taken over
	}
	if _, tx := conn.(gorm.TxCommitter); !tx {
		j.row = next
	}
	return nil
}

// dry counts what the job would change.
func (j *jobRun) dry() error {
	total, err := j.total()
	if err != nil {
		return err
	}
	j.row.Total = total
	if err := j.announce(audit.ReasonPending, total); err != nil {
		return err
	}
	j.begin("dry run of")
	defer j.bar.end()
	for _, s := range j.plan.steps {
		j.row.AtTable, j.row.AfterID = "", ""
		for _, m := range s.models {
			for after, n := "", j.job.Batch; n == j.job.Batch; {
				sel := j.selection(s, m)
				sel.limit, sel.after = j.job.Batch, after
				if n, after, err = j.dryBatch(s, sel); err != nil {
					return err
				}
			}
		}
	}
	j.report.Done = true
	return nil
}

// dryBatch runs a batch in a transaction that is rolled back before it writes.
func (j *jobRun) dryBatch(s jobStep, sel selection) (n int, after string, err error) {
	tx, err := j.pool.begin(j.ctx, nil)
	if err != nil {
		return 0, "", fmt.Errorf("storage: job: begin: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	b := &jobBatch{jobRun: j, ctx: j.ctx, tx: tx}
	b.o = &op{plugin: j.plugin, db: j.own(j.ctx, tx.Tx), ctx: j.ctx, m: sel.m, tx: tx, scope: j.scope, action: access.Maintain,
		changes: map[*row][]change{}, tokens: map[*row][]indexRow{}, drop: map[*row][]string{}}
	rows, err := j.stored(j.ctx, tx.Tx, sel)
	if err != nil || len(rows) == 0 {
		return 0, "", err
	}
	if err := b.lookup(rows); err != nil {
		return 0, "", err
	}
	if err := s.rows(b, rows); err != nil {
		return 0, "", err
	}
	j.row.Rows += int64(len(rows))
	j.row.Changed += int64(len(b.o.rows))
	j.report.Skipped = append(j.report.Skipped, b.skips...)
	j.bar.add(int64(len(rows)))
	j.show()
	return len(rows), rows[len(rows)-1].record, nil
}
