// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/access/relation/relationtest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/storagetest"
)

func TestRelationsAreAStore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		relationtest.TestStore(t, emptied(t, open(t), (*accessstore.Store).Relations))
	})
}

// change is the event of a change that a test makes by a store.
func change(typ audit.Type, tenant, id string) audit.Event {
	kind := map[audit.Type]string{audit.RelationChanged: relation.Resource, audit.DirectiveChanged: directive.Resource}[typ]
	return audit.Event{Type: typ, Outcome: audit.Success, Action: access.Create, Reason: audit.ReasonCreated, Objects: []audit.Object{{Type: kind, Tenant: tenant, Record: id}}}
}

// members makes IDs members of a tenant's set of u-1.
func members(t *testing.T, db *gorm.DB, s relation.Store, tenant string, ids []string) {
	t.Helper()
	at := time.Unix(1_700_000_000, 0)
	ctx := accesstest.AsIn(t, t.Context(), tenant, "registrar", access.PatientAdmin)
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { // one transaction of the app has them all
		for i, id := range ids {
			r := relation.Relation{ID: fmt.Sprintf("r-%s-%d", tenant, i), Tenant: tenant, Patient: id, Principal: "u-1", Kind: relation.CareTeam, From: at}
			if err := s.Add(storage.InTx(ctx, tx), r, change(audit.RelationChanged, tenant, r.ID)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
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
