// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/report"
	"github.com/part164/part164/audit/report/accesses"
)

func Example() {
	base, err := os.MkdirTemp(".", "example-*.tmp")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(base)
	journal, err := audit.Open(filepath.Join(base, "audit"), audit.Config{Development: true}) // production: a KEK instead
	if err != nil {
		log.Fatal(err)
	}
	defer journal.Close()
	nurse := access.Principal{ID: "u-17", Tenant: "clinic-7", Kind: access.Human, Roles: []string{"nurse"}}
	if _, err := journal.Record(access.With(context.Background(), nurse, access.Treatment), audit.Event{Type: audit.Revealed, Outcome: audit.Success,
		Objects: []audit.Object{{Type: "patient", Record: "r-1", Patient: "r-1", Fields: []string{"name"}}}}); err != nil {
		log.Fatal(err)
	}

	reports, err := report.New(report.Config{Sources: []report.Source{journal}, Audit: journal, Access: accesstest.Allow()}) // production: your authorizer
	if err != nil {
		log.Fatal(err)
	}
	patient := access.Principal{ID: "r-1", Tenant: "clinic-7", Kind: access.Patient, Roles: []string{"patient"}}
	ctx := access.With(context.Background(), patient, access.PatientRequest)
	seen, err := accesses.Of(ctx, reports, accesses.Query{Patient: "r-1"})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range seen.Entries {
		fmt.Println(e.Act, "by", e.Who.Name, "for", e.Purpose)
	}
	_, err = accesses.Of(ctx, reports, accesses.Query{Patient: "r-2"})
	fmt.Println(err != nil)
	// Output:
	// read trail by the patient for PATRQT
	// saw by u-17 for TREAT
	// true
}
