// SPDX-License-Identifier: Apache-2.0

package watch

import "context"

// A Relation is what an application knows of a patient with regard to an
// actor. The zero Relation knows nothing: [NoRelation].
type Relation struct {
	Care          bool // a care relation: on the care team, an encounter, an appointment
	Unit          bool // the patient is with the actor's unit, or with somebody for whom the actor covers: excuses NoRelation only
	Self          bool
	SameHousehold bool
	SameSurname   bool
	Staff         bool // the patient is a member of the workforce
	VIP           bool
	Honey         bool // a honey record
}

// Relations tells how actors and patients are related. It is safe for
// concurrent use. The conformance suite is watchtest.TestRelations.
type Relations interface {
	// Relate returns a Relation for each of the patients, in their order.
	// Patients are named as they stand in the trail ([audit.Journal].Pseudonym):
	// keep a table of the pseudonyms of your patients. Of an unknown patient or
	// actor it returns the zero Relation.
	Relate(ctx context.Context, tenant, actor string, patients []string) ([]Relation, error)
}
