// SPDX-License-Identifier: Apache-2.0

package machine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/audit/audittest"
)

// A program gets a key of its own, for what it does and from where it runs.
func ExampleKeys_Middleware() {
	ctx := context.Background()
	keys, err := machine.New(machine.Config{
		Store:    machine.NewMemory(),                                                           // in production: storage/machinestore
		Audit:    new(audittest.Trail),                                                          // in production: the journal of audit.Open
		Accounts: func(context.Context, string, string) (access.Kind, error) { return "", nil }, // in production: asks session
	})
	if err != nil {
		log.Fatal(err)
	}
	key, token, err := keys.Issue(ctx, machine.NewKey{
		Tenant: "elm-street", Service: "svc-importer", Roles: []string{"importer"}, Purposes: []access.Purpose{access.Treatment},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token[:8], key.Expires.Sub(key.Created))

	handler := keys.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		who, ok := access.PrincipalFrom(req.Context())
		fmt.Println(who.Kind, who.ID, ok)
	}))
	get := func(from string) int {
		w, req := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr = from
		req.Header.Set("Authorization", "Bearer "+token)
		handler.ServeHTTP(w, req)
		return w.Code
	}
	fmt.Println(get("10.1.2.3:4711"))
	fmt.Println(get("10.9.9.9:4711"))
	if err := keys.Revoke(ctx, "elm-street", key.ID); err != nil {
		log.Fatal(err)
	}
	fmt.Println(get("10.1.2.3:4711"))
	// Output:
	// part164_ 2160h0m0s
	// service svc-importer true
	// 200
	// 401
	// 401
}

// A successor, while the old key lives on for a day.
func ExampleKeys_Rotate() {
	ctx := context.Background()
	keys, err := machine.New(machine.Config{
		Store: machine.NewMemory(), Audit: new(audittest.Trail),
		Accounts: func(_ context.Context, _, id string) (access.Kind, error) {
			if id == "u-17" {
				return access.Human, nil
			}
			return "", nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	importer := machine.NewKey{Tenant: "elm-street", Service: "svc-importer", Roles: []string{"importer"}, Purposes: []access.Purpose{access.Treatment}}
	key, _, err := keys.Issue(ctx, importer)
	if err != nil {
		log.Fatal(err)
	}
	next, _, err := keys.Rotate(ctx, "elm-street", key.ID, 0) // 24*time.Hour: both live for a day
	fmt.Println(next.Service, next.ID != key.ID, err)
	_, _, err = keys.Rotate(ctx, "elm-street", key.ID, 0)
	fmt.Println(errors.Is(err, machine.ErrNotFound)) // one successor

	importer.Service = "u-17"
	_, _, err = keys.Issue(ctx, importer)
	fmt.Println(err)
	// Output:
	// svc-importer true <nil>
	// true
	// machine: issue key: the account is a person's: give the program an ID of its own
}
