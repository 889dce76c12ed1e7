// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/part164/part164/audit"
)

// A call is one run of a command: what it was given, and where its output
// goes. Human output is the default; where the --json flag is set a command
// prints one JSON object, or one a line.
type call struct {
	flags    *flag.FlagSet // a command adds its own, then calls parse
	asJSON   bool          // --json; every command has it
	stdout   io.Writer     // text for people, made plain
	stderr   io.Writer     // likewise
	document io.Writer     // standard output for JSON, and for documents whose bytes count
	terminal io.Writer     // standard error for the progress bar
	args     []string
}

func newCall(name string, args []string, stdout, stderr io.Writer) *call {
	c := &call{flags: flag.NewFlagSet(name, flag.ContinueOnError),
		stdout: &plain{w: stdout}, stderr: &plain{w: stderr}, document: stdout, terminal: stderr, args: args}
	c.flags.SetOutput(io.Discard)
	c.flags.BoolVar(&c.asJSON, "json", false, "")
	return c
}

// A usageError says what is wrong with the arguments.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// parse reads flags and arguments, in any order, and returns the arguments.
func (c *call) parse() (rest []string, err error) {
	args := c.args
	for {
		if err := c.flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, &usageError{err}
		}
		if c.flags.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, c.flags.Arg(0))
		args = c.flags.Args()[1:]
	}
}

// print writes v as indented JSON.
func (c *call) print(v any) error {
	enc := json.NewEncoder(c.document)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// readVerifier reads the public key file that a flag names; an empty path
// gives the empty key.
func readVerifier(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	key, err := audit.ParseVerifier(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// A progress shows how far a long run is, on a terminal only.
type progress struct {
	w     io.Writer
	verb  string
	start time.Time
	last  time.Time
	shown bool
}

// progress returns nil, on which clear does nothing, where stderr is no
// terminal.
func (c *call) progress(verb string) *progress {
	f, ok := c.terminal.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 || info.Name() == "null" {
		return nil
	}
	return &progress{w: f, verb: verb, start: time.Now()}
}

// show draws the bar, bytes done out of total.
func (p *progress) show(done, total int64) {
	now := time.Now()
	if now.Sub(p.start) < time.Second || now.Sub(p.last) < 200*time.Millisecond || total == 0 {
		return
	}
	p.last, p.shown = now, true
	const width = 30
	full := int(done * width / total)
	fmt.Fprintf(p.w, "\r%s [%-*s] %3d%% of %d MiB", p.verb, width, "=============================="[:full], done*100/total, total>>20)
}

func (p *progress) clear() {
	if p != nil && p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
