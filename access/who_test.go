// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"testing"

	"github.com/part164/part164/access"
)

func TestWhoOutlivesTheScopeAndGrantsNothing(t *testing.T) {
	t.Parallel()
	p := access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human}
	ctx, cancel := context.WithCancel(t.Context())
	ctx = access.With(ctx, p, access.Treatment)
	cancel()
	got, purpose, ok := access.Who(ctx)
	if !ok || got.ID != "u-1" || purpose != access.Treatment {
		t.Errorf("Who(ended) = %v, %q, %v; want u-1, TREAT, true", got.ID, purpose, ok)
	}
	if _, err := access.From(ctx); err == nil {
		t.Error("From(ended) = nil error: Who must not revive a scope")
	}
	if _, _, ok := access.Who(t.Context()); ok {
		t.Error("Who(no scope) = true")
	}
	bad := access.With(t.Context(), access.Principal{ID: "a@example.org"}, access.Treatment)
	if _, _, ok := access.Who(bad); ok {
		t.Error("Who(bad principal) = true")
	}
	odd := access.With(t.Context(), p, "FUN")
	if _, purpose, ok := access.Who(odd); !ok || purpose != "" {
		t.Errorf("Who(unknown purpose) = %q, %v; want an empty purpose", purpose, ok)
	}
}
