// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/part164/part164/access"
)

// maxHead bounds what an event repeats in each of its lines, so that a line has
// room for objects. The largest that access and Validate admit is a sixth of it.
const maxHead = 32 << 10

// bodies returns the bodies of the lines of s under the keys in use.
func (k *keys) bodies(s *Stored) ([][]byte, error) { return k.now.Load().bodies(s) }

// bodies returns the bodies of the lines of s, most often one. Every string in
// it was checked by Stamp to need no escaping, or is a pseudonym.
func (k *keyState) bodies(s *Stored) ([][]byte, error) {
	head, err := k.appendHead(make([]byte, 0, 512), s)
	if err != nil {
		return nil, err
	}
	if len(head) > maxHead {
		return nil, fmt.Errorf("%w: what stands in each of its lines is longer than %d bytes", ErrEvent, maxHead)
	}
	if len(s.Objects) == 0 {
		return [][]byte{head}, nil
	}
	var out [][]byte
	for from := 0; from < len(s.Objects); {
		body := head
		if len(s.Objects) > 1 { // the head is used again
			body = make([]byte, 0, len(head)+128*min(maxObjects, len(s.Objects)-from))
			body = append(body, head...)
		}
		var next int
		if body, next, err = k.appendObjects(body, s, from); err != nil {
			return nil, err
		}
		out = append(out, body)
		from = next
	}
	return out, nil
}

func (k *keyState) appendHead(b []byte, s *Stored) ([]byte, error) {
	b = appendString(b, "type", string(s.Type))
	b = appendString(b, "attempt", s.Attempt)
	if k.version > 1 {
		b = append(b, `,"key":`...)
		b = strconv.AppendInt(b, int64(k.version), 10)
	}
	b = appendString(b, "outcome", string(s.Outcome))
	b = appendString(b, "reason", string(s.Reason))
	b = appendString(b, "action", string(s.Action))
	b = appendString(b, "code", string(s.Code))
	b = appendString(b, "decision", s.Decision)
	b = appendString(b, "request", s.Request)
	b = appendString(b, "citation", s.Citation)
	b = appendString(b, "about", s.About)
	b = appendString(b, "rule", s.Rule)
	b = appendString(b, "grant", s.Grant)
	b = appendString(b, "role", s.Role)
	b = appendString(b, "root", s.Root)
	b = appendString(b, "node", s.Node)
	if s.User != "" {
		user, err := k.principal(s.UserKind, s.Actor.Tenant, s.User)
		if err != nil {
			return nil, err
		}
		b = appendString(b, "user", user)
		b = appendString(b, "user_kind", string(s.UserKind))
	}
	b, err := k.appendActor(b, &s.Actor)
	if err != nil {
		return nil, err
	}
	b = appendString(b, "purpose", string(s.Purpose))
	if s.Count != 0 {
		b = append(b, `,"count":`...)
		b = strconv.AppendInt(b, int64(s.Count), 10)
	}
	b = appendInstant(b, "since", s.Since)
	b = appendInstant(b, "until", s.Until)
	if d := s.Disclosure; d != nil {
		b = append(b, `,"disclosure":{"basis":"`...)
		b = append(b, d.Basis...)
		b = append(b, '"')
		b = appendString(b, "recipient", d.Recipient)
		b = appendString(b, "protocol", d.Protocol)
		b = appendString(b, "frequency", string(d.Frequency))
		b = append(b, '}')
	}
	b = appendString(b, "detail", s.Detail)
	if s.Purge != nil {
		b = appendPurge(b, s.Purge)
	}
	if r := s.Rotation; r != nil {
		b = append(b, `,"rotation":{"from":"`...)
		b = append(b, r.From...)
		b = append(b, `","to":"`...)
		b = append(b, r.To...)
		b = append(b, `"}`...)
	}
	return b, nil
}

// individual reports whether a principal of this kind is an individual of the
// record: its ID stands in no line.
func individual(k access.Kind) bool { return k == access.Patient || k == access.Proxy }

// principal returns what stands in a line for a principal's ID or address: that
// of an individual of the record is a pseudonym.
func (k *keyState) principal(kind access.Kind, tenant, id string) (string, error) {
	if individual(kind) {
		return k.pseudonym(tenant, id)
	}
	return id, nil
}

