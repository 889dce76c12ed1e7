// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/table"
)

// What the rules of the policy itself are asked for: access.Update on Resource
// to propose and apply changes and to terminate, Approve to approve or reject
// what somebody else proposed, access.Read to read rows, history and reports.
const (
	Resource                = "policy"
	Approve   access.Action = "approve"
	operation               = "policystore: change the policy: "
)

// Errors of changes.
var (
	ErrApproval   = errors.New(operation + "it could give a right, so somebody else has to approve it: call Propose")
	ErrOwn        = errors.New(operation + "nobody approves what they or somebody for them proposed, or what gives something to them or to a role that they have, or that a proposal would give them")
	ErrNoProposal = errors.New(operation + "there is no such proposal, or it is decided, expired or another tenant's")
	ErrConflict   = errors.New(operation + "it does not fit the policy in force")
	ErrInvalid    = errors.New(operation + "the policy would not be valid")
)

// A Change is what is to become of the policy, and why.
type Change struct {
	Add, Remove Rows

	// Reason is audit.ReasonJoined, ReasonMoved, ReasonLeft, ReasonReview,
	// ReasonAmended, ReasonIncident, ReasonMistake or ReasonMigration.
	Reason audit.Reason

	// Reference is the ticket or request that asks for it, an opaque ID (see
	// access.CheckID).
	Reference string
}

func reasonFits(r audit.Reason) bool {
	switch r {
	case audit.ReasonJoined, audit.ReasonMoved, audit.ReasonLeft, audit.ReasonReview, audit.ReasonAmended,
		audit.ReasonIncident, audit.ReasonMistake, audit.ReasonMigration:
		return true
	}
	return false
}

// edits checks c and returns what it does, in order.
func (c *Change) edits() ([]edit, error) {
	fail := func(err error) ([]edit, error) { return nil, fmt.Errorf("%w: %w", ErrInvalid, err) }
	if !reasonFits(c.Reason) {
		return fail(errors.New("Change.Reason is none of those that Change lists"))
	}
	if err := access.CheckID(c.Reference); err != nil {
		return fail(fmt.Errorf("Change.Reference %w", err))
	}
	var out []edit
	for _, part := range []struct {
		name   string
		rows   Rows
		remove bool
	}{{"Remove", c.Remove, true}, {"Add", c.Add, false}} {
		rows, err := part.rows.expand()
		if err != nil {
			return fail(fmt.Errorf("Change.%s: %w", part.name, err))
		}
		for _, r := range rows {
			out = append(out, edit{part.remove, r})
		}
	}
	if len(out) == 0 {
		return fail(errors.New("Change.Add and Change.Remove are empty"))
	}
	return out, nil
}

// Init writes the first policy of a database that has none, and returns the
// revision of what is there then: at every start, before the first request. The
// principal of ctx is a service ([access.Job]); who approved the first policy is
// in your records of its deployment, which reference names.
func (s *Store) Init(ctx context.Context, first Rows, reference string) (uint64, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return 0, err
	}
	if scope.Principal().Kind != access.Service {
		return 0, errors.New("policystore: init: the principal is not a service: use access.Job")
	}
	edits, err := (&Change{Add: first, Reason: audit.ReasonMigration, Reference: reference}).edits()
	if err != nil {
		return 0, err
	}
	w := &writing{store: s, scope: scope, action: access.Create, prepare: func(_ context.Context, base *state) (*change, error) {
		if base.revision > 0 {
			return nil, errThere
		}
		return s.newChange(scope, audit.ReasonMigration, reference, edits), nil
	}}
	revision, err := w.run(ctx)
	if errors.Is(err, errThere) {
		return s.Current(), nil
	}
	return revision, err
}

var errThere = errors.New("policystore: init: the database has a policy")

