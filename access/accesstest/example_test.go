// SPDX-License-Identifier: Apache-2.0

package accesstest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
)

// A spoken test prints what it would fail with.
type spoken struct{ testing.TB }

func (spoken) Helper()                   {}
func (spoken) Context() context.Context  { return context.Background() }
func (spoken) Error(a ...any)            { fmt.Println(a...) }
func (spoken) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }
func (spoken) Fatalf(f string, a ...any) { fmt.Printf(f+"\n", a...) }

// nurses is a policy of one rule.
var nurses = &accesstest.Fake{Rules: []accesstest.Rule{{Role: "nurse", Action: access.Read, Type: "patient", Purpose: access.Treatment}}}

// guard stands for the middleware of package httpaccess.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := access.ForPurpose(req.Context(), access.Treatment)
		d, err := nurses.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: accesstest.Tenant}}})
		if err != nil || !d.AllowAll(1) || req.Method != "GET" || req.URL.EscapedPath() != "/patients/p-1" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// The whole handler of an app is asked for what it must refuse. Then somebody
// takes a middleware out.
func ExampleCheckRoutes() {
	t := spoken{} // in a test: t *testing.T
	chart := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	route := accesstest.Route{Path: "/patients/p-1", Role: "nurse", Purposes: []access.Purpose{access.Treatment}}

	accesstest.CheckRoutes(t, guard(chart), route)
	fmt.Println("checked")
	accesstest.CheckRoutes(first{t, new(int)}, chart, route)
	// Output:
	// checked
	// accesstest: GET /patients/p-1 without a sign-in: is answered with 200, want a refusal
}

// first says the first thing only.
type first struct {
	spoken
	n *int
}

func (f first) Errorf(format string, a ...any) {
	if *f.n++; *f.n == 1 {
		f.spoken.Errorf(format, a...)
	}
}

// Who may what is a table, which may stand in a file: see ReadCases.
func ExampleTestPolicy() {
	t := spoken{} // in a test: t *testing.T
	accesstest.TestPolicy(t, nurses,
		accesstest.Case{Roles: []string{"nurse"}, Action: access.Read, Type: "patient", Purpose: access.Treatment, Allow: true},
		accesstest.Case{Roles: []string{"nurse"}, Action: access.Read, Type: "patient", Purpose: access.Marketing}, // denied
		accesstest.Case{Roles: []string{"nurse"}, Action: access.Delete, Type: "patient", Purpose: access.Treatment, Allow: true},
	)
	// Output:
	// case 2: nurse delete patient for TREAT: DENY_NO_RULE by "", want allow
}
