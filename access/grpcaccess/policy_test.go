// SPDX-License-Identifier: Apache-2.0

package grpcaccess_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/grpcaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

// open is a stream that takes every message.
type open struct {
	grpc.ServerStream
	ctx context.Context
}

func (s open) Context() context.Context { return s.ctx }
func (s open) SendMsg(any) error        { return nil }

// TestAStreamSeesTheNewPolicy: whoever authenticated the caller, the stream ends
// with the message after a change of the policy that takes the right away.
func TestAStreamSeesTheNewPolicy(t *testing.T) {
	t.Parallel()
	nurse := accesstest.Principal(accesstest.Tenant, "nurse")
	read := func(typ string) rbac.Config {
		return rbac.Config{Rules: []rbac.Rule{{Role: "nurse", Resources: []string{typ}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}}}}
	}
	for name, authenticate := range map[string]func(context.Context) (access.Principal, error){
		"by the guard":              func(context.Context) (access.Principal, error) { return nurse, nil },
		"by an earlier interceptor": nil,
	} {
		engine, err := rbac.New(read("patient"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := grpcaccess.New(grpcaccess.Config{Authorizer: engine, Audit: audittest.New(t), Authenticate: authenticate, Methods: map[string]grpcaccess.Rule{
			"/clinic.Charts/Watch": {Action: access.Read, Resource: "patient", Purposes: []access.Purpose{access.Treatment}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if authenticate == nil {
			ctx = access.With(ctx, nurse, "")
		}
		err = g.Stream()(nil, open{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: "/clinic.Charts/Watch"}, func(_ any, ss grpc.ServerStream) error {
			if err := ss.SendMsg("first"); err != nil {
				t.Errorf("%s: the first message: %v", name, err)
			}
			if err := engine.Replace(read("schedule")); err != nil {
				t.Error(err)
			}
			return ss.SendMsg(secret)
		})
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v, want %s", name, err, codes.PermissionDenied)
		}
	}
}
