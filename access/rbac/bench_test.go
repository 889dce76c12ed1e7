// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
)

func BenchmarkCheck(b *testing.B) {
	e := rbac.Starter()
	for _, bb := range []struct {
		name    string
		purpose access.Purpose
		n       int
	}{{"allowed", access.Treatment, 1}, {"another purpose", access.Payment, 1}, {"batch of 1000", access.Treatment, 1000}} {
		ctx := accesstest.As(b, b.Context(), "nurse", bb.purpose)
		req := access.Request{Action: access.Read}
		for range bb.n {
			req.Resources = append(req.Resources, access.Resource{Type: "patient", Tenant: accesstest.Tenant})
		}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Check(ctx, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
