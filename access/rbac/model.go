// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/part164/part164/access/policy"
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

// The policy effects that deny by default.
const (
	effectAllow        = "some(where (p.eft == allow))"
	effectAllowAndDeny = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
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

// CheckModel says why a model.conf is none of this package's: see [DefaultModel].
func CheckModel(model string) error {
	m, err := policy.ReadModel(model)
	if err == nil {
		_, err = admit(m)
	}
	if err != nil {
		return fmt.Errorf("rbac: check model: %w", err)
	}
	return nil
}

// admit refuses every model that could allow what no row says.
func admit(m policy.Model) (language, error) {
	l := language{compare: make(map[string]comparison)}
	for sec, keys := range m.Sections {
		if len(keys) != 1 || keys[0] != sec {
			return l, fmt.Errorf("has more than one %s definition: keep one", sec)
		}
	}
	if !slices.Equal(m.Request, fields) {
		return l, fmt.Errorf("request_definition is r = %s, not r = sub, dom, obj, act, pur: who, in which tenant, what, to do what, for which purpose of use", strings.Join(m.Request, ", "))
	}
	switch {
	case slices.Equal(m.Policy, fields):
	case slices.Equal(m.Policy, slices.Concat(fields, []string{"eft"})):
		l.hasEffect = true
	default:
		return l, errors.New("policy_definition is not p = sub, dom, obj, act, pur or the same with eft")
	}
	switch m.Effect {
	case effectAllow:
	case effectAllowAndDeny:
		l.canDeny = l.hasEffect
	default:
		return l, errors.New("policy_effect is neither some(where (p.eft == allow)) nor the same with && !some(where (p.eft == deny)): others allow by default or by order of rows")
	}
	links := 0
	if g, ok := m.Links["g"]; ok {
		for _, f := range strings.Split(g, ",") {
			if links++; strings.TrimSpace(f) != "_" {
				return l, errors.New("role_definition is not g = _, _ or g = _, _, _")
			}
		}
	}
	l.linkTenant = links == 3
	return l, l.admitMatcher(m.Terms, links)
}

// admitMatcher takes a conjunction of the forms below, at least one a field.
// Superuser literals, negations, eval and unknown functions have no form.
func (l language) admitMatcher(terms []string, links int) error {
	forms := make(map[string]func())
	for _, f := range fields {
		r, p := "r."+f, "p."+f
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
			add(c, fmt.Sprintf("%s(%s, %s)", c, r, p))
		}
	}
	switch links {
	case 2:
		forms["g(r.sub, p.sub)"] = func() { l.compare["sub"] = byRole }
	case 3:
		forms["g(r.sub, p.sub, r.dom)"] = func() { l.compare["sub"] = byRole }
	}
	for i, term := range terms {
		bind, ok := forms[term]
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
