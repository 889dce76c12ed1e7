// SPDX-License-Identifier: Apache-2.0

// Package report reads the audit trail for people: for the patient, for the
// privacy officer, and for whoever has to tell others of a breach.
//
//	reports, err := report.New(report.Config{Sources: []report.Source{journal}, Audit: journal, Access: authorizer})
//	seen, err := reports.Access(ctx, report.AccessQuery{Patient: id})
//	err = report.WriteHTML(w, seen)
//
// [Reporter.Access] says who saw or changed a patient's record. It needs no
// right over the trail as a whole: the authorizer is asked for that patient's
// own record. [Reporter.Disclosures] is the accounting of disclosures of 45 CFR
// 164.528. [Reporter.Breach] says whose PHI an incident has reached, which
// fields of it, and whether they were sealed at the time. [Reporter.Review] is
// the regular review of information system activity of 45 CFR
// 164.308(a)(1)(ii)(D), which [Reporter.SignOff] closes: nobody signs for
// themselves.
//
// Every reading is itself recorded, as an [audit.Reported] event, before
// anything is returned; where it cannot be recorded, nothing is.
//
// Each report is printed as text, JSON, and one HTML page that needs nothing
// else: [WriteText], [WriteJSON], [WriteHTML].
//
// # What a report cannot say
//
//   - It says what the trail holds. Whether the trail is whole is what
//     [audit.Verify] says: run it first, with a witness.
//   - What an application shows without asking this SDK is in no trail.
//   - A trail names patients by a keyed pseudonym, another one in each
//     writer's journal: without the patients' record IDs ([BreachQuery].Patients)
//     one who stands in two journals counts twice. The report says so.
//   - It draws no legal conclusion. The thresholds of 45 CFR 164.404 to 164.408
//     stand beside the figures as facts.
package report
