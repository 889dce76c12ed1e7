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
	"go.uber.org/zap"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// A JobKind says what a job does.
type JobKind string

// The kinds of job. Each works on the tenant of the context's principal; only
// [RotateKEK] is about all of them.
const (
	// SealColumns moves the plaintext of columns that a tag names with from=
	// into their sealed fields. While it runs both are read; writes go to the
	// sealed column and set the old one to NULL. At the end, when no tenant has
	// plaintext left, the database refuses any in the old column.
	SealColumns JobKind = "seal"

	// DropColumns drops the columns that SealColumns has emptied.
	DropColumns JobKind = "drop"

	// BackOut is SealColumns the other way: it puts the values of the sealed
	// fields with from= back into the old columns, in clear. It needs
	// Development, or a deviation from 164.312(a)(2)(iv).
	BackOut JobKind = "backout"

	// RotateKEK wraps the keysets of every tenant anew under Config.KEK. While
	// it runs, Config.KEK is a crypto.RotatingKEK of the new and the old one.
	RotateKEK JobKind = "rotate.kek"

	// RotateTenantKey gives the tenant a new key, wraps the keys of its
	// patients under it, and drops the old one.
	RotateTenantKey JobKind = "rotate.tenant"

	// RotateSubjectKeys gives each patient, or the one of Job.Subject, a new
	// key, seals their cells anew under it, and drops the old one after
	// Job.Grace. The tenant's own data key gets a new version and keeps the old
	// ones, because what [Sealer] sealed under them is known to the app alone.
	RotateSubjectKeys JobKind = "rotate.subjects"

	// RotateIndexKey gives the tenant a new key for search tokens, makes them
	// anew, and drops the old key and its tokens.
	RotateIndexKey JobKind = "rotate.index"

	// RebuildIndex makes the search tokens of every record anew.
	RebuildIndex JobKind = "rebuild"

	// MergePatients makes every record about Job.Subject one about Job.Into:
	// two records of one patient become one. The duplicate's own record stays,
	// readable and searchable, with MergedInto set; nothing new is sealed for it.
	MergePatients JobKind = "merge"

	// UnmergePatients undoes MergePatients of the same two: what was moved, and
	// is still about Job.Into, goes back.
	UnmergePatients JobKind = "unmerge"
)

// A Job is what [RunJob] runs. Only Kind is always required.
type Job struct {
	Kind JobKind

	// Name tells runs of one job apart, such as "2026-11": a run that has
	// finished is not done again under the same name, so a deployment may call
	// RunJob at every start. Without a name a new run begins once the last one
	// has finished. At most 60 letters, digits, '-', '_' and '.'.
	Name string

	Model   any    // SealColumns, DropColumns, BackOut, RebuildIndex: this model only; nil is every one
	Subject string // RotateSubjectKeys: this patient only. Merge and unmerge: the duplicate
	Into    string // merge and unmerge: the patient that stays

	// Adopt makes SealColumns give the rows that have no tenant, as in a table
	// that had none before Migrate, to the principal's.
	Adopt bool

	Batch int           // records a transaction; zero means 100
	Pause time.Duration // between two batches, to leave the database to others

	// Grace is how long retired key versions go on to open, counted from when
	// the last cell was sealed anew: values that were read before and are
	// revealed after it fail. Zero means Config.RevealTTL.
	Grace time.Duration

	// Lease is how long a process may be silent before another takes its job
	// over. Zero means 15 seconds.
	Lease time.Duration

	// DryRun counts what would change, changes nothing, and records only that
	// it ran.
	DryRun bool

	Output   io.Writer       // where progress is shown: a terminal gets one line, rewritten; a pipe or file nothing. Nil is silent
	Progress func(JobReport) // called after each batch; nil is none

	hook func(point string) // for tests: where the work is
}

// A JobReport says what a job did, or how far it is.
type JobReport struct {
	Kind    JobKind
	Rows    int64         // records looked at, earlier runs included
	Total   int64         // records to look at, as counted at the beginning
	Changed int64         // records, or keys, changed
	Skipped []string      // IDs of records that could not be done in this call; they are as they were
	Rate    float64       // rows a second
	Left    time.Duration // until the end, at that rate; 0 where nobody can tell
	Resumed bool          // an earlier call had begun it
	Done    bool          // it is finished, by this call or by an earlier one
}

// ErrJobRunning means that another process runs the same job.
var ErrJobRunning = errors.New("storage: job: another process runs it: wait for it, or call RunJob again once that has ended")

