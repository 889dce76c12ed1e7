// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
)

// folder returns a folder for an example's journal: under the working
// directory, since the one for temporary files may lie in memory.
func folder() (dir string, remove func()) {
	base, err := os.MkdirTemp(".", "example-*.tmp")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(base, "audit"), func() { _ = os.RemoveAll(base) }
}

func ExampleOpen() {
	dir, remove := folder()
	defer remove()
	journal, err := audit.Open(dir, audit.Config{Development: true}) // production: a KEK instead
	if err != nil {
		log.Fatal(err)
	}
	nurse := access.Principal{ID: "u-17", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"nurse"}}
	ctx := access.With(context.Background(), nurse, access.Treatment)
	_, err = journal.Record(ctx, audit.Event{Type: audit.Revealed, Outcome: audit.Success, Objects: []audit.Object{
		{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name"}},
	}})
	if err != nil {
		log.Fatal(err) // no record, no access
	}
	for ev, err := range journal.Events(ctx, audit.Query{Tenant: "clinic-7", Patient: "r-1"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Type, ev.Actor.ID, ev.Purpose, ev.Objects[0].Fields)
	}
	if err := journal.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: reveal u-17 TREAT [name]
}

func ExampleVerify() {
	dir, remove := folder()
	defer remove()
	journal, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		log.Fatal(err)
	}
	report, err := audit.Verify(context.Background(), dir, audit.VerifyConfig{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("defects:", len(report.Defects))
	fmt.Println("events:", report.Events)
	fmt.Println("key from folder:", report.KeyFromFolder)
	fmt.Println("witnessed:", report.Witnessed())
	// Output:
	// defects: 0
	// events: 4
	// key from folder: true
	// witnessed: false
}

func ExampleJournal_Attempt() {
	dir, remove := folder()
	defer remove()
	journal, err := audit.Open(dir, audit.Config{Development: true})
	if err != nil {
		log.Fatal(err)
	}
	defer journal.Close()
	nurse := access.Principal{ID: "u-17", Tenant: "clinic-7", Kind: access.Human}
	ctx := access.With(context.Background(), nurse, access.Treatment)

	// Before the SQL of a write runs, what it will touch is durable.
	ticket, err := journal.Attempt(ctx, audit.Event{Type: audit.WriteAttempt, Outcome: audit.Success, Action: access.Update,
		Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1", Version: 2, Fields: []string{"name"}}}})
	if err != nil {
		log.Fatal(err)
	}
	// The ticket is a row of the same transaction. Read back after its
	// commit, it settles the attempt; one that nobody was given does not.
	forged := ticket
	forged.Attempt += "0"
	refused, err := journal.Commit(ctx, []audit.Ticket{ticket, forged})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("refused:", len(refused))
	// Output: refused: 1
}
