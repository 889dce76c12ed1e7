// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/access"
)

// maxName bounds the name of a resource type or field.
const maxName = 64

// maxFields bounds the fields of one object, so that an object always fits a
// line.
const maxFields = 512

// ErrEvent is wrapped by every error that says which field of an Event is
// bad. The error never holds the field's value.
var ErrEvent = errors.New("audit: bad event")

// Validate says which field of ev cannot be recorded: enums come from their
// closed sets, names are identifiers, IDs pass [access.CheckID], or are of the
// form that this module makes. The error wraps [ErrEvent].
func (ev *Event) Validate() error {
	switch {
	case !ev.Type.known():
		return fmt.Errorf("%w: Type is not one of the constants of package audit", ErrEvent)
	case ev.Outcome != Success && ev.Outcome != Partial && ev.Outcome != Failure:
		return fmt.Errorf("%w: Outcome is not success, partial or failure", ErrEvent)
	case !ev.Reason.known():
		return fmt.Errorf("%w: Reason is not one of the constants of package audit", ErrEvent)
	case ev.Action != "" && !isName(string(ev.Action)):
		return fmt.Errorf("%w: Action is not an identifier", ErrEvent)
	case ev.Count < 0:
		return fmt.Errorf("%w: Count is negative", ErrEvent)
	case ev.Citation != "" && !isCitation(ev.Citation):
		return fmt.Errorf("%w: Citation is not a provision of 45 CFR 160, 162 or 164, or of 42 CFR 2, in the form 164.312(a)(2)(iv)", ErrEvent)
	case ev.About != "" && !isEventID(ev.About):
		return fmt.Errorf("%w: About is not the ID of an event", ErrEvent)
	case ev.Code != "" && !ev.Code.Known():
		return fmt.Errorf("%w: Code is not one of the constants of package access", ErrEvent)
	case ev.Rule != "" && !isName(ev.Rule):
		return fmt.Errorf("%w: Rule is not an identifier", ErrEvent)
	case !ev.Since.IsZero() && !inRange(ev.Since), !ev.Until.IsZero() && !inRange(ev.Until):
		return fmt.Errorf("%w: Since or Until is not between the years 1 and 9999", ErrEvent)
	case !ev.Until.IsZero() && ev.Until.Before(ev.Since):
		return fmt.Errorf("%w: Until is before Since", ErrEvent)
	case ev.User != "" && !isKind(ev.UserKind):
		return fmt.Errorf("%w: UserKind is not one of human, service, patient, proxy", ErrEvent)
	case ev.User == "" && ev.UserKind != "":
		return fmt.Errorf("%w: UserKind is set without User", ErrEvent)
	}
	if ev.Decision != "" {
		if err := access.CheckDecisionID(ev.Decision); err != nil {
			return fmt.Errorf("%w: Decision %w", ErrEvent, err)
		}
	}
	if ev.Grant != "" {
		if err := access.CheckDecisionID(ev.Grant); err != nil {
			return fmt.Errorf("%w: Grant %w", ErrEvent, err)
		}
	}
	if ev.Role != "" {
		if err := access.CheckID(ev.Role); err != nil {
			return fmt.Errorf("%w: Role %w", ErrEvent, err)
		}
	}
	if ev.User != "" {
		if err := access.CheckID(ev.User); err != nil {
			return fmt.Errorf("%w: User %w", ErrEvent, err)
		}
	}
	if err := ev.Disclosure.validate(ev.Type); err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	if err := ev.Detail.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	for i := range ev.Objects {
		if err := ev.Objects[i].validate(); err != nil {
			return fmt.Errorf("%w: Objects[%d].%w", ErrEvent, i, err)
		}
	}
	return nil
}

