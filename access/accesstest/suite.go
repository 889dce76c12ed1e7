// SPDX-License-Identifier: Apache-2.0

package accesstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/part164/part164/access"
)

// TestAuthorizer runs the contract of [access.Authorizer] against the
// authorizers that open returns. Each of the given rules, without "*", must be
// allowed by them; without rules only the denials are tested.
func TestAuthorizer(t *testing.T, open func(t *testing.T) access.Authorizer, allowed ...Rule) {
	// A request of the suite: what a rule allows, or what nobody asked for.
	asked := append(slices.Clone(allowed), Rule{Role: "no-such-role", Action: "no_such_action", Type: "no_such_type", Purpose: access.Treatment})

	t.Run("what a rule allows", func(t *testing.T) {
		a := open(t)
		for _, r := range allowed {
			d := check(t, a, As(t, t.Context(), r.Role, r.Purpose), r, Tenant)
			if !d.AllowAll(1) || !strings.HasPrefix(string(d.Verdicts[0].Code), "ALLOW_") {
				t.Errorf("Check(%v) = %+v, want allowed", r, d)
			}
		}
	})

	t.Run("without a valid scope everything is denied", func(t *testing.T) {
		a := open(t)
		for _, r := range asked {
			good := Principal(Tenant, r.Role)
			bad := good
			bad.ID = "jane@example.org"
			service := good
			service.Kind = access.Service
			finished, end := access.Job(t.Context(), service, r.Purpose)
			end()
			cancelled, cancel := context.WithCancel(t.Context())
			cancelled = access.With(cancelled, good, r.Purpose)
			cancel()
			human, _ := access.Job(t.Context(), good, r.Purpose)
			for name, ctx := range map[string]context.Context{
				"no principal":       t.Context(),
				"no purpose":         access.With(t.Context(), good, ""),
				"unknown purpose":    access.With(t.Context(), good, "CURIOSITY"),
				"zero principal":     access.With(t.Context(), access.Principal{}, r.Purpose),
				"bad principal":      access.With(t.Context(), bad, r.Purpose),
				"ended":              finished,
				"cancelled":          cancelled,
				"a person's own job": human,
			} {
				d := check(t, a, ctx, r, Tenant)
				if d.Verdicts[0].Allow || d.Verdicts[0].Code != access.DenyInvalid {
					t.Errorf("%s: Check(%v) = %+v, want %s", name, r, d.Verdicts[0], access.DenyInvalid)
				}
				denied(t, a, ctx, name, r)
			}
		}
	})

	t.Run("a scope that ends between two calls", func(t *testing.T) {
		a := open(t)
		for _, r := range allowed {
			ctx := As(t, t.Context(), r.Role, r.Purpose)
			if !check(t, a, ctx, r, Tenant).AllowAll(1) {
				t.Errorf("Check(%v) denied before the end", r)
			}
			s, err := access.From(ctx)
			if err != nil {
				t.Fatal(err)
			}
			s.End()
			if check(t, a, ctx, r, Tenant).Allow(0) {
				t.Errorf("Check(%v) allowed after the end", r)
			}
			denied(t, a, ctx, "after the end", r)
		}
	})

	t.Run("empty fields are denied", func(t *testing.T) {
		a := open(t)
		for _, r := range asked {
			ctx := As(t, t.Context(), r.Role, r.Purpose)
			noAction, noType := r, r
			noAction.Action, noType.Type = "", ""
			for name, d := range map[string]access.Decision{
				"action": check(t, a, ctx, noAction, Tenant),
				"type":   check(t, a, ctx, noType, Tenant),
				"tenant": check(t, a, ctx, r, ""),
			} {
				if d.Verdicts[0].Allow || d.Verdicts[0].Code != access.DenyInvalid {
					t.Errorf("empty %s: %+v, want %s", name, d.Verdicts[0], access.DenyInvalid)
				}
			}
			denied(t, a, ctx, "empty action", noAction)
			denied(t, a, ctx, "empty type", noType)
		}
	})

	t.Run("another tenant is denied", func(t *testing.T) {
		a := open(t)
		for _, r := range asked {
			ctx := As(t, t.Context(), r.Role, r.Purpose)
			if v := check(t, a, ctx, r, "t-other").Verdicts[0]; v.Allow || v.Code != access.DenyTenant {
				t.Errorf("Check(%v) of another tenant = %+v, want %s", r, v, access.DenyTenant)
			}
		}
	})

	t.Run("a batch keeps order and length", func(t *testing.T) {
		a := open(t)
		for _, r := range asked {
			ctx := As(t, t.Context(), r.Role, r.Purpose)
			own := access.Resource{Type: r.Type, ID: "r-1", Patient: "p-1", Tenant: Tenant}
			other, untyped, unknown := own, own, own
			other.Tenant, untyped.Type, unknown.Type = "t-other", "", "no_such_type"
			for n := range 4 {
				batch := slices.Repeat([]access.Resource{other, own, untyped, own, unknown}, n)
				d, err := a.Check(ctx, access.Request{Action: r.Action, Resources: batch})
				if err != nil || len(d.Verdicts) != len(batch) {
					t.Fatalf("Check of %d resources: %d verdicts, %v", len(batch), len(d.Verdicts), err)
				}
				if n == 0 && d.AllowAll(0) {
					t.Error("an empty batch is allowed")
				}
				for i, res := range batch {
					one, err := a.Check(ctx, access.Request{Action: r.Action, Resources: []access.Resource{res}})
					if err != nil || one.Allow(0) != d.Allow(i) || one.Verdicts[0].Code != d.Verdicts[i].Code {
						t.Errorf("resource %d of the batch: %+v; asked alone: %+v, %v", i, d.Verdicts[i], one.Verdicts[0], err)
					}
				}
			}
		}
	})

	t.Run("decisions have IDs of their own", func(t *testing.T) {
		a := open(t)
		seen := make(map[string]bool)
		for range 20 {
			for _, r := range asked {
				d := check(t, a, As(t, t.Context(), r.Role, r.Purpose), r, Tenant)
				if err := access.CheckDecisionID(d.ID); err != nil || seen[d.ID] {
					t.Fatalf("decision ID %q: %v, or it was used before", d.ID, err)
				}
				seen[d.ID] = true
			}
		}
	})

	t.Run("Filter agrees with Check", func(t *testing.T) {
		a := open(t)
		rnd := rand.New(rand.NewPCG(1, 64))
		pick := func() Rule { return asked[rnd.IntN(len(asked))] }
		for range 300 {
			r := Rule{Role: pick().Role, Action: pick().Action, Type: pick().Type, Purpose: pick().Purpose}
			tenant := []string{Tenant, "t-other"}[rnd.IntN(2)]
			ctx := AsIn(t, t.Context(), tenant, r.Role, r.Purpose)
			f, err := a.Filter(ctx, r.Action, r.Type)
			if err != nil && !errors.Is(err, access.ErrDenied) {
				t.Fatalf("Filter(%v): %v", r, err)
			}
			var batch []access.Resource
			for range 1 + rnd.IntN(8) {
				batch = append(batch, access.Resource{
					Type:    r.Type,
					ID:      fmt.Sprintf("r-%d", rnd.IntN(5)),
					Patient: []string{"", "p-1", "p-2"}[rnd.IntN(3)],
					Tenant:  []string{"", Tenant, "t-other"}[rnd.IntN(3)],
				})
			}
			d, err := a.Check(ctx, access.Request{Action: r.Action, Resources: batch})
			if err != nil {
				t.Fatalf("Check(%v): %v", r, err)
			}
			for i, res := range batch {
				in, err := f.Match(ctx, res)
				if got := d.Allow(i); err != nil || got != in[0] {
					t.Errorf("%v in %s: Check of %+v = %v, Filter.Match = %v, %v", r, tenant, res, got, in, err)
				}
			}
		}
	})

	t.Run("concurrent use", func(t *testing.T) {
		a := open(t)
		var wg sync.WaitGroup
		for _, r := range asked {
			want := check(t, a, As(t, t.Context(), r.Role, r.Purpose), r, Tenant).Allow(0)
			shared := As(t, t.Context(), r.Role, r.Purpose)
			for range 4 {
				own := As(t, t.Context(), r.Role, r.Purpose)
				wg.Go(func() {
					for range 20 {
						for _, ctx := range []context.Context{shared, own} {
							if got := check(t, a, ctx, r, Tenant).Allow(0); got != want {
								t.Errorf("Check(%v) = %v beside others, %v alone", r, got, want)
							}
							if _, err := a.Filter(ctx, r.Action, r.Type); (err == nil) != want {
								t.Errorf("Filter(%v) = %v beside others, want allowed %v", r, err, want)
							}
						}
					}
				})
			}
		}
		wg.Wait()
	})
}

