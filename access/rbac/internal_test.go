// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
)

var nurse = access.Principal{ID: "u-1", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse", "nobody"}}

// with returns an engine with a copy of the starter's version, edited.
func with(t *testing.T, cfg Config, edit func(*version)) *Engine {
	t.Helper()
	if cfg.Rules == nil {
		cfg.Rules = StarterRules()
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	v := *e.current.Load()
	edit(&v)
	e.current.Store(&v)
	return e
}

// storage lists thousands of records: the policy is asked about types.
func TestABatchAsksOncePerType(t *testing.T) {
	t.Parallel()
	asked := 0
	e := with(t, Config{Shadow: 1, Differs: func(_ context.Context, d Difference) { t.Errorf("%+v", d) }}, func(v *version) {
		casbin := v.casbin
		v.casbin = func(request ...string) (policy.Decision, error) {
			asked++
			return casbin(request...)
		}
	})
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
	if asked != len(types) {
		t.Errorf("the policy was asked %d times, want %d", asked, len(types))
	}
	// More types than Check remembers are asked each time, and answered well.
	req.Resources = nil
	for i := range 100 {
		req.Resources = append(req.Resources, access.Resource{Type: "t" + strings.Repeat("x", i%20), Tenant: "t-1"}, access.Resource{Type: "patient", Tenant: "t-1"})
	}
	d, err = e.Check(access.With(context.Background(), nurse, access.Treatment), req)
	for i := range req.Resources {
		if err != nil || d.Allow(i) != (i%2 == 1) {
			t.Fatalf("resource %d: %+v, %v", i, d.Verdicts[i], err)
		}
	}
}

// failing has a second row on which Casbin fails.
func failing(t *testing.T, second string) func(*version) {
	t.Helper()
	compiled, err := policy.Compile(policy.Config{
		Model: strings.Replace(DefaultModel, "(r.obj == p.obj || p.obj == '*')", "regexMatch(r.obj, p.obj)", 1),
		Rows: []policy.Row{
			{Fields: []string{"p", "r:nurse", "*", "^patient$", "read", "TREAT", "allow"}},
			{Fields: []string{"p", second, "*", "^(", "read", "TREAT", "allow"}},
		},
		AsCasbin: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(v *version) {
		v.compiled, v.roles, v.denies = compiled, map[string]bool{"r:nurse": true, "r:nobody": true}, true
	}
}

func TestAnEvaluationErrorDeniesTheWholeBatch(t *testing.T) {
	t.Parallel()
	e := with(t, Config{}, failing(t, "r:nurse"))
	ctx := access.With(context.Background(), nurse, access.Treatment)
	d, err := e.Check(ctx, access.Request{Action: access.Read, Resources: []access.Resource{
		{Type: "user", Tenant: "t-2"}, {Type: "patient", Tenant: "t-1"}, {Type: "document", Tenant: "t-1"}}})
	if err == nil || d.ID == "" || d.Allow(0) || d.Allow(1) || d.Allow(2) {
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
	e := with(t, Config{}, failing(t, "r:nobody"))
	ask := func(roles ...string) (access.Decision, error) {
		who := nurse
		who.Roles = roles
		return e.Check(access.With(context.Background(), who, access.Treatment),
			access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "t-1"}}})
	}
	if d, err := ask("nurse"); err != nil || !d.Allow(0) {
		t.Fatalf("Check = %+v, %v", d, err)
	}
	if d, err := ask("nurse", "nobody"); err == nil || d.Allow(0) {
		t.Errorf("Check = %+v, %v", d, err)
	}
}

// Casbin and the compiled policy never differ: here Casbin lies.
func TestShadowDeniesWhatDiffers(t *testing.T) {
	t.Parallel()
	lie := func(d policy.Decision, err error) func(*version) {
		return func(v *version) {
			casbin := v.casbin
			v.casbin = func(request ...string) (policy.Decision, error) {
				if request[2] != "patient" {
					return casbin(request...)
				}
				return d, err
			}
		}
	}
	other := &policy.Row{Fields: []string{"p", "r:nurse", "*", "patient", "read", "*", "allow"}}
	for name, tt := range map[string]struct {
		edit func(*version)
		role string
	}{
		"Casbin denies":             {lie(policy.Decision{}, nil), "nurse"},
		"Casbin denies by a row":    {lie(policy.Decision{Rule: other}, nil), "nurse"},
		"Casbin allows":             {lie(policy.Decision{Allow: true, Rule: other}, nil), "admin"},
		"Casbin has another row":    {lie(policy.Decision{Allow: true, Rule: other}, nil), "nurse"},
		"Casbin fails":              {lie(policy.Decision{}, errors.New("broken")), "nurse"},
		"Casbin fails with a grant": {lie(policy.Decision{Allow: true, Rule: other}, errors.New("broken")), "nurse"},
	} {
		var told []Difference
		e := with(t, Config{Shadow: 3, Differs: func(_ context.Context, d Difference) { told = append(told, d) }}, tt.edit)
		who := nurse
		who.Roles = []string{tt.role}
		ctx := access.With(context.Background(), who, access.Treatment)
		req := access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: "t-1"}, {Type: "allergy", Tenant: "t-1"}, {Type: "patient", Tenant: "t-1"}}}
		for i := range 9 {
			d, err := e.Check(ctx, req)
			want := tt.role == "nurse"
			if err != nil || d.Allow(1) != want || i%3 != 2 && d.Allow(0) != want {
				t.Fatalf("%s: check %d: %+v, %v", name, i, d, err)
			}
			if i%3 != 2 {
				continue
			}
			if d.Allow(0) || d.Allow(2) || d.Verdicts[0].Code != access.DenyInvalid || d.Verdicts[0].Rule != "" {
				t.Errorf("%s: check %d: %+v, want it denied", name, i, d)
			}
			if n := len(told); n != i/3+1 || told[n-1].Decision != d.ID || told[n-1].Type != "patient" || told[n-1].Roles[0] != tt.role || told[n-1].Compiled.Allow != want {
				t.Errorf("%s: told %+v", name, told)
			}
		}
	}
}

