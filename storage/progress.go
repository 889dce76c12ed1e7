// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"io"
	"os"
	"time"
)

// A progress is how far long work is. On a terminal it is one line, rewritten
// at most ten times a second; a file or a pipe gets nothing. It is not safe for
// concurrent use.
type progress struct {
	out   io.Writer // nil: quiet
	now   func() time.Time
	what  string
	began time.Time
	shown time.Time

	done, total int64
	before      int64 // done by an earlier run: it says nothing of the speed
}

// startProgress begins to count work of total rows of which some are done.
func startProgress(out io.Writer, now func() time.Time, what string, done, total int64) *progress {
	if !isTerminal(out) {
		out = nil
	}
	return &progress{out: out, now: now, what: what, began: now(), done: done, before: done, total: total}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || f == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// add counts n more rows.
func (g *progress) add(n int64) {
	g.done += n
	if now := g.now(); g.out != nil && now.Sub(g.shown) >= 100*time.Millisecond {
		g.shown = now
		g.print("")
	}
}

// end prints the last state.
func (g *progress) end() {
	if g.out != nil {
		g.print("\n")
	}
}

func (g *progress) print(tail string) {
	left := ""
	if d := g.left(); d > 0 {
		left = ", " + d.Round(time.Second).String() + " left"
	}
	_, _ = fmt.Fprintf(g.out, "\r\x1b[K%s: %d of %d rows, %.0f rows/s%s%s", g.what, g.done, g.total, g.rate(), left, tail)
}

// rate is rows a second in this run.
func (g *progress) rate() float64 {
	d := g.now().Sub(g.began).Seconds()
	if d <= 0 {
		return 0
	}
	return float64(g.done-g.before) / d
}

// left is the time that the rest takes at this rate; 0 where nobody can tell.
func (g *progress) left() time.Duration {
	r := g.rate()
	if r <= 0 || g.done >= g.total {
		return 0
	}
	return time.Duration(float64(g.total-g.done) / r * float64(time.Second))
}
