// SPDX-License-Identifier: Apache-2.0

package httpaccess_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

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

// Behind a proxy of one's own: what stands left of it in its header is the
// client's own word, and so is every other header.
func ExampleClientAddr() {
	addr, err := httpaccess.ClientAddr("X-Forwarded-For", netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil {
		log.Fatal(err)
	}
	from := func(connection string, forwarded ...string) netip.Addr {
		req := httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr = connection
		req.Header["X-Forwarded-For"] = forwarded
		req.Header.Set("X-Real-IP", "192.0.2.66")
		return addr(req)
	}
	fmt.Println(from("10.0.0.5:4711", "192.0.2.66, 198.51.100.7, 10.0.0.9"))
	fmt.Println(from("203.0.113.1:4711", "192.0.2.66"))         // the connection is no proxy's
	fmt.Println(from("10.0.0.5:4711", "198.51.100.7, unknown")) // nobody can tell
	_, err = httpaccess.ClientAddr("X-Real-IP", netip.MustParsePrefix("10.0.0.0/24"))
	fmt.Println(err)
	// Output:
	// 198.51.100.7
	// 203.0.113.1
	// invalid IP
	// httpaccess: client address: header is neither "X-Forwarded-For" nor "Forwarded"
}
