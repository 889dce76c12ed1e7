// SPDX-License-Identifier: Apache-2.0

// Package grant gives rights for a time: just-in-time elevation to a role, and
// break-glass, the emergency access procedure of 45 CFR 164.312(a)(2)(ii).
//
//	desk, err := grant.New(grant.Config{
//		Store: accessstore.New(db).Grants(),
//		Audit: journal,
//		Roles: policy.Roles, // of an rbac.Engine or a policystore.Store
//		Elevations: []grant.Elevation{{
//			Role: "release-of-information", Requesters: []string{"records-clerk"}, Approvers: []string{"privacy-officer"},
//			MaxTTL: 8 * time.Hour, Purposes: []access.Purpose{access.Operations},
//		}},
//		Emergency: &grant.Emergency{Roles: []string{"physician", "nurse"}, Reviewers: []string{"privacy-officer"}},
//		Confirm: func(ctx context.Context, p access.Principal, secret string) error { ... }, // the password again
//		Alert:   func(ctx context.Context, a grant.Alert) error { ... },                     // tell the officer
//	})
//	go desk.Run(ctx)
//
// # One state machine
//
// A [Grant] is requested, and approved by as many others as its [Elevation]
// says; breaking the glass approves itself. Its clock starts at the approval. It
// is in force (active) once the approval is on record in the audit trail, until
// it expires, is revoked, or has no use left. Then somebody else reviews it.
//
// Nobody approves or reviews a grant of their own, acts as somebody else there,
// or does so by a role that they hold by a grant. What a live grant allows is
// decided by the policy's own rules for its role: a grant never adds a rule.
//
// # What is written when
//
// Each step is stored with the change that it makes, in one transaction, and
// recorded in the trail after it; a step of a process that died in between is
// recorded by [Desk.Run] of any other, so that a step can be on record twice and
// is never missing. Alerts are kept and delivered the same way.
package grant
