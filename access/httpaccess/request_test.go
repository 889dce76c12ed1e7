// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

func TestEachRequestHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	trail := audittest.New(t)
	given := ""
	for name, own := range map[string]func(*http.Request) string{
		"by itself": nil,
		"a proxy's": func(*http.Request) string { return given },
	} {
		guard, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: trail, RequestID: own})
		if err != nil {
			t.Fatal(err)
		}
		mux := guard.Mux()
		var inside string
		mux.Public("/public", http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { inside = access.RequestID(req.Context()) }))
		do := func(target string) string {
			trail.Reset()
			inside = ""
			req := httptest.NewRequestWithContext(signedIn(t, "nurse"), "GET", target, nil)
			for _, h := range []string{"X-Request-Id", "X-Correlation-Id", "Request-Id"} {
				req.Header.Set(h, "from-the-client")
			}
			mux.ServeHTTP(httptest.NewRecorder(), req)
			if events := trail.Events(); inside == "" && len(events) == 1 {
				return events[0].Request
			}
			return inside
		}
		given = ""
		seen := map[string]bool{"": true, "from-the-client": true}
		for _, target := range []string{"/public", "/unmapped", "/public", "/unmapped"} {
			id := do(target)
			if seen[id] {
				t.Errorf("%s: %s has the ID %q", name, target, id)
			}
			seen[id] = true
		}
		for given = range map[string]bool{"jane@example.org": true, "Jane Roe": true, "617-555-0199": true} {
			if id := do("/unmapped"); id == given || id == "" {
				t.Errorf("%s: the proxy's %q gives %q", name, given, id)
			}
		}
		if given = "proxy-7"; own != nil && do("/unmapped") != given {
			t.Errorf("%s: the proxy's ID is lost", name)
		}
	}
}
