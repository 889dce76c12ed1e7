// SPDX-License-Identifier: Apache-2.0

package egress_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/egress"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
)

// loopback finds every name on this machine.
type loopback struct{}

func (loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func ExampleTransport_Do() {
	hospital := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "thank you") }))
	defer hospital.Close()
	port := hospital.URL[strings.LastIndex(hospital.URL, ":"):]

	transport, err := egress.New(egress.Config{
		Recipients: []egress.Recipient{{
			ID: "st-mary", Name: "St Mary's Hospital", Owner: "records office",
			Basis: egress.Treatment, NPI: "1234567893",
			Hosts: []string{"referrals.st-mary.example" + port}, Tenants: []string{"t-1"},
			Purposes:    []access.Purpose{access.Treatment},
			Types:       map[string]egress.Item{"patient": {}},
			From:        time.Now().AddDate(0, -1, 0),
			Until:       time.Now().AddDate(1, 0, 0),
			Description: "referrals",
		}},
		Authorizer: accesstest.Allow(), Audit: new(audittest.Trail), // in production: your policy, and the journal of audit.Open
		Development: true, Resolver: loopback{}, // only for this example: no TLS, and on this machine
	})
	if err != nil {
		log.Fatal(err)
	}
	send := func(ctx context.Context, url string) {
		ctx = egress.Disclose(ctx, egress.Disclosure{
			Recipient: "st-mary",
			Objects:   []audit.Object{{Type: "patient", Record: "p-1", Patient: "p-1"}},
		})
		req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("the referral"))
		if err != nil {
			log.Fatal(err)
		}
		resp, err := transport.Do(req)
		if err != nil {
			fmt.Println(strings.Split(err.Error(), " (")[0])
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		fmt.Printf("%s\n", text)
	}
	doctor := accesstest.Principal("t-1", "physician")
	send(access.With(context.Background(), doctor, access.Treatment), "http://referrals.st-mary.example"+port)
	send(access.With(context.Background(), doctor, access.Research), "http://referrals.st-mary.example"+port)
	send(access.With(context.Background(), doctor, access.Treatment), "http://elsewhere.example"+port)
	// Output:
	// thank you
	// egress: send to recipient st-mary: refused: the recipient is not registered for the purpose HRESCH
	// egress: send to recipient st-mary: refused: the URL's host is not one of the recipient's
}
