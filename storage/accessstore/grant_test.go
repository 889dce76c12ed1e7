// SPDX-License-Identifier: Apache-2.0

package accessstore_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/grant/granttest"
	"github.com/part164/part164/storage/accessstore"
)

func TestGrantsOfEachDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(t *testing.T) gorm.Dialector) {
		granttest.TestStore(t, grants(t, open))
	})
}

func TestDeskOnEachDatabase(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open func(t *testing.T) gorm.Dialector) {
		granttest.TestDesk(t, grants(t, open))
	})
}

func grants(t *testing.T, open func(t *testing.T) gorm.Dialector) func(t *testing.T) grant.Store {
	t.Helper()
	empty := emptied(t, open(t), (*accessstore.Store).Grants)
	return func(t *testing.T) grant.Store {
		t.Helper()
		store, _ := empty(t)
		return store
	}
}