// Apply makes a change that needs no approval under Config.Approval, and returns
// the revision from which on it is in force: at once in this process, and in
// every other one within Config.Poll. Where it needs one, the error is
// [ErrApproval].
//
// The principal of ctx needs the right to access.Update on [Resource].
func (s *Store) Apply(ctx context.Context, c Change) (uint64, error) {
	scope, edits, err := s.begin(ctx, &c)
	if err != nil {
		return 0, err
	}
	w := &writing{store: s, scope: scope, action: access.Update}
	w.prepare = func(ctx context.Context, base *state) (*change, error) {
		if s.needsApproval(base, edits) {
			return nil, ErrApproval
		}
		if err := s.may(ctx, scope, access.Update, edits); err != nil {
			return nil, err
		}
		if w.action = access.Update; base.takes(edits) {
			w.action = access.Delete
		}
		return s.newChange(scope, c.Reason, c.Reference, edits), nil
	}
	return w.run(ctx)
}

// needsApproval reports whether somebody else has to approve edits of a policy.
func (s *Store) needsApproval(base *state, edits []edit) bool {
	switch s.cfg.Approval {
	case ApproveNone:
		return false
	case ApproveGrants:
		return !base.takes(edits)
	}
	return true
}

// Propose keeps a change until somebody else approves it, and returns the ID of
// the proposal. It is checked against the policy in force as it will be again
// when it is approved.
//
// The principal of ctx needs the right to access.Update on [Resource].
func (s *Store) Propose(ctx context.Context, c Change) (string, error) {
	scope, edits, err := s.begin(ctx, &c)
	if err != nil {
		return "", err
	}
	if err := s.refresh(ctx); err != nil {
		return "", err
	}
	ctx = access.ForPurpose(ctx, scope.Purpose())
	if err := s.may(ctx, scope, access.Update, edits); err != nil {
		return "", err
	}
	if _, _, err := s.after(s.state(), edits); err != nil {
		return "", err
	}
	p := s.newChange(scope, c.Reason, c.Reference, edits)
	p.Status = proposed
	p.MAC = s.mac.Sum(proposalField, p.statement())
	err = s.transaction(ctx, func(tx *gorm.DB) error {
		ev := p.event(access.Update)
		ev.Reason = audit.ReasonPending
		if err := attempt(ctx, tx, ev); err != nil {
			return err
		}
		return p.insert(tx)
	})
	if err != nil {
		return "", err
	}
	return p.ID, nil
}

// begin checks what can be checked of c by itself.
func (s *Store) begin(ctx context.Context, c *Change) (*access.Scope, []edit, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, nil, err
	}
	edits, err := c.edits()
	return scope, edits, err
}

// Approve puts a proposal in force and returns the revision from which on it is;
// see [Store.Apply]. Who approves is a human, who acts for nobody else, other than
// its author and than whom the author acted for, and to whom it gives nothing:
// neither a role, nor a right to a role that they have, by whatever way
// ([Config].Elevated), or that a proposal which waits would give them. What is for
// the approvers' own role takes somebody who may approve by another one. The
// author must still have the right to propose it.
//
// With Config.PrincipalRoles the store knows of those roles only that the session
// names: who signs in as approver alone may approve what is for another role of
// theirs. There, let the sign-in name every role of whoever may approve. And a role
// that is proposed or granted to an approver later is not known yet: who approves
// that is shown what it brings ([Store.Preview]).
//
// The principal of ctx needs the right to [Approve] on [Resource].
func (s *Store) Approve(ctx context.Context, id string) (uint64, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return 0, err
	}
	who := scope.Principal()
	w := &writing{store: s, scope: scope, action: access.Update, prepare: func(ctx context.Context, base *state) (*change, error) {
		c, err := s.proposal(ctx, scope, id)
		if err != nil {
			return nil, err
		}
		if err := s.may(ctx, scope, Approve, c.edits); err != nil {
			return nil, err
		}
		roles, err := s.ownRoles(ctx, base, who)
		if err != nil {
			return nil, err
		}
		if err := c.independent(base, who, roles); err != nil {
			return nil, s.deny(ctx, Approve, access.DenyDuty, "", err)
		}
		if err := s.standing(ctx, c); err != nil {
			return nil, s.deny(ctx, Approve, access.DenyDuty, "", err)
		}
		c.Approver, c.ApproverTenant = who.ID, who.Tenant
		return c, nil
	}}
	return w.run(ctx)
}

