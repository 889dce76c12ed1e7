// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const root164 = "../.."

// TestRepository holds the repository itself.
func TestRepository(t *testing.T) {
	t.Parallel()
	bad, err := Check(os.DirFS(root164))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append(bad, TopLevel(rootEntries(t))...) {
		t.Error(b)
	}
}

// rootEntries returns what git tracks in the root, or, where this is no
// repository, what is there.
func rootEntries(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", root164, "ls-tree", "--name-only", "HEAD").Output()
	if err == nil {
		return strings.Fields(string(out))
	}
	entries, err := os.ReadDir(root164)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); n != ".git" && n != ".tools" && n != "data" {
			names = append(names, n)
		}
	}
	return names
}

// TestCheckSeesEachViolation plants one violation in a clean tree at a time:
// it must be named, and nothing else.
func TestCheckSeesEachViolation(t *testing.T) {
	t.Parallel()
	const ours = module + "/"
	for _, tt := range []struct {
		name string
		file string
		text string // the file below its licence line
		want string // "" where it is allowed
	}{
		{"import up", "crypto/x.go", goFile("crypto", ours+"audit"), "crypto/x.go: imports up: floor 0 imports audit on floor 1"},
		{"import up in a test", "access/x_test.go", goFile("access", ours+"storage"), "access/x_test.go: imports up: floor 0 imports storage on floor 3"},
		{"import down", "storage/x.go", goFile("storage", ours+"audit", ours+"crypto"), ""},
		{"another area of the floor", "audit/x.go", goFile("audit", ours+"minimize"), "audit/x.go: imports minimize, another area of floor 1"},
		{"another area of the floor, in one folder", "access/httpaccess/x.go", goFile("httpaccess", ours+"storage"), "access/httpaccess/x.go: imports storage, another area of floor 3"},
		{"own area", "audit/cmd/auditctl/main.go", goFile("main", ours+"audit"), ""},
		{"an example imports an example", "examples/a/x.go", goFile("main", ours+"examples/b"), "examples/a/x.go: imports examples/b, another area of floor 4"},
		{"no floor", "access/newthing/x.go", goFile("newthing"), "access/newthing: has no floor: give it one in internal/arch/floors.go"},
		{"no floor at the top", "helpers/x.go", goFile("helpers"), "helpers: has no floor: give it one in internal/arch/floors.go"},
		{"the root", "audit/x.go", goFile("audit", module), "audit/x.go: imports the root, which holds no code"},
		{"a tool", "audit/x.go", goFile("audit", ours+"internal/arch"), "audit/x.go: imports internal/arch, which is a tool of the repository"},
		{"GORM in session", "session/x.go", goFile("session", "gorm.io/gorm"), "session/x.go: imports gorm.io/gorm, which is for storage and examples only"},
		{"GORM in a test of session", "session/x_test.go", goFile("session", "gorm.io/gorm"), "session/x_test.go: imports gorm.io/gorm, which is for storage and examples only"},
		{"GORM in storage", "storage/sessionstore/x.go", goFile("sessionstore", "gorm.io/gorm"), ""},
		{"Casbin in httpaccess", "access/httpaccess/x.go", goFile("httpaccess", "github.com/casbin/casbin/v2"), "access/httpaccess/x.go: imports github.com/casbin/casbin/v2, which is for access/policy only"},
		{"Casbin in policy", "access/policy/x.go", goFile("policy", "github.com/casbin/casbin/v2"), ""},
		{"testify", "storage/x_test.go", goFile("storage", "github.com/stretchr/testify/assert"), "storage/x_test.go: imports github.com/stretchr/testify/assert, which is for nobody"},
		{"a kit in production", "session/x.go", goFile("session", ours+"audit/audittest"), "session/x.go: production code imports the test kit audit/audittest"},
		{"a kit in a test", "session/x_test.go", goFile("session", ours+"audit/audittest"), ""},
		{"a kit in an example's production code", "examples/a/x.go", goFile("main", ours+"audit/audittest"), "examples/a/x.go: production code imports the test kit audit/audittest"},
		{"a kit imports a kit", "session/sessiontest/x.go", goFile("sessiontest", ours+"audit/audittest"), "session/sessiontest/x.go: the kit imports the kit audit/audittest; only storagetest may"},
		{"storagetest imports the lower kits", "storage/storagetest/x.go", goFile("storagetest", ours+"audit/audittest"), ""},
		{"a kit imports what its package does not", "audit/audittest/x.go", goFile("audittest", "go.uber.org/zap"), "audit/audittest/x.go: the kit imports go.uber.org/zap, which audit does not"},
		{"testing in production", "audit/x.go", goFile("audit", "testing"), "audit/x.go: imports testing outside tests and test kits"},
		{"httptest in production", "examples/a/x.go", goFile("main", "net/http/httptest"), "examples/a/x.go: imports net/http/httptest outside tests and test kits"},
		{"testing in a kit", "audit/audittest/x.go", goFile("audittest", "testing"), ""},
		{"a dependency of access", "access/x.go", goFile("access", "golang.org/x/text/cases"), "access/x.go: imports golang.org/x/text/cases, but access stands on the standard library only"},
		{"a dependency of access/rbac", "access/rbac/x.go", goFile("rbac", "golang.org/x/text/cases"), ""},
		{"a dependency of crypto", "crypto/x.go", goFile("crypto", "golang.org/x/crypto/argon2"), "crypto/x.go: imports golang.org/x/crypto/argon2, but crypto stands on the standard library and github.com/tink-crypto/tink-go/v2 only"},
		{"Tink in crypto", "crypto/x.go", goFile("crypto", "github.com/tink-crypto/tink-go/v2/aead"), ""},

		{"init", "audit/x.go", "package audit\n\nfunc init() {}\n", "audit/x.go: has an init function"},
		{"a method named init", "audit/x.go", "package audit\n\nfunc (J) init() {}\n", ""},
		{"state", "audit/x.go", "package audit\n\nvar count int\n", "audit/x.go: package-level state: var count"},
		{"a pool", "audit/x.go", "package audit\n\nvar pool = sync.Pool{}\n", "audit/x.go: package-level state: var pool"},
		{"a call", "audit/x.go", "package audit\n\nvar home = os.Getenv(\"HOME\")\n", "audit/x.go: package-level state: var home"},
		{"an error that is none", "audit/x.go", "package audit\n\nvar ErrCount = 0\n", "audit/x.go: package-level state: var ErrCount"},
		{"an error", "audit/x.go", "package audit\n\nvar ErrX, errY = errors.New(\"x\"), fmt.Errorf(\"y %w\", z)\n", ""},
		{"a compile-time check", "audit/x.go", "package audit\n\nvar _ Recorder = (*Journal)(nil)\n", ""},
		{"an embedded file", "audit/x.go", "package audit\n\n//go:embed x.txt\nvar text string\n", ""},
		{"a table", "audit/x.go", "package audit\n\nvar names = map[int]string{1: \"one\"}\n", ""},
		{"a principal", "audit/x.go", "package audit\n\nvar system = access.Principal{ID: \"system\"}\n", ""},
		{"a principal that is changed", "audit/x.go", "package audit\n\nvar system = access.Principal{ID: \"system\"}\n\nfunc f() { system.ID = \"\" }\n", "audit/x.go: package-level state: var system"},
		{"a computed array", "audit/x.go", "package audit\n\nvar kinds = func() (k [256]uint8) { k['a'] = 1; return k }()\n", ""},
		{"a computed pointer", "audit/x.go", "package audit\n\nvar kinds = func() *[256]uint8 { return new([256]uint8) }()\n", "audit/x.go: package-level state: var kinds"},
		{"a type", "audit/x.go", "package audit\n\nvar timeType = reflect.TypeFor[time.Time]()\n", ""},
		{"a pattern", "audit/x.go", "package audit\n\nvar pattern = regexp.MustCompile(`a+`)\n", ""},
		{"a pattern that is replaced", "audit/x.go", "package audit\n\nvar pattern = regexp.MustCompile(`a+`)\n\nfunc f() { pattern = nil }\n", "audit/x.go: package-level state: var pattern"},
		{"an exported table", "audit/x.go", "package audit\n\nvar Names = map[int]string{1: \"one\"}\n", "audit/x.go: package-level state: var Names"},
		{"a table of pointers", "audit/x.go", "package audit\n\nvar names = []*T{&T{}}\n", "audit/x.go: package-level state: var names"},
		{"a table that is written", "audit/x.go", "package audit\n\nvar names = map[int]string{}\n\nfunc f() { names[1] = \"\" }\n", "audit/x.go: package-level state: var names"},
		{"a table that is deleted from", "audit/x.go", "package audit\n\nvar names = map[int]string{}\n\nfunc f() { delete(names, 1) }\n", "audit/x.go: package-level state: var names"},
		{"a table whose address is taken", "audit/x.go", "package audit\n\nvar names = []int{}\n\nfunc f() { g(&names[0]) }\n", "audit/x.go: package-level state: var names"},
		{"state of a test", "audit/x_test.go", "package audit\n\nvar update = flag.Bool(\"update\", false, \"\")\n", ""},
		{"state of an example", "examples/a/x.go", "package main\n\nvar page = template.New(\"\")\n", ""},
		{"state behind a build tag", "audit/x.go", "//go:build broken\n\npackage audit\n\nvar count int\n", "audit/x.go: package-level state: var count"},
		{"testdata", "audit/testdata/x.go", "package x\n\nvar count int\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			repo := cleanTree()
			repo[tt.file] = &fstest.MapFile{Data: []byte(spdx + "\n\n" + tt.text)}
			bad, err := Check(repo)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{tt.want}
			if tt.want == "" {
				want = nil
			}
			if !slices.Equal(bad, want) {
				t.Errorf("Check = %q, want %q", bad, want)
			}
		})
	}
}

