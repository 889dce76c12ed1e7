// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"testing"

	"github.com/part164/part164/access/rbac"
)

func TestStarterLoads(t *testing.T) {
	t.Parallel()
	if _, err := rbac.New(rbac.Config{Rules: rbac.StarterRules()}); err != nil {
		t.Fatal(err)
	}
}
