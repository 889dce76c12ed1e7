// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"gorm.io/gorm"

	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/again"
)

// poll keeps the policy up to date until ctx ends.
func (s *Store) poll(ctx context.Context) {
	timer := time.NewTimer(s.cfg.Poll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.fresh.wake:
		}
		start := s.cfg.Now()
		if err := s.pollOnce(ctx); err != nil && ctx.Err() == nil {
			if before := s.fresh.lastErr(); before == nil || before.Error() != err.Error() {
				s.cfg.Log.Warn("policystore: the policy could not be brought up to date", zap.Error(err))
				s.refuse(err)
			}
			s.fresh.failed(start, err)
		} else if err == nil {
			s.fresh.succeeded(start)
		}
		timer.Reset(s.cfg.Poll)
	}
}

// pollOnce reads the revision, and what changed where it is another.
func (s *Store) pollOnce(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, s.fresh.timeout())
	defer cancel()
	revision, err := s.newest(short)
	if err != nil {
		return err
	}
	if revision == s.revision.Load() {
		return nil
	}
	long, cancel := context.WithTimeout(ctx, s.cfg.MaxStale)
	defer cancel()
	return s.refresh(long)
}

// newest reads the revision of the database: one row by its key.
func (s *Store) newest(ctx context.Context) (uint64, error) {
	db, err := s.database()
	if err != nil {
		return 0, err
	}
	var revisions []uint64
	if err := db.WithContext(ctx).Model(&revisionTable{}).Where("id = 1").Pluck("revision", &revisions).Error; err != nil {
		return 0, fmt.Errorf("policystore: read policy_revision: %w", err)
	}
	if len(revisions) != 1 {
		return 0, fmt.Errorf("policy_revision has no row: %w", ErrForged)
	}
	return revisions[0], nil
}

func (s *Store) database() (*gorm.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, ErrClosed
	}
	return s.db, nil
}

// state is the policy in force.
func (s *Store) state() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// refuse records that what the database holds was not put in force.
func (s *Store) refuse(err error) {
	ev := audit.Event{Type: audit.PolicyRefused, Outcome: audit.Failure, Reason: audit.ReasonPolicy}
	var down *loadError
	switch {
	case errors.Is(err, ErrForged):
		ev.Reason = audit.ReasonForged
	case errors.Is(err, ErrSetBack):
		ev.Reason = audit.ReasonSetBack
	case !errors.As(err, &down):
		return // the database is away, which is no statement about the policy
	}
	if _, err := s.cfg.Audit.Record(context.Background(), ev); err != nil {
		s.cfg.Log.Error("policystore: a refused policy could not be recorded", zap.Error(err))
	}
}

// A loadError says that what the database holds is no policy.
type loadError struct{ err error }

func (e *loadError) Error() string { return "policystore: load the policy: " + e.err.Error() }
func (e *loadError) Unwrap() error { return e.err }

// maxEdits is up to how many edits a policy is brought up to date by them, and
// not read anew.
const maxEdits = 1000

// refresh puts the newest policy of the database in force.
func (s *Store) refresh(ctx context.Context) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	start, before := s.cfg.Now(), s.state()
	next, err := s.load(ctx, db, before)
	if err != nil {
		return err
	}
	if next != before {
		if err := s.put(next, nil); err != nil {
			return err
		}
	}
	s.fresh.succeeded(start)
	return nil
}

// put puts a policy in force, compiled already or not. The caller holds loading.
func (s *Store) put(next *state, compiled *rbac.Engine) error {
	if compiled == nil && next.revision > 0 {
		var err error
		if compiled, err = rbac.New(next.config(&s.cfg)); err != nil {
			return &loadError{err}
		}
	}
	if compiled != nil {
		s.engine.Take(compiled)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = next
	s.revision.Store(next.revision)
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// load reads the newest policy in one snapshot of the database; before where it
// is that.
func (s *Store) load(ctx context.Context, db *gorm.DB, before *state) (next *state, err error) {
	// One connection, and no lock: SQLite's write lock neither.
	opts := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err = again.Do(ctx, func() error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			next, err = s.read(tx, before)
			return err
		}, opts)
	})
	return next, err
}

func (s *Store) read(tx *gorm.DB, before *state) (*state, error) {
	r, err := s.readRevision(tx)
	if err != nil {
		return nil, err
	}
	if before != nil {
		switch {
		case r.Revision < before.revision:
			return nil, ErrSetBack
		case r.Revision == before.revision:
			if string(r.Head) != headOf(before) {
				return nil, fmt.Errorf("revision %d is another than before: %w", r.Revision, ErrSetBack)
			}
			return before, nil
		case before.revision > 0:
			if next, err := s.follow(tx, before, r); err != nil || next != nil {
				return next, err
			}
		}
	}
	next, err := scan(tx)
	if err != nil {
		return nil, err
	}
	next.revision = r.Revision
	copy(next.head[:], r.Head)
	if r.Revision == 0 {
		if len(next.rows) > 0 {
			return nil, fmt.Errorf("there are rows, and no change: %w", ErrForged)
		}
		return next, nil
	}
	if sum := next.sum(); string(sum[:]) != string(r.State) {
		if again, err := s.readRevision(tx); err == nil && again.Revision != r.Revision {
			return nil, movedError{} // tx sees what commits meanwhile
		}
		return nil, fmt.Errorf("the rows are not those of revision %d: %w", r.Revision, ErrForged)
	}
	return next, nil
}

