// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/part164/part164/audit"
)

const proveManual = `NAME
    auditctl prove - prove to somebody else that an event is in a journal

SYNOPSIS
    auditctl prove DIR EVENT [--witness FILE|URL]... [--witness-key FILE]...
        [--witness-ca FILE] [--json]

DESCRIPTION
    prove prints one JSON object: the line of the event with the ID EVENT, as
    it stands in the journal in the folder DIR, the RFC 6962 inclusion proof,
    and the signed checkpoint that it leads to. auditctl verify-proof checks
    it with the journal's public key, without the journal.

    With --witness the checkpoint is the newest one that a witness saw, with
    its cosignature: then the proof stands even against whoever has the
    journal's signing key.

    The line names the patient by a pseudonym, and everything else that it
    holds is shown to whoever gets the proof: of a list the pseudonyms of all
    records in the line, up to 1,024, and their fields. Nothing can be left out
    of a line, which is hashed as a whole. That is PHI: prove says on the
    standard error how many records it shows, and a proof of more than the
    recipient's own is not theirs to have. An event of more than 1,024 records
    has several lines, each with an ID of its own. After a rotation of the
    journal's keys the proof shows the events of the rotations, too, and by
    whom they were made.

OPTIONS
    --witness FILE|URL
        What a witness saw: its file, the file witness-*.jsonl that the
        journal's folder keeps of a remote one, or the https URL of one that
        is served by package audit/witness. May be given more than once.
    --witness-key FILE
        Verifier keys of witnesses, a line each. Required with a URL.
    --witness-ca FILE
        Certificates of the authority of the witness's URL, in PEM.
    --json
        Changes nothing: the output is JSON.
    --help
        Print this page.

EXIT STATUS
    0   the proof was printed
    3   it could not be made: no such event, a damaged journal, bad usage

EXAMPLES
    auditctl prove data/audit j0123456789abcdef0123456789abcdef.7 >proof.json
`

func proveCommand() command {
	return command{"prove", "prove to somebody else that an event is in a journal", proveManual, runProve}
}

func runProve(ctx context.Context, c *call) (int, error) {
	witnesses := c.witnessed()
	rest, err := c.parse()
	switch {
	case err != nil:
		return 0, err
	case len(rest) != 2:
		return 0, usagef("it takes a folder and an event ID")
	}
	var signed []byte
	if len(witnesses.sources) > 0 {
		keys, err := os.ReadFile(filepath.Join(rest[0], "verifier.pub"))
		if err != nil {
			return 0, err
		}
		origin, _, _ := strings.Cut(string(keys), "+")
		if signed, err = witnesses.newestNote(ctx, origin, string(keys)); err != nil {
			return 0, err
		}
	}
	p, err := audit.Prove(ctx, rest[0], rest[1], signed)
	if err != nil {
		return 0, err
	}
	if err := c.shown(&p); err != nil {
		return 0, err
	}
	return exitOK, c.print(p)
}

// shown says on the standard error whom the proof shows besides one patient.
func (c *call) shown(p *audit.Proof) error {
	writer, number, _ := strings.Cut(p.Event, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return err
	}
	l, err := audit.ParseLine(audit.Position{Writer: writer, Seq: seq}, []byte(p.Line))
	if err != nil {
		return err
	}
	patients := make(map[string]bool)
	for _, o := range l.Objects {
		patients[o.Tenant+"/"+o.Patient] = true
	}
	if len(patients) > 1 {
		_, err = fmt.Fprintf(c.stderr, "auditctl prove: the proof shows %s of %d patients, by pseudonym, with their fields: it is PHI of all of them\n",
			plural(uint64(len(l.Objects)), "record", "records"), len(patients))
	}
	return err
}
