// SPDX-License-Identifier: Apache-2.0

package accesstest

import (
	"context"
	"fmt"
	"hash/fnv"
	"testing"
	"time"

	"github.com/part164/part164/access"
)

// Tenant is the tenant of [As].
const Tenant = "t-test"

// Principal returns a signed-in person of tenant with the given roles. Its ID
// is opaque and the same for the same tenant and roles, in every run.
func Principal(tenant string, roles ...string) access.Principal {
	h := fnv.New64a()
	fmt.Fprint(h, tenant, roles)
	return access.Principal{
		ID:        fmt.Sprintf("u-%016x", h.Sum64()),
		Tenant:    tenant,
		Kind:      access.Human,
		Roles:     roles,
		Session:   fmt.Sprintf("s-%016x", h.Sum64()),
		Assurance: 2,
		AuthTime:  time.Now(),
	}
}

// As returns a context in which a person with role acts for purpose in
// [Tenant], in a scope of its own. An empty purpose leaves it to the route. It
// fails t if the role or the purpose is no good.
func As(t testing.TB, ctx context.Context, role string, purpose access.Purpose) context.Context {
	t.Helper()
	return AsIn(t, ctx, Tenant, role, purpose)
}

// AsIn is [As] in another tenant.
func AsIn(t testing.TB, ctx context.Context, tenant, role string, purpose access.Purpose) context.Context {
	t.Helper()
	ctx = access.With(ctx, Principal(tenant, role), purpose)
	if _, err := access.From(ctx); err != nil && (purpose != "" || err != access.ErrNoPurpose) {
		t.Fatalf("accesstest: As(%q, %q): %v", role, purpose, err)
	}
	return ctx
}
