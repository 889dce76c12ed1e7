// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"

	"github.com/casbin/govaluate"
)

const (
	maxTerms = 6 // that find rows by a look-up; more are tried on the rows found
	maxLinks = 2 // of these with role links

	anyValue = ^uint32(0) // the symbol of an equalOr's literal
)

// A key is what rows are found by: a symbol for each term of the index.
type key [maxTerms]uint32

// An index answers from the rows of one policy.
type index struct {
	terms    []term // equal and equalOr first, then linked
	residual []residual
	closures [maxLinks]*closure // of the linked terms
	firstOf  int                // the first linked term
	links    int

	symbols map[string]uint32 // 0 is unknown
	masks   []uint32          // which equalOr terms the rows leave open: a bit a term
	spans   map[key]span      // of order
	order   []uint32          // numbers of rows
	eft     []byte            // of each row: 'a', 'd', or 0 for neither
	effect  effect
}

// newIndex builds the index of rows.
func newIndex(m *model, rows [][]string, l *links) *index {
	x := &index{symbols: make(map[string]uint32), spans: make(map[key]span), effect: m.effect}
	x.choose(m)
	x.eft = make([]byte, len(rows))
	for i, row := range rows {
		switch {
		case m.eft < 0 || row[m.eft] == "allow":
			x.eft[i] = 'a'
		case row[m.eft] == "deny":
			x.eft[i] = 'd'
		}
	}
	keys := make([]key, len(rows))
	counts := make(map[key]uint32)
	for i, row := range rows {
		var mask uint32
		for n, t := range x.terms {
			if t.kind == equalOr && row[t.p] == t.literal {
				keys[i][n] = anyValue
				mask |= 1 << n
				continue
			}
			keys[i][n] = x.intern(row[t.p])
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
			wanted[x.symbols[row[t.p]]] = true
		}
		x.closures[i] = newClosure(l.of[t.function], m.arity[t.function], x.intern, wanted)
	}
	for _, rs := range l.of {
		x.links += len(rs)
	}
	for i := range x.residual {
		x.residual[i].compile(m, rows, l)
	}
	return x
}

// indexed reports whether any term finds rows by a look-up.
func indexed(m *model) bool {
	return slices.ContainsFunc(m.terms, func(t term) bool { return t.kind == equal || t.kind == equalOr || t.kind == linked })
}

// choose parts the terms into those of the index and the others.
func (x *index) choose(m *model) {
	var linkedTerms []term
	taken := make(map[int]bool) // a row's field is in the index once
	for _, t := range m.terms {
		fits := (t.kind == equal || t.kind == equalOr || t.kind == linked && len(linkedTerms) < maxLinks) && len(x.terms)+len(linkedTerms) < maxTerms && !taken[t.p]
		switch {
		case !fits:
			x.residual = append(x.residual, residual{term: t})
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
}

func (x *index) intern(s string) uint32 {
	id, ok := x.symbols[s]
	if !ok {
		id = uint32(len(x.symbols)) + 1
		x.symbols[s] = id
	}
	return id
}

// A search is one request on its way through an index.
type search struct {
	request     []string
	allow, deny int // the first rows that match, by their effect; -1: none
	err         error
}

// decide returns the row that decides, or -1, and whether it allows.
func (x *index) decide(request []string) (row int, allow bool, err error) {
	s := search{request: request, allow: -1, deny: -1}
	var exact key
	var roles [maxLinks][]uint32
	for n, t := range x.terms {
		exact[n] = x.symbols[request[t.r]]
		if t.kind != linked {
			continue
		}
		c := x.closures[n-x.firstOf]
		from := linkKey{name: exact[n]}
		if t.domain >= 0 {
			from.domain = x.symbols[request[t.domain]]
		}
		if from.name != 0 && (t.domain < 0 || from.domain != 0) {
			if sp, ok := c.of[from]; ok {
				roles[n-x.firstOf] = c.roles[sp.from:sp.to]
			}
		}
	}
	linkedTerms := len(x.terms) - x.firstOf
	for _, mask := range x.masks {
		k := exact
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
			x.try(&s, &k)
			continue
		}
		for i := -1; i < len(roles[0]); i++ { // a name has itself as a role
			k[x.firstOf] = exact[x.firstOf]
			if i >= 0 {
				k[x.firstOf] = roles[0][i]
			}
			if linkedTerms == 1 {
				x.try(&s, &k)
				continue
			}
			for j := -1; j < len(roles[1]); j++ {
				k[x.firstOf+1] = exact[x.firstOf+1]
				if j >= 0 {
					k[x.firstOf+1] = roles[1][j]
				}
				x.try(&s, &k)
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
func (x *index) try(s *search, k *key) {
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
		if x.matches(s, int(row)) {
			*best = int(row)
		}
	}
}

// matches tries the residual terms.
func (x *index) matches(s *search, row int) bool {
	for i := range x.residual {
		ok, err := x.residual[i].eval(s.request, row)
		if err != nil {
			s.err = err
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

// tokensOf returns the tokens of t with the functions that evaluate it in the
// place of those that name themselves.
func tokensOf(t term, functions map[string]govaluate.ExpressionFunction) ([]govaluate.ExpressionToken, error) {
	out := slices.Clone(t.tokens)
	for i, token := range out {
		if token.Kind != govaluate.FUNCTION {
			continue
		}
		name, err := token.Value.(govaluate.ExpressionFunction)()
		if err != nil {
			return nil, err
		}
		out[i].Value = functions[name.(string)]
	}
	return out, nil
}
