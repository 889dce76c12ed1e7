// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"fmt"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/duty"
)

// Separation of duties: of roles, and of acts on one record.
func Example_duties() {
	c, end := newClinic()
	defer end()
	duties := must(duty.New(duty.Config{
		Exclusive: []duty.Exclusion{{Name: "policy", Roles: []string{"security-officer", "privacy-officer"}}}, // never both, by whatever way
		Records:   []duty.Sequence{{Type: "claim", Action: "approve", After: []access.Action{access.Create}}}, // who makes does not check
		Acts:      new(duty.Memory),                                                                           // an app takes accessstore.Store.Acts
		Assigned: func(ctx context.Context, tenant, who string) ([]string, error) {
			return c.policy.Roles(ctx, access.Principal{ID: who, Tenant: tenant, Kind: access.Human})
		},
		Elevated: c.desk.Elevated,
	}))
	// Asked where a role is assigned, and where a grant brings one (grant.Config.Duties).
	ctx := context.Background()
	fmt.Println(duties.Elevate(ctx, "elm-street", "u-sam", []string{"privacy-officer"}))
	fmt.Println(duties.Elevate(ctx, "elm-street", "u-clara", []string{"privacy-officer"}))
	// Output:
	// duty: separation of duties: policy: ["privacy-officer" "security-officer"]
	// <nil>
}