func TestCheckSeesAMissingLicenceLine(t *testing.T) {
	t.Parallel()
	repo := cleanTree()
	repo["audit/x.go"] = &fstest.MapFile{Data: []byte("package audit\n")}
	repo["internal/peers/go.mod"] = &fstest.MapFile{Data: []byte("module peers\n")}
	repo["internal/peers/main.go"] = &fstest.MapFile{Data: []byte("package main\n\nvar state int\n")}
	bad, err := Check(repo)
	if err != nil {
		t.Fatal(err)
	}
	if len(bad) != 2 || !strings.HasPrefix(bad[0], "audit/x.go: the first line") || !strings.HasPrefix(bad[1], "internal/peers/main.go: the first line") {
		t.Errorf("Check = %q, want the two files without a licence line", bad)
	}
}

func TestCheckRefusesAFileThatDoesNotParse(t *testing.T) {
	t.Parallel()
	repo := cleanTree()
	repo["audit/x.go"] = &fstest.MapFile{Data: []byte(spdx + "\n\npackage")}
	if _, err := Check(repo); err == nil {
		t.Error("Check = nil error, want one")
	}
}

func TestTopLevelNamesEachDifference(t *testing.T) {
	t.Parallel()
	if bad := TopLevel(topLevel); len(bad) != 0 {
		t.Errorf("TopLevel = %q, want nothing", bad)
	}
	names := append([]string{"utils"}, topLevel[1:]...)
	if bad := TopLevel(names); len(bad) != 2 || !strings.HasPrefix(bad[0], "utils: does not belong") || !strings.HasPrefix(bad[1], topLevel[0]+": is missing") {
		t.Errorf("TopLevel = %q, want utils and %s", bad, topLevel[0])
	}
}

// cleanTree has one package a floor and breaks nothing.
func cleanTree() fstest.MapFS {
	repo := make(fstest.MapFS)
	for _, p := range []string{"access", "crypto", "audit", "audit/audittest", "minimize", "session", "access/rbac", "storage", "examples/b"} {
		name := p[strings.LastIndex(p, "/")+1:]
		repo[p+"/doc.go"] = &fstest.MapFile{Data: []byte(spdx + "\n\npackage " + name + "\n")}
	}
	return repo
}

func goFile(pkg string, imports ...string) string {
	text := "package " + pkg + "\n"
	for _, imp := range imports {
		text += "\nimport _ \"" + imp + "\"\n"
	}
	return text
}
