// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/part164/part164/audit"
)

const verifyManual = `NAME
    auditctl verify - check that journals are what was written

SYNOPSIS
    auditctl verify DIR... [--pubkey FILE]... [--witness FILE|URL]...
        [--witness-key FILE]... [--witness-ca FILE] [--require-witness]
        [--max-age DURATION] [--max-tail LINES] [--json]

DESCRIPTION
    verify reads the journal in each folder DIR and checks that every line is
    the one that was written: whole, chained to the line before, covered by
    the signed checkpoints; and that no segment is missing in between. It
    needs no key of the journal and takes no lock: DIR may be in use. It
    changes nothing. Give the folders of all writers of a system in one run.

    It gives four verdicts on each journal.

    integrity     ok, or BROKEN with the file, offset and sequence of each
                  defect.
    authenticity  whose signature was checked. "key from folder" means that
                  the public key was found beside the journal: whoever can
                  replace the journal can replace that key with it. Give the
                  key from a safe place with --pubkey. After a rotation of the
                  journal's keys it may be one that the one given signed for.
    completeness  UNWITNESSED: nobody outside confirmed how long the journal
                  is, so that a tail which was cut off cannot be seen.
                  Where a witness was named, it has not seen this journal:
                  its file is another's, or was emptied.
                  witnessed at N lines: a witness saw them, at a time; what
                  came after is an UNWITNESSED tail.
                  TRUNCATED: a witness saw more lines than there are.
                  ROLLED BACK or FORKED: it saw other lines.
    retention     whether the oldest lines are all there, or were purged by
                  the journal's own signed record. Lines that are gone
                  otherwise are a defect of integrity.

    A journal that a witness knows and that is in none of the folders is
    ABSENT: it was deleted as a whole, or not given.

    SILENT is a time over 17 minutes in which the journal signed nothing though
    it was not closed: an idle one signs every 15. A crash, a full disk or a
    machine that stood still is an innocent reason, and the exit status stays
    as it is; a tail that was cut off before the journal went on looks the
    same. Ask whoever runs it.

    A write that is recorded as committed and as rolled back is a defect.

    "open attempts" are writes whose outcome is recorded in none of the
    folders. With one folder it may lie with another writer; storage.Check
    decides the rest by looking at the data.

OPTIONS
    --pubkey FILE
        Public keys of journals, as in their verifier.pub, from a place that
        the writers cannot reach. A file may hold several, a line each.
    --witness FILE|URL
        What a witness saw: its file, or the https URL of one that is served
        by package audit/witness. Or the file witness-*.jsonl in DIR, in
        which the journal keeps what a remote witness cosigned last: it shows
        what the witness saw, and not that it saw nothing later, since whoever
        can cut the journal can set that file back. May be given more than
        once.
    --witness-key FILE
        Verifier keys of witnesses, a line each. Required with a URL. Without
        it a file counts for what the place is worth that it was kept in,
        and its checkpoints need the signature of a journal's public key.
    --witness-ca FILE
        Certificates of the authority of the witness's URL, in PEM. The
        system's where it is left out.
    --require-witness
        Exit with 2 unless a witness confirms the length of each journal, and
        lately: a journal can be cut back to what was seen, and no further.
    --max-age DURATION
        How long ago the newest of what a witness saw may be, such as 90m. 24h
        where it is left out; 0 is any time, for a journal of the past.
    --max-tail LINES
        How many lines a journal may have behind that. 100000 where it is left
        out, a minute of 1,600 events a second; 0 is any number.
    --json
        Print the report as one JSON object.
    --help
        Print this page.

EXIT STATUS
    0   every check passed
    1   a journal is broken, truncated, forked or absent
    2   a witness was named, and has not seen one of them; or one is not
        witnessed as --require-witness demands
    3   it could not be checked: no journal, no key, bad usage; a segment of a
        newer release, which takes its auditctl; or a witness that was named
        is down, or gives an answer without its signature

EXAMPLES
    auditctl verify data/audit
    auditctl verify data/audit --pubkey /media/auditor/verifier.pub \\
        --witness /media/auditor/witness.jsonl \\
        --witness-key /media/auditor/witness.pub --require-witness
`

func verifyCommand() command {
	return command{"verify", "check that journals are what was written", verifyManual, runVerify}
}

