// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// bound is how long every process may take to notice a change of a tenant's
// keyset, and more for what was under way.
func (j *jobRun) bound() time.Duration {
	b := j.keys.Bound()
	return b + b/10 + min(b, time.Second)
}

// sealedModels are the models with sealed fields.
func (j *jobRun) sealedModels() []*model {
	var out []*model
	for _, m := range j.models {
		if len(m.sealed) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// planKEK wraps the keysets of every tenant anew, one tenant a transaction,
// because a KMS takes its time.
func (j *jobRun) planKEK() jobPlan {
	return jobPlan{event: audit.KeyRotated, reason: audit.ReasonRotation, steps: []jobStep{{
		page: func(ctx context.Context, conn gorm.ConnPool, after string, _ int) ([]string, error) {
			return j.keyPage(ctx, conn, &tenantKey{}, "tenant_id", after, 1, "1 = 1")
		},
		ids: func(b *jobBatch, tenants []string) error {
			for _, tenant := range tenants {
				for _, use := range []crypto.Use{crypto.UseWrap, crypto.UseIndex} {
					if err := b.tx.keys.RewrapTenant(b.ctx, tenant, use); err != nil {
						return fmt.Errorf("storage: job: %w", err)
					}
				}
				b.next.Changed++
			}
			return nil
		},
	}}}
}

// keyPage reads the next distinct values of a column of a key table.
func (j *jobRun) keyPage(ctx context.Context, conn gorm.ConnPool, table any, column, after string, limit int, where string, args ...any) ([]string, error) {
	var out []string
	err := j.own(ctx, conn).Model(table).Distinct(column).Where(where, args...).Where(column+" > ?", after).Order(column).Limit(limit).Pluck(column, &out).Error
	if err != nil {
		return nil, fmt.Errorf("storage: job: read keys: %w", err)
	}
	return out, nil
}

// subjectPage reads the next subjects of the tenant; its own data key, whose
// subject is "", is not among them.
func (j *jobRun) subjectPage(ctx context.Context, conn gorm.ConnPool, after string, limit int) ([]string, error) {
	if j.job.Subject != "" {
		if after != "" {
			return nil, nil
		}
		return []string{j.job.Subject}, nil
	}
	return j.keyPage(ctx, conn, &subjectKey{}, "subject_id", after, limit, "tenant_id = ?", j.tenant)
}

// keyStep calls one of the key functions with each page of subjects.
func (j *jobRun) keyStep(f func(*crypto.KeyTx, context.Context, string, []string) (int, error)) jobStep {
	return jobStep{page: j.subjectPage, ids: func(b *jobBatch, subjects []string) error { return b.rotate(f, subjects) }}
}

func (b *jobBatch) rotate(f func(*crypto.KeyTx, context.Context, string, []string) (int, error), subjects []string) error {
	n, err := f(b.tx.keys, b.ctx, b.tenant, subjects)
	if err != nil {
		return fmt.Errorf("storage: job: %w", err)
	}
	b.next.Changed += int64(n)
	return nil
}

// tenantStep calls one of the functions on a tenant's keyset.
func tenantStep(f func(*crypto.KeyTx, context.Context, string, crypto.Use) error, use crypto.Use) jobStep {
	return jobStep{once: func(b *jobBatch) error {
		if err := f(b.tx.keys, b.ctx, b.tenant, use); err != nil {
			if errors.Is(err, crypto.ErrInUse) {
				return errors.Join(errAgain, err)
			}
			return fmt.Errorf("storage: job: %w", err)
		}
		return nil
	}}
}

// planTenantKey adds a key, lets every process learn of it, wraps the subjects'
// keys under it, and drops the old one.
func (j *jobRun) planTenantKey() jobPlan {
	rewrap := (*crypto.KeyTx).RewrapSubjects
	pages := j.keyStep(rewrap)
	pages.back = true
	return jobPlan{event: audit.KeyRotated, reason: audit.ReasonRotation, steps: []jobStep{
		tenantStep((*crypto.KeyTx).AddTenantKey, crypto.UseWrap),
		{wait: j.bound()},
		tenantStep((*crypto.KeyTx).PromoteTenantKey, crypto.UseWrap),
		pages,
		{once: func(b *jobBatch) error { return b.rotate(rewrap, []string{""}) }}, // the tenant's data key
		tenantStep((*crypto.KeyTx).RetireTenantKeys, crypto.UseWrap),
	}}
}

// planSubjectKeys gives each subject a new key version, seals their cells anew,
// and drops the old versions once nothing that was read before is left to
// open. The second walk finds what was missed; it should be nothing, and a key
// is dropped only once.
func (j *jobRun) planSubjectKeys() jobPlan {
	own := func(s *selection) { s.subject = j.job.Subject }
	walk := jobStep{models: j.sealedModels(), narrow: own, rows: reseal, back: true}
	verify := walk
	verify.back = false
	steps := []jobStep{j.keyStep((*crypto.KeyTx).RotateSubjects)}
	if j.job.Subject == "" {
		steps = append(steps, jobStep{once: func(b *jobBatch) error { return b.rotate((*crypto.KeyTx).RotateSubjects, []string{""}) }})
	}
	steps = append(steps, walk, jobStep{wait: j.job.Grace}, verify, j.keyStep((*crypto.KeyTx).RetireSubjects))
	return jobPlan{event: audit.KeyRotated, reason: audit.ReasonRotation, steps: steps}
}

// reseal seals the cells that are not under the newest key of their subject
// anew. What is in them stays the same, byte by byte.
func reseal(b *jobBatch, rows []*storedRow) error {
	var subjects []string
	for _, r := range rows {
		subjects = append(subjects, r.subject)
	}
	keys, err := b.tx.keys.ResealingKeys(b.ctx, b.tenant, unique(subjects))
	if err != nil {
		return fmt.Errorf("storage: job: %w", err)
	}
	for _, r := range rows {
		key := keys[r.subject]
		if key == nil {
			continue // shredded, or nothing was ever sealed for it
		}
		s, ok := rowSet{r: r}, true
		fresh := map[int][]byte{}
		for i, raw := range r.cells {
			if raw == nil {
				continue
			}
			if h, err := crypto.ParseHeader(raw); err == nil && h.KeyVersion == key.Version() {
				continue
			}
			cell, err := b.reseal(r, i, key, &r.row)
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
		if len(fresh) > 0 {
			b.setAll(&s, fresh)
		}
	}
	return nil
}

// reseal opens a cell and seals what is in it under key, for the row as it will
// be.
func (b *jobBatch) reseal(r *storedRow, i int, key *crypto.Key, as *row) ([]byte, error) {
	opened, err := b.open(r, i)
	if err != nil {
		return nil, err
	}
	defer clear(opened)
	plain, err := unframe(opened)
	if err != nil {
		return nil, err
	}
	return as.seal(key, r.model.sealed[i], plain)
}

// setAll notes new cells of a row, in the order of its fields.
func (b *jobBatch) setAll(s *rowSet, cells map[int][]byte) {
	for i := range s.r.model.sealed {
		if raw, ok := cells[i]; ok {
			b.set(s, i, raw)
		}
	}
	b.sets = append(b.sets, *s)
}
