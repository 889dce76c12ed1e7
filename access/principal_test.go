// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/access"
)

func TestCheckID(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"u", "u-17", "17", "123456", "t_1.a:b-c",
		"0198c5d2-7f3b-7a10-8e5c-3d1f0a9b2c4d", "0198C5D2-7F3B-7A10-8E5C-3D1F0A9B2C4D",
		"00000000-0000-0000-0000-000000000000", "12345678-1234-1234-1234-123456789012",
		"01JD3Z7X9Q8W5V4T2R1P0N6M", "u-123456789012345678", strings.Repeat("x", 64),
		"mrn", "mrn-x1", "ssnake-1", "mr-12345678", "a1.22.333",
		// What programs number, draw and name: none of it is a shape of a person's.
		"u-19710314", "u-078051120", "p6175550199", "patient:12345678", "t_1:patient:00123", "tel-1", "phone-3", "dob-3",
		"u-2026-11", "r-1999-13-01", "r-12-31-99", "r-2026-11-2", "v2026.1.3-rc.4", "job-2026-W47-1", "ip-10-0-12-34",
		"arn:aws:kms:us-east-1:123456789012:key", "1-5759e988-bd862e3fe1be46a994272793", "a-1-22-333-4444", "web-7d9f8b6c5-x2x4z",
		"01JDMRN7X9Q8W5V4T2R1P0N6M4", "x5tel6175550199", "snap-20261122T0300",
	} {
		if err := access.CheckID(good); err != nil {
			t.Errorf("CheckID(%q) = %v", good, err)
		}
	}
	for _, tt := range []struct{ bad, want string }{
		{"", "empty"},
		{strings.Repeat("x", 65), "longer"},
		{"jane@example.org", "e-mail"},
		{"@", "e-mail"},
		{"Jane Roe", "character"},
		{"Müller", "character"},
		{"u/1", "character"},
		{"u\x00", "character"},
		{"u\n", "character"},
		{"*", "character"},
		{"123-45-6789", "social security"},
		{"123456789", "social security"},
		{"123.45.6789", "social security"},
		{"123_45_6789", "social security"},
		{"u-123-45-6789", "social security"},
		{"123-45-6789-x", "social security"},
		{"pat:123-45-6789", "social security"},
		{"555-123-4567", "phone"},
		{"1-555-123-4567", "phone"},
		{"555.123.4567", "phone"},
		{"tel:555-123-4567", "phone"},
		{"5551234", "phone"},
		{"0012345678", "record"},
		{"MRN0012345", "record"},
		{"mrn-12", "record"},
		{"000-00-0000", "social security"},
		{"078.05-1120", "social security"},
		{"ssn_078-05-1120", "social security"},
		{"patient.078-05-1120", "social security"},
		{"1.617.555.0199", "phone"},
		{"x617-555-0199", "phone"},
		{"fax:617-555-0199:2", "phone"},
		{"6175550199", "phone"},
		{"MRN:12345", "record"},
		{"jane.roe@clinic.example", "e-mail"},
		{"(617)555-0199", "character"},
		{"617 555 0199", "character"},
		{"1971-03-14T00/00", "character"},
		{"Mrn:_.00-12", "record"},
		{"SSN123456789", "social security"},
		{"ssn:078:05:1120", "social security"},
		{"p078_05_1120", "social security"},
		{"x-7-078-05-1120", "social security"},
		{"617:555:0199-x", "phone"},
		{"a1_617_555_0199_2", "phone"},
		{"tel:6175550199", "phone"},
		{"t-1.fax_5550199", "phone"},
		{"medrec-0012345", "record"},
		{"patient:mrn:12", "record"},
		{"x_SSN-078051120", "social security"},
		{"roe-1971-03-14", "date"},
		{"jr_1971_03_14", "date"},
		{"roe.14.03.1971", "date"},
		{"03-14-1971-roe", "date"},
		{"r-2026:11:22:1", "date"},
		{"1971-03-14", "number"},
		{"dob:031471", "number"},
		{"12345678-1234-1234-1234-12345678901.", "record"}, // shaped like a UUID, but
		{"12345678.1234-1234-1234-123456789012", "record"},
	} {
		err := access.CheckID(tt.bad)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("CheckID(%q) = %v, want %q", tt.bad, err, tt.want)
			continue
		}
		if len(tt.bad) > 1 && strings.Contains(err.Error(), tt.bad) {
			t.Errorf("CheckID(%q) repeats it: %v", tt.bad, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"patient", "lab_result", "clinic.patient", "Read2", "_x", strings.Repeat("x", 64)} {
		if err := access.CheckName(good); err != nil {
			t.Errorf("CheckName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", "2nd", ".x", "lab-result", "a b", "a*", "*", "é", "a\n", "jane@example.org", strings.Repeat("x", 65)} {
		if err := access.CheckName(bad); err == nil {
			t.Errorf("CheckName(%q) = nil", bad)
		}
	}
}

func TestBadPrincipalsAreDeniedEverythingWithTheReason(t *testing.T) {
	t.Parallel()
	for field, spoil := range map[string]func(*access.Principal){
		"ID is empty":             func(p *access.Principal) { p.ID = "" },
		"ID looks like an e":      func(p *access.Principal) { p.ID = "jane@example.org" },
		"ID looks like a phone":   func(p *access.Principal) { p.ID = "555-123-4567" },
		"ID looks like":           func(p *access.Principal) { p.ID = "123-45-6789" },
		"ID looks":                func(p *access.Principal) { p.ID = "MRN-00123" },
		"ID is longer":            func(p *access.Principal) { p.ID = strings.Repeat("x", 65) },
		"ID has a character":      func(p *access.Principal) { p.ID = "Jane Roe" },
		"Tenant is empty":         func(p *access.Principal) { p.Tenant = "" },
		"Tenant looks like":       func(p *access.Principal) { p.Tenant = "clinic@example.org" },
		"Kind":                    func(p *access.Principal) { p.Kind = "" },
		"Kind is not":             func(p *access.Principal) { p.Kind = "robot" },
		"Roles: a role is empty":  func(p *access.Principal) { p.Roles = []string{"nurse", ""} },
		"Roles: a role looks":     func(p *access.Principal) { p.Roles = []string{"jane@example.org"} },
		"Session looks":           func(p *access.Principal) { p.Session = "jane@example.org" },
		"OnBehalf looks":          func(p *access.Principal) { p.OnBehalf = "078-05-1120" },
		"OnBehalf is set":         func(p *access.Principal) { p.Kind, p.OnBehalf, p.OnBehalfKind = access.Patient, "r-1", access.Patient },
		"OnBehalfKind is not":     func(p *access.Principal) { p.Kind, p.OnBehalf = access.Service, "r-1" },
		"OnBehalfKind is not one": func(p *access.Principal) { p.OnBehalf, p.OnBehalfKind = "r-1", "robot" },
		"OnBehalfKind of a proxy": func(p *access.Principal) { p.Kind, p.OnBehalf, p.OnBehalfKind = access.Proxy, "u-2", access.Human },
		"OnBehalfKind is set":     func(p *access.Principal) { p.OnBehalfKind = access.Patient },
		"Roles has more":          func(p *access.Principal) { p.Roles = slices.Repeat([]string{"nurse"}, 65) },
		"Assurance":               func(p *access.Principal) { p.Assurance = 4 },
		"Assurance is":            func(p *access.Principal) { p.Assurance = -1 },
	} {
		p := nurse()
		spoil(&p)
		want := "access: bad principal: " + field
		if err := p.Validate(); !errors.Is(err, access.ErrPrincipal) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Validate = %v, want %q", err, want)
		}
		if _, err := access.From(access.With(t.Context(), p, access.Treatment)); !errors.Is(err, access.ErrPrincipal) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("From = %v, want %q", err, want)
		}
	}
	for _, kind := range []access.Kind{access.Human, access.Service, access.Patient, access.Proxy} {
		p := nurse()
		p.Kind, p.Roles, p.Session, p.Assurance = kind, slices.Repeat([]string{"nurse"}, 64), "s-1", 3
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind == access.Patient {
			continue
		}
		for _, of := range []access.Kind{access.Human, access.Service, access.Patient, access.Proxy} {
			p.OnBehalf, p.OnBehalfKind = "r-1", of
			if err := p.Validate(); (err == nil) != (kind != access.Proxy || of == access.Patient) {
				t.Errorf("%s on behalf of a %s: %v", kind, of, err)
			}
		}
	}
}

