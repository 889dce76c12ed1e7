// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/minimize"
)

// A Basis is the ground on which PHI may go to a recipient. The zero Basis is
// none. The set is closed.
type Basis string

// The bases. Each says what a [Recipient] on it must have beside the fields that
// all have, whether the minimum necessary standard applies (45 CFR 164.502(b)),
// and whether an accounting of disclosures lists what was sent (164.528(a)(1)).
const (
	// BusinessAssociate is a business associate, 164.502(e), 164.504(e). It
	// needs Agreement. For treatment, payment or operations. Minimum necessary
	// applies; not accounted for.
	BusinessAssociate Basis = "business-associate"

	// Treatment is a health care provider who treats the patient,
	// 164.506(c)(2). It needs NPI. Minimum necessary does not apply
	// (164.502(b)(2)(i)); not accounted for.
	Treatment Basis = "treatment"

	// Payment is a health plan or provider, for payment, 164.506(c)(1) and (3).
	// Minimum necessary applies; not accounted for.
	Payment Basis = "payment"

	// Individual is the patient, or whom the patient designates, 164.502(a)(1)(i)
	// and 164.524(c)(3)(ii). It needs Patients, and a designee also Document, the
	// signed request. Minimum necessary does not apply (164.502(b)(2)(ii)); not
	// accounted for.
	Individual Basis = "individual"

	// Law is public health, what a law requires, and the other provisions of
	// 164.512. It needs Citation, Law and Statement; 164.512(i), research without
	// authorization, also Protocol and Document, the approval of the waiver.
	// Minimum necessary applies but for 164.512(a) (164.502(b)(2)(v)); accounted
	// for but for what 164.528(a)(1) excepts.
	Law Basis = "law"

	// Authorization is the patient's own, 164.508. It needs Patients and
	// Document, the signed authorization; Until is its expiry. Minimum necessary
	// does not apply (164.502(b)(2)(iii)); not accounted for.
	Authorization Basis = "authorization"

	// LimitedDataSet is research, public health or operations under a data use
	// agreement, 164.514(e). It needs Agreement, and has no field of a class that
	// 164.514(e)(2) excludes. Minimum necessary applies; not accounted for.
	LimitedDataSet Basis = "limited-data-set"
)

func (b Basis) known() bool {
	switch b {
	case BusinessAssociate, Treatment, Payment, Individual, Law, Authorization, LimitedDataSet:
		return true
	}
	return false
}

// provision returns what a purpose of use is under the Privacy Rule; empty where
// no basis of ours covers it.
func provision(p access.Purpose) audit.Basis {
	switch {
	case p == access.Donation, p == access.Decedent, p == access.Directory, p == access.MilitaryCommand, p.IsA(access.Government):
		return "" // kinds of operations in HL7's tree, with provisions of their own in 164.510 and 164.512
	case p == access.PopulationHealth: // 164.501, health care operations (1)
		return audit.ByOperations
	case p.IsA(access.Treatment):
		return audit.ByTreatment
	case p.IsA(access.Payment):
		return audit.ByPayment
	case p.IsA(access.Operations):
		return audit.ByOperations
	case p.IsA(access.PatientRequest):
		return audit.ByIndividual
	case p.IsA(access.PublicHealth):
		return audit.ByPublicHealth
	case p.IsA(access.Research):
		return audit.ByResearch
	}
	return ""
}

// allows reports whether PHI may go out on b for a purpose.
func (b Basis) allows(p access.Purpose) bool {
	is := provision(p)
	switch b {
	case BusinessAssociate:
		return is == audit.ByTreatment || is == audit.ByPayment || is == audit.ByOperations
	case Treatment:
		return is == audit.ByTreatment
	case Payment:
		return is == audit.ByPayment
	case Individual:
		return is == audit.ByIndividual
	case LimitedDataSet: // 164.514(e)(3)(i)
		return is == audit.ByResearch || is == audit.ByPublicHealth || is == audit.ByOperations
	case Law: // its citation says what for; nothing in 164.512 is for marketing
		return p.Valid() && p != access.Marketing
	case Authorization: // the paper says what for, 164.508(c)(1)(iv)
		return p.Valid()
	}
	return false
}

// record returns the basis that a trail has.
func (r *Recipient) record(p access.Purpose) audit.Basis {
	switch r.Basis {
	case BusinessAssociate:
		return provision(p)
	case Treatment:
		return audit.ByTreatment
	case Payment:
		return audit.ByPayment
	case Individual:
		return audit.ByIndividual
	case Authorization:
		return audit.ByAuthorization
	case LimitedDataSet:
		return audit.ByLimitedDataSet
	case Law:
		return underLaw(r.Citation)
	}
	return ""
}

// underLaw returns the basis of a paragraph of 164.512; empty for another
// provision.
func underLaw(citation string) audit.Basis {
	paragraph, ok := strings.CutPrefix(citation, "164.512(")
	if !ok {
		return ""
	}
	letter, rest, _ := strings.Cut(paragraph, ")")
	switch letter {
	case "a":
		return audit.ByLaw
	case "b":
		return audit.ByPublicHealth
	case "c":
		return audit.ByAbuse
	case "d":
		return audit.ByOversight
	case "e":
		return audit.ByJudicial
	case "f":
		return audit.ByLawEnforcement
	case "g":
		return audit.ByDecedents
	case "h":
		return audit.ByDonation
	case "i":
		return audit.ByResearch
	case "j":
		return audit.BySafety
	case "k":
		switch {
		case rest == "(2)" || strings.HasPrefix(rest, "(2)("):
			return audit.ByNationalSecurity
		case rest == "(5)" || strings.HasPrefix(rest, "(5)("):
			return audit.ByCustody
		}
		return audit.ByGovernment
	case "l":
		return audit.ByWorkersCompensate
	}
	return ""
}

// minimum reports whether the minimum necessary standard applies, so that the
// fields must be listed.
func (r *Recipient) minimum() bool {
	switch r.Basis {
	case Treatment, Individual, Authorization:
		return false
	case Law:
		return underLaw(r.Citation) != audit.ByLaw
	}
	return true
}

// direct reports whether a class is, or may hold, what 164.514(e)(2) takes out of
// a limited data set. Town, State, ZIP code, dates, ages and other unique codes
// may stay.
func direct(c minimize.Class) bool {
	switch c {
	case minimize.Name, minimize.Street, minimize.Phone, minimize.Fax, minimize.Email, minimize.SSN, minimize.MRN,
		minimize.Plan, minimize.Account, minimize.License, minimize.Vehicle, minimize.Device, minimize.URL, minimize.IP,
		minimize.Biometric, minimize.Photo, minimize.Text:
		return true
	}
	return false
}
