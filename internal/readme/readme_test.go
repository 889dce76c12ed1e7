// SPDX-License-Identifier: Apache-2.0

package readme_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/part164/part164/audit/audittest"
)

const root = "../.."

// blocks returns the fenced blocks of the README whose first line begins so.
func blocks(t *testing.T, fence string) []string {
	t.Helper()
	return blocksOf(t, "README.md", fence)
}

// blocksOf returns those of another page.
func blocksOf(t *testing.T, page, fence string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	parts := strings.Split(string(text), "\n```")
	for i := 1; i < len(parts); i += 2 {
		kind, body, _ := strings.Cut(parts[i], "\n")
		if kind == fence {
			out = append(out, body+"\n")
		}
	}
	return out
}

func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestFirstProgramRuns(t *testing.T) {
	t.Parallel()
	code := blocks(t, "go")[0]
	if n := strings.Count(code, "\n"); n > 60 {
		t.Errorf("the first program has %d lines, want at most 60", n)
	}
	dir := audittest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	run(t, root, "go", "build", "-o", program, filepath.Join(dir, "main.go"))
	out := run(t, dir, program)
	for _, want := range []string{"Jane Roe", "***-**-6789"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "123-45") {
		t.Errorf("output has the number:\n%s", out)
	}
}

func TestTestExampleRuns(t *testing.T) {
	t.Parallel()
	first, second := blocks(t, "go")[0], blocks(t, "go")[1]
	model := first[strings.Index(first, "type Patient struct"):strings.Index(first, "func must")]
	src := `package readme_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/part164/part164/access"
	"github.com/part164/part164/access/accesstest"
	"github.com/part164/part164/audit"
	"github.com/part164/part164/audit/audittest"
	"github.com/part164/part164/storage"
	"github.com/part164/part164/storage/storagetest"
)

` + model + second
	file := filepath.Join(t.TempDir(), "readme_test.go")
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, root, "go", "test", file)
}

// output is what a program prints, without its progress.
func output(t *testing.T, dir, name string) string {
	t.Helper()
	cmd := exec.Command(name)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// changing is what differs from run to run: bytes of a random cell.
var changing = regexp.MustCompile(`[0-9a-f]{16,}`)

func TestQuickstartOutputIsWhatTheReadmeShows(t *testing.T) {
	t.Parallel()
	got := changing.ReplaceAllString(run(t, root, "go", "run", "./examples/quickstart"), "X")
	for _, b := range blocks(t, "") {
		if changing.ReplaceAllString(b, "X") == got {
			return
		}
	}
	t.Errorf("no block of the README is the output of the quickstart:\n%s", got)
}

// TestReadmeNamesTestsThatExist holds the table of safeguards to its column of
// tests.
func TestReadmeNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".tools"):
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".go") {
			b, err := os.ReadFile(p)
			source.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(text), -1)
	if len(names) < 20 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(source.String(), "func "+name[1]+"(") {
			t.Errorf("there is no test %s", name[1])
		}
	}
}