func runVerify(ctx context.Context, c *call) (int, error) {
	var pubkeys []string
	c.flags.Func("pubkey", "", func(s string) error { pubkeys = append(pubkeys, s); return nil })
	witnesses := c.witnessed()
	requireWitness := c.flags.Bool("require-witness", false, "")
	maxAge := c.flags.Duration("max-age", 24*time.Hour, "")
	maxTail := c.flags.Uint64("max-tail", 100_000, "")
	dirs, err := c.parse()
	if err != nil {
		return 0, err
	}
	bounded := false
	c.flags.Visit(func(f *flag.Flag) { bounded = bounded || f.Name == "max-age" || f.Name == "max-tail" })
	switch {
	case len(dirs) == 0:
		return 0, usagef("it takes a folder")
	case *maxAge < 0:
		return 0, usagef("--max-age is negative")
	case bounded && !*requireWitness:
		return 0, usagef("--max-age and --max-tail need --require-witness")
	}
	var cfg audit.VerifyConfig
	if cfg.Verifier, err = readVerifiers(pubkeys); err != nil {
		return 0, err
	}
	logs := cfg.Verifier
	if logs == "" {
		var found []string
		for _, dir := range dirs {
			found = append(found, filepath.Join(dir, "verifier.pub"))
		}
		if logs, err = readVerifiers(found); err != nil && len(witnesses.sources) > 0 {
			return 0, err
		}
	}
	if cfg.Anchors, err = witnesses.anchors(ctx, logs); err != nil {
		return 0, err
	}
	bar := c.progress("verifying")
	if bar != nil {
		cfg.Progress = bar.show
	}
	s, err := audit.VerifyAll(ctx, dirs, cfg)
	bar.clear()
	if err != nil {
		return 0, err
	}
	if c.asJSON {
		err = c.print(summaryJSON(&s, strings.Fields(cfg.Verifier)))
	} else {
		err = printSummary(c.stdout, &s, strings.Fields(cfg.Verifier), len(witnesses.sources) > 0)
	}
	late := false
	if *requireWitness {
		for i := range s.Reports {
			if why := lateness(&s.Reports[i].Completeness, time.Now(), *maxAge, *maxTail); why != "" {
				late = true
				fmt.Fprintf(c.stderr, "auditctl verify: %s: %s\n", s.Reports[i].Origin, why)
			}
		}
	}
	switch {
	case err != nil:
		return 0, err
	case s.Broken():
		return exitBroken, nil
	case late, !s.Witnessed() && (*requireWitness || len(witnesses.sources) > 0):
		return exitUnwitnessed, nil
	}
	return exitOK, nil
}

// lateness says why what a witness saw does not bound what may have been cut
// off; empty where it does.
func lateness(c *audit.Completeness, now time.Time, maxAge time.Duration, maxTail uint64) string {
	switch age := now.Sub(c.Anchor.Time); {
	case c.Length != audit.Witnessed:
		return ""
	case maxAge > 0 && age > maxAge:
		return fmt.Sprintf("no witness has seen it for %v, over --max-age %v: what was cut off since does not show", age.Round(time.Second), maxAge)
	case maxTail > 0 && c.Tail > maxTail:
		return fmt.Sprintf("no witness has seen its last %d lines, over --max-tail %d", c.Tail, maxTail)
	}
	return ""
}

// readVerifiers reads the public key files, each of one key or several.
func readVerifiers(paths []string) (string, error) {
	var keys []string
	for _, path := range paths {
		key, err := readVerifier(path)
		if err != nil {
			return "", err
		}
		keys = append(keys, key)
	}
	return strings.Join(keys, "\n"), nil
}

func printSummary(w io.Writer, s *audit.Summary, given []string, asked bool) error {
	p := &printer{w: w}
	for i := range s.Reports {
		if i > 0 {
			p.f("\n")
		}
		printReport(p, &s.Reports[i], keySource(&s.Reports[i], given), len(s.Reports) == 1, asked)
	}
	for _, a := range s.Absent {
		p.f("\nABSENT: %s, which %s saw at %d lines (%s), is in no folder: it was deleted as a whole, or not given\n", a.Origin, a.By, a.Size, stamp(a.Time))
	}
	return p.err
}

// A printer keeps the first error of its prints.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// keySource says where the public key of the newest signature is from: the
// folder, what was given, or a rotation that a key that was given signed for.
func keySource(r *audit.Report, given []string) string {
	switch {
	case r.KeyFromFolder:
		return "folder"
	case slices.Contains(given, r.Verifier):
		return "given"
	case len(r.Defects) > 0:
		return "other"
	}
	return "rotation"
}

