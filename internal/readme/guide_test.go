// SPDX-License-Identifier: Apache-2.0

package readme_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/part164/part164/audit/audittest"
)

const guide = "docs/guide-storage.md"

// squeeze leaves out indentation and alignment, which differ between a page
// and the function that its lines stand in.
func squeeze(code string) string {
	var out []string
	for l := range strings.Lines(code) {
		if f := strings.Fields(l); len(f) > 0 {
			out = append(out, strings.Join(f, " "))
		}
	}
	return strings.Join(out, "\n")
}

// TestGuideShowsCodeThatRuns holds that every piece of Go in the guide stands
// in a program or test under examples/guide.
func TestGuideShowsCodeThatRuns(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(root, "examples/guide"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") {
			return err
		}
		b, err := os.ReadFile(p)
		all.WriteString("\n" + squeeze(string(b)) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	code := blocksOf(t, guide, "go")
	if len(code) < 15 {
		t.Errorf("%d blocks of code were found in the guide", len(code))
	}
	for _, b := range code {
		if !strings.Contains(all.String(), "\n"+squeeze(b)+"\n") {
			t.Errorf("no program under examples/guide has\n%s", b)
		}
	}
}

// TestGuideKnowsTheRefusals holds that each refusal of the guide's table is one
// that storage gives.
func TestGuideKnowsTheRefusals(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "storage/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	page, err := os.ReadFile(filepath.Join(root, guide))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for l := range strings.Lines(string(page)) {
		if why, ok := strings.CutPrefix(l, "| refused: "); ok {
			why, _, _ = strings.Cut(why, " |")
			if n++; !strings.Contains(source.String(), why) {
				t.Errorf("storage never says %q", why)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d refusals were found in the guide", n)
	}
}

// TestGuideRunsStepByStep runs the programs of the guide in its order, on one
// database, and holds the guide to what they print. In the end no name is left
// in clear in any file.
func TestGuideRunsStepByStep(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it compiles six programs: not with -short")
	}
	dir, bin := audittest.Dir(t), t.TempDir()
	names := []string{"Jane Roe", "O'Neill", "Wei Ng", "212-555-0100", "MRN-000"}
	inClear := func() bool {
		found := false
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			found = found || len(audittest.NewSearcher(names...).Search(b)) > 0
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	run(t, root, "go", "build", "-o", bin+"/", "./examples/guide/...")
	ran := 0
	for _, b := range blocksOf(t, guide, "") {
		command, want, _ := strings.Cut(b, "\n")
		words := strings.Fields(strings.TrimPrefix(command, "$ "))
		switch {
		case strings.HasPrefix(command, "$ go test "):
			if out := run(t, root, "go", "test", words[2]); !strings.HasPrefix(out, strings.TrimSpace(want)) {
				t.Errorf("%s: %s", command, out)
			}
		case strings.HasPrefix(command, "$ go run "):
			if got := output(t, dir, filepath.Join(bin, filepath.Base(words[2]))); got != want {
				t.Errorf("%s prints\n%swant\n%s", command, got, want)
			}
			if ran++; ran == 1 && !inClear() {
				t.Error("the search finds no plaintext where there is some")
			}
		}
	}
	if ran != 6 {
		t.Errorf("%d programs ran, want 6", ran)
	}
	if inClear() {
		t.Error("at the end a name is in a file in clear")
	}
}
