// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// A mergeRow is one record that a merge made one about another patient, so that
// it can go back. For the duplicate's own record, RecordID is its own ID. It
// holds record IDs only.
type mergeRow struct {
	TenantID  string `gorm:"primaryKey;size:64"`
	FromID    string `gorm:"primaryKey;size:36"` // the duplicate
	Entity    string `gorm:"primaryKey;size:64"` // table of the record
	RecordID  string `gorm:"primaryKey;size:36"`
	IntoID    string `gorm:"size:36;not null;index"`
	CreatedAt time.Time
}

func (mergeRow) TableName() string { return "phi_merges" }

// aboutPatients are the models whose rows are about a patient who is another
// record.
func (j *jobRun) aboutPatients() []*model {
	return slices.DeleteFunc(slices.Clone(j.models), func(m *model) bool { return m.subject == nil })
}

func (j *jobRun) patients() []*model {
	return slices.DeleteFunc(slices.Clone(j.models), func(m *model) bool { return !m.own })
}

// planMerge closes the duplicate, moves the records about it, and marks its own.
func (j *jobRun) planMerge() jobPlan {
	return jobPlan{reason: audit.ReasonMerge, steps: []jobStep{
		{once: j.closeDuplicate},
		{back: true, models: j.aboutPatients(), narrow: func(s *selection) { s.subject = j.job.Subject }, rows: j.moveTo(j.job.Into, true)},
		{models: j.patients(), narrow: func(s *selection) { s.subject = j.job.Subject }, rows: j.mark(j.job.Into)},
	}}
}

// planUnmerge opens the duplicate again, and moves back what the merge moved.
func (j *jobRun) planUnmerge() jobPlan {
	return jobPlan{reason: audit.ReasonUnmerge, steps: []jobStep{
		{once: j.openDuplicate},
		{back: true, models: j.aboutPatients(), narrow: func(s *selection) { s.subject, s.movedFrom = j.job.Into, j.job.Subject }, rows: j.moveTo(j.job.Subject, false)},
		{models: j.patients(), narrow: func(s *selection) { s.subject = j.job.Subject }, rows: j.mark("")},
		{once: j.forget},
	}}
}

// closeDuplicate makes sure that nothing new is sealed for the duplicate, and
// records the merge.
func (j *jobRun) closeDuplicate(b *jobBatch) error {
	rows, err := j.twoPatients(b)
	if err != nil {
		return err
	}
	for _, r := range rows {
		switch {
		case r.Shredded:
			return fmt.Errorf("storage: job merge: %w: where it is Job.Into, and the merge had begun, UnmergePatients opens the duplicate again", crypto.ErrShredded)
		case r.Closed && r.Subject == j.job.Into:
			return &RefusedError{Op: "job merge", Why: "Job.Into was merged into another patient", Mend: "merge into that one"}
		}
	}
	var other int64
	if err := b.own(b.ctx, b.tx.Tx).Model(&mergeRow{}).Where("tenant_id = ? AND from_id = ? AND into_id <> ?", b.tenant, j.job.Subject, j.job.Into).Count(&other).Error; err != nil {
		return fmt.Errorf("storage: job merge: read phi_merges: %w", err)
	}
	if other > 0 {
		return &RefusedError{Op: "job merge", Why: "Job.Subject was merged into another patient", Mend: "unmerge it first"}
	}
	if err := b.setClosed(true); err != nil {
		return err
	}
	return j.recordMerge(b)
}

