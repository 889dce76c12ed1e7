// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/crypto"
)

// planSeal adopts rows without a tenant, seals what the old columns hold, and
// closes them.
func (j *jobRun) planSeal(models []*model) (jobPlan, error) {
	p := jobPlan{event: audit.Sealed, reason: audit.ReasonMigration}
	with, err := j.withOlds(models)
	if err != nil {
		return p, err
	}
	if j.job.Adopt {
		p.steps = append(p.steps, jobStep{models: with, narrow: func(s *selection) { s.tenant, s.extra = "", deletedColumns(s.m) }, rows: adopt})
	}
	p.steps = append(p.steps,
		jobStep{back: true, models: with, narrow: j.held, rows: j.sealOlds},
		jobStep{alter: func(ctx context.Context) error { return j.closeOlds(ctx, with) }})
	return p, nil
}

// withOlds are the models with an old column that is still there.
func (j *jobRun) withOlds(models []*model) ([]*model, error) {
	var with []*model
	for _, m := range models {
		fields, err := j.heldOlds(j.ctx, inner(j.pool), m)
		if err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			with = append(with, m)
		}
	}
	return with, nil
}

// held narrows to the rows of which an old column holds something.
func (j *jobRun) held(s *selection) {
	fields, err := j.heldOlds(j.ctx, inner(j.pool), s.m)
	s.extra = oldColumns(fields)
	s.held = s.extra
	s.err = err
}

// adopt gives rows without a tenant to the principal's. Where nobody noted when
// they were written it is now: retention periods count from there.
func adopt(b *jobBatch, rows []*storedRow) error {
	now := b.now()
	for _, r := range rows {
		if !isUUID(r.record) || r.model.subject != nil && !isUUID(r.subject) {
			b.skip(r) // its cells could not be bound
			continue
		}
		r.tenant = b.tenant
		sets := map[string]any{r.model.column("TenantID"): b.tenant}
		for _, name := range []string{"CreatedAt", "UpdatedAt"} {
			column := r.model.column(name)
			sets[column] = clause.Expr{SQL: "COALESCE(?, ?)", Vars: []any{clause.Column{Name: column}, now}}
		}
		b.sets = append(b.sets, rowSet{r: r, adopt: true, sets: sets})
		b.note(r, "TenantID", nil)
		for i, column := range deletedColumns(r.model) {
			if isMark(r.extra[i]) { // for Check, which else would take it for hidden
				b.note(r, r.model.schema.LookUpField(column).Name, []byte(deletedText))
			}
		}
	}
	return nil
}

// sealOlds seals the values of the rows' old columns.
func (j *jobRun) sealOlds(b *jobBatch, rows []*storedRow) error {
	fields, err := j.heldOlds(b.ctx, b.tx.Tx, b.o.m)
	if err != nil {
		return err
	}
	rows, keys, err := b.sealable(rows, fields)
	if err != nil {
		return err
	}
	taken, err := b.taken(rows, fields)
	if err != nil {
		return err
	}
	for n, r := range rows {
		s := rowSet{r: r}
		ok := !taken[n]
		type sealed struct {
			i    int
			raw  []byte
			text string
		}
		var done []sealed
		for k, f := range fields {
			i := slices.Index(r.model.sealed, f)
			switch {
			case r.extra[k] == nil:
				continue
			case r.cells[i] != nil:
				ok = false // both are there: which one is right, a person must say
				continue
			}
			ref := f.empty()
			c, err := ref.fromColumn(r.extra[k])
			if err != nil {
				ok = false
				continue
			}
			plain, err := ref.plain(c)
			if err != nil {
				ok = false
				continue
			}
			raw, err := r.seal(keys[r.subject], f, plain)
			if err != nil {
				return fmt.Errorf("storage: job: seal %s: %w", f.logical, err)
			}
			text, err := textOf(ref, frame(plain, 0))
			if err != nil {
				ok = false
				continue
			}
			done = append(done, sealed{i, raw, text})
		}
		if !ok {
			b.skip(r)
			continue
		}
		for _, d := range done {
			f := r.model.sealed[d.i]
			b.set(&s, d.i, d.raw)
			s.sets[f.tag.From] = nil
			if err := b.o.index(&r.row, f, []byte(d.text)); err != nil {
				return err
			}
			b.o.drop[&r.row] = append(b.o.drop[&r.row], f.logical)
		}
		b.sets = append(b.sets, s)
	}
	return nil
}

