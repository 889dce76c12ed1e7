// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/part164/part164/audit"
)

const tailManual = `NAME
    auditctl tail - print the events of a journal

SYNOPSIS
    auditctl tail DIR [--lines N] [--follow] [--json]

DESCRIPTION
    tail prints the last events of the journal in the folder DIR, oldest
    first, one a line: event ID, time, type, outcome, reason, who, for which
    purpose, and how many records. IDs of patients are the pseudonyms that
    stand in the journal. It needs no key and takes no lock: DIR may be in
    use; then the newest events come with the next checkpoint.

    It stops at the first line that is damaged.

OPTIONS
    --lines N
        How many events. 10 where it is left out; 0 prints all.
    --follow
        Go on as the journal grows, until interrupted.
    --json
        Print the lines as they stand in the journal.
    --help
        Print this page.

EXIT STATUS
    0   done
    1   the journal is broken
    3   it could not run: no journal, or bad usage

EXAMPLES
    auditctl tail data/audit
    auditctl tail data/audit --lines 0 --json | jq 'select(.type == "denied")'
`

func tailCommand() command {
	return command{"tail", "print the last events of a journal", tailManual, runTail}
}

func runTail(ctx context.Context, c *call) (int, error) {
	lines := c.flags.Int("lines", 10, "")
	follow := c.flags.Bool("follow", false, "")
	dirs, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(dirs) != 1:
		return 0, usagef("it takes one folder")
	case *lines < 0:
		return 0, usagef("--lines is negative")
	}
	var at audit.Position
	var held []audit.Line
	show := func(l audit.Line) error {
		at = l.Position
		if *lines == 0 {
			return c.event(&l)
		}
		if held = append(held, l); len(held) > 2**lines {
			held = append(held[:0], held[len(held)-*lines:]...)
		}
		return nil
	}
	for {
		for l, rerr := range audit.Read(ctx, dirs[0], at) {
			if err = rerr; err == nil {
				err = show(l)
			}
			if err != nil {
				break
			}
		}
		for _, l := range held[max(0, len(held)-*lines):] {
			if perr := c.event(&l); perr != nil {
				return 0, perr
			}
		}
		held, *lines = nil, 0
		var corrupt *audit.CorruptError
		switch {
		case errors.As(err, &corrupt):
			return 0, err
		case *follow && ctx.Err() != nil: // interrupted: that is how following ends
			return exitOK, nil
		case err != nil || !*follow:
			return exitOK, err
		}
		select {
		case <-ctx.Done():
			return exitOK, nil
		case <-time.After(time.Second):
		}
	}
}

// event prints one event on a line.
func (c *call) event(l *audit.Line) error {
	if c.asJSON {
		_, err := fmt.Fprintf(c.document, "%s\n", json.RawMessage(l.Raw))
		return err
	}
	who := l.Actor.ID
	if who == "" {
		who = "-"
	}
	if l.Actor.Tenant != "" {
		who += "@" + l.Actor.Tenant
	}
	var rest []string
	for _, s := range []string{string(l.Reason), string(l.Purpose), string(l.Action), l.Attempt} {
		if s != "" {
			rest = append(rest, s)
		}
	}
	if n := len(l.Objects); n > 0 {
		rest = append(rest, plural(uint64(n), "record", "records"))
	} else if l.Count > 0 {
		rest = append(rest, fmt.Sprintf("count %d", l.Count))
	}
	text := fmt.Sprintf("%s  %s  %-18s %-8s %s  %s", l.ID, l.Time.UTC().Format(time.RFC3339), l.Type, l.Outcome, who, strings.Join(rest, " "))
	_, err := fmt.Fprintln(c.stdout, strings.TrimRight(text, " "))
	return err
}
