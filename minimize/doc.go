// SPDX-License-Identifier: Apache-2.0

// Package minimize decides how much of each field a caller sees and may
// change: the minimum necessary standard of 45 CFR 164.502(b) and 164.514(d).
//
// # The table
//
// A [Policy] is one table: role x purpose x [Class] -> [View] and write
// [Right]. What it does not name is withheld and may not be written; a row that
// denies wins; roles unite inside one purpose only, so that somebody who is
// nurse and biller does not see clinical notes while billing. Begin with
// [Starter], print it, and make it yours:
//
//	fmt.Print(minimize.Starter())
//	rules := append(minimize.Starter().Rules(), minimize.Rule{
//		Role: "pharmacist", Purposes: []access.Purpose{access.Treatment},
//		Classes: []minimize.Class{minimize.Name, minimize.DOB, minimize.Allergy, minimize.Medication},
//		View:    minimize.Reveal,
//	})
//	policy, err := minimize.New(rules)
//
// A class is given to a field by its phi tag; [ParseTag] has the grammar. The
// table that a scope was first decided with is fixed for it ([Pin]), and
// [Policy.ID] names it in records.
//
// # Showing
//
// storage.Reveal opens what the table allows. The renderers here never open
// anything: they print, for the scope in their context, what is open to it.
//
//	err := minimize.WriteJSON(ctx, w, patient) // {"name":"Jane Roe","ssn":"***-**-6789","_withheld":["note"]}
//	tmpl, err := page.Clone()                  // page was parsed with Funcs(context.Background())
//	tmpl.Funcs(minimize.Funcs(ctx))            // {{phi .Name}} {{phi . "NextVisit"}} {{state .Note}} {{why .Note}}
//
// Withheld is never blank: "no allergies" and "not shown to you" must not look
// alike. encoding/json and fmt print placeholders of sealed fields, but they
// print a clear PHI field (phi:"date,clear") like any Go value: render with this
// package, and let phivet find what does not.
//
// # Taking back
//
// [CheckInput] and [CheckChange] refuse a placeholder or a mask as input: a
// client that PUTs back what it was shown must not overwrite the data.
//
// # What stays yours
//
// The table carries 164.514(d)(2)(i): which roles need which categories of PHI.
// The SDK cannot know
//   - the conditions of that access (164.514(d)(2)(i)(B)), such as a shift, a
//     ward or an assignment: those of them that code can carry belong to access;
//   - the standard protocols for routine disclosures and the criteria by which
//     you review the others one by one (164.514(d)(3));
//   - the same for what you request from others (164.514(d)(4));
//   - the justification where an entire medical record is used, disclosed or
//     requested (164.514(d)(5)).
//
// Minimum necessary does not apply to disclosures to a provider for treatment,
// to the individual, under an authorization, and to the others of
// 164.502(b)(2). They are rows of the table here, like everything else: nothing
// bypasses it. Uses inside your own workforce stay under 164.514(d)(2), for
// treatment too.
//
// Masks and generalised forms are for the eyes of your workforce. They do not
// de-identify: 164.514(b) asks for more than a view of each field.
package minimize
