// SPDX-License-Identifier: Apache-2.0

// Package dutytest holds the contract of every [duty.Acts] ([TestActs]).
package dutytest

import (
	"slices"
	"sync"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
)

// Did makes it so that a principal did an action to a record.
type Did func(t *testing.T, tenant, principal string, action access.Action, resourceType, record string)

// TestActs runs the contract of [duty.Acts]. open returns acts that know
// nothing yet, and how they come to know. The suite has principals do
// [access.Create] and [access.Update] to records of the types given, two at
// least, with the IDs given, three at least.
func TestActs(t *testing.T, types, records []string, open func(t *testing.T) (duty.Acts, Did)) {
	t.Helper()
	const tenant = "t-test"
	has := func(t *testing.T, a duty.Acts, tenant string, principals []string, resourceType string, actions []access.Action, ids ...string) []bool {
		t.Helper()
		set := a.By(principals, resourceType, actions)
		if set == nil {
			return make([]bool, len(ids))
		}
		out, err := set.Has(t.Context(), tenant, ids)
		if err != nil || len(out) != len(ids) {
			t.Fatalf("Has = %v, %v", out, err)
		}
		return out
	}
	both := []access.Action{access.Create, access.Update}
	t.Run("who did it, and nobody else", func(t *testing.T) {
		a, did := open(t)
		did(t, tenant, "u-1", access.Create, types[0], records[0])
		did(t, tenant, "u-2", access.Update, types[0], records[0])
		did(t, tenant, "u-1", access.Update, types[0], records[1])
		did(t, tenant, "u-1", access.Create, types[1], records[2])
		ids := []string{records[2], records[0], "nothing", records[1], records[0]}
		for _, tt := range []struct {
			tenant     string
			principals []string
			typ        string
			actions    []access.Action
			want       []bool
		}{
			{tenant, []string{"u-1"}, types[0], both, []bool{false, true, false, true, true}},
			{tenant, []string{"u-1"}, types[0], both[:1], []bool{false, true, false, false, true}},
			{tenant, []string{"u-2"}, types[0], both, []bool{false, true, false, false, true}},
			{tenant, []string{"u-2"}, types[0], both[:1], []bool{false, false, false, false, false}},
			{tenant, []string{"u-9", "u-2"}, types[0], both, []bool{false, true, false, false, true}},
			{tenant, []string{"u-1"}, types[1], both, []bool{true, false, false, false, false}},
			{tenant, []string{"U-1"}, types[0], both, make([]bool, 5)},
			{tenant, []string{"u-9"}, types[0], both, make([]bool, 5)},
			{tenant, nil, types[0], both, make([]bool, 5)},
			{tenant, []string{"u-1"}, types[0], nil, make([]bool, 5)},
			{tenant, []string{"u-1"}, "nothing", both, make([]bool, 5)},
			{"t-other", []string{"u-1"}, types[0], both, make([]bool, 5)},
		} {
			if got := has(t, a, tt.tenant, tt.principals, tt.typ, tt.actions, ids...); !slices.Equal(got, tt.want) {
				t.Errorf("%s, %v, %s, %v: %v, want %v", tt.tenant, tt.principals, tt.typ, tt.actions, got, tt.want)
			}
		}
		if got := has(t, a, tenant, []string{"u-1"}, types[0], both, ""); got[0] {
			t.Error("an empty ID belongs to the set")
		}
	})
	t.Run("what is done later counts", func(t *testing.T) {
		a, did := open(t)
		set := a.By([]string{"u-1"}, types[0], both)
		before, err := set.Has(t.Context(), tenant, records[:1])
		if err != nil || before[0] {
			t.Errorf("before: %v, %v", before, err)
		}
		did(t, tenant, "u-1", access.Create, types[0], records[0])
		if after, err := set.Has(t.Context(), tenant, records[:1]); err != nil || !after[0] {
			t.Errorf("after: %v, %v", after, err)
		}
	})
	t.Run("concurrent use", func(t *testing.T) {
		a, did := open(t)
		did(t, tenant, "u-1", access.Create, types[0], records[0])
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				set := a.By([]string{"u-1"}, types[0], both)
				if got, err := set.Has(t.Context(), tenant, records[:2]); err != nil || !slices.Equal(got, []bool{true, false}) {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		wg.Wait()
	})
}
