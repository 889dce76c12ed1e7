// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
)

func nurse() access.Principal {
	return access.Principal{ID: "u-17", Tenant: "t-1", Kind: access.Human, Roles: []string{"nurse"}}
}

func from(t *testing.T, ctx context.Context) *access.Scope {
	t.Helper()
	s, err := access.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestScopesAreComparedByPointer(t *testing.T) {
	t.Parallel()
	ctx := access.With(t.Context(), nurse(), access.Treatment)
	derived, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	first := from(t, ctx)
	if from(t, ctx) != first || from(t, derived) != first {
		t.Error("one With gave two scopes")
	}
	for name, other := range map[string]context.Context{
		"With again, the same":       access.With(ctx, nurse(), access.Treatment),
		"ForPurpose, the same":       access.ForPurpose(ctx, access.Treatment),
		"With on another context":    access.With(t.Context(), nurse(), access.Treatment),
		"ForPurpose, another":        access.ForPurpose(ctx, access.Payment),
		"With, another on top of it": access.With(ctx, access.Principal{ID: "u-2", Tenant: "t-1", Kind: access.Human}, access.Treatment),
	} {
		if from(t, other) == from(t, ctx) {
			t.Errorf("%s shares the scope", name)
		}
	}
}

func TestFromSaysWhyThereIsNoScope(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancelled = access.With(cancelled, nurse(), access.Treatment)
	cancel()
	born, cancel := context.WithCancel(t.Context())
	cancel()
	ended := access.With(t.Context(), nurse(), access.Treatment)
	from(t, ended).End()
	from0, end := access.Job(t.Context(), access.Principal{ID: "s-1", Tenant: "t-1", Kind: access.Service}, access.RecordManagement)
	end()
	end() // twice is no matter
	for name, tt := range map[string]struct {
		ctx  context.Context
		want error
	}{
		"nothing":                   {t.Context(), access.ErrNoPrincipal},
		"ForPurpose of nothing":     {access.ForPurpose(t.Context(), access.Treatment), access.ErrNoPrincipal},
		"no purpose":                {access.With(t.Context(), nurse(), ""), access.ErrNoPurpose},
		"ForPurpose of no purpose":  {access.ForPurpose(access.With(t.Context(), nurse(), access.Treatment), ""), access.ErrNoPurpose},
		"context cancelled":         {cancelled, access.ErrScopeEnded},
		"context was cancelled":     {access.With(born, nurse(), access.Treatment), access.ErrScopeEnded},
		"outlives its context":      {context.WithoutCancel(cancelled), access.ErrScopeEnded},
		"End":                       {ended, access.ErrScopeEnded},
		"ForPurpose after the end":  {access.ForPurpose(ended, access.Treatment), access.ErrScopeEnded},
		"job ended":                 {from0, access.ErrScopeEnded},
		"bad principal":             {access.With(t.Context(), access.Principal{}, access.Treatment), access.ErrPrincipal},
		"bad principal, no purpose": {access.With(t.Context(), access.Principal{}, ""), access.ErrPrincipal},
		"ForPurpose of a bad one":   {access.ForPurpose(access.With(t.Context(), access.Principal{}, ""), access.Treatment), access.ErrPrincipal},
	} {
		if s, err := access.From(tt.ctx); s != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: From = %v, %v; want %v", name, s, err, tt.want)
		}
	}
}

func TestUnknownPurposesDeny(t *testing.T) {
	t.Parallel()
	for _, p := range []access.Purpose{"CURIOSITY", "treat", "TREAT ", "OVRER", "\x00"} {
		for _, ctx := range []context.Context{
			access.With(t.Context(), nurse(), p),
			access.ForPurpose(access.With(t.Context(), nurse(), access.Treatment), p),
		} {
			s, err := access.From(ctx)
			if s != nil || err == nil || !strings.Contains(err.Error(), "unknown purpose") || strings.Contains(err.Error(), string(p)) {
				t.Errorf("purpose %q: From = %v, %v", p, s, err)
			}
		}
	}
}

// A context with a deadline ends the scope by itself.
func TestScopeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ctx = access.With(ctx, nurse(), access.Treatment)
		child := access.ForPurpose(ctx, access.Payment)
		s := from(t, ctx)
		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		if s.Ended() || from(t, child).Ended() {
			t.Error("ended one tick before the deadline")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !s.Ended() {
			t.Error("lives at the deadline")
		}
		if _, err := access.From(child); !errors.Is(err, access.ErrScopeEnded) {
			t.Errorf("child: %v", err)
		}
	})
}

// What a route opens does not outlive the sign-in or the job it came from.
func TestForPurposeEndsWithTheScopeItCameFrom(t *testing.T) {
	t.Parallel()
	ctx, end := access.Job(t.Context(), access.Principal{ID: "s-1", Tenant: "t-1", Kind: access.Service}, access.RecordManagement)
	child := access.ForPurpose(ctx, access.Operations)
	grandchild := access.ForPurpose(child, access.Compliance)
	sibling := access.ForPurpose(ctx, access.Payment)
	from(t, sibling).End()
	if from(t, child).Ended() || from(t, grandchild).Ended() || from(t, ctx).Ended() {
		t.Error("a scope ended with its sibling")
	}
	end()
	for _, c := range []context.Context{child, grandchild} {
		if _, err := access.From(c); !errors.Is(err, access.ErrScopeEnded) {
			t.Errorf("From after the job's end = %v", err)
		}
	}
}

