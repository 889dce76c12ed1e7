// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit/audittest"
)

func ExampleGuard_Mux() {
	guard, err := httpaccess.New(httpaccess.Config{
		Authorizer: rbac.Starter(),
		Audit:      new(audittest.Trail), // in production: the journal of audit.Open
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := guard.Mux()
	mux.HandleFunc("GET /patients/{id}", func(w http.ResponseWriter, r *http.Request) {
		scope, err := access.From(r.Context())
		fmt.Println("chart, for", scope.Purpose(), err)
	}, access.Read, "patient", access.Treatment, access.Payment)

	// Session's middleware puts the principal there; this is its part.
	get := func(path string, p access.Principal) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		mux.ServeHTTP(w, r.WithContext(access.With(r.Context(), p, "")))
		return w.Code
	}
	get("/patients/1", accesstest.Principal("t-1", "nurse"))
	get("/patients/1", accesstest.Principal("t-1", "billing"))
	fmt.Println(get("/patients/1", accesstest.Principal("t-1", "admin")))
	fmt.Println(get("/patients/1/notes", accesstest.Principal("t-1", "nurse"))) // no rule
	fmt.Println(get("/patients/1", access.Principal{}))                         // nobody
	// Output:
	// chart, for TREAT <nil>
	// chart, for HPAYMT <nil>
	// 403
	// 403
	// 401
}
