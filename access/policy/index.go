// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"slices"
)

const (
	maxTerms = 6 // that find rows by a look-up; more are tried on the rows found
	maxLinks = 2 // with role links

	anyValue = ^uint32(0) // the symbol of an equalOr's literal
)

// A key is what rows are found by: a symbol for each equality of the index.
type key [maxTerms]uint32

// An index answers from the rows of one policy. The equalities of its matcher
// find a few rows by one look-up; of these the role links choose, and then the
// other terms.
type index struct {
	rows     []Row  // of p, in the order in which Casbin tries them
	terms    []term // equal and equalOr
	links    []*members
	residual []*residual

	symbols [maxTerms]map[string]uint32 // of the rows' values, by term; 0 is unknown
	masks   []uint32                    // which equalOr terms the rows leave open: a bit a term
	spans   map[key]span                // of order
	order   []uint32                    // numbers of rows: by key, then by the role of the first link, then as they come
	roles   [maxLinks][]uint32          // of each row
	eft     []byte                      // of each row: 'a', 'd', or 0 for neither
	effect  effect
}

// newIndex builds the index of rows.
func newIndex(m *model, rows []Row, l *links) (*index, error) {
	x := &index{rows: rows, effect: m.effect}
	linkedTerms, tried := x.choose(m)
	for n := range x.terms {
		x.symbols[n] = make(map[string]uint32)
	}
	for i, t := range linkedTerms {
		x.links = append(x.links, newMembers(t, m, rows, l))
		x.roles[i] = x.links[i].of
	}
	x.eft = make([]byte, len(rows))
	bucket := make([]uint32, len(rows)) // of each row
	var keys []key                      // of each bucket, by their first rows
	var sizes []uint32
	number := make(map[key]uint32)
	for i, row := range rows {
		fields := row.Fields[1:]
		switch {
		case m.eft < 0 || fields[m.eft] == "allow":
			x.eft[i] = 'a'
		case fields[m.eft] == "deny":
			x.eft[i] = 'd'
		}
		k, mask := x.keyOf(row, internIn)
		if !slices.Contains(x.masks, mask) {
			x.masks = append(x.masks, mask)
		}
		n, ok := number[k]
		if !ok {
			n = uint32(len(keys))
			number[k], keys, sizes = n, append(keys, k), append(sizes, 0)
		}
		bucket[i] = n
		sizes[n]++
	}
	x.spans = make(map[key]span, len(keys))
	ends := make([]uint32, len(keys)) // of the part of each bucket that is filled
	from := uint32(0)
	for n, k := range keys {
		x.spans[k], ends[n] = span{from: from, to: from + sizes[n]}, from
		from += sizes[n]
	}
	x.order = make([]uint32, len(rows))
	for i, n := range bucket {
		x.order[ends[n]] = uint32(i)
		ends[n]++
	}
	if len(x.links) > 0 {
		role := x.roles[0]
		for _, s := range x.spans {
			slices.SortStableFunc(x.order[s.from:s.to], func(a, b uint32) int { return cmp.Compare(role[a], role[b]) })
		}
	}
	for _, t := range tried {
		r, err := newResidual(t, m, rows, l)
		if err != nil {
			return nil, err
		}
		x.residual = append(x.residual, r)
	}
	return x, nil
}

// keyOf returns the key of a row, and which of its fields are open. intern
// makes what numbers values.
func (x *index) keyOf(row Row, intern func(map[string]uint32) func(string) uint32) (k key, mask uint32) {
	for n, t := range x.terms {
		v := row.Fields[1+t.p]
		if t.kind == equalOr && v == t.literal {
			k[n] = anyValue
			mask |= 1 << n
			continue
		}
		k[n] = intern(x.symbols[n])(v)
	}
	return k, mask
}

// indexed reports whether any term finds rows by a look-up.
func indexed(m *model) bool {
	return slices.ContainsFunc(m.terms, func(t term) bool { return t.kind == equal || t.kind == equalOr || t.kind == linked })
}

