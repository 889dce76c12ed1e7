// SPDX-License-Identifier: Apache-2.0

// Command auditctl checks, reads and proves audit journals of part164. Its
// commands stand in commands, each in a file of its name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"

	"github.com/part164/part164/audit"
)

// Exit codes, the same for every command.
const (
	exitOK          = 0
	exitBroken      = 1 // what was checked is not as it should be
	exitUnwitnessed = 2 // a witness was required, and there is none
	exitCannotRun   = 3 // bad usage, or something that is needed is not there
)

// A command is one of auditctl's. Its manual is what --help prints.
type command struct {
	name    string
	summary string // one line for auditctl help
	manual  string
	run     func(ctx context.Context, c *call) (code int, err error) // with an error the code is exitBroken where a journal is corrupt, else exitCannotRun
}

// commands are all there are, in the order of auditctl help.
func commands() []command {
	return []command{
		verifyCommand(),
		proveCommand(),
		verifyProofCommand(),
		tailCommand(),
		holdCommand(),
		purgeCommand(),
		detailCommand(),
		keysCommand(),
		exportCommand(),
		compareCommand(),
		reportCommand(),
		certificateCommand(),
	}
}

const manualHead = `NAME
    auditctl - check, read and prove audit journals of part164

SYNOPSIS
    auditctl COMMAND [ARGUMENTS] [OPTIONS]
    auditctl COMMAND --help

COMMANDS
`

const manualFoot = `
EXIT STATUS
    0   it was done, and every check passed
    1   what was checked is broken
    2   a witness was required, and there is none
    3   it could not run: bad usage, no journal, no key
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
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
			return cmd.call(ctx, args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "auditctl: there is no command %q: try auditctl --help\n", name)
	return exitCannotRun
}

func (cmd *command) call(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCall(cmd.name, args, stdout, stderr)
	code, err := cmd.run(ctx, c)
	var usage *usageError
	var corrupt *audit.CorruptError
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, cmd.manual)
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(c.stderr, "auditctl %s: %v: try auditctl %s --help\n", cmd.name, err, cmd.name)
		return exitCannotRun
	case err != nil:
		fmt.Fprintf(c.stderr, "auditctl %s: %v\n", cmd.name, err)
		if errors.As(err, &corrupt) {
			return exitBroken
		}
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
