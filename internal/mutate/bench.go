// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// limit bounds one test: a mutant that hangs its test has been noticed.
const limit = 2 * time.Minute

// Why a mutant was not killed.
var (
	errSurvived = errors.New("SURVIVED: its test passes with the control broken")
	errSkipped  = errors.New("SURVIVED: its test skipped itself")
	errNoTest   = errors.New("its test does not exist")
)

// A bench builds mutants and runs their tests.
type bench struct {
	root, work string // the module, and a temporary folder
	workers    int

	mu  sync.Mutex
	out io.Writer
}

// run tries the mutants that match only, and returns an error unless each was
// killed.
func (b *bench) run(ctx context.Context, mutants []mutant, only *regexp.Regexp) error {
	mutants = slices.DeleteFunc(mutants, func(m mutant) bool {
		return !only.MatchString(m.name) && !only.MatchString(m.dir)
	})
	if len(mutants) == 0 {
		return errors.New("mutate: no mutant to try")
	}
	if err := b.baseline(ctx, mutants); err != nil {
		return err
	}
	var killed, failed int
	b.each(len(mutants), func(i int) {
		m := mutants[i]
		begin := time.Now()
		err := b.try(ctx, m)
		if ctx.Err() != nil {
			return // it was interrupted, and says nothing
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if err == nil {
			killed++
			fmt.Fprintf(b.out, "%-44s %-18s killed %5.1f s\n", m.name, m.dir, time.Since(begin).Seconds())
			return
		}
		failed++
		fmt.Fprintf(b.out, "%-44s %-18s %v (%s, %s)\n", m.name, m.dir, err, m.test, m.entry)
	})
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mutate: after %d of %d mutants: %w", killed+failed, len(mutants), err)
	}
	fmt.Fprintf(b.out, "mutants: %d killed, %d survived\n", killed, failed)
	if failed > 0 {
		return fmt.Errorf("mutate: %d of %d mutants were not killed", failed, len(mutants))
	}
	return nil
}

// baseline runs the tests on the unchanged source: one that fails anyway kills
// nothing.
func (b *bench) baseline(ctx context.Context, mutants []mutant) error {
	tests := make(map[string][]string)
	for _, m := range mutants {
		if !slices.Contains(tests[m.testDir], m.test) {
			tests[m.testDir] = append(tests[m.testDir], m.test)
		}
	}
	dirs := make([]string, 0, len(tests))
	for d := range tests {
		dirs = append(dirs, d)
	}
	slices.Sort(dirs)
	errs := make([]error, len(dirs))
	b.each(len(dirs), func(i int) {
		dir, names := dirs[i], tests[dirs[i]]
		binary := filepath.Join(b.work, fmt.Sprintf("base%d.test", i))
		if out, err := b.compile(ctx, dir, binary, ""); err != nil {
			errs[i] = fmt.Errorf("mutate: %s does not build without mutants: %w\n%s", dir, err, out)
			return
		}
		defer os.Remove(binary)
		out, err := b.test(ctx, dir, binary, names...)
		if err != nil {
			errs[i] = fmt.Errorf("mutate: the tests of %s fail without mutants: %w\n%s", dir, err, tail(out))
		}
	})
	return errors.Join(errs...)
}

// try returns nil if the mutant's test fails, as it must.
func (b *bench) try(ctx context.Context, m mutant) error {
	path, text, err := m.apply(b.root)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.work, m.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, filepath.Base(m.file))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: source}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(source, text, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return err
	}
	binary := filepath.Join(dir, "mutant.test")
	if out, err := b.compile(ctx, m.testDir, binary, filepath.Join(dir, "overlay.json")); err != nil {
		return fmt.Errorf("does not compile: %w\n%s", err, tail(out))
	}
	out, err := b.test(ctx, m.testDir, binary, m.test)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		return nil
	case err != nil:
		return err
	case bytes.Contains(out, []byte("no tests to run")):
		return errNoTest
	case bytes.Contains(out, []byte("--- SKIP")) && !bytes.Contains(out, []byte("--- PASS")):
		return errSkipped
	}
	return errSurvived
}

// compile builds the test binary of the package in dir, without symbols: most of
// a mutant's time is spent linking.
func (b *bench) compile(ctx context.Context, dir, binary, overlay string) ([]byte, error) {
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, ".")...)
	cmd.Dir = filepath.Join(b.root, dir) // which may be another module's
	out, err := cmd.CombinedOutput()
	if err == nil {
		_, err = os.Stat(binary) // a package without tests builds nothing
	}
	return out, err
}

// test runs the named tests of a compiled package in its folder, as go test does.
func (b *bench) test(ctx context.Context, dir, binary string, names ...string) ([]byte, error) {
	patterns := make([]string, len(names))
	for i, name := range names {
		patterns[i] = "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	}
	cmd := exec.CommandContext(ctx, binary, "-test.run="+strings.Join(patterns, "|"), "-test.failfast", "-test.count=1", "-test.v", "-test.timeout="+limit.String())
	cmd.Dir = filepath.Join(b.root, dir)
	return cmd.CombinedOutput()
}

// each calls do with 0 to n-1, by the bench's workers.
func (b *bench) each(n int, do func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range b.workers {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// tail returns the last lines of out.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
