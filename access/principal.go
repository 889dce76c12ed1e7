// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Kind is the kind of a principal. The zero Kind is no principal.
type Kind string

// The kinds of principals.
const (
	Human   Kind = "human"   // a member of the workforce, 45 CFR 160.103
	Service Kind = "service" // a job or another program
	Patient Kind = "patient" // the individual, 45 CFR 164.524
	Proxy   Kind = "proxy"   // a personal representative, 45 CFR 164.502(g)
)

// A Principal is one authenticated person or program (unique user
// identification, 45 CFR 164.312(a)(2)(i)). Its ID is never reused.
//
// Principals are made by session (or, for jobs, by the program's own main),
// not by request handlers.
type Principal struct {
	ID        string     // opaque user ID; never a name, an e-mail address or a number that a person is known by
	Tenant    string     // the covered entity whose records these are; opaque like ID
	Kind      Kind       // empty denies
	Roles     []string   // the roles held in Tenant, 64 at most; empty means none
	Purposes  []Purpose  // what it may act for, 32 at most: these and kinds of them, emergency purposes by name only; empty means all that its roles are allowed
	Session   string     // identifies the sign-in, or the API key of a service; not secret
	Assurance int        // authenticator assurance level 1 to 3, NIST SP 800-63B; 0 means not authenticated by this SDK
	AuthTime  time.Time  // when the newest factor was verified; zero for services
	Addr      netip.Addr // the caller's address; the zero Addr where there is none

	// OnBehalf is the opaque ID, in Tenant, of whom the principal acts for: the
	// patient whom a proxy represents, or whoever a service or a delegate acts
	// for. Empty where it acts for itself, as a patient always does.
	OnBehalf string

	// OnBehalfKind says what OnBehalf is, and is required with it: of a proxy
	// [Patient]. An audit event has the ID of a patient or proxy as a keyed
	// pseudonym only.
	OnBehalfKind Kind
}

// maxRoles bounds the roles of a principal: they stand in every line of its
// events. A workforce member holds a handful.
const maxRoles = 64

const maxPurposes = 32

// ErrPrincipal is wrapped by every error that says what is wrong with a
// Principal.
var ErrPrincipal = errors.New("bad principal")

// Validate says what is wrong with p, naming the field and never its value.
// The error wraps [ErrPrincipal].
func (p Principal) Validate() error {
	if err := CheckID(p.ID); err != nil {
		return fmt.Errorf("access: %w: ID %w", ErrPrincipal, err)
	}
	if err := CheckID(p.Tenant); err != nil {
		return fmt.Errorf("access: %w: Tenant %w", ErrPrincipal, err)
	}
	if !p.Kind.known() {
		return fmt.Errorf("access: %w: Kind is not one of human, service, patient, proxy", ErrPrincipal)
	}
	if len(p.Roles) > maxRoles {
		return fmt.Errorf("access: %w: Roles has more than %d", ErrPrincipal, maxRoles)
	}
	for _, r := range p.Roles {
		if err := CheckID(r); err != nil {
			return fmt.Errorf("access: %w: Roles: a role %w", ErrPrincipal, err)
		}
	}
	if len(p.Purposes) > maxPurposes {
		return fmt.Errorf("access: %w: Purposes has more than %d", ErrPrincipal, maxPurposes)
	}
	for _, u := range p.Purposes {
		if !u.Valid() {
			return fmt.Errorf("access: %w: Purposes has an unknown one", ErrPrincipal)
		}
	}
	if p.Session != "" {
		if err := CheckID(p.Session); err != nil {
			return fmt.Errorf("access: %w: Session %w", ErrPrincipal, err)
		}
	}
	if err := p.checkBehalf(); err != nil {
		return fmt.Errorf("access: %w: %w", ErrPrincipal, err)
	}
	if p.Assurance < 0 || p.Assurance > 3 {
		return fmt.Errorf("access: %w: Assurance is not 0 to 3", ErrPrincipal)
	}
	return nil
}

// MayActFor reports whether p.Purposes has purpose, or a purpose that it is a
// kind of. Of an emergency purpose no other is meant.
func (p Principal) MayActFor(purpose Purpose) bool {
	return len(p.Purposes) == 0 || slices.ContainsFunc(p.Purposes, func(q Purpose) bool {
		return purpose == q || !purpose.Emergency() && purpose.IsA(q)
	})
}

func (p *Principal) checkBehalf() error {
	if p.OnBehalf == "" {
		if p.OnBehalfKind != "" {
			return errors.New("OnBehalfKind is set without OnBehalf")
		}
		return nil
	}
	if err := CheckID(p.OnBehalf); err != nil {
		return fmt.Errorf("OnBehalf %w", err)
	}
	switch {
	case p.Kind == Patient:
		return errors.New("OnBehalf is set of a patient: who acts for a patient is a proxy")
	case !p.OnBehalfKind.known():
		return errors.New("OnBehalfKind is not one of human, service, patient, proxy: say what OnBehalf is")
	case p.Kind == Proxy && p.OnBehalfKind != Patient:
		return errors.New("OnBehalfKind of a proxy is not patient")
	}
	return nil
}

func (k Kind) known() bool { return k == Human || k == Service || k == Patient || k == Proxy }

// maxID bounds an identifier so that it fits an index on every database.
const maxID = 64

// CheckID reports why id cannot serve as an opaque identifier in an audit
// record: it is empty, too long, has other characters than ASCII letters,
// digits and "._:-", or has the shape of what a person is known by: a social
// security, phone or labelled number (MRN-00123), seven digits or more and no
// letter, or a date, of which 45 CFR 164.514(b)(2)(i)(C) leaves the year at
// most. UUIDs pass. The error does not hold id.
//
// It catches what is put there by mistake. It cannot know that a word is
// somebody's name, or that a number in another form is somebody's.
func CheckID(id string) error {
	if id == "" {
		return errors.New("is empty")
	}
	if len(id) > maxID {
		return fmt.Errorf("is longer than %d bytes", maxID)
	}
	if isUUID(id) { // most are, and none is a number that a person is known by
		return nil
	}
	digits, letters := 0, 0
	for i := range len(id) {
		switch c := id[i]; {
		case isDigit(c):
			digits++
		case isLetter(c):
			letters++
		case c == '.' || c == '_' || c == ':' || c == '-':
		case c == '@':
			return errors.New("looks like an e-mail address: use an opaque ID")
		default:
			return errors.New("has a character other than letters, digits and . _ : -")
		}
	}
	switch {
	case letters == 0 && digits >= 7, digits >= 9 && hasPhoneOrSSN(id), isLabelled(id):
		return errors.New("looks like a phone, record or social security number: use an opaque ID")
	case digits >= 8 && hasDate(id):
		return errors.New("looks like a date: use an opaque ID")
	}
	return nil
}

// CheckName reports why name cannot name an action or a resource type: it is
// empty, longer than 64 bytes, or not an identifier (an ASCII letter or
// underscore, then letters, digits, underscores and dots). The error does not
// hold name.
func CheckName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	if len(name) > maxID {
		return fmt.Errorf("is longer than %d bytes", maxID)
	}
	for i := range len(name) {
		c := name[i]
		if !isLetter(c) && c != '_' && (i == 0 || !isDigit(c) && c != '.') {
			return errors.New("is not an identifier: letters, digits, _ and ., not beginning with a digit or dot")
		}
	}
	return nil
}

// isUUID reports whether s has the 8-4-4-4-12 form of RFC 9562.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !isDigit(c) && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
