// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/storage/policystore"
)

func TestRowsFromCSV(t *testing.T) {
	t.Parallel()
	got, err := policystore.ReadCSV(strings.NewReader(`
# the ward
p, r:nurse, clinic-7, patient, read, TREAT
p, r:nurse, *, patient, read, HPAYMT, deny
g, r:charge-nurse, r:nurse
g, r:head-nurse, r:nurse, clinic-7
g, u:u-17, r:nurse, clinic-7
`))
	want := policystore.Rows{
		Rules: []rbac.Rule{
			{Role: "nurse", Tenant: "clinic-7", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Treatment}},
			{Role: "nurse", Resources: []string{"patient"}, Actions: []access.Action{access.Read}, Purposes: []access.Purpose{access.Payment}, Deny: true},
		},
		Links:       []rbac.Link{{Role: "charge-nurse", Inherits: "nurse"}, {Role: "head-nurse", Inherits: "nurse", Tenant: "clinic-7"}},
		Assignments: []rbac.Assignment{{Tenant: "clinic-7", User: "u-17", Role: "nurse"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for row, why := range map[string]string{
		"p, nurse, clinic-7, patient, read, TREAT":          "no r: prefix",
		"p, r:, clinic-7, patient, read, TREAT":             "role after r: is empty",
		"p, r:nurse, clinic-7, patient, read":               "4 fields after p",
		"p, r:nurse, clinic-7, patient, read, TREAT, maybe": "neither allow nor deny",
		"g, alice, r:nurse, clinic-7":                       "no prefix",
		"g, u:u-17, nurse, clinic-7":                        "no r: prefix",
		"g, u:u-17, r:nurse":                                "one tenant",
		"g, u:u-17, r:nurse, *":                             "Tenant has",
		"g, r:nurse":                                        "1 fields after g",
		"g2, r:nurse, r:x":                                  "neither p nor g",
		"p, \"r:nurse":                                      "line 2",
	} {
		_, err := policystore.ReadCSV(strings.NewReader("\n" + row))
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "line 2: ") {
			t.Errorf("%s: %v, want %q of line 2", row, err, why)
		}
		// The policy of a process that keeps it in a file refuses the same.
		_, other := rbac.New(rbac.Config{Policy: "\n" + row, Assigned: true})
		if err != nil && (other == nil || tail(err) != tail(other)) {
			t.Errorf("%s: ReadCSV says %v, rbac.New %v", row, err, other)
		}
	}
}

// tail is what an error says from the line on.
func tail(err error) string {
	_, text, _ := strings.Cut(err.Error(), "line 2: ")
	return text
}
