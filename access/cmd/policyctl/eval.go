// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/part164/part164/access/policy"
)

const evalManual = `NAME
    policyctl eval - decide requests

SYNOPSIS
    policyctl eval [-model FILE] -policy FILE [-roles] [-as-casbin] [REQUESTS]

DESCRIPTION
    eval reads requests from the file REQUESTS, or from standard input: a line
    each, a JSON array of strings in the order of the model's
    request_definition. It writes a line for each:

        {"allow":true,"rule":["alice","data1","read"],"by":"compiled"}

    rule is the row that decided, as Casbin's EnforceEx returns it; empty where
    none did. by is compiled, or casbin where the model cannot be compiled.
    refused says why a request was denied without asking any row, error why it
    could not be answered; such a request is denied.

    What Casbin takes of a policy and part164 does not, since it could allow
    more than it seems to, is listed on standard error, and every request is
    then denied: such a policy would not be loaded. With -as-casbin nothing is
    refused, and every answer is the one that Casbin gives, so that the one
    can be held against the other.

OPTIONS
` + filesManual + `    -as-casbin
        Refuse nothing, and answer as Casbin does, also where that fails open.
    --json
        Changes nothing: the output is JSON.
    --help
        Print this page.

EXIT STATUS
    0   every request was answered
    1   the policy is refused, or a request could not be answered
    3   it could not run: bad usage, or a file that cannot be read

EXAMPLES
    echo '["alice","data1","read"]' |
        policyctl eval -model model.conf -policy policy.csv
`

func evalCommand() command { return command{"eval", "decide requests", evalManual, runEval} }

// An answer is a line of output.
type answer struct {
	Allow   bool     `json:"allow"`
	Rule    []string `json:"rule"`
	By      string   `json:"by"`
	Refused string   `json:"refused,omitempty"`
	Error   string   `json:"error,omitempty"`
}

func runEval(c *call) (code int, err error) {
	asCasbin := c.flags.Bool("as-casbin", false, "")
	args, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(args) > 1:
		return 0, usagef("it takes one file of requests")
	}
	cfg, err := config(c.model, c.rows, c.roles)
	if err != nil {
		return 0, err
	}
	cfg.AsCasbin = *asCasbin
	p, err := policy.Compile(cfg)
	var refused *policy.RefusedError
	if err != nil && !errors.As(err, &refused) {
		return 0, c.unread(err)
	}
	if refused != nil {
		code = exitFound
		for _, f := range refused.Findings {
			fmt.Fprintln(c.stderr, plain(fmt.Sprintf("refused: %s: %s: %s", f.Where, f.Kind, f.Why)))
		}
	}
	in := c.stdin
	if len(args) == 1 {
		f, err := os.Open(args[0])
		if err != nil {
			return 0, err
		}
		defer f.Close()
		in = f
	}
	buffered := bufio.NewWriter(c.stdout)
	out := json.NewEncoder(buffered)
	out.SetEscapeHTML(false)
	requests := newLines(in)
	for request, bad := range requests.all() {
		a := answer{Rule: []string{}, By: string(policy.Compiled)}
		switch {
		case bad != nil:
			a.Error = bad.Error()
		case refused != nil:
			a.Refused = "the policy is refused: " + refused.Findings[0].String()
		default:
			d, err := p.Decide(request...)
			a = answer{Allow: d.Allow && err == nil, Rule: fields(d.Rule), By: string(d.By), Refused: d.Refused}
			if err != nil {
				a.Error = err.Error()
			}
			if a.By == "" {
				a.By = string(p.Plan().By)
			}
		}
		if a.Error != "" {
			code = exitFound
		}
		if err := out.Encode(a); err != nil {
			return 0, err
		}
	}
	if requests.err != nil {
		return 0, requests.err
	}
	return code, buffered.Flush()
}

// maxRequest bounds a line, in bytes.
const maxRequest = 1 << 20

// lines are requests, a JSON array of strings a line.
type lines struct {
	in  *bufio.Scanner
	n   int
	err error // what ended them early
}

func newLines(r io.Reader) *lines {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxRequest)
	return &lines{in: in}
}

var errNoRequest = errors.New(`the line is no JSON array of strings, such as ["alice","data1","read"]`)

// all yields each request, or what is wrong with its line.
func (l *lines) all() iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for l.in.Scan() {
			l.n++
			if len(l.in.Bytes()) == 0 {
				continue
			}
			var request []*string
			err := json.Unmarshal(l.in.Bytes(), &request)
			out := make([]string, len(request))
			for i, v := range request {
				if v == nil {
					err = errNoRequest
					break
				}
				out[i] = *v
			}
			if err != nil || request == nil {
				out, err = nil, errNoRequest
			}
			if !yield(out, err) {
				return
			}
		}
		if err := l.in.Err(); err != nil {
			l.err = fmt.Errorf("line %d: %w", l.n+1, err)
		}
	}
}

// requests yields each request up to the first bad line, which is then err.
func (l *lines) requests() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for request, err := range l.all() {
			if err != nil {
				l.err = err
				return
			}
			if !yield(request) {
				return
			}
		}
	}
}
