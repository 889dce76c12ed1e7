// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"encoding/hex"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/internal/again"
	"github.com/part164/part164/storage/internal/table"
)

// A writing is one change on its way into the database.
type writing struct {
	store  *Store
	scope  *access.Scope
	action access.Action // for the record

	// prepare decides about the change under base, the policy that the change
	// is made to. It may be called more than once.
	prepare func(ctx context.Context, base *state) (*change, error)

	// also runs in the transaction, before the change is written.
	also func(ctx context.Context, tx *gorm.DB, c *change) error

	unrecorded *error // where set, a change that cannot be recorded is made all the same, and why is kept here
}

// movedError says that somebody else has changed the policy in between: what a
// database calls a serialization failure.
type movedError struct{}

func (movedError) Error() string    { return "policystore: the policy has changed in between: try again" }
func (movedError) SQLState() string { return again.SerializationFailure }

// run makes the change: to the policy that the revision row names while it is
// locked, so that of two changes at once the second is decided under the first
// one's outcome.
func (w *writing) run(ctx context.Context) (revision uint64, err error) {
	err = again.Do(ctx, func() error {
		revision, err = w.once(ctx)
		return err
	})
	return revision, err
}

func (w *writing) once(ctx context.Context) (uint64, error) {
	s := w.store
	if err := s.refresh(ctx); err != nil {
		return 0, err
	}
	base := s.state()
	// A scope of its own: the caller's may be held to an older policy.
	ctx = access.ForPurpose(ctx, w.scope.Purpose())
	c, err := w.prepare(ctx, base)
	if err != nil {
		return 0, err
	}
	next, compiled, err := s.after(base, c.edits)
	if err != nil {
		return 0, err
	}
	c.Revision, c.DecidedAt = &next.revision, table.Nanos(s.cfg.Now())
	if base.revision > 0 {
		c.Previous = base.head[:]
	}
	next.head = c.sum()
	c.Digest = next.head[:]
	db, err := s.database()
	if err != nil {
		return 0, err
	}
	err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := s.lock(tx, base); err != nil {
			return err
		}
		if s.cfg.Validate != nil {
			if err := s.cfg.Validate(ctx, tx, next.public()); err != nil {
				return fmt.Errorf("%w: %w", ErrInvalid, err)
			}
		}
		if err := s.assign(ctx, tx, base, next, c.edits); err != nil {
			return err
		}
		if err := attempt(ctx, tx, c.event(w.action)); err != nil {
			if w.unrecorded == nil {
				return err
			}
			*w.unrecorded = err
		}
		if w.also != nil {
			if err := w.also(ctx, tx, c); err != nil {
				return err
			}
		}
		return s.save(tx, c, next)
	})
	if err != nil {
		return 0, err
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.revision.Load()+1 == next.revision {
		if err := s.put(next, compiled); err != nil {
			return next.revision, err
		}
	}
	return next.revision, nil
}

// after is the policy after edits, compiled, or why it cannot be.
func (s *Store) after(base *state, edits []edit) (*state, *rbac.Engine, error) {
	rows, err := base.apply(edits)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConflict, err)
	}
	next := &state{revision: base.revision + 1, rows: rows}
	compiled, err := rbac.New(next.config(&s.cfg))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return next, compiled, nil
}

// lock takes the revision row for this transaction.
func (s *Store) lock(tx *gorm.DB, base *state) error {
	r, err := s.readRevision(tx.Clauses(clause.Locking{Strength: "UPDATE"}))
	if err != nil {
		return err
	}
	if r.Revision != base.revision || string(r.Head) != headOf(base) {
		return movedError{}
	}
	return nil
}

// batch is how many rows one INSERT has: SQLite takes 32,766 parameters.
const batch = 500

// save writes the rows, the change and the revision.
func (s *Store) save(tx *gorm.DB, c *change, next *state) error {
	var rules []ruleTable
	var links []linkTable
	for i := range c.edits {
		e := &c.edits[i]
		switch {
		case e.remove:
			if err := e.row.delete(tx); err != nil {
				return err
			}
		case e.row.kind == ruleRow:
			rules = append(rules, e.row.rule(next.revision))
		default:
			links = append(links, e.row.link(next.revision))
		}
	}
	if len(rules) > 0 {
		if err := tx.CreateInBatches(rules, batch).Error; err != nil {
			return fmt.Errorf("policystore: insert into policy_rules: %w", err)
		}
	}
	if len(links) > 0 {
		if err := tx.CreateInBatches(links, batch).Error; err != nil {
			return fmt.Errorf("policystore: insert into policy_links: %w", err)
		}
	}
	var err error
	if c.Status == proposed {
		err = c.decide(tx, applied)
	} else {
		c.Status = applied
		err = c.insert(tx)
	}
	if err != nil {
		return err
	}
	sum := next.sum()
	r := revisionTable{ID: 1, Revision: next.revision, Head: next.head[:], State: sum[:], ChangedAt: c.DecidedAt}
	r.MAC = s.mac.Sum(revisionField, r.statement())
	if err := tx.Model(&r).Select("*").Updates(&r).Error; err != nil {
		return fmt.Errorf("policystore: update policy_revision: %w", err)
	}
	return nil
}