// openDuplicate lets the duplicate take new data again. The other patient may
// have been shredded, and the merge may have ended before it moved a record.
func (j *jobRun) openDuplicate(b *jobBatch) error {
	rows, err := j.twoPatients(b)
	if err != nil {
		return err
	}
	closed := false
	for _, r := range rows {
		if r.Shredded && r.Subject == j.job.Subject {
			return fmt.Errorf("storage: job unmerge: %w", crypto.ErrShredded)
		}
		closed = closed || r.Closed && r.Subject == j.job.Subject
	}
	var into []string
	if err := b.own(b.ctx, b.tx.Tx).Model(&mergeRow{}).Distinct("into_id").Where("tenant_id = ? AND from_id = ?", b.tenant, j.job.Subject).Pluck("into_id", &into).Error; err != nil {
		return fmt.Errorf("storage: job unmerge: read phi_merges: %w", err)
	}
	if !slices.Contains(into, j.job.Into) && (!closed || len(into) > 0) {
		return &RefusedError{Op: "job unmerge", Why: "Job.Subject was not merged into Job.Into", Mend: "give the two of the merge"}
	}
	if err := b.setClosed(false); err != nil {
		return err
	}
	// A merge that was cut off would go on behind the step that closes.
	merge := *j
	merge.job.Kind = MergePatients
	if err := b.own(b.ctx, b.tx.Tx).Where("id = ? AND state <> ?", merge.id(), jobDone).Delete(&jobRow{}).Error; err != nil {
		return fmt.Errorf("storage: job unmerge: delete from phi_jobs: %w", err)
	}
	return j.recordMerge(b)
}

// twoPatients reads the keys of both patients under the lock for which those
// who seal wait.
func (j *jobRun) twoPatients(b *jobBatch) ([]crypto.KeyRow, error) {
	k := &keyRows{plugin: j.plugin, conn: b.tx.Tx}
	if err := k.LockKeys(b.ctx, b.tenant, string(crypto.UseWrap)); err != nil {
		return nil, err
	}
	rows, err := k.SubjectKeys(b.ctx, b.tenant, []string{j.job.Subject, j.job.Into}, true)
	if err != nil {
		return nil, err
	}
	for _, id := range []string{j.job.Subject, j.job.Into} {
		if !slices.ContainsFunc(rows, func(r crypto.KeyRow) bool { return r.Subject == id }) {
			return nil, &RefusedError{Op: "job " + string(j.job.Kind), Why: "one of the two is no patient with anything sealed", Mend: "give the IDs of two patients of this tenant"}
		}
	}
	return rows, nil
}

func (b *jobBatch) setClosed(closed bool) error {
	err := b.own(b.ctx, b.tx.Tx).Model(&subjectKey{}).Where("tenant_id = ? AND subject_id = ? AND shredded = ?", b.tenant, b.job.Subject, false).Update("closed", closed).Error
	if err != nil {
		return fmt.Errorf("storage: job: update phi_subject_keys: %w", err)
	}
	return nil
}

// recordMerge records which two patients are concerned.
func (j *jobRun) recordMerge(b *jobBatch) error {
	name := "patient"
	if own := j.patients(); len(own) > 0 {
		name = own[0].name
	}
	ev := audit.Event{Type: audit.Merged, Outcome: audit.Success, Reason: j.plan.reason, Action: access.Maintain}
	for _, id := range []string{j.job.Subject, j.job.Into} { // the duplicate first
		ev.Objects = append(ev.Objects, audit.Object{Type: name, Tenant: b.tenant, Record: id, Patient: id})
	}
	if _, err := j.cfg.Audit.Record(b.ctx, ev); err != nil {
		return fmt.Errorf("storage: job %s: %w", j.job.Kind, err)
	}
	return nil
}