// choose parts the terms into those of the index and those to be tried.
func (x *index) choose(m *model) (linkedTerms, tried []term) {
	taken := make(map[int]bool) // a row's field is in the index once
	for _, t := range m.terms {
		switch {
		case (t.kind == equal || t.kind == equalOr) && len(x.terms) < maxTerms && !taken[t.p]:
			x.terms = append(x.terms, t)
			taken[t.p] = true
		case t.kind == linked && len(linkedTerms) < maxLinks:
			linkedTerms = append(linkedTerms, t)
		default:
			tried = append(tried, t)
		}
	}
	return linkedTerms, tried
}

// A lookup is what the fields of a request come to in an index.
type lookup struct {
	exact  key
	member [maxLinks]member
}

// fill looks up the terms for which the fields of request before to are needed,
// and those before from were not enough.
func (x *index) fill(l *lookup, request []string, from, to int) {
	for n := range x.terms {
		if r := x.terms[n].r; r >= from && r < to {
			l.exact[n] = x.symbols[n][request[r]]
		}
	}
	for n, m := range x.links {
		if last := max(m.term.r, m.term.domain); last >= from && last < to {
			l.member[n] = m.find(request)
		}
	}
}

// A search is one request on its way through an index.
type search struct {
	allow, deny int // the first rows that match, by their effect; -1: none
	err         error
}

// decide returns the row that decides, or -1, and whether it allows.
func (x *index) decide(l *lookup, request []string) (row int, allow bool, err error) {
	s := search{allow: -1, deny: -1}
next:
	for _, mask := range x.masks {
		k := l.exact
		for n := range x.terms {
			if mask&(1<<n) != 0 {
				k[n] = anyValue
			} else if k[n] == 0 {
				continue next // no row has the value
			}
		}
		sp, ok := x.spans[k]
		if !ok {
			continue
		}
		bucket := x.order[sp.from:sp.to]
		if len(x.links) == 0 || len(bucket) <= 16 {
			x.try(&s, l, request, bucket)
			continue
		}
		m := &l.member[0]
		x.try(&s, l, request, x.ofRole(bucket, m.self))
		for _, role := range m.roles {
			x.try(&s, l, request, x.ofRole(bucket, role))
		}
	}
	switch {
	case s.err != nil:
		return -1, false, s.err
	case x.effect == allowAndDeny && s.deny >= 0:
		return s.deny, false, nil
	case x.effect == byPriority && s.deny >= 0 && (s.allow < 0 || s.deny < s.allow):
		return s.deny, false, nil
	case s.allow >= 0:
		return s.allow, true, nil
	}
	return -1, false, nil
}

// ofRole returns the rows of a bucket whose first link is to a role.
func (x *index) ofRole(bucket []uint32, role uint32) []uint32 {
	of := x.roles[0]
	from, ok := slices.BinarySearchFunc(bucket, role, func(row, role uint32) int { return cmp.Compare(of[row], role) })
	if !ok {
		return nil
	}
	to := from
	for to < len(bucket) && of[bucket[to]] == role {
		to++
	}
	return bucket[from:to]
}

// try looks at rows that the equalities match.
func (x *index) try(s *search, l *lookup, request []string, rows []uint32) {
	for _, row := range rows {
		best := &s.allow
		switch x.eft[row] {
		case 'a':
		case 'd':
			if best = &s.deny; x.effect == allowOverride {
				continue
			}
		default:
			continue
		}
		if *best >= 0 && *best < int(row) {
			continue // an earlier row of the same effect matches
		}
		if x.matches(s, l, request, int(row)) {
			*best = int(row)
		}
	}
}

// matches tries the links and the residual terms.
func (x *index) matches(s *search, l *lookup, request []string, row int) bool {
	for n := range x.links {
		if !l.member[n].has(x.roles[n][row]) {
			return false
		}
	}
	for _, r := range x.residual {
		ok, err := r.matches(request, x.rows, row)
		if err != nil {
			s.err = err
		}
		if err != nil || !ok {
			return false
		}
	}
	return true
}
