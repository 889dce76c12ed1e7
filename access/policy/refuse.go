// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Finding is one thing that is wrong with a policy: what [Compile] refuses,
// because Casbin would take it and it could allow more than the policy seems to
// say, or what [Lint] points at.
type Finding struct {
	Kind  string // one word, the same in every release: "cycle"
	Where string // "line 3", or the part of the model
	Why   string // with the mend
}

func (f Finding) String() string { return f.Where + ": " + f.Why }

// A RefusedError holds all that was refused of a policy.
type RefusedError struct{ Findings []Finding }

func (e *RefusedError) Error() string {
	switch len(e.Findings) {
	case 0:
		return "policy: compile: refused"
	case 1:
		return "policy: compile: " + e.Findings[0].String()
	}
	return fmt.Sprintf("policy: compile: %s (and %d more)", e.Findings[0], len(e.Findings)-1)
}

// maxField bounds a field of a row and of a request, in bytes: no name, path or
// pattern is as long, and a pattern's cost grows with it.
const maxField = 1024

// refuseModel names what a model could allow that no row says.
func refuseModel(m *model) []Finding {
	var out []Finding
	for _, sec := range []string{"e", "m", "p", "r"} {
		if len(m.sections[sec]) > 1 {
			out = append(out, Finding{"definitions", sec, "there is more than one definition, and a request is decided by the first only: keep one"})
		}
	}
	for _, fields := range [][]string{m.request, m.policy} {
		if sorted := slices.Sorted(slices.Values(fields)); len(slices.Compact(sorted)) < len(fields) {
			out = append(out, Finding{"definitions", "request_definition, policy_definition", "two fields have one name: give each its own"})
		}
	}
	if m.effect == denyOverride {
		out = append(out, Finding{"default-allow", "policy_effect", "it allows whatever no row denies, an empty policy too: write some(where (p.eft == allow)) && !some(where (p.eft == deny))"})
	}
	if m.effect != allowOverride && m.effect != denyOverride && m.eft < 0 {
		out = append(out, Finding{"effect", "policy_effect", "it asks for p.eft, which policy_definition does not have: add eft, or write some(where (p.eft == allow))"})
	}
	out = append(out, m.refused...)
	if part, why := m.backDoor(m.words); why != "" {
		out = append(out, Finding{"back-door", "matchers", part + " " + why})
	}
	return out
}

// refuseRows names the rows that could match more, or less, than they say.
func refuseRows(m *model, rules []Row, l *links) []Finding {
	var out []Finding
	allows := false
	for _, r := range rules {
		if kind, why := m.refuseRule(r); why != "" {
			out = append(out, Finding{kind, r.From, why})
		}
		allows = allows || m.eft < 0 || r.Fields[1+m.eft] == "allow"
	}
	if !allows {
		out = append(out, Finding{"empty", "policy", "no row allows anything: Casbin would ask the matcher with empty fields"})
	}
	for _, g := range l.names() {
		for _, r := range l.of[g] {
			if kind, why := refuseFields(r, []string{"user", "role", "domain"}); why != "" {
				out = append(out, Finding{kind, r.From, why})
			} else if n := m.arity[g]; len(r.Fields)-1 > n && !m.conditional {
				out = append(out, Finding{"fields", r.From, fmt.Sprintf("the row has %d fields after %s, of which Casbin reads %d: take the others away", len(r.Fields)-1, g, n)})
			}
		}
	}
	return slices.Concat(out, l.same, l.problems(m))
}

// refuseFields looks at what the fields of any row hold. names are the fields'.
func refuseFields(r Row, names []string) (kind, why string) {
	for i, v := range r.Fields[1:] {
		name := "what comes after"
		if i < len(names) {
			name = names[i]
		}
		switch {
		case v == "":
			return "empty", name + " is empty"
		case len(v) > maxField:
			return "too-long", fmt.Sprintf("%s is longer than %d bytes", name, maxField)
		case !utf8.ValidString(v):
			return "characters", name + " is not UTF-8"
		case strings.TrimSpace(v) != v:
			return "characters", name + " begins or ends with a space, which Casbin compares: take it away"
		case strings.ContainsFunc(v, isControl):
			return "characters", name + " holds a control character: take it out"
		}
	}
	return "", ""
}

func isControl(c rune) bool { return c < 0x20 || c == 0x7f }

func (m *model) refuseRule(r Row) (kind, why string) {
	if kind, why := refuseFields(r, m.policy); why != "" {
		return kind, why
	}
	if m.eft >= 0 {
		if eft := r.Fields[1+m.eft]; eft != "allow" && eft != "deny" {
			return "effect", "eft is neither allow nor deny"
		} else if eft == "deny" && m.effect == allowOverride {
			return "effect", "eft is deny, which the model's policy_effect ignores: add && !some(where (p.eft == deny)) to it"
		}
	}
	if m.priority >= 0 {
		if _, err := strconv.Atoi(r.Fields[1+m.priority]); err != nil {
			return "priority", "priority is no whole number"
		}
	}
	for p, name := range m.policy {
		function, ok := m.patterns[p]
		if literal, too := m.literals[p]; !ok || too && literal == r.Fields[1+p] {
			continue
		}
		if kind, why := refusePattern(function, r.Fields[1+p]); why != "" {
			return kind, name + " " + why
		}
	}
	return "", ""
}

// whyRows says why rows cannot be compiled so that every answer is Casbin's;
// empty where they can.
func whyRows(m *model, rules []Row) string {
	if len(rules) == 0 {
		return "there are no rows"
	}
	for _, r := range rules {
		if m.priority >= 0 {
			if _, err := strconv.Atoi(r.Fields[1+m.priority]); err != nil {
				return "a priority is no number"
			}
		}
		for p, function := range m.patterns {
			if !readable(function, r.Fields[1+p]) {
				return "a row's pattern cannot be read"
			}
		}
	}
	return m.exact
}

// plainPath reports whether no server would read s as another path.
func plainPath(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c == '\\' || c == '%' {
			return false
		}
	}
	if !strings.Contains(s, "/") {
		return s != "." && s != ".."
	}
	for rest, first := s, true; ; first = false {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "." || segment == ".." || segment == "" && !first && more {
			return false
		}
		if !more {
			return true
		}
		rest = after
	}
}
