// SPDX-License-Identifier: Apache-2.0

package accessstore

import (
	"net/netip"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/internal/table"
)

// Times of grants are nanoseconds since 1970, so that every database compares them alike;
// 0 stands for the zero time.

type grantRow struct {
	Tenant   key    `gorm:"primaryKey;index:phi_grants_live,priority:1;index:phi_grants_list,priority:1"`
	ID       key    `gorm:"primaryKey"`
	OpenKey  *key   `gorm:"uniqueIndex:phi_grants_open"` // NULL where another took it
	Kind     key    `gorm:"not null"`
	Holder   key    `gorm:"not null;index:phi_grants_live,priority:2"`
	Role     key    `gorm:"not null"`
	Patient  key    `gorm:"not null"`
	Type     key    `gorm:"not null;column:record_type"`
	Record   key    `gorm:"not null;column:record_id"`
	Purposes string `gorm:"not null;type:text"` // separated by spaces, which no code has
	Reason   key    `gorm:"not null"`
	Ticket   key    `gorm:"not null"`
	Extends  key    `gorm:"not null"`
	TTL      int64  `gorm:"not null;column:ttl"`
	Needs    int    `gorm:"not null"`
	MaxUses  int    `gorm:"not null"`
	Uses     int    `gorm:"not null"`
	State    key    `gorm:"not null;index:phi_grants_live,priority:3;index:phi_grants_over,priority:1"`
	Created  int64  `gorm:"not null;index:phi_grants_list,priority:2"`
	From     int64  `gorm:"not null;column:from_at"`
	Until    int64  `gorm:"not null;column:until_at;index:phi_grants_live,priority:4;index:phi_grants_over,priority:2"`
	Ended    int64  `gorm:"not null"`
	ReviewBy int64  `gorm:"not null"`
	Reviewed int64  `gorm:"not null"`
	Finding  key    `gorm:"not null"`
	AlertAt  int64  `gorm:"not null;index:phi_grants_alert"`
	Version  int64  `gorm:"not null"`
	MAC      []byte `gorm:"column:mac;not null;size:64"`
}

func (grantRow) TableName() string { return "phi_grants" }

const grantObject = "grant"

// signed has everything but OpenKey, which gives nothing.
func (r *grantRow) signed() (field, text string, mac []byte) {
	s := statement(nil).text(string(r.Tenant), string(r.ID), string(r.Kind), string(r.Holder), string(r.Role), string(r.Patient), string(r.Type), string(r.Record)).
		text(r.Purposes, string(r.Reason), string(r.Ticket), string(r.Extends), string(r.State), string(r.Finding)).
		number(r.TTL, int64(r.Needs), int64(r.MaxUses), int64(r.Uses), r.Created, r.From, r.Until, r.Ended, r.ReviewBy, r.Reviewed, r.AlertAt, r.Version)
	return grantField, string(s), r.MAC
}

func (r *grantRow) object() audit.Object {
	return audit.Object{Type: grantObject, Tenant: string(r.Tenant), Record: string(r.ID), Patient: string(r.Patient), Version: r.Version}
}

type stepRow struct {
	Tenant    key    `gorm:"primaryKey"`
	GrantID   key    `gorm:"primaryKey"`
	N         int    `gorm:"primaryKey;autoIncrement:false"`
	Act       key    `gorm:"not null"`
	ByID      key    `gorm:"not null"`
	ByKind    key    `gorm:"not null"`
	ByRoles   string `gorm:"not null;type:text"` // separated by spaces, which access.CheckID refuses in a role
	BySession key    `gorm:"not null"`
	Assurance int    `gorm:"not null"`
	AuthTime  int64  `gorm:"not null"`
	Addr      key    `gorm:"not null"`
	At        int64  `gorm:"not null;column:done_at"`
	Reason    key    `gorm:"not null"`
	Approvals int    `gorm:"not null"`
	Owed      int64  `gorm:"not null;index:phi_grant_steps_owed"` // since when it waits to be recorded; 0 where it is
	MAC       []byte `gorm:"column:mac;not null;size:64"`
}

func (stepRow) TableName() string { return "phi_grant_steps" }

// signed has everything but Owed: a step that is recorded twice is no harm, and
// one that says that it was, or is about to be, is told by the trail.
func (r *stepRow) signed() (field, text string, mac []byte) {
	s := statement(nil).text(string(r.Tenant), string(r.GrantID), string(r.Act), string(r.ByID), string(r.ByKind), r.ByRoles, string(r.BySession), string(r.Addr), string(r.Reason)).
		number(int64(r.N), int64(r.Assurance), r.AuthTime, r.At, int64(r.Approvals))
	return stepField, string(s), r.MAC
}

