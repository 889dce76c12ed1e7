// SPDX-License-Identifier: Apache-2.0

// Package relation knows who has to do with which patient: the care team, the
// attending physician, whoever takes part in an encounter. It is what makes a
// role that may read charts reach one's own patients and no others (45 CFR
// 164.312(a)(1), 164.308(a)(4); 164.502(b), minimum necessary).
//
// A [Relation] is a fact of the app's: it says it with [Relations.Add], at
// admission, at the change of shift, with [Relations.End] at discharge, and
// takes a mistake back with [Relations.Void]. Each is recorded in the audit
// trail before it counts.
//
//	relations, err := relation.New(relation.Config{Store: accessstore.New(db).Relations(), Access: policy, Audit: journal})
//	r, err := relations.Add(ctx, relation.Relation{Patient: id, Principal: "u-17", Kind: relation.Attending})
//
// [Relations.Related] is the one definition of whom somebody reaches: it is a
// set that answers a Check of records and that storage turns into SQL for a
// list. It is built anew for each question from what is stored, so that a
// relation counts, and ceases to, at once and on every node.
//
// The kinds are those of HL7: who takes part in an encounter (v3
// ParticipationType, FHIR Encounter.participant) and in a care team (FHIR
// CareTeam.participant, v3 ParticipationFunction).
//
// Who may say that somebody cares for a patient, and see who does, is what the
// policy says of the type [Resource]: Config.Access is asked at each change.
package relation
