// SPDX-License-Identifier: Apache-2.0

package routers_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/internal/peers/routers"
)

// TestEachRouter: what a route is for is served, with the scope in the context; all
// else is refused.
func TestEachRouter(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	for name, wire := range map[string]func(*httpaccess.Guard, http.Handler) http.Handler{
		"chi": routers.Chi, "gin": routers.GinEngine, "echo": routers.Echo,
	} {
		t.Run(name, func(t *testing.T) {
			guard, err := httpaccess.New(httpaccess.Config{Authorizer: rbac.Starter(), Audit: audittest.New(t)})
			if err != nil {
				t.Fatal(err)
			}
			var scope *access.Scope
			h := wire(guard, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				s, err := access.From(req.Context())
				if err != nil {
					t.Error(err)
					return
				}
				scope = s
				io.WriteString(w, string(s.Purpose()))
			}))
			accesstest.CheckRoutes(t, h, accesstest.Route{Path: "/patients/p-1", Role: "nurse", Purposes: []access.Purpose{access.Treatment}})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(accesstest.As(t, t.Context(), "nurse", ""), "GET", "/patients/p-1", nil))
			if w.Code != http.StatusOK || w.Body.String() != "TREAT" || scope == nil || !scope.Ended() {
				t.Errorf("%d %q, scope %v", w.Code, w.Body, scope)
			}
		})
	}
}
