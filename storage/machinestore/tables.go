// SPDX-License-Identifier: Apache-2.0

package machinestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/storage/internal/table"
)

// Times are nanoseconds since 1970, so that every database compares them alike; 0
// stands for the zero time. Lists are separated by spaces, which nothing in them
// has.

type keyRow struct {
	ID       table.ID `gorm:"primaryKey"`
	Tenant   table.ID `gorm:"not null;index:access_keys_service,priority:1"`
	Service  table.ID `gorm:"not null;index:access_keys_service,priority:2"`
	Hash     []byte   `gorm:"not null;size:32"`
	Roles    string   `gorm:"not null;type:text"`
	Purposes string   `gorm:"not null;type:text"`
	Networks string   `gorm:"not null;type:text"`
	Created  int64    `gorm:"not null"`
	Expires  int64    `gorm:"not null"`
	LastUsed int64    `gorm:"not null"`
	Revoked  int64    `gorm:"not null"`
	Next     table.ID `gorm:"column:next_key;not null"`
}

func (keyRow) TableName() string { return "access_keys" }

type revokedRow struct {
	ID      table.ID `gorm:"primaryKey"` // of the certificate
	Revoked int64    `gorm:"not null"`
}

func (revokedRow) TableName() string { return "access_revoked_certificates" }

// Migrate creates the tables, or adds what a newer version needs.
func Migrate(ctx context.Context, db *gorm.DB) error {
	if err := table.Quiet(db).WithContext(ctx).AutoMigrate(&keyRow{}, &revokedRow{}); err != nil {
		return fmt.Errorf("machinestore: migrate: %w", err)
	}
	return nil
}

func rowOf(k *machine.Key) *keyRow {
	r := &keyRow{
		ID: table.ID(k.ID), Tenant: table.ID(k.Tenant), Service: table.ID(k.Service), Hash: k.Hash[:], Roles: strings.Join(k.Roles, " "),
		Created: table.Nanos(k.Created), Expires: table.Nanos(k.Expires), LastUsed: table.Nanos(k.LastUsed), Revoked: table.Nanos(k.Revoked), Next: table.ID(k.Next),
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
		Created: table.Time(r.Created), Expires: table.Time(r.Expires), LastUsed: table.Time(r.LastUsed), Revoked: table.Time(r.Revoked),
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
