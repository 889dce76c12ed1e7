// SPDX-License-Identifier: Apache-2.0

package policystore

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/goose"
)

// Migrations holds the tables as migrations in the format of goose, in
// migrations/sqlite, migrations/postgres and migrations/mysql (MariaDB), for
// databases that are changed by reviewed SQL only. They are what [Migrate] runs.
//
//go:embed migrations
var Migrations embed.FS

// Migrate makes the tables where they are missing. It may be called at every
// start, by a user who may create them.
func Migrate(ctx context.Context, db *gorm.DB) error {
	err := errors.New("the database is nil")
	if db != nil {
		err = goose.Up(ctx, db, Migrations, "0001_policy.sql")
	}
	if err != nil {
		return fmt.Errorf("policystore: migrate: %w", err)
	}
	return nil
}

// Identifiers are compared byte by byte on every database: the columns are
// binary, or have a binary collation. Times are nanoseconds since 1970.

type ruleTable struct {
	Role     string `gorm:"primaryKey"`
	Tenant   string `gorm:"primaryKey"`
	Resource string `gorm:"primaryKey"`
	Action   string `gorm:"primaryKey"`
	Purpose  string `gorm:"primaryKey"`
	Effect   string `gorm:"primaryKey"`
	Revision uint64 // in which it was added
}

func (ruleTable) TableName() string { return "policy_rules" }

type linkTable struct {
	Kind     string `gorm:"primaryKey"`
	Tenant   string `gorm:"primaryKey"`
	Member   string `gorm:"primaryKey"`
	Role     string `gorm:"primaryKey"`
	Revision uint64
}

func (linkTable) TableName() string { return "policy_links" }

// A revisionTable has one row, which every change locks first.
type revisionTable struct {
	ID        int `gorm:"primaryKey;autoIncrement:false"`
	Revision  uint64
	Head      []byte // digest of the newest change
	State     []byte // digest of the rows
	MAC       []byte `gorm:"column:mac"` // over the three above
	ChangedAt int64
}

func (revisionTable) TableName() string { return "policy_revision" }

type changeTable struct {
	ID               string `gorm:"primaryKey"`
	Status           string
	Revision         *uint64 // of one that was applied
	Tenant           string  // the author's
	Author           string
	AuthorKind       string
	OnBehalf         string // whom the author acted for; empty: nobody
	Reason           string
	Reference        string
	Terminated       string // the user whom [Store.Terminate] ended; empty in every other change
	TerminatedTenant string
	ProposedAt       int64
	Approver         string // who approved or rejected it; empty where nobody had to
	ApproverTenant   string
	DecidedAt        int64
	Edits            int
	Previous         []byte // digest of the change before it
	Digest           []byte
	MAC              []byte `gorm:"column:mac"` // of what waits for approval; empty once it is decided
}

func (changeTable) TableName() string { return "policy_changes" }

type editTable struct {
	ChangeID string `gorm:"primaryKey"`
	Seq      int    `gorm:"primaryKey;autoIncrement:false"`
	Op       string
	Kind     string
	Tenant   string
	Member   string
	Role     string
	Resource string
	Action   string
	Purpose  string
	Effect   string
}

func (editTable) TableName() string { return "policy_edits" }

const (
	opAdd    = "add"
	opRemove = "remove"

	proposed = "proposed"
	applied  = "applied"
	rejected = "rejected"
)

func editsOf(id string, edits []edit) []editTable {
	out := make([]editTable, len(edits))
	for i, e := range edits {
		f := e.row.f
		t := editTable{ChangeID: id, Seq: i, Op: opAdd, Kind: string(e.row.kind)}
		if e.remove {
			t.Op = opRemove
		}
		if e.row.kind == ruleRow {
			t.Role, t.Tenant, t.Resource, t.Action, t.Purpose, t.Effect = f[0], f[1], f[2], f[3], f[4], f[5]
		} else {
			t.Tenant, t.Member, t.Role = f[0], f[1], f[2]
		}
		out[i] = t
	}
	return out
}

func (t *editTable) edit() edit {
	e := edit{remove: t.Op == opRemove, row: row{kind: kind(t.Kind)}}
	if e.row.kind == ruleRow {
		e.row.f = [6]string{t.Role, t.Tenant, t.Resource, t.Action, t.Purpose, t.Effect}
	} else {
		e.row.f = [6]string{t.Tenant, t.Member, t.Role}
	}
	return e
}

func (r *row) rule(revision uint64) ruleTable {
	f := r.f
	return ruleTable{Role: f[0], Tenant: f[1], Resource: f[2], Action: f[3], Purpose: f[4], Effect: f[5], Revision: revision}
}

func (r *row) link(revision uint64) linkTable {
	return linkTable{Kind: string(r.kind), Tenant: r.f[0], Member: r.f[1], Role: r.f[2], Revision: revision}
}

// A change is one row of policy_changes with its edits.
type change struct {
	changeTable
	edits []edit
}

func (c *change) reason() audit.Reason { return audit.Reason(c.Reason) }

// write adds what was proposed to d.
func (c *change) write(d *digest) {
	d.add(c.ID, c.Tenant, c.Author, c.AuthorKind, c.OnBehalf, c.Reason, c.Reference, c.TerminatedTenant, c.Terminated, fmt.Sprint(c.ProposedAt), fmt.Sprint(len(c.edits)))
	for i := range c.edits {
		op := opAdd
		if c.edits[i].remove {
			op = opRemove
		}
		d.add(op)
		d.row(&c.edits[i].row)
	}
}

// statement is what the MAC of a proposal is over.
func (c *change) statement() string {
	d := newDigest("part164 policy proposal 1")
	c.write(d)
	sum := d.sum()
	return string(sum[:])
}

// sum is the digest of an applied change: it holds that of the one before it.
func (c *change) sum() [32]byte {
	d := newDigest("part164 policy change 1")
	d.add(string(c.Previous), fmt.Sprint(*c.Revision), c.Approver, c.ApproverTenant, fmt.Sprint(c.DecidedAt))
	c.write(d)
	return d.sum()
}

// statement is what the MAC of the revision row is over.
func (r *revisionTable) statement() string {
	d := newDigest("part164 policy revision 1")
	d.add(fmt.Sprint(r.Revision), string(r.Head), string(r.State))
	sum := d.sum()
	return string(sum[:])
}

// The fields of the MACs.
const (
	revisionField = "policy_revision"
	proposalField = "policy_change"
)
