// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// A Refusal is one thing that Casbin would take, and that could allow more than
// the policy seems to say.
type Refusal struct {
	Where string // "line 3", or the part of the model
	Why   string // with the mend
}

func (r Refusal) String() string { return r.Where + ": " + r.Why }

// A RefusedError holds all that was refused of a policy.
type RefusedError struct{ Refusals []Refusal }

func (e *RefusedError) Error() string {
	if len(e.Refusals) == 1 {
		return "policy: compile: " + e.Refusals[0].String()
	}
	return fmt.Sprintf("policy: compile: %s (and %d more)", e.Refusals[0], len(e.Refusals)-1)
}

// refuseModel names what a model could allow that no row says.
func refuseModel(m *model) []Refusal {
	var out []Refusal
	refuse := func(where, why string) { out = append(out, Refusal{where, why}) }
	for sec, defs := range m.sections {
		if sec != "g" && len(defs) > 1 {
			refuse(sec, "there is more than one definition, and a request is decided by the first only: keep one")
		}
	}
	slices.SortFunc(out, func(a, b Refusal) int { return strings.Compare(a.Where, b.Where) })
	if m.effect == denyOverride {
		refuse("policy_effect", "it allows whatever no row denies, an empty policy too: write some(where (p.eft == allow)) && !some(where (p.eft == deny))")
	}
	if (m.effect == allowAndDeny || m.effect == byPriority) && m.eft < 0 {
		refuse("policy_effect", "it asks for p.eft, which policy_definition does not have: add eft, or write some(where (p.eft == allow))")
	}
	if !slices.ContainsFunc(m.words, func(w string) bool { return strings.HasPrefix(w, "p_") }) {
		refuse("matchers", "the matcher does not look at the rows: compare p. fields")
	}
	for i, w := range m.words {
		if w != "||" {
			continue
		}
		for _, side := range [][]string{operandBefore(m.words, i), operandAfter(m.words, i)} {
			if !slices.ContainsFunc(side, func(w string) bool { return strings.HasPrefix(w, "p_") }) {
				refuse("matchers", "the || with "+text(side)+" allows without a row that says so: take it away, and write a row")
			}
		}
	}
	return out
}

// operandBefore is what stands on the left of the operator at i.
func operandBefore(words []string, i int) []string {
	depth := 0
	for start := i - 1; start >= 0; start-- {
		switch words[start] {
		case ")":
			depth++
		case "(":
			depth--
		case "||":
			if depth == 0 {
				return words[start+1 : i]
			}
		}
		if depth < 0 {
			return words[start+1 : i]
		}
	}
	return words[:i]
}

// operandAfter is what stands on its right.
func operandAfter(words []string, i int) []string {
	depth := 0
	for end := i + 1; end < len(words); end++ {
		switch words[end] {
		case "(":
			depth++
		case ")":
			depth--
		case "||":
			if depth == 0 {
				return words[i+1 : end]
			}
		}
		if depth < 0 {
			return words[i+1 : end]
		}
	}
	return words[i+1:]
}

// refuseRows names the rows that could match more, or less, than they say.
func refuseRows(m *model, rows []Row) []Refusal {
	var out []Refusal
	allows := false
	_, l, err := m.sort(rows)
	if err != nil {
		return nil // Compile has said so
	}
	for _, r := range rows {
		if why := m.refuseRow(r); why != "" {
			out = append(out, Refusal{r.From, why})
		}
		allows = allows || r.Fields[0] == "p" && (m.eft < 0 || r.Fields[1+m.eft] == "allow")
	}
	if !allows {
		out = append(out, Refusal{"policy", "no row allows anything: Casbin would ask the matcher with empty fields"})
	}
	return append(out, l.problems(m)...)
}