// printReport prints one report: alone where it is the only one, asked where a
// witness was named.
func printReport(p *printer, r *audit.Report, source string, alone, asked bool) {
	integrity := "ok"
	if n := len(r.Defects); n > 0 {
		integrity = "BROKEN: " + plural(uint64(n), "defect", "defects")
	}
	key := map[string]string{
		"folder":   "key from folder: compare it with one from a safe place (--pubkey)",
		"given":    "key given",
		"other":    "NOT THE KEY GIVEN: whether that one signed for it, the defects leave open",
		"rotation": "key not given, but the one given signed for it when the journal's keys were rotated",
	}[source]
	open := ""
	if alone && r.OpenAttempts > 0 {
		open = " (the outcome may lie with another writer: give all folders)"
	}
	p.f("journal        %s in %s\n", r.Origin, r.Dir)
	p.f("period         %s to %s\n", stamp(r.First), stamp(r.Last))
	p.f("segments       %d\n", r.Segments)
	p.f("events         %d (%d lines, %d checkpoints)\n", r.Events, r.Lines, r.Checkpoints)
	p.f("open attempts  %d%s\n", r.OpenAttempts, open)
	p.f("unsigned tail  %d lines\n", r.Unsigned)
	p.f("\nintegrity      %s\n", integrity)
	p.f("authenticity   %s\n               %s\n", key, r.Verifier)
	if asked && r.Completeness.Length == audit.Unwitnessed {
		p.f("completeness   UNWITNESSED: the witness that was named has not seen this journal: it is another's, or its file was emptied\n")
	} else {
		p.f("completeness   %v\n", r.Completeness)
	}
	p.f("retention      %s\n", retention(r))
	if r.GivenUp > 0 {
		p.f("note: %s given up after a failed sync of the disk\n", plural(uint64(r.GivenUp), "segment was", "segments were"))
	}
	for _, quiet := range r.Silences {
		p.f("SILENT %v\n", quiet)
	}
	if r.Unknown > 0 {
		p.f("note: %s of a newer release: their bytes were checked; what they say, this auditctl does not know\n", plural(r.Unknown, "event is", "events are"))
	}
	for _, d := range r.Defects {
		p.f("BROKEN %v\n", d)
	}
}

func retention(r *audit.Report) string {
	switch {
	case r.Purged != nil:
		return fmt.Sprintf("the oldest %d lines were purged by the journal's signed record", r.FirstSeq)
	case r.FirstSeq > 0:
		return "the oldest lines are gone, and no record of the journal says why"
	}
	return "from its first line"
}

type reportJSON struct {
	Folder        string          `json:"folder"`
	Journal       string          `json:"journal"`
	Integrity     bool            `json:"integrity"`
	PublicKey     string          `json:"public_key"`
	PublicKeyFrom string          `json:"public_key_from"` // given, folder, rotation (one that was given signed for it) or other
	Completeness  string          `json:"completeness"`    // unwitnessed, witnessed, truncated, forked or undecided
	Witnessed     bool            `json:"witnessed"`
	Anchor        *audit.Anchor   `json:"anchor,omitempty"`
	Agrees        *audit.Anchor   `json:"agrees,omitempty"`
	Tail          uint64          `json:"unwitnessed_lines"`
	Missing       uint64          `json:"missing_lines"`
	FirstSequence uint64          `json:"first_sequence"`
	Purged        bool            `json:"purged"`
	Segments      int             `json:"segments"`
	Lines         uint64          `json:"lines"`
	Events        uint64          `json:"events"`
	Checkpoints   uint64          `json:"checkpoints"`
	OpenAttempts  uint64          `json:"open_attempts"`
	Unknown       uint64          `json:"unknown_events"` // of a newer release
	Unsigned      uint64          `json:"unsigned_lines"`
	GivenUp       int             `json:"given_up_segments"`
	Silences      []audit.Silence `json:"silences"`
	First         time.Time       `json:"first"`
	Last          time.Time       `json:"last"`
	Defects       []audit.Defect  `json:"defects"`
}

type summary struct {
	OK        bool           `json:"ok"` // no journal is broken or absent
	Witnessed bool           `json:"witnessed"`
	Journals  []reportJSON   `json:"journals"`
	Absent    []audit.Anchor `json:"absent"`
}

func summaryJSON(s *audit.Summary, given []string) summary {
	out := summary{OK: !s.Broken(), Witnessed: s.Witnessed(), Absent: append([]audit.Anchor{}, s.Absent...)}
	for _, r := range s.Reports {
		j := reportJSON{
			Folder: r.Dir, Journal: r.Origin, Integrity: len(r.Defects) == 0, PublicKey: r.Verifier, PublicKeyFrom: keySource(&r, given),
			Completeness: string(r.Completeness.Length), Witnessed: r.Witnessed(), Tail: r.Completeness.Tail, Missing: r.Completeness.Missing,
			FirstSequence: r.FirstSeq, Purged: r.Purged != nil, Segments: r.Segments, Lines: r.Lines, Events: r.Events,
			Checkpoints: r.Checkpoints, OpenAttempts: r.OpenAttempts, Unknown: r.Unknown, Unsigned: r.Unsigned, GivenUp: r.GivenUp,
			First: r.First, Last: r.Last, Silences: append([]audit.Silence{}, r.Silences...), Defects: append([]audit.Defect{}, r.Defects...),
		}
		if r.Completeness.Length == audit.Unwitnessed {
			j.Completeness, j.Tail = "unwitnessed", r.Lines
		} else {
			j.Anchor = &r.Completeness.Anchor
		}
		if r.Completeness.Agrees.Origin != "" {
			j.Agrees = &r.Completeness.Agrees
		}
		out.Journals = append(out.Journals, j)
	}
	return out
}

// readLinesOf returns the words of the files, which hold one a line.
func readLinesOf(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		words := strings.Fields(string(text))
		if len(words) == 0 {
			return nil, errors.New(path + " is empty")
		}
		out = append(out, words...)
	}
	return out, nil
}
