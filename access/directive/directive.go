// SPDX-License-Identifier: Apache-2.0

package directive

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/part164/part164/access"
)

// A Kind says what a directive does. The zero Kind is none.
type Kind string

// The kinds.
const (
	Restriction   Kind = "restriction"   // denies: 45 CFR 164.522(a)
	Consent       Kind = "consent"       // permits, where the app asks for one: 164.506(b)
	Authorization Kind = "authorization" // permits what nothing else does: 164.508
	Hold          Kind = "hold"          // the patient's data must not be destroyed: litigation, an investigation
)

// A Basis says why a restriction binds.
type Basis string

// The bases.
const (
	Agreed   Basis = "agreed"   // the covered entity agreed to it, 164.522(a)(1)(i) to (iii)
	Required Basis = "required" // it must: a disclosure to a health plan about what was paid in full, 164.522(a)(1)(vi)
)

// An Event ends an authorization where no date does (164.508(c)(1)(v)). It is
// a code, such as "discharge": an identifier, no text.
type Event string

// The events of research, where an authorization may have no end.
const (
	EndOfStudy Event = "end_of_study" // the research study ends
	NoEnd      Event = "none"         // of research, a research database or repository
)

// A Directive is what a patient said. Its lists are read as FHIR reads them:
// an empty one means any. Those that an authorization must have are not empty.
type Directive struct {
	ID      string // made by [Directives.Record]
	Tenant  string // Record takes the caller's where it is empty
	Patient string // the patient's record ID
	Kind    Kind
	Basis   Basis // of a restriction, and required there

	// Whom it is about: the principals, and whoever holds one of the roles.
	Principals, Roles []string

	Purposes  []access.Purpose // for these and the purposes below them
	Types     []string         // records of these types
	Record    string           // this record only; empty: every one. Of a restriction, with one of Types.
	Recipient string           // a recipient of access/egress: it is about disclosures to it, and no use inside

	From, Until time.Time // the period; a zero From is now, a zero Until has no date
	Event       Event     // what ends an authorization that has no date

	// Document names the app's own record of the paper: signed, or of what
	// was agreed. An authorization must have one (164.508(c)(1)(vi)).
	Document string

	Ended Ending // how it ended; empty: it has not
	Void  bool   // it was a mistake: it never counts

	Version int64 // set by the store: 1, and one more with each change
}

// An Ending says how a directive ended before its date. The zero Ending is none.
type Ending string

// The endings.
const (
	Revoked  Ending = "revoked" // in writing: an authorization (164.508(b)(5)), or a restriction (164.522(a)(2)(i))
	Oral     Ending = "oral"    // a restriction: the individual agreed orally, and that is documented (164.522(a)(2)(ii))
	Occurred Ending = "event"   // the event occurred that ends an authorization
	Lifted   Ending = "lifted"  // a hold: whoever ordered it has lifted it
)

// maxList bounds each list of a directive: a paper names a few.
const maxList = 64

// Validate says which field is bad, and never its value.
func (d Directive) Validate() error {
	for _, f := range []struct{ name, value string }{{"ID", d.ID}, {"Tenant", d.Tenant}, {"Patient", d.Patient}, {"Record", d.Record}, {"Recipient", d.Recipient}, {"Document", d.Document}} {
		optional := f.name == "Record" || f.name == "Recipient" || f.name == "Document"
		if f.value == "" && optional {
			continue
		}
		if err := access.CheckID(f.value); err != nil {
			return fmt.Errorf("directive: Directive.%s %w", f.name, err)
		}
	}
	if len(d.Principals) > maxList || len(d.Roles) > maxList || len(d.Purposes) > maxList || len(d.Types) > maxList {
		return fmt.Errorf("directive: Directive has a list of more than %d", maxList)
	}
	for _, id := range d.Principals {
		if err := access.CheckID(id); err != nil {
			return fmt.Errorf("directive: Directive.Principals: one %w", err)
		}
	}
	for _, role := range d.Roles {
		if err := access.CheckID(role); err != nil {
			return fmt.Errorf("directive: Directive.Roles: one %w", err)
		}
	}
	for _, t := range d.Types {
		if err := access.CheckName(t); err != nil {
			return fmt.Errorf("directive: Directive.Types: one %w", err)
		}
	}
	if slices.ContainsFunc(d.Purposes, func(p access.Purpose) bool { return !p.Valid() }) {
		return errors.New("directive: Directive.Purposes has an unknown purpose: take the constants of package access")
	}
	switch {
	case !inRange(d.From):
		return errors.New("directive: Directive.From is not between the years 1 and 9999")
	case !d.Until.IsZero() && (!inRange(d.Until) || d.Until.Before(d.From)):
		return errors.New("directive: Directive.Until is before From, or after the year 9999")
	}
	if d.Event != "" {
		if err := access.CheckName(string(d.Event)); err != nil {
			return fmt.Errorf("directive: Directive.Event %w", err)
		}
	}
	return d.form()
}

