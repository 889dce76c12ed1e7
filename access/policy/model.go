// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	conf "github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/util"
	"github.com/casbin/govaluate"
)

// An effect says how the rows that match make an answer. The texts are as
// Casbin keeps them.
type effect string

const (
	allowOverride   effect = "some(where (p_eft == allow))"
	allowAndDeny    effect = "some(where (p_eft == allow)) && !some(where (p_eft == deny))"
	denyOverride    effect = "!some(where (p_eft == deny))"
	byPriority      effect = "priority(p_eft) || deny"
	subjectPriority effect = "subjectPriority(p_eft) || deny"
)

// A model is what a model.conf says, in parts.
type model struct {
	sections map[string][]string // the definitions of each section
	sizes    map[string]int      // of each p definition: how many fields a row has
	request  []string            // names of the request's fields
	policy   []string            // names of a row's fields
	links    map[string]string   // the text of each g definition
	arity    map[string]int      // of each g: how many fields a link has
	effect   effect
	eft      int // the row's field that says allow or deny; -1: every row allows
	priority int // the row's field that orders rows; -1: the order in which they come

	terms    []term
	words    []string       // of the whole matcher
	patterns map[int]string // the function that reads a row's field as a pattern
	literals map[int]string // what a row's field is compared with: '*' in p.x == '*'
	path     []bool         // the request's fields that are matched as paths
	subject  int            // the request's field that g takes as the user; -1: none

	conditional bool // role links have conditions

	refused []Finding // what scan found
	why     string    // why it cannot be compiled; empty where it can
	exact   string    // why it cannot be where every error must be Casbin's too
}

// A kind of term is how it is evaluated.
type kind int

const (
	other    kind = iota // by govaluate, Casbin's evaluator
	equal                // r.x == p.x
	equalOr              // r.x == p.x || p.x == 'literal'
	linked               // g(r.x, p.x) or g(r.x, p.x, r.d)
	matching             // keyMatch(r.x, p.x) and the like
)

// A term is one operand of the && chain that a matcher is.
type term struct {
	text string
	kind kind
	r, p int // fields of the request and of the row

	literal  string // of equalOr
	function string // of linked and matching
	domain   int    // of linked: the request's field; -1: none
	tokens   []govaluate.ExpressionToken
}

// readModel parses a model.conf with Casbin's own parser.
func readModel(text string) (m *model, err error) {
	defer noPanic(&err)
	if strings.HasPrefix(text, byteOrderMark) {
		return nil, errMark
	}
	parsed, err := conf.NewModelFromString(text)
	if err != nil {
		return nil, unparsed(err)
	}
	m = &model{sections: make(map[string][]string), sizes: make(map[string]int), links: make(map[string]string), arity: make(map[string]int),
		patterns: make(map[int]string), literals: make(map[int]string), eft: -1, priority: -1, subject: -1}
	for sec, defs := range parsed {
		if sec != "logger" {
			m.sections[sec] = slices.Sorted(maps.Keys(defs))
		}
	}
	for _, sec := range []string{"r", "p", "e", "m"} {
		if parsed[sec][sec] == nil {
			return nil, fmt.Errorf("there is no %s definition", sec)
		}
	}
	for _, name := range parsed["r"]["r"].Tokens {
		m.request = append(m.request, strings.TrimPrefix(name, "r_"))
	}
	for i, name := range parsed["p"]["p"].Tokens {
		m.policy = append(m.policy, strings.TrimPrefix(name, "p_"))
		switch name {
		case "p_eft":
			m.eft = i
		case "p_priority":
			m.priority = i
		}
	}
	for name, p := range parsed["p"] {
		m.sizes[name] = len(p.Tokens)
	}
	for _, name := range slices.Concat(m.request, m.policy) {
		if name == "" {
			return nil, errors.New("a field of request_definition or policy_definition has no name")
		}
	}
	m.path = make([]bool, len(m.request))
	m.effect = effect(parsed["e"]["e"].Value)
	for name, g := range parsed["g"] {
		m.links[name] = g.Value
		m.arity[name] = strings.Count(g.Value, "_")
		m.conditional = m.conditional || len(g.ParamsTokens) > 0
		if n := m.arity[name]; !m.conditional && (n < 2 || n > 3 || n != len(g.Tokens)) {
			return nil, fmt.Errorf("role_definition %s is neither _, _ nor _, _, _", name)
		}
	}
	matcher := parsed["m"]["m"].Value
	if m.words, err = m.parse(matcher); err != nil {
		return nil, err
	}
	switch {
	case util.HasEval(matcher):
		m.why = "the matcher calls eval"
	case m.effect == subjectPriority:
		m.why = "subjectPriority orders the rows by the role links"
	case m.effect == denyOverride:
		m.why = "the effect allows what no row denies"
	case m.effect != allowOverride && m.effect != allowAndDeny && m.effect != byPriority:
		return nil, errors.New("policy_effect is none of Casbin's: write some(where (p.eft == allow)), or the same with && !some(where (p.eft == deny))")
	case m.conditional:
		m.why = "role links have conditions"
	case len(m.arity) > 0 && strings.Contains(matcher, "keyMatch(r_dom, p_dom)"):
		m.why = "Casbin matches the domains of role links as patterns where the matcher has keyMatch(r.dom, p.dom)"
	}
	return m, nil
}

