// SPDX-License-Identifier: Apache-2.0

// Package rbac decides by role, tenant, resource type, action and purpose of
// use, in the policy language of Casbin (45 CFR 164.308(a)(4)(ii)(B) and (C),
// 164.312(a)(1)).
//
// Begin with [Starter] and print it. Then take [StarterRules], edit the rows,
// and give them to [New]:
//
//	engine, err := rbac.New(rbac.Config{Rules: append(rbac.StarterRules(), rbac.Rule{
//		Role:      "pharmacist",
//		Resources: []string{"medication", "allergy"},
//		Actions:   []access.Action{access.Read, access.Search},
//		Purposes:  []access.Purpose{access.Treatment},
//	})})
//
// Those who have a Casbin model and CSV rows give them as Config.Model and
// Config.Policy; see [DefaultModel] for the form.
//
// # Failing closed
//
// Casbin allows in several cases where a safeguard must not: an empty policy,
// an empty request, effects that allow by default, a user named like a role,
// patterns that match more than they say. [New] refuses a model or a row in
// which that could happen, and says how to mend it; the engine denies the rest.
// Casbin itself is not reachable from outside: nothing can turn it off.
//
// # What it does not do
//
// It knows no relations between principals and patients: a rule reaches every
// patient of the tenant, which [Engine.Deviations] says, and principals of kind
// patient and proxy are denied everything, as emergency access is. Package pdp
// asks an Engine for the rules, and relations, restrictions and grants besides.
package rbac
