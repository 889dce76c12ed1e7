// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/part164/part164/access/policy"
)

const explainManual = `NAME
    policyctl explain - say why a request is allowed or denied

SYNOPSIS
    policyctl explain [-model FILE] -policy FILE [-roles] [--json] FIELD...

DESCRIPTION
    explain decides one request, given field by field in the order of the
    model's request_definition, and says which row decides, through which roles
    the subject has it, and for a denial that no row makes which rows would
    allow it but for one term of the matcher. Put -- before a field that begins
    with a dash.

OPTIONS
` + filesManual + jsonManual + `
EXIT STATUS
    0   the request is allowed
    1   it is denied
    3   it could not run: bad usage, a file that cannot be read, or a policy
        that would not be loaded

EXAMPLES
    policyctl explain -model model.conf -policy policy.csv alice data1 read
    policyctl explain -policy policy.csv r:nurse clinic-7 patient read TREAT
`

func explainCommand() command {
	return command{"explain", "say why a request is allowed or denied", explainManual, runExplain}
}

func runExplain(c *call) (int, error) {
	request, err := c.parse()
	if err != nil {
		return 0, err
	}
	cfg, err := config(c.model, c.rows, c.roles)
	if err != nil {
		return 0, err
	}
	p, err := policy.Compile(cfg)
	if err != nil {
		return 0, c.unread(err)
	}
	m, err := policy.ReadModel(cfg.Model)
	if err != nil {
		return 0, err
	}
	if len(request) != len(m.Request) {
		return 0, usagef("a request has %d fields, and %d are given: %s", len(m.Request), len(request), strings.Join(m.Request, " "))
	}
	x, err := p.Explain(request...)
	if err != nil {
		return 0, err
	}
	d := x.Decision
	from := ""
	if d.Rule != nil {
		from = d.Rule.From
	}
	if c.asJSON {
		err = c.print(map[string]any{"allow": d.Allow, "rule": fields(d.Rule), "from": from, "by": string(d.By), "refused": d.Refused, "path": list(x.Path), "near": list(x.Near)})
	} else {
		lines := []string{"denied"}
		if d.Allow {
			lines[0] = "allowed"
		}
		switch {
		case d.Rule != nil:
			lines[0] += " by " + from + ": " + d.Rule.String()
		case d.Refused != "":
			lines[0] += ": " + d.Refused
		default:
			lines[0] += ": no row allows it"
		}
		if len(x.Path) > 1 {
			lines = append(lines, "roles: "+strings.Join(x.Path, " -> "))
		}
		for _, n := range x.Near {
			lines = append(lines, "near: "+n)
		}
		fmt.Fprintln(c.stdout, plain(strings.Join(lines, "\n")))
	}
	if err == nil && !d.Allow {
		return exitFound, nil
	}
	return exitOK, err
}
