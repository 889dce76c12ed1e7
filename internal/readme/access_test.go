// SPDX-License-Identifier: Apache-2.0

package readme_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const accessGuide = "docs/guide-access.md"

// sources returns what the files of those folders hold, by how their names end.
func sources(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(root, dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				continue // a folder
			}
			out[filepath.Ext(f)] += "\n" + squeeze(string(b)) + "\n"
		}
	}
	return out
}

// TestAccessGuideShowsWhatRuns holds that all code, models and rows of the guide
// stand in the files of examples/access (and what it shows of other routers in
// internal/peers/routers), each command prints what the guide says, and other
// output is that of an example.
func TestAccessGuideShowsWhatRuns(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it compiles a program: not with -short")
	}
	dir := filepath.Join(root, "examples/access")
	have := sources(t, "examples/access", "examples/access/casbin", "examples/access/policy", "internal/peers/routers")
	holds := func(kind, block string) {
		t.Helper()
		if !strings.Contains(have[kind], "\n"+squeeze(block)+"\n") {
			t.Errorf("no %s file has\n%s", kind, block)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, accessGuide))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "\n  ```") {
		t.Error("a block is indented, where no test sees it")
	}
	bin := t.TempDir()
	run(t, root, "go", "build", "-o", bin+"/", "./access/cmd/policyctl")
	commands, code := 0, 0
	parts := strings.Split(string(text), "\n```")
	for i := 1; i < len(parts); i += 2 {
		kind, body, _ := strings.Cut(parts[i], "\n")
		switch kind {
		case "go":
			holds(".go", body)
			code++
		case "ini":
			holds(".conf", body)
		case "csv":
			holds(".csv", body)
		case "json":
			holds(".ndjson", body)
		case "diff": // from Casbin's model to that of package rbac
			for line := range strings.Lines(body) {
				holds(".conf", line[1:])
			}
		case "text": // what an example prints
			var out strings.Builder
			for line := range strings.Lines(body + "\n") {
				out.WriteString("// " + line)
			}
			holds(".go", out.String())
		case "":
			commands += shell(t, dir, bin, body)
		default:
			t.Errorf("a block of kind %q", kind)
		}
	}
	if commands < 8 || code < 20 {
		t.Errorf("%d commands and %d pieces of code were found", commands, code)
	}
}

// shell runs the commands of a block, each a line that begins with $, and holds
// the lines below it to what they print.
func shell(t *testing.T, dir, bin, block string) (n int) {
	t.Helper()
	for _, b := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, want, _ := strings.Cut(b, "\n")
		words := strings.Fields(command)
		n++
		switch words[0] {
		case "policyctl":
			cmd := exec.Command(filepath.Join(bin, "policyctl"), words[1:]...)
			var out bytes.Buffer
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
			if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(out.String()); got != strings.TrimSpace(want) {
				t.Errorf("%s prints\n%s\nwant\n%s", command, got, want)
			}
		case "go":
			if command != "go test ." || strings.TrimSpace(want) != "ok" { // which is a test like this one
				t.Errorf("a command that is not run: %s", command)
			}
		default:
			t.Errorf("a command that is not run: %s", command)
		}
	}
	return n
}
