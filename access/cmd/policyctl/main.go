// SPDX-License-Identifier: Apache-2.0

// Command policyctl looks at access policies: those of part164, and any that
// Casbin reads. Its commands stand in commands, each in a file of its name.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// Exit codes, the same for every command.
const (
	exitOK        = 0
	exitFound     = 1 // something was found, changed or denied, or a request could not be answered
	exitCannotRun = 3 // bad usage, or a file that cannot be read
)

// A command is one of policyctl's. Its manual is what --help prints.
type command struct {
	name    string
	summary string // one line for policyctl help
	manual  string
	run     func(c *call) (code int, err error) // with an error the code is exitCannotRun
}

// commands are all there are, in the order of policyctl help.
func commands() []command {
	return []command{lintCommand(), diffCommand(), explainCommand(), evalCommand()}
}

const manualHead = `NAME
    policyctl - look at access policies of part164 and of Casbin

SYNOPSIS
    policyctl COMMAND [OPTIONS] [ARGUMENTS]
    policyctl COMMAND --help

COMMANDS
`

const manualFoot = `
EXIT STATUS
    0   it was done, and nothing was found
    1   something was found, changed or denied, or a request was not answered
    3   it could not run: bad usage, or a file that cannot be read
`

// filesManual describes the options that name a policy.
const filesManual = `    -model FILE
        The model.conf of the policy. Without it the policy is one of package
        rbac with its default model, and -roles is meant.
    -policy FILE
        The rows of the policy, as CSV. Required.
    -roles
        The policy is one of package rbac: roles ask, so that a request's
        subject is a role, such as r:nurse, and users stand elsewhere.
`

const jsonManual = `    --json
        Print the result as one JSON object.
    --help
        Print this page.
`

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		help(stderr)
		return exitCannotRun
	}
	name := args[0]
	if name == "help" && len(args) > 1 {
		name, args = args[1], []string{args[1], "--help"}
	}
	switch name {
	case "help", "-h", "-help", "--help":
		help(stdout)
		return exitOK
	}
	for _, cmd := range commands() {
		if cmd.name == name {
			return cmd.call(args[1:], stdin, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "policyctl: there is no command %q: try policyctl --help\n", name)
	return exitCannotRun
}

func (cmd *command) call(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := newCall(cmd.name, args, stdin, stdout, stderr)
	code, err := cmd.run(c)
	var usage *usageError
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, cmd.manual)
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "policyctl %s: %s: try policyctl %s --help\n", cmd.name, plain(err.Error()), cmd.name)
		return exitCannotRun
	case err != nil:
		fmt.Fprintf(stderr, "policyctl %s: %s\n", cmd.name, plain(err.Error()))
		return exitCannotRun
	}
	return code
}

func help(w io.Writer) {
	fmt.Fprint(w, manualHead)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cmd := range commands() {
		fmt.Fprintf(tw, "    %s\t%s\n", cmd.name, cmd.summary)
	}
	_ = tw.Flush()
	fmt.Fprint(w, manualFoot)
}
