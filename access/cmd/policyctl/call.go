// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/part164/part164/access/policy"
	"github.com/part164/part164/access/rbac"
)

// A call is one run of a command: what it was given, and where its output goes.
type call struct {
	flags          *flag.FlagSet // a command adds its own, then calls parse
	asJSON         bool          // --json; every command has it
	model, rows    string        // -model and -policy
	roles          bool          // -roles, and where there is no -model
	stdin          io.Reader
	stdout, stderr io.Writer
	args           []string
}

func newCall(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) *call {
	c := &call{flags: flag.NewFlagSet(name, flag.ContinueOnError), stdin: stdin, stdout: stdout, stderr: stderr, args: args}
	c.flags.SetOutput(io.Discard)
	c.flags.BoolVar(&c.asJSON, "json", false, "")
	c.flags.StringVar(&c.model, "model", "", "")
	c.flags.StringVar(&c.rows, "policy", "", "")
	c.flags.BoolVar(&c.roles, "roles", false, "")
	return c
}

// A usageError says what is wrong with the arguments.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// parse reads flags and arguments, in any order up to --, and returns the
// arguments.
func (c *call) parse() (rest []string, err error) {
	args := c.args
	for {
		if err := c.flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, &usageError{err}
		}
		left := c.flags.Args()
		if n := len(args) - len(left); len(left) == 0 || n > 0 && args[n-1] == "--" {
			rest = append(rest, left...)
			break
		}
		rest = append(rest, left[0])
		args = left[1:]
	}
	if c.rows == "" {
		return nil, usagef("-policy FILE is missing: the rows of the policy, as CSV")
	}
	c.roles = c.roles || c.model == ""
	return rest, nil
}

// config reads the files of a policy. An empty model is that of package rbac.
func config(model, rows string, roles bool) (policy.Config, error) {
	cfg := policy.Config{Model: rbac.DefaultModel, AskedByRole: roles}
	if model != "" {
		text, err := os.ReadFile(model)
		if err != nil {
			return cfg, err
		}
		cfg.Model = string(text)
	}
	f, err := os.Open(rows)
	if err != nil {
		return cfg, err
	}
	defer f.Close()
	if cfg.Rows, err = policy.ReadCSV(f); err != nil {
		return cfg, fmt.Errorf("%s: %w", rows, err)
	}
	return cfg, nil
}

// unread adds to what is wrong with a policy that no model was named for it.
func (c *call) unread(err error) error {
	if refused := (*policy.RefusedError)(nil); err != nil && c.model == "" && !errors.As(err, &refused) {
		return fmt.Errorf("%w (read by the default model of package rbac, p = sub, dom, obj, act, pur, eft: name yours with -model)", err)
	}
	return err
}

// print writes v as indented JSON.
func (c *call) print(v any) error {
	enc := json.NewEncoder(c.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// plain takes out what a terminal would obey.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsGraphic(r) && !unicode.In(r, unicode.Zl, unicode.Zp, unicode.Cf) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// fields are those of a row as Casbin reports it: without p.
func fields(r *policy.Row) []string {
	if r == nil {
		return []string{}
	}
	return r.Fields[1:]
}

// list is never null in JSON.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}
