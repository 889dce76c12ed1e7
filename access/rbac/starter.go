// SPDX-License-Identifier: Apache-2.0

package rbac

import "github.com/part164/part164/access"

// Starter returns an engine with [StarterRules]. Print it to read the policy:
//
//	fmt.Print(rbac.Starter())
func Starter() *Engine {
	e, err := New(Config{Rules: StarterRules()})
	if err != nil {
		return &Engine{} // denies everything; a test holds that this cannot be
	}
	return e
}

// StarterRules returns the rules of [Starter], to edit. They are a place to
// begin, not a statement of what your workforce needs: 45 CFR 164.308(a)(4) and
// 164.514(d)(2) leave that to you.
func StarterRules() []Rule {
	chart := []string{"patient", "encounter", "condition", "observation", "medication", "allergy", "document"}
	look := []access.Action{access.Read, access.Search}
	return []Rule{
		{Role: "physician", Resources: chart, Actions: []access.Action{access.Read, access.Search, access.Create, access.Update},
			Purposes: []access.Purpose{access.Treatment, access.EmergencyTreatment}},

		{Role: "nurse", Resources: chart, Actions: look, Purposes: []access.Purpose{access.Treatment}},
		{Role: "nurse", Resources: []string{"observation", "allergy"}, Actions: []access.Action{access.Create, access.Update},
			Purposes: []access.Purpose{access.Treatment}},
		{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Update}, // demographics: minimize holds the fields
			Purposes: []access.Purpose{access.Treatment}},

		// What emergency access shows, and no more: package pdp asks for a grant.
		{Role: "physician", Resources: chart, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.BreakGlass}},
		{Role: "nurse", Resources: chart, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.BreakGlass}},

		{Role: "billing", Resources: []string{"patient", "encounter"}, Actions: look, Purposes: []access.Purpose{access.Payment}},

		{Role: "privacy-officer", Resources: []string{"patient", "audit"}, Actions: look, Purposes: []access.Purpose{access.Compliance}},
		{Role: "privacy-officer", Resources: []string{"audit"}, Actions: []access.Action{access.Review}, Purposes: []access.Purpose{access.Compliance}},
		{Role: "privacy-officer", Resources: []string{"patient", "audit"}, Actions: []access.Action{access.Read},
			Purposes: []access.Purpose{access.Operations}},
		{Role: "privacy-officer", Resources: []string{"patient"}, Actions: []access.Action{access.Shred},
			Purposes: []access.Purpose{access.Operations, access.RecordManagement}},

		// Who has to do with which patient, and what patients restrict and authorise:
		// these give access and take it, and are no part of a chart.
		{Role: "registrar", Resources: []string{"relation"}, Actions: []access.Action{access.Read, access.Create, access.Update},
			Purposes: []access.Purpose{access.PatientAdmin}},
		{Role: "privacy-officer", Resources: []string{"directive"}, Actions: []access.Action{access.Read, access.Create, access.Update},
			Purposes: []access.Purpose{access.Operations, access.Legal}},

		// A service role, for access.Job: it reads nothing.
		{Role: "maintenance", Resources: []string{"*"}, Actions: []access.Action{access.Maintain},
			Purposes: []access.Purpose{access.RecordManagement, access.SystemAdmin}},

		// No PHI, and no deletion: audit events go on naming a user who left.
		{Role: "admin", Resources: []string{"user"}, Actions: []access.Action{access.Read, access.Search, access.Create, access.Update},
			Purposes: []access.Purpose{access.SystemAdmin}},
	}
}
