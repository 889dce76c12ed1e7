// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"net/netip"
	"strings"
)

// check says why l cannot have come from a journal: a value in it is none that
// [Stamp] or the journal itself writes. A line that nobody has signed yet, or a
// copy, is thus never shown with more in it than words of closed sets and
// opaque IDs: no escape sequence, no second line, no text.
//
// That an ID has the shape of somebody's number is refused when it is recorded,
// and is not looked for here: a pseudonym may have it by chance.
func (l *line) check() error {
	switch {
	case l.Outcome != Success && l.Outcome != Partial && l.Outcome != Failure,
		l.Action != "" && !isName(string(l.Action)),
		l.Code != "" && !l.Code.Known(),
		l.Citation != "" && !isCitation(l.Citation),
		l.Rule != "" && !isName(l.Rule),
		l.Purpose != "" && !l.Purpose.Valid(),
		l.Root != "" && !isCommitment(l.Root),
		l.Detail != "" && !isCommitment(l.Detail),
		l.MAC != "" && !isCommitment(l.MAC),
		l.User != "" && !isKind(l.UserKind),
		l.Count < 0:
		return errors.New("the event has a value that no journal writes")
	}
	for _, id := range [...]string{l.Attempt, l.Decision, l.Request, l.About, l.Grant, l.Role, l.Node, l.User} {
		if id != "" && !isID(id) {
			return errors.New("the event has an ID that no journal writes")
		}
	}
	if d := l.Disclosure; d != nil && (!d.Basis.known() || !d.Frequency.known() || !isID(d.Recipient) || d.Protocol != "" && !isID(d.Protocol)) {
		return errors.New("the event has a disclosure that no journal writes")
	}
	if r := l.Rotation; r != nil && (!isKeyText(r.From) || !isKeyText(r.To)) {
		return errors.New("the event has a rotation that no journal writes")
	}
	if err := l.Actor.check(); err != nil {
		return err
	}
	for i := range l.Objects {
		if err := l.Objects[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (a *lineActor) check() error {
	bad := errors.New("the event has an actor that no journal writes")
	for _, id := range [...]string{a.ID, a.Tenant, a.Behalf, a.Session} {
		if id != "" && !isID(id) {
			return bad
		}
	}
	for _, r := range a.Roles {
		if !isID(r) {
			return bad
		}
	}
	if a.Kind != "" && !isKind(a.Kind) || a.BehalfKind != "" && !isKind(a.BehalfKind) || a.Assurance < 0 || a.Assurance > 3 {
		return bad
	}
	if addr, err := netip.ParseAddr(a.Addr); a.Addr != "" && (err != nil || addr.Zone() != "") && !isID(a.Addr) { // a patient's is a pseudonym
		return bad
	}
	return nil
}

func (o *lineObjects) check() error {
	bad := errors.New("the event has an object that no journal writes")
	if !isName(o.Type) || o.Tenant != "" && !isID(o.Tenant) || len(o.Fields) > maxFields {
		return bad
	}
	for _, f := range o.Fields {
		if !isName(f) {
			return bad
		}
	}
	for _, r := range o.Refs {
		if r.Record != "" && !isID(r.Record) || r.Patient != "" && !isID(r.Patient) || r.Version < 0 {
			return bad
		}
		for _, d := range r.Digests {
			if !isDigest(d) {
				return bad
			}
		}
	}
	return nil
}

// isID reports whether s has the characters and the length of an opaque ID
// ([access.CheckID]), or of a pseudonym.
func isID(s string) bool {
	if s == "" || len(s) > maxIDText {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	return true
}

// maxIDText is the bound of [access.CheckID], which those of events, a
// journal's writer and a sequence, keep too.
const maxIDText = 64

// isKeyText reports whether s may be the verifier key of a journal: name, hash
// and key of a C2SP note verifier key, in base64.
func isKeyText(s string) bool {
	name, rest, ok := strings.Cut(s, "+")
	writer, own := strings.CutPrefix(name, originPrefix)
	return ok && own && isID(writer) && len(rest) < 128 && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == ""
}
