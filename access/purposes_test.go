// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/part164/part164/access"
)

// A principal's own list of purposes binds every scope that it is in.
func TestPurposesOfAPrincipal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		has  []access.Purpose
		asks access.Purpose
		ok   bool
	}{
		{nil, access.Payment, true},
		{[]access.Purpose{access.Treatment}, access.Treatment, true},
		{[]access.Purpose{access.Treatment}, access.CareCoordination, true},
		{[]access.Purpose{access.CareCoordination}, access.Treatment, false},
		{[]access.Purpose{access.Treatment}, access.Payment, false},
		{[]access.Purpose{access.Treatment}, access.BreakGlass, false},
		{[]access.Purpose{access.Treatment}, access.EmergencyTreatment, false},
		{[]access.Purpose{access.EmergencyTreatment}, access.BreakGlass, false},
		{[]access.Purpose{access.BreakGlass}, access.BreakGlass, true},
		{[]access.Purpose{access.Payment, access.Treatment}, access.Treatment, true},
	} {
		p := access.Principal{ID: "svc-1", Tenant: "t-1", Kind: access.Service, Purposes: tt.has}
		for name, ctx := range map[string]func() error{
			"With": func() error { _, err := access.From(access.With(t.Context(), p, tt.asks)); return err },
			"ForPurpose": func() error {
				_, err := access.From(access.ForPurpose(access.With(t.Context(), p, ""), tt.asks))
				return err
			},
			"Job": func() error {
				c, end := access.Job(t.Context(), p, tt.asks)
				defer end()
				_, err := access.From(c)
				return err
			},
		} {
			if err := ctx(); (err == nil) != tt.ok || !tt.ok && !errors.Is(err, access.ErrPurpose) {
				t.Errorf("%s: %v for %s: %v, want allowed %v", name, tt.has, tt.asks, err, tt.ok)
			}
		}
	}

	own := []access.Purpose{access.Treatment}
	ctx := access.With(t.Context(), access.Principal{ID: "svc-1", Tenant: "t-1", Kind: access.Service, Purposes: own}, access.Treatment)
	own[0] = access.Payment
	p, ok := access.PrincipalFrom(ctx)
	if !ok || p.Purposes[0] != access.Treatment {
		t.Errorf("the scope shares memory with its caller: %v", p.Purposes)
	}
	p.Purposes[0] = access.Payment
	if _, err := access.From(access.ForPurpose(ctx, access.Payment)); !errors.Is(err, access.ErrPurpose) {
		t.Errorf("a copy of the principal changed the scope's: %v", err)
	}
	for _, bad := range [][]access.Purpose{{"CURIOSITY"}, {""}, make([]access.Purpose, 33)} {
		if err := (access.Principal{ID: "svc-1", Tenant: "t-1", Kind: access.Service, Purposes: bad}).Validate(); !errors.Is(err, access.ErrPrincipal) || !strings.Contains(err.Error(), "Purposes") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