// appendActor writes who. Patients and their proxies are individuals of the
// record, so that their ID and address are pseudonyms, and so is one whom
// anybody acts for.
func (k *keyState) appendActor(b []byte, p *access.Principal) ([]byte, error) {
	var id, behalf, addr string
	var err error
	if p.ID != "" {
		if id, err = k.principal(p.Kind, p.Tenant, p.ID); err != nil {
			return nil, err
		}
	}
	if p.OnBehalf != "" {
		if behalf, err = k.principal(p.OnBehalfKind, p.Tenant, p.OnBehalf); err != nil {
			return nil, err
		}
	}
	if p.Addr.IsValid() {
		if addr, err = k.principal(p.Kind, p.Tenant, p.Addr.WithZone("").String()); err != nil {
			return nil, err
		}
	}
	if id == "" && p.Tenant == "" && addr == "" {
		return b, nil
	}
	b = append(b, `,"actor":{`...)
	at := len(b)
	b = appendString(b, "id", id)
	b = appendString(b, "tenant", p.Tenant)
	b = appendString(b, "kind", string(p.Kind))
	b = appendString(b, "behalf", behalf)
	b = appendString(b, "behalf_kind", string(p.OnBehalfKind))
	b = appendStrings(b, "roles", p.Roles)
	b = appendString(b, "session", p.Session)
	b = appendString(b, "addr", addr)
	if p.Assurance > 0 {
		b = append(b, `,"assurance":`...)
		b = strconv.AppendInt(b, int64(p.Assurance), 10)
	}
	b = appendInstant(b, "authenticated", p.AuthTime)
	b = slices.Delete(b, at, at+1) // the first comma
	return append(b, '}'), nil
}

// appendObjects writes the objects of s from index from on, as many as one
// line takes, and returns the index of the next. Neighbours that differ only
// in their references share what they have in common.
func (k *keyState) appendObjects(b []byte, s *Stored, from int) (_ []byte, next int, err error) {
	b = append(b, `,"objects":[`...)
	for next = from; next < len(s.Objects) && next-from < maxObjects && len(b) < lineBudget; {
		o := &s.Objects[next]
		tenant := o.Tenant
		if tenant == "" {
			tenant = s.Actor.Tenant
		}
		if next > from {
			b = append(b, ',')
		}
		b = append(b, `{"type":"`...)
		b = append(b, o.Type...)
		b = append(b, '"')
		if tenant != s.Actor.Tenant {
			b = appendString(b, "tenant", tenant)
		}
		b = appendStrings(b, "fields", o.Fields)
		if o.Denied {
			b = append(b, `,"denied":true`...)
		}
		b = append(b, `,"refs":[`...)
		for first := next; next < len(s.Objects) && next-from < maxObjects && len(b) < lineBudget; next++ {
			r := &s.Objects[next]
			if next > first {
				if r.Type != o.Type || r.Tenant != o.Tenant || r.Denied != o.Denied || !slices.Equal(r.Fields, o.Fields) {
					break
				}
				b = append(b, ',')
			}
			if b, err = k.appendRef(b, r, tenant); err != nil {
				return nil, 0, err
			}
		}
		b = append(b, "]}"...)
	}
	return append(b, ']'), next, nil
}

func (k *keyState) appendRef(b []byte, o *Object, tenant string) ([]byte, error) {
	b = append(b, '{')
	at := len(b)
	var record string
	var err error
	if o.Record != "" {
		if record, err = k.pseudonym(tenant, o.Record); err != nil {
			return nil, err
		}
		b = appendString(b, "record", record)
	}
	if o.Patient != "" {
		patient := record
		if o.Patient != o.Record {
			if patient, err = k.pseudonym(tenant, o.Patient); err != nil {
				return nil, err
			}
		}
		b = appendString(b, "patient", patient)
	}
	if o.Version != 0 {
		b = append(b, `,"version":`...)
		b = strconv.AppendInt(b, o.Version, 10)
	}
	b = appendStrings(b, "digests", o.Digests)
	if len(b) > at {
		b = slices.Delete(b, at, at+1) // the first comma
	}
	return append(b, '}'), nil
}

// appendString writes a member that needs no escaping; nothing where it is
// empty.
func appendString(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = append(b, value...)
	return append(b, '"')
}

// appendInstant writes a time; nothing where it is zero.
func appendInstant(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = appendTime(b, t)
	return append(b, '"')
}

func appendStrings(b []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":[`...)
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, v...)
		b = append(b, '"')
	}
	return append(b, ']')
}
