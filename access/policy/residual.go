// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net"
	"regexp"
	"strings"

	"github.com/casbin/govaluate"
)

// A residual is a term that is tried on the rows which the index found. eval
// answers for one row; an error denies the request.
type residual struct {
	term
	eval func(request []string, row int) (bool, error)
}

// errEvaluate stands for the errors of Casbin's functions, whose texts hold the
// request.
var errEvaluate = errors.New("policy: decide: a term of the matcher could not be evaluated for this request")

// compile makes what tries the term on each of rows.
func (t *residual) compile(m *model, rows [][]string, l *links) {
	switch {
	case t.kind == equal:
		t.eval = func(request []string, row int) (bool, error) { return request[t.r] == rows[row][t.p], nil }
	case t.kind == matching && t.function == "ipMatch":
		t.ip(rows)
	case t.kind == matching && (t.function == "regexMatch" || t.function == "keyMatch2" || t.function == "keyMatch3"):
		t.regexp(rows)
	case t.kind == matching:
		f := matchers[t.function]
		t.eval = func(request []string, row int) (ok bool, err error) {
			defer noEvaluate(&err)
			return f(request[t.r], rows[row][t.p])
		}
	default:
		t.expression(m, rows, l)
	}
}

// noEvaluate turns a panic of one of Casbin's functions into an error, and
// quotes no value.
func noEvaluate(err *error) {
	if r := recover(); r != nil || *err != nil {
		*err = errEvaluate
	}
}

// ip reads the addresses and ranges of the rows once.
func (t *residual) ip(rows [][]string) {
	nets := make([]*net.IPNet, len(rows))
	addrs := make([]net.IP, len(rows))
	for i, row := range rows {
		_, n, err := net.ParseCIDR(row[t.p])
		if err != nil {
			addrs[i] = net.ParseIP(row[t.p])
		}
		nets[i] = n
	}
	t.eval = func(request []string, row int) (bool, error) {
		addr := net.ParseIP(request[t.r])
		if addr == nil || nets[row] == nil && addrs[row] == nil {
			return false, errEvaluate
		}
		if nets[row] != nil {
			return nets[row].Contains(addr), nil
		}
		return addrs[row].Equal(addr), nil
	}
}

// regexp compiles each pattern once.
func (t *residual) regexp(rows [][]string) {
	known := make(map[string]*regexp.Regexp)
	patterns := make([]*regexp.Regexp, len(rows))
	for i, row := range rows {
		p := row[t.p]
		re, ok := known[p]
		if !ok {
			re, _ = regexp.Compile(expressionOf(t.function, p)) // nil where it is bad
			known[p] = re
		}
		patterns[i] = re
	}
	t.eval = func(request []string, row int) (bool, error) {
		if patterns[row] == nil {
			return false, errEvaluate
		}
		return patterns[row].MatchString(request[t.r]), nil
	}
}

var (
	colonName = regexp.MustCompile(`:[^/]+`)
	braceName = regexp.MustCompile(`\{[^/]+\}`)
)

// expressionOf is the regular expression that a pattern of keyMatch2, keyMatch3
// or regexMatch stands for in Casbin.
func expressionOf(function, pattern string) string {
	name := colonName
	switch function {
	case "regexMatch":
		return pattern
	case "keyMatch3", "keyMatch5":
		name = braceName
	}
	return "^" + name.ReplaceAllString(strings.ReplaceAll(pattern, "/*", "/.*"), "[^/]+") + "$"
}

// expression evaluates any other term as Casbin does.
func (t *residual) expression(m *model, rows [][]string, l *links) {
	functions := make(map[string]govaluate.ExpressionFunction)
	for name, f := range matchers {
		functions[name] = func(args ...any) (any, error) { return f(args[0].(string), args[1].(string)) }
	}
	symbols := make(map[string]uint32)
	intern := func(s string) uint32 {
		if symbols[s] == 0 {
			symbols[s] = uint32(len(symbols)) + 1
		}
		return symbols[s]
	}
	for name, arity := range m.arity {
		c := newClosure(l.of[name], arity, intern, nil)
		functions[name] = func(args ...any) (any, error) {
			if len(args) != arity {
				return nil, errEvaluate
			}
			if args[0] == args[1] {
				return true, nil
			}
			from := linkKey{name: symbols[args[0].(string)]}
			if arity == 3 {
				if from.domain = symbols[args[2].(string)]; from.domain == 0 {
					return false, nil
				}
			}
			return from.name != 0 && c.has(from, symbols[args[1].(string)]), nil
		}
	}
	var expr *govaluate.EvaluableExpression
	tokens, err := tokensOf(t.term, functions)
	if err == nil {
		expr, err = govaluate.NewEvaluableExpressionFromTokens(tokens)
	}
	t.eval = func(request []string, row int) (ok bool, failed error) {
		defer noEvaluate(&failed)
		if err != nil {
			return false, err
		}
		result, err := expr.Eval(variables{m, request, rows[row]})
		if err != nil {
			return false, err
		}
		ok, isBool := result.(bool)
		if !isBool {
			return false, errEvaluate
		}
		return ok, nil
	}
}

// variables give an expression its values.
type variables struct {
	m            *model
	request, row []string
}

func (v variables) Get(name string) (any, error) {
	if i := v.m.field(name, "r_"); i >= 0 {
		return v.request[i], nil
	}
	if i := v.m.field(name, "p_"); i >= 0 {
		return v.row[i], nil
	}
	return nil, errEvaluate
}
