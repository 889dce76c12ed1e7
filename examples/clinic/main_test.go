// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/part164/part164/audit/audittest"
)

// start opens the app in a folder of the test's own and serves it.
func start(t *testing.T, o options) (a *app, base string, stop func() error) {
	t.Helper()
	if o.data == "" {
		o.data = t.TempDir()
	}
	a, err := open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(a.handler())
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		srv.Close()
		return a.close()
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return a, srv.URL, stop
}

func TestSelfcheckHolds(t *testing.T) {
	t.Parallel()
	dir := fhirFolder(t)
	a, base, stop := start(t, options{})
	var out bytes.Buffer
	sum, err := a.importFolder(t.Context(), dir, &out)
	if err != nil || sum.patients != 3 || sum.failed != 0 || out.Len() > 0 {
		t.Fatalf("import = %v, %v\n%s", sum, err, &out)
	}
	if cs := selfcheck(base, a.options.data, dir, stop); !cs.ok() || len(cs) < 25 {
		t.Errorf("selfcheck:\n%s", cs)
	}
}

func TestSeedIsTheSameAndOnlyForAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for range 2 {
		a, base, stop := start(t, options{data: data})
		if err := a.seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		v := &visit{base: base}
		nurse, _, err := v.signIn("nurse")
		if err != nil {
			t.Fatal(err)
		}
		ans, err := nurse.post("/patients/search", url.Values{"mrn": {"mrn 131676"}})
		if err := ans.with(err, "Hana Abernathy", "1999-12-23"); err != nil {
			t.Error(err)
		}
		if n := len(chartPath.FindAllString(ans.body, -1)); n != 1 {
			t.Errorf("%d patients have the record number, want 1", n)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOfficerChoosesAmongPurposes(t *testing.T) {
	t.Parallel()
	a, base, _ := start(t, options{})
	if err := a.seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := &visit{base: base}
	officer, _, err := v.signIn("officer")
	if err != nil {
		t.Fatal(err)
	}
	found, err := officer.post("/patients/search", url.Values{"name": {"hana"}})
	if err != nil {
		t.Fatal(err)
	}
	page := chartPath.FindString(found.body) + "/audit"
	ans, err := officer.get(page)
	if err := ans.with(err, "Hana Abernathy", `<option value="HCOMPL" selected>`, `<option value="HOPERAT">`); err != nil {
		t.Fatal(err)
	}
	if ans, err = officer.post("/purpose", url.Values{"purpose": {"HOPERAT"}, "here": {page}}); err != nil || ans.location != page {
		t.Fatalf("POST /purpose leads to %q, %v", ans.location, err)
	}
	ans, err = officer.get(page)
	if err := ans.with(err, `<option value="HOPERAT" selected>`, "withheld"); err != nil {
		t.Error(err)
	}
	if err := ans.without("Abernathy"); err != nil {
		t.Error(err)
	}
	for _, here := range []string{"//elsewhere.example", "https://elsewhere.example/patients", "/patients.example"} {
		if ans, err := officer.post("/purpose", url.Values{"purpose": {"HOPERAT"}, "here": {here}}); err != nil || ans.status != http.StatusBadRequest {
			t.Errorf("POST /purpose with here=%s answers %d, %v", here, ans.status, err)
		}
	}
}

func TestWhatIsTypedIsChecked(t *testing.T) {
	t.Parallel()
	_, base, _ := start(t, options{})
	v := &visit{base: base}
	physician, _, err := v.signIn("physician")
	if err != nil {
		t.Fatal(err)
	}
	ok := url.Values{"Name": {"Ada Vance"}, "MRN": {"MRN-777"}, "BirthDate": {"1980-03"}}
	for _, tt := range []struct {
		name   string
		change url.Values
		status int
		text   string
	}{
		{"as it should be", nil, http.StatusSeeOther, ""},
		{"the same record number", nil, http.StatusUnprocessableEntity, "Another patient has this record number."},
		{"no name", url.Values{"Name": {" "}}, http.StatusUnprocessableEntity, "A patient needs a name."},
		{"no date", url.Values{"BirthDate": {"3/80"}}, http.StatusUnprocessableEntity, "YYYY-MM-DD"},
		{"a mask", url.Values{"SSN": {"***-**-1234"}}, http.StatusUnprocessableEntity, "looks like a mask"},
		{"no right", url.Values{"MRN": {"MRN-778"}, "Plan": {"HX-1"}}, http.StatusForbidden, "Your role may not change: Plan."},
		{"too long", url.Values{"Street": {strings.Repeat("x", 201)}}, http.StatusUnprocessableEntity, "Street is too long."},
		{"far too long", url.Values{"Street": {strings.Repeat("x", 100<<10)}}, http.StatusUnprocessableEntity, "cannot be read"},
	} {
		form := url.Values{}
		for _, vs := range []url.Values{ok, tt.change} {
			for k, v := range vs {
				form[k] = v
			}
		}
		ans, err := physician.post("/patients", form)
		if err != nil || ans.status != tt.status {
			t.Errorf("%s: answers %d, %v, want %d", tt.name, ans.status, err, tt.status)
		}
		if err := ans.with(nil, tt.text); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, q := range []url.Values{{}, {"name": {"a"}}} {
		if ans, err := physician.post("/patients/search", q); err != nil || ans.status != http.StatusUnprocessableEntity {
			t.Errorf("search for %v answers %d, %v", q, ans.status, err)
		}
	}
}

func TestDevelopmentStaysOnLoopback(t *testing.T) {
	t.Parallel()
	for _, o := range []options{
		{addr: "0.0.0.0:0"},
		{addr: ":8164"},
		{addr: "192.0.2.1:8164"},
		{addr: "clinic.example:8164"},
		{dsn: "host=db.example user=clinic password=hunter2 dbname=clinic"},
		{dsn: "postgres://clinic:hunter2@localhost,db.example/clinic"},
		{dsn: "postgres://clinic:hunter2@192.0.2.1/clinic"},
		{dsn: "port=what password=hunter2"},
	} {
		o.data = filepath.Join(t.TempDir(), "data")
		_, err := open(t.Context(), o)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("open(%+v) = %v", o, err)
		}
		if _, err := os.Stat(o.data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("open(%+v) made the folder", o)
		}
	}
}

func TestLocalhostIsBothLoopbackAddresses(t *testing.T) {
	t.Parallel()
	a, _, _ := start(t, options{})
	s, err := a.serve("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.stop() })
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if l, err := net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			t.Logf("left out: this machine has no %s", host)
			continue
		} else {
			_ = l.Close()
		}
		ans, err := newBrowser("http://" + net.JoinHostPort(host, u.Port())).get("/signin")
		if err := ans.want(err, http.StatusOK); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if ans.header.Get("Strict-Transport-Security") != "" {
			t.Error("development mode sets HSTS")
		}
	}
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+u.Port()+"/signin", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "elsewhere.example:" + u.Port() // a name that somebody points here
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host's name answers %d", resp.StatusCode)
	}
}

func TestImportReportsWhatFailsAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const secret = "Zyxwvutsrq"
	const id, mrn = "0b0a9e2e-5a3c-4b7e-9a51-3a3c5c0d1e2f", "c7d1f0de-1111-4222-8333-123456789abc"
	for name, text := range map[string]string{
		"a-condition.json": `{"resourceType":"Condition","id":"c.1","code":{"text":"Asthma"},"subject":{"reference":"Patient/p-1"}}`,
		"b-broken.json":    `{"resourceType":"Patient","id":"` + secret + `", "name": [` + secret,
		"c-typed.json":     `{"resourceType":"Patient","id":"p2","birthDate":{"` + secret + `":1}}`,
		"d-number.json":    `{"resourceType":"Patient","id":"p2","gender": 12345678}`,
		"e-nothing.json":   `{"name":"` + secret + `"}`,
		"f-orphan.json":    `{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/nobody"}}`,
		"g-group.json":     `{"resourceType":"Observation","id":"o2","subject":{"reference":"Group/1"}}`,
		"h-other.json":     `{"resourceType":"Claim","id":"x"}`,
		"i-twice.json":     `{"resourceType":"Bundle","entry":[{},{"resource":{"resourceType":"Patient","id":"p3"}},{"resource":{"resourceType":"Patient","id":"p3"}}]}`,
		"p-1.json":         `{"resourceType":"Patient","id":"p-1","name":[{"family":"` + secret + `"}]}`,
		"p1.json":          `{"resourceType":"Patient","id":"p1","name":[{"family":"Other"}]}`, // p-1 and p1 are two
		"q.json":           `{"resourceType":"Patient","id":"` + id + `","name":[{"text":"Kept Id"}]}`,
		"r.json": `{"resourceType":"Patient","id":"` + mrn + `","name":[{"text":"Hidden Id"}],
			"identifier":[{"type":{"coding":[{"code":"MR"}]},"value":"` + mrn + `"}]}`, // its ID is what people know it by
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, base, _ := start(t, options{})
	var out bytes.Buffer
	sum, err := a.importFolder(t.Context(), dir, &out)
	want := summary{files: 11, patients: 5, others: 1, leftOut: 1, failed: 7}
	if err != nil || sum != want {
		t.Errorf("import = %+v, %v, want %+v\n%s", sum, err, want, &out)
	}
	for _, name := range []string{"b-broken.json: not JSON", "c-typed.json: ", "d-number.json: ", "e-nothing.json: ", "f-orphan.json: ", "g-group.json: ", "i-twice.json: "} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("the report lacks %q", name)
		}
	}
	audittest.NoPHI(t, out.String(), secret, "12345678")
	if sum, err = a.importFolder(t.Context(), dir, io.Discard); err != nil || sum.patients+sum.others != 0 || sum.there != 6 {
		t.Errorf("again = %+v, %v", sum, err)
	}
	v := &visit{base: base}
	nurse, _, err := v.signIn("nurse")
	if err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string]bool{"Kept Id": true, "Hidden Id": false} {
		ans, err := nurse.post("/patients/search", url.Values{"name": {name}})
		path := chartPath.FindString(ans.body)
		if err != nil || path == "" || (path == "/patients/"+id) != kept || strings.Contains(path, mrn) {
			t.Errorf("%s is at %s, %v", name, path, err)
		}
	}
	if _, err := a.importFolder(t.Context(), t.TempDir(), io.Discard); err == nil {
		t.Error("an empty folder imports")
	}
}

