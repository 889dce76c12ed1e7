// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"fmt"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
)

// Step 2: tenants and roles.
func Example_roles() {
	engine := must(rbac.New(rbac.Config{Model: text("policy/model.conf"), Policy: text("policy/policy.csv") + text("policy/users.csv"), Assigned: true}))
	fmt.Print(engine)

	// The sign-in makes the principal, and the route names the purpose.
	nora := access.Principal{ID: "u-nora", Tenant: "elm-street", Kind: access.Human}
	ctx := access.With(context.Background(), nora, access.Treatment)

	d := must(engine.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "patient", Tenant: "elm-street"},
		{Type: "patient", Tenant: "oak-street"},
		{Type: "invoice", Tenant: "elm-street"},
	}}))
	for _, v := range d.Verdicts {
		fmt.Println(v.Allow, v.Code, v.Path)
	}
	// Output:
	// role              may                on                  for        in tenant
	// physician         read               patient             TREAT BTG  elm-street
	// physician         update disclose    patient             TREAT      elm-street
	// physician         read create        session_note        TREAT      elm-street
	// nurse             read               patient             TREAT BTG  elm-street
	// nurse             read               session_note        TREAT      elm-street
	// physician         read               patient             TREAT      oak-street
	// billing           read               patient             HPAYMT     elm-street
	// registrar         create             patient shift       PATADMIN   elm-street
	// registrar         create update      relation directive  PATADMIN   elm-street
	// release           read               patient             HOPERAT    elm-street
	// security-officer  read update        policy              HSYSADMIN  elm-street
	// privacy-officer   read approve       policy              HSYSADMIN  elm-street
	// charge-nurse      do what nurse may                                 elm-street
	// true ALLOW_RULE [r:charge-nurse r:nurse]
	// false DENY_TENANT []
	// false DENY_NO_RULE []
}

// Step 3: purposes of use.
func Example_purposes() {
	engine := must(rbac.New(rbac.Config{Model: text("policy/model.conf"), Policy: text("policy/policy.csv") + text("policy/users.csv"), Assigned: true}))
	alice := access.Principal{ID: "u-alice", Tenant: "elm-street", Kind: access.Human}
	for _, purpose := range []access.Purpose{access.Treatment, access.CareCoordination, access.Payment, access.Marketing, access.BreakGlass} {
		ctx := access.With(context.Background(), alice, purpose)
		d := must(engine.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "elm-street"}}}))
		fmt.Println(purpose, d.Verdicts[0].Code)
	}
	_, err := access.From(access.With(context.Background(), alice, ""))
	fmt.Println(err)
	// Output:
	// TREAT ALLOW_RULE
	// COC ALLOW_RULE
	// HPAYMT DENY_PURPOSE
	// HMARKT DENY_PURPOSE
	// BTG DENY_GRANT
	// access: no purpose of use in the context: map the route with httpaccess.Require, or call access.ForPurpose
}
