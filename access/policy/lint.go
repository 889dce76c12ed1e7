// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Lint points at what is wrong with a policy, or looks as if it were: all that
// [Compile] refuses, and
//
//   - unreachable: a rule that never decides, since another has all its requests
//   - shadowed: a rule that allows only what another denies
//   - unheld: a name in a rule to which nobody is linked
//   - names: users and roles that nothing tells apart
//   - wildcard: a rule that allows every object
//   - purpose: a model that asks for no purpose of use, or a rule for all
//   - ignored: a field of the request that the matcher does not look at
//   - eval: a matcher that runs what rows say
//   - casbin: a policy that Casbin decides, slowly
//
// It returns an error where the policy cannot be read at all.
func Lint(cfg Config) ([]Finding, error) {
	p, err := Compile(cfg)
	var refused *RefusedError
	if errors.As(err, &refused) {
		cfg.AsCasbin = true // to look at the rest
		if p, err = Compile(cfg); err != nil {
			return refused.Findings, nil
		}
	}
	if err != nil {
		return nil, err
	}
	var out []Finding
	if refused != nil {
		out = refused.Findings
	}
	m := p.model
	out = append(out, m.lint()...)
	if m.why != "" && refused == nil {
		out = append(out, Finding{"casbin", "model", "Casbin decides, and tries every row each time: " + m.why})
	}
	if !cfg.AskedByRole {
		out = append(out, p.lintNames()...)
	}
	out = append(out, p.lintOpen()...)
	return append(out, p.lintCovered()...), nil
}

// lint looks at the model alone.
func (m *model) lint() []Finding {
	var out []Finding
	for i, name := range m.request {
		if !slices.Contains(m.words, "r_"+name) {
			out = append(out, Finding{"ignored", "matchers", "r." + m.request[i] + " is not looked at, and any will do: compare it"})
		}
	}
	if !slices.ContainsFunc(m.request, isPurpose) {
		out = append(out, Finding{"purpose", "request_definition", "there is no purpose of use: add a field pur, so that a right for treatment is none for marketing (45 CFR 164.502(a))"})
	}
	if slices.Contains(m.words, "eval") {
		out = append(out, Finding{"eval", "matchers", "what eval runs stands in the rows, where nothing checks it: write it into the matcher"})
	}
	return out
}

func isPurpose(field string) bool { return field == "pur" || field == "purpose" }

func isObject(field string) bool {
	return slices.Contains([]string{"obj", "object", "resource", "type", "path", "url", "uri"}, field)
}

// lintOpen points at rules that allow every object, or every purpose.
func (p *Policy) lintOpen() []Finding {
	var out []Finding
	for _, r := range p.rules {
		if m := p.model; m.eft >= 0 && r.Fields[1+m.eft] != "allow" {
			continue
		}
		for i, name := range p.model.policy {
			if !p.model.open(i, r.Fields[1+i]) {
				continue
			}
			switch {
			case isObject(name):
				out = append(out, Finding{"wildcard", r.From, "it allows every object, PHI among them, and those that are added later: name them"})
			case isPurpose(name):
				out = append(out, Finding{"purpose", r.From, "it allows every purpose of use: name those that the role has"})
			}
		}
	}
	return out
}

// open reports whether v, in a row's field, matches every value.
func (m *model) open(p int, v string) bool {
	if literal, ok := m.literals[p]; ok && v == literal {
		return true
	}
	switch m.patterns[p] {
	case "":
		return false
	case "ipMatch":
		return v == "0.0.0.0/0" || v == "::/0"
	}
	return slices.Contains([]string{"*", "/*", "**", "/**", "^.*$", "^(?:.*)$", "^.+$"}, v)
}

