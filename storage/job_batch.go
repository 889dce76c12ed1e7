// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage/internal/again"
)

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
		if err = again.Do(j.ctx, func() error { return j.tryBatch(next, f) }); err == nil {
			return nil
		}
		if errors.Is(err, ErrJobRunning) || errors.Is(err, access.ErrDenied) || errors.Is(err, audit.ErrUnavailable) || errors.Is(err, errUnknown) || try == jobTries-1 {
			break
		}
		j.cfg.Log.Info("a batch of a job failed; will try it again", zap.String("kind", j.job.Kind), zap.Error(err))
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
	ended := false
	defer func() {
		if !ended { // a callback panics
			_ = tx.Rollback()
		}
	}()
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
		ended = true
		return errors.Join(err, tx.Rollback())
	}
	j.at("commit")
	ended = true
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
			if ref := (crypto.KeyRef{Subject: r.subject, Version: h.KeyVersion, Test: h.Test}); err == nil {
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
	f := b.found[crypto.KeyRef{Subject: r.subject, Version: h.KeyVersion, Test: h.Test}]
	if f.Key == nil {
		return nil, cmp.Or(f.Err, crypto.ErrNoKey)
	}
	return r.openCell(nil, f.Key, r.model.sealed[i], r.cells[i])
}

// gone reports whether a cell does not open because its subject was shredded:
// there is nothing left to do for it.
func gone(err error) bool { return errors.Is(err, crypto.ErrShredded) }

// openCell opens a cell of the row, bound to the field's name or, with was= in
// its tag, to the other one.
func (r *row) openCell(dst []byte, key *crypto.Key, f *field, raw []byte) ([]byte, error) {
	out, err := key.Open(dst, raw, r.binding(f))
	if errors.Is(err, crypto.ErrOpen) && f.former != nil {
		return key.Open(dst, raw, r.binding(f.former))
	}
	return out, err
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
