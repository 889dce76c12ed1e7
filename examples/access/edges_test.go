// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/directive"
	"github.com/part164/part164/access/egress"
	"github.com/part164/part164/access/grpcaccess"
	"github.com/part164/part164/access/httpaccess"
	"github.com/part164/part164/access/machine"
	"github.com/part164/part164/access/relation"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/machinestore"
)

// changing is what differs from run to run.
var changing = regexp.MustCompile(`[0-9a-f]{32}`)

// routes is the clinic's web app.
func (c *clinic) routes() (http.Handler, error) {
	guard, err := httpaccess.New(httpaccess.Config{Authorizer: c.point, Audit: c.journal})
	if err != nil {
		return nil, err
	}
	mux := guard.Mux()
	mux.HandleFunc("GET /patients/{id}", func(w http.ResponseWriter, req *http.Request) {
		var p Patient
		err := c.db.WithContext(req.Context()).First(&p, "id = ?", req.PathValue("id")).Error
		if err == nil {
			err = storage.Reveal(req.Context(), &p)
		}
		if err != nil {
			guard.Refuse(w, req, err) // denied, or not there: the caller cannot tell which
			return
		}
		fmt.Fprintln(w, p.Name.Text(req.Context()))
	}, access.Read, "patient", access.Treatment, access.Payment, access.BreakGlass)
	mux.Public("GET /health", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	return mux, nil // sessions.Middleware(mux), where the session package signs in
}

// Step 9: the edges.
func Example_routes() {
	c, end := newClinic()
	defer end()
	jane := c.admit("Jane Roe")
	must(c.relations.Add(c.as("u-rita", access.PatientAdmin), relation.Relation{Patient: jane.ID, Principal: "u-alice", Kind: relation.Attending}))
	app := must(c.routes())

	get := func(user, path string) { // session's middleware puts the principal into the context
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequestWithContext(c.as(user, ""), "GET", path, nil))
		fmt.Println(w.Code, changing.ReplaceAllString(strings.TrimSpace(w.Body.String()), "..."))
	}
	get("u-alice", "/patients/"+jane.ID)
	get("u-nora", "/patients/"+jane.ID)
	get("u-nora", "/patients/no-such-patient")
	get("u-sam", "/patients/"+jane.ID)
	get("u-alice", "/patients/"+jane.ID+"/notes")
	get("u-alice", "/patients/%2e%2e/health")
	// Output:
	// 200 Jane Roe
	// 403 {"error":"denied","decision":"...","offer":"breakglass"}
	// 403 {"error":"denied","decision":"...","offer":"breakglass"}
	// 403 {"error":"denied","decision":"..."}
	// 403 {"error":"denied","decision":"..."}
	// 403 {"error":"denied","decision":"..."}
}

// Where a caller is: behind a proxy of one's own.
func Example_clientAddr() {
	addr := must(httpaccess.ClientAddr("X-Forwarded-For", netip.MustParsePrefix("10.0.0.0/24"))) // for session.Config.ClientAddr
	req := httptest.NewRequest("GET", "/", nil)
	req.RemoteAddr = "10.0.0.5:4711"
	req.Header.Set("X-Forwarded-For", "192.0.2.66, 198.51.100.7") // the first is the client's own word
	fmt.Println(addr(req))
	// Output:
	// 198.51.100.7
}

// A method of gRPC.
func Example_methods() {
	c, end := newClinic()
	defer end()
	guard := must(grpcaccess.New(grpcaccess.Config{
		Authorizer: c.point, Audit: c.journal,
		Methods: map[string]grpcaccess.Rule{
			"/clinic.v1.Charts/Get": {Action: access.Read, Resource: "patient", Purposes: []access.Purpose{access.Treatment}},
		},
		// Authenticate: grpcaccess.Machine(keys, certificates); nil takes the principal of an interceptor of yours
	}))
	_ = grpc.NewServer(grpc.UnaryInterceptor(guard.Unary()), grpc.StreamInterceptor(guard.Stream()))

	call := func(user, method string) { // what the server does with each call
		answer, err := guard.Unary()(c.as(user, ""), "p-1", &grpc.UnaryServerInfo{FullMethod: method},
			func(ctx context.Context, _ any) (any, error) { return "the chart", nil })
		fmt.Println(answer, status.Code(err))
	}
	call("u-alice", "/clinic.v1.Charts/Get")
	call("u-bob", "/clinic.v1.Charts/Get")
	call("u-alice", "/clinic.v1.Charts/Delete")
	// Output:
	// the chart OK
	// <nil> PermissionDenied
	// <nil> PermissionDenied
}

