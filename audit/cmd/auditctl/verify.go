// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/part164/part164/audit"
)

const verifyManual = `NAME
    auditctl verify - check an audit journal

SYNOPSIS
    auditctl verify DIR [--pubkey FILE] [--require-witness] [--json]

DESCRIPTION
    verify reads the journal in the folder DIR and checks that every line is
    the one that was written: whole, chained to the line before, covered by
    the signed checkpoints; and that no segment is missing in between. It
    needs no key of the journal and takes no lock: DIR may be in use. It
    changes nothing.

    It gives three verdicts.

    integrity     ok, or BROKEN with the file, offset and sequence of each
                  defect.
    authenticity  whose signature was checked. "key from folder" means that
                  the public key was found beside the journal: whoever can
                  replace the journal can replace that key with it. Give the
                  key from a safe place with --pubkey.
    completeness  UNWITNESSED: nobody outside confirmed how long the journal
                  is, so that a tail which was cut off cannot be seen.

    "open attempts" are writes whose outcome is not recorded in this journal.
    storage.Check decides each by looking at the data.

OPTIONS
    --pubkey FILE
        The journal's public key, as in its verifier.pub, from a place that
        the writer of DIR cannot reach.
    --require-witness
        Exit with 2 unless a witness confirms the journal's length.
    --json
        Print the report as one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   every check passed
    1   the journal is broken
    2   it is unwitnessed, and --require-witness was given
    3   it could not be checked: no journal, no key, or bad usage

EXAMPLES
    auditctl verify data/audit
    auditctl verify data/audit --pubkey /media/auditor/verifier.pub --json
`

func verifyCommand() command {
	return command{"verify", "check that a journal is what was written", verifyManual, runVerify}
}

func runVerify(ctx context.Context, c *call) (int, error) {
	pubkey := c.flags.String("pubkey", "", "")
	requireWitness := c.flags.Bool("require-witness", false, "")
	dirs, err := c.parse()
	if err != nil {
		return 0, err
	}
	if len(dirs) != 1 {
		return 0, usagef("it takes one folder")
	}
	var cfg audit.VerifyConfig
	if cfg.Verifier, err = readVerifier(*pubkey); err != nil {
		return 0, err
	}
	bar := c.progress("verifying")
	if bar != nil {
		cfg.Progress = bar.show
	}
	report, err := audit.Verify(ctx, dirs[0], cfg)
	bar.clear()
	if err != nil {
		return 0, err
	}
	if c.asJSON {
		err = printJSON(c, &report)
	} else {
		err = printText(c.stdout, dirs[0], &report)
	}
	switch {
	case err != nil:
		return 0, err
	case len(report.Defects) > 0:
		return exitBroken, nil
	case *requireWitness && !report.Witnessed():
		return exitUnwitnessed, nil
	}
	return exitOK, nil
}

func printText(w io.Writer, dir string, r *audit.Report) error {
	integrity := "integrity ok"
	if n := len(r.Defects); n > 0 {
		integrity = fmt.Sprintf("integrity BROKEN: %d defects", n)
		if n == 1 {
			integrity = "integrity BROKEN: 1 defect"
		}
	}
	key := "key given"
	if r.KeyFromFolder {
		key = "key from folder: compare it with one from a safe place (--pubkey)"
	}
	_, err := fmt.Fprintf(w, `journal        %s in %s
period         %s to %s
segments       %d
events         %d (%d lines, %d checkpoints)
open attempts  %d
unsigned tail  %d lines

%s
authenticity: %s
              %s
completeness: UNWITNESSED: without a witness a tail that was cut off cannot be seen
`, r.Origin, dir, stamp(r.First), stamp(r.Last), r.Segments, r.Events, r.Lines, r.Checkpoints, r.OpenAttempts, r.Unsigned,
		integrity, key, r.Verifier)
	if err == nil && r.GivenUp > 0 {
		_, err = fmt.Fprintf(w, "note: %d segments were given up after a failed sync of the disk\n", r.GivenUp)
	}
	for _, d := range r.Defects {
		if err == nil {
			_, err = fmt.Fprintf(w, "BROKEN %v\n", d)
		}
	}
	return err
}

func printJSON(c *call, r *audit.Report) error {
	defects := r.Defects
	if defects == nil {
		defects = []audit.Defect{}
	}
	key := "given"
	if r.KeyFromFolder {
		key = "folder"
	}
	return c.print(struct {
		Journal       string         `json:"journal"`
		Integrity     bool           `json:"integrity"`
		PublicKey     string         `json:"public_key"`
		PublicKeyFrom string         `json:"public_key_from"`
		Witnessed     bool           `json:"witnessed"`
		Segments      int            `json:"segments"`
		Lines         uint64         `json:"lines"`
		Events        uint64         `json:"events"`
		Checkpoints   uint64         `json:"checkpoints"`
		OpenAttempts  uint64         `json:"open_attempts"`
		Unsigned      uint64         `json:"unsigned_lines"`
		GivenUp       int            `json:"given_up_segments"`
		First         time.Time      `json:"first"`
		Last          time.Time      `json:"last"`
		Defects       []audit.Defect `json:"defects"`
	}{
		r.Origin, len(r.Defects) == 0, r.Verifier, key, r.Witnessed(), r.Segments, r.Lines, r.Events, r.Checkpoints,
		r.OpenAttempts, r.Unsigned, r.GivenUp, r.First, r.Last, defects,
	})
}
