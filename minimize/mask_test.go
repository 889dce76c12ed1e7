// SPDX-License-Identifier: Apache-2.0

package minimize

import (
	"errors"
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		view View
		c    Class
		text string
		want string
	}{
		{Withhold, Name, "Jane Roe", "[PHI:name]"},
		{Withhold, "", "Jane Roe", "[PHI]"},
		{Withhold, Name, "", "[PHI:name]"},
		{Reveal, Name, "Jane Roe", "Jane Roe"},
		{Reveal, "nonsense", "Jane Roe", "[PHI]"},
		{View(99), Name, "Jane Roe", "[PHI:name]"},
		{Pseudonym, Name, "Jane Roe", "[PHI:name]"},
		{Scrub, Text, "Jane Roe", "[PHI:text]"},
		{Mask, Clinical, "HIV positive", "[PHI:clinical]"},
		{Mask, Name, "Jane Roe", "J*** R***"},
		{Mask, Name, "Örjan  Ågren", "Ö*** Å***"},
		{Mask, Name, "", ""},
		{Mask, SSN, "123-45-6789", "***-**-6789"},
		{Mask, SSN, "123456789", "***-**-6789"},
		{Mask, Phone, "(617) 555-0123", "***-***-0123"},
		{Mask, Fax, "+49 30 1234567", "***-***-4567"},
		{Mask, Phone, "555-0123", "***-**23"},
		{Mask, Email, "jane@example.org", "j***@e***.org"},
		{Mask, MRN, "MRN-0012345", "***345"},
		{Mask, Plan, "1EG4-TE5-MK73", "***MK73"},
		{Generalise, Name, "Jane Roe", "[PHI:name]"},
		{Generalise, City, "Boston", "[PHI:city]"},
		{Generalise, ZIP, "02139", "021"},
		{Generalise, Age, "45", "40-49"},
		{Generalise, Age, "forty-five", "[PHI:age]"},
		{Generalise, Age, "-1", "[PHI:age]"},
	} {
		if got := Apply(tt.view, tt.c, tt.text); got != tt.want {
			t.Errorf("Apply(%v, %s, %q) = %q, want %q", tt.view, tt.c, tt.text, got, tt.want)
		}
	}
}

func TestMaskNeverShowsAShortValue(t *testing.T) {
	t.Parallel()
	for c, texts := range map[Class][]string{
		Name:    {"J", "Li", "J.", " ", "*"},
		SSN:     {"6789", "45-6789", "123-45-678", "1234567890", "12345678a", "123-45-678\xff9"},
		Phone:   {"911", "55501", "123456"},
		Fax:     {"1"},
		Email:   {"", "jane", "@", "jane@localhost", "jane@example.", "jane@example.x", "see jane@example.org for more", "a@b.<i>", "jane@10.0.0.1"},
		MRN:     {"1", "345", "123456", "MRN 12"},
		Plan:    {"MK73", "12345678"},
		Account: {"1234"},
	} {
		for _, text := range texts {
			got := Apply(Mask, c, text)
			if text != "" && got != stars {
				t.Errorf("Apply(Mask, %s, %q) = %q, want %q", c, text, got, stars)
			}
		}
	}
	if got := Apply(Mask, Email, "jo@x.org"); got != "***@***.org" {
		t.Errorf("short e-mail parts: %q", got)
	}
	if got := Apply(Mask, Name, "Li Wang"); got != "*** W***" {
		t.Errorf("short name: %q", got)
	}
}

func TestZIP3(t *testing.T) {
	t.Parallel()
	for zip, want := range map[string]string{
		"02139": "021", "02139-4307": "021", "021394307": "021", " 02139": "021",
		"03601": "000", "20310": "000", "89301-1234": "000", "36912": "000", // small areas
		"09012": "000", "96201": "000", // military
		"": "000", "021": "000", "2139": "000", "K1A 0B1": "000", "0213x": "000", "02139-": "021", "02139-430": "000", "0213943070": "000", "-02139": "000",
	} {
		if got := ZIP3(zip); got != want {
			t.Errorf("ZIP3(%q) = %q, want %q", zip, got, want)
		}
	}
}

