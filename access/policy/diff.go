// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// AnyOther stands in a [Change] for every value that neither policy names and
// nobody gave to [Diff].
const AnyOther = "(any other)"

// A Change is a request that two policies answer in two ways.
type Change struct {
	Request  []string
	Old, New Decision
}

// Gained reports whether the new policy allows what the old one does not; else
// the right is lost, or a request is allowed by another row.
func (c Change) Gained() bool { return c.New.Allow && !c.Old.Allow }

// String writes the change as a line: + for what is gained, - for what is lost,
// ~ for what another row decides.
func (c Change) String() string {
	sign := "~ "
	switch {
	case c.Gained():
		sign = "+ "
	case c.Old.Allow && !c.New.Allow:
		sign = "- "
	}
	return sign + strings.Join(c.Request, ", ")
}

// maxTried bounds the requests that Diff tries.
const maxTried = 10_000_000

// Diff returns every right that is gained or lost from one policy to the other:
// exactly, over all names that they have, and [AnyOther] for the rest. Both must
// have the same request_definition and be compiled. values are more to try, by
// field, such as "obj"; they are needed for a field that is matched by a
// pattern, and the answer is then exact for these alone.
func Diff(old, new *Policy, values map[string][]string) ([]Change, error) {
	e, err := newEnumeration(old, new, values)
	if err != nil {
		return nil, fmt.Errorf("policy: diff: %w", err)
	}
	var out []Change
	for request := range e.requests() {
		if e.tried++; e.tried > maxTried {
			return nil, fmt.Errorf("policy: diff: there are more than %d requests to try: use Replay", maxTried)
		}
		c, err := change(old, new, request)
		if err != nil {
			return nil, fmt.Errorf("policy: diff: %w", err)
		}
		if c.Old.Allow != c.New.Allow {
			c.Request = slices.Clone(request)
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return slices.Compare(a.Request, b.Request) })
	return out, nil
}

// Replay returns the requests that the two policies answer in two ways, each
// once, in the order in which they come: recorded ones tell what a change would
// have meant to those who work. A request that fails under both is left out.
func Replay(old, new *Policy, requests iter.Seq[[]string]) ([]Change, error) {
	var out []Change
	seen := make(map[string]bool)
	for request := range requests {
		key := fmt.Sprintf("%q", request)
		if seen[key] {
			continue
		}
		seen[key] = true
		c, err := change(old, new, request)
		if err != nil {
			return nil, fmt.Errorf("policy: replay: request %d: %w", len(seen), err)
		}
		if c.Old.Allow != c.New.Allow || rowText(c.Old.Rule) != rowText(c.New.Rule) {
			c.Request = slices.Clone(request)
			out = append(out, c)
		}
	}
	return out, nil
}

// change asks both. A term that cannot be evaluated denies.
func change(old, new *Policy, request []string) (c Change, err error) {
	c.Request = request
	if c.Old, err = old.Decide(request...); err != nil && !errors.Is(err, errEvaluate) {
		return c, err
	}
	if c.New, err = new.Decide(request...); err != nil && !errors.Is(err, errEvaluate) {
		return c, err
	}
	return c, nil
}

func rowText(r *Row) string {
	if r == nil {
		return ""
	}
	return r.String()
}

// An enumeration makes the requests in which two policies could differ.
type enumeration struct {
	policies []*Policy
	values   [][]string // of each field of the request
	down     map[downKey][]Row
	tried    int
}

// A downKey is a role of one definition of links in one policy.
type downKey struct {
	p        *Policy
	function string
	role     string
}