// Reject ends a proposal, which its author may do too.
//
// The principal of ctx needs the right to [Approve] on [Resource], or is the
// author.
func (s *Store) Reject(ctx context.Context, id string) error {
	scope, err := access.From(ctx)
	if err != nil {
		return err
	}
	c, err := s.proposal(ctx, scope, id)
	if err != nil {
		return err
	}
	who := scope.Principal()
	if who.ID != c.Author || who.Tenant != c.Tenant {
		if err := s.may(ctx, scope, Approve, c.edits); err != nil {
			return err
		}
	}
	c.Approver, c.ApproverTenant, c.DecidedAt = who.ID, who.Tenant, table.Nanos(s.cfg.Now())
	return s.transaction(ctx, func(tx *gorm.DB) error {
		ev := c.event(access.Update)
		ev.Outcome = audit.Failure
		if err := attempt(ctx, tx, ev); err != nil {
			return err
		}
		return c.decide(tx, rejected)
	})
}

// proposal reads what waits for approval.
func (s *Store) proposal(ctx context.Context, scope *access.Scope, id string) (*change, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	db = db.WithContext(ctx)
	var rows []changeTable
	if err := db.Where("id = ? AND status = ?", id, proposed).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("policystore: read policy_changes: %w", err)
	}
	if len(rows) != 1 {
		return nil, ErrNoProposal
	}
	c := &change{changeTable: rows[0]}
	if err := c.readEdits(db); err != nil {
		return nil, fmt.Errorf("policystore: read policy_edits: %w", err)
	}
	switch {
	case !s.mac.Valid(proposalField, c.statement(), c.MAC):
		return nil, fmt.Errorf("proposal %s was not made by Propose: %w", c.ID, ErrForged)
	case !s.sees(scope, c):
		return nil, ErrNoProposal
	case s.cfg.Now().Sub(table.Time(c.ProposedAt)) > s.cfg.ProposalTTL:
		return nil, ErrNoProposal
	}
	return c, nil
}

// sees reports whether a principal may know of c.
func (s *Store) sees(scope *access.Scope, c *change) bool {
	tenant := scope.Principal().Tenant
	return c.Tenant == tenant || s.isOperator(tenant)
}

func (s *Store) isOperator(tenant string) bool {
	return s.cfg.Operator != "" && tenant == s.cfg.Operator
}

// may reports whether the policy in force lets the principal of ctx do action
// to the policy, and where it holds.
func (s *Store) may(ctx context.Context, scope *access.Scope, action access.Action, edits []edit) error {
	tenant := scope.Principal().Tenant
	d, err := s.Check(ctx, access.Request{Action: action, Resources: []access.Resource{{Type: Resource, Tenant: tenant}}})
	if err != nil {
		return err
	}
	if !d.AllowAll(1) {
		return s.deny(ctx, action, d.Verdicts[0].Code, d.ID, nil)
	}
	if s.isOperator(tenant) {
		return nil
	}
	for _, e := range edits {
		if e.row.tenant() != tenant {
			return s.deny(ctx, action, access.DenyTenant, d.ID, errors.New(operation+"it holds in other tenants too, which only principals of Config.Operator may change"))
		}
	}
	return nil
}

// deny records a refusal and returns it.
func (s *Store) deny(ctx context.Context, action access.Action, code access.Code, decision string, why error) error {
	if decision == "" {
		decision = decisionID()
	}
	denied := error(&access.DeniedError{Action: action, Resource: Resource, Code: code, Decision: decision})
	ev := audit.Event{Type: audit.Denied, Outcome: audit.Failure, Reason: audit.ReasonPolicy, Action: action, Code: code, Decision: decision,
		Objects: []audit.Object{{Type: Resource}}}
	if _, err := s.cfg.Audit.Record(ctx, ev); err != nil {
		denied = errors.Join(denied, err)
	}
	if why != nil {
		return fmt.Errorf("%w: %w", why, denied)
	}
	return denied
}

// newChange is a change by the principal of scope.
func (s *Store) newChange(scope *access.Scope, reason audit.Reason, reference string, edits []edit) *change {
	who := scope.Principal()
	return &change{
		changeTable: changeTable{
			ID: uuid.Must(uuid.NewV7()).String(), Tenant: who.Tenant, Author: who.ID, AuthorKind: string(who.Kind), OnBehalf: who.OnBehalf,
			Reason: string(reason), Reference: reference, ProposedAt: table.Nanos(s.cfg.Now()), Edits: len(edits), MAC: []byte{},
		},
		edits: edits,
	}
}