// moveTo makes records ones about another patient: their cells are sealed under
// that patient's key, their tokens name that patient.
func (j *jobRun) moveTo(subject string, remember bool) func(*jobBatch, []*storedRow) error {
	return func(b *jobBatch, rows []*storedRow) error {
		keys, err := b.tx.keys.SealingKeys(b.ctx, b.tenant, []string{subject})
		if err != nil {
			return fmt.Errorf("storage: job: %w", err)
		}
		var moved []mergeRow
		var ids []string
		for _, r := range rows {
			as := r.row
			as.subject, as.version = subject, r.version+1
			s, ok := rowSet{r: r}, true
			fresh := map[int][]byte{}
			for i, raw := range r.cells {
				if raw == nil {
					continue
				}
				cell, err := b.reseal(r, i, keys[subject], &as)
				if err != nil {
					ok = false
					break
				}
				fresh[i] = cell
			}
			if !ok {
				b.skip(r)
				continue
			}
			s.is, s.sets = map[string][]byte{}, map[string]any{}
			was := r.version
			b.note(r, r.model.subject.Name, nil)
			for i := range r.model.sealed {
				if raw, ok := fresh[i]; ok {
					b.set(&s, i, raw)
				}
			}
			s.sets[r.model.subject.DBName] = subject
			s.sets[r.model.column("Version")] = was + 1
			s.version = &was
			r.row.subject, r.row.version = subject, was+1 // as the event says it
			b.sets = append(b.sets, s)
			ids = append(ids, r.record)
			moved = append(moved, mergeRow{TenantID: b.tenant, FromID: j.job.Subject, Entity: r.model.bare(), RecordID: r.record, IntoID: j.job.Into})
		}
		if len(ids) == 0 {
			return nil
		}
		b.after = append(b.after, func() error {
			err := b.own(b.ctx, b.tx.Tx).Model(&indexRow{}).Where("tenant_id = ? AND record_id IN ?", b.tenant, ids).Update("subject_id", subject).Error
			if err == nil && remember {
				err = b.own(b.ctx, b.tx.Tx).Clauses(clause.OnConflict{DoNothing: true}).Create(&moved).Error
			}
			if err != nil {
				return fmt.Errorf("storage: job: follow the records: %w", err)
			}
			return nil
		})
		return nil
	}
}

// mark sets or clears MergedInto of the duplicate's own record.
func (j *jobRun) mark(into string) func(*jobBatch, []*storedRow) error {
	return func(b *jobBatch, rows []*storedRow) error {
		for _, r := range rows {
			was := r.version
			b.sets = append(b.sets, rowSet{r: r, version: &was, sets: map[string]any{r.model.column("MergedInto"): into, r.model.column("Version"): was + 1}})
			b.note(r, "MergedInto", nil)
			r.row.version = was + 1
			if into != "" {
				m := mergeRow{TenantID: b.tenant, FromID: r.record, Entity: r.model.bare(), RecordID: r.record, IntoID: into}
				b.after = append(b.after, func() error {
					if err := b.own(b.ctx, b.tx.Tx).Clauses(clause.OnConflict{DoNothing: true}).Create(&m).Error; err != nil {
						return fmt.Errorf("storage: job: insert into phi_merges: %w", err)
					}
					return nil
				})
			}
		}
		return nil
	}
}

// forget deletes what was remembered of a merge that is undone.
func (j *jobRun) forget(b *jobBatch) error {
	err := b.own(b.ctx, b.tx.Tx).Where("tenant_id = ? AND from_id = ? AND into_id = ?", b.tenant, j.job.Subject, j.job.Into).Delete(&mergeRow{}).Error
	if err != nil {
		return fmt.Errorf("storage: job: delete from phi_merges: %w", err)
	}
	return nil
}

// mergedInto returns the duplicates that were merged into a patient, those
// merged into them included.
func (p *plugin) mergedInto(db *gorm.DB, tenant, subject string) ([]string, error) {
	var all []string
	for next := []string{subject}; len(next) > 0; {
		var from []string
		if err := db.Model(&mergeRow{}).Distinct("from_id").Where("tenant_id = ? AND into_id IN ?", tenant, next).Pluck("from_id", &from).Error; err != nil {
			return nil, fmt.Errorf("storage: read phi_merges: %w", err)
		}
		next = slices.DeleteFunc(from, func(id string) bool { return id == subject || slices.Contains(all, id) })
		all = append(all, next...)
	}
	return all, nil
}
