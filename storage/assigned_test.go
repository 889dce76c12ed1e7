// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/pdp"
	"github.com/part164/part164/access/rbac"
	"github.com/part164/part164/minimize"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

// Where the policy says who has which role, fields are shown and written by
// those roles too: neither by one that was taken away and that the session still
// names, nor by none where the session names none.
func TestFieldsFollowTheRolesOfThePolicy(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, d gorm.Dialector) {
		policy, err := rbac.New(rbac.Config{Rules: rbac.StarterRules(), Assigned: true, Assignments: []rbac.Assignment{
			{Tenant: "t-1", User: "u-both", Role: "physician"}, {Tenant: "t-1", User: "u-both", Role: "nurse"},
			{Tenant: "t-1", User: "u-left", Role: "nurse"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		point, err := pdp.New(pdp.Config{Policy: policy})
		if err != nil {
			t.Fatal(err)
		}
		fields, err := minimize.New([]minimize.Rule{
			{Role: "physician", Purposes: []access.Purpose{access.Treatment}, View: minimize.Reveal, Right: minimize.Change, Classes: []minimize.Class{minimize.SSN, minimize.Name}},
			{Role: "nurse", Purposes: []access.Purpose{access.Treatment}, View: minimize.Reveal, Right: minimize.Change, Classes: []minimize.Class{minimize.Name}},
		})
		if err != nil {
			t.Fatal(err)
		}
		db := storagetest.Open(t, d, func(c *storage.Config) { c.Access, c.Minimize = point, fields }, &Patient{}, &Encounter{})
		in := func(user string, roles ...string) context.Context {
			return access.With(t.Context(), access.Principal{ID: user, Tenant: "t-1", Kind: access.Human, Roles: roles}, access.Treatment)
		}
		p := &Patient{SSN: storage.Seal("900-12-3456"), Name: storage.Seal("Roe")}
		if err := db.WithContext(in("u-both")).Create(p).Error; err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			user      string
			session   []string
			physician bool
		}{
			{"u-both", nil, true},
			{"u-both", []string{"physician", "nurse"}, true},
			{"u-both", []string{"nurse"}, false},
			{"u-left", []string{"physician", "nurse"}, false},
		} {
			ctx := in(tt.user, tt.session...)
			var got Patient
			if err := db.WithContext(ctx).First(&got, "id = ?", p.ID).Error; err != nil {
				t.Fatal(err)
			}
			if err := storage.Reveal(ctx, &got); err != nil {
				t.Fatal(err)
			}
			if _, err := got.SSN.Get(ctx); errors.Is(err, storage.ErrWithheld) == tt.physician {
				t.Errorf("%s with %v in the session: %v, want it shown: %t", tt.user, tt.session, err, tt.physician)
			}
			if err := db.WithContext(ctx).Model(&got).Update("ssn", storage.Seal("900-11-2222")).Error; errors.Is(err, storage.ErrNotPermitted) == tt.physician {
				t.Errorf("%s with %v in the session: Update = %v, want it allowed: %t", tt.user, tt.session, err, tt.physician)
			}
		}
	})
}
