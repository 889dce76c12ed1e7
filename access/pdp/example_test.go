// SPDX-License-Identifier: Apache-2.0

package pdp_test

import (
	"context"
	"fmt"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
)

func Example() {
	point, err := pdp.New(pdp.Config{
		Policy:     rbac.Starter(),
		Relations:  &world{related: map[string][]string{"u-17": {"p-1"}}}, // package relation, storage/accessstore
		TenantWide: []access.Purpose{access.Payment},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	physician := access.Principal{ID: "u-17", Tenant: "t-test", Kind: access.Human, Roles: []string{"physician"}}
	ctx := access.With(context.Background(), physician, access.Treatment)
	d, err := point.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "patient", ID: "p-1", Patient: "p-1", Tenant: "t-test"},
		{Type: "patient", ID: "p-2", Patient: "p-2", Tenant: "t-test"},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range d.Verdicts {
		fmt.Printf("%v %s %q\n", v.Allow, v.Code, v.Near)
	}
	// Output:
	// true ALLOW_RULE ""
	// false DENY_RELATION "with a relation to the patient"
}
