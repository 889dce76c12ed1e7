// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/accessstore"
	"github.com/part164/part164/storage/policystore"
)

// A node is one process of the clinic, with its own journal.
type node struct {
	*clinic
	store *policystore.Store
}

// openNode opens the clinic's database with the policy in it.
func openNode(dir, name string) (*node, error) {
	ctx := context.Background()
	journal, err := audit.Open(filepath.Join(dir, name), audit.Config{Development: true})
	if err != nil {
		return nil, err
	}
	var store *policystore.Store
	var c *clinic
	c, err = open(dir, journal, func(held *accessstore.Store) (decider, error) { // step 4, with another policy
		store, err = policystore.New(policystore.Config{
			Audit: journal, Model: text("policy/model.conf"), Operator: "elm-street",
			Holders: []policystore.Holder{held}, // what Terminate ends besides: grants; and sessions, where storage/sessionstore keeps them
			Wait:    20 * time.Second,           // for a decision that must know a change; zero means 2 s
			Elevated: func(ctx context.Context, tenant, user string) ([]string, error) { // whose roles of step 7 are theirs too when they approve
				return c.desk.Elevated(ctx, tenant, user)
			},
		})
		return store, err
	})
	if err != nil {
		return nil, err
	}
	if err := policystore.Migrate(ctx, c.db); err != nil {
		return nil, err
	}
	if err := store.Open(ctx, c.db); err != nil { // loads, then polls; until then everything is denied
		return nil, err
	}
	rows, err := policystore.ReadCSV(strings.NewReader(text("policy/policy.csv") + text("policy/users.csv")))
	if err != nil {
		return nil, err
	}
	job, end := access.Job(ctx, access.Principal{ID: "deploy", Tenant: "elm-street", Kind: access.Service}, access.SystemAdmin)
	defer end()
	_, err = store.Init(job, rows, "deploy-1") // at every start: writes where there is no policy
	return &node{c, store}, err
}

func (n *node) close() error {
	return errors.Join(n.store.Close(), n.clinic.close())
}

// Step 6: the policy in the database.
func Example_policyInTheDatabase() {
	dir := must(os.MkdirTemp("", "clinic"))
	defer os.RemoveAll(dir)
	one, two := must(openNode(dir, "audit-1")), must(openNode(dir, "audit-2"))
	defer two.close()
	defer one.close()
	author, approver := one.as("u-sam", access.SystemAdmin), one.as("u-otto", access.SystemAdmin)
	reads := func(n *node) access.Code {
		d := must(n.store.Check(n.as("u-nora", access.Treatment), access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "elm-street"}}}))
		return d.Verdicts[0].Code
	}

	// What could give a right needs two people.
	change := policystore.Change{
		Add:    policystore.Rows{Assignments: []rbac.Assignment{{Tenant: "elm-street", User: "u-nora", Role: "physician"}}},
		Reason: audit.ReasonMoved, Reference: "ticket-481",
	}
	_, err := one.store.Apply(author, change)
	fmt.Println(err)
	id := must(one.store.Propose(author, change))
	_, err = one.store.Approve(author, id)
	fmt.Println(errors.Is(err, access.ErrDenied))
	fmt.Println(must(one.store.Approve(approver, id)))

	// Who leaves has nothing more, on any node.
	left := must(one.store.Terminate(author, "elm-street", "u-nora"))
	fmt.Println(left.Roles, left.Revision, reads(one))
	after := policystore.RequireRevision(two.as("u-nora", access.Treatment), left.Revision)
	d := must(two.store.Check(after, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "elm-street"}}}))
	fmt.Println(d.Verdicts[0].Code, d.Revision)

	for _, e := range must(one.store.History(approver, 0, 2)) {
		fmt.Printf("%d %s %q by %s, approved by %q\n", e.Revision, e.Reason, e.Reference, e.Author, e.Approver)
	}
	v := must(one.store.Verify(approver, one.journal, two.journal))
	fmt.Println(v.OK(), v.Changes)
	// Output:
	// policystore: change the policy: it could give a right, so somebody else has to approve it: call Propose
	// true
	// 2
	// [charge-nurse physician] 3 DENY_NO_RULE
	// DENY_NO_RULE 3
	// 3 left "" by u-sam, approved by ""
	// 2 moved "ticket-481" by u-sam, approved by "u-otto"
	// true 3
}
