// SPDX-License-Identifier: Apache-2.0

package relation_test

import (
	"context"
	"fmt"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
)

// A printer stands for the journal.
type printer struct{ audit.Trail }

func (printer) Attempt(_ context.Context, ev audit.Event) (audit.Ticket, error) {
	fmt.Println(ev.Type, ev.Reason, ev.Rule, ev.User)
	return audit.Ticket{}, nil
}

func (printer) Commit(context.Context, []audit.Ticket) ([]audit.Ticket, error) { return nil, nil }

// A physician reaches a patient from the admission on, and no other.
func ExampleRelations_Add() {
	relations, err := relation.New(relation.Config{Store: relation.NewMemory(printer{}), Access: rbac.Starter(), Audit: printer{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	desk := access.Principal{ID: "u-3", Tenant: "elm-street", Kind: access.Human, Roles: []string{"registrar"}}
	physician := access.Principal{ID: "u-17", Tenant: "elm-street", Kind: access.Human, Roles: []string{"physician"}}

	ctx := access.With(context.Background(), desk, access.PatientAdmin)
	if _, err := relations.Add(ctx, relation.Relation{Patient: "p-1", Principal: "u-17", Kind: relation.Attending}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(relations.Related(physician, access.Treatment, time.Now()).Has(ctx, "elm-street", []string{"p-1", "p-2"}))
	// Output:
	// relation.change created ATND u-17
	// [true false] <nil>
}
