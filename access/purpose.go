// SPDX-License-Identifier: Apache-2.0

package access

// A Purpose is a purpose of use from HL7 v3 ActReason, value set
// PurposeOfUse. The zero Purpose denies.
type Purpose string

// The purposes of use that the SDK's starter policies name.
const (
	Treatment          Purpose = "TREAT"     // 45 CFR 164.501, treatment
	EmergencyTreatment Purpose = "ETREAT"    // treatment in an emergency
	BreakGlass         Purpose = "BTG"       // emergency access, 45 CFR 164.312(a)(2)(ii)
	CareManagement     Purpose = "CAREMGT"   // coordination of care
	Payment            Purpose = "HPAYMT"    // 45 CFR 164.501, payment
	Operations         Purpose = "HOPERAT"   // 45 CFR 164.501, health care operations
	Compliance         Purpose = "HCOMPL"    // review of access, 45 CFR 164.308(a)(1)(ii)(D)
	RecordManagement   Purpose = "RECORDMGT" // upkeep of records
	SystemAdmin        Purpose = "SYSADMN"   // administration of the system
	PatientRequest     Purpose = "PATRQT"    // 45 CFR 164.524
	PublicHealth       Purpose = "PUBHLTH"   // 45 CFR 164.512(b)
	Research           Purpose = "HRESCH"    // 45 CFR 164.512(i)
)

// Purposes returns every purpose above, in that order.
func Purposes() []Purpose {
	return []Purpose{Treatment, EmergencyTreatment, BreakGlass, CareManagement, Payment, Operations, Compliance,
		RecordManagement, SystemAdmin, PatientRequest, PublicHealth, Research}
}

// Valid reports whether p is one of the purposes above.
func (p Purpose) Valid() bool {
	switch p {
	case Treatment, EmergencyTreatment, BreakGlass, CareManagement, Payment, Operations, Compliance,
		RecordManagement, SystemAdmin, PatientRequest, PublicHealth, Research:
		return true
	}
	return false
}
