// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/casbin/govaluate"
)

// A residual is a term that is tried on the rows which the index found. What
// its patterns stand for is read once, row by row.
type residual struct {
	term
	regexps []*regexp.Regexp // nil where a pattern is bad
	nets    []*net.IPNet     // nil where it is an address, or bad
	addrs   []net.IP
	expr    *govaluate.EvaluableExpression
	m       *model
}

// errEvaluate stands for the errors of Casbin's functions, whose texts hold the
// request.
var errEvaluate = errors.New("policy: decide: a term of the matcher could not be evaluated for this request")

// newResidual reads the patterns of rows.
func newResidual(t term, m *model, rows []Row, l *links) (*residual, error) {
	x := &residual{term: t, m: m}
	switch {
	case t.kind == other || t.kind == linked:
		return x, x.expression(m, l)
	case t.kind != matching:
	case t.function == "ipMatch":
		x.nets, x.addrs = make([]*net.IPNet, len(rows)), make([]net.IP, len(rows))
		for i, row := range rows {
			_, n, err := net.ParseCIDR(row.Fields[1+t.p])
			if x.nets[i] = n; err != nil {
				x.addrs[i] = net.ParseIP(row.Fields[1+t.p])
			}
		}
	case t.function == "regexMatch" || t.function == "keyMatch2" || t.function == "keyMatch3" || t.function == "keyMatch5":
		known := make(map[string]*regexp.Regexp)
		x.regexps = make([]*regexp.Regexp, len(rows))
		for i, row := range rows {
			p := row.Fields[1+t.p]
			re, ok := known[p]
			if !ok {
				re, _ = regexp.Compile(expressionOf(t.function, p))
				known[p] = re
			}
			x.regexps[i] = re
		}
	}
	return x, nil
}

// matches reports whether the term is true of a request and one of the rows.
// An error denies the request.
func (x *residual) matches(request []string, rows []Row, row int) (ok bool, err error) {
	if x.expr != nil {
		return x.evaluate(slices.Clone(request), rows[row].Fields[1:]) // which escapes
	}
	value, pattern := request[x.r], rows[row].Fields[1+x.p]
	switch {
	case x.kind == equal:
		return value == pattern, nil
	case x.kind == equalOr:
		return value == pattern || pattern == x.literal, nil
	case x.nets != nil:
		addr := net.ParseIP(value)
		switch {
		case addr == nil || x.nets[row] == nil && x.addrs[row] == nil:
			return false, errEvaluate
		case x.nets[row] != nil:
			return x.nets[row].Contains(addr), nil
		}
		return x.addrs[row].Equal(addr), nil
	case x.regexps != nil:
		if x.regexps[row] == nil {
			return false, errEvaluate
		}
		if x.function == "keyMatch5" {
			value, _, _ = strings.Cut(value, "?")
		}
		return x.regexps[row].MatchString(value), nil
	}
	return call(x.function, value, pattern)
}

// call asks one of Casbin's functions, which panic.
func call(function, value, pattern string) (ok bool, err error) {
	defer noEvaluate(&err)
	return matchers[function](value, pattern)
}

// noEvaluate turns a panic of one of Casbin's functions into an error, and
// quotes no value.
func noEvaluate(err *error) {
	if r := recover(); r != nil || *err != nil {
		*err = errEvaluate
	}
}

// evaluate asks Casbin's evaluator.
func (x *residual) evaluate(request, row []string) (ok bool, err error) {
	defer noEvaluate(&err)
	result, err := x.expr.Eval(variables{x.m, request, row})
	if err != nil {
		return false, err
	}
	ok, isBool := result.(bool)
	if !isBool {
		return false, errEvaluate
	}
	return ok, nil
}

// expression makes what evaluates any other term.
func (x *residual) expression(m *model, l *links) error {
	functions := make(map[string]govaluate.ExpressionFunction)
	for name, f := range matchers {
		functions[name] = func(args ...any) (any, error) { return f(args[0].(string), args[1].(string)) }
	}
	for _, token := range x.tokens {
		name := nameOf(token)
		arity, ok := m.arity[name]
		if !ok || functions[name] != nil {
			continue
		}
		symbols := make(map[string]uint32)
		c := newClosure(l.of[name], arity, internIn(symbols), nil)
		functions[name] = func(args ...any) (any, error) {
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
	tokens := slices.Clone(x.tokens)
	for i, token := range tokens {
		if token.Kind == govaluate.FUNCTION {
			tokens[i].Value = functions[nameOf(token)]
		}
	}
	var err error
	x.expr, err = govaluate.NewEvaluableExpressionFromTokens(tokens)
	return err
}

// nameOf is the name of a function's token; empty for others.
func nameOf(token govaluate.ExpressionToken) string {
	if token.Kind != govaluate.FUNCTION {
		return ""
	}
	name, _ := token.Value.(govaluate.ExpressionFunction)()
	s, _ := name.(string)
	return s
}

// internIn returns what numbers strings from 1.
func internIn(symbols map[string]uint32) func(string) uint32 {
	return func(s string) uint32 {
		id, ok := symbols[s]
		if !ok {
			id = uint32(len(symbols)) + 1
			symbols[s] = id
		}
		return id
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
