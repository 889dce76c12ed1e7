// SPDX-License-Identifier: Apache-2.0

package machinestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
)

// id is an identifier of up to 64 ASCII bytes that is compared byte by byte on
// every database: MariaDB's collations would take "k-a", "K-A" and "k-a " for one.
type id string

// GormDataType implements gorm's schema interface.
func (id) GormDataType() string { return "machine_id" }

// GormDBDataType implements gorm's migrator interface.
func (id) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	if db.Name() == "mysql" {
		return "varbinary(64)"
	}
	return "varchar(64)"
}

// Times are nanoseconds since 1970, so that every database compares them alike; 0
// stands for the zero time. Lists are separated by spaces, which nothing in them
// has.

type keyRow struct {
	ID       id     `gorm:"primaryKey"`
	Tenant   id     `gorm:"not null;index:access_keys_service,priority:1"`
	Service  id     `gorm:"not null;index:access_keys_service,priority:2"`
	Hash     []byte `gorm:"not null;size:32"`
	Roles    string `gorm:"not null;type:text"`
	Purposes string `gorm:"not null;type:text"`
	Networks string `gorm:"not null;type:text"`
	Created  int64  `gorm:"not null"`
	Expires  int64  `gorm:"not null"`
	LastUsed int64  `gorm:"not null"`
	Revoked  int64  `gorm:"not null"`
	Next     id     `gorm:"column:next_key;not null"`
}

func (keyRow) TableName() string { return "access_keys" }

type revokedRow struct {
	ID      id    `gorm:"primaryKey"` // of the certificate
	Revoked int64 `gorm:"not null"`
}

func (revokedRow) TableName() string { return "access_revoked_certificates" }

// Migrate creates the tables, or adds what a newer version needs.
func Migrate(ctx context.Context, db *gorm.DB) error {
	if err := quiet(db).WithContext(ctx).AutoMigrate(&keyRow{}, &revokedRow{}); err != nil {
		return fmt.Errorf("machinestore: migrate: %w", err)
	}
	return nil
}

func rowOf(k *machine.Key) *keyRow {
	r := &keyRow{
		ID: id(k.ID), Tenant: id(k.Tenant), Service: id(k.Service), Hash: k.Hash[:], Roles: strings.Join(k.Roles, " "),
		Created: nanos(k.Created), Expires: nanos(k.Expires), LastUsed: nanos(k.LastUsed), Revoked: nanos(k.Revoked), Next: id(k.Next),
	}
	var purposes, networks []string
	for _, p := range k.Purposes {
		purposes = append(purposes, string(p))
	}
	for _, n := range k.Networks {
		networks = append(networks, n.String())
	}
	r.Purposes, r.Networks = strings.Join(purposes, " "), strings.Join(networks, " ")
	return r
}

// key returns the stored key. A network that does not parse is an error: without
// it the key would be good from anywhere.
func (r *keyRow) key() (machine.Key, error) {
	k := machine.Key{
		ID: string(r.ID), Tenant: string(r.Tenant), Service: string(r.Service), Roles: strings.Fields(r.Roles),
		Created: fromNanos(r.Created), Expires: fromNanos(r.Expires), LastUsed: fromNanos(r.LastUsed), Revoked: fromNanos(r.Revoked),
		Next: string(r.Next),
	}
	if copy(k.Hash[:], r.Hash) != sha256.Size || len(r.Hash) != sha256.Size {
		return machine.Key{}, fmt.Errorf("machinestore: a stored hash is not of %d bytes", sha256.Size)
	}
	for _, p := range strings.Fields(r.Purposes) {
		k.Purposes = append(k.Purposes, access.Purpose(p))
	}
	if len(k.Purposes) == 0 { // an empty list would be every purpose
		return machine.Key{}, errors.New("machinestore: a stored key has no purpose")
	}
	for _, n := range strings.Fields(r.Networks) {
		prefix, err := netip.ParsePrefix(n)
		if err != nil {
			return machine.Key{}, errors.New("machinestore: a stored network is none")
		}
		k.Networks = append(k.Networks, prefix)
	}
	return k, nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