// check asks about one resource and wants one verdict with a code.
func check(t *testing.T, a access.Authorizer, ctx context.Context, r Rule, tenant string) access.Decision {
	t.Helper()
	d, err := a.Check(ctx, access.Request{
		Action:    r.Action,
		Resources: []access.Resource{{Type: r.Type, ID: "r-1", Patient: "p-1", Tenant: tenant}},
	})
	if err != nil {
		t.Errorf("Check(%v): %v", r, err)
	}
	if len(d.Verdicts) != 1 {
		t.Errorf("Check(%v): %d verdicts for 1 resource", r, len(d.Verdicts))
		d.Verdicts = make([]access.Verdict, 1)
	}
	if d.Verdicts[0].Code == "" {
		t.Errorf("Check(%v): the verdict has no code", r)
	}
	return d
}

// denied wants the zero Filter and a DeniedError that names the decision.
func denied(t *testing.T, a access.Authorizer, ctx context.Context, name string, r Rule) {
	t.Helper()
	f, err := a.Filter(ctx, r.Action, r.Type)
	var de *access.DeniedError
	if !errors.As(err, &de) || de.Decision == "" || de.Code == "" {
		t.Errorf("%s: Filter(%v) error = %v, want a DeniedError with code and decision", name, r, err)
	}
	if !reflect.DeepEqual(f, access.Filter{}) {
		t.Errorf("%s: Filter(%v) = %+v, want the zero Filter", name, r, f)
	}
}
