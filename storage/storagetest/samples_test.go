// SPDX-License-Identifier: Apache-2.0

package storagetest_test

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/part164/part164/minimize"
)

// direct are the classes that a test of a sample app turns into plain text.
var direct = map[minimize.Class]bool{
	minimize.Name: true, minimize.SSN: true, minimize.MRN: true, minimize.Phone: true, minimize.Email: true, minimize.Street: true,
	minimize.Plan: true, minimize.Text: true,
}

// A variant is a model of a sample app with one thing wrong.
type variant struct {
	what, typ, code string
	good            bool
}

// variants are the models of a source file: as they are, with each phi tag
// dropped, and with each direct identifier as a plain string in clear.
func variants(t *testing.T, file string) (out []variant) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	app := filepath.Base(filepath.Dir(file))
	for _, decl := range parsed.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			spec := spec.(*ast.TypeSpec)
			st, ok := spec.Type.(*ast.StructType)
			at := func(p token.Pos) int { return set.Position(p).Offset }
			text := func(from, to token.Pos) string { return string(src[at(from):at(to)]) }
			if !ok || !strings.Contains(text(st.Pos(), st.End()), "Record") {
				continue
			}
			change := func(from, to token.Pos, with string) string {
				return "type " + text(spec.Pos(), from) + with + text(to, spec.End())
			}
			name := app + "." + spec.Name.Name
			out = append(out, variant{name, spec.Name.Name, "type " + text(spec.Pos(), spec.End()), true})
			for _, f := range st.Fields.List {
				if f.Tag == nil || !strings.Contains(f.Tag.Value, "phi:") {
					continue
				}
				field := name + "." + f.Names[0].Name
				tag := regexp.MustCompile(`phi:"[^"]*"`).FindString(f.Tag.Value)
				out = append(out, variant{field + " without its tag", spec.Name.Name,
					change(f.Tag.Pos(), f.Tag.End(), strings.Replace(f.Tag.Value, tag, "", 1)), false})
				class, _, _ := strings.Cut(strings.Trim(strings.TrimPrefix(tag, "phi:"), `"`), ",")
				if direct[minimize.Class(class)] {
					out = append(out, variant{field + " in clear", spec.Name.Name,
						change(f.Type.Pos(), f.Tag.End(), "string `phi:\""+class+",clear\"`"), false})
				}
			}
		}
	}
	return out
}

// TestSampleAppsTurnRed takes the models of the examples, breaks one tag at a
// time, and wants CheckModel to say so.
func TestSampleAppsTurnRed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it compiles a program: not with -short")
	}
	const root = "../.."
	all := slices.Concat(variants(t, filepath.Join(root, "examples/quickstart/main.go")), variants(t, filepath.Join(root, "examples/clinic/models.go")))
	var b strings.Builder
	b.WriteString("package samples_test\n\nimport (\n\t\"testing\"\n\t\"time\"\n\n\t\"github.com/part164/part164/storage\"\n\t\"github.com/part164/part164/storage/storagetest\"\n)\n\nvar _ time.Time\n\n")
	for i, v := range all {
		fmt.Fprintf(&b, "// %s\nfunc Test%d(t *testing.T) {\n%s\nstoragetest.CheckModel(t, &%s{})\n}\n\n", v.what, i, v.code, v.typ)
	}
	src, err := format.Source([]byte(b.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	file := filepath.Join(t.TempDir(), "samples_test.go")
	if err := os.WriteFile(file, src, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-v", file)
	cmd.Dir = root
	got, _ := cmd.CombinedOutput() // it fails: that is what it is for
	broken, red := 0, 0
	for i, v := range all {
		if !v.good {
			broken++
		}
		passed, failed := strings.Contains(string(got), fmt.Sprintf("--- PASS: Test%d ", i)), strings.Contains(string(got), fmt.Sprintf("--- FAIL: Test%d ", i))
		switch {
		case passed == failed:
			t.Fatalf("%s did not run:\n%.2000s", v.what, got)
		case v.good && failed:
			t.Errorf("%s: CheckModel finds fault with the sample app", v.what)
		case !v.good && passed:
			t.Errorf("%s: CheckModel stays green", v.what)
		case !v.good:
			red++
		}
	}
	t.Logf("%d broken models, %d of them red", broken, red)
	if broken < 60 {
		t.Errorf("only %d models were broken: look at how the sample apps are read", broken)
	}
}
