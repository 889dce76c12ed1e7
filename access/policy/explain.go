// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
)

// An Explanation says why a request is decided as it is. It is for auditors and
// for whoever writes the policy: it names rows.
type Explanation struct {
	Decision Decision
	Path     []string // the roles from the request's subject to that of the row, both among them
	Near     []string // of a denial that no row makes: rows that would allow it, but for one term of the matcher; ten at most
}

// maxNear bounds Explanation.Near.
const maxNear = 10

// Explain decides a request, and says why. It tries every row.
func (p *Policy) Explain(request ...string) (Explanation, error) {
	d, err := p.Decide(request...)
	out := Explanation{Decision: d}
	switch {
	case err != nil:
		return out, err
	case d.Rule != nil:
		out.Path = p.path(request, d.Rule)
	case d.Refused == "":
		out.Near, err = p.near(request)
	}
	return out, err
}

// near returns the rows that one term keeps from allowing the request.
func (p *Policy) near(request []string) ([]string, error) {
	terms := make([]*residual, len(p.model.terms))
	for i, t := range p.model.terms {
		r, err := newResidual(t, p.model, p.rules, p.links)
		if err != nil {
			return nil, fmt.Errorf("policy: explain: %w", err)
		}
		terms[i] = r
	}
	var out []string
	for row := range p.rules {
		if m := p.model; m.eft >= 0 && p.rules[row].Fields[1+m.eft] != "allow" {
			continue
		}
		var missing []string
		for _, t := range terms {
			if ok, err := t.matches(request, p.rules, row); err != nil || !ok {
				missing = append(missing, t.text)
			}
		}
		if len(missing) == 1 && len(out) < maxNear {
			out = append(out, fmt.Sprintf("%s, but for %s: %s", p.rules[row].From, missing[0], p.rules[row]))
		}
	}
	return out, nil
}

// path returns the shortest chain of roles by which the subject of the request
// has the row's.
func (p *Policy) path(request []string, rule *Row) []string {
	at := slices.IndexFunc(p.model.terms, func(t term) bool { return t.kind == linked && t.function == "g" })
	if at < 0 {
		return nil
	}
	t := p.model.terms[at]
	to := rule.Fields[1+t.p]
	seen := map[string]bool{request[t.r]: true}
	for queue := [][]string{{request[t.r]}}; len(queue) > 0; queue = queue[1:] {
		chain := queue[0]
		last := chain[len(chain)-1]
		if last == to {
			return chain
		}
		for _, r := range p.links.of["g"] {
			if r.Fields[1] == last && (t.domain < 0 || r.Fields[3] == request[t.domain]) && !seen[r.Fields[2]] {
				seen[r.Fields[2]] = true
				queue = append(queue, append(slices.Clone(chain), r.Fields[2]))
			}
		}
	}
	return nil
}
