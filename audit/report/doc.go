// SPDX-License-Identifier: Apache-2.0

// Package report reads the audit trail for people: for the patient, for the
// privacy officer, and for whoever has to tell others of a breach.
//
//	reports, err := report.New(report.Config{Sources: []report.Source{journal}, Audit: journal, Access: authorizer})
//	seen, err := accesses.Of(ctx, reports, accesses.Query{Patient: id})
//	err = seen.Document().WriteHTML(w)
//
// The reports are packages of their own, each with its Query and its Report:
//
//   - accesses: who saw or changed a patient's record. The patient needs no
//     right over the trail to read it.
//   - disclosures: the accounting of disclosures of 45 CFR 164.528.
//   - breach: whose PHI an incident has reached.
//   - review: the regular review of information system activity of 45 CFR
//     164.308(a)(1)(ii)(D), and its sign-off.
//
// They all read through [Reporter.Open], as an application's own report does:
// the reading is authorised and recorded as an [audit.Reported] event before the
// trail opens, and where it cannot be recorded, it stays shut. Each report
// prints itself through package document; encoding/json prints its fields.
//
// # What a report cannot say
//
//   - It says what the trail holds. Whether the trail is whole is what
//     [audit.Verify] says: run it first, with a witness.
//   - What an application shows without asking this SDK is in no trail.
//   - It draws no legal conclusion.
package report
