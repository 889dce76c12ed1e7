// SPDX-License-Identifier: Apache-2.0

// Package access_test runs what docs/guide-access.md shows.
package access_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/part164/part164/access/policy"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return v
}

// text reads a file.
func text(name string) string { return string(must(os.ReadFile(name))) }

// Step 1: the policy as it is.
func Example_casbin() {
	rows := must(policy.ReadCSV(strings.NewReader(text("casbin/policy.csv"))))
	p := must(policy.Compile(policy.Config{Model: text("casbin/model.conf"), Rows: rows})) // policy.Config{AsCasbin: true}: as Casbin, refusing nothing

	d, err := p.Decide("nora", "elm-street", "patient", "read") // where enforcer.EnforceEx was
	fmt.Println(d.Allow, d.Rule, err)
	d, err = p.Decide("nurse", "elm-street", "patient", "read")
	fmt.Println(d.Allow, d.Refused, err)
	// Output:
	// true p, nurse, elm-street, patient, read <nil>
	// false r.sub is the name of a role: users and roles need names of their own, such as u:alice and r:nurse <nil>
}

// What Casbin takes and part164 does not.
func Example_refused() {
	rows := must(policy.ReadCSV(strings.NewReader(text("casbin/open.csv"))))
	_, err := policy.Compile(policy.Config{Model: text("casbin/open.conf"), Rows: rows})
	if refused := (*policy.RefusedError)(nil); errors.As(err, &refused) {
		for _, f := range refused.Findings {
			fmt.Println(f.Kind, "in", f.Where)
		}
	}
	// Output:
	// default-allow in policy_effect
	// back-door in matchers
	// mid-pattern in line 1
	// unanchored in line 2
}