func (o *Object) validate() error {
	switch {
	case !isName(o.Type):
		return errors.New("Type is not an identifier")
	case o.Version < 0:
		return errors.New("Version is negative")
	case len(o.Fields) > maxFields:
		return fmt.Errorf("Fields has more than %d names", maxFields)
	case len(o.Digests) != 0 && len(o.Digests) != len(o.Fields):
		return errors.New("Digests does not have one entry a field")
	}
	for _, id := range [...]struct{ name, value string }{
		{"Tenant", o.Tenant}, {"Record", o.Record}, {"Patient", o.Patient},
	} {
		if id.value == "" {
			continue
		}
		if err := access.CheckID(id.value); err != nil {
			return fmt.Errorf("%s %w", id.name, err)
		}
	}
	for _, f := range o.Fields {
		if !isName(f) {
			return errors.New("Fields has a name that is not an identifier")
		}
	}
	for _, d := range o.Digests {
		if !isDigest(d) {
			return errors.New("Digests has an entry that is not 16 lower-case hex digits")
		}
	}
	return nil
}

// Stamp returns ev as a trail keeps it: validated, and with the principal and
// purpose of ctx, also when their scope has ended. IDs are still in clear.
// It serves implementations of [Trail].
//
// What opens or changes PHI needs a principal and a purpose; other events are
// stamped with what there is.
func Stamp(ctx context.Context, ev Event) (Stored, error) {
	if err := ev.Validate(); err != nil {
		return Stored{}, err
	}
	s := Stored{
		Type: ev.Type, Outcome: ev.Outcome, Reason: ev.Reason, Action: ev.Action, Decision: ev.Decision,
		Citation: ev.Citation, Count: ev.Count, Objects: ev.Objects, Code: ev.Code, About: ev.About, Rule: ev.Rule,
		Grant: ev.Grant, Role: ev.Role,
		User: ev.User, UserKind: ev.UserKind, Since: ev.Since.UTC(), Until: ev.Until.UTC(), Request: access.RequestID(ctx),
	}
	if ev.Disclosure != nil {
		d := *ev.Disclosure
		s.Disclosure = &d
	}
	var ok bool
	if s.Actor, s.Purpose, ok = access.Who(ctx); !ok {
		s.Actor = ev.Actor
		if err := checkActor(&s.Actor); err != nil {
			return Stored{}, err
		}
	}
	if s.Actor.Session != "" {
		if err := access.CheckID(s.Actor.Session); err != nil {
			return Stored{}, fmt.Errorf("%w: the principal's Session %w", ErrEvent, err)
		}
	}
	switch ev.Type {
	case Revealed, Fetched, Searched, WriteAttempt, PolicyChanged, RelationChanged, DirectiveChanged, Disclosed, DetailOpened:
		if s.Actor.ID == "" {
			return Stored{}, fmt.Errorf("%w: %s: %w", ErrEvent, ev.Type, access.ErrNoPrincipal)
		}
		if s.Purpose == "" {
			return Stored{}, fmt.Errorf("%w: %s: %w", ErrEvent, ev.Type, access.ErrNoPurpose)
		}
	}
	if s.Actor.Tenant == "" {
		for i := range ev.Objects {
			if o := &ev.Objects[i]; o.Tenant == "" && (o.Record != "" || o.Patient != "") {
				return Stored{}, fmt.Errorf("%w: Objects[%d].Tenant is empty and there is no principal to take it from", ErrEvent, i)
			}
		}
	}
	return s, nil
}

// checkActor admits the Actor that sign-in names: a valid principal, or an
// unknown one of which only tenant and address are kept.
func checkActor(p *access.Principal) error {
	if p.ID != "" {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("%w: Actor: %w", ErrEvent, err)
		}
		return nil
	}
	if p.Tenant != "" {
		if err := access.CheckID(p.Tenant); err != nil {
			return fmt.Errorf("%w: Actor: Tenant %w", ErrEvent, err)
		}
	}
	*p = access.Principal{Tenant: p.Tenant, Addr: p.Addr}
	return nil
}