// Rule is asked by the decision point, which asks the rest.
func TestShadowOfRule(t *testing.T) {
	t.Parallel()
	var told []Difference
	e := with(t, Config{Shadow: 1, Differs: func(_ context.Context, d Difference) { told = append(told, d) }}, func(v *version) {
		v.casbin = func(...string) (policy.Decision, error) { return policy.Decision{}, nil }
	})
	v, err := e.Rule(access.With(context.Background(), nurse, access.Treatment), nurse, access.Read, "patient", access.Treatment)
	if err != nil || v.Allow || v.Code != access.DenyInvalid || len(told) != 1 || !told[0].Compiled.Allow || told[0].Decision != "" {
		t.Errorf("Rule = %+v, %v; told %+v", v, err, told)
	}
}

func TestShadowNeedsSomebodyToTell(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Shadow: 1}, {Shadow: -1, Differs: func(context.Context, Difference) {}}} {
		cfg.Rules = StarterRules()
		if e, err := New(cfg); err == nil || e != nil {
			t.Errorf("New took Shadow %d", cfg.Shadow)
		}
	}
}

// The check that a request waits for takes nothing from the heap but its
// answer.
func TestDecisionsDoNotAllocate(t *testing.T) {
	e, err := New(Config{Rules: StarterRules(), Links: []Link{{Role: "charge", Inherits: "nurse"}}})
	if err != nil {
		t.Fatal(err)
	}
	who := nurse
	who.Roles = []string{"nobody", "billing", "charge"}
	scope, err := access.From(access.With(context.Background(), who, access.Treatment))
	if err != nil {
		t.Fatal(err)
	}
	ask := question{access.Read, "patient", access.Treatment}
	n := testing.AllocsPerRun(100, func() {
		v, err := e.pin(scope)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := v.decide(ask); err != nil || !d.Allow || len(d.Path) != 2 {
			t.Fatalf("%+v, %v", d, err)
		}
	})
	if n != 0 {
		t.Errorf("a decision allocates %v times", n)
	}
}
