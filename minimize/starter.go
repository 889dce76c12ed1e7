// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"slices"

	"github.com/part164/part164/access"
)

// Starter returns a policy for physician, nurse, billing, privacy-officer and
// admin: print it, edit its [Policy.Rules], replace it. It is a start, not
// legal advice; 45 CFR 164.514(d)(2) makes the table the covered entity's.
//
//   - physician and nurse, for treatment and in an emergency: what care needs,
//     with the SSN masked and psychotherapy notes (45 CFR 164.508(a)(2))
//     withheld. A physician changes demographics and all clinical classes, a
//     nurse demographics, allergies and findings; a nurse may enter an SSN, only a
//     physician replaces one.
//   - billing, for payment: who it was, when and under which plan; phone and
//     SSN masked; nothing clinical. It changes plan and account numbers.
//   - privacy-officer, for review of access: name and record number, the year
//     of birth; nothing clinical.
//   - admin: nothing. Running a system needs no PHI.
func Starter() *Policy {
	treat := []access.Purpose{access.Treatment, access.EmergencyTreatment}
	emergency := []access.Purpose{access.BreakGlass} // looking only
	payment := []access.Purpose{access.Payment}
	demographics := []Class{Name, Street, City, County, ZIP, DOB, Age, Phone, Fax, Email, MRN}
	nursing := []Class{Allergy, Clinical, Date}
	clinical := []Class{Medication, Problem, Sensitive, Text, Operational, Device, Photo, UID}
	p, err := New([]Rule{
		{Role: "physician", Purposes: treat, View: Reveal, Right: Change, Classes: demographics},
		{Role: "physician", Purposes: treat, View: Reveal, Right: Change, Classes: nursing},
		{Role: "physician", Purposes: treat, View: Reveal, Right: Change,
			Classes: clinical},
		{Role: "physician", Purposes: treat, View: Reveal, Classes: []Class{Plan}},
		{Role: "physician", Purposes: treat, View: Mask, Right: Change, Classes: []Class{SSN}},

		{Role: "nurse", Purposes: treat, View: Reveal, Right: Change, Classes: demographics},
		{Role: "nurse", Purposes: treat, View: Reveal, Right: Change, Classes: nursing},
		{Role: "nurse", Purposes: treat, View: Reveal,
			Classes: []Class{Medication, Problem, Sensitive, Text, Operational, Device, Photo, UID, Plan}},
		{Role: "nurse", Purposes: treat, View: Mask, Right: Set, Classes: []Class{SSN}},

		{Role: "physician", Purposes: emergency, View: Reveal, Classes: slices.Concat(demographics, nursing, clinical)},
		{Role: "nurse", Purposes: emergency, View: Reveal, Classes: slices.Concat(demographics, nursing, clinical)},

		{Role: "billing", Purposes: payment, View: Reveal,
			Classes: []Class{Name, DOB, Street, City, County, ZIP, MRN, Date, Operational}},
		{Role: "billing", Purposes: payment, View: Reveal, Right: Change, Classes: []Class{Plan, Account}},
		{Role: "billing", Purposes: payment, View: Mask, Classes: []Class{Phone, SSN}},

		{Role: "privacy-officer", Purposes: []access.Purpose{access.Compliance}, View: Reveal, Classes: []Class{Name, MRN}},
		{Role: "privacy-officer", Purposes: []access.Purpose{access.Compliance}, View: Generalise, Classes: []Class{DOB}},

		{Role: "admin", Purposes: []access.Purpose{access.SystemAdmin}, View: Withhold, Classes: Classes()},
	})
	if err != nil {
		return nil // shows and allows nothing; TestStarter holds that it does not happen
	}
	return p
}