func TestGeneraliseDates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c    Class
		text string
		want string
	}{
		{DOB, "1980-02-29", "1980"},
		{DOB, "1980", "1980"},
		{DOB, "02/29/1980", "1980"},
		{DOB, "19800229", "1980"},
		{Date, "2026-11-22T10:00:00.123+01:00", "2026"},
		{DOB, "1937-01-01", "1937"}, // 89
		{DOB, "1936-12-31", "90+"},  // 90 this year
		{DOB, "1936", "90+"},
		{DOB, "1900-01-01", "90+"},
		{Date, "1936-05-01", "90+ years ago"},
		{DOB, "born in 1980", ""},
		{DOB, "1980-02-30", ""},
		{DOB, "0000", ""},
	} {
		b, ok := appendView(nil, Generalise, tt.c, tt.text, 2026)
		if string(b) != tt.want || ok != (tt.want != "") {
			t.Errorf("%s %q generalised: %q %v, want %q", tt.c, tt.text, b, ok, tt.want)
		}
	}
	for age, want := range map[string]string{"0": "0-9", "89": "80-89", "90": "90+", "104": "90+"} {
		if got := Apply(Generalise, Age, age); got != want {
			t.Errorf("age %s generalised: %q, want %q", age, got, want)
		}
	}
}

func TestCheckInput(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c    Class
		text string
		ok   bool
	}{
		{Name, "Jane Roe", true}, {Name, "", true}, {SSN, "123-45-6789", true}, {ZIP, "02139", true},
		{DOB, "1980-02-29", true}, {DOB, "1980", true}, {Age, "45", true},
		{Text, "BP 120/80 *** see note", true}, {Operational, "withheld", true},
		{Name, "[PHI:name]", false}, {SSN, " [phi:name] ", false}, {Text, "Pt [PHI:name] seen", false}, {Name, "[PHI]", false},
		{Allergy, "withheld", false}, {Allergy, "Unavailable", false},
		{Text, `<span class="phi-withheld" title="x">withheld</span>`, false},
		{Name, "J*** R***", false}, {SSN, "***-**-6789", false}, {MRN, "***", false}, {Email, "j***@e***.org", false},
		{ZIP, "021", false}, {ZIP, "000", false}, {Age, "40-49", false}, {Age, "90+", false}, {DOB, "90+", false}, {Date, longAgo, false},
	} {
		err := CheckInput(tt.c, tt.text)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrMaskedInput) {
			t.Errorf("CheckInput(%s, %q) = %v, want ok %v", tt.c, tt.text, err, tt.ok)
		}
		if err != nil && strings.Contains(err.Error(), tt.text) && tt.text != "withheld" {
			t.Errorf("error holds the text: %v", err)
		}
	}
}

func TestCheckInputRefusesEveryMask(t *testing.T) {
	t.Parallel()
	values := []string{"Jane Roe", "123-45-6789", "6175550123", "jane@example.org", "0012345678", "02139", "45", "x"}
	for _, c := range Classes() {
		if err := CheckInput(c, Placeholder(c)); err == nil {
			t.Errorf("%s: placeholder accepted as input", c)
		}
		if !Mask.fits(c) {
			continue
		}
		for _, text := range values {
			if err := CheckInput(c, Apply(Mask, c, text)); err == nil {
				t.Errorf("%s: mask of %q accepted as input", c, text)
			}
		}
	}
}

func TestCheckChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c            Class
		stored, text string
		ok           bool
	}{
		{DOB, "1980-02-29", "1980", false},
		{DOB, "1980-02-29", "1981", true},
		{DOB, "1980", "1980", true},
		{SSN, "123-45-6789", "***-**-6789", false},
		{Name, "Jane Roe", "Jane Doe", true},
		{Name, "", "Jane Doe", true},
		{Name, "Jane Roe", "", true},
	} {
		if err := CheckChange(tt.c, tt.stored, tt.text); (err == nil) != tt.ok {
			t.Errorf("CheckChange(%s, %q, %q) = %v, want ok %v", tt.c, tt.stored, tt.text, err, tt.ok)
		}
	}
}
