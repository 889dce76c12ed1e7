// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"io"
	"time"

	"gorm.io/gorm"
)

// The kinds of job. Each works on the tenant of the context's principal; only
// [RotateKEK] is about all of them.
const (
	// SealColumns moves the plaintext of columns that a tag names with from=
	// into their sealed fields. While it runs both are read; writes go to the
	// sealed column and set the old one to NULL. At the end, when no tenant has
	// plaintext left, the database refuses any in the old column.
	SealColumns = "seal"

	// DropColumns drops the columns that SealColumns has emptied.
	DropColumns = "drop"

	// BackOut is SealColumns the other way: it puts the values of the sealed
	// fields with from= back into the old columns, in clear. It needs
	// Development, or a deviation from 164.312(a)(2)(iv).
	BackOut = "backout"

	// RotateKEK wraps the keysets of every tenant anew under Config.KEK. While
	// it runs, Config.KEK is a crypto.RotatingKEK of the new and the old one.
	RotateKEK = "rotate.kek"

	// RotateTenantKey gives the tenant a new key, wraps the keys of its
	// patients under it, and drops the old one.
	RotateTenantKey = "rotate.tenant"

	// RotateSubjectKeys gives each patient, or the one of Job.Subject, a new
	// key, seals their cells anew under it, and drops the old one after
	// Job.Grace. The tenant's own data key gets a new version and keeps the old
	// ones, because what [Sealer] sealed under them is known to the app alone.
	RotateSubjectKeys = "rotate.subjects"

	// RotateIndexKey gives the tenant a new key for search tokens, makes them
	// anew, and drops the old key and its tokens.
	RotateIndexKey = "rotate.index"

	// RenameFields binds what is sealed, and its tokens, to the logical names of
	// the fields whose tag has was=, from the names given there. Both open and
	// are searched while the tags say so. With several nodes, deploy
	// as=old,was=new on all of them first, then as=new,was=old, then run it,
	// then take was= out.
	RenameFields = "rename"

	// RebuildIndex makes the search tokens of every record anew.
	RebuildIndex = "rebuild"

	// MergePatients makes every record about Job.Subject one about Job.Into:
	// two records of one patient become one. The duplicate's own record stays,
	// readable and searchable, with MergedInto set; nothing new is sealed for it.
	MergePatients = "merge"

	// UnmergePatients undoes MergePatients of the same two: what was moved, and
	// is still about Job.Into, goes back.
	UnmergePatients = "unmerge"
)

// A Job is what [RunJob] runs. Only Kind is always required.
type Job struct {
	Kind string // one of the constants

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
	Kind    string
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
