// SPDX-License-Identifier: Apache-2.0

// Command peers measures the SDK against the limit under it: the same work
// done bare, in the same process, in turns. It is a module of its own, so that
// what it compares with never enters a user's dependencies.
//
//	peers [-run regexp] [-dir folder]
//
// It prints one line a figure: name, value, goal, and ok or short, with tabs
// between; where a figure cannot be measured here, why. Most values are ratios, the median of many rounds, since absolute
// times mean nothing on a shared machine. The goals are those of the project's
// design; falling short of one fails nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A figure is one line of the output. measure uses dir for its files.
type figure struct {
	name    string
	goal    goal
	measure func(ctx context.Context, dir string) (value, error)
}

// figures lists what is measured, in the order of DESIGN's table.
func figures() []figure {
	var all []figure
	all = append(all, cellFigures()...)
	all = append(all, keyFigures()...)
	all = append(all, peerFigures()...)
	all = append(all, rowFigures()...)
	all = append(all, tableFigures()...)
	all = append(all, fileFigures()...)
	all = append(all, journalFigures()...)
	all = append(all, trailFigures()...)
	all = append(all, verifyFigures()...)
	all = append(all, renderFigures()...)
	all = append(all, policyFigures()...)
	all = append(all, decideFigures()...)
	all = append(all, checkFigures()...)
	all = append(all, revokeFigures()...)
	return all
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	only := flags.String("run", "", "measure the figures whose name matches this `regexp`")
	parent := flags.String("dir", "", "put databases and journals in a new folder under this one, which must be on a disk (default: the system's folder for temporary files)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("peers: -run: %w", err)
	}
	for _, f := range figures() {
		if !pattern.MatchString(f.name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		dir, err := os.MkdirTemp(*parent, "peers")
		if err != nil {
			return fmt.Errorf("peers: %w", err)
		}
		v, err := f.measure(ctx, dir)
		if rmErr := os.RemoveAll(dir); err == nil {
			err = rmErr
		}
		var why absent
		if errors.As(err, &why) {
			fmt.Fprintf(out, "%s\tnot measured: %s\t%s\t-\n", f.name, why, f.goal)
			continue
		}
		if err != nil {
			return fmt.Errorf("peers: %s: %w", f.name, err)
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", f.name, v, f.goal, f.goal.verdict(v))
	}
	return nil
}
