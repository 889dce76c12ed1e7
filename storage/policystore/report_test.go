// SPDX-License-Identifier: Apache-2.0

package policystore_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage/policystore"
)

// TestReport: who holds what by which link, since when and by whose decision;
// of another tenant nothing.
func TestReport(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		w := initiated(t, d, nil)
		id := propose(t, w.Store, "u-alice", give("u-fay", "charge-nurse"))
		if _, err := w.Approve(as(t, "u-bob", access.SystemAdmin), id); err != nil {
			t.Fatal(err)
		}
		senior := policystore.Change{Add: policystore.Rows{Links: []rbac.Link{{Role: "matron", Inherits: "charge-nurse"}, {Role: "nurse", Inherits: "aide"}}}, Reason: audit.ReasonAmended, Reference: "ticket-8"}
		senior.Add.Assignments = []rbac.Assignment{{Tenant: tenant, User: "u-mary", Role: "matron"}}
		id = propose(t, w.Store, "u-alice", senior)
		if _, err := w.Approve(as(t, "u-carol", access.SystemAdmin), id); err != nil {
			t.Fatal(err)
		}
		waits := propose(t, w.Store, "u-alice", give("u-gus", "nurse"))
		r, err := w.Report(as(t, "u-alice", access.SystemAdmin))
		if err != nil {
			t.Fatal(err)
		}
		holds := func(r *policystore.Report, user, role string) string {
			for _, h := range r.Holders {
				if h.User == user && h.Role == role {
					return fmt.Sprint(h.Tenant, " ", h.Path, " ", h.Since.Revision, " ", h.Since.Author, " ", h.Since.Approver, " ", h.Since.Reason, " ", h.Since.Reference, " ", h.Since.Time.IsZero())
				}
			}
			return ""
		}
		for _, tt := range []struct{ user, role, want string }{
			{"u-nora", "nurse", "t-1 [nurse] 1 deploy  migration deploy-1 false"},
			{"u-fay", "charge-nurse", "t-1 [charge-nurse] 2 u-alice u-bob joined ticket-1 false"},
			{"u-fay", "nurse", "t-1 [charge-nurse nurse] 2 u-alice u-bob joined ticket-1 false"},
			{"u-mary", "nurse", "t-1 [matron charge-nurse nurse] 3 u-alice u-carol amended ticket-8 false"},
			{"u-nora", "aide", "t-1 [nurse aide] 3 u-alice u-carol amended ticket-8 false"},
			{"u-olga", "security", "t-2 [security] 1 deploy  migration deploy-1 false"},
			{"u-gus", "nurse", ""},
		} {
			if got := holds(r, tt.user, tt.role); got != tt.want {
				t.Errorf("%s has %s: %q, want %q", tt.user, tt.role, got, tt.want)
			}
		}
		if r.Revision != 3 || len(r.Pending) != 1 || r.Pending[0].ID != waits {
			t.Errorf("revision %d, pending %+v", r.Revision, r.Pending)
		}
		for _, role := range r.Roles {
			if want := map[string]int{"aide": 3, "nurse": 3, "charge-nurse": 2, "matron": 1, "security": 3, "approver": 3}[role.Name]; role.Holders != want {
				t.Errorf("%s has %d holders, want %d", role.Name, role.Holders, want)
			}
		}
		text, err := json.Marshal(r)
		if err != nil || !strings.Contains(string(text), `"path":["charge-nurse","nurse"]`) {
			t.Errorf("JSON: %s, %v", text, err)
		}
		var plain, page bytes.Buffer
		if err := r.Document().WriteText(&plain); err != nil {
			t.Fatal(err)
		}
		if err := r.Document().WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"u-fay", "through charge-nurse", "u-bob", "joined (ticket-1)", "role nurse may read patient for TREAT in every tenant", "every tenant", "user u-gus has role nurse"} {
			if !strings.Contains(plain.String(), want) {
				t.Errorf("no %q in the document", want)
			}
		}
		if !strings.Contains(page.String(), "u-mary") {
			t.Error("no u-mary on the page")
		}
		olga, err := w.Report(as(t, "u-olga", access.SystemAdmin))
		if err != nil {
			t.Fatal(err)
		}
		if holds(olga, "u-olga", "security") == "" || holds(olga, "u-nora", "nurse") != "" || len(olga.Pending) != 0 || olga.Tenant != other {
			t.Errorf("another tenant's report: %+v", olga)
		}
	})
}
