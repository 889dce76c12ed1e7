// SPDX-License-Identifier: Apache-2.0

package policy

import "slices"

// This file finds the back doors of a matcher: what could be true for a request
// whatever the rows say, such as || r.sub == 'root'.

// backDoor returns the part of a matcher that needs no row, and why; two empty
// strings where each row is asked.
func (m *model) backDoor(words []string) (part, why string) {
	if part, why = m.unjudged(words); why != "" {
		return part, why
	}
	if !m.bound(words, nil) {
		return text(unwrap(words)), "is true whatever the rows say: compare a field of the request with one of the row"
	}
	return "", ""
}

// unjudged looks into every bracket for an alternative that needs no row, and
// for forms in which one could hide.
func (m *model) unjudged(words []string) (part, why string) {
	words = unwrap(words)
	if or := operators(words, "||"); len(or) > 0 {
		sides := split(words, or)
		for _, side := range sides {
			if !m.bound(side, sides) {
				return text(unwrap(side)), "stands in a || and allows without a row that says so: take it away, and write a row"
			}
			if part, why := m.unjudged(side); why != "" {
				return part, why
			}
		}
		return "", ""
	}
	if and := operators(words, "&&"); len(and) > 0 {
		for _, side := range split(words, and) {
			if part, why := m.unjudged(side); why != "" {
				return part, why
			}
		}
		return "", ""
	}
	if !m.simple(words) {
		return text(words), "is none of the forms that can be judged: compare two things or call a function of Casbin, and write && and || rather than ? and a ! before brackets"
	}
	return "", ""
}

// simple reports whether words are one comparison or one call, or the negation
// of one.
func (m *model) simple(words []string) bool {
	for len(words) > 0 && words[0] == "!" {
		words = unwrap(words[1:])
	}
	switch {
	case len(words) == 1:
		return true
	case len(words) == 3 && !isBracket(words[0]) && !isBracket(words[2]):
		return true // r.x == p.x
	case len(words) > 3 && words[1] == "in" && words[2] == "(":
		return closes(words[2:])
	}
	return len(words) > 2 && words[1] == "(" && closes(words[1:])
}

// closes reports whether words are one pair of brackets around plain words.
func closes(words []string) bool {
	inner := words[1 : len(words)-1]
	return words[len(words)-1] == ")" && !slices.ContainsFunc(inner, isBracket)
}

func isBracket(w string) bool { return w == "(" || w == ")" }

// bound reports whether words can only be true because of what a row says.
// sides are the alternatives beside them in a ||; in those a literal that a row
// may have for any value, p.x == '*', is bound too.
func (m *model) bound(words []string, sides [][]string) bool {
	words = unwrap(words)
	if or := operators(words, "||"); len(or) > 0 {
		all := split(words, or)
		return !slices.ContainsFunc(all, func(side []string) bool { return !m.bound(side, all) })
	}
	if and := operators(words, "&&"); len(and) > 0 {
		return slices.ContainsFunc(split(words, and), func(side []string) bool { return m.bound(side, nil) })
	}
	if m.binds(words) >= 0 {
		return true
	}
	p, _ := m.literal(words)
	return p >= 0 && p != m.eft && slices.ContainsFunc(sides, func(side []string) bool { return m.binds(unwrap(side)) == p })
}

// binds returns the row's field that a comparison holds against the request,
// or -1.
func (m *model) binds(words []string) int {
	if _, p := m.equality(words); p >= 0 {
		return p
	}
	if len(words) < 6 {
		return -1
	}
	_, link := m.arity[words[0]]
	_, match := matchers[words[0]]
	args := arguments(words[1:])
	if !link && !match || len(args) < 2 || m.field(args[0], "r_") < 0 || len(words) != 2+2*len(args) {
		return -1
	}
	return m.field(args[1], "p_")
}

// operators returns where op stands outside brackets.
func operators(words []string, op string) []int {
	var out []int
	depth := 0
	for i, w := range words {
		switch {
		case w == "(":
			depth++
		case w == ")":
			depth--
		case depth == 0 && w == op:
			out = append(out, i)
		}
	}
	return out
}

// split parts words at those places.
func split(words []string, at []int) [][]string {
	var out [][]string
	start := 0
	for _, i := range append(at, len(words)) {
		out = append(out, words[start:i])
		start = i + 1
	}
	return out
}

// weaker reports whether an operator that binds weaker than && stands outside
// brackets.
func weaker(words []string) bool {
	return slices.ContainsFunc([]string{"||", "?", ":", "??"}, func(op string) bool { return len(operators(words, op)) > 0 })
}
