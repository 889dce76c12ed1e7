// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

const (
	salt, hash = "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	goodArgon  = "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + hash
	goodPBKDF2 = "$pbkdf2-sha256$i=600000$" + salt + "$" + hash
)

func TestPHC(t *testing.T) {
	t.Parallel()
	for _, s := range []string{goodArgon, goodPBKDF2} {
		if got, err := session.RoundTripPHC(s); err != nil || got != s {
			t.Errorf("%s comes back as %s, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "$", "plain", strings.TrimPrefix(goodArgon, "$"), goodArgon + "$",
		strings.Replace(goodArgon, "v=19", "v=16", 1), strings.Replace(goodArgon, "argon2id", "argon2i", 1),
		strings.Replace(goodArgon, "m=19456", "m=4294967295", 1), strings.Replace(goodArgon, "m=19456", "m=0", 1),
		strings.Replace(goodArgon, "t=2", "t=0", 1), strings.Replace(goodArgon, "t=2", "t=99999", 1),
		strings.Replace(goodArgon, "p=1", "p=0", 1), strings.Replace(goodArgon, "p=1", "p=255", 1),
		strings.Replace(goodArgon, "p=1", "p=1,x=2", 1), strings.Replace(goodArgon, salt, "AAAA", 1), strings.Replace(goodArgon, hash, "", 1),
		strings.Replace(goodPBKDF2, "i=600000", "i=0", 1), strings.Replace(goodPBKDF2, "i=600000", "i=4000000000", 1),
		strings.Replace(goodPBKDF2, "i=600000", "600000", 1),
	} {
		if got, err := session.RoundTripPHC(s); err == nil {
			t.Errorf("%s is taken for %s", s, got)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add(goodArgon)
	f.Add(goodPBKDF2)
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		once, err := session.RoundTripPHC(s)
		if err != nil {
			if strings.Contains(err.Error(), s) && len(s) > 8 {
				t.Errorf("the error holds what it refused: %v", err)
			}
			return
		}
		if twice, err := session.RoundTripPHC(once); err != nil || twice != once {
			t.Errorf("%q comes back as %q, %v", once, twice, err)
		}
	})
}

// TestDefaultCost signs in with the production parameters.
func TestDefaultCost(t *testing.T) {
	t.Parallel()
	var got []session.Derivation
	b := setup(t, func(c *session.Config) { c.KDF = session.KDF{} })
	session.OnDerive(b.Manager, func(d session.Derivation) { got = append(got, d) })
	b.signIn(t)
	want := session.Derivation{KDF: session.KDF{Memory: 19456, Time: 2, Threads: 1}}
	if fips140.Enforced() {
		want = session.Derivation{PBKDF2: true, KDF: session.KDF{Iterations: 600_000}}
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("derivations = %+v, want one of %+v", got, want)
	}
}

// TestFIPS runs the tests of this process again with FIPS 140 enforced, and
// there checks what it refuses.
func TestFIPS(t *testing.T) {
	if !fips140.Enforced() {
		t.Parallel()
		cmd := exec.Command(os.Args[0], "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS/") {
			t.Errorf("with GODEBUG=fips140=only: %v\n%s", err, out)
		}
		return
	}
	t.Run("SHA-1 codes are refused, SHA-256 codes sign in", func(t *testing.T) {
		cfg, rec, clock := sessiontest.Config(t)
		cfg.SHA256TOTP = false
		m, err := session.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		u, err := m.CreateUser(t.Context(), session.NewUser{Tenant: tenant, Login: "nora", Password: sessiontest.Password})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.BindTOTP(t.Context(), tenant, u.ID)
		wantErr(t, "BindTOTP", err, session.ErrFIPS)
		wantErr(t, "DevelopmentEnrol", m.DevelopmentEnrol(t.Context(), tenant, u.ID), session.ErrFIPS)
		cfg.SHA256TOTP = true
		if m, err = session.New(cfg); err != nil {
			t.Fatal(err)
		}
		u, e := sessiontest.NewUser(t, m, clock, tenant, "nancy")
		var got []session.Derivation
		session.OnDerive(m, func(d session.Derivation) { got = append(got, d) })
		sessiontest.SignIn(t, m, clock, u, e)
		if len(got) != 1 || !got[0].PBKDF2 {
			t.Errorf("derivations = %+v, want one of PBKDF2", got)
		}
		if n := rec.Count(audit.SignIn, ""); n != 1 {
			t.Errorf("%d sign-ins recorded, want 1", n)
		}
	})
}

// TestAccountsFromBeforeFIPS: a process that becomes FIPS-only refuses the old
// factors without saying more than it should, and without a panic.
func TestAccountsFromBeforeFIPS(t *testing.T) {
	t.Parallel()
	needsSHA1(t)
	b := setup(t)
	pending := b.password(t)
	session.SetFIPS(b.Manager, true)
	var got []session.Derivation
	session.OnDerive(b.Manager, func(d session.Derivation) { got = append(got, d) })
	_, err := b.attempt("nora@clinic.example", sessiontest.Password)
	wantErr(t, "an argon2id hash in a FIPS-only process", err, session.ErrSignIn)
	_, err = b.attempt("nobody", sessiontest.Password)
	wantErr(t, "nobody", err, session.ErrSignIn)
	if len(got) != 2 || got[0] != got[1] || !got[0].PBKDF2 {
		t.Errorf("derivations = %+v, want two equal ones of PBKDF2", got)
	}
	_, err = b.TOTP(t.Context(), pending, b.code(t), sessiontest.Addr())
	wantErr(t, "a SHA-1 code", err, session.ErrFIPS)
	_, err = b.TOTP(t.Context(), pending, b.code(t), sessiontest.Addr())
	wantErr(t, "once more", err, session.ErrPending)
	if err := b.SetPassword(t.Context(), tenant, b.nurse.ID, sessiontest.Password); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(time.Minute)
	b.password(t)
	session.SetFIPS(b.Manager, false)
	b.password(t) // a PBKDF2 hash is good everywhere
}
