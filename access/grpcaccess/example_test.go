// SPDX-License-Identifier: Apache-2.0

package grpcaccess_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/grpcaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

// Each method is named with what it is for; what is not named is denied.
func ExampleGuard_Unary() {
	guard, err := grpcaccess.New(grpcaccess.Config{
		Authorizer: rbac.Starter(),
		Audit:      new(audittest.Trail), // in production: the journal of audit.Open
		Methods: map[string]grpcaccess.Rule{
			"/clinic.v1.Charts/Get": {Action: access.Read, Resource: "patient", Purposes: []access.Purpose{access.Treatment, access.Payment}},
		},
		// Authenticate: grpcaccess.Machine(keys, certificates)
	})
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary()), grpc.StreamInterceptor(guard.Stream()))
	defer server.Stop()

	// What the server does with each call. An interceptor before it has put the
	// principal into the context.
	call := func(role, method string) {
		ctx := access.With(context.Background(), accesstest.Principal("t-1", role), "")
		_, err := guard.Unary()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
			scope, err := access.From(ctx)
			fmt.Println("the chart, for", scope.Purpose())
			return nil, err
		})
		fmt.Println(status.Code(err))
	}
	call("nurse", "/clinic.v1.Charts/Get")
	call("billing", "/clinic.v1.Charts/Get")
	call("admin", "/clinic.v1.Charts/Get")
	call("nurse", "/clinic.v1.Charts/Delete")
	// Output:
	// the chart, for TREAT
	// OK
	// the chart, for HPAYMT
	// OK
	// PermissionDenied
	// PermissionDenied
}
