// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/directive/directivetest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/storagetest"
)

func TestDirectivesAreAStore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		directivetest.TestStore(t, emptied(t, open(t), (*accessstore.Store).Directives))
	})
}

// restrict makes IDs members of a tenant's set of restrictions.
func restrict(t *testing.T, db *gorm.DB, s directive.Store, tenant string, ids []string, record bool) {
	t.Helper()
	at := time.Unix(1_700_000_000, 0).UTC()
	ctx := accesstest.AsIn(t, t.Context(), tenant, "privacy-officer", access.Operations)
	err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { // one transaction of the app has them all
		for i, id := range ids {
			d := directive.Directive{ID: fmt.Sprintf("d-%s-%d", tenant, i), Tenant: tenant, Patient: id, Kind: directive.Restriction, Basis: directive.Agreed, From: at, Roles: []string{"nurse", "clerk"}}
			if record {
				d.Patient, d.Types, d.Record = "p-0", []string{"note_row"}, id
			}
			if err := s.Add(storage.InTx(ctx, tx), d, change(audit.DirectiveChanged, tenant, d.ID)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectivesAreSets(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]bool{"patients": false, "records": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
				if record && !strings.HasSuffix(t.Name(), "SQLite") && os.Getenv("PART164_TEST_LONG") != "1" {
					t.Skip("the same SQL with another column: PART164_TEST_LONG=1 asks here too")
				}
				storagetest.TestSet(t, func(t *testing.T, a access.Authorizer, models ...any) storagetest.Sets {
					db := storagetest.Open(t, open(t), func(cfg *storage.Config) { cfg.Access = a }, models...)
					s := migrated(t, db.DB).Directives()
					return storagetest.Sets{
						DB: db.DB,
						Set: func(tenant string) access.Set {
							q := directive.Ask{Tenant: tenant, Kinds: []directive.Kind{directive.Restriction, directive.Hold}, Principal: "u-1", Roles: []string{"clerk"},
								Purposes: []access.Purpose{access.CareCoordination, access.Treatment}, Type: "note_row", At: time.Unix(1_700_000_000, 0)}
							if record {
								return s.Records(q)
							}
							return s.Patients(q)
						},
						Put: func(t *testing.T, tenant string, ids ...string) { restrict(t, db.DB, s, tenant, ids, record) },
					}
				})
			})
		})
	}
}

// A conditioned store answers by the conditions of its sets: what a list reads.
type conditioned struct {
	directive.Store
	db *gorm.DB
}

func (c conditioned) Patients(q directive.Ask) access.Set {
	return condition{c.Store.Patients(q), c.db}
}
func (c conditioned) Records(q directive.Ask) access.Set { return condition{c.Store.Records(q), c.db} }

type condition struct {
	access.Set
	db *gorm.DB
}

func (c condition) Has(ctx context.Context, tenant string, ids []string) ([]bool, error) {
	out := make([]bool, len(ids))
	where, err := c.Set.(storage.SetCondition).Condition(tenant, clause.Column{Table: "asked", Name: "id"})
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		if id == "" {
			continue
		}
		var n int64
		if err := c.db.WithContext(ctx).Exec("DELETE FROM asked").Exec("INSERT INTO asked VALUES (?)", id).Error; err != nil {
			return nil, err
		}
		if err := c.db.WithContext(ctx).Table("asked").Where(where).Count(&n).Error; err != nil {
			return nil, err
		}
		out[i] = n > 0
	}
	return out, nil
}

// TestConditionsAreTheirSets runs the contract by the SQL of the sets.
func TestConditionsAreTheirSets(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		if !strings.HasSuffix(t.Name(), "SQLite") && os.Getenv("PART164_TEST_LONG") != "1" {
			t.Skip("the same SQL as on SQLite: PART164_TEST_LONG=1 asks here too")
		}
		empty := emptied(t, open(t), func(s *accessstore.Store) conditioned { return conditioned{Store: s.Directives()} })
		directivetest.TestStore(t, func(t *testing.T) (directive.Store, func(error)) {
			store, fail := empty(t)
			store.db = store.Patients(directive.Ask{}).(condition).Set.(storage.SetCondition).Database()
			if !store.db.Migrator().HasTable("asked") {
				if err := store.db.Exec("CREATE TABLE asked (id varchar(64))").Error; err != nil {
					t.Fatal(err)
				}
			}
			return store, fail
		})
	})
}
