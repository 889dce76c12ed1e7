// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/part164/part164/audit"
)

const keysManual = `NAME
    auditctl keys - print or replace the keys of a journal

SYNOPSIS
    auditctl keys DIR [--json]
    auditctl keys DIR --rotate --kek FILE --tenant ID --purpose CODE [--json]

DESCRIPTION
    keys prints the public keys of the journal in the folder DIR, oldest
    first; with each but the first the journal went on at a rotation that
    the key before has signed too. Keep a copy of the newest where nobody
    who can write to DIR can reach it.

    With --rotate it first makes a new version of every key of the journal
    and goes on with it. No process may have DIR open meanwhile.

OPTIONS
    --rotate
        Go on with new keys.
` + keyedManual + `    --json
        Print one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   done
    1   a journal is broken
    3   it could not run: no journal, no key, or bad usage

EXAMPLES
    auditctl keys data/audit
    auditctl keys data/audit --rotate \
        --kek data/audit.kek --tenant t-1 --purpose HSYSADMIN
`

func keysCommand() command {
	return command{"keys", "print or replace the keys of a journal", keysManual, runKeys}
}

func runKeys(ctx context.Context, c *call) (int, error) {
	rotate := c.flags.Bool("rotate", false, "")
	k := c.keyed()
	dirs, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(dirs) != 1:
		return 0, usagef("it takes one folder")
	}
	if *rotate {
		j, ctx, err := k.openKnown(ctx, dirs[0])
		if err != nil {
			return 0, err
		}
		if err := done(j, j.RotateKeys(ctx)); err != nil {
			return 0, err
		}
	}
	text, err := os.ReadFile(filepath.Join(dirs[0], "verifier.pub"))
	if err != nil {
		return 0, err
	}
	if _, err := audit.ParseVerifier(text); err != nil {
		return 0, err
	}
	keys := strings.Fields(string(text))
	if c.asJSON {
		return exitOK, c.print(map[string]any{"public_keys": keys})
	}
	for _, key := range keys {
		if _, err := fmt.Fprintln(c.stdout, key); err != nil {
			return 0, err
		}
	}
	return exitOK, nil
}
