// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

// A span is what one write of the app runs in, from before its hooks and
// associations until after them: a transaction of its own where GORM opened
// none, or a savepoint in the app's. A write that fails leaves nothing, also
// where the app ignores the error and commits.
type span struct {
	tx     *txConn
	own    bool
	mark   string // name of the savepoint; empty: the transaction is GORM's, of this statement alone
	before gorm.ConnPool
}

const spanKey = "part164:span"

// begin opens the span of a write on a table with PHI.
func (p *plugin) begin(db *gorm.DB) {
	stmt := db.Statement
	if db.Error != nil || db.DryRun || stmt.SQL.Len() > 0 || isOwn(stmt) {
		return
	}
	m, err := p.modelOf(db)
	if err != nil {
		_ = db.AddError(err)
		return
	}
	if m == nil && p.linkOf(stmt) == nil {
		return
	}
	s := &span{before: stmt.ConnPool}
	switch conn := unwrap(stmt.ConnPool).(type) {
	case *txConn:
		s.tx = conn
		if _, started := db.InstanceGet("gorm:started_transaction"); started {
			return
		}
		if s.mark, err = conn.setMark(stmt.Context); err != nil {
			_ = db.AddError(err)
			return
		}
	case *pool: // SkipDefaultTransaction: the outbox needs one all the same
		if s.tx, err = conn.begin(stmt.Context, nil); err != nil {
			_ = db.AddError(fmt.Errorf("storage: begin: %w", err))
			return
		}
		s.own = true
		stmt.ConnPool = s.tx
	default: // of db.Connection: its transactions have no hooks
		_ = db.AddError(&RefusedError{Op: "write", Table: stmt.Table, Why: "the connection is not the pool's", Mend: "write on the database itself or in db.Transaction"})
		return
	}
	db.InstanceSet(spanKey, s)
}

// end closes the span.
func (p *plugin) end(db *gorm.DB) {
	v, ok := db.InstanceGet(spanKey)
	if !ok {
		return
	}
	s, ok := v.(*span)
	if !ok || s == nil {
		return
	}
	db.InstanceSet(spanKey, (*span)(nil)) // the statement may run again
	if s.mark != "" {
		_ = db.AddError(s.tx.endMark(s.mark, db.Error != nil))
	}
	if s.own {
		if db.Error != nil {
			_ = db.AddError(s.tx.Rollback())
		} else {
			_ = db.AddError(s.tx.Commit())
		}
		db.Statement.ConnPool = s.before
	}
	if db.Error != nil {
		db.RowsAffected = 0
	}
}

// setMark sets a savepoint with a name of its own: MariaDB forgets an older one
// of the same name.
func (t *txConn) setMark(ctx context.Context) (string, error) {
	t.mu.Lock()
	t.depth++
	name := fmt.Sprintf("phi_statement_%d", t.depth)
	t.mu.Unlock()
	if _, err := t.ExecContext(ctx, "SAVEPOINT "+name); err != nil {
		return "", fmt.Errorf("storage: savepoint: %w", err)
	}
	return name, nil
}

// endMark rolls back to the savepoint, if back, and releases it. It runs also
// where the statement's context has ended.
func (t *txConn) endMark(name string, back bool) error {
	t.mu.Lock()
	t.depth--
	t.mu.Unlock()
	if back {
		if _, err := t.ExecContext(t.ctx, "ROLLBACK TO SAVEPOINT "+name); err != nil {
			return fmt.Errorf("storage: roll back to savepoint: %w", err)
		}
	}
	if _, err := t.ExecContext(t.ctx, "RELEASE SAVEPOINT "+name); err != nil {
		return fmt.Errorf("storage: release savepoint: %w", err)
	}
	return nil
}