// TestHL7ExamplesImport runs where the public examples are.
func TestHL7ExamplesImport(t *testing.T) {
	t.Parallel()
	dir := shared(t, "hl7-fhir-r4-examples")
	a, _, _ := start(t, options{})
	first, err := a.importFolder(t.Context(), dir, io.Discard)
	if err != nil || first.patients != 10 || first.others == 0 {
		t.Fatalf("import = %v, %v", first, err)
	}
	again, err := a.importFolder(t.Context(), dir, io.Discard)
	if err != nil || again.patients+again.others != 0 || again.there != first.patients+first.others || again.failed != first.failed {
		t.Errorf("again = %v, %v", again, err)
	}
}

func FuzzReadFile(f *testing.F) {
	for _, p := range testPeople {
		f.Add([]byte(p.bundle()))
	}
	f.Add([]byte(`{"resourceType":"DocumentReference","id":"d","subject":{"reference":"http://x/fhir/Patient/1/_history/2"},"content":[{"attachment":{"contentType":"text/plain","data":"aGk="}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		found, _, _, err := readFile(text)
		if err != nil && len(found) > 0 {
			t.Error("resources beside an error")
		}
		for _, r := range found {
			if r.kind != "Patient" && !strings.HasPrefix(r.subject, "Patient/") {
				t.Errorf("a %s about %q", r.kind, r.subject)
			}
		}
	})
}

// TestNoIdentifierIsInTheDataFolder is what the issue asks for, with a search
// of its own: on the Synthea patients where they are, else on invented ones.
func TestNoIdentifierIsInTheDataFolder(t *testing.T) {
	t.Parallel()
	dir, want := syntheaOr(t)
	needles := allNeedles(t, dir)
	data := t.TempDir()
	o, err := parse([]string{"-selfcheck", "-data", data, "-import", dir})
	if err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	if ok, err := run(t.Context(), o, &out, &progress); !ok || err != nil || progress.Len() > 0 {
		t.Errorf("run = %v, %v\n%s%s", ok, err, &progress, &out)
	}
	if !strings.Contains(out.String(), ": "+want+" patients,") || !strings.HasSuffix(out.String(), " checks, 0 FAILED\n") {
		t.Errorf("it says:\n%s", &out)
	}
	if leaks := searchFolder(t, data, needles); len(leaks) > 0 {
		t.Errorf("%d of %d needles found, the first: %v", len(leaks), len(needles), leaks)
	}
}

// TestTheSearchFindsALeak holds the search above to a build that leaks.
func TestTheSearchFindsALeak(t *testing.T) {
	t.Parallel()
	slow(t)
	dir := fhirFolder(t) // each needle of three patients; in the long run, of all that there are
	if thorough() {
		dir, _ = syntheaOr(t)
	}
	needles := allNeedles(t, dir)
	data := t.TempDir()
	out := command(t, build(t, "break_leak"), 1, "-selfcheck", "-data", data, "-import", dir)
	failsOnly(t, out, "leak")
	if leaks := searchFolder(t, data, needles); len(leaks) != len(needles) {
		for _, n := range needles {
			if !leaks[n] {
				t.Errorf("needle %d is not found", slices.Index(needles, n))
			}
		}
	}
}

// TestEachControlCanFail breaks one control after the other and wants its line
// of the self-check, and only that, to say so.
func TestEachControlCanFail(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("broken.go")
	if err != nil {
		t.Fatal(err)
	}
	_, constraint, _ := strings.Cut(string(text), "//go:build ")
	constraint, _, _ = strings.Cut(constraint, "\n")
	tags := strings.Split(constraint, " || ")
	if held, err := os.ReadFile("controls.go"); err != nil || !bytes.Contains(held, []byte("//go:build !("+constraint+")\n")) {
		t.Errorf("controls.go and broken.go are not built in turn: %v", err)
	}
	// Each line has its tag.
	source, err := os.ReadFile("selfcheck.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\n\ttry\("([a-z]+)"|\n\t\ttry\("([a-z]+)"`).FindAllStringSubmatch(string(source), -1) {
		if tag := "break_" + m[1] + m[2]; !slices.Contains(tags, tag) {
			t.Errorf("no build breaks what line %s checks", m[1]+m[2])
		}
	}
	if !thorough() {
		t.Log("the builds are left out, but the one of TestTheSearchFindsALeak: set PART164_TEST_CLINIC=1 or PART164_TEST_LONG=1")
		return
	}
	dir := fhirFolder(t)
	for _, tag := range tags {
		t.Run(tag, func(t *testing.T) {
			t.Parallel()
			out := command(t, build(t, tag), 1, "-selfcheck", "-data", t.TempDir(), "-import", dir)
			failsOnly(t, out, strings.TrimPrefix(tag, "break_"))
		})
	}
}

// slow leaves a test that builds or starts programs, or asks for thousands of
// pages, out of the inner loop.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long: left out with -short")
	}
}

