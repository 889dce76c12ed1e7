// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const spdx = "// SPDX-License-Identifier: Apache-2.0"

// A file is one parsed Go file, whatever its build constraints.
type file struct {
	dir, name string
	ast       *ast.File
	fset      *token.FileSet
}

func (f file) path() string { return path.Join(f.dir, f.name) }
func (f file) test() bool   { return strings.HasSuffix(f.name, "_test.go") }

// imports returns the import paths of the file.
func (f file) imports() []string {
	var out []string
	for _, s := range f.ast.Imports {
		out = append(out, strings.Trim(s.Path.Value, "`\""))
	}
	return out
}

// Check reads the Go files of a repository and returns what breaks its shape,
// a line each, sorted.
func Check(repo fs.FS) ([]string, error) {
	var bad []string
	report := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }

	files, err := read(repo, report)
	if err != nil {
		return nil, err
	}
	byDir := make(map[string][]file)
	for _, f := range files {
		byDir[f.dir] = append(byDir[f.dir], f)
	}
	for dir, pkg := range byDir {
		own, ok := floorOf(dir)
		if !ok {
			report("%s: has no floor: give it one in internal/arch/floors.go", dir)
			continue
		}
		for _, f := range pkg {
			for _, imp := range f.imports() {
				checkImport(f, own, imp, report)
			}
		}
		if isKit(dir) {
			served := byDir[path.Dir(dir)]
			if dir == "storage/storagetest" { // its tests run on the embedded default
				served = slices.Concat(served, byDir["storage/sqlite"])
			}
			checkKit(dir, pkg, served, report)
		}
		if !within(dir, "examples") {
			checkState(pkg, report)
		}
	}
	slices.Sort(bad)
	return slices.Compact(bad), nil
}

// TopLevel compares what stands in the root with what should, and returns the
// differences, a line each.
func TopLevel(names []string) []string {
	var bad []string
	for _, n := range names {
		if !slices.Contains(topLevel, n) {
			bad = append(bad, n+": does not belong in the root of the repository")
		}
	}
	for _, n := range topLevel {
		if !slices.Contains(names, n) {
			bad = append(bad, n+": is missing from the root of the repository")
		}
	}
	return bad
}

// read parses the Go files of the root module. Those of nested modules are
// held to the licence line only: they have dependencies and habits of their own.
func read(repo fs.FS, report func(string, ...any)) ([]file, error) {
	var files []file
	var nested []string
	err := fs.WalkDir(repo, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := path.Base(p)
			if p != "." && (strings.HasPrefix(base, ".") || base == "testdata" || strings.HasSuffix(base, ".tmp")) { // .tmp: of an example that runs meanwhile
				return fs.SkipDir
			}
			if _, err := fs.Stat(repo, path.Join(p, "go.mod")); err == nil && p != "." {
				nested = append(nested, p)
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := fs.ReadFile(repo, p)
		if err != nil {
			return err
		}
		if first, _, _ := strings.Cut(string(text), "\n"); first != spdx {
			report("%s: the first line is not %q", p, spdx)
		}
		if slices.ContainsFunc(nested, func(n string) bool { return within(p, n) }) {
			return nil
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("arch: parse: %w", err)
		}
		files = append(files, file{dir: path.Dir(p), name: path.Base(p), ast: parsed, fset: fset})
		return nil
	})
	return files, err
}

// checkImport holds one import of f, whose package stands on floor own.
func checkImport(f file, own floor, imp string, report func(string, ...any)) {
	production := !f.test() && !isKit(f.dir)
	for _, c := range confinements {
		if strings.HasPrefix(imp, c.what) && !slices.ContainsFunc(c.to, func(d string) bool { return within(f.dir, d) }) {
			report("%s: imports %s, which is for %s", f.path(), imp, c)
		}
	}
	if production && (imp == "testing" || strings.HasPrefix(imp, "testing/") || imp == "net/http/httptest") {
		report("%s: imports %s outside tests and test kits", f.path(), imp)
	}
	dir, ours := strings.CutPrefix(imp, module+"/")
	switch {
	case imp == module:
		report("%s: imports the root, which holds no code", f.path())
	case !ours && foreign(imp) && !f.test():
		for _, t := range thirdParty {
			in := f.dir == t.dir || isKit(f.dir) && path.Dir(f.dir) == t.dir || !t.alone && within(f.dir, t.dir)
			if in && !slices.ContainsFunc(t.only, func(m string) bool { return within(imp, m) }) {
				report("%s: imports %s, but %s stands on the standard library%s", f.path(), imp, t.dir, and(t.only))
			}
		}
	case ours:
		checkFloor(f, own, dir, report)
		if isKit(dir) && production {
			report("%s: production code imports the test kit %s", f.path(), dir)
		}
	}
}

// checkFloor holds an import of dir, a package of ours.
func checkFloor(f file, own floor, dir string, report func(string, ...any)) {
	to, ok := floorOf(dir)
	switch {
	case !ok:
		report("%s: imports %s, which has no floor", f.path(), dir)
	case to.level == tools && f.dir != dir:
		report("%s: imports %s, which is a tool of the repository", f.path(), dir)
	case to.level > own.level:
		report("%s: imports up: floor %d imports %s on floor %d", f.path(), own.level, dir, to.level)
	case to.level == own.level && area(dir) != area(f.dir):
		report("%s: imports %s, another area of floor %d", f.path(), dir, own.level)
	}
}

// checkKit holds a test kit to the foreign imports of the package that it
// serves, so that importing it links nothing new into a user's tests.
func checkKit(dir string, kit, served []file, report func(string, ...any)) {
	var allowed []string
	for _, f := range served {
		if !f.test() {
			allowed = append(allowed, f.imports()...)
		}
	}
	for _, f := range kit {
		if f.test() {
			continue
		}
		for _, imp := range f.imports() {
			if foreign(imp) && !within(imp, module) && !slices.ContainsFunc(allowed, func(a string) bool { return within(imp, a) }) {
				report("%s: the kit imports %s, which %s does not", f.path(), imp, path.Dir(dir))
			}
			if other, ours := strings.CutPrefix(imp, module+"/"); ours && isKit(other) && other != dir && dir != "storage/storagetest" {
				report("%s: the kit imports the kit %s; only storagetest may", f.path(), other)
			}
		}
	}
}

// foreign reports whether imp is outside the standard library.
func foreign(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

func and(modules []string) string {
	if len(modules) == 0 {
		return " only"
	}
	return " and " + strings.Join(modules, ", ") + " only"
}
