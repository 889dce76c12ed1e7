// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/audit"
)

// A Hold says whether something forbids to destroy a patient's data, such as a
// litigation hold. Config.Holds lists all that [Shred] asks. Implementations
// are safe for concurrent use; the conformance suite is storagetest.TestHold.
type Hold interface {
	// Held reports whether the patient with the record ID subject is held. An
	// error counts as held: who cannot tell must not let it be destroyed.
	Held(ctx context.Context, tenant, subject string) (bool, error)
}

// Errors of [Shred] that an [Authority] may override.
var (
	// ErrHeld means that a [Hold] forbids it, or could not tell.
	ErrHeld = errors.New("storage: held: a legal hold forbids to destroy the patient's data: lift the hold, or shred by court order")

	// ErrRetained means that the retention period is not over.
	ErrRetained = errors.New("storage: retained: Config.Retention has not passed since the patient's newest record: wait, or give an authority that overrides it")
)

// mayDestroy asks the holds and the retention period, as far as the authority
// does not override them.
func (p *plugin) mayDestroy(ctx context.Context, models []*model, tenant, subject string, a Authority) (audit.Reason, error) {
	if !a.overridesHolds() {
		for _, h := range p.cfg.Holds {
			held, err := h.Held(ctx, tenant, subject)
			if err != nil {
				return audit.ReasonHold, fmt.Errorf("%w: %w", ErrHeld, err)
			}
			if held {
				return audit.ReasonHold, ErrHeld
			}
		}
	}
	if a.overridesRetention() {
		return audit.ReasonNone, nil
	}
	newest, err := p.newest(ctx, models, tenant, subject)
	if err != nil {
		return audit.ReasonRetention, fmt.Errorf("%w: %w", ErrRetained, err)
	}
	if p.now().Before(newest.Add(p.cfg.Retention)) {
		return audit.ReasonRetention, ErrRetained
	}
	return audit.ReasonNone, nil
}

// newest is when the newest of the patient's rows was written. A row that does
// not say so is an error: its retention period may have just begun.
func (p *plugin) newest(ctx context.Context, models []*model, tenant, subject string) (time.Time, error) {
	var newest time.Time
	for _, m := range models {
		if !m.own && m.subject == nil {
			continue
		}
		column := clause.Column{Name: m.column("UpdatedAt")}
		var at any
		order := clause.OrderBy{Expression: clause.Expr{SQL: "CASE WHEN ? IS NULL THEN 0 ELSE 1 END, ? DESC", Vars: []any{column, column}}}
		rows, err := p.rowsOf(ctx, inner(p.pool), selection{m: m, tenant: tenant, subject: subject}).Select(column.Name).Clauses(order).Limit(1).Rows()
		if err != nil {
			return newest, p.clean("read", m.table, err)
		}
		found := rows.Next()
		if found {
			err = rows.Scan(&at)
		}
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return newest, p.clean("read", m.table, err)
		}
		t, known := at.(time.Time)
		if found && !known {
			return newest, &RefusedError{Op: "shred", Table: m.table, Why: "a row of the patient has no time in " + column.Name + ", so that it is not known when its retention period began",
				Mend: "set it where it is missing, in a context of storage.Outside, or give an authority that overrides the period"}
		}
		if t.After(newest) {
			newest = t
		}
	}
	return newest, nil
}

// clearOf names the columns in which the patient's PHI lies in clear, after
// emptyOlds: of old columns those with rows that no tenant has adopted.
func (p *plugin) clearOf(ctx context.Context, conn gorm.ConnPool, models []*model, tenant, subject string) ([]string, error) {
	var out []string
	for _, m := range models {
		if !m.own && m.subject == nil {
			continue
		}
		olds, err := p.heldOlds(ctx, conn, m)
		if err != nil {
			return nil, err
		}
		for _, f := range olds {
			n, err := p.countStored(ctx, conn, selection{m: m, subject: subject, held: []string{f.tag.From}})
			if err != nil {
				return nil, err
			}
			if n > 0 {
				out = append(out, m.table+"."+f.tag.From)
			}
		}
		if len(m.clear) == 0 {
			continue
		}
		n, err := p.countStored(ctx, conn, selection{m: m, tenant: tenant, subject: subject})
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		for _, f := range m.clear {
			out = append(out, m.table+"."+f.DBName)
		}
	}
	return out, nil
}