// Programs that call.
func Example_keys() {
	c, end := newClinic()
	defer end()
	ctx := context.Background()
	if err := machinestore.Migrate(ctx, c.db); err != nil {
		log.Panic(err)
	}
	keys := must(machine.New(machine.Config{
		Store: machinestore.New(c.db), Audit: c.journal,
		Accounts: func(_ context.Context, _, id string) (access.Kind, error) { // asks who has accounts: session.Manager.User
			if strings.HasPrefix(id, "u-") {
				return access.Human, nil
			}
			return "", nil
		},
	}))
	_, _, err := keys.Issue(ctx, machine.NewKey{Tenant: "elm-street", Service: "u-alice", Roles: []string{"nurse"}, Purposes: []access.Purpose{access.Treatment}})
	fmt.Println(err)
	key, token, err := keys.Issue(ctx, machine.NewKey{
		Tenant: "elm-street", Service: "svc-importer", Roles: []string{"registrar"}, Purposes: []access.Purpose{access.PatientAdmin},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")},
	})
	fmt.Println(token[:8], err)

	for _, from := range []string{"10.1.2.3", "10.9.9.9"} {
		who, err := keys.Authenticate(ctx, token, netip.MustParseAddr(from))
		fmt.Println(who.Kind, who.ID, who.Purposes, err)
	}
	fmt.Println(keys.Revoke(ctx, "elm-street", key.ID))
	_, err = keys.Authenticate(ctx, token, netip.MustParseAddr("10.1.2.3"))
	fmt.Println(errors.Is(err, machine.ErrRefused))
	// Output:
	// machine: issue key: the account is a person's: give the program an ID of its own
	// part164_ <nil>
	// service svc-importer [PATADMIN] <nil>
	//   [] machine: refused
	// <nil>
	// true
}

// Sending PHI out.
func Example_disclosure() {
	c, end := newClinic()
	defer end()
	lab := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "thank you") }))
	defer lab.Close()
	port := lab.URL[strings.LastIndex(lab.URL, ":"):]
	transport := must(egress.New(egress.Config{
		Recipients: []egress.Recipient{{
			ID: "st-mary", Name: "St Mary's Hospital", Owner: "records office",
			Basis: egress.Treatment, NPI: "1234567893",
			Hosts: []string{"referrals.st-mary.example" + port}, Tenants: []string{"elm-street"},
			Purposes: []access.Purpose{access.Treatment}, Types: map[string]egress.Item{"patient": {}},
			From: time.Now().AddDate(0, -1, 0), Until: time.Now().AddDate(1, 0, 0), Description: "referrals",
		}},
		Authorizer: c.point, Audit: c.journal,
		Development: true, Resolver: loopback{}, // only for this example: no TLS, and on this machine
	}))
	jane := c.admit("Jane Roe")
	must(c.relations.Add(c.as("u-rita", access.PatientAdmin), relation.Relation{Patient: jane.ID, Principal: "u-alice", Kind: relation.Attending}))

	send := func(user string, purpose access.Purpose, url string) {
		ctx := egress.Disclose(c.as(user, purpose), egress.Disclosure{
			Recipient: "st-mary",
			Objects:   []audit.Object{{Type: "patient", Record: jane.ID, Patient: jane.ID}},
		})
		req := must(http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("the referral")))
		resp, err := transport.Do(req)
		if err != nil {
			fmt.Println(changing.ReplaceAllString(err.Error(), "..."))
			return
		}
		defer resp.Body.Close()
		fmt.Println(string(must(io.ReadAll(resp.Body))))
	}
	send("u-alice", access.Treatment, "http://referrals.st-mary.example"+port)
	send("u-nora", access.Treatment, "http://referrals.st-mary.example"+port) // no rule lets a nurse disclose
	send("u-alice", access.CareCoordination, "http://elsewhere.example"+port)

	// What the patient said counts for the recipient too.
	must(c.directives.Record(c.as("u-rita", access.PatientAdmin), directive.Directive{
		Kind: directive.Restriction, Basis: directive.Agreed, Patient: jane.ID, Types: []string{"patient"}, Recipient: "st-mary",
	}))
	send("u-alice", access.Treatment, "http://referrals.st-mary.example"+port)
	// Output:
	// thank you
	// egress: send to recipient st-mary: refused: the policy does not allow to disclose each of the objects (DENY_NO_RULE, decision ...)
	// egress: send to recipient st-mary: refused: the URL's host is not one of the recipient's (DENY_NO_RULE, decision ...)
	// egress: send to recipient st-mary: refused: the policy does not allow to disclose each of the objects (DENY_RESTRICTION, decision ...)
}

// loopback finds every name on this machine.
type loopback struct{}

func (loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}
