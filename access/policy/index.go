// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

const (
	maxTerms = 6 // that find rows by a look-up; more are tried on the rows found
	maxLinks = 2 // of these with role links

	anyValue = ^uint32(0) // the symbol of an equalOr's literal
)

// A key is what rows are found by: a symbol for each term of the index.
type key [maxTerms]uint32

// An index answers from the rows of one policy.
type index struct {
	rows     []Row  // of p, in the order in which Casbin tries them
	terms    []term // equal and equalOr first, then linked
	residual []*residual
	closures [maxLinks]*closure // of the linked terms
	firstOf  int                // the first linked term

	symbols map[string]uint32 // 0 is unknown
	masks   []uint32          // which equalOr terms the rows leave open: a bit a term
	spans   map[key]span      // of order
	order   []uint32          // numbers of rows
	eft     []byte            // of each row: 'a', 'd', or 0 for neither
	effect  effect
}

// newIndex builds the index of rows.
func newIndex(m *model, rows []Row, l *links) (*index, error) {
	x := &index{rows: rows, symbols: make(map[string]uint32), spans: make(map[key]span), effect: m.effect}
	intern := internIn(x.symbols)
	tried := x.choose(m)
	x.eft = make([]byte, len(rows))
	keys := make([]key, len(rows))
	counts := make(map[key]uint32)
	for i, row := range rows {
		fields := row.Fields[1:]
		switch {
		case m.eft < 0 || fields[m.eft] == "allow":
			x.eft[i] = 'a'
		case fields[m.eft] == "deny":
			x.eft[i] = 'd'
		}
		var mask uint32
		for n, t := range x.terms {
			if t.kind == equalOr && fields[t.p] == t.literal {
				keys[i][n] = anyValue
				mask |= 1 << n
				continue
			}
			keys[i][n] = intern(fields[t.p])
		}
		if !slices.Contains(x.masks, mask) {
			x.masks = append(x.masks, mask)
		}
		counts[keys[i]]++
	}
	x.order = make([]uint32, len(rows))
	var next uint32
	for i := range rows {
		s, ok := x.spans[keys[i]]
		if !ok {
			s = span{next, next}
			next += counts[keys[i]]
		}
		x.order[s.to] = uint32(i)
		s.to++
		x.spans[keys[i]] = s
	}
	for i, t := range x.terms[x.firstOf:] {
		wanted := make(map[uint32]bool)
		for _, row := range rows {
			wanted[x.symbols[row.Fields[1+t.p]]] = true
		}
		x.closures[i] = newClosure(l.of[t.function], m.arity[t.function], intern, wanted)
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

// indexed reports whether any term finds rows by a look-up.
func indexed(m *model) bool {
	return slices.ContainsFunc(m.terms, func(t term) bool { return t.kind == equal || t.kind == equalOr || t.kind == linked })
}

// choose parts the terms into those of the index and those to be tried.
func (x *index) choose(m *model) (tried []term) {
	var linkedTerms []term
	taken := make(map[int]bool) // a row's field is in the index once
	for _, t := range m.terms {
		fits := (t.kind == equal || t.kind == equalOr || t.kind == linked && len(linkedTerms) < maxLinks) && len(x.terms)+len(linkedTerms) < maxTerms && !taken[t.p]
		switch {
		case !fits:
			tried = append(tried, t)
			continue
		case t.kind == linked:
			linkedTerms = append(linkedTerms, t)
		default:
			x.terms = append(x.terms, t)
		}
		taken[t.p] = true
	}
	x.firstOf = len(x.terms)
	x.terms = append(x.terms, linkedTerms...)
	return tried
}

// A lookup is what the fields of a request come to in an index.
type lookup struct {
	exact key
	roles [maxLinks][]uint32
}

// fill looks up the terms for which the fields of request before to are needed,
// and those before from were not enough.
func (x *index) fill(l *lookup, request []string, from, to int) {
	for n := range x.terms {
		t := &x.terms[n]
		if last := max(t.r, t.domain); last < from || last >= to {
			continue
		}
		l.exact[n] = x.symbols[request[t.r]]
		if t.kind != linked || l.exact[n] == 0 {
			continue
		}
		of := linkKey{name: l.exact[n]}
		if t.domain >= 0 {
			if of.domain = x.symbols[request[t.domain]]; of.domain == 0 {
				continue
			}
		}
		c := x.closures[n-x.firstOf]
		if s, ok := c.of[of]; ok {
			l.roles[n-x.firstOf] = c.roles[s.from:s.to]
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
	linkedTerms := len(x.terms) - x.firstOf
	for _, mask := range x.masks {
		k := l.exact
		known := true
		for n := range x.firstOf {
			if mask&(1<<n) != 0 {
				k[n] = anyValue
			} else if k[n] == 0 {
				known = false // no row has the value
			}
		}
		if !known {
			continue
		}
		if linkedTerms == 0 {
			x.try(&s, request, &k)
			continue
		}
		for i := -1; i < len(l.roles[0]); i++ { // a name has itself as a role
			k[x.firstOf] = l.exact[x.firstOf]
			if i >= 0 {
				k[x.firstOf] = l.roles[0][i]
			}
			if linkedTerms == 1 {
				x.try(&s, request, &k)
				continue
			}
			for j := -1; j < len(l.roles[1]); j++ {
				k[x.firstOf+1] = l.exact[x.firstOf+1]
				if j >= 0 {
					k[x.firstOf+1] = l.roles[1][j]
				}
				x.try(&s, request, &k)
			}
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

// try looks at the rows under k.
func (x *index) try(s *search, request []string, k *key) {
	sp, ok := x.spans[*k]
	if !ok {
		return
	}
	for _, row := range x.order[sp.from:sp.to] {
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
		if *best >= 0 && *best < int(row) { // rows are in order
			continue // there may be one that denies
		}
		if x.matches(s, request, int(row)) {
			*best = int(row)
		}
	}
}

// matches tries the residual terms.
func (x *index) matches(s *search, request []string, row int) bool {
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
