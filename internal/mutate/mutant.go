// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A mutant is one entry of a mutants.txt.
type mutant struct {
	name     string
	dir      string // of the package it changes, from the root: "crypto"
	file     string // in dir or below
	testDir  string // of the package whose test must fail
	test     string // or TestX/sub
	old, new string
	entry    string // file:line of the entry, for messages
}

var testName = regexp.MustCompile(`^(Test|Example|Fuzz)[A-Za-z0-9_]*(/[A-Za-z0-9_]+)*$`)

// find reads every testdata/mutants.txt of the module in root. Nested modules
// are left out.
func find(root string) ([]mutant, error) {
	var all []mutant
	seen := make(map[string]string)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(p, "go.mod"))
			inner := filepath.Base(filepath.Dir(p)) == "testdata"
			if p != root && (strings.HasPrefix(d.Name(), ".") || err == nil || inner) {
				return fs.SkipDir
			}
			return nil
		}
		if d.Name() != "mutants.txt" || filepath.Base(filepath.Dir(p)) != "testdata" {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(filepath.Dir(p)))
		if err != nil {
			return err
		}
		mutants, err := parse(p, filepath.ToSlash(dir), string(text))
		for _, m := range mutants {
			if other := seen[m.name]; other != "" {
				return fmt.Errorf("mutate: %s: the name %s is taken by %s", m.entry, m.name, other)
			}
			seen[m.name] = m.entry
		}
		all = append(all, mutants...)
		return err
	})
	return all, err
}

// parse reads one mutants.txt of the package in dir. Blank lines and lines that
// begin with # may stand between entries.
func parse(name, dir, text string) ([]mutant, error) {
	var all []mutant
	var m *mutant
	var into *string // the text being read
	fail := func(line int, why string) error { return fmt.Errorf("mutate: %s:%d: %s", name, line, why) }
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		n := i + 1
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case m == nil && (strings.TrimSpace(line) == "" || line[0] == '#'):
		case m == nil && key == "mutant":
			m = &mutant{name: strings.TrimSpace(value), dir: dir, testDir: dir, entry: fmt.Sprintf("%s:%d", name, n)}
		case m == nil:
			return nil, fail(n, "want \"mutant: NAME\"")
		case line == "--- old" && into == nil:
			into = &m.old
		case line == "--- new" && into == &m.old:
			into = &m.new
		case line == "--- end" && into == &m.new:
			m.old, m.new = strings.TrimSuffix(m.old, "\n"), strings.TrimSuffix(m.new, "\n")
			if err := m.check(); err != nil {
				return nil, fail(n, err.Error())
			}
			all = append(all, *m)
			m, into = nil, nil
		case into != nil:
			*into += line + "\n"
		case key == "file":
			m.file = strings.TrimSpace(value)
		case key == "test":
			m.test = strings.TrimSpace(value)
			if dir, test, other := strings.Cut(m.test, " "); other {
				m.testDir, m.test = strings.TrimPrefix(dir, "./"), strings.TrimSpace(test)
			}
		default:
			return nil, fail(n, "want \"file: \", \"test: \" or \"--- old\"")
		}
	}
	if m != nil {
		return nil, fmt.Errorf("mutate: %s: no \"--- end\"", m.entry)
	}
	return all, nil
}

func (m *mutant) check() error {
	switch {
	case m.name == "" || strings.ContainsAny(m.name, " /"):
		return errors.New("the mutant needs a name without spaces and slashes")
	case !filepath.IsLocal(m.file) || !strings.HasSuffix(m.file, ".go") || strings.HasSuffix(m.file, "_test.go"):
		return errors.New("\"file: \" must name a source file in or below this package, no test")
	case !testName.MatchString(m.test):
		return errors.New("\"test: \" must name one test function, or one of its subtests")
	case m.old == "":
		return errors.New("the old text is empty")
	case m.old == m.new:
		return errors.New("the new text is the old one")
	}
	return nil
}

// apply returns the file's text with the mutant in it.
func (m *mutant) apply(root string) (path string, text []byte, err error) {
	path, err = filepath.Abs(filepath.Join(root, m.dir, m.file))
	if err != nil {
		return "", nil, err
	}
	text, err = os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", nil, fmt.Errorf("the old text occurs %d times in %s/%s, not once", n, m.dir, m.file)
	}
	return path, []byte(strings.Replace(string(text), m.old, m.new, 1)), nil
}
