// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/part164/part164/access"
)

var nurse = access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse", "nobody"}}

// storage lists thousands of records: the policy is asked about types.
func TestABatchAsksOncePerType(t *testing.T) {
	t.Parallel()
	e := Starter()
	p := *e.current.Load()
	asked, casbin := 0, p.casbin
	p.casbin = func(sub, dom, obj, act, pur string) (bool, []string, error) {
		asked++
		return casbin(sub, dom, obj, act, pur)
	}
	e.current.Store(&p)

	types := []string{"patient", "document", "user"}
	req := access.Request{Action: access.Read}
	for i := range 1000 {
		req.Resources = append(req.Resources, access.Resource{Type: types[i%3], Tenant: "t-1"})
	}
	d, err := e.Check(access.With(context.Background(), nurse, access.Treatment), req)
	if err != nil {
		t.Fatal(err)
	}
	for i := range req.Resources {
		if d.Allow(i) != (i%3 != 2) {
			t.Fatalf("resource %d, a %s: %+v", i, types[i%3], d.Verdicts[i])
		}
	}
	// Once for what is allowed; what no rule allows is asked for each of the
	// seven purposes that the starter has.
	if want := 2 + 7; asked != want {
		t.Errorf("Casbin was asked %d times, want %d", asked, want)
	}
}

func TestAnEvaluationErrorDeniesTheWholeBatch(t *testing.T) {
	t.Parallel()
	model, err := readModel(strings.Replace(DefaultModel, "(r.obj == p.obj || p.obj == '*')", "regexMatch(r.obj, p.obj)", 1))
	if err != nil {
		t.Fatal(err)
	}
	// The bad row stands second: the first still decides its own type.
	failing, err := newDecider(model.casbin, [][]string{
		{"p", "r:nurse", "*", "^patient$", "read", "TREAT", "allow"},
		{"p", "r:nurse", "*", "^(", "read", "TREAT", "allow"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := Starter()
	p := *e.current.Load()
	p.casbin = failing
	e.current.Store(&p)
	ctx := access.With(context.Background(), nurse, access.Treatment)
	d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "patient", Tenant: "t-1"}, {Type: "document", Tenant: "t-1"}}})
	if err == nil || d.ID == "" || d.Allow(0) || d.Allow(1) {
		t.Errorf("Check = %+v, %v; want an error and no access", d, err)
	}
	for i, v := range d.Verdicts {
		if v.Code != access.DenyInvalid {
			t.Errorf("verdict %d is %s, want %s", i, v.Code, access.DenyInvalid)
		}
	}
	if err != nil && strings.Contains(err.Error(), "patient") {
		t.Errorf("the error holds the request: %v", err)
	}
	if f, err := e.Filter(ctx, access.Read, "patient"); err == nil || errors.Is(err, access.ErrDenied) || f.Tenant != "" {
		t.Errorf("Filter = %+v, %v; want the engine's error", f, err)
	}
}

// An error after a first role that allows is no permission.
func TestAnErrorAfterAnAllowingRoleDenies(t *testing.T) {
	t.Parallel()
	e := Starter()
	p := *e.current.Load()
	p.roles = map[string]bool{"r:nurse": true, "r:nobody": true}
	p.casbin = func(sub, _, _, _, _ string) (bool, []string, error) {
		if sub == "r:nurse" {
			return true, []string{"r:nurse"}, nil
		}
		return false, nil, errors.New("broken")
	}
	e.current.Store(&p)
	d, err := e.Check(access.With(context.Background(), nurse, access.Treatment),
		access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "t-1"}}})
	if err == nil || d.Allow(0) {
		t.Errorf("Check = %+v, %v", d, err)
	}
}
