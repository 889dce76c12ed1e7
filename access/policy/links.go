// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
)

// maxDepth is how many links Casbin's role manager follows.
const maxDepth = 10

// links are the g rows, by their definition: g, g2 and so on.
type links struct {
	of   map[string][]Row
	same []Finding // rows, of p too, that Casbin takes for others
}

// roles returns the names that links of g give to users.
func (l *links) roles() map[string]bool {
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

// names returns the definitions that have links, in order.
func (l *links) names() []string { return slices.Sorted(maps.Keys(l.of)) }

// problems names links that Casbin would follow in a circle, or not to their
// end.
func (l *links) problems(m *model) []Finding {
	var out []Finding
	for _, g := range l.names() {
		out = append(out, problemsOf(l.of[g], m.arity[g])...)
	}
	return out
}

// problemsOf measures how deep the links of one definition go, from the roles
// that have none. What that never reaches leads into a circle.
func problemsOf(rows []Row, arity int) []Finding {
	var out []Finding
	up, down := make(map[[2]string][]Row), make(map[[2]string][]Row)
	for _, r := range rows {
		up[from(r, arity)] = append(up[from(r, arity)], r)
		down[to(r, arity)] = append(down[to(r, arity)], r)
	}
	left, depth := make(map[[2]string]int), make(map[[2]string]int)
	var queue [][2]string
	for key := range down {
		if left[key] = len(up[key]); left[key] == 0 {
			queue = append(queue, key)
		}
	}
	for key, rows := range up {
		left[key] = len(rows)
	}
	for ; len(queue) > 0; queue = queue[1:] {
		key := queue[0]
		delete(left, key)
		for _, r := range down[key] {
			below := from(r, arity)
			depth[below] = max(depth[below], depth[key]+1)
			if left[below]--; left[below] == 0 {
				queue = append(queue, below)
			}
		}
	}
	for _, r := range rows { // in their order, so that a message is the same each time
		key := from(r, arity)
		if depth[key] == maxDepth+1 && left[key] == 0 {
			depth[key] = 0 // said once
			out = append(out, Finding{"too-deep", r.From, fmt.Sprintf("%s has roles through more than %d links, which Casbin does not follow: shorten the chain", key[0], maxDepth)})
		}
		if seen := make(map[[2]string]bool); left[key] > 0 {
			for !seen[key] && left[key] > 0 {
				seen[key] = true
				r = up[key][slices.IndexFunc(up[key], func(r Row) bool { _, ok := left[to(r, arity)]; return ok })]
				key = to(r, arity)
			}
			if left[key] > 0 {
				out = append(out, Finding{"cycle", r.From, "the role links form a cycle through " + key[0] + ": take one of them away"})
			}
			for key := range seen {
				left[key] = 0 // said once
			}
		}
	}
	return out
}

// to is the role that a link leads to, and its domain.
func to(r Row, arity int) [2]string {
	if arity == 3 {
		return [2]string{r.Fields[2], r.Fields[3]}
	}
	return [2]string{r.Fields[2]}
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
