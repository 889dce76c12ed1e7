// SPDX-License-Identifier: Apache-2.0

package sessionstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/storage/internal/table"
)

// Times are nanoseconds since 1970, so that every database compares and adds
// them alike; 0 stands for the zero time.

type userRow struct {
	Tenant   table.ID `gorm:"primaryKey"`
	ID       table.ID `gorm:"primaryKey"`
	LoginKey table.ID `gorm:"not null;uniqueIndex:session_users_login"` // hash of tenant and login: no collation can fold it
	Kind     string   `gorm:"not null;size:16"`
	Login    string   `gorm:"not null;size:255"`
	Roles    string   `gorm:"not null;type:text"` // separated by spaces, which access.CheckID refuses in a role
	Disabled bool     `gorm:"not null"`
	Epoch    int64    `gorm:"not null"`
	Created  int64    `gorm:"not null"`
	Password string   `gorm:"not null;size:255"`
	TOTP     []byte   `gorm:"column:totp;size:2048"`
	TOTPNext []byte   `gorm:"column:totp_next;size:2048"`
	TOTPStep int64    `gorm:"column:totp_step;not null"`
}

func (userRow) TableName() string { return "session_users" }

type pendingRow struct {
	ID      table.ID `gorm:"primaryKey"`
	Tenant  table.ID `gorm:"not null;index:session_pending_user,priority:1"`
	UserID  table.ID `gorm:"not null;index:session_pending_user,priority:2"`
	Epoch   int64    `gorm:"not null"`
	Tries   int      `gorm:"not null"`
	Expires int64    `gorm:"not null;index:session_pending_expires"`
}

func (pendingRow) TableName() string { return "session_pending" }

type sessionRow struct {
	ID        table.ID `gorm:"primaryKey"`
	Tenant    table.ID `gorm:"not null;index:session_sessions_user,priority:1"`
	UserID    table.ID `gorm:"not null;index:session_sessions_user,priority:2"`
	Kind      string   `gorm:"not null;size:16"`
	Epoch     int64    `gorm:"not null"`
	Assurance int      `gorm:"not null"`
	AuthTime  int64    `gorm:"not null"`
	Created   int64    `gorm:"not null"`
	LastSeen  int64    `gorm:"not null"`
	Idle      int64    `gorm:"not null"`
	Expires   int64    `gorm:"not null"`
	Addr      string   `gorm:"not null;size:64"`
	Ended     int64    `gorm:"not null;index:session_sessions_ended"`
	Reason    string   `gorm:"not null;size:32"`
	Owed      int64    `gorm:"not null"` // since when an event is owed; 0 where none is
}

func (sessionRow) TableName() string { return "session_sessions" }

type laneRow struct {
	ID      table.ID `gorm:"primaryKey"`
	Full    int64    `gorm:"column:full_until;not null;index:session_throttle_full"` // when the lane would be empty again
	Refused int      `gorm:"not null"`                                               // not handed out yet
	Since   int64    `gorm:"not null"`                                               // when refusals were last handed out; 0 for never
	Tenant  string   `gorm:"not null;size:64"`
	UserID  string   `gorm:"not null;size:64"`
	Kind    string   `gorm:"not null;size:16"`
	Addr    string   `gorm:"not null;size:64"`
}

func (laneRow) TableName() string { return "session_throttle" }

// Migrate creates the tables, or adds what a newer version needs.
func Migrate(ctx context.Context, db *gorm.DB) error {
	if err := table.Quiet(db).WithContext(ctx).AutoMigrate(&userRow{}, &pendingRow{}, &sessionRow{}, &laneRow{}); err != nil {
		return fmt.Errorf("sessionstore: migrate: %w", err)
	}
	return nil
}

// loginKey is what a login is found by.
func loginKey(tenant, login string) table.ID {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(tenant))))
	h.Write([]byte(tenant + login))
	return table.ID(hex.EncodeToString(h.Sum(nil)))
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.WithZone("").String()
}

func addrFrom(s string) netip.Addr {
	a, _ := netip.ParseAddr(s) // an address that does not parse is no address
	return a
}

func idFrom(k table.ID) (id session.ID, err error) {
	if n, err := hex.Decode(id[:], []byte(k)); err != nil || n != len(id) || len(k) != 2*len(id) {
		return session.ID{}, fmt.Errorf("sessionstore: a stored ID is not %d hex digits", 2*len(id))
	}
	return id, nil
}

func (r *userRow) user() session.User {
	return session.User{
		ID: string(r.ID), Tenant: string(r.Tenant), Kind: access.Kind(r.Kind), Login: r.Login, Roles: strings.Fields(r.Roles),
		Disabled: r.Disabled, Epoch: r.Epoch, Created: table.Time(r.Created),
	}
}

func (r *userRow) account() session.Account {
	return session.Account{User: r.user(), Password: r.Password, TOTP: r.TOTP, TOTPNext: r.TOTPNext, TOTPStep: r.TOTPStep}
}

func (r *pendingRow) pending() (session.Pending, error) {
	id, err := idFrom(r.ID)
	return session.Pending{
		ID: id, Tenant: string(r.Tenant), UserID: string(r.UserID), Epoch: r.Epoch, Tries: r.Tries, Expires: table.Time(r.Expires),
	}, err
}

func (r *sessionRow) session() (session.Session, error) {
	id, err := idFrom(r.ID)
	return session.Session{
		ID: id, Tenant: string(r.Tenant), UserID: string(r.UserID), Kind: access.Kind(r.Kind), Epoch: r.Epoch, Assurance: r.Assurance,
		AuthTime: table.Time(r.AuthTime), Created: table.Time(r.Created), LastSeen: table.Time(r.LastSeen), Idle: time.Duration(r.Idle),
		Expires: table.Time(r.Expires), Addr: addrFrom(r.Addr), Ended: table.Time(r.Ended), Reason: audit.Reason(r.Reason),
	}, err
}
