// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"testing"

	"github.com/part164/part164/access"
)

func TestRequestID(t *testing.T) {
	t.Parallel()
	ctx := access.WithRequestID(t.Context(), "req-1")
	if got := access.RequestID(ctx); got != "req-1" {
		t.Errorf("RequestID = %q", got)
	}
	for _, bad := range []string{"", "078-05-1120", "jane@example.org", "GET /patients?name=Jane", "a\nb"} {
		if got := access.RequestID(access.WithRequestID(t.Context(), bad)); got != "" {
			t.Errorf("WithRequestID(%q) gives %q", bad, got)
		}
		if got := access.RequestID(access.WithRequestID(ctx, bad)); got != "req-1" {
			t.Errorf("WithRequestID(%q) replaces a good ID by %q", bad, got)
		}
	}
	var none context.Context
	if got := access.RequestID(none) + access.RequestID(t.Context()); got != "" {
		t.Errorf("RequestID of nothing = %q", got)
	}
}
