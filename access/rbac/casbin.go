// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	"github.com/casbin/govaluate"
)

// This file is the only one that knows Casbin. The rest of the package sees a
// modelText and a decider.

// A modelText is what a model.conf says, in parts that [language] admits.
type modelText struct {
	sections map[string][]string // the keys of each section: r, p, g, e, m
	request  []string            // r.sub, ...
	policy   []string            // p.sub, ...
	links    []string            // the "_" of g
	effect   string
	matcher  []string // tokens

	casbin model.Model
}

// readModel parses a model.conf with Casbin's own parser.
func readModel(text string) (mt modelText, err error) {
	defer noPanic(&err)
	m, err := model.NewModelFromString(text)
	if err != nil {
		return mt, err
	}
	mt.casbin = m
	mt.sections = make(map[string][]string)
	for sec, defs := range m {
		if sec != "logger" {
			mt.sections[sec] = slices.Sorted(maps.Keys(defs))
		}
	}
	get := func(sec string) *model.Assertion {
		if a := m[sec][sec]; a != nil {
			return a
		}
		return &model.Assertion{}
	}
	mt.request = get("r").Tokens
	mt.policy = get("p").Tokens
	if g := get("g").Value; g != "" {
		for _, f := range strings.Split(g, ",") {
			mt.links = append(mt.links, strings.TrimSpace(f))
		}
	}
	mt.effect = get("e").Value
	mt.matcher, err = tokens(get("m").Value)
	return mt, err
}

// tokens splits a matcher with the parser that Casbin evaluates it with.
// Variables and functions come by name, a '*' literal as "'*'"; every other
// token that could carry a value comes as a word that no admitted form has.
func tokens(matcher string) ([]string, error) {
	functions := make(map[string]govaluate.ExpressionFunction)
	for _, name := range matchers {
		functions[name] = func(...any) (any, error) { return name, nil }
	}
	expr, err := govaluate.NewEvaluableExpressionWithFunctions(matcher, functions)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range expr.Tokens() {
		switch t.Kind {
		case govaluate.VARIABLE, govaluate.COMPARATOR, govaluate.LOGICALOP:
			out = append(out, fmt.Sprint(t.Value))
		case govaluate.CLAUSE:
			out = append(out, "(")
		case govaluate.CLAUSE_CLOSE:
			out = append(out, ")")
		case govaluate.SEPARATOR:
			out = append(out, ",")
		case govaluate.STRING:
			if t.Value == "*" {
				out = append(out, "'*'")
			} else {
				out = append(out, "a string literal")
			}
		case govaluate.FUNCTION:
			name, err := t.Value.(govaluate.ExpressionFunction)()
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprint(name))
		default:
			out = append(out, "a "+strings.ToLower(t.Kind.String()))
		}
	}
	return out, nil
}

// A decider asks Casbin for one subject. row is the deciding row without its
// section, nil when none decided. It is safe for concurrent use, since its rows
// never change.
type decider func(sub, dom, obj, act, pur string) (allow bool, row []string, err error)

// newDecider loads rows, each with its section first, into a model that is not
// used elsewhere.
func newDecider(m model.Model, rows [][]string) (d decider, err error) {
	defer noPanic(&err)
	for _, row := range rows {
		if err := m.AddPolicy(row[0], row[0], row[1:]); err != nil {
			return nil, err
		}
	}
	enforcer, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, err
	}
	if err := enforcer.BuildRoleLinks(); err != nil {
		return nil, err
	}
	return func(sub, dom, obj, act, pur string) (bool, []string, error) {
		allow, row, err := enforcer.EnforceEx(sub, dom, obj, act, pur)
		switch {
		case err != nil:
			return false, nil, errors.New("rbac: Casbin could not evaluate the policy") // its own text holds the request
		case len(row) > 0:
			return allow, row, nil
		case allow:
			return false, nil, errors.New("rbac: Casbin allowed without a row")
		}
		return false, nil, nil
	}, nil
}

// noPanic turns a panic of Casbin's parser into an error.
func noPanic(err *error) {
	if r := recover(); r != nil {
		*err = errors.New("cannot be parsed")
	}
}
