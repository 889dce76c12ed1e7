// SPDX-License-Identifier: Apache-2.0

package accesstest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
)

var read = accesstest.Rule{Role: "nurse", Action: access.Read, Type: "patient", Purpose: access.Treatment}

func TestFakesKeepTheContract(t *testing.T) {
	t.Parallel()
	t.Run("Allow", func(t *testing.T) {
		accesstest.TestAuthorizer(t, func(*testing.T) access.Authorizer { return accesstest.Allow() }, read)
	})
	t.Run("Deny", func(t *testing.T) {
		accesstest.TestAuthorizer(t, func(*testing.T) access.Authorizer { return accesstest.Deny() })
	})
	t.Run("Rules", func(t *testing.T) {
		other := accesstest.Rule{Role: "billing", Action: access.Search, Type: "encounter", Purpose: access.Payment}
		accesstest.TestAuthorizer(t, func(*testing.T) access.Authorizer {
			return &accesstest.Fake{Rules: []accesstest.Rule{read, other}}
		}, read, other)
	})
}

func TestFakeDecidesByItsRules(t *testing.T) {
	t.Parallel()
	f := &accesstest.Fake{Rules: []accesstest.Rule{read, {Role: "", Action: "*", Type: "*", Purpose: "*"}}}
	req := access.Request{Action: access.Read, Resources: []access.Resource{{Type: "patient", Tenant: accesstest.Tenant}}}
	for _, tt := range []struct {
		role    string
		purpose access.Purpose
		want    access.Code
	}{
		{"nurse", access.Treatment, access.AllowRule},
		{"nurse", access.Payment, access.DenyPurpose},
		{"billing", access.Treatment, access.DenyNoRule},
	} {
		d, err := f.Check(accesstest.As(t, t.Context(), tt.role, tt.purpose), req)
		if err != nil || d.Verdicts[0].Code != tt.want {
			t.Errorf("%s for %s: %+v, %v; want %s", tt.role, tt.purpose, d, err, tt.want)
		}
	}
	if n := len(f.Calls()); n != 3 {
		t.Errorf("%d calls noted, want 3", n)
	}
}

func TestFakeFailsAsTold(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	f := accesstest.Allow()
	f.FailAfter(2, broken)
	ctx := accesstest.As(t, t.Context(), "nurse", access.Treatment)
	for i := range 4 {
		_, err := f.Filter(ctx, access.Read, "patient")
		if want := i >= 2; errors.Is(err, broken) != want {
			t.Errorf("call %d: %v, want failure %v", i+1, err, want)
		}
	}
}

func TestFakeTakesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := accesstest.Allow()
		f.Delay(time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := f.Check(accesstest.As(t, ctx, "nurse", access.Treatment), access.Request{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("Check = %v after %v, want the deadline after 1s", err, time.Since(began))
		}
	})
}

func TestAsIsOpaqueAndRepeats(t *testing.T) {
	t.Parallel()
	a, b := accesstest.Principal("t-1", "nurse"), accesstest.Principal("t-1", "nurse")
	if a.ID != b.ID || a.ID == accesstest.Principal("t-2", "nurse").ID || a.ID == accesstest.Principal("t-1", "admin").ID {
		t.Error("IDs do not follow tenant and roles")
	}
	if err := a.Validate(); err != nil {
		t.Error(err)
	}
	p, ok := access.PrincipalFrom(accesstest.As(t, t.Context(), "nurse", ""))
	if !ok || p.Tenant != accesstest.Tenant || len(p.Roles) != 1 || p.Roles[0] != "nurse" {
		t.Errorf("principal = %+v, %v", p, ok)
	}
}

// As fails the test that asks for a purpose that is none.
func TestAsRefusesAnUnknownPurpose(t *testing.T) {
	t.Parallel()
	rec := &recordingTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		accesstest.As(rec, context.Background(), "nurse", "CURIOSITY")
	}()
	<-done
	if !rec.failed {
		t.Error("As took an unknown purpose")
	}
}

type recordingTB struct {
	testing.TB
	failed bool
}

func (r *recordingTB) Helper()               {}
func (r *recordingTB) Fatalf(string, ...any) { r.failed = true }

func ExampleFake() {
	f := &accesstest.Fake{Rules: []accesstest.Rule{
		{Role: "nurse", Action: access.Read, Type: "patient", Purpose: access.Treatment},
	}}
	p := accesstest.Principal("t-1", "nurse")
	ctx := access.With(context.Background(), p, access.Treatment)

	_, err := f.Filter(ctx, access.Read, "patient")
	fmt.Println(err)
	_, err = f.Filter(ctx, access.Delete, "patient")
	fmt.Println(errors.Is(err, access.ErrDenied))
	// Output:
	// <nil>
	// true
}
