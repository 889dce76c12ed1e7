// SPDX-License-Identifier: Apache-2.0

package access

// A Purpose is a purpose of use, a code of HL7 v3 ActReason. It is what a route
// or a job says that PHI is used for. The zero Purpose denies.
type Purpose string

// Valid reports whether p is one of [Purposes].
func (p Purpose) Valid() bool {
	_, ok := p.parent()
	return ok
}

// Parent returns the purpose that p is a kind of, as [Treatment] is that of
// [CareCoordination]; empty for a purpose at the top, and for what is none.
func (p Purpose) Parent() Purpose {
	parent, _ := p.parent()
	return parent
}

// IsA reports whether p is q or a kind of it. What is no purpose is a kind of
// nothing.
func (p Purpose) IsA(q Purpose) bool {
	for p.Valid() && q.Valid() {
		if p == q {
			return true
		}
		p = p.Parent()
	}
	return false
}

// Emergency reports whether p is treatment in an emergency outside an emergency
// room: [EmergencyTreatment] or [BreakGlass]. Such a purpose is never meant by a
// rule that names [Treatment], because it reaches patients to whom the caller
// has no relation: a rule has to name it.
func (p Purpose) Emergency() bool { return p == EmergencyTreatment || p == BreakGlass }
