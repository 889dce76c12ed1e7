// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/part164/part164/audit"
)

const detailManual = `NAME
    auditctl detail - open or erase the sealed detail of an event

SYNOPSIS
    auditctl detail DIR EVENT --kek FILE --tenant ID --purpose CODE [--json]
    auditctl detail DIR EVENT --erase CODE [--citation SECTION] [--early]
        --kek ...

DESCRIPTION
    detail prints what is sealed beside the event with the ID EVENT in the
    journal in the folder DIR: recipient, address, description and statement
    of a disclosure. That this user of the operating system opened it, and for
    which purpose, is recorded before anything is shown. No process may have
    DIR open meanwhile.

    With --erase it destroys it for good. The event's line stays, and the
    journal verifies as before.

OPTIONS
    --erase CODE
        Destroy the detail on this authority: court, regulator, individual or
        mistake.
    --citation SECTION
        Of the authority, such as "164.526(a)(1)".
    --early
        Also before the six years are over in which an accounting of
        disclosures needs it. A legal hold is never passed over.
` + keyedManual + `    --json
        Print one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   done
    1   a journal is broken
    3   it could not run: no journal, no key, no such detail, or bad usage

EXAMPLES
    auditctl detail data/audit j0123456789abcdef0123456789abcdef.42 \
        --kek data/audit.kek --tenant t-1 --purpose HCOMPL
`

func detailCommand() command {
	return command{"detail", "open or erase the sealed detail of an event", detailManual, runDetail}
}

func runDetail(ctx context.Context, c *call) (int, error) {
	var e audit.Erasure
	erase := c.flags.String("erase", "", "")
	c.flags.StringVar(&e.Citation, "citation", "", "")
	c.flags.BoolVar(&e.Early, "early", false, "")
	k := c.keyed()
	args, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(args) != 2:
		return 0, usagef("it takes a folder and an event's ID")
	case *erase == "" && e != audit.Erasure{}:
		return 0, usagef("--citation and --early go with --erase")
	}
	j, ctx, err := k.openKnown(ctx, args[0])
	if err != nil {
		return 0, err
	}
	if *erase != "" {
		e.Event, e.Reason = args[1], audit.Reason(*erase)
		return exitOK, done(j, j.Erase(ctx, e))
	}
	d, err := j.Detail(ctx, args[1])
	if err = done(j, err); err != nil {
		return 0, err
	}
	if c.asJSON {
		return exitOK, c.print(d)
	}
	for _, f := range [...]struct{ name, text string }{
		{"recipient", d.Recipient}, {"address", d.Address}, {"description", d.Description}, {"statement", d.Statement},
	} {
		if f.text != "" {
			if _, err := fmt.Fprintf(c.stdout, "%-12s %q\n", f.name, f.text); err != nil {
				return 0, err
			}
		}
	}
	return exitOK, nil
}
