// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/access/relation/relationtest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func TestRelationsAreAStore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		relationtest.TestStore(t, func(t *testing.T) relation.Store { return migrated(t, plain(t, open(t))).Relations() })
	})
}

// TestRelationsBesidePatients runs the contract in a database that storage
// guards.
func TestRelationsBesidePatients(t *testing.T) {
	t.Parallel()
	relationtest.TestStore(t, func(t *testing.T) relation.Store { return migrated(t, storagetest.NewDB(t).DB).Relations() })
}

// members makes IDs members of a tenant's set of u-1, by a store or, where they
// are many, at once.
func members(t *testing.T, db *gorm.DB, s relation.Store, tenant string, ids []string) {
	t.Helper()
	at := time.Unix(1_700_000_000, 0)
	if len(ids) > 100 {
		for len(ids) > 0 {
			n := min(200, len(ids))
			var rows []map[string]any
			for _, id := range ids[:n] {
				rows = append(rows, map[string]any{"tenant": tenant, "id": "r-" + id, "patient": id, "principal": "u-1", "kind": "CRTM", "begun": at.UnixMicro(), "ended": int64(1<<63 - 1), "void": false})
			}
			if err := db.Table("phi_relations").Create(rows).Error; err != nil {
				t.Fatal(err)
			}
			ids = ids[n:]
		}
		return
	}
	for i, id := range ids {
		r := relation.Relation{ID: fmt.Sprintf("r-%s-%d", tenant, i), Tenant: tenant, Patient: id, Principal: "u-1", Kind: relation.CareTeam, From: at}
		if err := s.Add(t.Context(), r, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRelationsAreASet(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		storagetest.TestSet(t, func(t *testing.T, a access.Authorizer, models ...any) storagetest.Sets {
			db := storagetest.Open(t, open(t), func(cfg *storage.Config) { cfg.Access = a }, models...)
			s := migrated(t, db.DB).Relations()
			return storagetest.Sets{
				DB: db.DB,
				Set: func(tenant string) access.Set {
					return s.Set(relation.Reach{Tenant: tenant, Principal: "u-1", At: time.Unix(1_700_000_000, 0), Kinds: map[relation.Kind]relation.Window{
						relation.CareTeam: {}, relation.Attending: {Before: time.Hour}, relation.Consulting: {Before: time.Hour, After: time.Hour}}})
				},
				Put: func(t *testing.T, tenant string, ids ...string) { members(t, db.DB, s, tenant, ids) },
			}
		})
	})
}