// sealable returns the keys of the rows' subjects, and the rows of those for
// whom something may be sealed, a closed duplicate's included: nothing there is
// new. Of a shredded patient the old columns are set to NULL, as Shred does it.
func (b *jobBatch) sealable(rows []*storedRow, fields []*field) ([]*storedRow, map[string]*crypto.Key, error) {
	var subjects, closed []string
	for _, r := range rows {
		subjects = append(subjects, r.subject)
	}
	subjects = unique(subjects)
	for {
		keys, err := b.tx.keys.SealingKeys(b.ctx, b.tenant, subjects)
		if err == nil {
			var more map[string]*crypto.Key
			if more, err = b.tx.keys.ResealingKeys(b.ctx, b.tenant, closed); err == nil {
				maps.Copy(keys, more)
				return rows, keys, nil
			}
		}
		var which *crypto.SubjectError
		if !errors.As(err, &which) || !slices.Contains(subjects, which.Subject) {
			return nil, nil, fmt.Errorf("storage: job: %w", err)
		}
		switch {
		case gone(err):
			rows = slices.DeleteFunc(rows, func(r *storedRow) bool {
				if r.subject == which.Subject {
					b.emptyOlds(r, fields)
				}
				return r.subject == which.Subject
			})
		case errors.Is(err, crypto.ErrClosed):
			closed = append(closed, which.Subject)
		default: // its key does not unwrap
			rows = slices.DeleteFunc(rows, func(r *storedRow) bool {
				if r.subject == which.Subject {
					b.skip(r)
				}
				return r.subject == which.Subject
			})
		}
		subjects = slices.DeleteFunc(subjects, func(s string) bool { return s == which.Subject })
	}
}

// emptyOlds sets what a row's old columns hold to NULL.
func (b *jobBatch) emptyOlds(r *storedRow, fields []*field) {
	s := rowSet{r: r, sets: map[string]any{}}
	for k, f := range fields {
		if r.extra[k] != nil {
			s.sets[f.tag.From] = nil
			b.note(r, f.Name, r.cells[slices.Index(r.model.sealed, f)])
		}
	}
	b.sets = append(b.sets, s)
}

// taken says which of the rows would bring a value into a unique field that
// another record has.
func (b *jobBatch) taken(rows []*storedRow, fields []*field) (map[int]bool, error) {
	out := map[int]bool{}
	if !slices.ContainsFunc(fields, func(f *field) bool { return f.tag.Unique }) {
		return out, nil
	}
	keys, err := b.tx.keys.IndexingKeys(b.ctx, b.tenant)
	if err != nil {
		return nil, fmt.Errorf("storage: job: %w", err)
	}
	for k, f := range fields {
		if !f.tag.Unique {
			continue
		}
		first := map[string]int{} // token to the row that has it
		for n, r := range rows {
			ref := f.empty()
			c, err := ref.fromColumn(r.extra[k])
			if r.extra[k] == nil || err != nil {
				continue
			}
			plain, err := ref.plain(c)
			if err != nil {
				continue
			}
			text, err := textOf(ref, frame(plain, 0))
			if err != nil {
				continue
			}
			_, _, value := indexTerms(f, text)
			if value == "" {
				continue
			}
			for _, key := range keys {
				t := string(key.Token(f.logical, kindUnique, value))
				if m, ok := first[t]; ok && m != n {
					out[n] = true
				} else {
					first[t] = n
				}
			}
		}
		tokens := make([]any, 0, len(first))
		for t := range first {
			tokens = append(tokens, []byte(t))
		}
		if len(tokens) == 0 {
			continue
		}
		var there []indexRow
		if err := b.own(b.ctx, b.tx.Tx).Where("tenant_id = ? AND field = ? AND unique_token IN ?", b.tenant, f.logical, tokens).Find(&there).Error; err != nil {
			return nil, fmt.Errorf("storage: job: read phi_index: %w", err)
		}
		for _, x := range there {
			if n := first[string(x.UniqueToken)]; rows[n].record != x.RecordID {
				out[n] = true
			}
		}
	}
	return out, nil
}

