// SPDX-License-Identifier: Apache-2.0

// Package pdp is the policy decision point (NIST SP 800-162): it asks, in this
// order, whether
//
//   - the request is valid, and somebody is signed in strongly enough,
//   - the record is of the caller's tenant,
//   - the caller's network address and device may ask,
//   - a rule of the policy denies it to a role of the caller,
//   - a rule allows it, for the purpose,
//   - the caller has a relation to the patient,
//   - the patient restricts it (45 CFR 164.522(a)),
//   - the patient's authorization is there where one is needed (164.508),
//   - separation of duties stands against it.
//
// Each stage may only deny. What is left are grants, rights for a time: one may
// bring a role, or take the place of the relation for one patient. Emergency
// access (164.312(a)(2)(ii)) is a purpose, [access.BreakGlass] or
// [access.EmergencyTreatment], that always needs a live grant for the patient;
// what may be done then is what the policy's own rules allow for that purpose.
//
// One definition of what is in reach answers both Check, of records, and Filter,
// of rows, so that what is listed is what may be read.
//
//	point, err := pdp.New(pdp.Config{
//		Policy:     engine,    // rbac.New, or policystore
//		Relations:  relations, // who cares for whom
//		TenantWide: []access.Purpose{access.Payment, access.Operations},
//		Grants:     desk,      // break-glass
//	})
package pdp