func headOf(s *state) string {
	if s.revision == 0 {
		return ""
	}
	return string(s.head[:])
}

// readRevision reads the revision row and checks its MAC.
func (s *Store) readRevision(tx *gorm.DB) (r revisionTable, err error) {
	var rows []revisionTable
	if err := tx.Where("id = 1").Find(&rows).Error; err != nil {
		return r, fmt.Errorf("policystore: read policy_revision: %w", err)
	}
	if len(rows) != 1 {
		return r, fmt.Errorf("policy_revision has no row: %w", ErrForged)
	}
	r = rows[0]
	if r.Revision > 0 && !s.mac.Valid(revisionField, r.statement(), r.MAC) {
		return r, fmt.Errorf("the MAC of policy_revision does not verify: %w", ErrForged)
	}
	return r, nil
}

// follow brings a state up to a revision by the changes since. It returns nil
// where they are too many, or do not lead there: then the rows are read anew.
func (s *Store) follow(tx *gorm.DB, before *state, r revisionTable) (*state, error) {
	if r.Revision-before.revision > maxEdits {
		return nil, nil
	}
	changes, err := appliedChanges(tx, before.revision, r.Revision, maxEdits)
	if err != nil || changes == nil {
		return nil, err
	}
	next := &state{revision: before.revision, head: before.head, rows: before.rows}
	for i := range changes {
		c := &changes[i]
		if *c.Revision != next.revision+1 || next.revision > 0 && string(c.Previous) != string(next.head[:]) {
			return nil, nil
		}
		rows, err := next.apply(c.edits)
		if err != nil {
			return nil, nil
		}
		next = &state{revision: *c.Revision, head: c.sum(), rows: rows}
	}
	sum := next.sum()
	if next.revision != r.Revision || string(r.Head) != headOf(next) || string(r.State) != string(sum[:]) {
		return nil, nil
	}
	return next, nil
}

// appliedChanges reads the changes of the revisions after one up to another,
// oldest first; nil where they have more than limit edits. A limit of 0 is none.
func appliedChanges(tx *gorm.DB, after, upTo uint64, limit int) ([]change, error) {
	fail := func(err error) ([]change, error) {
		return nil, fmt.Errorf("policystore: read policy_changes: %w", err)
	}
	var rows []changeTable
	if err := tx.Where("revision > ? AND revision <= ?", after, upTo).Order("revision").Find(&rows).Error; err != nil {
		return fail(err)
	}
	total := 0
	out := make([]change, len(rows))
	for i := range rows {
		out[i].changeTable = rows[i]
		total += rows[i].Edits
	}
	if limit > 0 && total > limit {
		return nil, nil
	}
	for i := range out {
		if err := out[i].readEdits(tx); err != nil {
			return fail(err)
		}
	}
	return out, nil
}

func (c *change) readEdits(tx *gorm.DB) error {
	var rows []editTable
	if err := tx.Where("change_id = ?", c.ID).Order("seq").Find(&rows).Error; err != nil {
		return err
	}
	c.edits = make([]edit, len(rows))
	for i := range rows {
		c.edits[i] = rows[i].edit()
	}
	return nil
}

// scan reads all rows of the policy, in their order.
func scan(tx *gorm.DB) (*state, error) {
	var total int // of a snapshot that the rows are read in too
	const count = "SELECT (SELECT COUNT(*) FROM policy_rules) + (SELECT COUNT(*) FROM policy_links)"
	if err := tx.Raw(count).Scan(&total).Error; err != nil {
		return nil, fmt.Errorf("policystore: count the policy's rows: %w", err)
	}
	s := &state{rows: make([]row, 0, total)}
	known := make(map[string]string) // most values stand in many rows
	intern := func(b []byte) string {
		if v, ok := known[string(b)]; ok {
			return v
		}
		v := string(b)
		known[v] = v
		return v
	}
	read := func(k kind, columns int, query string, args ...any) error {
		rows, err := tx.Raw(query, args...).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		var raw [6]sql.RawBytes
		var into [6]any
		for i := range raw {
			into[i] = &raw[i]
		}
		for rows.Next() {
			if err := rows.Scan(into[:columns]...); err != nil {
				return err
			}
			r := row{kind: k}
			for i := range columns {
				r.f[i] = intern(raw[i])
			}
			s.rows = append(s.rows, r)
		}
		return rows.Err()
	}
	const links = "SELECT tenant, member, role FROM policy_links WHERE kind = ? ORDER BY kind, tenant, member, role"
	err := read(roleLink, 3, links, string(roleLink))
	if err == nil {
		err = read(ruleRow, 6, "SELECT role, tenant, resource, action, purpose, effect FROM policy_rules ORDER BY role, tenant, resource, action, purpose, effect")
	}
	if err == nil {
		err = read(userLink, 3, links, string(userLink))
	}
	if err != nil {
		return nil, fmt.Errorf("policystore: read the policy: %w", err)
	}
	return s, nil
}