func TestForPurposeKeepsThePrincipal(t *testing.T) {
	t.Parallel()
	ctx := access.With(t.Context(), nurse(), "")
	if p, ok := access.PrincipalFrom(ctx); !ok || p.ID != "u-17" {
		t.Fatalf("PrincipalFrom without a purpose = %+v, %v", p, ok)
	}
	s := from(t, access.ForPurpose(ctx, access.Treatment))
	if s.Principal().ID != "u-17" || s.Purpose() != access.Treatment {
		t.Errorf("scope is %s for %s", s.Principal().ID, s.Purpose())
	}
	again := access.ForPurpose(access.With(t.Context(), nurse(), "CURIOSITY"), access.Payment)
	if from(t, again).Purpose() != access.Payment {
		t.Error("an unknown purpose sticks")
	}
}

// Only services act without a person: nobody's sign-in becomes a job, nor a
// refused job a request.
func TestJobsAreForServices(t *testing.T) {
	t.Parallel()
	service := access.Principal{ID: "s-reindex", Tenant: "t-1", Kind: access.Service}
	ctx, end := access.Job(t.Context(), service, access.RecordManagement)
	defer end()
	if s := from(t, ctx); s.Principal().Kind != access.Service || s.Purpose() != access.RecordManagement {
		t.Errorf("scope is of %s for %s", s.Principal().Kind, s.Purpose())
	}
	for _, kind := range []access.Kind{access.Human, access.Patient, access.Proxy, "", "robot"} {
		p := nurse()
		p.Kind = kind
		ctx, end := access.Job(t.Context(), p, access.RecordManagement)
		for name, ctx := range map[string]context.Context{"Job": ctx, "ForPurpose of it": access.ForPurpose(ctx, access.Treatment)} {
			if _, err := access.From(ctx); !errors.Is(err, access.ErrPrincipal) {
				t.Errorf("%s of kind %q: %v, want ErrPrincipal", name, kind, err)
			}
			if _, ok := access.PrincipalFrom(ctx); ok {
				t.Errorf("%s of kind %q has a principal", name, kind)
			}
		}
		end()
	}
}

func TestPrincipalFromNeedsAGoodLivingPrincipal(t *testing.T) {
	t.Parallel()
	ended := access.With(t.Context(), nurse(), access.Treatment)
	from(t, ended).End()
	for name, ctx := range map[string]context.Context{
		"nothing": t.Context(),
		"bad":     access.With(t.Context(), access.Principal{ID: "jane@example.org", Tenant: "t-1", Kind: access.Human}, access.Treatment),
		"ended":   ended,
	} {
		if p, ok := access.PrincipalFrom(ctx); ok || p.ID != "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// The roles of a scope are its own: nobody adds one afterwards.
func TestRolesCannotBeChangedFromOutside(t *testing.T) {
	t.Parallel()
	p := nurse()
	ctx := access.With(t.Context(), p, access.Treatment)
	p.Roles[0] = "physician"
	s := from(t, ctx)
	s.Principal().Roles[0] = "admin"
	got, _ := access.PrincipalFrom(ctx)
	got.Roles[0] = "admin"
	who, _, _ := access.Who(ctx)
	who.Roles[0] = "admin"
	if roles := from(t, ctx).Principal().Roles; len(roles) != 1 || roles[0] != "nurse" {
		t.Errorf("roles = %v, want nurse", roles)
	}
}

func TestPinLoadsOnceAScope(t *testing.T) {
	t.Parallel()
	type key struct{}
	s := from(t, access.With(t.Context(), nurse(), access.Treatment))
	loads := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := s.Pin(key{}, func() any { loads++; return "v1" }); got != "v1" {
				t.Errorf("Pin = %v", got)
			}
		})
	}
	wg.Wait()
	if loads != 1 {
		t.Errorf("loaded %d times, want once", loads)
	}
	if got := s.Pin("other key", func() any { return "v2" }); got != "v2" {
		t.Errorf("another key: %v", got)
	}
	other := from(t, access.With(t.Context(), nurse(), access.Treatment))
	if got := other.Pin(key{}, func() any { return "v3" }); got != "v3" {
		t.Errorf("another scope: %v", got)
	}
}

func TestScopeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx := access.With(parent, nurse(), access.Treatment)
	s := from(t, ctx)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				_ = s.Principal()
				_ = s.Ended()
				s.Pin(i, func() any { return i })
				_ = access.ForPurpose(ctx, access.Payment)
				_, _ = access.From(ctx)
			}
			if i == 0 {
				s.End()
			}
			if i == 1 {
				cancel()
			}
		})
	}
	wg.Wait()
	if !s.Ended() {
		t.Error("not ended")
	}
}