// closeOlds lets the database refuse anything in the old columns, once no
// tenant has anything there.
func (j *jobRun) closeOlds(ctx context.Context, models []*model) error {
	for _, m := range models {
		fields, err := j.heldOlds(ctx, inner(j.pool), m)
		if err != nil {
			return err
		}
		for _, f := range fields {
			mine, all, err := j.countOld(ctx, m, f)
			switch {
			case err != nil:
				return err
			case mine > 0:
				return errAgain
			case all > 0:
				continue // another tenant's: its own job goes on
			}
			if err := j.addCheck(ctx, m, f.tag.From, oldPrefix, func(c string) string { return c + " IS NULL" }, "is sealed: it takes nothing more"); err != nil {
				return err
			}
			if mine, _, err = j.countOld(ctx, m, f); err != nil {
				return err
			} else if mine > 0 { // written between the two
				return errAgain
			}
		}
	}
	return nil
}

const oldPrefix = "phi_null_"

// countOld counts the rows whose old column holds something.
func (j *jobRun) countOld(ctx context.Context, m *model, f *field) (mine, all int64, err error) {
	held := []string{f.tag.From}
	if mine, err = j.countStored(ctx, inner(j.pool), selection{m: m, tenant: j.tenant, held: held}); err != nil {
		return 0, 0, err
	}
	all, err = j.countStored(ctx, inner(j.pool), selection{m: m, everyone: true, held: held})
	return mine, all, err
}

// planDrop drops the old columns, which must be empty.
func (j *jobRun) planDrop(models []*model) (jobPlan, error) {
	p := jobPlan{event: audit.Sealed, reason: audit.ReasonMigration}
	with, err := j.withOlds(models)
	if err != nil {
		return p, err
	}
	p.steps = []jobStep{{alter: func(ctx context.Context) error {
		for _, m := range with {
			fields, err := j.heldOlds(ctx, inner(j.pool), m)
			if err != nil {
				return err
			}
			for _, f := range fields {
				if _, n, err := j.countOld(ctx, m, f); err != nil {
					return err
				} else if n > 0 {
					return &RefusedError{Op: "job drop", Table: m.table, Why: fmt.Sprintf("%d rows still have a value in %s", n, f.tag.From), Mend: "run the job SealColumns, for every tenant, first"}
				}
				if err := j.dropCheck(ctx, m, f.tag.From, oldPrefix); err != nil {
					return err
				}
				if err := j.own(ctx, inner(j.pool)).Exec("ALTER TABLE " + j.quote(m.table) + " DROP COLUMN " + j.quote(f.tag.From)).Error; err != nil {
					return fmt.Errorf("storage: job: drop %s.%s: drop what depends on it, such as an index, and run the job again: %w", m.table, f.tag.From, err)
				}
			}
		}
		return nil
	}}}
	return p, nil
}

// planBackOut puts what is sealed back into the old columns.
func (j *jobRun) planBackOut(models []*model) (jobPlan, error) {
	p := jobPlan{event: audit.Sealed, reason: audit.ReasonBackOut}
	allowed := j.cfg.Development || slices.ContainsFunc(j.cfg.Deviations, func(d access.Deviation) bool { return d.Citation == citationKeys })
	if !allowed {
		return p, &RefusedError{Op: "job backout", Why: "it stores PHI in clear", Mend: "add a Deviation from " + citationKeys + " to the Config that says why, and who answers for it"}
	}
	with, err := j.withOlds(models)
	if err != nil {
		return p, err
	}
	if len(with) == 0 {
		return p, errors.New("storage: job backout: no field has from= with a column that is there: add both")
	}
	p.steps = []jobStep{
		{alter: func(ctx context.Context) error {
			for _, m := range with {
				for _, f := range m.olds() {
					if err := j.dropCheck(ctx, m, f.tag.From, oldPrefix); err != nil {
						return err
					}
				}
			}
			return nil
		}},
		{back: true, models: with, narrow: j.held0, rows: j.backOut},
	}
	return p, nil
}