func newEnumeration(old, new *Policy, more map[string][]string) (*enumeration, error) {
	e := &enumeration{policies: []*Policy{old, new}, down: make(map[downKey][]Row)}
	for _, p := range e.policies {
		switch {
		case p == nil || p.model == nil:
			return nil, errNoPolicy
		case p.index == nil:
			return nil, fmt.Errorf("the policy is not compiled, and what it allows cannot be listed: %s: use Replay", p.model.why)
		case !slices.Equal(p.model.request, old.model.request):
			return nil, errors.New("the models have two request_definitions: use Replay")
		}
	}
	for _, p := range e.policies {
		for g, rows := range p.links.of {
			for _, r := range rows {
				k := downKey{p, g, r.Fields[2]}
				e.down[k] = append(e.down[k], r)
			}
		}
	}
	for name := range more {
		if !slices.Contains(old.model.request, name) {
			return nil, fmt.Errorf("values: %s is no field of the request", name)
		}
	}
	for i, name := range old.model.request {
		given := more[name]
		known := map[string]bool{AnyOther: true}
		for _, v := range given {
			known[v] = true
		}
		for _, p := range e.policies {
			for _, t := range p.model.terms {
				if t.kind == other || t.kind == matching {
					if strings.Contains(t.text, "r."+name) && len(given) == 0 {
						return nil, fmt.Errorf("%s is matched by %s: give the values to try, or use Replay", name, t.text)
					}
					continue
				}
				if t.r == i {
					for _, r := range p.rules {
						if v := r.Fields[1+t.p]; t.kind != equalOr || v != t.literal {
							known[v] = true
						}
					}
				}
				if t.kind != linked {
					continue
				}
				for _, r := range p.links.of[t.function] {
					if t.r == i {
						known[r.Fields[1]], known[r.Fields[2]] = true, true
					}
					if t.domain == i {
						known[r.Fields[3]] = true
					}
				}
			}
		}
		e.values = append(e.values, slices.Sorted(maps.Keys(known)))
	}
	return e, nil
}

// requests yields each request that a row of either policy allows, were it not
// for other rows. The slice is the same each time.
func (e *enumeration) requests() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		seen := make(map[string]bool)
		request := make([]string, len(e.values))
		for _, p := range e.policies {
			for row := range p.rules {
				if p.index.eft[row] == 'a' && !e.fill(p, row, 0, request, seen, yield) {
					return
				}
			}
		}
	}
}

// fill sets the fields from i on to each value that row's own terms take.
func (e *enumeration) fill(p *Policy, row, i int, request []string, seen map[string]bool, yield func([]string) bool) bool {
	if i == len(request) {
		if !p.takes(row, request) {
			return true
		}
		key := strings.Join(request, "\x00")
		if seen[key] {
			return true
		}
		seen[key] = true
		return yield(request)
	}
	for _, v := range e.takenBy(p, row, i) {
		request[i] = v
		if !e.fill(p, row, i+1, request, seen, yield) {
			return false
		}
	}
	return true
}

// takenBy narrows the values of field i to those that a row could take.
func (e *enumeration) takenBy(p *Policy, row, i int) []string {
	fields := p.rules[row].Fields[1:]
	for _, t := range p.index.terms {
		if v := fields[t.p]; t.r == i && (t.kind == equal || v != t.literal) {
			return []string{v}
		}
	}
	for _, x := range p.index.links {
		if x.term.r == i {
			return e.below(p, x.term.function, fields[x.term.p])
		}
	}
	return e.values[i]
}

// below returns the names that have a role in some domain, itself among them.
func (e *enumeration) below(p *Policy, function, role string) []string {
	out := []string{role}
	seen := map[string]bool{role: true}
	for i := 0; i < len(out); i++ {
		for _, r := range e.down[downKey{p, function, out[i]}] {
			if name := r.Fields[1]; !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
	}
	return out
}

// takes reports whether a row matches the request.
func (p *Policy) takes(row int, request []string) bool {
	var l lookup
	p.index.fill(&l, request, 0, len(request))
	k, _ := p.index.keyOf(p.rules[row], func(symbols map[string]uint32) func(string) uint32 {
		return func(v string) uint32 { return symbols[v] }
	})
	for n := range p.index.terms {
		if k[n] != anyValue && k[n] != l.exact[n] {
			return false
		}
	}
	for n := range p.index.links {
		if !l.member[n].has(p.index.roles[n][row]) {
			return false
		}
	}
	return true
}