func (r *stepRow) object() audit.Object {
	return audit.Object{Type: grantObject, Tenant: string(r.Tenant), Record: string(r.GrantID)}
}

// lockRow is locked while the roles that somebody of a tenant holds are about
// to change, so that two changes do not pass each other.
type lockRow struct {
	Tenant key `gorm:"primaryKey"`
}

func (lockRow) TableName() string { return "phi_grant_locks" }

func grantRowOf(g *grant.Grant) grantRow {
	var purposes []string
	for _, p := range g.Purposes {
		purposes = append(purposes, string(p))
	}
	open := key(g.Key())
	return grantRow{
		Tenant: key(g.Tenant), ID: key(g.ID), OpenKey: &open, Kind: key(g.Kind), Holder: key(g.Holder), Role: key(g.Role), Patient: key(g.Patient),
		Type: key(g.Type), Record: key(g.Record), Purposes: strings.Join(purposes, " "), Reason: key(g.Reason), Ticket: key(g.Ticket),
		Extends: key(g.Extends), TTL: int64(g.TTL), Needs: g.Needs, MaxUses: g.MaxUses, Uses: g.Uses, State: key(g.State), Created: table.Nanos(g.Created),
		From: table.Nanos(g.From), Until: table.Nanos(g.Until), Ended: table.Nanos(g.Ended), ReviewBy: table.Nanos(g.ReviewBy), Reviewed: table.Nanos(g.Reviewed),
		Finding: key(g.Finding), AlertAt: table.Nanos(g.AlertAt), Version: g.Version,
	}
}

func (r *grantRow) grant() grant.Grant {
	var purposes []access.Purpose
	for _, p := range strings.Fields(r.Purposes) {
		purposes = append(purposes, access.Purpose(p))
	}
	return grant.Grant{
		ID: string(r.ID), Tenant: string(r.Tenant),
		Scope: grant.Scope{Kind: grant.Kind(r.Kind), Holder: string(r.Holder), Role: string(r.Role), Patient: string(r.Patient),
			Type: string(r.Type), Record: string(r.Record), Purposes: purposes},
		Reason: audit.Reason(r.Reason), Ticket: string(r.Ticket), Extends: string(r.Extends), TTL: time.Duration(r.TTL), Needs: r.Needs,
		MaxUses: r.MaxUses, Uses: r.Uses, State: grant.State(r.State), Created: table.Time(r.Created), From: table.Time(r.From),
		Until: table.Time(r.Until), Ended: table.Time(r.Ended), ReviewBy: table.Time(r.ReviewBy), Reviewed: table.Time(r.Reviewed),
		Finding: audit.Reason(r.Finding), AlertAt: table.Time(r.AlertAt), Version: r.Version,
	}
}

func stepRowOf(tenant, id string, n int, s *grant.Step) stepRow {
	addr := ""
	if s.By.Addr.IsValid() {
		addr = s.By.Addr.WithZone("").String()
	}
	return stepRow{
		Tenant: key(tenant), GrantID: key(id), N: n, Act: key(s.Act), ByID: key(s.By.ID), ByKind: key(s.By.Kind), ByRoles: strings.Join(s.By.Roles, " "),
		BySession: key(s.By.Session), Assurance: s.By.Assurance, AuthTime: table.Nanos(s.By.AuthTime), Addr: key(addr), At: table.Nanos(s.At),
		Reason: key(s.Reason), Approvals: s.Approvals, Owed: table.Nanos(s.Owed),
	}
}

func (r *stepRow) step() grant.Step {
	out := grant.Step{Act: grant.Act(r.Act), At: table.Time(r.At), Reason: audit.Reason(r.Reason), Approvals: r.Approvals, Owed: table.Time(r.Owed)}
	if r.ByID != "" {
		addr, _ := netip.ParseAddr(string(r.Addr)) // an address that does not parse is no address
		out.By = access.Principal{
			ID: string(r.ByID), Tenant: string(r.Tenant), Kind: access.Kind(r.ByKind), Session: string(r.BySession),
			Assurance: r.Assurance, AuthTime: table.Time(r.AuthTime), Addr: addr,
		}
		if r.ByRoles != "" {
			out.By.Roles = strings.Fields(r.ByRoles)
		}
	}
	return out
}