// held0 reads the old columns beside the cells.
func (j *jobRun) held0(s *selection) {
	j.held(s)
	s.held = nil
}

func (j *jobRun) backOut(b *jobBatch, rows []*storedRow) error {
	fields, err := j.heldOlds(b.ctx, b.tx.Tx, b.o.m)
	if err != nil {
		return err
	}
	for _, r := range rows {
		s := rowSet{r: r}
		ok := true
		values := map[int]any{}
		for k, f := range fields {
			i := slices.Index(r.model.sealed, f)
			if r.cells[i] == nil {
				continue
			}
			opened, err := b.open(r, i)
			if gone(err) {
				continue
			}
			var v any
			if err == nil {
				v, err = f.empty().toColumn(opened)
			}
			if err != nil || r.extra[k] != nil {
				ok = false
				continue
			}
			values[i] = v
		}
		if !ok {
			b.skip(r)
			continue
		}
		for i, v := range values {
			f := r.model.sealed[i]
			b.set(&s, i, nil)
			s.sets[f.tag.From] = v
			b.o.drop[&r.row] = append(b.o.drop[&r.row], f.logical)
		}
		if len(values) > 0 {
			b.sets = append(b.sets, s)
		}
	}
	return nil
}

// openOldTables lets tables that had no Record take one: rows that are there
// get version 1 and no tenant, so that nobody sees them before a SealColumns
// job with Adopt. Old columns lose their NOT NULL.
func (p *plugin) openOldTables(ctx context.Context, models []*model) error {
	conn := inner(p.pool)
	mig := p.own(ctx, conn).Migrator()
	for _, m := range models {
		if m == nil || !mig.HasTable(m.table) {
			continue
		}
		columns, err := p.columnsOf(ctx, conn, m)
		if err != nil {
			return err
		}
		add := func(name, typ string) error {
			column := m.column(name)
			if columns[strings.ToLower(column)] {
				return nil
			}
			return p.own(ctx, conn).Exec("ALTER TABLE " + p.quote(m.table) + " ADD COLUMN " + p.quote(column) + " " + typ).Error
		}
		if err := errors.Join(add("TenantID", "varchar(64) NOT NULL DEFAULT ''"), add("Version", "bigint NOT NULL DEFAULT 1")); err != nil {
			return fmt.Errorf("storage: migrate %s: %w", m.table, err)
		}
		if len(m.olds()) == 0 {
			continue
		}
		types, err := mig.ColumnTypes(m.table)
		if err != nil {
			return fmt.Errorf("storage: migrate %s: %w", m.table, err)
		}
		for _, t := range types {
			null, known := t.Nullable()
			old := slices.ContainsFunc(m.olds(), func(f *field) bool { return strings.EqualFold(f.tag.From, t.Name()) })
			if !old || !known || null {
				continue
			}
			if err := p.nullable(ctx, m, t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plugin) nullable(ctx context.Context, m *model, t gorm.ColumnType) error {
	alter := "ALTER TABLE " + p.quote(m.table) + " "
	switch p.db.Name() {
	case "postgres":
		alter += "ALTER COLUMN " + p.quote(t.Name()) + " DROP NOT NULL"
	case "mysql":
		typ, ok := t.ColumnType()
		if !ok {
			return fmt.Errorf("storage: migrate %s.%s: its type is not known: make the column nullable", m.table, t.Name())
		}
		alter += "MODIFY COLUMN " + p.quote(t.Name()) + " " + typ + " NULL"
	default:
		return &RefusedError{Op: "migrate", Table: m.table, Why: "the old column " + t.Name() + " is NOT NULL, and SQLite changes that by copying the table only", Mend: "make it nullable, for which SQLite's manual has a recipe (ALTER TABLE, section 7), or give it up for a new table"}
	}
	if err := p.own(ctx, inner(p.pool)).Exec(alter).Error; err != nil {
		return fmt.Errorf("storage: migrate %s.%s: make it nullable: %w", m.table, t.Name(), err)
	}
	return nil
}

func (p *plugin) quote(name string) string {
	var b strings.Builder
	p.db.QuoteTo(&b, name)
	return b.String()
}
