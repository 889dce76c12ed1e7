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

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/directive/directivetest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func TestDirectivesAreAStore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		directivetest.TestStore(t, func(t *testing.T) directive.Store { return migrated(t, plain(t, open(t))).Directives() })
	})
}

// restrict makes IDs members of a tenant's set of restrictions, by a store or,
// where they are many, at once.
func restrict(t *testing.T, db *gorm.DB, s directive.Store, tenant string, ids []string, record bool) {
	t.Helper()
	at := time.Unix(1_700_000_000, 0).UTC()
	if len(ids) > 100 {
		for len(ids) > 0 {
			n := min(200, len(ids))
			var rows []map[string]any
			for _, id := range ids[:n] {
				row := map[string]any{"tenant": tenant, "id": "d-" + id, "patient": id, "record": "", "kind": "restriction", "basis": "agreed", "recipient": "", "begun": at.UnixMicro(),
					"ended": int64(1<<63 - 1), "ending": "", "void": false, "event": "", "document": "", "anybody": true, "any_purpose": true, "any_type": true}
				if record {
					row["patient"], row["record"] = "p-0", id
				}
				rows = append(rows, row)
			}
			if err := db.Table("phi_directives").Create(rows).Error; err != nil {
				t.Fatal(err)
			}
			ids = ids[n:]
		}
		return
	}
	for i, id := range ids {
		d := directive.Directive{ID: fmt.Sprintf("d-%s-%d", tenant, i), Tenant: tenant, Patient: id, Kind: directive.Restriction, Basis: directive.Agreed, From: at, Roles: []string{"nurse", "clerk"}}
		if record {
			d.Patient, d.Types, d.Record = "p-0", []string{"note_row"}, id
		}
		if err := s.Add(t.Context(), d, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
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