// An Entry is one change or proposal, as the history has it.
type Entry struct {
	ID         string       `json:"id"`
	Status     string       `json:"status"`             // "proposed", "applied" or "rejected"
	Revision   uint64       `json:"revision,omitempty"` // from which on it is in force
	Tenant     string       `json:"tenant"`             // the author's
	Author     string       `json:"author"`
	AuthorKind access.Kind  `json:"author_kind"`
	OnBehalf   string       `json:"on_behalf,omitempty"` // whom the author acted for
	Reason     audit.Reason `json:"reason"`
	Reference  string       `json:"reference"`
	Terminated string       `json:"terminated,omitempty"` // the user whom Terminate ended
	Proposed   time.Time    `json:"proposed"`
	Approver   string       `json:"approver,omitempty"` // who decided; empty where nobody had to
	Decided    time.Time    `json:"decided,omitzero"`
	Removed    []string     `json:"removed,omitempty"` // what was in force before, a row a line
	Added      []string     `json:"added,omitempty"`   // what is from then on
	Effect     *Effect      `json:"effect,omitempty"`  // of a proposal in a [Report]: see [Store.Preview]
}

func (c *change) entry() Entry {
	e := Entry{
		ID: c.ID, Status: c.Status, Tenant: c.Tenant, Author: c.Author, AuthorKind: access.Kind(c.AuthorKind), OnBehalf: c.OnBehalf, Reason: audit.Reason(c.Reason),
		Reference: c.Reference, Terminated: c.Terminated, Proposed: table.Time(c.ProposedAt), Approver: c.Approver, Decided: table.Time(c.DecidedAt),
	}
	if c.Revision != nil {
		e.Revision = *c.Revision
	}
	for _, d := range c.edits {
		if d.remove {
			e.Removed = append(e.Removed, d.row.String())
		} else {
			e.Added = append(e.Added, d.row.String())
		}
	}
	return e
}

// Pending returns the proposals that wait for approval, oldest first: those of
// the principal's tenant, and all for one of Config.Operator. What one would do is
// what [Store.Preview] says.
//
// The principal of ctx needs the right to access.Read on [Resource].
func (s *Store) Pending(ctx context.Context) ([]Entry, error) {
	return s.entries(ctx, func(q *gorm.DB) *gorm.DB {
		return q.Where("status = ? AND proposed_at >= ?", proposed, s.oldest()).Order("proposed_at, id")
	})
}

// oldest is when a proposal was made that can just be approved.
func (s *Store) oldest() int64 { return table.Nanos(s.cfg.Now().Add(-s.cfg.ProposalTTL)) }

// History returns up to limit changes with revisions below before, or the
// newest ones where that is 0, newest first.
//
// The principal of ctx needs the right to access.Read on [Resource], and sees
// the changes of its tenant; one of Config.Operator sees all.
func (s *Store) History(ctx context.Context, before uint64, limit int) ([]Entry, error) {
	return s.entries(ctx, func(q *gorm.DB) *gorm.DB {
		q = q.Where("status = ?", applied).Order("revision DESC").Limit(max(limit, 0))
		if before > 0 {
			q = q.Where("revision < ?", before)
		}
		return q
	})
}

func (s *Store) entries(ctx context.Context, which func(*gorm.DB) *gorm.DB) ([]Entry, error) {
	scope, err := access.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.may(ctx, scope, access.Read, nil); err != nil {
		return nil, err
	}
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	db = db.WithContext(ctx)
	q := which(db)
	if tenant := scope.Principal().Tenant; !s.isOperator(tenant) {
		q = q.Where("tenant = ?", tenant)
	}
	var rows []changeTable
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("policystore: read policy_changes: %w", err)
	}
	out := make([]Entry, len(rows))
	for i := range rows {
		c := &change{changeTable: rows[i]}
		if err := c.readEdits(db); err != nil {
			return nil, fmt.Errorf("policystore: read policy_edits: %w", err)
		}
		out[i] = c.entry()
	}
	return out, nil
}