// functions are those that a matcher may call, by name. Each returns its own
// name where it gets no argument.
func (m *model) functions() map[string]govaluate.ExpressionFunction {
	out := make(map[string]govaluate.ExpressionFunction)
	add := func(name string) { out[name] = func(...any) (any, error) { return name, nil } }
	for name := range matchers {
		add(name)
	}
	for name := range m.arity {
		add(name)
	}
	for _, name := range []string{"keyGet", "keyGet2", "keyGet3", "eval"} {
		add(name)
	}
	return out
}

// parse splits the matcher into its terms, and returns its words.
func (m *model) parse(matcher string) ([]string, error) {
	expr, err := govaluate.NewEvaluableExpressionWithFunctions(matcher, m.functions())
	if err != nil {
		return nil, inMatcher(err)
	}
	tokens := expr.Tokens()
	words := make([]string, len(tokens))
	plain := true
	for i, t := range tokens {
		word, ok, err := m.word(t)
		if err != nil {
			return nil, err
		}
		words[i], plain = word, plain && ok
	}
	m.scan(words)
	if !plain {
		m.why = "the matcher has operators that only Casbin evaluates"
	}
	var ands []int
	if !weaker(words) {
		ands = operators(words, "&&")
	}
	start := 0
	for _, end := range append(ands, len(words)) {
		t := m.term(words[start:end], tokens[start:end])
		if t.kind == other && slices.Contains(words[start:end], "ipMatch") {
			m.exact = "ipMatch fails on what is no address, and which row comes first then decides"
		}
		m.terms = append(m.terms, t)
		start = end + 1
	}
	return words, nil
}

// word names a token, and reports whether its meaning is a matter of strings
// alone.
func (m *model) word(t govaluate.ExpressionToken) (string, bool, error) {
	switch t.Kind {
	case govaluate.VARIABLE:
		name := fmt.Sprint(t.Value)
		names, field := m.request, strings.TrimPrefix(name, "r_")
		if strings.HasPrefix(name, "p_") {
			names, field = m.policy, strings.TrimPrefix(name, "p_")
		}
		if !slices.Contains(names, field) {
			return "", false, fmt.Errorf("matcher: %s is no field of the definitions", strings.Replace(name, "_", ".", 1))
		}
		return name, true, nil
	case govaluate.COMPARATOR:
		word := fmt.Sprint(t.Value)
		return word, word == "==" || word == "!=" || word == "in", nil
	case govaluate.LOGICALOP:
		return fmt.Sprint(t.Value), true, nil
	case govaluate.PREFIX:
		word := fmt.Sprint(t.Value)
		return word, word == "!", nil
	case govaluate.CLAUSE:
		return "(", true, nil
	case govaluate.CLAUSE_CLOSE:
		return ")", true, nil
	case govaluate.SEPARATOR:
		return ",", true, nil
	case govaluate.STRING:
		return "'" + strings.ReplaceAll(fmt.Sprint(t.Value), "'", `\'`) + "'", true, nil
	case govaluate.BOOLEAN:
		return fmt.Sprint(t.Value), true, nil
	case govaluate.FUNCTION:
		name, err := t.Value.(govaluate.ExpressionFunction)()
		if err != nil {
			return "", false, err
		}
		return fmt.Sprint(name), true, nil
	default:
		return fmt.Sprint(t.Value), false, nil
	}
}

