// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/storage/policystore"
)

// TestRolesAreThoseOfTheDatabase: whatever a principal says, and for who breaks
// the glass also when the policy is stale.
func TestRolesAreThoseOfTheDatabase(t *testing.T) {
	t.Parallel()
	w := initiated(t, sqliteFile(t), nil)
	nora := access.Principal{ID: "u-nora", Tenant: tenant, Kind: access.Human, Roles: []string{"nurse", "privacy-officer"}}
	roles := func(s *policystore.Store, ctx context.Context) []string {
		got, err := s.Roles(ctx, nora)
		if err != nil {
			t.Error(err)
		}
		return got
	}
	if got := roles(w.Store, access.With(t.Context(), nora, access.Treatment)); !slices.Equal(got, []string{"nurse"}) {
		t.Errorf("Roles = %v", got)
	}
	if _, err := w.Terminate(as(t, "u-alice", access.SystemAdmin), tenant, "u-nora"); err != nil {
		t.Fatal(err)
	}
	if got := roles(w.Store, t.Context()); len(got) != 0 {
		t.Errorf("Roles of who has left = %v", got)
	}
	closed, err := policystore.New(w.config(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := closed.Roles(t.Context(), nora); !errors.Is(err, policystore.ErrClosed) || got != nil {
		t.Errorf("Roles without a database = %v, %v", got, err)
	}
}
