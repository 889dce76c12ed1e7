// SPDX-License-Identifier: Apache-2.0

package relation

import (
	"time"

	"github.com/part164/part164/access"
)

// A Kind says how a principal has to do with a patient. The zero Kind is none.
type Kind string

// The kinds: codes of HL7 v3 ParticipationType as FHIR R4 binds them to
// Encounter.participant.type, then of v3 ParticipationFunction and RoleCode.
const (
	Attending          Kind = "ATND"    // attender: responsible for the patient's care during an encounter
	Admitting          Kind = "ADM"     // admitter
	Consulting         Kind = "CON"     // consultant
	Referring          Kind = "REF"     // referrer
	Discharging        Kind = "DIS"     // discharger
	PrimaryPerformer   Kind = "PPRF"    // primary performer
	SecondaryPerformer Kind = "SPRF"    // secondary performer
	Participant        Kind = "PART"    // takes part in an encounter in another way
	PrimaryCare        Kind = "PCP"     // primary care physician
	CareTeam           Kind = "CRTM"    // member of the patient's care team (FHIR CareTeam.participant); the code is of this SDK
	Representative     Kind = "PERSREP" // personal representative, 45 CFR 164.502(g); the code is of this SDK
)

// Kinds returns all of them.
func Kinds() []Kind {
	return []Kind{Attending, Admitting, Consulting, Referring, Discharging, PrimaryPerformer, SecondaryPerformer, Participant,
		PrimaryCare, CareTeam, Representative}
}

// known reports whether k is one of the kinds.
func (k Kind) known() bool {
	switch k {
	case Attending, Admitting, Consulting, Referring, Discharging, PrimaryPerformer, SecondaryPerformer, Participant,
		PrimaryCare, CareTeam, Representative:
		return true
	}
	return false
}

// ofEncounter reports whether the kind is of one encounter, which has a window
// before and behind it.
func (k Kind) ofEncounter() bool {
	switch k {
	case Attending, Admitting, Consulting, Referring, Discharging, PrimaryPerformer, SecondaryPerformer, Participant:
		return true
	}
	return false
}

// holds reports whether a principal of a kind may have relations of k. A patient
// needs none to its own record.
func (k Kind) holds(of access.Kind) bool {
	switch of {
	case access.Proxy:
		return k == Representative
	case access.Human, access.Service:
		return k.known() && k != Representative
	}
	return false
}

// A Window is how long before its beginning and after its end a relation of a
// kind counts. The zero Window is not a moment.
type Window struct{ Before, After time.Duration }
