// SPDX-License-Identifier: Apache-2.0

// Package breach says whose PHI an incident has reached: which fields of it,
// how, and whether they were sealed at the time, by tenant and by State.
//
//	hit, err := breach.Of(ctx, reports, breach.Query{Tenants: tenants, Actor: "u-17"})
//
// It draws no legal conclusion: the numbers of 45 CFR 164.404 to 164.408 stand
// beside the figures as facts. A trail names patients by a keyed pseudonym,
// another one in each writer's journal: without the patients' record IDs
// ([Query].Patients) one who stands in two journals counts twice, and the report
// says so.
package breach
