// SPDX-License-Identifier: Apache-2.0

// Package duty separates duties: what one person must not be able to do alone
// (NIST SP 800-53 AC-5; ANSI INCITS 359 calls it static and dynamic separation
// of duty).
//
//	duties, err := duty.New(duty.Config{
//		Exclusive: []duty.Exclusion{{Name: "policy", Roles: []string{"policy-author", "policy-approver"}}},
//		Records:   []duty.Sequence{{Type: "claim", Action: "approve", After: []access.Action{access.Create, access.Update}}},
//		Acts:      acts,
//		Assigned:  policyRoles,
//		Elevated:  desk.Elevated,
//	})
//
// Static separation is about the roles that somebody holds, by the policy and by
// live grants together: [Separation.Assign] is asked where the policy changes,
// [Separation.Elevate] where a grant comes into force, each inside the
// transaction that does it, behind one lock, so that no two changes pass each
// other. Dynamic separation is about the roles of one session, and about one
// record: who made it does not check it. Decisions ask that
// ([Separation.Conflicting]).
package duty
