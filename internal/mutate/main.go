// SPDX-License-Identifier: Apache-2.0

// Command mutate proves that tests notice a broken control. Each named mutant
// in a testdata/mutants.txt replaces one piece of source by another that breaks
// a control; mutate builds the package with it, runs the one test that the
// mutant names, and fails if that test passes.
//
//	mutate [-run regexp] [folder]
//
// An entry reads
//
//	mutant: cell-ignores-record-id
//	file: cell.go
//	test: TestCellIsBoundToItsRecord
//	--- old
//	text that occurs exactly once in the file
//	--- new
//	what stands there instead
//	--- end
//
// where file is in the package that holds testdata or below, and test may name
// another package of the module first ("test: ./storage TestX"), and a subtest
// of its own (TestX/sub). The working tree is never changed: the mutant is compiled through go test's -overlay.
package main

import (
	"context"
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

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	only := flags.String("run", "", "run the mutants whose name or package matches this `regexp`")
	workers := flags.Int("p", 2, "mutants at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("mutate: -run: %w", err)
	}
	root := "."
	if flags.NArg() > 0 {
		root = flags.Arg(0)
	}
	mutants, err := find(root)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	defer os.RemoveAll(work)
	b := bench{root: root, work: work, out: out, workers: *workers}
	return b.run(ctx, mutants, pattern)
}
