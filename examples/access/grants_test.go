// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
)

// Step 7: a right for a time.
func Example_elevation() {
	c, end := newClinic()
	defer end()
	jane := c.admit("Jane Roe")
	clerk, officer := c.as("u-clara", access.Operations), c.as("u-otto", access.Operations)

	fmt.Println(c.readFor(c.as("u-clara", access.Operations), jane))
	g := must(c.desk.Request(clerk, grant.Request{Role: "release", Reason: audit.ReasonIndividual, Ticket: "ticket-17"}))
	_, err := c.desk.Approve(clerk, g.ID)
	fmt.Println(err)
	g = must(c.desk.Approve(officer, g.ID))
	fmt.Println(g.State, g.Until.Sub(g.From), c.readFor(c.as("u-clara", access.Operations), jane))

	g = must(c.desk.Revoke(officer, g.ID))
	fmt.Println(g.State, c.readFor(c.as("u-clara", access.Operations), jane))
	// Output:
	// DENY_NO_RULE
	// grant: it is your own: somebody else has to do this
	// active 8h0m0s ALLOW_JIT
	// revoked DENY_NO_RULE
}

// Step 8: break the glass, and look at it afterwards.
func Example_breakGlass() {
	c, end := newClinic()
	defer end()
	jane := c.admit("Jane Roe")
	emergency := func() context.Context { return c.as("u-nora", access.BreakGlass) }

	fmt.Println(c.read("u-nora", jane), c.readFor(emergency(), jane))
	fmt.Println(c.point.Offer(c.as("u-nora", access.Treatment), access.Read, "patient"))

	glass := grant.Glass{Patient: jane.ID, Reason: audit.ReasonEmergency}
	_, err := c.desk.BreakGlass(c.as("u-nora", access.Treatment), glass, "a guess")
	fmt.Println(errors.Is(err, grant.ErrFactor))
	g := must(c.desk.BreakGlass(c.as("u-nora", access.Treatment), glass, "the password of u-nora"))
	fmt.Println(g.State, g.Until.Sub(g.From))
	fmt.Println(c.readFor(emergency(), jane), c.read("u-nora", jane)) // for the emergency, and nothing else

	// The officer looks at it once it is over.
	officer := c.as("u-otto", access.Operations)
	queue := must(c.desk.Queue(officer))
	fmt.Println(len(queue), queue[0].Reason, queue[0].ReviewBy.Sub(queue[0].From))
	must(c.desk.Revoke(c.as("u-nora", access.Treatment), g.ID))
	g = must(c.desk.Review(officer, g.ID, audit.ReasonExplained))
	fmt.Println(g.Finding, len(must(c.desk.Queue(officer))))
	// Output:
	// DENY_RELATION DENY_GRANT
	// breakglass
	// true
	// active 4h0m0s
	// ALLOW_BREAKGLASS DENY_RELATION
	// 1 emergency 72h0m0s
	// explained 0
}
