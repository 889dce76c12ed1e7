// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"context"
	"crypto/fips140"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/grant"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// TestGlassDoesNotWaitForADirectory: one that does not answer holds it up for two
// seconds.
func TestGlassDoesNotWaitForADirectory(t *testing.T) {
	t.Parallel()
	if fips140.Enforced() {
		t.Skip("Go's FIPS 140-3 module gathers entropy by a clock that goes on by itself, and a bubble's does not")
	}
	trail := audittest.New(t)
	synctest.Test(t, func(t *testing.T) {
		d, err := grant.New(grant.Config{
			Store: grant.NewMemory(), Audit: trail,
			Roles: func(ctx context.Context, _ access.Principal) ([]string, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
			Emergency: &grant.Emergency{Roles: []string{"nurse"}, Reviewers: []string{"officer"}},
			Confirm:   func(context.Context, access.Principal, string) error { return nil },
			Alert:     func(context.Context, grant.Alert) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}, Session: "s-1", Assurance: 2, AuthTime: began}
		g, err := d.BreakGlass(access.With(t.Context(), p, access.Treatment), grant.Glass{Patient: "p-1", Reason: audit.ReasonEmergency}, "")
		if took := time.Since(began); err != nil || g.State != grant.Active || took != 2*time.Second {
			t.Errorf("after %v: %+v, %v", took, g, err)
		}
	})
}
