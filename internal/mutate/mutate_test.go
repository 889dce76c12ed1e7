// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tiny = "testdata/tiny"

func TestKilledMutantsPass(t *testing.T) {
	t.Parallel()
	before := read(t, tiny+"/lock/lock.go")
	var out strings.Builder
	if err := run(t.Context(), []string{"-run", "opens|seen", tiny}, &out); err != nil {
		t.Fatalf("run = %v\n%s", err, out.String())
	}
	if !strings.HasSuffix(out.String(), "mutants: 4 killed, 0 survived\n") {
		t.Errorf("the output does not end with the count:\n%s", out.String())
	}
	if read(t, tiny+"/lock/lock.go") != before {
		t.Error("the source was changed")
	}
}

// TestEachOtherEndIsAFailure: a mutant that proves nothing must not count.
func TestEachOtherEndIsAFailure(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"bad-other-subtest":    "its test passes with the control broken",
		"bad-survivor":         "its test passes with the control broken",
		"bad-skipped":          "its test skipped itself",
		"bad-no-such-test":     "its test does not exist",
		"bad-does-not-compile": "does not compile",
		"bad-occurs-twice":     "occurs 2 times",
		"bad-occurs-nowhere":   "occurs 0 times",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := run(t.Context(), []string{"-run", name, tiny}, &out); err == nil {
				t.Error("run = nil, want an error")
			}
			if !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "0 killed, 1 survived") {
				t.Errorf("the output does not say %q:\n%s", want, out.String())
			}
		})
	}
}

func TestATestThatFailsAnywayKillsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(read(t, dir+"/lock/lock.go"), `"right"`, `"wrong"`, 1)
	if err := os.WriteFile(dir+"/lock/lock.go", []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := run(t.Context(), []string{"-run", "any-key", dir}, &out)
	if err == nil || !strings.Contains(err.Error(), "fail without mutants") {
		t.Errorf("run = %v, want that the test fails without mutants\n%s", err, out.String())
	}
}

func TestAnInterruptedRunIsNoProof(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	if err := run(ctx, []string{"-run", "any-key", tiny}, &out); err == nil || strings.Contains(out.String(), "killed") {
		t.Errorf("run = %v, want an error, and nothing killed:\n%s", err, out.String())
	}
}

func TestParseRefusesABadEntry(t *testing.T) {
	t.Parallel()
	const good = "mutant: a\nfile: a.go\ntest: TestA\n--- old\nx\n--- new\ny\n--- end\n"
	if all, err := parse("m", "p", good); err != nil || len(all) != 1 || all[0].old != "x" || all[0].new != "y" {
		t.Fatalf("parse(good) = %+v, %v", all, err)
	}
	for name, edit := range map[string][2]string{
		"no name":          {"mutant: a", "mutant: "},
		"another package":  {"a.go", "../b/a.go"},
		"no Go file":       {"a.go", "a.sql"},
		"a test file":      {"a.go", "a_test.go"},
		"no test":          {"TestA", ""},
		"a pattern":        {"TestA", "Test.*"},
		"no old text":      {"--- old\nx\n", "--- old\n"},
		"the same text":    {"y", "x"},
		"no end":           {"--- end\n", ""},
		"no new":           {"--- new\n", ""},
		"a line too many":  {"--- old", "why: not\n--- old"},
		"text in between":  {"mutant: a", "some text\nmutant: a"},
		"new without old":  {"--- old\nx\n", ""},
		"a missing mutant": {"mutant: a\n", ""},
	} {
		if all, err := parse("m", "p", strings.Replace(good, edit[0], edit[1], 1)); err == nil {
			t.Errorf("%s: parse = %+v, want an error", name, all)
		}
	}
}

// Every mutant of this module can be made, and its test is there: a run of them
// all takes an hour, and would only then say so.
func TestEveryMutantCanBeTried(t *testing.T) {
	t.Parallel()
	const root = "../.."
	all, err := find(root)
	if err != nil || len(all) == 0 {
		t.Fatalf("find = %d mutants, %v", len(all), err)
	}
	tests := make(map[string]string) // the text of a package's
	for _, m := range all {
		if _, _, err := m.apply(root); err != nil {
			t.Errorf("%s: %s: %v", m.entry, m.name, err)
		}
		if _, ok := tests[m.testDir]; !ok {
			files, err := filepath.Glob(filepath.Join(root, m.testDir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				tests[m.testDir] += read(t, f)
			}
		}
		if name, _, _ := strings.Cut(m.test, "/"); !strings.Contains(tests[m.testDir], "\nfunc "+name+"(") {
			t.Errorf("%s: %s: %s has no %s", m.entry, m.name, m.testDir, name)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
