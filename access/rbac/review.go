// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/policy"
)

// Lint points at what is wrong with a policy, or looks as if it were:
// [policy.Lint] says at what, and in addition
//
//   - unheld: a role with rules that nobody has, where Config.Assigned
//   - unknown: an assignment of a role that has no rule
//
// It returns an error where [New] does for another reason.
func Lint(cfg Config) ([]policy.Finding, error) {
	if cfg.Model == "" {
		cfg.Model = DefaultModel
	}
	l, rows, err := read(&cfg)
	if err != nil {
		return nil, fmt.Errorf("rbac: lint: %w", err)
	}
	out, err := policy.Lint(policy.Config{Model: cfg.Model, Rows: rows, AskedByRole: true})
	if err != nil {
		return nil, fmt.Errorf("rbac: lint: %w", err)
	}
	out = slices.DeleteFunc(out, func(f policy.Finding) bool { // a job's right to run over every type shows nothing
		return f.Kind == "wildcard" && slices.ContainsFunc(rows, func(r policy.Row) bool { return r.From == f.Where && r.Fields[4] == string(access.Maintain) })
	})
	if len(out) == 0 || !slices.ContainsFunc(out, isRefusal) {
		if err := checkRows(l, rows); err != nil {
			return out, fmt.Errorf("rbac: lint: %w", err)
		}
	}
	return append(out, lintAssigned(cfg, rows)...), nil
}

// isRefusal reports whether New takes no policy with f.
func isRefusal(f policy.Finding) bool {
	return !slices.Contains([]string{"unreachable", "shadowed", "unheld", "names", "wildcard", "purpose", "ignored", "eval", "casbin"}, f.Kind)
}

func lintAssigned(cfg Config, rows []policy.Row) []policy.Finding {
	if !cfg.Assigned {
		return nil
	}
	held, ruled := make(map[string]bool), make(map[string]bool)
	for _, a := range cfg.Assignments {
		held["r:"+a.Role] = true
	}
	for changed := true; changed; { // a role that another brings is held too
		changed = false
		for _, r := range rows {
			if r.Fields[0] == "g" && held[r.Fields[1]] && !held[r.Fields[2]] {
				held[r.Fields[2]], changed = true, true
			}
		}
	}
	var out []policy.Finding
	for _, r := range rows {
		role := r.Fields[1]
		if !held[role] && !ruled[role] {
			out = append(out, policy.Finding{Kind: "unheld", Where: r.From, Why: "nobody holds the role " + role[2:] + ": assign it, or take its rules away"})
		}
		ruled[role] = true
	}
	for i, a := range cfg.Assignments {
		if !ruled["r:"+a.Role] {
			out = append(out, policy.Finding{Kind: "unknown", Where: cmp.Or(a.from, fmt.Sprintf("Config.Assignments[%d]", i)), Why: "the role " + a.Role + " has no rule, and so no right: is it misspelt?"})
		}
	}
	return out
}

// A Change is a right that one policy gives a role and another does not. Tenant,
// Type and Action may be [policy.AnyOther].
type Change struct {
	Gained  bool // else it is lost
	Role    string
	Tenant  string
	Type    string
	Action  access.Action
	Purpose access.Purpose
	Kinds   bool   // and for all its kinds, but those of emergency access
	Rule    string // the row that gives the right
}

// String writes the change as a line: + for what is gained, - for what is lost.
func (c Change) String() string {
	sign, kinds := "-", ""
	if c.Gained {
		sign = "+"
	}
	if c.Kinds {
		kinds = " and its kinds"
	}
	return fmt.Sprintf("%s %s may %s %s for %s%s in tenant %s", sign, c.Role, c.Action, c.Type, c.Purpose, kinds, c.Tenant)
}