// known reports whether t may be given to Record or Attempt, or is written by
// the trail itself.
func (t Type) known() bool {
	switch t {
	case Revealed, RevealFailed, Fetched, Searched, Denied, WriteAttempt, Outside, SignIn, SignInFailed,
		SignInLocked, SessionEnded, FactorChanged, UserChanged, PolicyChanged, PolicyRefused, PolicyReviewed, Deviation, Reported,
		KeyRotated, Sealed, Shredded, Merged, Checked, Restored, RelationChanged, DirectiveChanged, RecipientsLoaded,
		Disclosed, Suspended, Alerted, Disposed, Reviewed, Parked, SinkOpened,
		GrantRequested, GrantApproved, GrantRefused, GlassBroken, GrantEnded, GrantReviewed:
		return true
	}
	return t.own()
}

// own reports whether only the trail itself writes t.
func (t Type) own() bool {
	switch t {
	case Committed, RolledBack, OutboxRefused, Opened, Recovered, Closed, Adopted,
		ClockOff, Gap, DetailOpened, Erased, Held, Released, Purged, JournalKeyRotated, KeysKept, Dropped:
		return true
	}
	return false
}

// CheckRecord says why ev's type does not go through Record: writes go
// through Attempt, and the trail writes some types itself. It serves
// implementations of [Trail].
func (t Type) CheckRecord() error {
	switch {
	case t.attempts():
		return fmt.Errorf("%w: Type %s goes through Attempt", ErrEvent, t)
	case t.own():
		return fmt.Errorf("%w: Type %s is written by the trail itself", ErrEvent, t)
	}
	return nil
}

// attempts reports whether t announces a write that a [Committed] or
// [RolledBack] settles.
func (t Type) attempts() bool {
	return t == WriteAttempt || t == PolicyChanged || t == RelationChanged || t == DirectiveChanged
}

// CheckAttempt says why ev's type does not go through Attempt: it announces no
// write. It serves implementations of [Trail].
func (t Type) CheckAttempt() error {
	if !t.attempts() {
		return fmt.Errorf("%w: Type of an attempt is none of %s, %s, %s and %s", ErrEvent, WriteAttempt, PolicyChanged, RelationChanged, DirectiveChanged)
	}
	return nil
}

func (r Reason) known() bool {
	switch r {
	case ReasonNone, ReasonPassword, ReasonTOTP, ReasonThrottled, ReasonExpired, ReasonDisabled, ReasonLogout,
		ReasonIdle, ReasonAbsolute, ReasonRevoked, ReasonEnrolled, ReasonCreated, ReasonPolicy, ReasonMinimum,
		ReasonConflict, ReasonCell, ReasonForged, ReasonUndone, ReasonKeyLocation, ReasonTransport, ReasonRelation,
		ReasonDevelopment, ReasonUnsettled, ReasonLimit, ReasonHold, ReasonRetention, ReasonPending, ReasonMigration,
		ReasonRotation, ReasonRebuild, ReasonRename, ReasonBackOut, ReasonMerge, ReasonUnmerge, ReasonRepair, ReasonIncident, ReasonShredded, ReasonDuty,
		ReasonEmergency, ReasonIncapacity, ReasonCovering, ReasonConsult, ReasonTransfer, ReasonUnassigned, ReasonDisaster,
		ReasonJoined, ReasonMoved, ReasonLeft, ReasonReview, ReasonAmended,
		ReasonExplained, ReasonFalseAlarm, ReasonEscalated, ReasonViolation, ReasonCourt, ReasonRegulator, ReasonIndividual,
		ReasonMistake, ReasonLitigation, ReasonOral, ReasonWritten, ReasonDatabase, ReasonWitness, ReasonDisk, ReasonSink,
		ReasonAhead, ReasonBehind, ReasonSetBack, ReasonSetForward:
		return true
	}
	return false
}

func isKind(k access.Kind) bool {
	return k == access.Human || k == access.Service || k == access.Patient || k == access.Proxy
}

// inRange reports whether a time has four digits of a year, as a line has.
func inRange(t time.Time) bool { y := t.UTC().Year(); return y >= 1 && y <= 9999 }

// isName reports whether s is an identifier, with dots inside: "name",
// "patients.birth_date".
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '.'):
		default:
			return false
		}
	}
	return true
}

// isDigest reports whether s is 8 bytes in lower-case hex.
func isDigest(s string) bool {
	if len(s) != 16 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
