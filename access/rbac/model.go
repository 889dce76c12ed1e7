// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// DefaultModel is the model.conf of an empty Config.Model. A model of your own
// keeps its request and policy definition, may leave out eft, the '*' choices
// and role_definition, may have g = _, _, _ with g(r.sub, p.sub, r.dom), and may
// match a field but sub with keyMatch, globMatch or regexMatch. Every field of
// the request must be matched.
const DefaultModel = `[request_definition]
r = sub, dom, obj, act, pur

[policy_definition]
p = sub, dom, obj, act, pur, eft

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = g(r.sub, p.sub) && (r.dom == p.dom || p.dom == '*') && (r.obj == p.obj || p.obj == '*') && (r.act == p.act || p.act == '*') && (r.pur == p.pur || p.pur == '*')
`

// fields are those of a request, in order.
var fields = []string{"sub", "dom", "obj", "act", "pur"}

// matchers are the functions that a matcher may call.
var matchers = []string{"g", "keyMatch", "globMatch", "regexMatch"}

// The policy effects that deny by default, as Casbin writes them.
const (
	effectAllow        = "some(where (p_eft == allow))"
	effectAllowAndDeny = "some(where (p_eft == allow)) && !some(where (p_eft == deny))"
)

// How a field of a row is compared with the request.
type comparison string

const (
	equal      comparison = "equal"
	equalOrAny comparison = "equal or *"
	byRole     comparison = "g"
	keyMatch   comparison = "keyMatch"
	globMatch  comparison = "globMatch"
	regexMatch comparison = "regexMatch"
)

// A language is an admitted model: how each field is compared, and what else a
// row may say.
type language struct {
	compare    map[string]comparison // by field
	linkTenant bool                  // a link holds in one tenant
	hasEffect  bool                  // rows end with eft
	canDeny    bool                  // eft may be deny
}

// admit refuses every model that could allow what no row says.
func admit(mt modelText) (language, error) {
	l := language{compare: make(map[string]comparison)}
	for sec, keys := range mt.sections {
		if len(keys) != 1 || keys[0] != sec {
			return l, fmt.Errorf("has more than one %s definition: keep one", sec)
		}
	}
	if !slices.Equal(mt.request, prefixed("r_", fields)) {
		return l, errors.New("request_definition is not r = sub, dom, obj, act, pur")
	}
	switch {
	case slices.Equal(mt.policy, prefixed("p_", fields)):
	case slices.Equal(mt.policy, append(prefixed("p_", fields), "p_eft")):
		l.hasEffect = true
	default:
		return l, errors.New("policy_definition is not p = sub, dom, obj, act, pur or the same with eft")
	}
	switch mt.effect {
	case effectAllow:
	case effectAllowAndDeny:
		l.canDeny = l.hasEffect
	default:
		return l, errors.New("policy_effect is neither some(where (p.eft == allow)) nor the same with && !some(where (p.eft == deny)): others allow by default or by order of rows")
	}
	for _, f := range mt.links {
		if f != "_" {
			return l, errors.New("role_definition is not g = _, _ or g = _, _, _")
		}
	}
	if n := len(mt.links); n != 0 && n != 2 && n != 3 {
		return l, errors.New("role_definition is not g = _, _ or g = _, _, _")
	}
	l.linkTenant = len(mt.links) == 3
	return l, l.admitMatcher(mt.matcher, len(mt.links))
}

// admitMatcher takes a conjunction of the forms below, at least one a field.
// Superuser literals, negations, eval and unknown functions have no form.
func (l language) admitMatcher(tokens []string, links int) error {
	forms := make(map[string]func())
	for _, f := range fields {
		r, p := "r_"+f, "p_"+f
		add := func(c comparison, texts ...string) {
			for _, text := range texts {
				forms[text] = func() { l.compare[f] = c }
			}
		}
		add(equal, r+" == "+p, p+" == "+r)
		if f == "sub" {
			continue
		}
		for _, eq := range []string{r + " == " + p, p + " == " + r} {
			for _, star := range []string{p + " == '*'", "'*' == " + p} {
				add(equalOrAny, eq+" || "+star, star+" || "+eq)
			}
		}
		for _, c := range []comparison{keyMatch, globMatch, regexMatch} {
			add(c, fmt.Sprintf("%s ( %s , %s )", c, r, p))
		}
	}
	switch links {
	case 2:
		forms["g ( r_sub , p_sub )"] = func() { l.compare["sub"] = byRole }
	case 3:
		forms["g ( r_sub , p_sub , r_dom )"] = func() { l.compare["sub"] = byRole }
	}
	for i, term := range conjuncts(tokens) {
		bind, ok := forms[strings.Join(unwrap(term), " ")]
		if !ok {
			return fmt.Errorf("matcher: term %d of the && chain is none of the admitted forms, such as (r.obj == p.obj || p.obj == '*'): see rbac.DefaultModel", i+1)
		}
		bound := len(l.compare)
		if bind(); len(l.compare) == bound {
			return fmt.Errorf("matcher: term %d compares a field that an earlier term compares", i+1)
		}
	}
	for _, f := range fields {
		if l.compare[f] == "" {
			return fmt.Errorf("matcher does not compare r.%s: add a term for it", f)
		}
	}
	return nil
}

// conjuncts splits tokens at the && outside brackets.
func conjuncts(tokens []string) [][]string {
	var out [][]string
	depth, start := 0, 0
	for i, t := range tokens {
		switch t {
		case "(":
			depth++
		case ")":
			depth--
		case "&&":
			if depth == 0 {
				out = append(out, tokens[start:i])
				start = i + 1
			}
		}
	}
	return append(out, tokens[start:])
}

// unwrap takes brackets off that enclose the whole term.
func unwrap(term []string) []string {
	for len(term) > 2 && term[0] == "(" && term[len(term)-1] == ")" {
		depth := 0
		for _, t := range term[:len(term)-1] {
			switch t {
			case "(":
				depth++
			case ")":
				depth--
			}
			if depth == 0 {
				return term
			}
		}
		term = term[1 : len(term)-1]
	}
	return term
}

func prefixed(prefix string, names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, prefix+n)
	}
	return out
}
