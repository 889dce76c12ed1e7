// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"path/filepath"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/accessstore"
)

// Step 10: test it.
func TestPolicy(t *testing.T) {
	engine, err := rbac.New(rbac.Config{Model: text("policy/model.conf"), Policy: text("policy/policy.csv")}) // without users.csv: roles ask
	if err != nil {
		t.Fatal(err)
	}
	accesstest.TestPolicy(t, engine, accesstest.ReadCases(t, "policy/cases.csv")...)
}

func TestRoutes(t *testing.T) {
	journal, err := audit.Open(filepath.Join(t.TempDir(), "audit"), audit.Config{Development: true})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := rbac.New(rbac.Config{Model: text("policy/model.conf"), Policy: text("policy/policy.csv")})
	if err != nil {
		t.Fatal(err)
	}
	c, err := open(t.TempDir(), journal, func(*accessstore.Store) (decider, error) { return engine, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	registrar := access.With(t.Context(), accesstest.Principal("elm-street", "registrar"), access.PatientAdmin)
	app, err := c.routes()
	if err != nil {
		t.Fatal(err)
	}
	jane := &Patient{Name: storage.Seal("Jane Roe")}
	if err := c.db.WithContext(registrar).Create(jane).Error; err != nil {
		t.Fatal(err)
	}
	accesstest.CheckRoutes(t, app,
		accesstest.Route{Path: "/patients/" + jane.ID, Role: "billing", Tenant: "elm-street", Purposes: []access.Purpose{access.Payment}},
		accesstest.Route{Path: "/health", Public: true},
	)
}
