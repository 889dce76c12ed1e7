// SPDX-License-Identifier: Apache-2.0

// Command auditctl checks an audit journal of part164.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/part164/part164/audit"
)

// Exit codes.
const (
	exitOK          = 0
	exitBroken      = 1
	exitUnwitnessed = 2
	exitCannotRun   = 3
)

const manual = `NAME
    auditctl - check an audit journal of part164

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
                  Witnesses are not part of this release.

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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, manual)
		return exitCannotRun
	}
	switch args[0] {
	case "verify":
		return verify(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, manual)
		return exitOK
	}
	fmt.Fprintf(stderr, "auditctl: there is no command %q: try auditctl --help\n", args[0])
	return exitCannotRun
}

func verify(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("auditctl verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	pubkey := flags.String("pubkey", "", "")
	requireWitness := flags.Bool("require-witness", false, "")
	asJSON := flags.Bool("json", false, "")
	dirs, err := parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, manual)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "auditctl: %v: try auditctl --help\n", err)
		return exitCannotRun
	case len(dirs) != 1:
		fmt.Fprintln(stderr, "auditctl: verify takes one folder: try auditctl --help")
		return exitCannotRun
	}

	var cfg audit.VerifyConfig
	if *pubkey != "" {
		text, err := os.ReadFile(*pubkey)
		if err == nil {
			cfg.Verifier, err = audit.ParseVerifier(text)
		}
		if err != nil {
			fmt.Fprintf(stderr, "auditctl: %v\n", err)
			return exitCannotRun
		}
	}
	bar := newProgress(stderr)
	if bar != nil {
		cfg.Progress = bar.show
	}
	report, err := audit.Verify(ctx, dirs[0], cfg)
	bar.clear()
	if err != nil {
		fmt.Fprintf(stderr, "auditctl: %v\n", err)
		return exitCannotRun
	}
	if *asJSON {
		err = printJSON(stdout, &report)
	} else {
		err = printText(stdout, dirs[0], &report)
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "auditctl: %v\n", err)
		return exitCannotRun
	case len(report.Defects) > 0:
		return exitBroken
	case *requireWitness && !report.Witnessed():
		return exitUnwitnessed
	}
	return exitOK
}

// parse takes flags and arguments in any order.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
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

func printJSON(w io.Writer, r *audit.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	defects := r.Defects
	if defects == nil {
		defects = []audit.Defect{}
	}
	key := "given"
	if r.KeyFromFolder {
		key = "folder"
	}
	return enc.Encode(struct {
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

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}

// A progress shows how far a long run is, on a terminal only.
type progress struct {
	w     io.Writer
	start time.Time
	last  time.Time
	shown bool
}

// newProgress returns nil where w is no terminal.
func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 || info.Name() == "null" {
		return nil
	}
	return &progress{w: w, start: time.Now()}
}

func (p *progress) show(done, total int64) {
	now := time.Now()
	if now.Sub(p.start) < time.Second || now.Sub(p.last) < 200*time.Millisecond || total == 0 {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprintf(p.w, "\rverifying %3d%% of %d MiB", done*100/total, total>>20)
}

func (p *progress) clear() {
	if p != nil && p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
