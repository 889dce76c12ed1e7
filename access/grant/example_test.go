// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// A nurse breaks the glass, and the privacy officer looks at it afterwards.
func Example() {
	now := time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)
	policy, err := rbac.New(rbac.Config{Rules: rbac.StarterRules(), Assigned: true, Assignments: []rbac.Assignment{
		{Tenant: "elm-street", User: "u-1", Role: "nurse"},
		{Tenant: "elm-street", User: "u-2", Role: "privacy-officer"},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	desk, err := grant.New(grant.Config{
		Store:     grant.NewMemory(),           // an app takes accessstore.New(db).Grants()
		Audit:     audittest.New(&testing.B{}), // and its journal
		Roles:     policy.Roles,
		Now:       func() time.Time { return now },
		Emergency: &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"privacy-officer"}},
		Confirm: func(_ context.Context, _ access.Principal, secret string) error {
			if secret != "her password" {
				return errors.New("wrong")
			}
			return nil
		},
		Alert: func(_ context.Context, a grant.Alert) error {
			fmt.Println("to the officer: glass broken,", a.Grant.Reason)
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	as := func(id string) context.Context {
		return access.With(context.Background(), access.Principal{ID: id, Tenant: "elm-street", Kind: access.Human,
			Session: "s-" + id, Assurance: 2, AuthTime: now}, access.Treatment)
	}
	glass := grant.Glass{Patient: "p-7", Reason: audit.ReasonEmergency}
	_, err = desk.BreakGlass(as("u-1"), glass, "a guess")
	fmt.Println(errors.Is(err, grant.ErrFactor))
	g, err := desk.BreakGlass(as("u-1"), glass, "her password")
	fmt.Println(g.State, g.Until.Sub(now), err)
	desk.Sweep(context.Background()) // an app runs desk.Run

	now = now.Add(5 * time.Hour)
	queue, _ := desk.Queue(as("u-2"))
	g, err = desk.Review(as("u-2"), queue[0].ID, audit.ReasonExplained)
	fmt.Println(g.Finding, err)
	// Output:
	// true
	// active 4h0m0s <nil>
	// to the officer: glass broken, emergency
	// explained <nil>
}
