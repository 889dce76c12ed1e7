// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

func TestHoldsForbidToDestroy(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(*testing.T) gorm.Dialector) {
		storagetest.TestHold(t, func(t *testing.T) (storage.Hold, func(tenant, subject string), func(tenant, subject string)) {
			db := guarded(t, open(t))
			d, err := directive.New(directive.Config{Store: migrated(t, db.DB).Directives(), Access: rbac.Starter(), Audit: db.Trail})
			if err != nil {
				t.Fatal(err)
			}
			ids := map[string]string{}
			hold := func(tenant, subject string) {
				kept, err := d.Record(accesstest.AsIn(t, t.Context(), tenant, "privacy-officer", access.Legal), directive.Directive{Kind: directive.Hold, Patient: subject})
				if err != nil {
					t.Fatal(err)
				}
				ids[tenant+subject] = kept.ID
			}
			lift := func(tenant, subject string) {
				if err := d.End(accesstest.AsIn(t, t.Context(), tenant, "privacy-officer", access.Legal), ids[tenant+subject], directive.Lifted); err != nil {
					t.Fatal(err)
				}
			}
			return d, hold, lift
		})
	})
}
