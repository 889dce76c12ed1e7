// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// members say which of the roles that rows name somebody has, by one linked
// term.
type members struct {
	term  term
	of    []uint32 // the role of each row
	in    map[memberKey]member
	names map[string]member // who is a role of a row, or of others: in every domain
}

// A memberKey is a name in a domain; domain is empty where links have none.
type memberKey struct{ name, domain string }

// A member is what a name is: the symbol of itself as a role of rows, 0 where it
// is none; the roles that it has, in order; and whether others have it as a role.
type member struct {
	roles  []uint32
	self   uint32
	isRole bool
}

// has reports whether the member is a role, or has it.
func (m *member) has(role uint32) bool {
	if m.self == role {
		return true
	}
	if len(m.roles) > 16 {
		_, ok := slices.BinarySearch(m.roles, role)
		return ok
	}
	for _, r := range m.roles {
		if r == role {
			return true
		}
	}
	return false
}

// newMembers follows the links of a term.
func newMembers(t term, m *model, rows []Row, l *links) *members {
	symbols := make(map[string]uint32)
	intern := internIn(symbols)
	x := &members{term: t, of: make([]uint32, len(rows)), names: make(map[string]member)}
	wanted := make(map[uint32]bool)
	for i, row := range rows {
		name := row.Fields[1+t.p]
		x.of[i] = intern(name)
		wanted[x.of[i]] = true
		x.names[name] = member{self: x.of[i]}
	}
	for _, r := range l.of[t.function] {
		role := x.names[r.Fields[2]]
		role.isRole = true
		x.names[r.Fields[2]] = role
	}
	c := newClosure(l.of[t.function], m.arity[t.function], intern, wanted)
	x.in = make(map[memberKey]member, len(c.of))
	for _, r := range l.of[t.function] {
		k, at := memberKey{name: r.Fields[1]}, linkKey{name: symbols[r.Fields[1]]}
		if m.arity[t.function] == 3 {
			k.domain, at.domain = r.Fields[3], symbols[r.Fields[3]]
		}
		if _, ok := x.in[k]; ok {
			continue
		}
		found := x.names[k.name]
		if s, ok := c.of[at]; ok {
			found.roles = c.roles[s.from:s.to:s.to]
		}
		x.in[k] = found
	}
	return x
}

// find returns what the request's subject of the term is.
func (x *members) find(request []string) member {
	k := memberKey{name: request[x.term.r]}
	if x.term.domain >= 0 {
		k.domain = request[x.term.domain]
	}
	if m, ok := x.in[k]; ok {
		return m
	}
	return x.names[k.name]
}
