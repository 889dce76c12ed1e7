// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"strings"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

// Confirm takes the password of whoever is signed in, and nobody else's.
func TestConfirm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, err := b.Authenticate(t.Context(), b.signIn(t), sessiontest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b.rec.Take()
	if err := b.Confirm(t.Context(), p, sessiontest.Password); err != nil {
		t.Errorf("the password: %v", err)
	}
	if evs := b.rec.Take(); len(evs) != 0 {
		t.Errorf("a password that is right recorded %+v", evs)
	}
	other := p
	other.ID = "u-nobody"
	elsewhere := p
	elsewhere.Tenant = "elsewhere"
	for name, tt := range map[string]struct {
		p        access.Principal
		password string
	}{
		"another password":    {p, "not the password"},
		"no password":         {p, ""},
		"far too long":        {p, strings.Repeat("x", 2000)},
		"nobody":              {other, sessiontest.Password},
		"nobody's, elsewhere": {elsewhere, sessiontest.Password},
	} {
		wantErr(t, name, b.Confirm(t.Context(), tt.p, tt.password), session.ErrSignIn)
		if evs := b.rec.Take(); len(evs) != 1 || evs[0].Type != audit.SignInFailed || evs[0].Reason != audit.ReasonPassword || evs[0].Actor.ID != tt.p.ID {
			t.Errorf("%s: recorded %+v", name, evs)
		}
	}
	out := p
	out.Session = ""
	wantErr(t, "without a session", b.Confirm(t.Context(), out, sessiontest.Password), session.ErrNoSession)
	wantErr(t, "by nobody", b.Confirm(t.Context(), access.Principal{}, sessiontest.Password), session.ErrNoSession)
	if err := b.Disable(t.Context(), tenant, p.ID); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "who is disabled", b.Confirm(t.Context(), p, sessiontest.Password), session.ErrSignIn)
}

// Who holds a session has no more tries at the password than anybody else.
func TestConfirmIsThrottled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, err := b.Authenticate(t.Context(), b.signIn(t), sessiontest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // what is right costs no try
		if err := b.Confirm(t.Context(), p, sessiontest.Password); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		wantErr(t, "a guess", b.Confirm(t.Context(), p, "a guess"), session.ErrSignIn)
	}
	wantErr(t, "the sixth guess", b.Confirm(t.Context(), p, "a guess"), session.ErrLocked)
	wantErr(t, "the password after it", b.Confirm(t.Context(), p, sessiontest.Password), session.ErrLocked)
	_, err = b.attempt("nora@clinic.example", sessiontest.Password)
	wantErr(t, "a sign-in after it", err, session.ErrLocked)
}

// A refusal that cannot be recorded is still one.
func TestConfirmThatIsNotRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, err := b.Authenticate(t.Context(), b.signIn(t), sessiontest.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b.rec.Fail(audit.ErrUnavailable)
	wantErr(t, "a guess", b.Confirm(t.Context(), p, "a guess"), audit.ErrUnavailable)
}