// Diff returns every right that roles gain or lose from one policy to the other.
// values are more to try, by the request's field ("dom", "obj", "act"); they are
// needed for one that a model matches by patterns, and the answer is then exact
// for these alone.
func Diff(old, new *Engine, values map[string][]string) ([]Change, error) {
	var compiled [2]*policy.Policy
	for i, e := range []*Engine{old, new} {
		v := e.inForce()
		if v == nil {
			return nil, errNoPolicy
		}
		p, err := v.spelt()
		if err != nil {
			return nil, fmt.Errorf("rbac: diff: %w", err)
		}
		compiled[i] = p
	}
	values = maps.Clone(values)
	if values == nil {
		values = make(map[string][]string)
	}
	for _, p := range access.Purposes() {
		values["pur"] = append(values["pur"], string(p))
	}
	changed, err := policy.Diff(compiled[0], compiled[1], values)
	if err != nil {
		return nil, fmt.Errorf("rbac: %w", err)
	}
	how := make(map[Change]string) // without Kinds and Rule; to the row
	var out []Change
	for _, c := range changed {
		right := Change{Gained: c.Gained(), Role: strings.TrimPrefix(c.Request[0], "r:"), Tenant: c.Request[1], Type: c.Request[2],
			Action: access.Action(c.Request[3]), Purpose: access.Purpose(c.Request[4])}
		if !right.Purpose.Valid() {
			continue // no scope has it
		}
		by := c.Old.Rule
		if right.Gained {
			by = c.New.Rule
		}
		how[right] = by.String()
		out = append(out, right)
	}
	all := func(c Change, parent access.Purpose) bool { // whether every kind of parent changes alike
		return !slices.ContainsFunc(access.Purposes(), func(p access.Purpose) bool {
			c.Purpose = p
			_, ok := how[c]
			return covers(parent, p) && !ok
		})
	}
	out = slices.DeleteFunc(out, func(c Change) bool {
		for parent := c.Purpose.Parent(); parent != ""; parent = parent.Parent() {
			if covers(parent, c.Purpose) && all(c, parent) {
				return true
			}
		}
		return false
	})
	for i, c := range out {
		out[i].Rule = how[c]
		out[i].Kinds = all(c, c.Purpose) && slices.ContainsFunc(access.Purposes(), func(p access.Purpose) bool { return p != c.Purpose && covers(c.Purpose, p) })
	}
	return out, nil
}

// covers reports whether a rule for one purpose is one for the other too.
func covers(one, other access.Purpose) bool {
	return one == other || other.IsA(one) && !other.Emergency()
}

// spelt compiles the rows of v with every kind of their purposes written out.
func (v *version) spelt() (*policy.Policy, error) {
	var rows []policy.Row
	for _, r := range v.rows {
		if r.Fields[0] != "p" || !access.Purpose(r.Fields[5]).Valid() {
			rows = append(rows, r)
			continue
		}
		for _, p := range access.Purposes() {
			if covers(access.Purpose(r.Fields[5]), p) {
				kind := policy.Row{Fields: slices.Clone(r.Fields), From: r.From}
				kind.Fields[5] = string(p)
				rows = append(rows, kind)
			}
		}
	}
	return policy.Compile(policy.Config{Model: v.model, Rows: rows, AskedByRole: true})
}

// askRoles answers for somebody who has the roles.
func (v *version) askRoles(tenant string, roles []string, q question) (access.Verdict, error) {
	w := &view{version: v, tenant: tenant}
	for _, role := range roles {
		w.add(role)
	}
	return w.ask(q, byIndex)
}

// An Asked is a request as an audit trail has it.
type Asked struct {
	Tenant  string
	Roles   []string
	Action  access.Action
	Type    string
	Purpose access.Purpose
}

// A Replayed is a request that two policies answer in two ways.
type Replayed struct {
	Asked
	Old, New access.Verdict
	Times    int // how often it was asked
}

// Replay asks two policies what was asked before, and returns what they answer
// in two ways, in the order in which it was asked first: what a change would
// have meant to those who work.
func Replay(old, new *Engine, asked iter.Seq[Asked]) ([]Replayed, error) {
	a, b := old.inForce(), new.inForce()
	if a == nil || b == nil {
		return nil, errNoPolicy
	}
	var out []Replayed
	at := make(map[string]int) // of out; -1 where the answers agree
	for q := range asked {
		key := fmt.Sprintf("%q", []any{q.Tenant, q.Roles, q.Action, q.Type, q.Purpose})
		if i, ok := at[key]; ok {
			if i >= 0 {
				out[i].Times++
			}
			continue
		}
		r := Replayed{Asked: q, Times: 1}
		var errs [2]error
		r.Old, errs[0] = a.askRoles(q.Tenant, q.Roles, question{q.Action, q.Type, q.Purpose})
		r.New, errs[1] = b.askRoles(q.Tenant, q.Roles, question{q.Action, q.Type, q.Purpose})
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("rbac: replay: request %d: %w", len(at)+1, err)
		}
		at[key] = -1
		if r.Old.Allow != r.New.Allow {
			at[key] = len(out)
			out = append(out, r)
		}
	}
	return out, nil
}