// scan notes which fields the functions of the matcher read, wherever they
// stand in it.
func (m *model) scan(words []string) {
	for i, w := range words {
		if i >= 1 && i+1 < len(words) && w == "==" {
			if p, literal := m.literal(words[i-1 : i+2]); p >= 0 {
				m.literals[p] = literal
			}
		}
		arity, link := m.arity[w]
		_, match := matchers[w]
		if w == "keyGet" || w == "keyGet2" || w == "keyGet3" {
			m.why = "the matcher calls " + w
		}
		if !link && !match {
			continue
		}
		if match {
			arity = 2
		}
		args := arguments(words[i+1:])
		if args != nil && len(args) != arity {
			m.why = fmt.Sprintf("%s is called with %d arguments, and takes %d", w, len(args), arity)
			m.refused = append(m.refused, Finding{"arguments", "matchers", m.why})
			continue
		}
		r, p := -1, -1
		if args != nil {
			r, p = m.field(args[0], "r_"), m.field(args[1], "p_")
		}
		if r < 0 || p < 0 {
			m.why = w + " is called on something other than a field of the request and one of the row"
			if args != nil && strings.HasPrefix(args[1], "r_") {
				m.refused = append(m.refused, Finding{"arguments", "matchers", w + " takes the request for the pattern or the role: write " + w + "(r.x, p.x)"})
			}
			continue
		}
		switch {
		case link:
			if w == "g" {
				m.subject = r
			}
		default:
			if f := m.patterns[p]; f != "" && f != w {
				m.why = "two functions read p." + m.policy[p] + " as a pattern"
			}
			m.patterns[p] = w
			m.path[r] = m.path[r] || strings.HasPrefix(w, "keyMatch") || w == "globMatch"
		}
	}
}

// arguments returns those of a call whose bracket words begin with; none where
// one of them is more than a word.
func arguments(words []string) []string {
	var out []string
	for i := 1; i+1 < len(words) && words[0] == "("; i += 2 {
		out = append(out, words[i])
		switch words[i+1] {
		case ")":
			return out
		case ",":
		default:
			return nil
		}
	}
	return nil
}

// field returns the place of r_x or p_x among its fields, or -1.
func (m *model) field(word, prefix string) int {
	name, ok := strings.CutPrefix(word, prefix)
	if !ok {
		return -1
	}
	if prefix == "r_" {
		return slices.Index(m.request, name)
	}
	return slices.Index(m.policy, name)
}

// term tells which kind a term is.
func (m *model) term(words []string, tokens []govaluate.ExpressionToken) term {
	t := term{r: -1, p: -1, domain: -1, tokens: tokens, text: text(unwrap(words))}
	words = unwrap(words)
	if len(words) == 3 {
		t.r, t.p = m.equality(words)
		if t.r >= 0 {
			t.kind = equal
		}
		return t
	}
	if or := operators(words, "||"); len(or) == 1 {
		left, right := unwrap(words[:or[0]]), unwrap(words[or[0]+1:])
		for _, pair := range [][2][]string{{left, right}, {right, left}} {
			r, p := m.equality(pair[0])
			q, literal := m.literal(pair[1])
			if r >= 0 && p == q {
				t.kind, t.r, t.p, t.literal = equalOr, r, p, literal
				return t
			}
		}
		return t
	}
	if len(words) < 6 || words[1] != "(" || words[3] != "," {
		return t
	}
	r, p := m.field(words[2], "r_"), m.field(words[4], "p_")
	if r < 0 || p < 0 {
		return t
	}
	arity, link := m.arity[words[0]]
	_, match := matchers[words[0]]
	switch {
	case match && len(words) == 6:
		t.kind = matching
	case link && arity == 2 && len(words) == 6:
		t.kind = linked
	case link && arity == 3 && len(words) == 8 && words[5] == "," && m.field(words[6], "r_") >= 0:
		t.kind, t.domain = linked, m.field(words[6], "r_")
	default:
		return t
	}
	t.r, t.p, t.function = r, p, words[0]
	return t
}

