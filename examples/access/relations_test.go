// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"fmt"
	"log"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/relation"
)

// Step 4: who cares for whom.
func Example_relations() {
	c, end := newClinic()
	defer end()
	jane, john := c.admit("Jane Roe"), c.admit("John Doe")
	admission, doctor, biller := c.as("u-rita", access.PatientAdmin), c.as("u-alice", access.Treatment), c.as("u-bob", access.Payment)

	fmt.Println(c.names(doctor))
	r := must(c.relations.Add(admission, relation.Relation{Patient: jane.ID, Principal: "u-alice", Kind: relation.Attending}))
	fmt.Println(c.names(doctor))
	fmt.Println(c.names(biller))

	d := must(c.point.Check(doctor, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "patient", ID: jane.ID, Patient: jane.ID, Tenant: "elm-street"},
		{Type: "patient", ID: john.ID, Patient: john.ID, Tenant: "elm-street"},
	}}))
	for _, v := range d.Verdicts {
		fmt.Printf("%s %q\n", v.Code, v.Near)
	}

	fmt.Println(c.relations.End(admission, r.ID, time.Time{})) // discharge: she is in reach for 30 days more
	fmt.Println(c.names(c.as("u-alice", access.Treatment)))
	fmt.Println(c.relations.Void(admission, r.ID)) // it was a mistake: at once, no window
	fmt.Println(c.names(c.as("u-alice", access.Treatment)))

	// Whom the shift's table names is in reach too.
	if err := c.db.WithContext(admission).Create(&Shift{PatientID: john.ID, NurseID: "u-nora", Ends: time.Now().Add(8 * time.Hour)}).Error; err != nil {
		log.Panic(err)
	}
	fmt.Println(c.names(c.as("u-nora", access.Treatment)))
	// Output:
	// [] <nil>
	// [Jane Roe] <nil>
	// [Jane Roe John Doe] <nil>
	// ALLOW_RULE ""
	// DENY_RELATION "with a relation to the patient"
	// <nil>
	// [Jane Roe] <nil>
	// <nil>
	// [] <nil>
	// [John Doe] <nil>
}
