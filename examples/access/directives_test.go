// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/storage"
)

// Step 5: what the patient said.
func Example_restrictions() {
	c, end := newClinic()
	defer end()
	jane := c.admit("Jane Roe")
	registrar := c.as("u-rita", access.PatientAdmin)
	for _, who := range []string{"u-alice", "u-nora"} {
		must(c.relations.Add(registrar, relation.Relation{Patient: jane.ID, Principal: who, Kind: relation.CareTeam}))
	}

	// Jane does not want Nora, her neighbour, to see her chart, and the clinic agrees.
	d := must(c.directives.Record(registrar, directive.Directive{
		Kind: directive.Restriction, Basis: directive.Agreed, Patient: jane.ID, Principals: []string{"u-nora"}, Document: "form-481",
	}))
	fmt.Println(c.read("u-nora", jane), c.read("u-alice", jane))
	fmt.Println(c.names(c.as("u-nora", access.Treatment)))

	fmt.Println(c.directives.End(registrar, d.ID, directive.Oral)) // she takes it back, and that is written down
	fmt.Println(c.read("u-nora", jane))
	// Output:
	// DENY_RESTRICTION ALLOW_RULE
	// [] <nil>
	// <nil>
	// ALLOW_RULE
}

// Psychotherapy notes are for who wrote them, and for others with an
// authorization of the patient.
func Example_authorizations() {
	c, end := newClinic()
	defer end()
	jane := c.admit("Jane Roe")
	registrar, doctor, nurse := c.as("u-rita", access.PatientAdmin), c.as("u-alice", access.Treatment), c.as("u-nora", access.Treatment)
	for _, who := range []string{"u-alice", "u-nora"} {
		must(c.relations.Add(registrar, relation.Relation{Patient: jane.ID, Principal: who, Kind: relation.CareTeam}))
	}
	note := SessionNote{PatientID: jane.ID, AuthorID: "u-alice", Text: storage.Seal("first session")}
	if err := c.db.WithContext(doctor).Create(&note).Error; err != nil {
		log.Panic(err)
	}
	count := func(ctx context.Context) (n int64) {
		if err := c.db.WithContext(ctx).Model(&SessionNote{}).Count(&n).Error; err != nil {
			log.Panic(err)
		}
		return n
	}
	fmt.Println("the author:", count(doctor), "a colleague:", count(nurse))

	a := must(c.directives.Record(registrar, directive.Directive{
		Kind: directive.Authorization, Patient: jane.ID, Principals: []string{"u-nora"}, Types: []string{"session_note"},
		Purposes: []access.Purpose{access.Treatment}, Until: time.Now().AddDate(0, 3, 0), Document: "form-482",
	}))
	fmt.Println("with an authorization:", count(nurse))
	if err := c.directives.End(registrar, a.ID, directive.Revoked); err != nil {
		log.Panic(err)
	}
	fmt.Println("revoked:", count(nurse))
	// Output:
	// the author: 1 a colleague: 0
	// with an authorization: 1
	// revoked: 0
}

// read asks whether somebody may read a chart to treat.
func (c *clinic) read(who string, p *Patient) access.Code {
	return c.readFor(c.as(who, access.Treatment), p)
}

func (c *clinic) readFor(ctx context.Context, p *Patient) access.Code {
	d := must(c.point.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "patient", ID: p.ID, Patient: p.ID, Tenant: "elm-street"},
	}}))
	return d.Verdicts[0].Code
}