func thorough() bool {
	return !testing.Short() && (os.Getenv("PART164_TEST_CLINIC") != "" || os.Getenv("PART164_TEST_LONG") != "")
}

// failsOnly wants one line to say FAILED.
func failsOnly(t *testing.T, out, id string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^(ok|FAILED) +([a-z]+) +.*$`).FindAllStringSubmatch(out, -1) {
		if (m[2] == id) != (m[1] == "FAILED") {
			t.Errorf("in the build that breaks %s: %s", id, m[0])
		}
	}
	if !strings.Contains(out, " checks, 1 FAILED\n") {
		t.Errorf("the build that breaks %s:\n%s", id, out)
	}
}

// TestCopiedFolderRuns copies the folder out, as a start-up does.
func TestCopiedFolderRuns(t *testing.T) {
	t.Parallel()
	slow(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Skip("this is a copy already")
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	const ours = "github.com/part164/part164"
	copied := strings.Replace(string(mod), "module "+ours, "module clinic.example", 1) +
		"\nrequire " + ours + " v0.0.0\n\nreplace " + ours + " => " + root + "\n"
	for name, text := range map[string]string{"go.mod": copied, "go.sum": string(sum)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := command(t, buildIn(t, dir, ""), 0, "-selfcheck", "-data", t.TempDir())
	if !strings.Contains(out, " checks, 0 FAILED\n") {
		t.Error(out)
	}
}

func TestProductionWiringCompilesAndSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	slow(t)
	if !thorough() {
		cmd := exec.Command("go", "vet", "-tags", "production", ".")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	program := build(t, "production")
	data := filepath.Join(t.TempDir(), "data")
	for _, tt := range []struct{ says, args string }{
		{"fill in productionKEK", ""},
		{"fill in productionKEK", "-addr 0.0.0.0:8164"},
		{"fill in productionKEK", "-dsn postgres://c:hunter2@db.example/c?sslmode=verify-full"},
		{"-selfcheck needs", "-selfcheck"},
	} {
		out := command(t, program, 1, append(strings.Fields(tt.args), "-data", data)...)
		if !strings.Contains(out, tt.says) || strings.Contains(out, "hunter2") {
			t.Errorf("%s: %s", tt.args, out)
		}
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Error("it has made a data folder")
	}
}

// TestOnPostgreSQL runs the self-check on a database of its own.
func TestOnPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := os.Getenv("PART164_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("no PostgreSQL: PART164_TEST_POSTGRES is empty")
	}
	dir := fhirFolder(t)
	a, base, stop := start(t, options{dsn: ownSchema(t, dsn)})
	for _, want := range []summary{{files: 3, patients: 3, others: 6, leftOut: 3}, {files: 3, there: 9, leftOut: 3}} {
		if sum, err := a.importFolder(t.Context(), dir, io.Discard); err != nil || sum != want {
			t.Fatalf("import = %+v, %v, want %+v", sum, err, want)
		}
	}
	if cs := selfcheck(base, a.options.data, dir, stop); !cs.ok() {
		t.Errorf("selfcheck:\n%s", cs)
	}
}

// ownSchema returns the DSN of a schema that is dropped at the end.
func ownSchema(t *testing.T, dsn string) string {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn))
	if err != nil {
		t.Fatal(err)
	}
	schema := "clinic_" + strings.ToLower(rand.Text())
	if err := db.Exec("CREATE SCHEMA " + schema).Error; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := db.Exec("DROP SCHEMA " + schema + " CASCADE").Error
		if c, cerr := db.DB(); cerr == nil {
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dsn + " search_path=" + schema
}

// TestSelfcheckUsesNothingOfTheApp: the visitor knows the app by HTTP and by
// its files only.
func TestSelfcheckUsesNothingOfTheApp(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	own, others := map[string]bool{}, map[string]bool{}
	var visitor *ast.File
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if path := imp.Path.Value; strings.Contains(path, "part164/internal") || strings.Contains(path, "/internal/") {
				t.Errorf("%s imports %s", name, path)
			}
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		names := others
		if name == "selfcheck.go" {
			visitor, names = f, own
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					names[d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names[n.Name] = true
						}
					}
				}
			}
		}
	}
	skip := map[*ast.Ident]bool{visitor.Name: true} // names of fields, methods and keys
	ast.Inspect(visitor, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			skip[n.Sel] = true
		case *ast.Field:
			for _, name := range n.Names {
				skip[name] = true
			}
		case *ast.KeyValueExpr:
			if k, ok := n.Key.(*ast.Ident); ok {
				skip[k] = true
			}
		case *ast.FuncDecl:
			if n.Recv != nil {
				skip[n.Name] = true
			}
		}
		return true
	})
	ast.Inspect(visitor, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Obj == nil && others[id.Name] && !own[id.Name] && !skip[id] {
			t.Errorf("%s: the visitor uses %s of the app", fset.Position(id.Pos()), id.Name)
		}
		return true
	})
}

// build builds the app with a tag, and returns the program.
func build(t *testing.T, tag string) string { return buildIn(t, ".", tag) }

func buildIn(t *testing.T, dir, tag string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "clinic.exe")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", tag, "-ldflags", "-s -w", "-o", program, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if dir != "." {
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod", "GOPROXY=off")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build -tags %q: %v\n%s", tag, err, out)
	}
	return program
}

// command runs the program, wants its exit code, and returns what it says.
func command(t *testing.T, program string, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d: %v\n%s", got, code, err, out)
	}
	return string(out)
}

// shared returns a folder of the public test data, where it is.
func shared(t *testing.T, name string) string {
	t.Helper()
	dirs := []string{filepath.Join(os.Getenv("SHARED"), "data", name)}
	for up := "../../.."; len(up) < 30; up += "/.." {
		dirs = append(dirs, filepath.Join(up, "shared", "data", name))
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	t.Skipf("no %s: set SHARED to the folder that has data/%[1]s", name)
	return ""
}

// syntheaOr returns the Synthea bundles and how many patients they have; where
// they are not, bundles that the test writes.
func syntheaOr(t *testing.T) (dir, patients string) {
	t.Helper()
	have := t.Run("synthea", func(t *testing.T) { dir = shared(t, "synthea-fhir-r4") })
	if have && dir != "" {
		return dir, "52"
	}
	return fhirFolder(t), "3"
}

// allNeedles are what must not be found, of all patients of a folder.
func allNeedles(t *testing.T, dir string) []string {
	t.Helper()
	days := map[string]bool{} // of stored events, as they are stored
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found, _, _, err := readFile(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found {
			v := reflect.ValueOf(r.model).Elem()
			for i := range v.NumField() {
				if at, ok := v.Field(i).Interface().(*time.Time); ok && at != nil {
					days[at.Format("2006-01-02")] = true
				}
			}
		}
	}
	sources, err := people(dir)
	if err != nil {
		t.Fatal(err)
	}
	var needles []string
	for _, s := range sources {
		needles = append(needles, s.needles(days)...)
	}
	slices.Sort(needles)
	needles = slices.Compact(needles)
	if len(needles) < 6*len(sources) {
		t.Fatalf("%d needles of %d patients: too few to mean anything", len(needles), len(sources))
	}
	return needles
}

// searchFolder returns which needles are in any file of a folder.
func searchFolder(t *testing.T, dir string, needles []string) map[string]bool {
	t.Helper()
	searcher := audittest.NewSearcher(needles...)
	leaks := map[string]bool{}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, l := range searcher.Search(data) {
			leaks[l.Needle] = true
		}
		files++
		return err
	})
	if err != nil || files < 4 {
		t.Fatalf("searched %d files: %v", files, err)
	}
	return leaks
}

// A testPerson is an invented patient with two encounters' worth of records.
type testPerson struct{ id, mrn, given, family, ssn, phone, line, born string }

var testPeople = []testPerson{
	{"6f9619ff-8b86-4d01-8b42-00c04fc964f1", "MRN-40117", "Marigold", "Thistlewood", "987-65-4320", "617-555-0181", "12 Quillfeather Row", "1931-05-06"},
	{"6f9619ff-8b86-4d01-8b42-00c04fc964f2", "MRN-40118", "Peregrine", "Ashdown-Vale", "987-65-4321", "617-555-0182", "7 Hollyhock Crescent", "1988-11-30"},
	{"6f9619ff-8b86-4d01-8b42-00c04fc964f3", "MRN-40119", "Jesús", "Ordóñez", "987-65-4322", "617-555-0183", "3 Wainwright Yard", "2014-02-28"},
}

func (p testPerson) bundle() string {
	return fmt.Sprintf(`{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:%[1]s","resource":{"resourceType":"Patient","id":"%[1]s","gender":"female","birthDate":"%[8]s",
 "identifier":[{"type":{"coding":[{"code":"MR"}]},"value":"%[2]s"},{"type":{"coding":[{"code":"SS"}]},"system":"http://hl7.org/fhir/sid/us-ssn","value":"%[5]s"}],
 "name":[{"use":"official","family":"%[4]s","given":["%[3]s"]}],"telecom":[{"system":"phone","value":"%[6]s"}],
 "address":[{"line":["%[7]s"],"city":"Easton","state":"Massachusetts","postalCode":"02334"}]}},
{"resource":{"resourceType":"Condition","id":"%[9]s0001","code":{"text":"Asthma"},"subject":{"reference":"urn:uuid:%[1]s"},"onsetDateTime":"2019-04-01T23:30:00-04:00"}},
{"resource":{"resourceType":"Observation","id":"%[9]s0002","code":{"text":"Weight"},"subject":{"reference":"urn:uuid:%[1]s"},"effectiveDateTime":"2019-04-01","valueQuantity":{"value":61.20000001,"unit":"kg"}}},
{"resource":{"resourceType":"Claim","id":"%[9]s0003"}}]}`,
		p.id, p.mrn, p.given, p.family, p.ssn, p.phone, p.line, p.born, p.id[:30]+p.id[34:])
}

// fhirFolder writes the bundles of the test's own patients.
func fhirFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i, p := range testPeople {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("bundle-%d.json", i)), []byte(p.bundle()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
