// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// maxDepth is how many links Casbin's role manager follows.
const maxDepth = 10

// links are the g rows, by their definition: g, g2 and so on.
type links struct{ of map[string][]Row }

// roles returns the names that links of g give to users.
func (l *links) roles(m *model) map[string]bool {
	out := make(map[string]bool)
	for _, r := range l.of["g"] {
		out[r.Fields[2]] = true
	}
	return out
}

// A linkKey is a user, or a role, in a domain; domain is 0 where links have none.
type linkKey struct{ name, domain uint32 }

// A closure says which roles a name has, itself left out.
type closure struct {
	of    map[linkKey]span
	roles []uint32
}

// A span is a part of a slice.
type span struct{ from, to uint32 }

// newClosure follows the links of one definition, and keeps the roles that
// wanted has; all of them where it is nil.
func newClosure(rows []Row, arity int, intern func(string) uint32, wanted map[uint32]bool) *closure {
	up := make(map[linkKey][]uint32)
	for _, r := range rows {
		key := linkKey{name: intern(r.Fields[1])}
		if arity == 3 {
			key.domain = intern(r.Fields[3])
		}
		up[key] = append(up[key], intern(r.Fields[2]))
	}
	c := &closure{of: make(map[linkKey]span, len(up))}
	known := make(map[string]span) // most users have the roles of others
	seen := make(map[uint32]bool)
	var queue, next, found []uint32
	var text []byte
	for key := range up {
		clear(seen)
		seen[key.name] = true
		queue, found = append(queue[:0], key.name), found[:0]
		for range maxDepth {
			next = next[:0]
			for _, name := range queue {
				for _, role := range up[linkKey{name, key.domain}] {
					if seen[role] {
						continue
					}
					seen[role] = true
					next = append(next, role)
					if wanted == nil || wanted[role] {
						found = append(found, role)
					}
				}
			}
			queue, next = next, queue
		}
		slices.Sort(found)
		text = text[:0]
		for _, role := range found {
			text = append(text, byte(role), byte(role>>8), byte(role>>16), byte(role>>24))
		}
		s, ok := known[string(text)]
		if !ok {
			s.from = uint32(len(c.roles))
			c.roles = append(c.roles, found...)
			s.to = uint32(len(c.roles))
			known[string(text)] = s
		}
		if s.from != s.to {
			c.of[key] = s
		}
	}
	return c
}

// problems names links that Casbin would not follow, or follow in a circle.
func (l *links) problems(m *model) []Refusal {
	var out []Refusal
	for g, rows := range l.of {
		up := make(map[[2]string][]Row)
		for _, r := range rows {
			up[from(r, m.arity[g])] = append(up[from(r, m.arity[g])], r)
		}
		depth := make(map[[2]string]int)
		var measure func(key [2]string, trail []string) int
		measure = func(key [2]string, trail []string) int {
			if d, ok := depth[key]; ok {
				return d
			}
			depth[key] = 0 // a circle ends here
			deepest := 0
			for _, r := range up[key] {
				role := r.Fields[2]
				if role == key[0] || slices.Contains(trail, role) {
					out = append(out, Refusal{r.From, "the role links form a circle through " + role + ": take one of them away"})
					continue
				}
				deepest = max(deepest, 1+measure([2]string{role, key[1]}, append(trail, key[0])))
			}
			if deepest == maxDepth+1 {
				out = append(out, Refusal{up[key][0].From, key[0] + " has roles through more than 10 links, which Casbin does not follow: shorten the chain"})
			}
			depth[key] = deepest
			return deepest
		}
		for _, r := range rows {
			measure(from(r, m.arity[g]), nil)
		}
	}
	return out
}

// from is the name that a link begins with, and its domain.
func from(r Row, arity int) [2]string {
	if arity == 3 {
		return [2]string{r.Fields[1], r.Fields[3]}
	}
	return [2]string{r.Fields[1]}
}

// has reports whether a name has role.
func (c *closure) has(from linkKey, role uint32) bool {
	s, ok := c.of[from]
	if !ok {
		return false
	}
	_, ok = slices.BinarySearch(c.roles[s.from:s.to], role)
	return ok
}
