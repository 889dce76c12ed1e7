// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
)

// Config configures [New]. Audit is required; the zero value of everything else
// is the production setting.
type Config struct {
	Audit audit.Recorder // where refusals are recorded; changes go through the database's own trail

	Model string // Casbin model.conf; empty means rbac.DefaultModel

	// PrincipalRoles says that principals bring their roles, from a sign-in
	// elsewhere, and that the database has none of users. Without it a user has
	// the roles that the database links to it, and no others; where
	// Principal.Roles names any, the user acts in those of them only.
	PrincipalRoles bool

	// Operator is the tenant whose principals may change what holds in every
	// tenant: rules and role links without a tenant. Those of other tenants
	// change what holds in their own. Empty: nobody may after [Store.Init].
	Operator string

	// Approval says which changes need a second person.
	Approval Approval

	// ProposalTTL is how long a proposal can be approved. Zero means 14 days,
	// a number of ours.
	ProposalTTL time.Duration

	// Poll is how often the revision is read: so long another process may go on
	// deciding by the policy before a change. Zero means 1 second.
	Poll time.Duration

	// MaxStale is how long decisions go on without a successful poll; from then
	// on all is denied, but what a pdp.Point asks of emergency access, for which
	// it wants a live grant. Zero means 30 seconds.
	MaxStale time.Duration

	// Wait is how long a decision waits for a revision that is asked for
	// ([RequireRevision]). Zero means 2 seconds.
	Wait time.Duration

	// Assign says why a user must not have the roles that a change would leave it,
	// with those that they include: duty.Separation.Assign, for static separation
	// of duties. It is asked about each user whom the change gives a role, of its
	// own or by a role link, in the transaction of the change, which ctx is of
	// (see storage.InTx), and in which [Store.Assigned] and [Store.Holders] answer
	// by the policy as it would be. Not with PrincipalRoles. It may be called more
	// than once for a change.
	Assign func(ctx context.Context, tenant, user string, roles []string) error

	// LockRoles keeps grants from giving anybody of the tenant a role until the
	// change is made, and the other way round: accessstore.Store.LockRoles. Nil
	// where no grants give roles. Not without Assign.
	LockRoles func(ctx context.Context, tx *gorm.DB, tenant string) error

	// Elevated returns the roles that a user has by live grants, of which no row
	// of the policy tells: grant.Desk.Elevated. [Store.Approve] asks it about who
	// approves, and an error refuses. Nil where no grants give roles.
	Elevated func(ctx context.Context, tenant, user string) ([]string, error)

	// Validate is asked before a change is written, in its transaction, with
	// the policy as it would be. An error refuses the change. It may be called
	// more than once for a change.
	Validate func(ctx context.Context, tx *gorm.DB, after Rows) error

	// Shadow and Differs are those of rbac.Config: one in so many checks is
	// decided by Casbin itself as well.
	Shadow  int
	Differs func(context.Context, rbac.Difference)

	// Holders end what a user holds in other tables, in the transaction of
	// [Store.Terminate].
	Holders []Holder

	// Deviations documents each safe default that is not followed (45 CFR
	// 164.306(d)(3)). storage records them at Open.
	Deviations []access.Deviation

	Now func() time.Time // the clock; nil means time.Now
	Log *zap.Logger      // operational log; nil is silent
}

// An Approval says which changes of the policy need somebody else than their
// author to approve them (45 CFR 164.308(a)(4)(ii)(B)).
type Approval string

// The approvals.
const (
	ApproveGrants Approval = ""     // those that could give anybody a right; what only takes rights away is done at once
	ApproveAll    Approval = "all"  // every one but [Store.Terminate]
	ApproveNone   Approval = "none" // none; needs a Deviation from 164.308(a)(4)
)

// A Holder keeps what a user holds in tables of its own: sessions, grants.
// storage/sessionstore is one.
type Holder interface {
	// Terminate ends all that the user holds, on the open transaction tx, and
	// returns how many things that were. It is no error where there is nothing.
	// It may be called more than once for one termination.
	Terminate(ctx context.Context, tx *gorm.DB, tenant, user string, at time.Time) (ended int, err error)
}

func (c *Config) withDefaults() {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&c.ProposalTTL, 14*24*time.Hour)
	def(&c.Poll, time.Second)
	def(&c.MaxStale, 30*time.Second)
	def(&c.Wait, 2*time.Second)
	if c.Model == "" {
		c.Model = rbac.DefaultModel
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
}

func (c *Config) validate() error {
	switch {
	case c.Audit == nil:
		return errors.New("Config.Audit is nil: use the journal of audit.Open")
	case rbac.CheckModel(c.Model) != nil:
		return fmt.Errorf("Config.Model: %w", rbac.CheckModel(c.Model))
	case c.ProposalTTL < 0:
		return errors.New("Config.ProposalTTL is negative")
	case c.Poll < 0:
		return errors.New("Config.Poll is negative")
	case c.Wait < 0:
		return errors.New("Config.Wait is negative")
	case c.Assign != nil && c.PrincipalRoles:
		return errors.New("Config.Assign is set beside PrincipalRoles: the database gives nobody a role")
	case c.LockRoles != nil && c.Assign == nil:
		return errors.New("Config.LockRoles is set without Assign, which it is for")
	case c.MaxStale < 2*c.Poll:
		return errors.New("Config.MaxStale is less than two times Config.Poll: one slow poll would deny everything")
	}
	switch c.Approval {
	case ApproveGrants, ApproveAll:
	case ApproveNone:
		documented := false
		for _, d := range c.Deviations {
			documented = documented || strings.HasPrefix(d.Citation, "164.308(a)(4)")
		}
		if !documented {
			return errors.New("Config.Approval is ApproveNone without a Deviation from 164.308(a)(4) in Config.Deviations: say why one person may give rights alone")
		}
	default:
		return errors.New("Config.Approval is none of ApproveGrants, ApproveAll, ApproveNone")
	}
	if c.Operator != "" {
		if err := access.CheckID(c.Operator); err != nil {
			return fmt.Errorf("Config.Operator %w", err)
		}
	}
	for _, d := range c.Deviations {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("Config.Deviations: %w", err)
		}
	}
	if c.Shadow < 0 || c.Shadow > 0 && c.Differs == nil {
		return errors.New("Config.Shadow is negative, or Config.Differs is nil beside it")
	}
	for i, h := range c.Holders {
		if h == nil {
			return fmt.Errorf("Config.Holders[%d] is nil", i)
		}
	}
	return nil
}
