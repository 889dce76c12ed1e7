// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/grant/granttest"
)

func TestGrantsOfEachDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(t *testing.T) gorm.Dialector) {
		granttest.TestStore(t, emptied(t, open))
	})
}

func TestDeskOnEachDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(t *testing.T) gorm.Dialector) {
		granttest.TestDesk(t, emptied(t, open))
	})
}

// emptied returns a function that empties one database, and returns its store: to
// make a database takes longer than the tests.
func emptied(t *testing.T, open func(t *testing.T) gorm.Dialector) func(t *testing.T) grant.Store {
	t.Helper()
	db := plain(t, open(t))
	store := migrated(t, db).Grants()
	return func(t *testing.T) grant.Store {
		t.Helper()
		for _, table := range []string{"phi_grants", "phi_grant_steps", "phi_grant_locks"} {
			if err := db.Exec("DELETE FROM " + table).Error; err != nil {
				t.Fatal(err)
			}
		}
		return store
	}
}