// delete removes the row, which must be there: the state of this process says
// so.
func (r *row) delete(tx *gorm.DB) error {
	var q *gorm.DB
	if r.kind == ruleRow {
		t := r.rule(0)
		q = tx.Where("role = ? AND tenant = ? AND resource = ? AND action = ? AND purpose = ? AND effect = ?",
			t.Role, t.Tenant, t.Resource, t.Action, t.Purpose, t.Effect).Delete(&ruleTable{})
	} else {
		t := r.link(0)
		q = tx.Where("kind = ? AND tenant = ? AND member = ? AND role = ?", t.Kind, t.Tenant, t.Member, t.Role).Delete(&linkTable{})
	}
	if q.Error != nil {
		return fmt.Errorf("policystore: delete from the policy: %w", q.Error)
	}
	if q.RowsAffected != 1 {
		return fmt.Errorf("%s: %w", r, ErrForged)
	}
	return nil
}

// insert writes a new change with its edits.
func (c *change) insert(tx *gorm.DB) error {
	if err := tx.Create(&c.changeTable).Error; err != nil {
		return fmt.Errorf("policystore: insert into policy_changes: %w", err)
	}
	if len(c.edits) == 0 {
		return nil
	}
	if err := tx.CreateInBatches(editsOf(c.ID, c.edits), batch).Error; err != nil {
		return fmt.Errorf("policystore: insert into policy_edits: %w", err)
	}
	return nil
}

// decide ends a proposal, if nobody else has. What is decided has no MAC, so that
// SQL that sets its status back makes no proposal of it; with a copy of the row
// from before it was decided it does, and then it still takes an approver.
func (c *change) decide(tx *gorm.DB, status string) error {
	q := tx.Model(&changeTable{}).Where("id = ? AND status = ?", c.ID, proposed).Updates(map[string]any{
		"status": status, "revision": c.Revision, "approver": c.Approver, "approver_tenant": c.ApproverTenant,
		"decided_at": c.DecidedAt, "previous": c.Previous, "digest": c.Digest, "mac": []byte{},
	})
	if q.Error != nil {
		return fmt.Errorf("policystore: update policy_changes: %w", q.Error)
	}
	if q.RowsAffected != 1 {
		return ErrNoProposal
	}
	return nil
}

// transaction runs f until the database does not ask for it to be done again.
func (s *Store) transaction(ctx context.Context, f func(tx *gorm.DB) error) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	return again.Do(ctx, func() error { return db.WithContext(ctx).Transaction(f) })
}

func attempt(ctx context.Context, tx *gorm.DB, ev audit.Event) error {
	return storage.Attempt(ctx, tx, ev)
}

// maxUsers bounds the users that an event of a change names; their number is in
// Count.
const maxUsers = 1000

// event is the record of c: who it is about, and digests that storage/
// policystore.Verify holds the tables against.
func (c *change) event(action access.Action) audit.Event {
	policy := audit.Object{Type: Resource, Tenant: c.Tenant, Record: c.ID}
	if c.Revision != nil {
		policy.Version = int64(*c.Revision)
		policy.Fields, policy.Digests = []string{digestField}, []string{hex.EncodeToString(c.Digest[:8])}
	}
	ev := audit.Event{Type: audit.PolicyChanged, Outcome: audit.Success, Reason: c.reason(), Action: action, Count: len(c.edits), Objects: []audit.Object{policy}}
	if c.Approver != "" {
		ev.Objects = append(ev.Objects, audit.Object{Type: "author", Tenant: c.Tenant, Record: c.Author},
			audit.Object{Type: "approver", Tenant: c.ApproverTenant, Record: c.Approver})
	}
	users := make(map[[2]string]bool)
	name := func(tenant, user string) {
		if key := [2]string{tenant, user}; user != "" && !users[key] && len(users) < maxUsers {
			users[key] = true
			ev.Objects = append(ev.Objects, audit.Object{Type: "user", Tenant: tenant, Record: user})
		}
	}
	name(c.TerminatedTenant, c.Terminated)
	for _, e := range c.edits {
		if e.row.kind == userLink {
			name(e.row.f[0], e.row.f[1])
		}
	}
	return ev
}

// digestField is the field of an event that holds the digest of a change.
const digestField = "change"

// public is the state as Rows: one rule a row.
func (s *state) public() Rows {
	cfg := s.config(&Config{})
	return Rows{Rules: cfg.Rules, Links: cfg.Links, Assignments: cfg.Assignments}
}
