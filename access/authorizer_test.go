// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/part164/part164/access"
)

func TestZeroDecisionDenies(t *testing.T) {
	t.Parallel()
	yes, no := access.Verdict{Allow: true}, access.Verdict{}
	for _, tt := range []struct {
		name     string
		verdicts []access.Verdict
		n        int
		want     bool
	}{
		{"zero", nil, 1, false},
		{"nothing asked", nil, 0, false},
		{"nothing asked, something answered", []access.Verdict{yes}, 0, false},
		{"negative", []access.Verdict{yes}, -1, false},
		{"one", []access.Verdict{yes}, 1, true},
		{"all", []access.Verdict{yes, yes}, 2, true},
		{"one of two", []access.Verdict{yes, no}, 2, false},
		{"fewer answers than questions", []access.Verdict{yes}, 2, false},
		{"more answers than questions", []access.Verdict{yes, no}, 1, true},
	} {
		d := access.Decision{Verdicts: tt.verdicts}
		if got := d.AllowAll(tt.n); got != tt.want {
			t.Errorf("%s: AllowAll(%d) = %v, want %v", tt.name, tt.n, got, tt.want)
		}
	}
	d := access.Decision{Verdicts: []access.Verdict{yes}}
	if d.Allow(-1) || d.Allow(1) || !d.Allow(0) {
		t.Error("Allow outside the verdicts")
	}
}

func TestCheckDecisionID(t *testing.T) {
	t.Parallel()
	const hex = "0123456789abcdef0123456789abcdef"
	for _, id := range []string{hex, strings.Repeat("7", 32), "0198c5d2-7f3b-7a10-8e5c-3d1f0a9b2c4d"} {
		if err := access.CheckDecisionID(id); err != nil {
			t.Errorf("CheckDecisionID(%q) = %v", id, err)
		}
	}
	for _, id := range []string{"", "d-1", hex[1:], hex + "0", strings.ToUpper(hex), "x" + hex[1:], "JaneRoeJaneRoeJaneRoeJaneRoeJane",
		"Jane-Roe-1980", "0198c5d2.7f3b-7a10-8e5c-3d1f0a9b2c4d", hex[:31] + "\n"} {
		if err := access.CheckDecisionID(id); err == nil || id != "" && strings.Contains(err.Error(), id) {
			t.Errorf("CheckDecisionID(%q) = %v", id, err)
		}
	}
}

func TestDeniedErrorIsErrDenied(t *testing.T) {
	t.Parallel()
	var err error = &access.DeniedError{Action: access.Read, Resource: "patient", Code: access.DenyPurpose, Decision: "d-1"}
	err = fmt.Errorf("storage: reveal: %w", err)
	var de *access.DeniedError
	if !errors.Is(err, access.ErrDenied) || !errors.As(err, &de) || de.Decision != "d-1" {
		t.Errorf("%v is not a DeniedError", err)
	}
	if errors.Is(err, access.ErrNoPurpose) {
		t.Error("it is another error as well")
	}
	if want := "storage: reveal: access: read patient: denied (DENY_PURPOSE, decision d-1)"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
}

func TestPurposesAreTheValidOnes(t *testing.T) {
	t.Parallel()
	seen := make(map[access.Purpose]bool)
	for _, p := range access.Purposes() {
		if !p.Valid() || seen[p] {
			t.Errorf("%s is not valid, or stands twice", p)
		}
		seen[p] = true
	}
	if len(seen) != 62 {
		t.Errorf("%d purposes, want 62", len(seen))
	}
	for _, p := range []access.Purpose{"", "TREATMENT", "treat", "*", "PurposeOfUse", "SYSADMN"} {
		if p.Valid() || p.Parent() != "" || p.IsA(p) || p.IsA("") || p.IsA(access.Treatment) || access.Treatment.IsA(p) {
			t.Errorf("%q is valid, or a kind of something", p)
		}
	}
}

func TestPurposeIsA(t *testing.T) {
	t.Parallel()
	for p, parent := range map[access.Purpose]access.Purpose{
		"TREAT": "", "COC": "TREAT", "ETREAT": "TREAT", "BTG": "ETREAT", "ERTREAT": "ETREAT", "CAREMGT": "HOPERAT",
		"HSYSADMIN": "HOPERAT", "LABELING": "HSYSADMIN", "HTEST": "SYSDEV", "MILDCRG": "COVERAGE", "COVERAGE": "HPAYMT",
		"CLINTRCHNPC": "CLINTRCH", "CLINTRCH": "HRESCH", "PWATRNY": "PATRQT", "THREAT": "PUBHLTH", "HMARKT": "",
	} {
		if p.Parent() != parent {
			t.Errorf("%s is a kind of %q, want %q", p, p.Parent(), parent)
		}
	}
	seen := make(map[string]bool)
	for _, p := range access.Purposes() {
		for _, q := range access.Purposes() {
			want := p == q
			for up := p.Parent(); up != ""; up = up.Parent() {
				want = want || up == q
			}
			if p.IsA(q) != want {
				t.Errorf("%s.IsA(%s) = %v", p, q, !want)
			}
		}
		if d := p.Display(); d == "" || d == string(p) || seen[d] {
			t.Errorf("%s is displayed as %q", p, d)
		} else {
			seen[d] = true
		}
		if p.Emergency() != (p == "ETREAT" || p == "BTG") {
			t.Errorf("%s.Emergency() = %v", p, p.Emergency())
		}
	}
}

func TestDeviationNamesTheMissingField(t *testing.T) {
	t.Parallel()
	full := access.Deviation{Citation: "164.312(a)(2)(iv)", Reason: "r", Alternative: "a", Owner: "o", ReviewBy: time.Now()}
	if err := full.Validate(); err != nil {
		t.Error(err)
	}
	for field, spoil := range map[string]func(*access.Deviation){
		"Citation":    func(d *access.Deviation) { d.Citation = "" },
		"Reason":      func(d *access.Deviation) { d.Reason = "" },
		"Alternative": func(d *access.Deviation) { d.Alternative = "" },
		"Owner":       func(d *access.Deviation) { d.Owner = "" },
		"ReviewBy":    func(d *access.Deviation) { d.ReviewBy = time.Time{} },
	} {
		d := full
		spoil(&d)
		if err := d.Validate(); err == nil || !strings.Contains(err.Error(), "Deviation."+field) {
			t.Errorf("without %s: %v", field, err)
		}
	}
}
