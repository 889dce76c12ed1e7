// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/sink"
)

const compareManual = `NAME
    auditctl compare - hold a sink's copies against the journal

SYNOPSIS
    auditctl compare DIR COPIES [--sink NAME] [--json]

DESCRIPTION
    compare reads the journal in the folder DIR and a file of copies, "-" for
    the standard input, and names every event that is missing there, that is
    there and not in the journal, and whose bytes differ. It computes the hash
    of each copy and believes none that a receiver states. Copies of other
    journals are passed over. A line that holds no copy that can be read is
    different, and named by its number, where it does not say whose it is.

    COPIES holds one native JSON document a line, as the sinks deliver them and
    auditctl export makes them. What stands in front of the document in a line,
    as in a log file, is passed over. From the table of storage/auditstore:

    PostgreSQL
        psql -XAtc "SELECT '{\"writer\":\"' || writer || '\",\"line\":' ||
          convert_from(line, 'UTF8') || '}' FROM audit_events"
    SQLite
        sqlite3 app.db "SELECT '{\"writer\":\"' || writer || '\",\"line\":' ||
          CAST(line AS TEXT) || '}' FROM audit_events"
    MariaDB
        mariadb -rNBe "SELECT CONCAT('{\"writer\":\"', writer, '\",\"line\":',
          CONVERT(line USING utf8mb4), '}') FROM audit_events" app

OPTIONS
    --sink NAME
        What lies behind this sink's cursor is pending, not missing.
    --json
        Print the result as one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   the copies are those of the journal; some may be there twice
    1   something is missing, extra or different, or the journal is broken
    3   it could not run: no journal, no copies, or bad usage

EXAMPLES
    auditctl compare data/audit /var/log/siem/audit.log --sink syslog
`

func compareCommand() command {
	return command{"compare", "hold a sink's copies against the journal", compareManual, runCompare}
}

// compared is the output of compare --json.
type compared struct {
	OK          bool              `json:"ok"`
	Journal     int               `json:"journal"`
	Copies      int               `json:"copies"`
	Pending     int               `json:"pending"`
	Differences []sink.Difference `json:"differences"`
	More        int               `json:"more"`
}

func runCompare(ctx context.Context, c *call) (int, error) {
	name := c.flags.String("sink", "", "")
	args, err := c.parse()
	if err != nil {
		return 0, err
	}
	if len(args) != 2 {
		return 0, usagef("it takes the folder of a journal and a file of copies")
	}
	var passed audit.Position
	if *name != "" {
		cursors, err := audit.Cursors(args[0])
		if err != nil {
			return 0, err
		}
		var ok bool
		if passed, ok = cursors[*name]; !ok {
			return 0, usagef("--sink: the journal has no sink of that name")
		}
	}
	var in io.Reader = os.Stdin
	if args[1] != "-" {
		f, err := os.Open(args[1])
		if err != nil {
			return 0, err
		}
		defer f.Close()
		in = f
	}
	cmp, err := sink.Compare(ctx, args[0], passed, readCopies(in))
	if err != nil {
		return 0, err
	}
	if c.asJSON {
		out := compared{cmp.OK(), cmp.Journal, cmp.Copies, cmp.Pending, cmp.Differences, cmp.More}
		if out.Differences == nil {
			out.Differences = []sink.Difference{}
		}
		err = c.print(out)
	} else {
		err = printComparison(c.stdout, &cmp)
	}
	if err == nil && !cmp.OK() {
		return exitBroken, nil
	}
	return exitOK, err
}

func printComparison(w io.Writer, cmp *sink.Comparison) error {
	var b bytes.Buffer
	for _, d := range cmp.Differences {
		fmt.Fprintf(&b, "%-9s  %s\n", d.Finding, d.Event)
	}
	if cmp.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", cmp.More)
	}
	verdict := "the copies are those of the journal"
	if !cmp.OK() {
		verdict = "THE COPIES ARE NOT THOSE OF THE JOURNAL"
	}
	fmt.Fprintf(&b, "%s: %s compared, %s, %d pending\n", verdict,
		plural(uint64(cmp.Journal), "event", "events"), plural(uint64(cmp.Copies), "copy", "copies"), cmp.Pending)
	_, err := w.Write(b.Bytes())
	return err
}

// readCopies yields the documents of in. A line without one is yielded too, by
// its number: it may be a copy that was overwritten.
func readCopies(in io.Reader) iter.Seq2[sink.Copy, error] {
	return func(yield func(sink.Copy, error) bool) {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 4<<20)
		for n := 1; lines.Scan(); n++ {
			text := bytes.TrimSpace(lines.Bytes())
			if len(text) == 0 {
				continue
			}
			c := readCopyIn(text)
			c.Where = fmt.Sprintf("line %d of the copies", n)
			if !yield(c, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(sink.Copy{}, err)
		}
	}
}

// readCopyIn reads the document at the end of a line: the zero Copy where there
// is none.
func readCopyIn(text []byte) (c sink.Copy) {
	for _, start := range []string{`{"id":"`, `{"writer":"`} {
		if i := bytes.Index(text, []byte(start)); i >= 0 {
			var err error
			if c, err = sink.ReadCopy(text[i:]); err == nil {
				return c
			}
		}
	}
	return c
}