func (m *model) refuseRow(r Row) string {
	for _, v := range r.Fields[1:] {
		switch {
		case v == "":
			return "a field is empty"
		case strings.TrimSpace(v) != v:
			return "a field begins or ends with a space, which Casbin compares: take it away"
		case strings.ContainsAny(v, ",\r\n\x00"):
			return "a field holds a comma or a line break, by which Casbin takes two rows for one: take it out"
		}
	}
	if strings.HasPrefix(r.Fields[0], "g") {
		if n := m.arity[r.Fields[0]]; len(r.Fields)-1 > n && m.why == "" {
			return fmt.Sprintf("the row has %d fields after %s, of which Casbin reads %d: take the others away", len(r.Fields)-1, r.Fields[0], n)
		}
		return ""
	}
	if m.eft >= 0 {
		if eft := r.Fields[1+m.eft]; eft != "allow" && eft != "deny" {
			return "eft is neither allow nor deny"
		} else if eft == "deny" && m.effect == allowOverride {
			return "eft is deny, which the model's policy_effect ignores: add && !some(where (p.eft == deny)) to it"
		}
	}
	if m.priority >= 0 {
		if _, err := strconv.Atoi(r.Fields[1+m.priority]); err != nil {
			return "priority is no whole number"
		}
	}
	for p, function := range m.patterns {
		if why := refusePattern(function, r.Fields[1+p]); why != "" {
			return m.policy[p] + " " + why
		}
	}
	return ""
}

// refusePattern says how a pattern could match more than it seems to.
func refusePattern(function, p string) string {
	switch function {
	case "regexMatch":
		re, err := syntax.Parse(p, syntax.Perl)
		if err != nil {
			return "is no regular expression of Go's regexp/syntax"
		}
		if re.Op != syntax.OpConcat || len(re.Sub) < 2 || re.Sub[0].Op != syntax.OpBeginText || re.Sub[len(re.Sub)-1].Op != syntax.OpEndText {
			return "is not anchored, so it matches a part of a value too: write ^(?:...)$ around the whole"
		}
	case "ipMatch":
		if _, err := netip.ParsePrefix(p); err != nil {
			if _, err := netip.ParseAddr(p); err != nil {
				return "is neither an address nor a range such as 10.1.0.0/16"
			}
		}
	case "keyMatch":
		if i := strings.IndexByte(p, '*'); i >= 0 && i != len(p)-1 {
			return "has characters after the *, which keyMatch does not compare: keep one * at the end, or use keyMatch2 with :id"
		} else if i > 0 && p[i-1] != '/' {
			return "has a * in the middle of a name, so /patients* matches /patientsX too: write /patients and /patients/*"
		}
	case "globMatch":
		if !doublestar.ValidatePattern(p) {
			return "is no glob pattern"
		}
	case "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5":
		rest := strings.ReplaceAll(p, "/*", "/")
		name := colonName
		if function != "keyMatch2" {
			name = braceName
		}
		rest = name.ReplaceAllString(rest, "")
		if regexp.QuoteMeta(rest) != rest {
			return "has a character that " + function + " reads as a regular expression, so that . matches any: use letters, digits, -, _ and /, and /* or a named segment"
		}
	}
	return ""
}

// whyRows says why rows cannot be compiled; empty where they can.
func whyRows(m *model, rows []Row) string {
	if len(rows) == 0 {
		return "there are no rows"
	}
	for _, r := range rows {
		if m.priority >= 0 {
			if _, err := strconv.Atoi(r.Fields[1+m.priority]); err != nil {
				return "a priority is no number"
			}
		}
		for p, function := range m.patterns {
			v, bad := r.Fields[1+p], false
			switch function {
			case "regexMatch", "keyMatch2", "keyMatch3":
				_, err := regexp.Compile(expressionOf(function, v))
				bad = err != nil
			case "keyMatch4", "keyMatch5", "globMatch":
				bad = refusePattern(function, v) != ""
			case "ipMatch":
				bad = refusePattern(function, v) != ""
			}
			if bad {
				return "a row's pattern cannot be read"
			}
		}
	}
	return ""
}
