// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/part164/part164/access/policy"
	"github.com/part164/part164/access/rbac"
)

const lintManual = `NAME
    policyctl lint - point at what is wrong with a policy

SYNOPSIS
    policyctl lint [-model FILE] -policy FILE [-roles] [--json]

DESCRIPTION
    lint names what part164 refuses of a policy, because Casbin would take it
    and it could allow more than the policy seems to say; and what looks wrong:
    rules that never decide, rules that are denied altogether, roles that
    nobody holds, users and roles that nothing tells apart, rules for every
    object or every purpose of use. Each line has the place, the kind and the
    mend. Then it says how the policy is decided: by the compiled index, or by
    Casbin itself and why.

OPTIONS
` + filesManual + jsonManual + `
EXIT STATUS
    0   nothing was found
    1   something was found
    3   it could not run: bad usage, or a file that cannot be read

EXAMPLES
    policyctl lint -model model.conf -policy policy.csv
    policyctl lint -roles -model model.conf -policy policy.csv
`

func lintCommand() command {
	return command{"lint", "point at what is wrong with a policy", lintManual, runLint}
}

type finding struct {
	Where string `json:"where"`
	Kind  string `json:"kind"`
	Why   string `json:"why"`
}

func runLint(c *call) (int, error) {
	args, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(args) > 0:
		return 0, usagef("it takes no argument %q", args[0])
	}
	cfg, err := config(c.model, c.rows, c.roles)
	if err != nil {
		return 0, err
	}
	found, err := policy.Lint(cfg)
	if c.roles && err == nil {
		found, err = lintRoles(cfg, c.rows)
	}
	if err != nil {
		return 0, c.unread(err)
	}
	var plan policy.Plan
	if p, err := policy.Compile(cfg); err == nil && !slices.ContainsFunc(found, func(f policy.Finding) bool { return f.Kind == roleKind }) {
		plan = p.Plan()
	}
	out := []finding{}
	for _, f := range found {
		out = append(out, finding{strings.TrimPrefix(f.Where, "Config.Policy "), f.Kind, f.Why})
	}
	if c.asJSON {
		err = c.print(map[string]any{"ok": len(out) == 0, "findings": out, "by": string(plan.By), "why": plan.Why,
			"index": list(plan.Index), "residual": list(plan.Residual), "rules": plan.Rules, "links": plan.Links})
	} else {
		for _, f := range out {
			fmt.Fprintln(c.stdout, plain(fmt.Sprintf("%s: %s: %s", f.Where, f.Kind, f.Why)))
		}
		switch plan.By {
		case "":
			fmt.Fprintln(c.stdout, "refused: it would not be loaded")
		case policy.Compiled:
			fmt.Fprintln(c.stdout, plain(compiled(plan)))
		default:
			fmt.Fprintln(c.stdout, plain("decided by Casbin, which tries every row: "+plan.Why))
		}
	}
	if err == nil && len(out) > 0 {
		return exitFound, nil
	}
	return exitOK, err
}

// compiled says how a compiled policy is decided.
func compiled(plan policy.Plan) string {
	out := fmt.Sprintf("compiled: %d rules, %d links; rows are found by %s", plan.Rules, plan.Links, strings.Join(plan.Index, ", "))
	if len(plan.Residual) > 0 {
		out += "; of those found is tried " + strings.Join(plan.Residual, ", ")
	}
	return out
}

// roleKind is what package rbac refuses.
const roleKind = "role"

// lintRoles looks at a policy of package rbac, and takes what that refuses for a
// finding.
func lintRoles(cfg policy.Config, rows string) ([]policy.Finding, error) {
	text, err := os.ReadFile(rows)
	if err != nil {
		return nil, err
	}
	found, err := rbac.Lint(rbac.Config{Model: cfg.Model, Policy: string(text), Assigned: hasUsers(cfg.Rows)})
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			err = cause
		}
		where, why := "policy", err.Error()
		if at, rest, ok := strings.Cut(why, ": "); ok && strings.HasPrefix(at, "Config.") {
			where, why = strings.TrimPrefix(strings.ToLower(strings.TrimPrefix(at, "Config.")), "policy "), rest
		}
		found = append(found, policy.Finding{Kind: roleKind, Where: where, Why: why})
	}
	return found, nil
}

// hasUsers reports whether rows of package rbac say who has which role.
func hasUsers(rows []policy.Row) bool {
	return slices.ContainsFunc(rows, func(r policy.Row) bool {
		return r.Fields[0] == "g" && len(r.Fields) > 1 && strings.HasPrefix(r.Fields[1], "u:")
	})
}
