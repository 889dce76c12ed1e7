// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/storage/storagetest"
)

// PostgreSQL's driver keeps plans: a column that comes or goes while the app
// runs is no reason for its reads to fail.
func TestReadsGoOnWhenColumnsChange(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		db := storagetest.Open(t, d, nil, &Patient{})
		ctx := physician(t)
		p := jane()
		if err := db.WithContext(ctx).Create(&p).Error; err != nil {
			t.Fatal(err)
		}
		raw, err := db.DB.DB()
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []string{"", "ALTER TABLE patients ADD COLUMN later integer", "ALTER TABLE patients DROP COLUMN later"} {
			if change != "" {
				if _, err := raw.Exec(change); err != nil {
					t.Fatal(err)
				}
			}
			var readers sync.WaitGroup
			for range 8 { // over the pool's connections
				readers.Go(func() {
					for range 5 {
						var got []Patient
						if err := db.WithContext(ctx).Find(&got).Error; err != nil || len(got) != 1 {
							t.Errorf("after %q: %d rows, %v", change, len(got), err)
						}
					}
				})
			}
			readers.Wait()
		}
	})
}
