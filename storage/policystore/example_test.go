// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/crypto/cryptotest"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/policystore"
	"github.com/part164/part164/storage/sqlite"
)

// One person proposes that somebody becomes a nurse, another approves it; when
// the nurse leaves, one step ends it.
func Example() {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()
	journal := audittest.New(&testing.T{}) // an app opens its journal: audit.Open

	policy, err := policystore.New(policystore.Config{Audit: journal, Operator: "clinic-7"})
	must(err)
	db, err := storage.Open(sqlite.Open(filepath.Join(dir, "app.db")), storage.Config{
		KEK: cryptotest.NewKEK(), Audit: journal, Access: policy, Minimize: minimize.Starter(),
	})
	must(err)
	defer storage.Close(db)
	must(storage.Migrate(ctx, db))
	must(policystore.Migrate(ctx, db))
	must(policy.Open(ctx, db))
	defer policy.Close()

	// At every start; it writes where there is no policy yet.
	administer := []access.Purpose{access.SystemAdmin}
	job, end := access.Job(ctx, access.Principal{ID: "deploy", Tenant: "clinic-7", Kind: access.Service}, access.SystemAdmin)
	defer end()
	_, err = policy.Init(job, policystore.Rows{
		Rules: append(rbac.StarterRules(),
			rbac.Rule{Role: "security-officer", Resources: []string{policystore.Resource}, Actions: []access.Action{access.Read, access.Update}, Purposes: administer},
			rbac.Rule{Role: "privacy-officer", Resources: []string{policystore.Resource}, Actions: []access.Action{access.Read, policystore.Approve}, Purposes: administer},
		),
		Assignments: []rbac.Assignment{
			{Tenant: "clinic-7", User: "u-alice", Role: "security-officer"},
			{Tenant: "clinic-7", User: "u-bob", Role: "privacy-officer"},
		},
	}, "deploy-1")
	must(err)

	as := func(user string, purpose access.Purpose) context.Context {
		return access.With(ctx, access.Principal{ID: user, Tenant: "clinic-7", Kind: access.Human}, purpose)
	}
	reads := func() access.Code {
		d, err := policy.Check(as("u-nora", access.Treatment), access.Request{
			Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "clinic-7"}},
		})
		must(err)
		return d.Verdicts[0].Code
	}
	fmt.Println(reads())

	id, err := policy.Propose(as("u-alice", access.SystemAdmin), policystore.Change{
		Add:    policystore.Rows{Assignments: []rbac.Assignment{{Tenant: "clinic-7", User: "u-nora", Role: "nurse"}}},
		Reason: audit.ReasonJoined, Reference: "ticket-481",
	})
	must(err)
	_, err = policy.Approve(as("u-bob", access.SystemAdmin), id)
	must(err)
	fmt.Println(reads())

	left, err := policy.Terminate(as("u-alice", access.SystemAdmin), "clinic-7", "u-nora")
	must(err)
	fmt.Println(left.Roles, reads())

	history, err := policy.History(as("u-bob", access.SystemAdmin), 0, 2)
	must(err)
	for _, e := range history {
		fmt.Println(e.Revision, e.Reason, "by", e.Author, e.Added, e.Removed)
	}
	// Output:
	// DENY_NO_RULE
	// ALLOW_RULE
	// [nurse] DENY_NO_RULE
	// 3 left by u-alice [] [user u-nora has role nurse in tenant clinic-7]
	// 2 joined by u-alice [user u-nora has role nurse in tenant clinic-7] []
}
