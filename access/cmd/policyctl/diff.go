// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/part164/part164/access/policy"
	"github.com/part164/part164/access/rbac"
)

const diffManual = `NAME
    policyctl diff - list every right that a change of a policy gives or takes

SYNOPSIS
    policyctl diff [-model FILE] -policy OLD [-to-model FILE] -to NEW
        [-roles] [-values FIELD=VALUE,...]... [-requests FILE] [--json]

DESCRIPTION
    diff compares two policies by what they allow, not by their text. It lists
    each request that one allows and the other does not: + for a right that
    is gained, - for one that is lost. It is exact over all names that the
    policies have; "(any other)" stands for every name that they do not have.

    A field that is matched by a pattern has no such names: -values gives those
    to try. With -requests nothing is enumerated; requests that were recorded,
    as eval reads them, are put to both policies, and ~ marks those that
    another row decides.

OPTIONS
` + filesManual + `    -to-model FILE
        The model of the new policy, where it is another.
    -to FILE
        The rows of the new policy. Required.
    -values FIELD=VALUE,...
        More values to try for a field of the request, such as obj.
    -requests FILE
        Requests to try instead, a JSON array of strings a line.
` + jsonManual + `
EXIT STATUS
    0   nothing is gained or lost
    1   something is
    3   it could not run: bad usage, or a file that cannot be read

EXAMPLES
    policyctl diff -model model.conf -policy policy.csv -to new.csv
`

func diffCommand() command {
	return command{"diff", "list every right that a change of a policy gives or takes", diffManual, runDiff}
}

// valuesFlag collects FIELD=VALUE,...
type valuesFlag map[string][]string

func (v valuesFlag) String() string { return "" }

func (v valuesFlag) Set(s string) error {
	field, values, ok := strings.Cut(s, "=")
	if !ok || field == "" || values == "" {
		return fmt.Errorf("is not FIELD=VALUE,...")
	}
	v[field] = append(v[field], strings.Split(values, ",")...)
	return nil
}

type changed struct {
	Sign    string   `json:"sign"` // + gained, - lost, ~ another row
	Request []string `json:"request"`
	Rule    []string `json:"rule"`
	line    string
}

func runDiff(c *call) (int, error) {
	values := make(valuesFlag)
	var toModel, to, requests string
	c.flags.StringVar(&toModel, "to-model", "", "")
	c.flags.StringVar(&to, "to", "", "")
	c.flags.StringVar(&requests, "requests", "", "")
	c.flags.Var(values, "values", "")
	args, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(args) > 0:
		return 0, usagef("it takes no argument %q", args[0])
	case to == "":
		return 0, usagef("-to FILE is missing: the rows of the new policy, as CSV")
	}
	if toModel == "" {
		toModel = c.model
	}
	var out []changed
	if c.roles && requests == "" {
		out, err = diffRoles([2]string{c.model, toModel}, [2]string{c.rows, to}, values)
	} else {
		out, err = c.diffRows(toModel, to, requests, values)
	}
	if err != nil {
		return 0, err
	}
	if c.asJSON {
		err = c.print(map[string]any{"same": len(out) == 0, "changes": list(out)})
	} else {
		for _, o := range out {
			fmt.Fprintln(c.stdout, plain(o.line))
		}
	}
	if err == nil && len(out) > 0 {
		return exitFound, nil
	}
	return exitOK, err
}

// diffRows compares any two policies.
func (c *call) diffRows(toModel, to, requests string, values valuesFlag) ([]changed, error) {
	var both [2]*policy.Policy
	for i, files := range [][2]string{{c.model, c.rows}, {toModel, to}} {
		cfg, err := config(files[0], files[1], c.roles)
		if err != nil {
			return nil, err
		}
		if both[i], err = policy.Compile(cfg); err != nil {
			return nil, fmt.Errorf("%s: %w", files[1], err)
		}
	}
	var changes []policy.Change
	if requests != "" {
		f, err := os.Open(requests)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in := newLines(f)
		changes, err = policy.Replay(both[0], both[1], in.requests())
		if in.err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", requests, in.n, in.err)
		}
		if err != nil {
			return nil, err
		}
	} else {
		var err error
		if changes, err = policy.Diff(both[0], both[1], values); err != nil {
			return nil, err
		}
	}
	var out []changed
	for _, ch := range changes {
		line := ch.String()
		rule := ch.New.Rule
		if line[0] == '-' && ch.Old.Rule != nil {
			rule = ch.Old.Rule
		}
		if rule != nil {
			line += "  by " + rule.From + ": " + rule.String()
		}
		out = append(out, changed{line[:1], ch.Request, fields(rule), line})
	}
	return out, nil
}

// diffRoles compares two policies of package rbac.
func diffRoles(models, files [2]string, values valuesFlag) ([]changed, error) {
	var both [2]*rbac.Engine
	for i, file := range files {
		var model []byte
		rows, err := os.ReadFile(file)
		if err == nil && models[i] != "" {
			model, err = os.ReadFile(models[i])
		}
		if err != nil {
			return nil, err
		}
		read, err := policy.ReadCSV(bytes.NewReader(rows))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if both[i], err = rbac.New(rbac.Config{Model: string(model), Policy: string(rows), Assigned: hasUsers(read)}); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	changes, err := rbac.Diff(both[0], both[1], values)
	if err != nil {
		return nil, err
	}
	var out []changed
	for _, ch := range changes {
		line := ch.String()
		out = append(out, changed{line[:1], []string{"r:" + ch.Role, ch.Tenant, ch.Type, string(ch.Action), string(ch.Purpose)}, strings.Split(strings.TrimPrefix(ch.Rule, "p, "), ", "), line})
	}
	return out, nil
}
