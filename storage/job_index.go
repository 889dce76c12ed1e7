// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// planRebuild makes the tokens of every record anew.
func (j *jobRun) planRebuild(models []*model) jobPlan {
	return jobPlan{event: audit.Sealed, reason: audit.ReasonRebuild, steps: []jobStep{{back: true, models: indexedModels(models), rows: reindex}}}
}

func indexedModels(models []*model) []*model {
	var out []*model
	for _, m := range models {
		for _, f := range m.sealed {
			if f.indexed() {
				out = append(out, m)
				break
			}
		}
	}
	return out
}

// reindex makes the tokens of the rows anew, under every live key.
func reindex(b *jobBatch, rows []*storedRow) error {
	for _, r := range rows {
		texts, ok := map[int]string{}, true
		for i, f := range r.model.sealed {
			if !f.indexed() || r.cells[i] == nil {
				continue
			}
			text, err := b.text(r, i)
			if gone(err) {
				continue
			}
			if ok = ok && err == nil; ok {
				texts[i] = text
			}
		}
		if !ok {
			b.skip(r)
			continue
		}
		for i, f := range r.model.sealed {
			text, ok := texts[i]
			if !ok {
				continue
			}
			if err := b.o.index(&r.row, f, []byte(text)); err != nil {
				return err
			}
			b.o.drop[&r.row] = append(b.o.drop[&r.row], f.logical)
			b.note(r, f.Name, r.cells[i]) // the cell stays
		}
	}
	return nil
}

// text opens a cell for its index.
func (b *jobBatch) text(r *storedRow, i int) (string, error) {
	opened, err := b.open(r, i)
	if err != nil {
		return "", err
	}
	defer clear(opened)
	return textOf(r.model.sealed[i].empty(), opened)
}

// planIndexKey adds an index key, makes the tokens of both, lets every process
// learn of the new one, and drops the old one and its tokens.
func (j *jobRun) planIndexKey() jobPlan {
	return jobPlan{event: audit.KeyRotated, reason: audit.ReasonRotation, steps: []jobStep{
		tenantStep((*crypto.KeyTx).AddTenantKey, crypto.UseIndex),
		{back: true, models: indexedModels(j.models), rows: reindex},
		tenantStep((*crypto.KeyTx).PromoteTenantKey, crypto.UseIndex),
		{wait: j.bound()}, // until then a search may know the old key only, and must find everything
		tenantStep((*crypto.KeyTx).RetireTenantKeys, crypto.UseIndex),
		{page: j.oldTokens, ids: dropTokens},
	}}
}

// oldTokens reads the next records with tokens of a key that is no more.
func (j *jobRun) oldTokens(ctx context.Context, conn gorm.ConnPool, after string, limit int) ([]string, error) {
	live, err := j.liveVersions(ctx, j.keys.IndexKeys, conn)
	if err != nil || len(live) == 0 {
		return nil, err
	}
	return j.keyPage(ctx, conn, &indexRow{}, "record_id", after, limit, "tenant_id = ? AND key_version NOT IN ?", j.tenant, live)
}

func (j *jobRun) liveVersions(ctx context.Context, keys func(context.Context, crypto.KeyRows, string) ([]*crypto.IndexKey, error), conn gorm.ConnPool) ([]uint32, error) {
	list, err := keys(ctx, &keyRows{plugin: j.plugin, conn: conn}, j.tenant)
	if err != nil {
		return nil, fmt.Errorf("storage: job: %w", err)
	}
	var live []uint32
	for _, k := range list {
		live = append(live, k.Version())
	}
	return live, nil
}

func dropTokens(b *jobBatch, records []string) error {
	keys, err := b.tx.keys.IndexingKeys(b.ctx, b.tenant)
	if err != nil {
		return fmt.Errorf("storage: job: %w", err)
	}
	var live []uint32
	for _, k := range keys {
		live = append(live, k.Version())
	}
	err = b.own(b.ctx, b.tx.Tx).Where("tenant_id = ? AND record_id IN ? AND key_version NOT IN ?", b.tenant, records, live).Delete(&indexRow{}).Error
	if err != nil {
		return fmt.Errorf("storage: job: delete from phi_index: %w", err)
	}
	b.next.Changed += int64(len(records))
	return nil
}

// planRename binds cells and tokens to the new names.
func (j *jobRun) planRename(models []*model) (jobPlan, error) {
	p := jobPlan{event: audit.Sealed, reason: audit.ReasonRename}
	var with []*model
	for _, m := range models {
		if slices.ContainsFunc(m.sealed, func(f *field) bool { return f.former != nil }) {
			with = append(with, m)
		}
	}
	if len(with) == 0 {
		return p, errors.New("storage: job rename: no field has was= in its tag")
	}
	p.steps = []jobStep{{back: true, models: with, rows: rename}}
	return p, nil
}

// rename seals the cells that are bound to the former name anew.
func rename(b *jobBatch, rows []*storedRow) error {
	var subjects []string
	for _, r := range rows {
		subjects = append(subjects, r.subject)
	}
	keys, err := b.tx.keys.ResealingKeys(b.ctx, b.tenant, unique(subjects))
	if err != nil {
		return fmt.Errorf("storage: job: %w", err)
	}
	for _, r := range rows {
		s, ok := rowSet{r: r}, true
		fresh, texts := map[int][]byte{}, map[int]string{}
		for i, f := range r.model.sealed {
			raw := r.cells[i]
			if f.former == nil || raw == nil || keys[r.subject] == nil || b.bound(r, i) {
				continue
			}
			cell, err := b.reseal(r, i, keys[r.subject], &r.row)
			if err == nil && f.indexed() {
				texts[i], err = b.text(r, i)
			}
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
		for i, f := range r.model.sealed {
			if text, ok := texts[i]; ok {
				if err := b.o.index(&r.row, f, []byte(text)); err != nil {
					return err
				}
				b.o.drop[&r.row] = append(b.o.drop[&r.row], f.logical)
			}
		}
		if len(fresh) > 0 {
			b.setAll(&s, fresh)
		}
	}
	return nil
}

// bound reports whether a cell is bound to its field's name already.
func (b *jobBatch) bound(r *storedRow, i int) bool {
	h, err := crypto.ParseHeader(r.cells[i])
	if err != nil {
		return false
	}
	key := b.found[crypto.KeyRef{Subject: r.subject, Version: h.KeyVersion, Test: h.Test}].Key
	if key == nil {
		return false
	}
	opened, err := key.Open(nil, r.cells[i], r.binding(r.model.sealed[i]))
	clear(opened)
	return err == nil
}

// withFormer adds to logical names of fields the others that they have.
func (m *model) withFormer(names []string) []string {
	out := slices.Clone(names)
	for _, f := range m.sealed {
		if f.former != nil && slices.Contains(names, f.logical) {
			out = append(out, f.former.logical)
		}
	}
	return out
}