// form holds a directive to what its kind must have.
func (d Directive) form() error {
	switch d.Kind {
	case Restriction:
		switch {
		case d.Basis != Agreed && d.Basis != Required:
			return errors.New("directive: Directive.Basis is not agreed or required")
		case d.Event != "":
			return errors.New("directive: Directive.Event is set of a restriction: it ends by Until, or by End")
		case d.Record != "" && len(d.Types) != 1:
			return errors.New("directive: Directive.Record is set without the one type that it is of in Types")
		case d.Basis == Required && (d.Recipient == "" || !slices.Contains(d.Purposes, access.Payment)):
			return errors.New("directive: Directive.Basis is required without the health plan in Recipient and access.Payment in Purposes (45 CFR 164.522(a)(1)(vi))")
		case d.Basis == Required && slices.ContainsFunc(d.Purposes, func(p access.Purpose) bool { return !p.IsA(access.Payment) && !p.IsA(access.Operations) }):
			return errors.New("directive: Directive.Basis is required for other purposes than payment and operations (45 CFR 164.522(a)(1)(vi)): record an agreed restriction beside it")
		}
		return nil
	case Consent, Authorization, Hold:
	default:
		return errors.New("directive: Directive.Kind is none of the kinds of package directive")
	}
	switch {
	case d.Basis != "":
		return errors.New("directive: Directive.Basis is set of what is no restriction")
	case d.Record != "":
		return errors.New("directive: Directive.Record is set of what is no restriction: name types")
	case d.Kind == Hold && (len(d.Principals)+len(d.Roles)+len(d.Purposes)+len(d.Types) > 0 || d.Recipient != "" || d.Event != ""):
		return errors.New("directive: a hold is about all that is kept of the patient: leave everything but its period and its Document empty")
	case d.Kind != Authorization && d.Event != "":
		return errors.New("directive: Directive.Event is set of what is no authorization")
	case d.Kind != Authorization:
		return nil
	case len(d.Types) == 0: // 164.508(c)(1)(i)
		return errors.New("directive: Directive.Types is empty: an authorization describes what it is about")
	case len(d.Purposes) == 0: // (c)(1)(iv); "at the request of the individual" is access.PatientRequest
		return errors.New("directive: Directive.Purposes is empty: an authorization says what for; at the individual's own request that is access.PatientRequest")
	case d.Document == "": // (c)(1)(vi), (b)(6)
		return errors.New("directive: Directive.Document is empty: an authorization is signed, and kept")
	case d.Until.IsZero() && d.Event == "": // (c)(1)(v), (b)(2)
		return errors.New("directive: an authorization without Until or Event is defective: it must say when it ends (45 CFR 164.508(c)(1)(v))")
	case (d.Event == NoEnd || d.Event == EndOfStudy) && slices.ContainsFunc(d.Purposes, func(p access.Purpose) bool { return !p.IsA(access.Research) }):
		return errors.New("directive: Directive.Event is one of research, and Directive.Purposes has another purpose")
	}
	return nil
}

// Live reports whether the directive counts at a moment.
func (d Directive) Live(at time.Time) bool {
	at = moment(at)
	return !d.Void && !at.Before(moment(d.From)) && (d.Until.IsZero() || at.Before(moment(d.Until)))
}

func inRange(t time.Time) bool { y := t.UTC().Year(); return y >= 1 && y <= 9999 }

// moment is a time as every store keeps it: in microseconds, in UTC.
func moment(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}
