// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"time"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/format"
)

const exportManual = `NAME
    auditctl export - print the events of journals in the form of another system

SYNOPSIS
    auditctl export DIR... [--format fhir|ocsf|cef|json] [--observer ID]
                    [--since TIME] [--until TIME]

DESCRIPTION
    export prints the events of the journals in the folders DIR, one document
    a line. Of several it makes one stream, by time, then writer, then
    sequence. It needs no key and takes no lock. Patients stand in it by
    pseudonym; the output is PHI all the same: keep it as the journal is kept.

    json  the exact line, with its ID, writer and leaf hash: what auditctl
          compare reads, and what can be proven
    fhir  FHIR R4 AuditEvent, IHE BALP profiles; one a patient
    ocsf  Open Cybersecurity Schema Framework 1.5
    cef   Common Event Format 0

    It stops at the first line that is damaged.

OPTIONS
    --format FORMAT
        The form. json where it is left out.
    --observer ID
        Names the system whose journal it is. The journal's writer where it is
        left out.
    --since TIME, --until TIME
        Events from this time on, and before that one: 2026-11-22, or
        2026-11-22T13:00:00Z.
    --json
        The same as --format json.
    --help
        Print this page.

EXIT STATUS
    0   done
    1   a journal is broken
    3   it could not run: no journal, or bad usage

EXAMPLES
    auditctl export data/audit --format fhir --since 2026-11-01 >november.ndjson
    auditctl export node-1/audit node-2/audit --format cef
`

func exportCommand() command {
	return command{"export", "print the events of journals as FHIR, OCSF, CEF or JSON", exportManual, runExport}
}

func runExport(ctx context.Context, c *call) (int, error) {
	name := c.flags.String("format", "json", "")
	observer := c.flags.String("observer", "", "")
	since := c.flags.String("since", "", "")
	until := c.flags.String("until", "", "")
	dirs, err := c.parse()
	if err != nil {
		return 0, err
	}
	if len(dirs) == 0 {
		return 0, usagef("it takes the folder of a journal")
	}
	f, err := format.Parse(*name)
	if err != nil {
		return 0, usagef("--format is not one of json, fhir, ocsf, cef")
	}
	if c.asJSON && f != format.JSON {
		return 0, usagef("--json and --format %s say two things", f)
	}
	e := format.Encoder{Format: f, Observer: *observer}
	if err := e.Check(); err != nil {
		return 0, usagef("--observer: %w", err)
	}
	from, err := readTime("--since", *since)
	if err != nil {
		return 0, err
	}
	to, err := readTime("--until", *until)
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriter(c.document)
	var doc []byte
	for l, rerr := range audit.Merge(ctx, dirs...) {
		if rerr != nil {
			err = rerr
			break
		}
		if l.Time.Before(from) || !to.IsZero() && !l.Time.Before(to) {
			continue
		}
		if doc, err = e.Append(doc[:0], l); err != nil {
			break
		}
		if _, err := out.Write(doc); err != nil {
			return 0, err
		}
	}
	if ferr := out.Flush(); ferr != nil {
		return 0, ferr
	}
	return exitOK, err
}

// readTime reads a day, which begins in UTC, or a time; empty is the zero time.
func readTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("%s is neither a day, 2026-11-22, nor a time, 2026-11-22T13:00:00Z", flag)
}
