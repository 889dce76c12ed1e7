// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/part164/part164/access"
)

// Session's middleware names the principal, the route names the purpose.
func ExampleWith() {
	nurse := access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
	ctx := access.With(context.Background(), nurse, "")

	_, err := access.From(ctx)
	fmt.Println(errors.Is(err, access.ErrNoPurpose))

	ctx = access.ForPurpose(ctx, access.Treatment)
	scope, err := access.From(ctx)
	fmt.Println(scope.Principal().ID, scope.Purpose(), err)

	scope.End() // at the end of the request
	_, err = access.From(ctx)
	fmt.Println(err)
	// Output:
	// true
	// u-17 TREAT <nil>
	// access: the scope has ended: call access.With or access.ForPurpose for the next request
}

// A bad principal is denied everything, and told why.
func ExamplePrincipal_Validate() {
	p := access.Principal{ID: "jane@example.org", Tenant: "t-1", Kind: access.Human}
	fmt.Println(p.Validate())

	_, err := access.From(access.With(context.Background(), p, access.Treatment))
	fmt.Println(errors.Is(err, access.ErrPrincipal))
	// Output:
	// access: bad principal: ID looks like an e-mail address: use an opaque ID
	// true
}

func ExampleJob() {
	reindex := access.Principal{ID: "s-reindex", Tenant: "t-1", Kind: access.Service}
	ctx, end := access.Job(context.Background(), reindex, access.RecordManagement)
	defer end()
	scope, err := access.From(ctx)
	fmt.Println(scope.Purpose(), err)

	nurse := access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human}
	ctx, end = access.Job(context.Background(), nurse, access.RecordManagement)
	defer end()
	_, err = access.From(ctx)
	fmt.Println(err)
	// Output:
	// RECORDMGT <nil>
	// access: bad principal: Kind of a job's principal is not service
}

func ExampleFilter_Match() {
	f := access.Filter{Tenant: "t-1", Subjects: []string{"p-1"}}
	rows := []access.Resource{{Tenant: "t-1", Patient: "p-1"}, {Tenant: "t-1", Patient: "p-2"}, {Tenant: "t-2", Patient: "p-1"}}
	fmt.Println(f.Match(context.Background(), rows...))
	fmt.Println(access.Filter{}.Match(context.Background(), rows...))
	// Output:
	// [true false false] <nil>
	// [false false false] <nil>
}