// equality returns the fields of r.x == p.x, in either order, or -1.
func (m *model) equality(words []string) (r, p int) {
	if len(words) == 3 && words[1] == "==" {
		for _, pair := range [][2]string{{words[0], words[2]}, {words[2], words[0]}} {
			if r, p = m.field(pair[0], "r_"), m.field(pair[1], "p_"); r >= 0 && p >= 0 {
				return r, p
			}
		}
	}
	return -1, -1
}

// literal returns the field and the text of p.x == 'text', in either order.
func (m *model) literal(words []string) (p int, text string) {
	if len(words) == 3 && words[1] == "==" {
		for _, pair := range [][2]string{{words[0], words[2]}, {words[2], words[0]}} {
			if p = m.field(pair[0], "p_"); p >= 0 && len(pair[1]) >= 2 && pair[1][0] == '\'' {
				return p, pair[1][1 : len(pair[1])-1]
			}
		}
	}
	return -1, ""
}

// unwrap takes brackets off that enclose the whole.
func unwrap(words []string) []string {
	for len(words) > 2 && words[0] == "(" && words[len(words)-1] == ")" {
		depth := 0
		for _, w := range words[:len(words)-1] {
			switch w {
			case "(":
				depth++
			case ")":
				depth--
			}
			if depth == 0 {
				return words
			}
		}
		words = words[1 : len(words)-1]
	}
	return words
}

// text writes words as a model.conf has them.
func text(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && w != "," && w != ")" && words[i-1] != "(" && words[i-1] != "!" && (w != "(" || isOperator(words[i-1])) {
			b.WriteByte(' ')
		}
		if strings.HasPrefix(w, "r_") || strings.HasPrefix(w, "p_") {
			w = w[:1] + "." + w[2:]
		}
		b.WriteString(w)
	}
	return b.String()
}

func isOperator(w string) bool {
	switch w {
	case "&&", "||", "==", "!=", "in", "(", ",":
		return true
	}
	return false
}

// sort parts the rows as Casbin loads them: p rows in the order in which they
// are tried, repeated ones once.
func (m *model) sort(rows []Row) (rules []Row, l *links, err error) {
	l = &links{of: make(map[string][]Row)}
	seen := make(map[string]int, len(rows))
	rules = make([]Row, 0, len(rows))
	var all strings.Builder // one piece of memory for all
	all.Grow(length(rows, ","))
	for i, r := range rows {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s: the row "+format, append([]any{r.From}, args...)...)
		}
		if len(r.Fields) == 0 || r.Fields[0] == "" {
			return nil, nil, fail("is empty")
		}
		key, fields := r.Fields[0], len(r.Fields)-1
		size, rule := m.sizes[key]
		arity, link := m.arity[key]
		switch {
		case !rule && !link:
			return nil, nil, fail("begins with what the model does not define: write p or g, and commas between the fields")
		case rule && fields != size:
			return nil, nil, fail("has %d fields after %s, the model's policy_definition has %d%s", fields, key, size, m.named(key))
		case link && fields < arity:
			return nil, nil, fail("has %d fields after %s, the model's role_definition has %d", fields, key, arity)
		}
		from := all.Len()
		for n, f := range r.Fields {
			if n > 0 {
				all.WriteByte(',') // as Casbin joins them
			}
			all.WriteString(f)
		}
		joined := all.String()[from:]
		if first, ok := seen[joined]; ok {
			if !slices.Equal(rows[first].Fields, r.Fields) {
				l.same = append(l.same, Finding{"characters", r.From, "a field holds a comma, and Casbin takes the row for that of " + rows[first].From + ": take the comma out"})
			}
			continue
		}
		seen[joined] = i
		switch {
		case key == "p":
			rules = append(rules, r)
		case link:
			l.of[key] = append(l.of[key], r)
		}
	}
	if m.priority >= 0 {
		order := func(r Row) int { n, _ := strconv.Atoi(r.Fields[1+m.priority]); return n }
		slices.SortStableFunc(rules, func(a, b Row) int { return cmp.Compare(order(a), order(b)) })
	}
	return rules, l, nil
}

// noPanic turns a panic of Casbin's parsers into an error.
func noPanic(err *error) {
	if r := recover(); r != nil {
		*err = errors.New("it cannot be parsed")
	}
}
