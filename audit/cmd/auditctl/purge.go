// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/part164/part164/audit"
)

const purgeManual = `NAME
    auditctl purge - remove the oldest events of a journal

SYNOPSIS
    auditctl purge DIR [--before DATE]
        --kek FILE --tenant ID --purpose CODE [--json]

DESCRIPTION
    purge removes the oldest whole segments of the journal in the folder DIR,
    with the sealed detail of their events, up to the first segment that is
    not six years old, that holds an event under a legal hold, or that a sink
    of the journal has not passed: see auditctl hold. It is recorded in the
    journal, and signed, so that auditctl verify tells it from a loss. No
    process may have DIR open meanwhile.

    Six years is what 45 CFR 164.316(b)(2)(i) asks of the documentation that
    the Security Rule requires. State law may ask for more: use --before.

OPTIONS
    --before DATE
        Keep what happened on this day or later: 2018-01-01. It must be six
        years ago or more.
    --clock-checked
        Say that you have looked at this machine's clock. It is asked for
        where nothing was recorded for more than 31 days in the last six
        years: a clock that is years ahead leaves such a gap.
` + keyedManual + `    --json
        Print one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   done, also where there was nothing to remove
    1   a journal is broken
    3   it could not run: no journal, no key, or bad usage

EXAMPLES
    auditctl purge data/audit \
        --kek data/audit.kek --tenant t-1 --purpose RECORDMGT
`

func purgeCommand() command {
	return command{"purge", "remove the oldest events of a journal", purgeManual, runPurge}
}

func runPurge(ctx context.Context, c *call) (int, error) {
	before := c.flags.String("before", "", "")
	checked := c.flags.Bool("clock-checked", false, "")
	k := c.keyed()
	dirs, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(dirs) != 1:
		return 0, usagef("it takes one folder")
	}
	p := audit.Purge{ClockChecked: *checked}
	if p.Before, err = day(*before); err != nil || p.Before.After(time.Now()) {
		return 0, usagef("--before is not a day of the past such as 2018-01-01")
	}
	j, ctx, err := k.openKnown(ctx, dirs[0])
	if err != nil {
		return 0, err
	}
	r, err := j.Purge(ctx, p)
	if errors.Is(err, audit.ErrClock) {
		err = fmt.Errorf("%w (--clock-checked)", err)
	}
	if err = done(j, err); err != nil {
		return 0, err
	}
	switch {
	case c.asJSON:
		return exitOK, c.print(map[string]any{"segments": r.Segments, "from": r.From, "size": r.Size})
	case r.Segments == 0:
		_, err = fmt.Fprintln(c.stdout, "there is nothing that may be removed")
	default:
		_, err = fmt.Fprintf(c.stdout, "removed the lines from %d to %d, and segments up to number %d\n", r.From, r.Size-1, r.Segments)
	}
	return exitOK, err
}