func FuzzCheckID(f *testing.F) {
	for _, s := range []string{"", "u-17", "jane@example.org", "123-45-6789", "1-555-123-4567", "MRN-00123",
		"12345678-1234-1234-1234-123456789012", "é", strings.Repeat("9", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		err := access.CheckID(id)
		if err != nil {
			// A word of the message may be what was asked about: "a" is in all.
			if len(id) > 12 && strings.Contains(err.Error(), id) {
				t.Errorf("the error repeats %q", id)
			}
			return
		}
		if id == "" || len(id) > 64 || strings.ContainsAny(id, "@ \x00\n/*,\"'<>") {
			t.Errorf("CheckID(%q) = nil", id)
		}
		digits := 0
		for _, c := range id {
			if c > 127 {
				t.Errorf("CheckID(%q) takes other characters than ASCII", id)
			}
			if c >= '0' && c <= '9' {
				digits++
			}
		}
		if letters := strings.ContainsAny(strings.ToLower(id), "abcdefghijklmnopqrstuvwxyz"); !letters && digits >= 7 && len(id) != 36 {
			t.Errorf("CheckID(%q) takes a number", id)
		}
		// A good principal in, a scope out: With never panics, and agrees.
		if _, err := access.From(access.With(t.Context(), access.Principal{ID: id, Tenant: id, Kind: access.Human}, access.Treatment)); err != nil {
			t.Errorf("From = %v for the good ID %q", err, id)
		}
	})
}
