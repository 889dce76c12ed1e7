// SPDX-License-Identifier: Apache-2.0

package minimize

// A Class says what kind of PHI a field holds. The zero Class is no class:
// its view is [Withhold].
type Class string

// The identifier classes are those of 45 CFR 164.514(b)(2)(i)(A)-(R); the
// others are the SDK's.
const (
	Name      Class = "name"      // (A)
	Street    Class = "street"    // (B)
	City      Class = "city"      // (B)
	County    Class = "county"    // (B)
	ZIP       Class = "zip"       // (B)
	Geo       Class = "geo"       // (B) other geographic codes below State
	Date      Class = "date"      // (C) dates of service, admission, death
	DOB       Class = "dob"       // (C) date of birth
	Age       Class = "age"       // (C) ages over 89
	Phone     Class = "phone"     // (D)
	Fax       Class = "fax"       // (E)
	Email     Class = "email"     // (F)
	SSN       Class = "ssn"       // (G)
	MRN       Class = "mrn"       // (H)
	Plan      Class = "plan"      // (I) health plan beneficiary number
	Account   Class = "account"   // (J)
	License   Class = "license"   // (K)
	Vehicle   Class = "vehicle"   // (L)
	Device    Class = "device"    // (M)
	URL       Class = "url"       // (N)
	IP        Class = "ip"        // (O)
	Biometric Class = "biometric" // (P)
	Photo     Class = "photo"     // (Q)
	UID       Class = "uid"       // (R) any other unique identifying number or code

	Clinical      Class = "clinical"      // findings, encounters, results
	Allergy       Class = "allergy"       // allergies and intolerances
	Medication    Class = "medication"    // orders and statements
	Problem       Class = "problem"       // problem list, diagnoses
	Sensitive     Class = "sensitive"     // substance use, mental health, HIV, genetic
	Psychotherapy Class = "psychotherapy" // psychotherapy notes, 45 CFR 164.501
	Text          Class = "text"          // free text
	Operational   Class = "operational"   // status codes and the like, about a person but not identifying
)

// classes holds every class, in the order of the constants. It is never changed.
var classes = [...]Class{
	Name, Street, City, County, ZIP, Geo, Date, DOB, Age, Phone, Fax, Email, SSN, MRN, Plan, Account,
	License, Vehicle, Device, URL, IP, Biometric, Photo, UID,
	Clinical, Allergy, Medication, Problem, Sensitive, Psychotherapy, Text, Operational,
}

// Classes returns every class, identifiers first.
func Classes() []Class { return append([]Class(nil), classes[:]...) }

// Valid reports whether c is one of the classes above.
func (c Class) Valid() bool { return c.index() >= 0 }

// index returns the place of c in classes, or -1.
func (c Class) index() int {
	for i, k := range classes {
		if k == c {
			return i
		}
	}
	return -1
}
