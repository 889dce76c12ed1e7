// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
	"github.com/part164/part164/access/duty/dutytest"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/storagetest"
)

// A claim and a sheet have their author and who changed them last in columns of
// their own.
type claim struct {
	ID        string `gorm:"primaryKey;size:64"`
	TenantID  string `gorm:"size:64"`
	AuthorID  string `gorm:"size:64"`
	ChangedBy string `gorm:"size:64"`
}

type sheet struct {
	ID       string `gorm:"primaryKey;size:64"`
	TenantID string `gorm:"size:64"`
	AuthorID string `gorm:"size:64"`
}

func TestActsOfColumns(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(t *testing.T) gorm.Dialector) {
		db := storagetest.Open(t, open(t), nil).DB
		if db.Name() == "mysql" {
			t.Skip("a column without a binary collation takes u-1 and U-1 for one there, which storage.Members says")
		}
		if err := db.AutoMigrate(&claim{}, &sheet{}); err != nil {
			t.Fatal(err)
		}
		ids := []string{uuid.NewString(), uuid.NewString(), uuid.NewString()}
		dutytest.TestActs(t, []string{"claim", "sheet"}, ids, func(t *testing.T) (duty.Acts, dutytest.Did) {
			for _, table := range []string{"claims", "sheets"} {
				if err := db.Exec("DELETE FROM " + table).Error; err != nil {
					t.Fatal(err)
				}
			}
			store := migrated(t, db)
			acts := store.Acts(
				accessstore.Column{Type: "sheet", Action: access.Create, Model: &sheet{}, Name: "author_id"},
				accessstore.Column{Type: "claim", Action: access.Create, Model: &claim{}, Name: "author_id"},
				accessstore.Column{Type: "claim", Action: access.Update, Model: &claim{}, Name: "changed_by"},
			)
			return acts, func(t *testing.T, tenant, principal string, action access.Action, resourceType, record string) {
				t.Helper()
				table := map[string]string{"claim": "claims", "sheet": "sheets"}[resourceType]
				column := map[access.Action]string{access.Create: "author_id", access.Update: "changed_by"}[action]
				done := db.Exec(fmt.Sprintf("UPDATE %s SET %s = ? WHERE id = ? AND tenant_id = ?", table, column), principal, record, tenant)
				if done.Error == nil && done.RowsAffected == 0 {
					done = db.Table(table).Create(map[string]any{"id": record, "tenant_id": tenant, column: principal})
				}
				if done.Error != nil {
					t.Fatal(done.Error)
				}
			}
		})
	})
}