// lintNames looks at who is linked to what.
func (p *Policy) lintNames() []Finding {
	g := p.links.of["g"]
	at := slices.IndexFunc(p.model.terms, func(t term) bool { return t.kind == linked && t.function == "g" })
	if at < 0 || len(g) == 0 {
		return nil
	}
	left, right := make(map[string]bool), make(map[string]bool)
	for _, r := range g {
		left[r.Fields[1]], right[r.Fields[2]] = true, true
	}
	var out []Finding
	seen := make(map[string]bool)
	for _, r := range p.rules {
		name := r.Fields[1+p.model.terms[at].p]
		if !left[name] && !right[name] && !seen[name] {
			seen[name] = true
			out = append(out, Finding{"unheld", r.From, "nobody is linked to " + name + ": it is a role that nobody holds, or a user with a rule of their own"})
		}
	}
	kinds := make(map[string]bool) // prefixes of users
	for name := range left {
		if !right[name] {
			kinds[prefix(name)] = true
		}
	}
	for _, r := range g {
		if kinds[prefix(r.Fields[2])] {
			return append(out, Finding{"names", r.From, "nothing tells the role " + r.Fields[2] + " from a user: write r:nurse for roles and u:alice for users, so that no user is taken for a role"})
		}
	}
	return out
}

// prefix is what a typed name begins with: "r:" of r:nurse.
func prefix(name string) string {
	before, _, ok := strings.Cut(name, ":")
	if !ok {
		return ""
	}
	return before + ":"
}

// lintCovered points at rules whose requests another rule has all.
func (p *Policy) lintCovered() []Finding {
	if p.index == nil {
		return nil
	}
	var out []Finding
	for i, r := range p.rules {
		for _, j := range p.index.covering(i) {
			deny, denies := p.index.eft[i] == 'd', p.index.eft[j] == 'd'
			other := fmt.Sprintf("%s (%s)", p.rules[j].From, p.rules[j])
			kind, why := "", ""
			switch earlier := j < i; {
			case p.index.eft[i] == 0 || p.index.eft[j] == 0:
			case p.model.effect == byPriority && !earlier:
			case denies && !deny:
				kind, why = "shadowed", "it allows only what is denied by "+other
			case deny && !denies && p.model.effect == byPriority, deny == denies && earlier:
				kind, why = "unreachable", "it never decides: all its requests are decided by "+other
			}
			if kind != "" {
				out = append(out, Finding{kind, r.From, why + ": take it away, or make the other narrower"})
				break
			}
		}
	}
	return out
}

// covering returns the other rows that match whenever row does, as far as the
// index and equal patterns tell.
func (x *index) covering(row int) []int {
	k, _ := x.keyOf(x.rows[row], func(symbols map[string]uint32) func(string) uint32 {
		return func(v string) uint32 { return symbols[v] }
	})
	var holders [maxLinks]member // whoever has the row's role has those that it brings
	for n, m := range x.links {
		holders[n] = m.names[x.rows[row].Fields[1+m.term.p]]
		if m.term.domain < 0 { // links in a domain hold for some requests only
			if up, ok := m.in[memberKey{name: x.rows[row].Fields[1+m.term.p]}]; ok {
				holders[n] = up
			}
		}
	}
	var out []int
next:
	for _, mask := range x.masks {
		open := k
		for n := range x.terms {
			if mask&(1<<n) != 0 {
				open[n] = anyValue
			} else if k[n] == anyValue {
				continue next // narrower
			}
		}
		sp := x.spans[open]
	others:
		for _, other := range x.order[sp.from:sp.to] {
			for n := range x.links {
				if !holders[n].has(x.roles[n][other]) {
					continue others
				}
			}
			if int(other) != row && x.covers(int(other), row) {
				out = append(out, int(other))
			}
		}
	}
	slices.Sort(out)
	return out
}

// covers reports whether the residual terms of row one match whenever those of
// row two do.
func (x *index) covers(one, two int) bool {
	for _, t := range x.residual {
		if t.expr != nil {
			return slices.Equal(x.rows[one].Fields[1:], x.rows[two].Fields[1:])
		}
		a, b := x.rows[one].Fields[1+t.p], x.rows[two].Fields[1+t.p]
		if a != b && (t.function != "keyMatch" || a != "*") && (t.kind != equalOr || a != t.literal) {
			return false
		}
	}
	return true
}
