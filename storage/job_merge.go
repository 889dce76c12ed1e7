// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
	MAC       []byte `gorm:"column:mac"` // over all but CreatedAt
	CreatedAt time.Time
}

func (mergeRow) TableName() string { return "phi_merges" }

// mergeField is the domain of the rows' MACs.
const mergeField = "phi_merges"

func (m *mergeRow) statement() string {
	var b strings.Builder
	for _, s := range []string{m.TenantID, m.FromID, m.Entity, m.RecordID, m.IntoID} {
		fmt.Fprintf(&b, "%d:%s", len(s), s)
	}
	return b.String()
}

func (m *mergeRow) signed(mac metaMAC) bool { return mac.valid(mergeField, m.statement(), m.MAC) }

// forgedMerge refuses what would follow a row of phi_merges that no merge has
// written, or whose merge was undone.
func forgedMerge(op string, m *mergeRow, why string) error {
	id := func(s string) string { // whoever wrote it chose the text
		if isUUID(s) {
			return s
		}
		return "(no ID)"
	}
	return &RefusedError{Op: op, Why: "phi_merges says that record " + id(m.RecordID) + " came from patient " + id(m.FromID) + " to " + id(m.IntoID) + ", " + why,
		Mend: "find out who wrote it, see what storage.Check says, and delete that row of phi_merges, or put back the one that was there"}
}

const unsigned = "and storage did not write that"

// remember stores rows of phi_merges under their MACs, in place of what
// somebody may have put there before.
func (b *jobBatch) remember(rows []mergeRow) error {
	keys, err := b.tx.keys.IndexingKeys(b.ctx, metaTenant)
	if err != nil {
		return fmt.Errorf("storage: job: key of phi_merges: %w", err)
	}
	mac := metaMAC{keys}
	for i := range rows {
		rows[i].MAC = mac.sum(mergeField, rows[i].statement())
	}
	over := clause.OnConflict{
		Columns:   []clause.Column{{Name: "tenant_id"}, {Name: "from_id"}, {Name: "entity"}, {Name: "record_id"}},
		DoUpdates: clause.AssignmentColumns([]string{"into_id", "mac"}),
	}
	if err := b.own(b.ctx, b.tx.Tx).Clauses(over).Create(&rows).Error; err != nil {
		return fmt.Errorf("storage: job: insert into phi_merges: %w", err)
	}
	return nil
}

// remembered reads the rows of phi_merges of the duplicate, those of some
// records of one table, or all. One that storage did not write is an error.
func (j *jobRun) remembered(b *jobBatch, entity string, records []string) ([]mergeRow, error) {
	op := "job " + j.job.Kind
	keys, err := b.tx.keys.IndexingKeys(b.ctx, metaTenant)
	if err != nil {
		return nil, fmt.Errorf("storage: %s: key of phi_merges: %w", op, err)
	}
	db := b.own(b.ctx, b.tx.Tx).Where("tenant_id = ? AND from_id = ?", b.tenant, j.job.Subject)
	if entity != "" {
		db = db.Where("entity = ? AND record_id IN ?", entity, records)
	}
	var rows []mergeRow
	if err := db.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("storage: %s: read phi_merges: %w", op, err)
	}
	for i := range rows {
		if !rows[i].signed(metaMAC{keys}) {
			return nil, forgedMerge(op, &rows[i], unsigned)
		}
	}
	return rows, nil
}

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
	moved, err := j.remembered(b, "", nil)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(moved, func(m mergeRow) bool { return m.IntoID != j.job.Into }) {
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
	moved, err := j.remembered(b, "", nil)
	if err != nil {
		return err
	}
	into := func(m mergeRow) bool { return m.IntoID == j.job.Into }
	if !slices.ContainsFunc(moved, into) && (!closed || len(moved) > 0) {
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
			return nil, &RefusedError{Op: "job " + j.job.Kind, Why: "one of the two is no patient with anything sealed", Mend: "give the IDs of two patients of this tenant"}
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
		if !remember {
			if err := j.known(b, rows); err != nil {
				return err
			}
		}
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
				err = b.remember(moved)
			}
			if err != nil {
				return fmt.Errorf("storage: job: follow the records: %w", err)
			}
			return nil
		})
		return nil
	}
}

// known makes sure that a merge has moved each of the rows: phi_merges may have
// been written to since the step before.
func (j *jobRun) known(b *jobBatch, rows []*storedRow) error {
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.record)
	}
	moved, err := j.remembered(b, rows[0].model.bare(), ids)
	if err != nil {
		return err
	}
	for _, m := range moved {
		if m.IntoID != j.job.Into {
			return forgedMerge("job unmerge", &m, "which is not Job.Into")
		}
	}
	return nil
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
				b.after = append(b.after, func() error { return b.remember([]mergeRow{m}) })
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
// merged into them included. A row of phi_merges that storage did not write,
// or whose merge the trail knows to be undone, is an error: it would destroy
// somebody else's keys.
func (p *plugin) mergedInto(ctx context.Context, op string, mac metaMAC, tenant, subject string) ([]string, error) {
	var all []string
	var rows []mergeRow
	for next := []string{subject}; len(next) > 0; {
		var some []mergeRow
		if err := p.own(ctx, inner(p.pool)).Where("tenant_id = ? AND into_id IN ?", tenant, next).Find(&some).Error; err != nil {
			return nil, fmt.Errorf("storage: read phi_merges: %w", err)
		}
		next = nil
		for i := range some {
			id := some[i].FromID
			if !some[i].signed(mac) {
				return nil, forgedMerge(op, &some[i], unsigned)
			}
			if id != subject && !slices.Contains(all, id) {
				all, next, rows = append(all, id), append(next, id), append(rows, some[i])
			}
		}
	}
	return all, p.undone(ctx, op, tenant, rows)
}

// undone refuses merges of which the process's own trail says that they were
// undone: rows of phi_merges that were true once can be put back.
func (p *plugin) undone(ctx context.Context, op, tenant string, rows []mergeRow) error {
	h, ok := p.cfg.Audit.(audit.History)
	if !ok || len(rows) == 0 {
		return nil
	}
	newest := map[string]bool{} // pseudonym of a duplicate
	for ev, err := range h.Replay(ctx, tenant, audit.Merged) {
		if err != nil {
			return fmt.Errorf("storage: read the trail: %w", err)
		}
		if from, _, ok := mergeOf(&ev, tenant); ok {
			if _, seen := newest[from]; !seen {
				newest[from] = ev.Reason == audit.ReasonMerge
			}
		}
	}
	for i := range rows {
		if merged, seen := newest[h.Pseudonym(tenant, rows[i].FromID)]; seen && !merged {
			return forgedMerge(op, &rows[i], "and the trail that the merge was undone (where another node has merged them again, shred there; where the unmerge was cut off, run it again)")
		}
	}
	return nil
}

// mergeOf returns the pseudonyms of the two patients of a merge or unmerge.
func mergeOf(ev *audit.Stored, tenant string) (from, into string, ok bool) {
	if len(ev.Objects) != 2 || ev.Objects[0].Tenant != tenant || ev.Reason != audit.ReasonMerge && ev.Reason != audit.ReasonUnmerge {
		return "", "", false
	}
	return ev.Objects[0].Record, ev.Objects[1].Record, true
}
