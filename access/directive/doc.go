// SPDX-License-Identifier: Apache-2.0

// Package directive knows what patients said about the use of their records:
// restrictions (45 CFR 164.522(a)), consents (164.506(b)), authorizations
// (164.508), and holds that keep a record from being destroyed. The terms are
// those of FHIR R4 Consent: a provision that permits or denies, for actors,
// purposes, classes of records and a period.
//
//	directives, err := directive.New(directive.Config{
//		Store: accessstore.New(db).Directives(),
//		Access: policy,
//		Audit: journal,
//		Needs: []directive.Need{directive.PsychotherapyNotes("session_note"), directive.Marketing()},
//	})
//	d, err := directives.Record(ctx, directive.Directive{
//		Kind: directive.Restriction, Basis: directive.Agreed, Patient: id, Roles: []string{"billing"}})
//
// [Directives.Restricted] and [Directives.Authorized] are what access/pdp asks:
// sets that answer a Check and that storage turns into SQL for a list, built
// anew for each question, so that a revocation counts at once and on every node.
//
// A directive holds codes, IDs and times, and no text: the signed paper is the
// app's own record, which Document names. Who may record, end and read them is
// what the policy says of [Resource]. Each change is an attempt in the audit trail
// before it counts, and none is ever removed: the paper is
// kept six years (164.508(b)(6), 164.522(a)(3), 164.530(j)).
//
// What is not here: whether a covered entity should agree to a restriction;
// whether a paper is valid in form beyond what [Directive.Validate] checks; the
// law of the states, and 42 CFR part 2, beyond what Needs says.
package directive