// RunJob runs a job to its end, or goes on with one that an earlier call, which
// failed, was cancelled or was killed, has begun. ctx comes from [access.Job]:
// the principal is a service that may access.Maintain.
//
// The records are walked in the order of their IDs, a transaction a batch. Each
// batch records one event that names every patient and field before it writes,
// and moves the job's checkpoint in the same transaction, so nothing is lost or
// done twice wherever the process ends. A row is written only where version
// and bytes are as they were read. Of several processes one runs the job; the
// others get [ErrJobRunning], or take it over once it has been silent for
// Job.Lease.
//
// A record that cannot be done, such as one whose cell does not open, stays as
// it is, and its ID is in the report. The job then ends with an error before
// its last step (no key is retired, no column closed), and the next call walks
// again.
func RunJob(ctx context.Context, db *gorm.DB, job Job) (JobReport, error) {
	p, err := pluginOf(db)
	if err != nil {
		return JobReport{}, err
	}
	j := &jobRun{plugin: p, ctx: ctx, job: job, report: JobReport{Kind: job.Kind}}
	if err := j.prepare(); err != nil {
		return j.report, err
	}
	if job.DryRun {
		return j.report, j.dry()
	}
	if err := j.claim(); err != nil || j.report.Done {
		return j.report, err
	}
	err = j.run()
	return j.report, errors.Join(err, j.release())
}

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
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: access.Maintain, Decision: d.ID}
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
	for _, s := range []string{tenant, string(j.job.Kind), j.job.Name, model, j.job.Subject, j.job.Into} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s)))
		_, _ = io.WriteString(h, s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (j *jobRun) jobs() *gorm.DB { return j.own(j.ctx, inner(j.pool)) }

// claim makes this process the one that runs the job.
func (j *jobRun) claim() error {
	me := uuid.NewString()
	fresh := jobRow{ID: j.id(), TenantID: j.tenant, Kind: string(j.job.Kind), Name: j.job.Name, State: jobRunning, Holder: me}
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
	j.bar = startProgress(j.job.Output, j.cfg.Now, what+" "+string(j.job.Kind), j.row.Rows, j.row.Total)
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

// A jobBatch is one transaction of a job.
type jobBatch struct {
	*jobRun
	ctx   context.Context
	tx    *txConn
	o     *op
	next  jobRow // the checkpoint that it ends at
	found map[crypto.KeyRef]crypto.Found
	sets  []rowSet
	after []func() error // what follows the rows
	skips []string
}

// A rowSet is what a batch writes to one row, and what must be there before.
type rowSet struct {
	r     *storedRow
	is    map[string][]byte // column to cell; nil is NULL
	sets  map[string]any
	adopt bool // the row has no tenant yet

	version *int64 // where it is not that of r, which is what will be
}

// batch runs f in a transaction that ends with the checkpoint.
func (j *jobRun) batch(next jobRow, f func(*jobBatch) error) error {
	var err error
	for try := range jobTries {
		if err = j.ctx.Err(); err != nil {
			return err
		}
		if err = j.tryBatch(next, f); err == nil {
			return nil
		}
		if errors.Is(err, ErrJobRunning) || errors.Is(err, access.ErrDenied) || errors.Is(err, audit.ErrUnavailable) || errors.Is(err, errUnknown) || try == jobTries-1 {
			break
		}
		j.cfg.Log.Info("a batch of a job failed; will try it again", zap.String("kind", string(j.job.Kind)), zap.Error(err))
		if serr := sleep(j.ctx, time.Duration(try+1)*100*time.Millisecond); serr != nil {
			break
		}
	}
	return err
}

// errUnknown means that a COMMIT failed: whether it took place is for the
// next call to find, by the checkpoint.
var errUnknown = errors.New("storage: job: the outcome of a commit is not known: run the job again")

func (j *jobRun) tryBatch(next jobRow, f func(*jobBatch) error) error {
	tx, err := j.pool.begin(j.ctx, nil)
	if err != nil {
		return fmt.Errorf("storage: job: begin: %w", err)
	}
	b := &jobBatch{jobRun: j, ctx: j.ctx, tx: tx, next: next}
	b.o = &op{plugin: j.plugin, db: j.own(j.ctx, tx.Tx), ctx: j.ctx, tx: tx, scope: j.scope, action: access.Maintain, reason: j.plan.reason,
		policy: minimize.Pin(j.scope, j.cfg.Minimize), changes: map[*row][]change{}, tokens: map[*row][]indexRow{}, drop: map[*row][]string{}}
	err = f(b)
	if err == nil {
		err = b.write()
	}
	if err == nil {
		b.next.Skipped += int64(len(b.skips))
		j.at("checkpoint")
		err = j.checkpoint(j.ctx, tx.Tx, b.next)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	j.at("commit")
	if err := tx.Commit(); err != nil {
		return errors.Join(errUnknown, err)
	}
	j.at("committed")
	b.next.Beat++
	j.row = b.next
	j.report.Skipped = append(j.report.Skipped, b.skips...)
	j.show()
	if j.job.Progress != nil {
		j.job.Progress(j.report)
	}
	return nil
}

// write records what the batch is about to do, and does it.
func (b *jobBatch) write() error {
	if len(b.o.rows) == 0 {
		return nil
	}
	if err := b.o.allow(); err != nil {
		return err
	}
	if err := b.o.attempt(); err != nil {
		return err
	}
	b.at("attempt")
	for _, s := range b.sets {
		if err := b.update(s); err != nil {
			return err
		}
		b.at("write")
	}
	if err := b.o.writeIndex(); err != nil {
		return err
	}
	for _, f := range b.after {
		if err := f(); err != nil {
			return err
		}
	}
	b.next.Changed += int64(len(b.o.rows))
	return nil
}

// update writes one row where it is as it was read.
func (b *jobBatch) update(s rowSet) error {
	if len(s.sets) == 0 {
		return nil
	}
	m, tenant, version := s.r.model, s.r.tenant, s.r.version
	if s.adopt {
		tenant = ""
	}
	if s.version != nil {
		version = *s.version
	}
	db := b.own(b.ctx, b.tx.Tx).Table(m.table).Where(map[string]any{m.column("ID"): s.r.record, m.column("TenantID"): tenant, m.column("Version"): version})
	for column, was := range s.is {
		c := clause.Column{Name: column}
		if was == nil {
			db = db.Where(clause.Eq{Column: c, Value: nil})
		} else {
			db = db.Where(clause.Eq{Column: c, Value: was})
		}
	}
	db = db.Updates(s.sets)
	if db.Error != nil {
		return fmt.Errorf("storage: job: update %s failed", m.table) // the driver's text may quote values
	}
	if db.RowsAffected != 1 {
		return fmt.Errorf("storage: job: update %s: %w", m.table, ErrConflict)
	}
	return nil
}

// lookup reads the keys of the rows' cells, once a subject and version.
func (b *jobBatch) lookup(rows []*storedRow) error {
	b.found = map[crypto.KeyRef]crypto.Found{}
	var refs []crypto.KeyRef
	for _, r := range rows {
		for _, raw := range r.cells {
			h, err := crypto.ParseHeader(raw)
			if ref := (crypto.KeyRef{Subject: r.subject, Version: h.KeyVersion}); err == nil {
				if _, seen := b.found[ref]; !seen {
					b.found[ref] = crypto.Found{}
					refs = append(refs, ref)
				}
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	found, err := b.tx.keys.Lookup(b.ctx, b.tenant, refs)
	if err != nil {
		return fmt.Errorf("storage: job: %w", err)
	}
	for i, ref := range refs {
		b.found[ref] = found[i]
	}
	return nil
}

// open opens one cell of a row. The error wraps crypto.ErrShredded where
// nobody ever will.
func (b *jobBatch) open(r *storedRow, i int) ([]byte, error) {
	h, err := crypto.ParseHeader(r.cells[i])
	if err != nil {
		return nil, err
	}
	f := b.found[crypto.KeyRef{Subject: r.subject, Version: h.KeyVersion}]
	if f.Key == nil {
		return nil, cmp.Or(f.Err, crypto.ErrNoKey)
	}
	return r.openCell(nil, f.Key, r.model.sealed[i], r.cells[i])
}

// gone reports whether a cell does not open because its subject was shredded:
// there is nothing left to do for it.
func gone(err error) bool { return errors.Is(err, crypto.ErrShredded) }

// openCell opens a cell of the row.
func (r *row) openCell(dst []byte, key *crypto.Key, f *field, raw []byte) ([]byte, error) {
	return key.Open(dst, raw, r.binding(f))
}

// skip leaves a row as it is.
func (b *jobBatch) skip(r *storedRow) { b.skips = append(b.skips, r.record) }

// set notes that a row's cell becomes raw. names of fields go into the event.
func (b *jobBatch) set(s *rowSet, i int, raw []byte) {
	f := s.r.model.sealed[i]
	if s.is == nil {
		s.is, s.sets = map[string][]byte{}, map[string]any{}
	}
	s.is[f.DBName], s.sets[f.DBName] = s.r.cells[i], raw
	if raw == nil {
		s.sets[f.DBName] = nil
	}
	b.note(s.r, f.Name, raw)
}

// note puts a field of a row into the event.
func (b *jobBatch) note(r *storedRow, name string, raw []byte) {
	if !slices.Contains(b.o.rows, &r.row) {
		b.o.rows = append(b.o.rows, &r.row)
	}
	b.o.changes[&r.row] = append(b.o.changes[&r.row], change{name: name, raw: raw})
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
