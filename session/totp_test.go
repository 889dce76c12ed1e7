// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"crypto/fips140"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/session"
	"github.com/part164/part164/session/sessiontest"
)

// rfcKey is the key of the test vectors of RFC 6238, appendix B.
var rfcKey = []byte("12345678901234567890")

// vectors are those of the appendix, cut to six digits.
var vectors = []struct {
	unix int64
	code string
}{
	{59, "287082"}, {1111111109, "081804"}, {1111111111, "050471"}, {1234567890, "005924"}, {2000000000, "279037"}, {20000000000, "353130"},
}

func TestTOTPVectors(t *testing.T) {
	t.Parallel()
	needsSHA1(t)
	e := session.Enrolment{URI: session.OTPAuthURI("Issuer", "login", rfcKey)}
	for _, v := range vectors {
		if got := sessiontest.Code(t, e, time.Unix(v.unix, 0)); got != v.code {
			t.Errorf("the kit's code at %d = %s, want %s", v.unix, got, v.code)
		}
		for _, c := range []struct {
			name  string
			after int64 // seconds after the code's own time
			last  int64 // steps before the code's own
			want  bool
		}{
			{"in its step", 0, 1, true},
			{"in the next step", 30, 1, true},
			{"two steps later", 60, 1, false},
			{"a step early", -30, 1, false},
			{"used", 0, 0, false},
			{"used, in the next step", 30, 0, false},
		} {
			own := v.unix / 30
			step, ok := session.MatchTOTP(rfcKey, v.code, own-c.last, v.unix+c.after)
			if ok != c.want || ok && step != own {
				t.Errorf("%s at %d: step %d, %v, want %d, %v", c.name, v.unix, step, ok, own, c.want)
			}
		}
	}
	for _, code := range []string{"", "28708", "2870820", "28708a", "２８７０８２", "-87082"} {
		if _, ok := session.MatchTOTP(rfcKey, code, 0, 59); ok {
			t.Errorf("%q is taken for 287082", code)
		}
	}
}

// TestTwoStepsWithOneCode: where two neighbouring steps have one code, the
// newest is used up, and with it the other.
func TestTwoStepsWithOneCode(t *testing.T) {
	t.Parallel()
	needsSHA1(t)
	e := session.Enrolment{URI: session.OTPAuthURI("Issuer", "login", rfcKey)}
	const n = 910738 // the first such step with this key
	at := time.Unix(n*30, 0)
	code := sessiontest.Code(t, e, at)
	if code != sessiontest.Code(t, e, at.Add(-30*time.Second)) {
		t.Fatal("the two steps have different codes")
	}
	if step, ok := session.MatchTOTP(rfcKey, code, n-2, n*30); !ok || step != n {
		t.Errorf("step = %d, %v, want the newest, %d", step, ok, n)
	}
	if _, ok := session.MatchTOTP(rfcKey, code, n, n*30); ok {
		t.Error("the code is taken again")
	}
}

func needsSHA1(t *testing.T) {
	t.Helper()
	if fips140.Enforced() {
		t.Skip("needs SHA-1, which a FIPS-only process refuses")
	}
}

func TestOTPAuthURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ issuer, login string }{
		{"Elm Street Clinic", "nora@clinic.example"}, {"A&B Clinic", "a&b=c"}, {"100% + #1 / ?", "jörg+x%20"}, {`"Quote" <b>`, "naïve/user?q#f"},
	} {
		raw := session.OTPAuthURI(c.issuer, c.login, rfcKey)
		u, err := url.Parse(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		q := u.Query()
		secret := base32.StdEncoding.EncodeToString(rfcKey)
		if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/"+c.issuer+":"+c.login || u.Fragment != "" || len(q) != 5 ||
			q.Get("issuer") != c.issuer || q.Get("secret") != secret || q.Get("algorithm") != "SHA1" || q.Get("digits") != "6" || q.Get("period") != "30" {
			t.Errorf("%q, %q: %s", c.issuer, c.login, raw)
		}
		if strings.ContainsAny(raw, "+ ") {
			t.Errorf("%s: apps show a plus for a space", raw)
		}
	}
}

func TestOathtoolAgrees(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("oathtool")
	if err != nil {
		t.Skip("needs oathtool (package oathtool)")
	}
	for _, sha256 := range []bool{false, true} {
		if !sha256 && fips140.Enforced() {
			continue
		}
		b := setup(t, func(c *session.Config) { c.SHA256TOTP = sha256 })
		mode := "--totp=sha1"
		if sha256 {
			mode = "--totp=sha256"
		}
		out, err := exec.Command(tool, mode, "--base32", "--now", "@"+fmt.Sprint(b.clock.Now().Unix()), b.phone.Secret).Output()
		if err != nil {
			t.Fatal(err)
		}
		code := strings.TrimSpace(string(out))
		if code != b.code(t) {
			t.Errorf("%s: oathtool shows %s, the kit %s", mode, code, b.code(t))
		}
		if shown, err := b.DevelopmentCode(t.Context(), tenant, b.nurse.ID); err != nil || shown != code {
			t.Errorf("%s: DevelopmentCode = %s, %v, oathtool %s", mode, shown, err, code)
		}
		if _, err := b.TOTP(t.Context(), b.password(t), code, sessiontest.Addr()); err != nil {
			t.Errorf("%s: the code of oathtool: %v", mode, err)
		}
	}
}

func TestDevelopmentEnrol(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u, err := b.CreateUser(t.Context(), session.NewUser{Tenant: tenant, Login: "demo", Password: sessiontest.Password})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.DevelopmentEnrol(t.Context(), tenant, u.ID); err != nil {
		t.Fatal(err)
	}
	code, err := b.DevelopmentCode(t.Context(), tenant, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.attempt("demo", sessiontest.Password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.TOTP(t.Context(), in.Token, code, sessiontest.Addr()); err != nil {
		t.Errorf("the code that is shown: %v", err)
	}
}

// TestSealerOfCrypto signs in with the sealer that apps use.
func TestSealerOfCrypto(t *testing.T) {
	t.Parallel()
	kek, err := crypto.LocalKEK(filepath.Join(t.TempDir(), "keys", "kek.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := kek.Generate(); err != nil {
		t.Fatal(err)
	}
	st := &swapped{Store: session.NewMemory()}
	b := setup(t, func(c *session.Config) { c.Sealer, c.Store = crypto.NewSealer(kek), st })
	b.signIn(t)
	b.clock.Advance(30 * time.Second)
	mallory, phone := sessiontest.NewUser(t, b.Manager, b.clock, tenant, "mallory")
	st.from, st.to = mallory.ID, b.nurse.ID
	if _, err := b.TOTP(t.Context(), b.password(t), sessiontest.Code(t, phone, b.clock.Now()), sessiontest.Addr()); !errors.Is(err, crypto.ErrOpen) {
		t.Errorf("Mallory's secret in the nurse's row: %v, want crypto.ErrOpen", err)
	}
}
