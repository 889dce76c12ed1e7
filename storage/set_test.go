// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// A bedStay is what an app keeps of encounters: it has PHI of its own.
type bedStay struct {
	storage.Record
	PatientID string                 `phi:"subject" gorm:"size:64;index"`
	Doctor    string                 `phi:"-" gorm:"size:64"`
	Begun     int64                  `phi:"-"`
	Ended     int64                  `phi:"-"`
	Reason    storage.Sealed[string] `phi:"clinical"`
	DeletedAt gorm.DeletedAt         `phi:"-"`
}

func TestMembersIsASet(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		storagetest.TestSet(t, func(t *testing.T, a access.Authorizer, models ...any) storagetest.Sets {
			db := storagetest.Open(t, d, func(cfg *storage.Config) { cfg.Access = a }, append(models, &bedStay{})...)
			raw, err := db.DB.DB()
			if err != nil {
				t.Fatal(err)
			}
			ids := storagetest.SeededIDs(7)
			put := func(t *testing.T, tenant, id, doctor string, over int64, deleted any) {
				query := "INSERT INTO bed_stays (id, tenant_id, version, patient_id, doctor, begun, ended, deleted_at) VALUES (?, ?, 1, ?, ?, 0, ?, ?)"
				if db.Name() == "postgres" {
					query = "INSERT INTO bed_stays (id, tenant_id, version, patient_id, doctor, begun, ended, deleted_at) VALUES ($1, $2, 1, $3, $4, 0, $5, $6)"
				}
				if _, err := raw.Exec(query, ids(), tenant, id, doctor, over, deleted); err != nil {
					t.Fatal(err)
				}
			}
			return storagetest.Sets{
				DB: db.DB,
				Set: func(string) access.Set {
					return storage.Members(db.DB, &bedStay{}, "PatientID", "doctor = ? AND begun <= ? AND ended > ?", "u-1", 5, 5)
				},
				Put: func(t *testing.T, tenant string, members ...string) {
					for _, id := range members {
						put(t, tenant, id, "u-1", 6, nil)
					}
				},
			}
		})
	})
}
