// SPDX-License-Identifier: Apache-2.0

package directive_test

import (
	"context"
	"fmt"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
)

// A printer stands for the journal.
type printer struct{ audit.Trail }

func (printer) Attempt(_ context.Context, ev audit.Event) (audit.Ticket, error) {
	fmt.Println(ev.Type, ev.Reason, ev.Rule, ev.Citation)
	return audit.Ticket{}, nil
}

func (printer) Commit(context.Context, []audit.Ticket) ([]audit.Ticket, error) { return nil, nil }

// A patient does not want a neighbour, who works here, to see her chart.
func ExampleDirectives_Record() {
	directives, err := directive.New(directive.Config{Store: directive.NewMemory(printer{}), Access: rbac.Starter(), Audit: printer{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	officer := access.Principal{ID: "u-9", Tenant: "elm-street", Kind: access.Human, Roles: []string{"privacy-officer"}}
	neighbour := access.Principal{ID: "u-17", Tenant: "elm-street", Kind: access.Human, Roles: []string{"nurse"}}

	ctx := access.With(context.Background(), officer, access.Operations)
	if _, err := directives.Record(ctx, directive.Directive{Kind: directive.Restriction, Basis: directive.Agreed, Patient: "p-1", Principals: []string{"u-17"}}); err != nil {
		fmt.Println(err)
		return
	}
	patients, _ := directives.Restricted(neighbour, access.Treatment, "chart", time.Now())
	fmt.Println(patients.Has(ctx, "elm-street", []string{"p-1", "p-2"}))
	patients, _ = directives.Restricted(neighbour, access.BreakGlass, "chart", time.Now()) // emergencies are not bound
	fmt.Println(patients)
	// Output:
	// directive.change created restriction 164.522(a)(1)
	// [true false] <nil>
	// <nil>
}
